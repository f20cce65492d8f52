"""The hook where it lives: real paths, port 443, the system bus, and the surroundings that certmonger gives it."""

from __future__ import annotations

import json
import re
import shutil
import socket
import ssl
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from cryptography import x509

from certhooks import probe
from certhooks.certmonger import Certmonger
from certhooks.deadline import Deadline
from certhooks.journal import Journal
from tests.lab.certmonger import SystemBusCertmonger
from tests.lab.enrolled import pair_for, sha256
from tests.lab.machine import machine_of_its_own
from tests.lab.panos import Firewall
from tests.lab.site import script

if TYPE_CHECKING:
    from collections.abc import Iterator

    from certhooks.request import Request
    from tests.lab.certmonger import CertmongerLab

FW = "fw01.domain.local"
HOSTS = f"127.0.0.1 {FW}"
STORED = f"/usr/local/bin/pan_instcert -c {FW} -n {FW} -Y -p MGMT_UI_PROFILE {FW}"
CERT, KEY = Path(f"/etc/ssl/certs/{FW}.crt"), Path(f"/etc/ssl/private/{FW}.key")
REAL = Path("/usr/local/bin/pan_instcert")


@contextmanager
def enrolled_host() -> Iterator[tuple[CertmongerLab, Firewall]]:
    """Provide what stands on a host on which the bash scripts were used for years, and its firewall on port 443.

    FreeIPA's CA, in ``/etc/ipa/ca.crt``, has signed what the management interface serves.
    """
    for command in ("pan_getcert", "pan_instcert"):
        shutil.copy(script(command), "/usr/local/bin")
    with SystemBusCertmonger() as lab:
        chain, key = pair_for(lab, FW)
        with Firewall(FW, port=443, tls=(chain, key)) as fw:
            fw.commit_seconds = 0.3
            fw.add_certificate(f"{FW}_2019", (chain, key))
            fw.add_profile("MGMT_UI_PROFILE", certificate=f"{FW}_2019")
            fw.use_for_management("MGMT_UI_PROFILE")
            folder = Path("/etc/ipa")
            folder.mkdir(exist_ok=True)
            (folder / "ca.crt").write_text(lab.roots)
            (folder / "default.conf").write_text("[global]\nrealm = DOMAIN.LOCAL\n")
            (folder / ".panrc").touch(mode=0o600)
            (folder / ".panrc").write_text(f"api_key={fw.add_admin('certhooks').key}\n")
            yield lab, fw


def ask_for_it(lab: CertmongerLab, post_save: str) -> Request:
    """Add the request as the bash script did, and return it when nothing is under way any more."""
    lab.getcert(
        *("request", "-c", "IPA", "-f", str(CERT), "-k", str(KEY), "-N", f"CN={FW}", "-D", FW),
        *("-K", f"HTTP/{FW}@DOMAIN.LOCAL", "-G", "RSA", "-g", "2048", "-C", post_save, "-w"),
    )
    return settled()


def settled() -> Request:
    """Return the one request when nothing is under way any more."""
    with Certmonger.open() as certmonger:
        [request] = certmonger.requests()
        return certmonger.wait(request, Deadline(30), lambda _: None, monitoring=True)


def served() -> str:
    """Return what the management interface serves to somebody who trusts FreeIPA's CA alone, and verifies."""
    context = ssl.create_default_context(cafile="/etc/ipa/ca.crt")
    with socket.create_connection((FW, 443), 10) as plain, context.wrap_socket(plain, server_hostname=FW) as tls:
        der = tls.getpeercert(binary_form=True)
    assert der
    return probe.fingerprint(der)


def saved() -> str:
    """Return the fingerprint of what certmonger has saved."""
    return sha256(x509.load_pem_x509_certificate(CERT.read_bytes()))


@machine_of_its_own(HOSTS)
def test_a_command_stored_for_the_bash_script_goes_on_working() -> None:
    """Unchanged, on the system bus, on port 443: the firewall's own management certificate, first and renewed.

    Its web server restarts in mid-commit, and FreeIPA's CA is all that is trusted, before and after.
    """
    with enrolled_host() as (lab, fw):
        old = served()
        ask_for_it(lab, STORED)
        assert served() == saved() != old, Path("/var/log/pan_instcert.log").read_text()
        assert fw.restarts == 1
        first = saved()
        lab.getcert("resubmit", "-f", str(CERT), "-w")
        assert settled().post_save == STORED
        assert served() == saved() != first
        assert fw.restarts == 2
        year = x509.load_pem_x509_certificate(CERT.read_bytes()).not_valid_before_utc.year
        assert fw.profile_certificate("MGMT_UI_PROFILE") == f"{FW}_{year}"
        [record] = Journal().records()
        assert [attempt.outcome for attempt in record.attempts] == ["done", "done"]
        repeated = record.repeated()
        assert repeated
        assert repeated.command[1:] == STORED.split()[1:]
        log = Path("/var/log/pan_instcert.log").read_text()
        assert len(re.findall(rf"info: {re.escape(FW)}: installed, served by {re.escape(FW)}", log)) == 2


@machine_of_its_own(HOSTS)
def test_pan_getcert_with_its_defaults_stores_the_short_command() -> None:
    """Realm, folders, key file, trust, bus, journal and log are found without an option, and none is stored."""
    with enrolled_host() as (lab, fw):
        done = subprocess.run(
            ["/usr/local/bin/pan_getcert", "-c", FW, "-Y", "-p", "MGMT_UI_PROFILE", FW],
            env={},
            cwd="/",
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done
        assert re.search(rf"^{re.escape(FW)}: installed in \d", done.stdout, re.MULTILINE)
        request = settled()
        assert request.post_save == f"/usr/local/bin/pan_instcert -c {FW} -p MGMT_UI_PROFILE -Y {FW}"
        assert request.principals == (f"HTTP/{FW}@DOMAIN.LOCAL",)
        assert (request.cert_file, request.key_file) == (str(CERT), str(KEY))
        assert lab.ca.calls()[0]["CERTMONGER_REQ_PRINCIPAL"] == f"HTTP/{FW}@DOMAIN.LOCAL"
        assert served() == saved()
        assert fw.restarts == 1


# Notes what certmonger gave it and what it gives on: nothing, with descriptors 0 to 2 still closed.
WRAPPER = """#!{python} -I
import os, sys
def there(fd):
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True
found = dict(fds=[fd for fd in range(64) if there(fd)], environ=dict(os.environ), cwd=os.getcwd(), argv=sys.argv[1:])
import json
mask = os.umask(0o077)
with open({report!r}, "w") as file:
    json.dump(dict(found, umask=mask), file)
assert not any(map(there, (0, 1, 2)))
os.execve({real!r}, [{real!r}, *sys.argv[1:]], {{}})
"""


@machine_of_its_own(HOSTS)
def test_in_the_surroundings_that_certmonger_gives() -> None:
    """Descriptors 0 to 2 closed, PATH without /usr/local, cwd /, umask 077; and on top of it an empty environment."""
    with enrolled_host() as (lab, _):
        report, real = "/run/surroundings.json", str(REAL.with_name("pan_instcert.real"))
        REAL.rename(real)
        REAL.write_text(WRAPPER.format(python=sys.executable, report=report, real=real))
        REAL.chmod(0o755)
        ask_for_it(lab, STORED)
        found = json.loads(Path(report).read_text())
        assert not {0, 1, 2} & set(found["fds"])
        assert found["environ"]["PATH"] == "/usr/bin:/bin:/usr/sbin:/sbin"
        assert not [name for name in found["environ"] if name.startswith(("DBUS", "PYTHON", "XDG", "USER"))]
        assert (found["cwd"], found["umask"]) == ("/", 0o077)
        assert found["argv"] == STORED.split()[1:]
        assert served() == saved()
        [record] = Journal().records()
        assert [attempt.outcome for attempt in record.attempts] == ["done"]
        assert Path("/var/log/pan_instcert.log").stat().st_mode & 0o777 == 0o600
