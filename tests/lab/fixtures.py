"""pytest's side of the certmonger lab: the fixtures, apart from it because the demo has no pytest."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

import pytest

from tests.lab.certmonger import PATH, CertmongerLab, SystemBusCertmonger

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def certmonger_lab(monkeypatch: pytest.MonkeyPatch) -> Iterator[CertmongerLab]:
    """Run certmonger on a private bus, which this process finds too (DBUS_SYSTEM_BUS_ADDRESS)."""
    _need(root=False)
    with CertmongerLab() as lab:
        monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", lab.address)
        yield lab


@pytest.fixture
def system_bus_certmonger(monkeypatch: pytest.MonkeyPatch) -> Iterator[CertmongerLab]:
    """Run certmonger on the machine's system bus; skips without root, but never in CI."""
    _need(root=True)
    monkeypatch.delenv("DBUS_SYSTEM_BUS_ADDRESS", raising=False)
    with SystemBusCertmonger() as lab:
        yield lab


def _need(*, root: bool) -> None:
    """Skip where something is missing, except in CI, where it must be there."""
    lacks = [name for name in ("certmonger", "getcert", "dbus-daemon", "setpriv") if not shutil.which(name, path=PATH)]
    lacks += ["root"] if root and os.getuid() else []
    if lacks and not os.environ.get("CI"):
        pytest.skip(f"not here: {', '.join(lacks)}")
