"""The vCenter hook where it lives: real paths, names and port 443, the system bus, certmonger's own surroundings."""

from __future__ import annotations

import base64
import re
import shutil
import subprocess
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from cryptography import x509

from certhooks import probe
from certhooks.address import Address
from certhooks.certmonger import Certmonger
from certhooks.deadline import Deadline
from certhooks.journal import Journal
from tests.lab.ca import CA
from tests.lab.certmonger import SystemBusCertmonger
from tests.lab.enrolled import pair_for, sha256
from tests.lab.machine import machine_of_its_own
from tests.lab.site import script
from tests.lab.vsphere import Phase, VCenter, vecs

if TYPE_CHECKING:
    from collections.abc import Iterator

    from certhooks.request import Request
    from tests.lab.certmonger import CertmongerLab

VC = "vcenter.domain.local"
USER, PASSWORD = "administrator@vsphere.local", "VMware1!:ä"
pytestmark = machine_of_its_own(f"127.0.0.12 {VC}", f"127.0.0.13 {VC}")
STORED = f"/usr/local/bin/vmw_instcert -c {VC} {VC}"
CERT, KEY = Path(f"/etc/ssl/certs/{VC}.crt"), Path(f"/etc/ssl/private/{VC}.key")
PLAIN = f"username={USER}\npassword={PASSWORD}\n"
BASE64 = f"key={base64.b64encode(f'{USER}:{PASSWORD}'.encode()).decode()}\n"
RESTART = [
    Phase("quiet", 0.2, old=True),
    Phase("reset", 0.2, hits=1),
    Phase("refuse", 0.3),
    Phase("text503", 0.1, hits=1),
    Phase("envoy503", 0.1, hits=1),
    Phase("json503", 0.1, hits=1),
]


@contextmanager
def enrolled_host(credentials: str = PLAIN) -> Iterator[tuple[CertmongerLab, VCenter]]:
    """Provide what stands on a host on which the bash scripts were used, and its vCenter, which has two addresses.

    FreeIPA's CA, in ``/etc/ipa/ca.crt``, has signed what vCenter serves; where ``vmw_instcert`` was, a link leads to
    ``vcenter_instcert``.
    """
    shutil.rmtree("/var/lib/certhooks", ignore_errors=True)  # of the test before: the file shares one machine
    for leftover in (CERT, KEY, *Path("/var/log").glob("vcenter_*.log")):
        leftover.unlink(missing_ok=True)
    for command in ("certhooks", "vcenter_getcert", "vcenter_instcert"):
        shutil.copy(script(command), "/usr/local/bin")
    link = Path("/usr/local/bin/vmw_instcert")
    link.unlink(missing_ok=True)
    link.symlink_to("vcenter_instcert")
    with SystemBusCertmonger() as lab:
        vc = VCenter(VC, address="127.0.0.12", port=443)
        vc.also_listen("127.0.0.13")
        chain, key = pair_for(lab, VC, "rsa")
        vc.machine = vecs.Entry(vecs.read(chain.decode()), key)
        vc.add_user(USER, PASSWORD)
        vc.switches.after, vc.switches.put = list(RESTART), "reset"
        with vc:
            folder = Path("/etc/ipa")
            folder.mkdir(exist_ok=True)
            # As FreeIPA under another CA writes it: root and intermediate. vCenter serves the leaf alone.
            between = [vecs.pem(each).decode() for each in vc.machine.certificates[1:]]
            (folder / "ca.crt").write_text(lab.roots + "".join(between))
            (folder / "default.conf").write_text("[global]\nrealm = DOMAIN.LOCAL\n")
            (folder / ".vmwrc").touch(mode=0o600)
            (folder / ".vmwrc").write_text(credentials)
            yield lab, vc


def settled() -> Request:
    """Return the one request when nothing is under way any more."""
    with Certmonger.open() as certmonger:
        [request] = certmonger.requests()
        return certmonger.wait(request, Deadline(60), lambda _: None, monitoring=True)


def served() -> set[str]:
    """Return what both addresses of the name serve."""
    answers = probe.every(Address(VC, 443))
    assert len(answers) == 2
    return {answer.fingerprint for answer in answers}


def saved() -> str:
    """Return the fingerprint of what certmonger has saved."""
    return sha256(x509.load_pem_x509_certificate(CERT.read_bytes()))


@pytest.mark.parametrize("credentials", [PLAIN, BASE64], ids=["user and password", "key"])
def test_a_command_stored_for_the_bash_script_goes_on_working(credentials: str) -> None:
    """Unchanged, through a whole restart: issued, installed, renewed and installed again, by certmonger alone.

    Its replacement's connection is reset each time, and both addresses serve the new certificate in the end.
    """
    with enrolled_host(credentials) as (lab, vc):
        [old] = served()
        lab.getcert(
            *("request", "-c", "IPA", "-f", str(CERT), "-k", str(KEY), "-N", f"CN={VC}", "-D", VC),
            *("-K", f"HTTP/{VC}@DOMAIN.LOCAL", "-G", "RSA", "-g", "2048", "-C", STORED, "-w"),
        )
        settled()
        log = Path("/var/log/vcenter_instcert.log")
        assert served() == {saved()} != {old}, log.read_text()
        first = saved()
        lab.getcert("resubmit", "-f", str(CERT), "-w")
        assert settled().post_save == STORED
        assert served() == {saved()} != {first}, log.read_text()
        assert vc.changes.count("tls") == 2
        assert vc.sessions.open == {}
        assert vc.sessions.failed == 0
        [record] = Journal().records()
        assert [attempt.outcome for attempt in record.attempts] == ["done", "done"]
        repeated = record.repeated()
        assert repeated
        assert repeated.command[1:] == STORED.split()[1:]
        assert len(re.findall(rf"info: {re.escape(VC)}: installed, served by {re.escape(VC)}", log.read_text())) == 2
        for kept in (log, *Path("/var/lib/certhooks").glob("*.json")):
            assert PASSWORD not in kept.read_text()
            assert BASE64.strip()[4:] not in kept.read_text()
        assert log.stat().st_mode & 0o777 == 0o600


def test_every_address_that_answered_before_is_waited_for() -> None:
    """One of two addresses comes back seconds later than the other: done means that both serve the new certificate."""
    with enrolled_host() as (lab, vc):
        vc.switches.after, vc.switches.put = [], "answered"
        replace = vc.replace

        def late(entry: vecs.Entry) -> None:
            replace(entry)
            vc.listeners[1].refuse(2.5)

        vc.replace = late  # type: ignore[method-assign]
        chain, key = pair_for(lab, VC, "rsa")
        CERT.write_bytes(chain)
        KEY.touch(mode=0o600)
        KEY.write_bytes(key)
        command = ["/usr/local/bin/vcenter_instcert", "-b", "-c", VC]
        done = subprocess.run(command, env={}, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done
        assert served() == {saved()}


def getcert(*words: str) -> Any:
    """Run the installed vcenter_getcert with an empty environment."""
    command = ["/usr/local/bin/vcenter_getcert", *words]
    return subprocess.run(command, env={}, cwd="/", capture_output=True, text=True, timeout=100, check=False)


def test_vcenter_getcert_with_its_defaults() -> None:
    """Requests, waits, tells; stores the short command; -i puts both addresses of the name into the certificate."""
    with enrolled_host() as (lab, vc):
        done = getcert("-c", VC, "-i", "-I", "192.0.2.7")
        assert done.returncode == 0, (done, *[log.read_text() for log in Path("/var/log").glob("vcenter_*.log")])
        assert re.search(rf"^{re.escape(VC)}: installed in \d", done.stdout, re.MULTILINE)
        request = settled()
        assert request.post_save == f"/usr/local/bin/vcenter_instcert -c {VC} {VC}"
        assert request.principals == (f"HTTP/{VC}@DOMAIN.LOCAL",)
        assert lab.ca.calls()[0]["CERTMONGER_REQ_IP_ADDRESS"].split() == ["192.0.2.7", "127.0.0.12", "127.0.0.13"]
        assert served() == {saved()}
        assert vc.changes.count("tls") == 1
        again = getcert("-c", VC, "--dry-run")
        assert again.returncode == 0, again
        assert "would resubmit request" in again.stdout
        assert vc.changes.count("tls") == 1


def test_an_intermediate_is_known_the_second_time() -> None:
    """VCenter serves the leaf alone, and this host's file has the root alone: certmonger knows what lies between.

    For the first time the factory's CA is given; the same command afterwards needs nothing. Nor does a pin, once given.
    """
    with enrolled_host() as (lab, vc):
        Path("/etc/ipa/ca.crt").write_text(lab.ca.root)
        factory = CA("VMCA")
        issued = factory.issue([VC], key_type="rsa")
        vc.machine = vecs.Entry((issued.certificate,), issued.key_pem)
        Path("/etc/ipa/factory.pem").write_bytes(factory.pem)
        refused = getcert("-c", VC, "--timeout", "60")
        assert (refused.returncode, "is not trusted" in refused.stderr) == (4, True), refused
        pin = f"sha256:{served().pop()}"
        done = getcert("-c", VC, "--cafile", "/etc/ipa/factory.pem", "--timeout", "60")
        assert done.returncode == 0, (done, *[log.read_text() for log in Path("/var/log").glob("vcenter_*.log")])
        for more in ([], ["--pin", pin]):
            again = getcert("-c", VC, "--timeout", "60", *more)
            assert again.returncode == 0, again
            assert served() == {saved()}


@pytest.mark.parametrize(
    ("words", "code", "text"),
    [
        (["-c", VC, "-G", "EC"], 6, "RSA keys alone"),
        (["-c", "*.domain.local", VC], 2, "no wildcard"),
        (["-c", "other.domain.local", VC], 2, "would lack the vCenter's own name"),
        (["-c", VC, "-I", "256.1.1.1"], 2, "not an IPv4 address"),
        (["-c", VC, "-a", "/nowhere"], 5, "there is no"),
        ([], 1, "-c is missing"),
    ],
)
def test_what_vcenter_getcert_refuses(words: list[str], code: int, text: str) -> None:
    """Before certmonger is asked for anything."""
    with enrolled_host() as (lab, vc):
        done = getcert(*words)
        assert (done.returncode, text in done.stderr) == (code, True), done
        assert "Traceback" not in done.stderr
        assert lab.ca.calls() == []
        assert vc.changes == []


def test_a_wrong_password_costs_one_login_and_no_certificate() -> None:
    """vcenter_getcert logs in once before it asks for a certificate, and asks for none then."""
    with enrolled_host(PLAIN.replace(PASSWORD, "wrong")) as (lab, vc):
        done = getcert("-c", VC)
        assert done.returncode == 5, done
        assert vc.sessions.failed == 1
        assert lab.ca.calls() == []


def test_a_vcenter_restored_from_an_old_backup_is_found_and_repaired() -> None:
    """The bash script's stored command is understood: what vCenter serves is seen to differ, and reconcile runs it."""
    with enrolled_host() as (lab, vc):
        vc.switches.after, vc.switches.put = [], "answered"
        before = vc.machine
        lab.getcert(
            *("request", "-c", "IPA", "-f", str(CERT), "-k", str(KEY), "-N", f"CN={VC}", "-D", VC),
            *("-K", f"HTTP/{VC}@DOMAIN.LOCAL", "-G", "RSA", "-g", "2048", "-C", STORED, "-w"),
        )
        settled()
        assert served() == {saved()}
        assert certhooks("status").returncode == 0
        vc.machine = before
        critical = certhooks("status")
        assert critical.returncode == 2, critical
        assert f"{VC} serves another certificate" in critical.stdout
        repaired = certhooks("reconcile")
        assert repaired.returncode == 0, repaired
        assert f"{VC}: repaired" in repaired.stdout
        assert served() == {saved()}
        assert certhooks("status").returncode == 0


def certhooks(*words: str) -> Any:
    """Run the installed certhooks with an empty environment."""
    command = ["/usr/local/bin/certhooks", *words]
    return subprocess.run(command, env={}, cwd="/", capture_output=True, text=True, timeout=100, check=False)
