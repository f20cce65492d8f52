"""The daemons and hosts that the system tests run against."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from certhooks import deploy
from certhooks import target as core
from certhooks_vcenter import esxi, hosts, settle
from tests.lab import pushes, trial
from tests.lab.dns_fixtures import call, run, scene
from tests.lab.enrolled import EnrolledSite
from tests.lab.fixtures import certmonger_lab, system_bus_certmonger
from tests.lab.site import Site
from tests.lab.vsphere.estate import Estate
from tests.lab.vsphere.site import VSphereSite

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.lab.certmonger import CertmongerLab
    from tests.lab.panos import Firewall

__all__ = ["call", "certmonger_lab", "enrolled", "run", "scene", "system_bus_certmonger"]


@pytest.fixture
def enrolled(tmp_path: Path, certmonger_lab: CertmongerLab) -> Iterator[EnrolledSite]:
    """Provide a host whose certmonger is real and whose bus is private."""
    with EnrolledSite(tmp_path, certmonger_lab) as site:
        yield site


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """Make the administrator's side, which trusts what its own CA issues for devices too."""
    with Site(tmp_path) as made:
        made.trusted.write_bytes(made.ca.pem)
        yield made


@pytest.fixture
def fw(site: Site) -> Firewall:
    """Start a firewall whose profiles use a certificate ``old``."""
    return site.firewall()


@pytest.fixture
def vsite(tmp_path: Path) -> Iterator[VSphereSite]:
    """Make the administrator's side of vCenters."""
    with VSphereSite(tmp_path) as made:
        yield made


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look often after a replacement: an emulator is quick."""
    shorter = {"_FIRST": 0.02, "_LONGEST": 0.1, "AFTER_REFUSAL": 0.3, "_NOTHING_HAPPENS": 1.0, "_LASTS": 2.0}
    for name, seconds in shorter.items():
        monkeypatch.setattr(settle, name, seconds)
    monkeypatch.setattr(deploy, "_PAUSES", (0.02, 0.05, 0.1))


@pytest.fixture
def brisk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Poll often and give up soon: an emulator is quick."""
    pushes.brisk(monkeypatch)


@pytest.fixture
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait for hundredths of a second where the product waits for seconds."""
    trial.hurry(monkeypatch)


@pytest.fixture
def estate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Estate]:
    """Provide a vCenter without hosts; waits are short, an emulator is quick."""
    monkeypatch.setattr(esxi, "_CONNECTED", 2.0)
    monkeypatch.setattr(esxi, "_STAYS", 0.5)
    monkeypatch.setattr(hosts, "_PUSHED", 2.0)
    monkeypatch.setattr(core, "_SERVED_WITHIN", 2.0)
    monkeypatch.setattr(settle, "_FIRST", 0.02)
    monkeypatch.setattr(deploy, "_PAUSES", (0.02, 0.05, 0.1))
    with ExitStack() as stack:
        yield Estate(tmp_path, stack)
