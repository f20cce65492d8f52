"""Pushes to hosts that are killed at every step, and what they show of secrets."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

import pytest

from tests.lab import killed, traced
from tests.lab.machine import machine_of_its_own
from tests.lab.vsphere.estate import HOSTS, NAMES, PASSWORD, USER, VC
from tests.lab.vsphere.site import secrets_of

if TYPE_CHECKING:
    from pathlib import Path

    from tests.lab.vsphere.estate import Estate

pytestmark = [
    machine_of_its_own(*HOSTS),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
MODULE = "certhooks_vcenter.esxi_instcert"
POINTS = [
    ("step", 1),
    ("after:soap Login", 1),
    ("after:POST /api/vcenter", 1),
    ("after:soap CertMgrRefreshCACertificatesAndCRLs_Task", 1),
    ("step", 2),
    ("before:soap InstallServerCertificate", 1),
    ("after:soap InstallServerCertificate", 1),
    ("step", 3),
]
WITH_KEY = [
    ("after:soap ProvisionServerPrivateKey", 1),
    ("before:soap NotifyAffectedServices", 1),
    ("after:soap NotifyAffectedServices", 1),
]
WITH_REQUEST = [
    ("before:soap GenerateCertificateSigningRequest", 1),
    ("after:soap GenerateCertificateSigningRequest", 1),
]


@pytest.mark.parametrize(
    ("version", "point", "nth"),
    [("8.0.3", *each) for each in [*POINTS, *WITH_KEY]] + [("8.0.2", *each) for each in [*POINTS, *WITH_REQUEST]],
)
def test_a_killed_run_is_gone_on_with(estate: Estate, version: str, point: str, nth: int) -> None:
    """Wherever kill -9 hits it, the same command ends well: served, connected, the root once, no session more left."""
    [host] = estate.esxi(version=version)
    words = [*(estate.pair(NAMES[0]) if version == "8.0.3" else estate.csr()), "--vcenter", VC, NAMES[0]]
    assert killed.run(point, nth, estate.common(*words), module=MODULE) == -9
    left = len(estate.vc.sessions.open)
    done = estate.push(*words)
    assert done.code == 0, done
    assert estate.signed(host)
    assert host.host.served == host.host.stored
    assert host.host.connection_state() == "connected"
    assert estate.vc.changes == ["root"]
    assert len(estate.vc.sessions.open) <= left
    again = estate.push(*words)
    assert "nothing to do" in again.out, again
    [journal] = (estate.folder / "state").glob("esxi*.json")
    outcomes = [attempt["outcome"] for attempt in json.loads(journal.read_text())["attempts"]]
    assert outcomes[-1] == "unchanged"


@pytest.mark.parametrize("through", ["vcenter", "host"])
@pytest.mark.parametrize("version", ["8.0.2", "8.0.3"])
def test_a_push_to_a_host_shows_no_secret(estate: Estate, tmp_path: Path, version: str, through: str) -> None:
    """Every system call of esxi_instcert -vv, its signer's too; then output and every file, but for key and rc file.

    Sessions' ids are no part of what is left either.
    """
    [host] = estate.esxi(version=version)
    pair = estate.pair(NAMES[0])
    words = [*(pair if version == "8.0.3" else estate.csr()), *["--vcenter", VC] * (through == "vcenter"), NAMES[0]]
    opened: list[str] = []
    for device in (estate.vc, host):
        login = device.sessions.login
        device.sessions.login = (  # type: ignore[method-assign]
            lambda name, password, login=login: opened.append(login(name, password)) or opened[-1]  # type: ignore[misc, func-returns-value]
        )
    quick = "import sys; from certhooks_vcenter import esxi, esxi_instcert; esxi._STAYS = 0.3; esxi_instcert.entry()"
    done, calls = traced.run([sys.executable, "-c", quick, "-vv", *estate.common(*words)], tmp_path)
    assert done.returncode == 0, done
    assert estate.signed(host)
    assert opened
    secrets = {**secrets_of(estate.new, USER, PASSWORD), **{f"session {n}": each for n, each in enumerate(opened)}}
    if version == "8.0.2":
        key = host.host.served.key_pem.decode().splitlines()[8:-1]
        secrets.update({f"line {number} of the host's key": line for number, line in enumerate(key)})
    assert NAMES[0] in calls
    assert "installing the certificate" in calls, "the trace shows what is written"
    kept = [estate.vmwrc, estate.folder / f"{NAMES[0]}.key"]
    assert traced.leaks(secrets, tmp_path, kept) == {}
    assert traced.shown(secrets, done.stdout + done.stderr) == []
