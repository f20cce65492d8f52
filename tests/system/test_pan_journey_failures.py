"""What ``pan_getcert`` says and leaves behind when CA, certmonger, hook or firewall do not play along."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from certhooks import probe
from certhooks.address import Address
from tests.lab.enrolled import NAME, sha256
from tests.lab.panos import Outcome
from tests.lab.site import script

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.lab.enrolled import EnrolledSite
    from tests.lab.panos import Firewall
    from tests.lab.site import Done

WHY = "GP_PORTAL: certificate is not valid for this device"
MANAGED_BY = (
    "Server at https://ipa.example.test/ipa/json denied our request, giving up: 2100 (Insufficient access: "
    f"Insufficient 'write' privilege to the 'userCertificate' attribute of entry 'krbprincipalname=HTTP/{NAME}"
    "@EXAMPLE.TEST,cn=services,cn=accounts,dc=example,dc=test'.)."
)


def lines(done: Done) -> list[str]:
    """Return what was written to standard error; a traceback fails."""
    assert "Traceback" not in done.err
    return done.err.splitlines()


def nothing_requested(site: EnrolledSite) -> bool:
    """Tell whether certmonger tracks nothing, the CA was not asked, and no file or folder was made."""
    tracked = site.lab.getcert("list").stdout
    return (
        "being tracked: 0." in tracked
        and not site.lab.ca.calls()
        and not site.certs.exists()
        and not site.keys.exists()
    )


def test_a_commit_that_the_firewall_refuses(enrolled: EnrolledSite) -> None:
    """Exit 13, the device's own lines, the command to type next; the old certificate is served, nothing is pending.

    certmonger says MONITORING all the same. The command, typed when it is mended, ends well.
    """
    fw = enrolled.firewall()
    portal = fw.add_portal("GP_PORTAL")
    before = probe.first(Address("localhost", portal.port)).fingerprint
    fw.commit_outcome = Outcome(fail=(WHY, "Commit failed"))
    done = enrolled.getcert("-c", NAME, "-p", "GP_PORTAL", fw)
    assert done.code == 13, done
    error, hint = lines(done)
    assert error.startswith(f"pan_getcert: error: localhost:{fw.port}: issued, but not installed: the commit failed")
    assert f"{WHY}; Commit failed" in error
    assert f"{NAME}: issued by IPA" in done.out
    assert "installed in" not in done.out
    request = enrolled.settled()
    assert (request.status, request.ca_error) == ("MONITORING", None)
    assert probe.first(Address("localhost", portal.port)).fingerprint == before
    assert not fw.pending_of("certhooks")
    assert enrolled.attempts()[-1].outcome == "undone"
    fw.commit_outcome = Outcome()
    words = shlex.split(hint.partition("then type: ")[2])
    again = enrolled.process(words[0], *words[1:], env={})
    assert again.code == 0, again
    assert probe.first(Address("localhost", portal.port)).fingerprint == sha256(enrolled.issued())


def test_a_ca_that_refuses(enrolled: EnrolledSite) -> None:
    """Exit 11 with FreeIPA's words and the command that gives the host the right; afterwards the same call works."""
    fw = enrolled.firewall()
    enrolled.lab.ca.answer_next("reject", text=MANAGED_BY)
    done = enrolled.getcert("-c", NAME, "-p", "GP_PORTAL", fw)
    assert done.code == 11, done
    error, hint = lines(done)
    assert "2100 (Insufficient access" in error
    assert f"ipa service-add-host HTTP/{NAME} --hosts=$(hostname -f)" in hint
    assert fw.count("import") == 0
    assert not enrolled.attempts()
    again = enrolled.getcert("-c", NAME, "-p", "GP_PORTAL", fw)
    assert again.code == 0, again
    assert fw.profile_certificate("GP_PORTAL") == NAME


def test_a_renewal_that_the_ca_refuses(enrolled: EnrolledSite) -> None:
    """Where there is a certificate already certmonger hides the refusal behind MONITORING: still exit 11 and why."""
    fw = enrolled.firewall()
    assert enrolled.getcert("-c", NAME, "-p", "GP_PORTAL", fw).code == 0
    first = enrolled.settled()
    enrolled.lab.ca.answer_next("reject", text=MANAGED_BY)
    done = enrolled.getcert("-c", NAME, "-p", "GP_PORTAL", fw)
    assert done.code == 11, done
    assert "renewal refused" in lines(done)[0]
    assert "2100 (Insufficient access" in lines(done)[0]
    assert (enrolled.settled().serial, len(enrolled.attempts())) == (first.serial, 1)


def test_a_hook_that_cannot_start(enrolled: EnrolledSite) -> None:
    """Where certmonger neither notices nor tells, pan_getcert does: exit 11 and the command to look at."""
    fw = enrolled.firewall()
    folder = enrolled.folder / "bin"
    folder.mkdir()
    shutil.copy(script("pan_getcert"), folder)
    broken = folder / "pan_instcert"
    broken.write_text("#!/nonexistent/python3\n")
    broken.chmod(0o755)
    done = enrolled.process(str(folder / "pan_getcert"), *enrolled.getcert_argv("-c", NAME, fw), env=enrolled.env())
    assert done.code == 11, done
    error, hint = lines(done)
    assert "its post-save command did not start" in error
    assert f"{broken} -c {NAME}" in hint
    assert enrolled.settled().monitoring


def test_a_hook_that_is_killed_in_mid_commit(enrolled: EnrolledSite) -> None:
    """Killed without a chance to clean up: pan_getcert says that it was cut off, and the next run ends it well."""
    fw = enrolled.firewall()
    fw.next_commits.append(Outcome(seconds=30))
    with in_mid_commit(enrolled, fw) as run:
        for hook in hooks(enrolled):
            os.kill(hook, signal.SIGKILL)
        _, err = run.communicate(timeout=20)
    assert run.returncode == 11, err
    assert "post-save command was cut off" in err
    assert enrolled.attempts()[-1].outcome == "running"
    for job in fw.jobs.values():
        job.seconds = 0  # the device ends its commit whether or not somebody watches
    again = enrolled.getcert("-c", NAME, "-p", "GP_PORTAL", fw)
    assert again.code == 0, again
    held = fw.certificate(NAME, running=True)
    assert held is not None
    assert sha256(held) == sha256(enrolled.issued())


def test_interrupted_while_certmonger_works(enrolled: EnrolledSite) -> None:
    """Ctrl-C ends pan_getcert alone, which says so: certmonger goes on, and the certificate is installed."""
    fw = enrolled.firewall()
    fw.next_commits.append(Outcome(seconds=1))
    with in_mid_commit(enrolled, fw) as run:
        run.send_signal(signal.SIGINT)
        _, err = run.communicate(timeout=20)
    assert run.returncode == 130, err
    assert f"certmonger goes on by itself, and so does the install: getcert list -f {enrolled.cert_file()}" in err
    assert "Traceback" not in err
    enrolled.settled()
    assert fw.profile_certificate("GP_PORTAL") == NAME
    assert enrolled.attempts()[-1].outcome == "done"


@contextmanager
def in_mid_commit(site: EnrolledSite, fw: Firewall) -> Iterator[subprocess.Popen[str]]:
    """Run pan_getcert up to the firewall's commit; it is gone at the end."""
    argv = [script("pan_getcert"), *site.getcert_argv("-c", NAME, "-p", "GP_PORTAL", fw)]
    with subprocess.Popen(argv, env=site.env(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as run:
        try:
            site.lab.wait_for(lambda: any(job.kind == "Commit" for job in fw.jobs.values()))
            yield run
        finally:
            run.kill()


def hooks(site: EnrolledSite) -> list[int]:
    """Return the process ids of this site's running pan_instcert, told from others' by its state folder."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            argv = (folder / "cmdline").read_bytes().decode(errors="replace").split("\0")
        except OSError:
            continue  # it has ended meanwhile
        if str(site.state) in argv and any(word.endswith("/pan_instcert") for word in argv[:3]):
            found.append(int(folder.name))
    assert found, "no hook is running"
    return found


@pytest.mark.parametrize(
    ("address", "told"),
    [("unix:path=/nonexistent/bus", "no system bus"), ("nonsense", "cannot use the system bus")],
)
def test_without_a_bus(enrolled: EnrolledSite, address: str, told: str) -> None:
    """Exit 11 with what to start, and the firewall was not even asked; getcert would start a certmonger of its own."""
    fw = enrolled.firewall()
    done = enrolled.getcert("-c", NAME, fw, env=enrolled.env(DBUS_SYSTEM_BUS_ADDRESS=address))
    assert done.code == 11, done
    error, hint = lines(done)
    assert told in error
    assert hint.startswith("pan_getcert: hint: ")
    assert fw.count() == 0
    assert nothing_requested(enrolled)


def test_without_certmonger(enrolled: EnrolledSite) -> None:
    """A bus without certmonger: exit 11 and how to start it."""
    fw = enrolled.firewall()
    enrolled.lab.stop_daemon()
    done = enrolled.getcert("-c", NAME, fw)
    assert done.code == 11, done
    error, hint = lines(done)
    assert "certmonger is not running" in error
    assert "systemctl start certmonger" in hint


def test_a_firewall_that_cannot_be_reached(enrolled: EnrolledSite) -> None:
    """Exit 4 before anything is requested."""
    fw = enrolled.firewall()
    where = f"localhost:{fw.port}"
    fw.stop()
    done = enrolled.getcert("-c", NAME, "-p", "GP_PORTAL", where)
    assert done.code == 4, done
    assert where in lines(done)[0]
    assert nothing_requested(enrolled)


def test_a_firewall_that_is_not_trusted(enrolled: EnrolledSite) -> None:
    """Exit 4, and how to trust it, before anything is requested and before the API key is sent."""
    fw = enrolled.firewall()
    enrolled.trusted.write_bytes(enrolled.ca.pem)
    done = enrolled.getcert("-c", NAME, "-p", "GP_PORTAL", fw)
    assert done.code == 4, done
    assert "is not trusted" in lines(done)[0]
    assert "--cafile" in lines(done)[1]
    assert fw.count() == 0
    assert nothing_requested(enrolled)


def test_a_key_that_the_firewall_does_not_accept(enrolled: EnrolledSite) -> None:
    """Exit 5 before anything is requested; the key itself is not shown."""
    fw = enrolled.firewall()
    enrolled.panrc.write_text("api_key=Zm9yZ290dGVuS2V5\n")
    done = enrolled.getcert("-vv", "-c", NAME, "-p", "GP_PORTAL", fw)
    assert done.code == 5, done
    assert "Zm9yZ290dGVuS2V5" not in done.err + done.out + enrolled.log.read_text()
    assert nothing_requested(enrolled)


def test_a_profile_that_is_not_there(enrolled: EnrolledSite) -> None:
    """Exit 2 with the profiles that there are, before anything is requested."""
    fw = enrolled.firewall()
    done = enrolled.getcert("-c", NAME, "-p", "GP_PROTAL", fw)
    assert done.code == 2, done
    assert "GP_GATEWAY, GP_PORTAL" in lines(done)[1]
    assert nothing_requested(enrolled)
