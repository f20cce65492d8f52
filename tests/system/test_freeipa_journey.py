"""Nothing faked but the firewall: FreeIPA, its Kerberos, certmonger and its ipa-submit, the hook, what is served."""

from __future__ import annotations

import datetime as dt
import re
import shlex
import shutil
import socket
import ssl
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest
from cryptography import x509

from certhooks import probe
from certhooks.certmonger import Certmonger
from certhooks.deadline import Deadline
from certhooks.journal import Journal
from tests.lab.ca import CA
from tests.lab.enrolled import sha256
from tests.lab.freeipa import names
from tests.lab.freeipa.client import KEYTAB
from tests.lab.freeipa.fixtures import enrolled_host, enrolled_machine, freeipa
from tests.lab.freeipa.system import LabError
from tests.lab.panos import Firewall, Outcome, custom_role

if TYPE_CHECKING:
    from collections.abc import Iterator

    from certhooks.request import Request
    from tests.lab.freeipa.client import EnrolledHost
    from tests.lab.freeipa.server import FreeIPA
    from tests.lab.site import Done

__all__ = ["enrolled_host", "freeipa"]
FIREWALL, FIREWALL_IP = "fw01.ipa.test", "10.77.0.30"
PORTAL_IP = "10.77.0.40"
pytestmark = enrolled_machine(f"{FIREWALL_IP} {FIREWALL}")


class Portal(NamedTuple):
    """A name whose certificate is wanted, at PORTAL_IP; FreeIPA knows nothing of it yet."""

    name: str

    @property
    def principal(self) -> str:
        """Its service in FreeIPA."""
        return f"HTTP/{self.name}"

    @property
    def cert_file(self) -> Path:
        """Where certmonger keeps its certificate."""
        return Path(f"/etc/ssl/certs/{self.name}.crt")

    def served(self) -> str:
        """Return the fingerprint of what it serves to somebody who trusts FreeIPA's CA alone, and verifies."""
        context = ssl.create_default_context(cafile="/etc/ipa/ca.crt")
        with (
            socket.create_connection((PORTAL_IP, 443), 10) as plain,
            context.wrap_socket(plain, server_hostname=self.name) as tls,
        ):
            der = tls.getpeercert(binary_form=True)
        assert der
        return probe.fingerprint(der)

    def issued(self) -> x509.Certificate:
        """Return the certificate that certmonger has saved."""
        return x509.load_pem_x509_certificate(self.cert_file.read_bytes())


@pytest.fixture
def portal(request: pytest.FixtureRequest) -> Portal:
    """Name a portal after the test, so that no test finds what another has left in FreeIPA."""
    return Portal(f"{re.sub(r'[^a-z0-9]+', '-', request.node.name.lower())[:50].strip('-')}.{names.DOMAIN}")


@pytest.fixture
def firewall(enrolled_host: EnrolledHost, portal: Portal) -> Iterator[Firewall]:
    """Run a firewall whose portal serves a certificate of another CA, and whose administrator's key this host has."""
    assert Path("/etc/ipa").is_dir(), enrolled_host
    device_ca = CA("Device CA")
    with Firewall(FIREWALL, address=FIREWALL_IP, port=443, ca=device_ca, commit_seconds=0.1) as device:
        device.add_certificate("old", CA("another CA").issue([portal.name]))
        device.add_profile("GP", certificate="old")
        device.add_portal("GP", address=PORTAL_IP, port=443)
        key = device.add_admin("certhooks", role=custom_role("config", "op", "commit", "import")).key
        panrc = Path("/etc/ipa/.panrc")
        panrc.touch(mode=0o600)
        panrc.write_text(f"api_key={key}\n")
        Path("/etc/ipa/devices.pem").write_bytes(device.ca_pem)
        yield device


@pytest.fixture
def journey(freeipa: FreeIPA, enrolled_host: EnrolledHost, firewall: Firewall, portal: Portal) -> Iterator[Journey]:
    """Set out with everything in place but the portal's entries in FreeIPA; what is left here is gone afterwards."""
    yield Journey(freeipa, enrolled_host, firewall, portal)
    for path in (portal.cert_file, Path(f"/etc/ssl/private/{portal.name}.key")):
        path.unlink(missing_ok=True)
    shutil.rmtree("/var/lib/certhooks", ignore_errors=True)
    Path("/var/log/pan_instcert.log").unlink(missing_ok=True)


@dataclass
class Journey:
    """The way of a portal's certificate, with those that it passes."""

    freeipa: FreeIPA
    host: EnrolledHost
    firewall: Firewall
    portal: Portal

    def getcert(self, *more: str) -> Done:
        """Run ``pan_getcert`` as an administrator types it, with more words before the firewall's name."""
        words = ("-c", self.portal.name, "-p", "GP", "--cafile", "/etc/ipa/devices.pem", "--timeout", "60", *more)
        return self.host.command("pan_getcert", *words, FIREWALL)

    def refused(self, *more: str) -> tuple[str, str]:
        """Run it, expecting certmonger's refusal (exit code 11); return what it says and its hint."""
        done = self.getcert(*more)
        assert done.code == 11, done
        assert "Traceback" not in done.err
        error, hint = done.err.splitlines()
        assert error.startswith("pan_getcert: error: "), done
        assert hint.startswith("pan_getcert: hint: "), done
        return error, hint

    def arrives(self, *more: str) -> None:
        """Run it, expecting that the portal then serves what certmonger has saved."""
        done = self.getcert(*more)
        assert done.code == 0, done
        assert self.portal.served() == sha256(self.portal.issued())

    def settled(self) -> Request:
        """Return certmonger's request once nothing is under way any more."""
        with Certmonger.open() as certmonger:
            found = certmonger.by_common_name(self.portal.name)
            assert found is not None
            return certmonger.wait(found, Deadline(30), lambda _: None, monitoring=True)

    def do_as_admin(self, hint: str, *, there_already: str = "") -> None:
        """Type the ``ipa`` commands of a hint as FreeIPA's administrator, elsewhere: the host's name is filled in.

        One that makes what is ``there_already`` is refused, as an administrator sees then, and the others go on.
        """
        text = hint.replace("$(hostname -f)", names.CLIENT.host)
        commands = re.findall(r"ipa [a-z]+-[a-z-]+(?: (?:'[^']*'|[^;:,\s]+))*", text)
        assert commands, f"no command to type in: {hint}"
        for command in commands:
            words = shlex.split(command)[1:]
            if words[0] == there_already:
                with pytest.raises(LabError, match="already exists"):
                    self.freeipa.ipa(*words)
            else:
                self.freeipa.ipa(*words)


def outcomes() -> list[str]:
    """Return how the attempts of the one target in the journal ended, oldest first."""
    [record] = Journal(Path("/var/lib/certhooks")).records()
    return [attempt.outcome for attempt in record.attempts]


def test_first_certificate_and_renewal(journey: Journey) -> None:
    """One command, and the portal serves a certificate of FreeIPA's CA that verifies; a renewal installs itself.

    FreeIPA has the certificate in the service's entry: its own checks and its own access control let it through.
    """
    journey.freeipa.add_service(journey.portal.principal)
    journey.arrives()
    first = journey.portal.served()
    assert first == sha256(journey.portal.issued())
    assert journey.portal.issued().subject.rfc4514_string() == f"CN={journey.portal.name},O={names.REALM}"
    entry = journey.freeipa.api("service_show", journey.portal.principal)["result"]
    assert str(entry["serial_number"]) == str(journey.portal.issued().serial_number)
    journey.host.certmonger.getcert("resubmit", "-f", str(journey.portal.cert_file), "-w", "--wait-timeout", "30")
    journey.settled()
    assert journey.portal.served() == sha256(journey.portal.issued()) != first
    assert outcomes() == ["done", "done"]


def test_certmonger_renews_by_itself(journey: Journey) -> None:
    """A certificate with five days left is renewed without anybody asking, and the portal serves the new one."""
    journey.freeipa.add_service(journey.portal.principal)
    journey.freeipa.lifetime(days=5)
    try:
        journey.arrives()
    finally:
        journey.freeipa.lifetime(days=731)
    first = journey.settled().serial
    journey.host.certmonger.wait_for(lambda: journey.settled().serial != first, 40)
    assert journey.portal.served() == sha256(journey.portal.issued())
    assert (journey.portal.issued().not_valid_after_utc - journey.portal.issued().not_valid_before_utc).days > 700


def test_the_firewall_refuses_the_renewal(journey: Journey) -> None:
    """A renewal whose commit fails leaves the old certificate served, and the journal tells it."""
    journey.freeipa.add_service(journey.portal.principal)
    journey.arrives()
    before = journey.portal.served()
    journey.firewall.commit_outcome = Outcome(fail=("made-up refusal",))
    done = journey.getcert()
    assert done.code == 13, done
    assert journey.portal.served() == before
    assert outcomes() == ["done", "undone"]


@pytest.mark.parametrize("key", ["RSA", "EC"])
def test_both_kinds_of_key(journey: Journey, key: str) -> None:
    """FreeIPA signs and the portal serves RSA and EC keys alike."""
    journey.freeipa.add_service(journey.portal.principal)
    journey.arrives("-G", key)


def test_a_further_name_that_is_managed(journey: Journey) -> None:
    """A name in the SAN whose service this host manages too is in the certificate."""
    second = f"also-{journey.portal.name}"
    for name in (journey.portal.name, second):
        journey.freeipa.add_service(f"HTTP/{name}")
    journey.arrives("--dns", second)
    sans = journey.portal.issued().extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert set(sans.get_values_for_type(x509.DNSName)) == {journey.portal.name, second}


# What FreeIPA refuses. Where a hint has ipa commands they are typed as they stand, and then the same command works.


def test_a_service_that_this_host_does_not_manage(journey: Journey) -> None:
    """2100: the hint's command gives this host the right, and the firewall was not touched before."""
    journey.freeipa.add_service(journey.portal.principal, managed_by=None)
    error, hint = journey.refused()
    assert "2100 (Insufficient access" in error
    assert journey.firewall.count("import") == 0
    journey.do_as_admin(hint)
    journey.arrives()


def test_a_service_that_does_not_exist(journey: Journey) -> None:
    """The hint's commands make host and service and let this host manage it."""
    error, hint = journey.refused()
    assert journey.portal.name in error
    journey.do_as_admin(hint)
    journey.arrives()


def test_a_host_without_the_service(journey: Journey) -> None:
    """The host is there, the service is not: the hint leads to the service, whatever of it is there already."""
    journey.freeipa.api("host_add", journey.portal.name, force=True)
    error, hint = journey.refused()
    assert journey.portal.name in error
    journey.do_as_admin(hint, there_already="host-add")
    journey.arrives()


def test_a_further_name_that_is_not_managed(journey: Journey) -> None:
    """A SAN whose service another manages: the hint names that service and not the certificate's."""
    second = f"also-{journey.portal.name}"
    journey.freeipa.add_service(journey.portal.principal)
    journey.freeipa.add_service(f"HTTP/{second}", managed_by=None)
    error, hint = journey.refused("--dns", second)
    assert second in error
    assert f"HTTP/{second}" in hint
    journey.do_as_admin(hint)
    journey.arrives("--dns", second)


def test_a_further_name_without_a_service(journey: Journey) -> None:
    """A SAN without a service: certmonger would try in vain for days, pan_getcert says what to add."""
    second = f"also-{journey.portal.name}"
    journey.freeipa.add_service(journey.portal.principal)
    error, hint = journey.refused("--dns", second)
    assert second in error
    journey.do_as_admin(hint.partition("; or ")[0])
    journey.arrives("--dns", second)


def test_a_further_name_as_an_alias(journey: Journey) -> None:
    """The hint's other way, an alias of the service, works as well."""
    second = f"also-{journey.portal.name}"
    journey.freeipa.add_service(journey.portal.principal)
    _, hint = journey.refused("--dns", second)
    journey.do_as_admin(hint.partition("; or ")[2])
    journey.arrives("--dns", second)


def test_a_profile_that_no_ca_acl_allows(journey: Journey) -> None:
    """A certificate profile that exists, and that no CA ACL allows to services: the hint adds it to FreeIPA's own."""
    journey.freeipa.add_service(journey.portal.principal)
    error, hint = journey.refused("-T", "IECUserRoles")
    assert "IECUserRoles" in error
    journey.do_as_admin(hint.partition("(")[0])
    journey.arrives("-T", "IECUserRoles")


def test_a_ca_that_refuses(journey: Journey) -> None:
    """4301: the fault is told to be the CA's, not this host's; when the CA signs again, the same command works."""
    journey.freeipa.add_service(journey.portal.principal)
    with journey.freeipa.refusing("the key is too small for this profile"):
        error, hint = journey.refused()
    assert "the key is too small for this profile" in error
    assert "the fault is on the CA's side" in hint
    journey.arrives()


@pytest.mark.parametrize(
    ("daemon", "said"),
    [("directory", "on the IPA server see: ipactl status"), ("kdc", "no KDC answers"), ("web", "ipactl status")],
)
def test_a_server_that_is_down(journey: Journey, daemon: str, said: str) -> None:
    """Directory, KDC or web server down: exit code 11 and where to look; the same command works when it is up."""
    journey.freeipa.add_service(journey.portal.principal)
    with journey.freeipa.without(daemon):
        error, hint = journey.refused()
        assert said in hint, f"{error}\n{hint}"
    journey.arrives()


def test_a_keytab_that_is_not_valid_any_more(journey: Journey) -> None:
    """Somebody has made new keys for the host: the hint names the keytab and how to look at it and renew it."""
    journey.freeipa.add_service(journey.portal.principal)
    fresh = Path("/run/fresh.keytab")
    journey.freeipa.write_keytab(f"host/{names.CLIENT.host}", fresh)
    error, hint = journey.refused()
    assert "keytab" in hint, f"{error}\n{hint}"
    KEYTAB.write_bytes(fresh.read_bytes())
    journey.freeipa.path("/var/lib/lab/client.keytab").write_bytes(fresh.read_bytes())  # for the tests that follow
    journey.arrives()


def test_clocks_that_differ(journey: Journey) -> None:
    """A KDC that is ten minutes ahead of the web server: the hint tells of clocks; then the same command works."""
    journey.freeipa.add_service(journey.portal.principal)
    with journey.freeipa.clock("+10m", "kdc"):
        error, hint = journey.refused()
        assert "clock" in hint, f"{error}\n{hint}"
    journey.arrives()


def test_a_server_that_is_ahead_a_little(journey: Journey) -> None:
    """All of the server is ten minutes ahead of this host: Kerberos goes by the KDC's time, and all goes well."""
    journey.freeipa.add_service(journey.portal.principal)
    with journey.freeipa.clock("+10m"):
        journey.arrives()
    ahead = journey.portal.issued().not_valid_before_utc - dt.datetime.now(dt.timezone.utc) + dt.timedelta(hours=1)
    assert dt.timedelta(minutes=9) < ahead < dt.timedelta(minutes=11)


def test_a_server_that_is_far_ahead(journey: Journey) -> None:
    """All of the server is three hours ahead: its certificate is not valid yet, and the firewall does not get it."""
    journey.freeipa.add_service(journey.portal.principal)
    with journey.freeipa.clock("+3h"):
        done = journey.getcert()
    assert done.code == 10, done
    assert "not valid before" in done.err, done
    assert journey.firewall.count("import") == 0


def test_no_keytab_at_all(journey: Journey) -> None:
    """Without the host's keytab: exit code 11, and the hint names it."""
    with without(KEYTAB):
        error, hint = journey.refused()
    assert "keytab" in hint, f"{error}\n{hint}"


@contextmanager
def without(path: Path) -> Iterator[None]:
    """Move a file out of the way meanwhile."""
    aside = path.with_suffix(".aside")
    path.rename(aside)
    try:
        yield
    finally:
        aside.rename(path)


def test_nothing_secret_is_left(journey: Journey) -> None:
    """Neither the API key nor the private key is in a log, the journal, certmonger's files or the stored command."""
    journey.freeipa.add_service(journey.portal.principal)
    journey.arrives("-v")
    key = Path(f"/etc/ssl/private/{journey.portal.name}.key").read_text().splitlines()[12]  # of the private exponent
    api_key = Path("/etc/ipa/.panrc").read_text().partition("=")[2].strip()
    folders = (Path("/var/log"), Path("/var/lib/certhooks"), Path("/var/lib/certmonger"))
    looked_at = [path for folder in folders for path in folder.rglob("*") if path.is_file()]
    assert len(looked_at) > 3
    for path in looked_at:
        text = path.read_bytes()
        assert api_key.encode() not in text, path
        assert key.encode() not in text, path
    assert api_key not in (journey.settled().post_save or "")
