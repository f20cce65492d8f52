"""The library against the real certmonger, with a CA helper that answers as each test says."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from certhooks.certmonger import Certmonger, Request, quote, split
from certhooks.deadline import Deadline
from certhooks.errors import CertmongerError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.lab.certmonger import CertmongerLab

NAME = "fw01.example.com"
PRINCIPAL = f"HTTP/{NAME}@EXAMPLE.COM"
REPO = Path(__file__).parents[2]

# Adds a line to the file that it is given, with the words that follow.
NOTE = "import json, sys\nwith open(sys.argv[1], 'a') as f:\n    f.write(json.dumps(sys.argv[2:]) + '\\n')\n"


@pytest.fixture
def certmonger(certmonger_lab: CertmongerLab) -> Iterator[Certmonger]:
    """Open the library's connection to the lab's certmonger."""
    assert certmonger_lab.address == os.environ["DBUS_SYSTEM_BUS_ADDRESS"]
    with Certmonger.open() as opened:
        yield opened


def add(certmonger: Certmonger, lab: CertmongerLab, *, post_save: str | None = None) -> Request:
    """Request a certificate for NAME through the library."""
    return certmonger.add_request(
        cert_file=str(lab.cert_file(NAME)),
        key_file=str(lab.key_file(NAME)),
        common_name=NAME,
        dns_names=[NAME, "fw.example.com"],
        principal=PRINCIPAL,
        post_save=post_save,
        profile="caIPAserviceCert",
        key_type="EC",
        key_bits=256,
    )


def finish(certmonger: Certmonger, request: Request, told: list[str] | None = None) -> Request:
    """Wait until nothing is under way any more."""
    tell = (told if told is not None else []).append
    return certmonger.wait(request, Deadline(30), tell, monitoring=True)


def test_a_request_is_issued_and_seen_with_its_chain(certmonger: Certmonger, certmonger_lab: CertmongerLab) -> None:
    """From add_request to MONITORING; leaf, chain, roots and names come over D-Bus as the CA gave them."""
    lab = certmonger_lab
    told: list[str] = []
    found = finish(certmonger, add(certmonger, lab), told)
    found.check()
    assert told[-1] == "done"
    assert found.cert == lab.cert_file(NAME).read_text().replace("\r", "")
    assert (found.chain, found.roots) == ((lab.ca.intermediate,), (lab.roots,))
    assert (found.common_name, found.hostnames) == (NAME, (NAME, "fw.example.com"))
    assert (found.principals, found.ca, found.profile) == ((PRINCIPAL,), "IPA", "caIPAserviceCert")
    assert (found.cert_file, found.key_file) == (str(lab.cert_file(NAME)), str(lab.key_file(NAME)))
    [asked] = lab.ca.calls()
    assert asked["CERTMONGER_REQ_PRINCIPAL"] == PRINCIPAL
    assert asked["CERTMONGER_CA_PROFILE"] == "caIPAserviceCert"


def test_a_request_is_found_by_nickname_file_and_name(certmonger: Certmonger, certmonger_lab: CertmongerLab) -> None:
    """A hook finds its request by what it knows: also through a symbolic link, and None where there is none."""
    lab = certmonger_lab
    lab.request(NAME)
    link = lab.folder / "link.crt"
    link.symlink_to(lab.cert_file(NAME))
    for found in (certmonger.by_nickname(NAME), certmonger.by_cert_file(str(link)), certmonger.by_common_name(NAME)):
        assert found is not None
        assert found.nickname == NAME
    assert certmonger.by_nickname("nobody") is None
    assert certmonger.by_cert_file("/nonexistent/file") is None
    assert certmonger.by_common_name("nobody.example.com") is None
    assert [one.nickname for one in certmonger.requests()] == [NAME]


@pytest.mark.parametrize(
    ("answer", "status"),
    [("reject", "CA_REJECTED"), ("unreachable", "CA_UNREACHABLE"), ("unconfigured", "CA_UNCONFIGURED")],
)
def test_a_first_request_that_fails_says_why(
    certmonger: Certmonger, certmonger_lab: CertmongerLab, answer: str, status: str
) -> None:
    """Refusal, absence and misconfiguration end the wait at once, with the CA's words and advice."""
    certmonger_lab.ca.answer(answer, text=f"4001 (The host '{NAME}' does not exist to add a service to.)")
    found = finish(certmonger, add(certmonger, certmonger_lab))
    assert (found.status, found.failed, found.cert) == (status, True, None)
    assert found.common_name == NAME
    with pytest.raises(CertmongerError, match=rf"{status}: 4001 \(The host") as caught:
        found.check()
    assert f"ipa service-add HTTP/{NAME} --force" in (caught.value.hint or "")


def test_nonsense_from_the_ca_helper_is_trouble(certmonger: Certmonger, certmonger_lab: CertmongerLab) -> None:
    """A helper that answers garbage leaves NEED_GUIDANCE without a ca-error: the error has advice all the same."""
    certmonger_lab.ca.answer("garbage", text="not a certificate")
    found = finish(certmonger, add(certmonger, certmonger_lab))
    assert (found.status, found.ca_error) == ("NEED_GUIDANCE", None)
    assert found.advice()


def test_a_refused_renewal_is_told_apart_from_success(certmonger: Certmonger, certmonger_lab: CertmongerLab) -> None:
    """After a refused renewal certmonger says MONITORING and getcert exits 0: the library calls it refused.

    The next renewal that works clears it.
    """
    lab = certmonger_lab
    lab.request(NAME)
    before = certmonger.by_nickname(NAME)
    assert before is not None
    lab.ca.answer_next("reject", text="no more")
    after = finish(certmonger, certmonger.resubmit(before))
    assert (after.status, after.ca_error, after.cert) == ("MONITORING", "no more", before.cert)
    assert lab.getcert("status", "-i", NAME).returncode == 0
    with pytest.raises(CertmongerError, match="renewal refused: no more"):
        after.check()
    renewed = finish(certmonger, certmonger.resubmit(after))
    renewed.check()
    assert renewed.serial != before.serial


def test_a_ca_that_takes_its_time_is_waited_for(certmonger: Certmonger, certmonger_lab: CertmongerLab) -> None:
    """CA_WORKING is told and waited out."""
    certmonger_lab.ca.answer_next("wait", seconds=1)
    told: list[str] = []
    finish(certmonger, add(certmonger, certmonger_lab), told).check()
    assert "the CA is working on it" in told
    assert [call["CERTMONGER_OPERATION"] for call in certmonger_lab.ca.calls()] == ["SUBMIT", "POLL"]


def test_a_second_request_for_the_same_files_is_refused(certmonger: Certmonger, certmonger_lab: CertmongerLab) -> None:
    """A refusal by getcert becomes an error with a hint, and nothing is added."""
    finish(certmonger, add(certmonger, certmonger_lab))
    with pytest.raises(CertmongerError, match=r"getcert request: .*already") as caught:
        add(certmonger, certmonger_lab)
    assert "getcert list" in (caught.value.hint or "")
    assert len(certmonger.requests()) == 1


def test_resubmitting_can_change_the_request(certmonger: Certmonger, certmonger_lab: CertmongerLab) -> None:
    """A new certificate for the same key; names, profile and CA may change on the way."""
    lab = certmonger_lab
    lab.use_ca("local")
    before = finish(certmonger, add(certmonger, lab))
    key = lab.key_file(NAME).read_text()
    after = finish(
        certmonger, certmonger.resubmit(before, ca="local", dns_names=[NAME], profile="other", common_name=NAME)
    )
    assert after.serial != before.serial
    assert (after.hostnames, after.profile, after.ca) == ((NAME,), "other", "local")
    assert lab.key_file(NAME).read_text() == key


def test_modifying_runs_nothing_until_the_next_renewal(certmonger: Certmonger, certmonger_lab: CertmongerLab) -> None:
    """A new post-save command and new names are stored at once, and used from the next renewal on."""
    lab = certmonger_lab
    before = finish(certmonger, add(certmonger, lab))
    notes = lab.folder / "notes"
    changed = certmonger.modify(
        before,
        post_save=lab.python_hook(NOTE, str(notes), "it's me"),
        dns_names=["new.example.com"],
        principal="HTTP/new.example.com@EXAMPLE.COM",
    )
    assert (changed.status, changed.serial) == ("MONITORING", before.serial)
    assert changed.post_save is not None
    assert split(changed.post_save)[-1] == "it's me"
    assert not notes.exists()
    after = finish(certmonger, certmonger.resubmit(changed))
    assert after.hostnames == ("new.example.com",)
    assert json.loads(notes.read_text()) == ["it's me"]
    assert lab.ca.calls()[-1]["CERTMONGER_REQ_PRINCIPAL"] == "HTTP/new.example.com@EXAMPLE.COM"


def test_modifying_what_certmonger_does_not_know_is_an_error(
    certmonger: Certmonger, certmonger_lab: CertmongerLab
) -> None:
    """A request that is gone, and a principal without realm, end in one clear error."""
    found = finish(certmonger, add(certmonger, certmonger_lab))
    with pytest.raises(CertmongerError, match="realm"):
        certmonger.modify(found, principal=f"HTTP/{NAME}")
    certmonger_lab.getcert("stop-tracking", "-i", found.nickname)
    for ask in (certmonger.resubmit, certmonger.refresh, lambda one: certmonger.modify(one, profile="x")):
        with pytest.raises(CertmongerError):
            ask(found)


def test_what_a_post_save_command_finds(certmonger_lab: CertmongerLab) -> None:
    """The facts that hooks are built for: closed descriptors, cwd, umask, and a bare environment."""
    found = certmonger_lab.hook_surroundings(NAME, "it's $HOME", "b\\c")
    assert not {0, 1, 2} & set(found["fds"])
    assert found["fds"], "certmonger's pipe is inherited"
    assert found["no_std"] == [True, True, True]
    assert (found["cwd"], found["umask"], found["uid"]) == ("/", 0o077, os.getuid())
    assert found["environ"]["PATH"] == "/usr/bin:/bin:/usr/sbin:/sbin"
    assert not {"DBUS_SYSTEM_BUS_ADDRESS", "KRB5_CONFIG", "PYTHONPATH", "CERTMONGER_CERTIFICATE"} & set(
        found["environ"]
    )
    assert found["argv"] == ["it's $HOME", "b\\c"]


ASK = """
import os
while os.open(os.devnull, os.O_RDWR) < 2:
    pass
import sys, json
from certhooks.certmonger import Certmonger
from certhooks.deadline import Deadline
with Certmonger.open() as certmonger:
    found = certmonger.by_common_name(sys.argv[2])
    waited = certmonger.wait(found, Deadline(5), lambda text: None)
    same = found.cert == open(found.cert_file).read().replace("\\r", "")
    answer = [found.status, found.in_post_save, waited.settled, same]
with open(sys.argv[1] + ".new", "w") as file:
    json.dump(answer, file)
os.rename(sys.argv[1] + ".new", sys.argv[1])
"""


def test_a_hook_sees_itself_in_post_save(certmonger_lab: CertmongerLab) -> None:
    """A hook that asks certmonger while it runs gets its request in POST_SAVED_CERT, settled, with the new leaf.

    Waiting returns at once there: no deadlock.
    """
    report = certmonger_lab.folder / "report"
    hook = split(certmonger_lab.python_hook(ASK, str(report), NAME))
    certmonger_lab.request(NAME, post_save=certmonger_lab.hook_command(hook))
    assert json.loads(report.read_text()) == ["POST_SAVED_CERT", True, True, True]


def test_two_requests_that_share_a_file_run_both_hooks(certmonger_lab: CertmongerLab) -> None:
    """Requests with the same CA file (-F): saving one runs both post-save commands, so hooks must be repeatable."""
    lab = certmonger_lab
    notes = lab.folder / "notes"
    shared = str(lab.folder / "ca.crt")
    for name in ("a.example.com", "b.example.com"):
        lab.request(name, "-F", shared, post_save=lab.python_hook(NOTE, str(notes), name))
    notes.unlink()
    lab.getcert("resubmit", "-i", "a.example.com", "-w")
    ran = sorted(json.loads(line)[0] for line in notes.read_text().splitlines())
    assert ran == ["a.example.com", "b.example.com"]


@pytest.mark.parametrize("status", [0, 1])
def test_the_exit_status_of_a_hook_is_lost(certmonger: Certmonger, certmonger_lab: CertmongerLab, status: int) -> None:
    """A failed hook leaves no trace in certmonger and is not run again: what the journal and reconcile are for."""
    notes = certmonger_lab.folder / "notes"
    hook = certmonger_lab.python_hook(f"{NOTE}raise SystemExit({status})\n", str(notes))
    found = finish(certmonger, add(certmonger, certmonger_lab, post_save=hook))
    found.check()
    assert len(notes.read_text().splitlines()) == 1


def test_a_renewal_that_certmonger_starts_itself(certmonger: Certmonger, certmonger_lab: CertmongerLab) -> None:
    """A certificate near its end is renewed without anybody asking, and the hook runs again for it."""
    lab = certmonger_lab
    lab.ca.answer(days=5, not_before_hours=2)
    notes = lab.folder / "notes"
    first = finish(certmonger, add(certmonger, lab, post_save=lab.python_hook(NOTE, str(notes))))
    lab.ca.answer(days=90)
    lab.wait_for(lambda: certmonger.refresh(first).serial != first.serial)
    finish(certmonger, first).check()
    assert len(notes.read_text().splitlines()) == 2
    assert [call["CERTMONGER_OPERATION"] for call in lab.ca.calls()] == ["SUBMIT", "SUBMIT"]
    assert lab.ca.calls()[1]["CERTMONGER_CERTIFICATE"].strip().replace("\r", "") == (first.cert or "").strip()


def test_a_request_is_followed_through_a_restart(certmonger: Certmonger, certmonger_lab: CertmongerLab) -> None:
    """While certmonger is stopped the error says so; afterwards the same connection goes on."""
    found = finish(certmonger, add(certmonger, certmonger_lab))
    certmonger_lab.stop_daemon()
    with pytest.raises(CertmongerError, match="not running") as caught:
        certmonger.refresh(found)
    assert "systemctl start certmonger" in (caught.value.hint or "")
    with pytest.raises(CertmongerError, match="not running"):
        Certmonger.open()
    certmonger_lab.start_daemon()
    assert certmonger.refresh(found).serial == found.serial


def test_a_bus_that_goes_away_is_one_clear_error(certmonger: Certmonger, certmonger_lab: CertmongerLab) -> None:
    """Bus and daemon gone in the middle: CertmongerError, not a traceback of the D-Bus library."""
    found = finish(certmonger, add(certmonger, certmonger_lab))
    certmonger_lab.stop()
    with pytest.raises(CertmongerError, match="system bus"):
        certmonger.refresh(found)


def test_commands_are_split_as_the_daemon_does(certmonger: Certmonger, certmonger_lab: CertmongerLab) -> None:
    """``quote`` and ``split`` agree with certmonger itself, also on what it would not run at all."""
    lab = certmonger_lab
    notes = lab.folder / "notes"
    found = finish(certmonger, add(certmonger, lab))
    hook = lab.python_hook(NOTE, str(notes))
    words = ["a b", "it's", 'say "x"', "back\\slash", "tab\there", "$x `y` * ; | > #", "é€", "--opt=a,b", "\\", "'\"'"]
    odd = r"""p'q r'"s t" '' "" u''v \' \" \\ 'w\'   x	y"""
    for text in (quote(words), odd):
        found = finish(certmonger, certmonger.resubmit(certmonger.modify(found, post_save=f"{hook} {text}")))
        assert json.loads(notes.read_text().splitlines()[-1]) == split(text)
    assert split(quote(words)) == words
    ran = len(notes.read_text().splitlines())
    for text in (r"a\ b", "'open", "end\\"):
        found = finish(certmonger, certmonger.resubmit(certmonger.modify(found, post_save=f"{hook} {text}")))
        with pytest.raises(CertmongerError):
            split(text)
    assert len(notes.read_text().splitlines()) == ran


START = """
import sys, time
from tests.lab.certmonger import CertmongerLab
lab = CertmongerLab()
lab.start()
print(*lab.pids, flush=True)
time.sleep(60)
"""


def test_a_killed_test_process_leaves_no_daemon() -> None:
    """The lab's daemons die with the process that started them, whatever kills it."""
    with subprocess.Popen([sys.executable, "-c", START], cwd=REPO, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        daemons = [int(pid) for pid in process.stdout.readline().split()]
        assert len(daemons) == 2
        process.send_signal(signal.SIGKILL)
    end = Deadline(10)
    while any(_runs(pid) for pid in daemons):
        end.pause(0.05, "the daemons' end")


def _runs(pid: int) -> bool:
    """Say whether the process lives (a zombie that nobody has collected does not)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_on_the_system_bus_everything_needs_no_variable(system_bus_certmonger: CertmongerLab) -> None:
    """With the bus and folders of production: request, hook that calls back, waiting, removal, without any address."""
    lab = system_bus_certmonger
    report = lab.folder / "report"
    hook = lab.python_hook(ASK, str(report), NAME)
    assert lab.hook_command(split(hook)) == shlex.join(split(hook))
    assert "DBUS_SYSTEM_BUS_ADDRESS" not in os.environ
    with Certmonger.open() as certmonger:
        found = finish(certmonger, add(certmonger, lab, post_save=hook))
        found.check()
        assert json.loads(report.read_text()) == ["POST_SAVED_CERT", True, True, True]
        assert list(Path("/var/lib/certmonger/requests").iterdir())
    lab.stop()
    assert not list(Path("/var/lib/certmonger/requests").iterdir())
