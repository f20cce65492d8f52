"""Nothing faked but the host: its request, signed by FreeIPA through the helper of certmonger's CA."""

from __future__ import annotations

import shutil
import socket
import ssl
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from certhooks.certmonger import Certmonger
from tests.lab.ca import CA
from tests.lab.freeipa import names
from tests.lab.freeipa.fixtures import enrolled_host, enrolled_machine, freeipa
from tests.lab.vsphere import Esxi

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.lab.freeipa.client import EnrolledHost
    from tests.lab.freeipa.server import FreeIPA

__all__ = ["enrolled_host", "freeipa"]
HOST, HOST_IP = f"esx01.{names.DOMAIN}", "10.77.0.31"
pytestmark = enrolled_machine(f"{HOST_IP} {HOST}")


@pytest.fixture
def esxi(enrolled_host: EnrolledHost) -> Iterator[Esxi]:
    """Run a host of 8.0U2 that serves a certificate of its own CA, and whose user this machine has."""
    assert enrolled_host
    ca, folder = CA("Factory CA"), Path("/etc/ipa")
    with Esxi(HOST, address=HOST_IP, port=443, version="8.0.2", ca=ca) as host:
        host.sessions.add("root", "s3cret")
        (folder / "esxi.pem").write_bytes(ca.pem)
        (folder / ".vmwrc").touch(mode=0o600)
        (folder / ".vmwrc").write_text("username=root\npassword=s3cret\n")
        yield host
    shutil.rmtree("/var/lib/certhooks", ignore_errors=True)


def test_freeipa_signs_the_request_of_a_host(freeipa: FreeIPA, enrolled_host: EnrolledHost, esxi: Esxi) -> None:
    """Refused with advice until the service is there; then signed, served, and verified by FreeIPA's CA alone.

    certmonger tracks nothing for it, and the same command has nothing to do afterwards.
    """
    words = ("--csr", "--cafile", "/etc/ipa/esxi.pem", "--timeout", "60", HOST)
    before = esxi.host.served.leaf
    done = enrolled_host.command("esxi_instcert", *words)
    assert done.code == 11, done
    assert "the CA IPA did not sign" in done.err
    assert f"ipa service-add HTTP/{HOST}" in done.err
    assert esxi.host.served.leaf == before
    freeipa.add_service(f"HTTP/{HOST}")
    done = enrolled_host.command("esxi_instcert", *words)
    assert done.code == 0, done
    leaf = esxi.host.served.leaf
    assert leaf.subject.rfc4514_string() == f"CN={HOST},O={names.REALM}"
    entry = freeipa.api("service_show", f"HTTP/{HOST}")["result"]
    assert str(entry["serial_number"]) == str(leaf.serial_number)
    context = ssl.create_default_context(cafile="/etc/ipa/ca.crt")
    with socket.create_connection((HOST_IP, 443), 10) as plain, context.wrap_socket(plain, server_hostname=HOST):
        pass
    again = enrolled_host.command("esxi_instcert", *words)
    assert "nothing to do" in again.out, again
    assert esxi.host.served.leaf == leaf
    with Certmonger.open() as certmonger:
        assert certmonger.requests() == []
