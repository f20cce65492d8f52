"""pytest's side of the certmonger lab: the fixtures, apart from it because the demo has no pytest."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

import pytest

from tests.lab.certmonger import CertmongerLab, SystemBusCertmonger
from tests.lab.daemons import PATH

if TYPE_CHECKING:
    from collections.abc import Iterator

_CERTMONGER = ("certmonger", "getcert", "dbus-daemon", "setpriv")


@pytest.fixture
def certmonger_lab(monkeypatch: pytest.MonkeyPatch) -> Iterator[CertmongerLab]:
    """Run certmonger on a private bus, which this process finds too (DBUS_SYSTEM_BUS_ADDRESS)."""
    need(*_CERTMONGER)
    with CertmongerLab() as lab:
        monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", lab.address)
        yield lab


@pytest.fixture
def system_bus_certmonger(monkeypatch: pytest.MonkeyPatch) -> Iterator[CertmongerLab]:
    """Run certmonger on the machine's system bus; skips without root, but never in CI."""
    need(*_CERTMONGER, root=True)
    monkeypatch.delenv("DBUS_SYSTEM_BUS_ADDRESS", raising=False)
    with SystemBusCertmonger() as lab:
        yield lab


def need(*programs: str, root: bool = False) -> None:
    """Skip where a program (a name, or a path) or root is missing, except in CI, where it must be there."""
    lacks = [name for name in programs if not shutil.which(name, path=PATH)]
    lacks += ["root"] if root and os.getuid() else []
    if lacks and not os.environ.get("CI"):
        pytest.skip(f"not here: {', '.join(lacks)}")
