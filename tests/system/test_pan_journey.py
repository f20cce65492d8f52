"""From ``pan_getcert`` to a certificate that a firewall serves, and on through its renewals, under the real certmonger."""

from __future__ import annotations

import re
import shlex
from typing import TYPE_CHECKING

from certhooks import probe
from certhooks.address import Address
from certhooks.postsave import split
from tests.lab.enrolled import NAME
from tests.lab.panos import Outcome
from tests.lab.site import script

if TYPE_CHECKING:
    from cryptography import x509

    from tests.lab.enrolled import EnrolledSite
    from tests.lab.panos import Portal


def served_by(portal: Portal) -> str:
    """Return the fingerprint that a client of the portal sees."""
    return probe.first(Address("localhost", portal.port)).fingerprint


def sha256(certificate: x509.Certificate) -> str:
    """Return a fingerprint as the library writes it."""
    from cryptography.hazmat.primitives import hashes

    return certificate.fingerprint(hashes.SHA256()).hex()


def test_one_command_requests_installs_and_serves(enrolled: EnrolledSite) -> None:
    """pan_getcert: issued, installed by the command that certmonger starts, bound twice, served; it says how long."""
    fw = enrolled.firewall()
    portal, gateway = fw.add_portal("GP_PORTAL"), fw.add_portal("GP_GATEWAY", gateway=True)
    probes = [word for each in (portal, gateway) for word in ("--probe", f"localhost:{each.port}")]
    done = enrolled.getcert("-c", NAME, "-Y", "-p", "GP_PORTAL", "-s", "GP_GATEWAY", "-G", "RSA", *probes, fw)
    assert done.code == 0, done
    new = enrolled.issued()
    assert served_by(portal) == served_by(gateway) == sha256(new)
    assert fw.profile_certificate("GP_PORTAL") == f"{NAME}_{new.not_valid_before_utc:%Y}"
    assert re.fullmatch(
        rf"{re.escape(NAME)}: issued by IPA in \d+\.\d s, valid until 20\d\d-\d\d-\d\d\n"
        rf"localhost:{fw.port}: installed in \d+\.\d s\n",
        done.out,
    ), done.out
    assert done.err == ""
