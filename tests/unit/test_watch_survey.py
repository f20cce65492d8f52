"""What there is to watch: whose certificate a stored command installs, and what its journal tells, whatever it is."""

from __future__ import annotations

import json
import os
import shlex
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from certhooks import installers
from certhooks.deadline import Deadline
from certhooks.errors import StateError
from certhooks.journal import DONE, FAILED, STAGED, UNCHANGED, UNDONE, Attempt, Journal
from certhooks.postsave import split
from certhooks.watch import leaves
from certhooks.watch.model import CUT_OFF, Level, Placement, Watched
from certhooks.watch.survey import Survey
from tests.unit.certs import request_for

if TYPE_CHECKING:
    from contextlib import AbstractContextManager
    from pathlib import Path

    from pytest_mock import MockerFixture

    from certhooks.request import Request
    from tests.lab.ca import CA, Issued

NOW = 1_800_000_000.0
HOUR = 3600.0


class Host:
    """A host with certificate files in ``certs``, a journal in ``state``, and what certmonger tells."""

    def __init__(self, folder: Path, ca: CA) -> None:
        self.ca = ca
        self.certs = folder / "certs"
        self.certs.mkdir()
        self.state = folder / "state"
        self.requests: list[Request] = []
        self.issued: dict[str, Issued] = {}

    def file(self, name: str) -> Path:
        """Issue a certificate and write its file."""
        self.issued[name] = self.ca.issue(name)
        path = self.certs / f"{name.removeprefix('*.')}.crt"
        path.write_bytes(self.issued[name].cert_pem)
        return path

    def tracked(self, name: str, post_save: str | None = None, **facts: Any) -> Request:
        """Let certmonger track a certificate for a name, with the name as nickname."""
        usual = {"cert_file": str(self.file(name)), "post_save": post_save}
        self.requests.append(request_for(self.issued[name], name, **{**usual, **facts}))
        return self.requests[-1]

    def command(self, name: str, *words: str) -> str:
        """Return an install command for a certificate of this host."""
        return shlex.join(["/usr/bin/pan_instcert", "-c", name, "-C", str(self.certs), "-p", "GP", *words])

    def attempt(self, line: str, *attempts: Attempt, cwd: str = "") -> None:
        """Write down attempts of a command on each of its targets; without any, one that ended well an hour ago."""
        known = installers.recognise(split(line))
        assert known
        for place in installers.plan(*known, cwd or "/").places:
            record = Journal(self.state).record(place.target)
            mine = attempts or (Attempt("ab" * 32, started=NOW - HOUR, ended=NOW - HOUR + 9, outcome=DONE),)
            record.attempts = [*record.attempts, *(replace(each, command=split(line), cwd=cwd) for each in mine)]
            record._write()

    def held(self, line: str) -> AbstractContextManager[float]:
        """Hold the first device of a command, as a run does."""
        known = installers.recognise(split(line))
        assert known
        return Journal(self.state).lock(installers.plan(*known).places[0].device, Deadline(1))

    def look(self) -> list[Watched]:
        """Return what is watched."""
        return Survey(NOW, self.state).watched(self.requests)

    def fingerprint(self, name: str) -> str:
        """Return what a certificate of this host is known by."""
        leaf = leaves.of_request(request_for(self.issued[name], name))
        assert leaf
        return leaf.fingerprint


@pytest.fixture
def host(tmp_path: Path, root: CA) -> Host:
    """Make a host that knows nothing yet."""
    return Host(tmp_path, root)


def shape(watched: list[Watched]) -> dict[str, list[str]]:
    """Return the labels of each certificate's placements, by name and origin."""
    return {f"{one.name} {one.origin}": [placement.label for placement in one.placements] for one in watched}


def only(watched: list[Watched]) -> tuple[Watched, Placement]:
    """Return the one certificate with its one placement."""
    [one] = watched
    [placement] = one.placements
    return one, placement


def kinds(one: Watched) -> list[tuple[Level, str]]:
    """Return level and kind of everything that a survey tells by itself."""
    return [(finding.level, finding.kind) for _where, finding in one.told()]


def test_a_request_with_the_targets_of_its_command(host: Host) -> None:
    """State, certificate and advice are certmonger's; command, user, endpoints and deadline the post-save command's."""
    line = host.command("gp.example.com", "--timeout", "60", "--probe", "vpn:8443", "--probe", "vpn:8443", "fw1", "fw2")
    host.tracked("gp.example.com", line, ca_error="denied", status="CA_UNREACHABLE", post_save_uid="0")
    [one] = host.look()
    assert (one.name, one.source, one.origin, one.state) == ("gp.example.com",) * 2 + ("certmonger", "CA_UNREACHABLE")
    assert one.leaf
    assert one.leaf.fingerprint == host.fingerprint("gp.example.com")
    assert (one.stuck, one.ca_error, one.file) == (True, "denied", str(host.certs / "gp.example.com.crt"))
    assert one.advice
    assert [placement.label for placement in one.placements] == ["fw1", "fw2"]
    for placement in one.placements:
        assert placement.command == tuple(split(line))
        assert (placement.cwd, placement.uid, placement.timeout, placement.looks) == ("/", "0", 60.0, True)
        assert placement.endpoints == ("vpn:8443",)
        assert placement.pushed is None
    assert kinds(one) == []
    assert not host.state.exists(), "a look makes nothing"


def test_an_address_that_serves_it_is_looked_at_too(host: Host) -> None:
    """What the hook knows of its devices, what the command says, and what the journal tells, each once."""
    line = shlex.join(["vmw_instcert", "-c", "vc1.example.com", "--probe", "proxy", "--probe", "vc1.example.com"])
    host.tracked("vc1.example.com", line)
    host.attempt(line, Attempt("ab" * 32, outcome=DONE, endpoints=["former:9443"]))
    host.attempt(line, Attempt("ab" * 32, outcome=DONE, endpoints=["vip:9443", "proxy"]))
    host.attempt(line, Attempt("", outcome=UNDONE))
    _one, placement = only(host.look())
    assert placement.endpoints == ("vip:9443", "proxy", "vc1.example.com")


@pytest.mark.parametrize("line", ["", "/bin/true", "/usr/bin/pan_getcert -c a.example.com fw1"])
def test_commands_of_others_are_none_of_ours(host: Host, line: str) -> None:
    """A request without our command is a certificate without targets."""
    host.tracked("gp.example.com", line)
    assert [(kinds(one), one.placements) for one in host.look()] == [([], ())]


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ("pan_instcert --help", "installs nothing"),
        ("pan_instcert -c gp.example.com --dry-run fw1", "installs nothing"),
        ("pan_instcert 'fw1", "certmonger does not understand"),
        ("pan_instcert fw\\ 1", "certmonger does not understand"),
        ("pan_instcert -c gp.example.com --frob fw1", "unrecognized arguments: --frob"),
        ("pan_instcert -c gp.example.com " + "fw/1" * 10_000, "not a host name"),
        ("pan_instcert " + "--frob" * 10_000, "unrecognized arguments"),
        ("apic_instcert apic1", "apic_instcert is not installed beside certhooks"),
    ],
    ids=lambda value: value[:40],
)
def test_a_command_that_is_not_understood_is_told(host: Host, line: str, text: str) -> None:
    """Critical, in a bounded text, and the other certificates are shown all the same."""
    host.tracked("gp.example.com", line)
    host.tracked("other.example.com", host.command("other.example.com", "fw2"))
    one, other = host.look()
    [finding] = one.findings
    assert (finding.level, finding.kind) == (Level.CRITICAL, "unknown")
    assert text in finding.text
    assert len(finding.text) + len(finding.hint or "") < 1200
    assert one.placements == ()
    assert len(other.placements) == 1


def test_a_fault_in_one_hook_hides_no_other(host: Host, mocker: MockerFixture) -> None:
    """Whatever a hook's module raises is that command's trouble alone."""
    mocker.patch("certhooks_vcenter.instcert.places", side_effect=ZeroDivisionError)
    host.tracked("vc.example.com", "vcenter_instcert -c vc.example.com")
    host.tracked("gp.example.com", host.command("gp.example.com", "fw2"))
    one, other = host.look()
    assert "a fault of our own: ZeroDivisionError" in one.findings[0].text
    assert len(other.placements) == 1


def test_the_certificate_is_the_one_that_the_command_names(host: Host) -> None:
    """A command may stand in another request, or in two: it installs what its options say, and is shown once."""
    rsa = host.command("gp.example.com", "fw1")
    host.tracked("www.example.com", rsa)
    host.tracked("gp.example.com", rsa)
    host.tracked("api.example.com", host.command("API.example.com", "fw2"), cert_file=None)
    assert shape(host.look()) == {
        "www.example.com certmonger": [],
        "gp.example.com certmonger": ["fw1"],
        "api.example.com certmonger": ["fw2"],
    }


def test_a_name_that_is_tracked_twice_is_each_request_s_own(host: Host) -> None:
    """Two requests for one name with a command each that names no file: neither takes over the other's."""
    words = ["pan_instcert", "-c", "gp.example.com", "-p", "GP"]
    for nickname, device in (("first", "fw1"), ("second", "fw2")):
        request = host.tracked("gp.example.com", shlex.join([*words, device]))
        host.requests[-1] = replace(request, nickname=nickname, cert_file=f"/nonexistent/{nickname}")
    assert [[placement.label for placement in one.placements] for one in host.look()] == [["fw1"], ["fw2"]]


def test_a_blind_command_installs_files(host: Host) -> None:
    """``-b`` in a post-save command: the request's own file by whatever path, or a file that nobody tracks."""
    host.tracked("gp.example.com", host.command("gp.example.com", "-b", "fw1"))
    link = host.certs / "link.crt"
    link.symlink_to(host.certs / "gp.example.com.crt")
    host.requests[0] = replace(host.requests[0], cert_file=str(link))
    host.tracked("www.example.com", host.command("other.example.com", "-b", "fw2"))
    host.file("other.example.com")
    host.tracked("api.example.com", host.command("gone.example.com", "-b", "fw3"))
    watched = host.look()
    assert shape(watched) == {
        "gp.example.com certmonger": ["fw1"],
        "www.example.com certmonger": [],
        "api.example.com certmonger": ["fw3"],
        "other.example.com file": ["fw2"],
    }
    assert watched[-1].leaf
    assert watched[-1].leaf.fingerprint == host.fingerprint("other.example.com")
    assert watched[-1].placements[0].command


def test_a_wildcard(host: Host) -> None:
    """``*.example.com`` is found by its name and by certbot's name of its file."""
    host.tracked("*.example.com", host.command("*.example.com", "-n", "wild", "fw1"))
    once = host.command("*.example.org", "-n", "wild2", "-b", "fw2")
    host.file("*.example.org")
    host.attempt(once)
    assert shape(host.look()) == {"*.example.com certmonger": ["fw1"], "*.example.org file": ["fw2"]}


def test_a_request_without_files(host: Host) -> None:
    """NSS, or not issued yet: known by its subject or nickname; while its command runs it is running."""
    line = "pan_instcert -c gp.example.com -p GP fw1"
    host.tracked("gp.example.com", line, cert_file=None, status="POST_SAVED_CERT")
    host.tracked("new.example.com", None, cert_file=None, cert=None, subject=None)
    one, new = host.look()
    assert [(each.running, each.tried_at) for each in one.placements] == [(True, None)]
    assert (new.name, new.leaf, new.file) == ("new.example.com", None, "")


@pytest.mark.parametrize("status", ["POST_SAVED_CERT", "NEED_TO_SAVE_CERT", "SAVING_CERT", "READING_CERT"])
def test_while_certmonger_is_about_to_run_the_command_it_is_running(host: Host, status: str) -> None:
    """From when the certificate is there until its command has ended; since when is told by the file alone."""
    line = host.command("gp.example.com", "fw1")
    request = host.tracked("gp.example.com", line, status=status)
    os.utime(str(request.cert_file), (NOW - 60, NOW - 60))
    host.attempt(line, Attempt("ab" * 32, started=NOW - 99 * HOUR, outcome=FAILED, message="old"))
    _one, placement = only(host.look())
    assert placement.running
    assert placement.tried_at == (NOW - 60 if status == "POST_SAVED_CERT" else None)


def test_what_the_journal_tells(host: Host) -> None:
    """What was brought last, when that was seen last, how the newest attempt ended, and how many ended so."""
    line = host.command("gp.example.com", "fw1")
    host.tracked("gp.example.com", line)
    good = Attempt(
        "cd" * 32, "CN=gp,O=X", "2030-01-02T00:00:00+00:00", started=NOW - 9, ended=NOW - 8, outcome=UNCHANGED
    )
    bad = Attempt("ef" * 32, started=NOW - 5, ended=NOW - 4, outcome=UNDONE, message="no connection", count=3)
    host.attempt(line, good, replace(bad, outcome=FAILED, count=1), bad)
    _one, placement = only(host.look())
    assert placement.pushed
    assert (placement.pushed.fingerprint, placement.pushed.name, placement.pushed_at) == ("cd" * 32, "gp", NOW - 8)
    assert (placement.failure, placement.failures, placement.tried_at) == ("no connection", 4, NOW - 5)
    assert (placement.running, placement.staged) == (False, False)
    host.attempt(line, replace(good, outcome=STAGED, ended=None))
    _one, placement = only(host.look())
    assert (placement.staged, placement.failure, placement.failures) == (True, "", 0)
    assert placement.pushed_at == NOW - 9


def test_a_run_that_was_cut_off(host: Host) -> None:
    """Without its lock a run that has no end was cut off, which is one failure more; with it, it runs."""
    line = host.command("gp.example.com", "fw1")
    host.tracked("gp.example.com", line)
    host.attempt(line, Attempt("ab" * 32, outcome=UNDONE, message="x"), Attempt("ab" * 32, started=NOW - 9))
    _one, placement = only(host.look())
    assert (placement.running, placement.failure, placement.failures) == (False, CUT_OFF, 1)
    with host.held(line):
        _one, placement = only(host.look())
    assert (placement.running, placement.failure, placement.tried_at) == (True, "", NOW - 9)


def test_the_journal_knows_best_since_when_it_runs(host: Host) -> None:
    """While certmonger runs the command and that has begun with a device, its own beginning there counts."""
    line = host.command("gp.example.com", "fw1")
    host.tracked("gp.example.com", line, status="POST_SAVED_CERT")
    host.attempt(line, Attempt("ab" * 32, started=NOW - 9))
    with host.held(line):
        _one, placement = only(host.look())
    assert (placement.running, placement.tried_at) == (True, NOW - 9)


def test_a_device_may_be_held_for_something_else(host: Host) -> None:
    """Another certificate is on its way to the same device: that is no run of this one."""
    line = host.command("gp.example.com", "fw1")
    host.tracked("gp.example.com", line)
    host.attempt(line)
    with host.held(line):
        _one, placement = only(host.look())
    assert not placement.running


@pytest.mark.parametrize(("started", "running"), [(-7199.0, True), (-7201.0, False), (7199.0, True), (7201.0, False)])
def test_a_run_whose_lock_is_not_known(host: Host, started: float, running: bool) -> None:  # noqa: FBT001
    """Of a command that is not understood any more: it runs for two hours at most, whatever the clock was."""
    line = host.command("gp.example.com", "-b", "fw1")
    host.attempt(line, Attempt("ab" * 32, started=NOW + started))
    [path] = host.state.glob("*.json")
    path.write_text(path.read_text().replace('"-b"', '"--frob"'))
    _one, placement = only(host.look())
    assert (placement.running, placement.failure) == (running, "" if running else CUT_OFF)


def test_a_one_off_push(host: Host) -> None:
    """Its file is what the target should have; started in its own folder it can be repeated."""
    line = shlex.join(["pan_instcert", "-b", "-c", "once.example.com", "-C", ".", "-p", "GP", "fw1"])
    file = host.file("once.example.com")
    host.attempt(line, cwd=str(host.certs))
    one, placement = only(host.look())
    assert (one.name, one.origin, one.source, one.file) == ("once.example.com", "file", str(file), str(file))
    assert one.leaf
    assert one.leaf.fingerprint == host.fingerprint("once.example.com")
    assert (placement.command, placement.cwd, placement.looks) == (tuple(split(line)), str(host.certs), True)
    file.write_bytes(b"-----BEGIN CERTIFICATE-----\ngarbage\n-----END CERTIFICATE-----\n")
    one, placement = only(host.look())
    assert (one.leaf, one.source, placement.looks) == (None, str(file), True)
    file.unlink()
    one, placement = only(host.look())
    assert (one.leaf, one.source, placement.looks) == (None, "pushed once", False), "there is nothing to bring"
    assert placement.command, "when it is out of step, running it says why"


def test_a_one_off_push_of_pkcs12(host: Host) -> None:
    """Its certificate cannot be read without a passphrase: it is known by its file."""
    store = host.certs / "store.p12"
    store.write_bytes(b"\x30\x82")
    host.attempt(f"pan_instcert -c once.example.com --pkcs12 {store} -p GP fw1")
    one, placement = only(host.look())
    assert (one.name, one.origin, one.source, one.leaf) == ("once.example.com", "file", str(store), None)
    assert placement.looks


def test_a_device_that_makes_its_own_key(host: Host) -> None:
    """``esxi_instcert --csr`` is known by what was pushed, and looked at daily: that is what renews it."""
    host.attempt("esxi_instcert --csr esx1.example.com", Attempt("ab" * 32, "CN=esx1.example.com", outcome=DONE))
    one, placement = only(host.look())
    assert (one.name, one.origin, one.leaf) == ("esx1.example.com", "device", None)
    assert (placement.looks, placement.endpoints) == (True, ("esx1.example.com",))
    assert placement.pushed


def test_a_request_that_is_gone(host: Host) -> None:
    """What it had brought is known from the journal alone, and not looked at: there is nothing to bring."""
    host.attempt(host.command("gp.example.com", "fw1"))
    one, placement = only(host.look())
    assert (one.name, one.origin, one.leaf, placement.looks) == ("gp.example.com", "journal", None, False)
    assert placement.command


def test_a_push_that_the_post_save_command_does_not_repeat(host: Host) -> None:
    """It was made by hand of a tracked certificate: a warning says that, with the command to store."""
    host.tracked("gp.example.com", host.command("gp.example.com", "fw1"))
    host.attempt(host.command("gp.example.com", "fw1"))
    line = host.command("gp.example.com", "fw2")
    host.attempt(line)
    [one] = host.look()
    assert [placement.label for placement in one.placements] == ["fw1", "fw2"]
    assert kinds(one) == [(Level.WARNING, "unhooked")]
    assert one.placements[1].findings[0].hint == f"getcert start-tracking -i gp.example.com -C {shlex.quote(line)}"
    assert one.placements[1].looks


@pytest.mark.parametrize("later", ["once", "tracked"])
def test_what_something_else_took_the_place_of_is_history(host: Host, later: str) -> None:
    """Another certificate, or name, went into a profile since: to bring the former one back would undo that."""
    state = Survey(NOW, host.state)
    host.file("old.example.com")
    old = host.command("old.example.com", "-b", "fw1")
    host.attempt(old, Attempt("ab" * 32, started=NOW - 3 * HOUR, outcome=DONE))
    new = host.command(f"{later}.example.com", *(["-b"] if later == "once" else []), "-s", "OTHER", "fw1")
    if later == "tracked":
        host.tracked("tracked.example.com", new)
    else:
        host.file("once.example.com")
    host.attempt(new, Attempt("", started=NOW - 2 * HOUR, outcome=UNDONE, message="no"))
    assert [one.name for one in host.look() if one.placements] == [f"{later}.example.com"]
    names = [one.name for one in state.watched(host.requests, history=True) if one.placements]
    assert sorted(names) == sorted(["old.example.com", f"{later}.example.com"])
    host.attempt(old, Attempt("ab" * 32, started=NOW - HOUR, outcome=DONE))
    names = [one.name for one in host.look() if one.placements]
    assert sorted(names) == sorted(["old.example.com", *(["tracked.example.com"] if later == "tracked" else [])])


def test_certificates_side_by_side_on_a_device_are_no_history(host: Host) -> None:
    """Other profiles, other places on the device, or another device are other slots."""
    lines = [
        ["-p", "ONE", "fw1"],
        ["-p", "TWO", "-s", "THREE", "fw1"],
        ["-p", "ONE", "--vsys", "vsys2", "fw1"],
        ["-p", "ONE", "fw2"],
        ["fw1"],
    ]
    for at, words in enumerate(lines):
        name = f"{at}.example.com"
        host.file(name)
        line = shlex.join(["pan_instcert", "-b", "-c", name, "-C", str(host.certs), *words])
        host.attempt(line, Attempt("ab" * 32, started=NOW - at, outcome=DONE))
    assert len(host.look()) == len(lines)


def test_a_command_that_installs_again_is_not_run_for_a_look(host: Host) -> None:
    """``--force`` would change the device every day."""
    line = host.command("gp.example.com", "--force", "fw1")
    host.tracked("gp.example.com", line)
    host.file("once.example.com")
    host.attempt(host.command("once.example.com", "-b", "--force", "fw2"))
    assert [placement.looks for one in host.look() for placement in one.placements] == [False, False]


@pytest.mark.parametrize(
    "command",
    [
        ["/bin/rm", "-rf", "/"],
        ["pan_getcert", "-c", "gp.example.com", "fw1"],
        ["pan_instcert", "-c", "gp.example.com", "-p", "OTHER", "fw9"],
        ["pan_instcert", "--help"],
        ["pan_instcert", "-b", "-c", "gp.example.com", "--passphrase-file", "***", "-p", "GP", "fw1"],
        [],
        ["\0"],
        ["", ""],
        ["pan_instcert", "\ud800\x1b[31m", "\0"],
    ],
    ids=lambda value: " ".join(value)[:30].encode("ascii", "backslashreplace").decode(),
)
def test_only_what_would_bring_it_there_again_is_run(host: Host, command: list[str]) -> None:
    """Of a journal's command nothing is run that is not an install command for that very target, whole."""
    line = host.command("gp.example.com", "-b", "fw1")
    host.attempt(line)
    [path] = host.state.glob("*.json")
    document = json.loads(path.read_text())
    document["attempts"][0]["command"] = command
    path.write_text(json.dumps(document))
    _one, placement = only(host.look())
    assert placement.command == ()
    assert placement.pushed


def test_a_damaged_journal_is_told(host: Host) -> None:
    """That nothing is known of a device is critical; a journal that a request's command will mend is not told twice."""
    line = host.command("gp.example.com", "fw1")
    host.tracked("gp.example.com", line)
    host.attempt(line)
    host.attempt(host.command("once.example.com", "-b", "fw2"))
    paths = sorted(host.state.glob("*.json"))
    for path in paths:
        path.write_text("garbage")
    one, lost = host.look()
    assert [placement.pushed for placement in one.placements] == [None]
    assert kinds(one) == []
    assert kinds(lost) == [(Level.CRITICAL, "unknown")]
    assert lost.findings[0].hint == f"install there again, or: rm {paths[1]}"
    assert sorted(host.state.iterdir()) == paths


@pytest.mark.parametrize("folder", ["/dev/null", "/etc/passwd/x", "/tmp", "x" * 5000, "/nonexistent/a"])
def test_a_strange_state_folder_of_one_command(host: Host, folder: str) -> None:
    """It is neither made nor a reason to show nothing: where it cannot be a journal, that target is critical."""
    host.tracked("gp.example.com", host.command("gp.example.com", "--state-dir", folder, "fw1"))
    host.tracked("www.example.com", host.command("www.example.com", "fw2"))
    one, other = host.look()
    assert kinds(one) == ([] if "nonexistent" in folder else [(Level.CRITICAL, "unknown")])
    assert len(other.placements) == 1


def test_the_state_folder_by_another_name_is_the_same(host: Host, tmp_path: Path) -> None:
    """What was pushed there is not shown a second time."""
    Journal(host.state)
    (tmp_path / "link").symlink_to(host.state)
    line = host.command("gp.example.com", "--state-dir", str(tmp_path / "link"), "fw1")
    host.tracked("gp.example.com", line)
    host.attempt(line)
    _one, placement = only(host.look())
    assert placement.pushed


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
@pytest.mark.parametrize(("uid", "known"), [("nobody", True), ("65534", True), ("0", False), ("no-such-user", False)])
def test_the_journal_of_another_user_s_command(host: Host, tmp_path: Path, uid: str, known: bool) -> None:  # noqa: FBT001
    """Certmonger runs the command as who stored it, whose journal is that user's own: it is read for no other."""
    state = tmp_path / "theirs"
    line = host.command("gp.example.com", "--state-dir", str(state), "fw1")
    host.tracked("gp.example.com", line, post_save_uid=uid)
    own, host.state = host.state, state
    host.attempt(line)
    host.state = own
    os.chown(state, 65534, 65534)
    one, placement = only(host.look())
    assert bool(placement.pushed) == known
    assert kinds(one) == ([] if known else [(Level.CRITICAL, "unknown")])


def test_the_state_folder_has_to_be_ours(host: Host) -> None:
    """What others could write is not believed."""
    host.state.mkdir(mode=0o755)
    with pytest.raises(StateError, match="is open to others"):
        host.look()


def test_hostile_texts_of_a_journal_are_only_texts(host: Host) -> None:
    """Numbers at their limits, letters that are none and endless words change nothing but themselves."""
    line = host.command("gp.example.com", "fw1")
    host.tracked("gp.example.com", line)
    texts: dict[str, Any] = {"message": "\ud800\x1b[31m\0\n" * 999, "subject": "CN=\\", "fingerprint": "\x1b" * 999}
    odd = Attempt(not_after="never", started=2e11, **texts)
    host.attempt(line, Attempt(""), replace(odd, outcome=FAILED, started=-1e11, count=-5))
    host.attempt(line, odd, replace(odd, ended=-2e11, outcome="no such outcome"), replace(odd, outcome=DONE))
    _one, placement = only(host.look())
    assert placement.pushed
    assert placement.pushed.not_after is None
