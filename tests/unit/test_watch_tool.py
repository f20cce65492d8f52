"""``certhooks status|reconcile|forget`` on a host without certmonger; its install commands are scripts."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from certhooks import installers
from certhooks.deadline import Deadline
from certhooks.errors import BusyError, StateError
from certhooks.journal import DONE, RUNNING, UNDONE, Attempt, Journal
from certhooks.watch import leaves, notify, reconcile, schedule, spool, tool
from certhooks.watch import message as messages
from tests.lab.site import Done, call, script

if TYPE_CHECKING:
    from pytest_mock import MockerFixture

    from tests.lab.ca import CA

NAME = "gp.example.com"
LEVELS = ("ok", "warning", "critical", "unknown")


class Host:
    """One-off pushes by scripts: each device has its own, ``DEVICE/pan_instcert``."""

    def __init__(self, folder: Path, ca: CA) -> None:
        self.folder = folder
        self.ca = ca
        self.state = folder / "state"
        self.log = folder / "log"
        self.own = ["--state-dir", str(self.state), "--log-file", str(self.log)]

    def device(self, name: str, text: str = "echo done", *, pushed: bool = False, **facts: Any) -> Path:
        """Let a certificate have been pushed to a device, or not quite, by a script with that text."""
        home = self.folder / name
        home.mkdir(exist_ok=True)
        issued = self.ca.issue(f"{name}.example.com")
        (home / "cert.pem").write_bytes(issued.cert_pem)
        command = home / "pan_instcert"
        command.write_text(f"#!/bin/sh\necho run >>{home}/runs\n{text}\n")
        command.chmod(0o700)
        where = f"{name}.example.com"
        words = [str(command), "-b", "-c", where, "-C", str(home / "cert.pem"), "-p", "GP", "--timeout", "60", where]
        attempt = {"fingerprint": "ab" * 32, "started": time.time() - 60, "ended": time.time() - 59, "outcome": DONE}
        if pushed:
            leaf = leaves.of_file(home / "cert.pem")
            assert leaf
            attempt["fingerprint"] = leaf.fingerprint
        record = Journal(self.state).record(f"pan {where} {where}")
        record.attempts = [Attempt(**{**attempt, "command": words, "cwd": "/", **facts})]
        record._write()
        return home

    def append(self, name: str, **facts: Any) -> None:
        """Let another attempt have been made on a device, the same as the last but for these facts."""
        record = Journal(self.state).record(f"pan {name}.example.com {name}.example.com")
        record.attempts.append(replace(record.attempts[-1], **facts))
        record._write()

    def runs(self, name: str) -> int:
        """Return how often a device's script was run."""
        note = self.folder / name / "runs"
        return len(note.read_text().splitlines()) if note.exists() else 0

    def certhooks(self, *words: str) -> Done:
        """Run the command in this process."""
        return call(tool.main, [*words, *self.own])

    def status(self) -> dict[str, Any]:
        """Return what status shows, whose exit status is the number of its level."""
        done = self.certhooks("status", "--json")
        shown: dict[str, Any] = json.loads(done.out)
        assert done.code == LEVELS.index(shown["level"]), done
        return shown

    def placement(self, name: str) -> dict[str, Any]:
        """Return what status shows of a device."""
        shown = self.status()
        [found] = [each for one in shown["watched"] for each in one["placements"] if each["label"].startswith(name)]
        return dict(found)


@pytest.fixture
def host(tmp_path: Path, root: CA, monkeypatch: pytest.MonkeyPatch) -> Host:
    """Make a host on which nothing was pushed yet."""
    monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", f"unix:path={tmp_path}/no-bus")
    monkeypatch.chdir(tmp_path)
    return Host(tmp_path, root)


def test_what_is_out_of_step_is_run_once_and_waited_with(host: Host) -> None:
    """Failures are told with their exit code and command, and the next try comes after a pause."""
    bad = host.device("bad", "echo 'pan_instcert: error: no connection' >&2; exit 4")
    host.device("well", pushed=True)
    assert {finding["kind"] for finding in host.placement("bad")["findings"]} == {"behind"}
    done = host.certhooks("reconcile")
    assert (done.code, done.out) == (4, "")
    error, hint = done.err.splitlines()
    assert error == "certhooks: error: bad.example.com: no connection"
    assert hint.startswith(f"certhooks: hint: {bad}/pan_instcert -b -c bad.example.com ")
    assert hint.endswith(" bad.example.com -v")
    assert host.certhooks("reconcile") == Done(0, "", "")
    assert (host.runs("bad"), host.runs("well")) == (1, 0)
    shown = host.placement("bad")
    assert (shown["failure"], shown["failures"]) == ("no connection", 1)
    assert shown["next_try"]
    assert host.certhooks("reconcile", "--now").code == 4
    assert host.runs("bad") == 2
    assert host.placement("bad")["failures"] == 2
    assert "as before, 2 times now" in host.log.read_text()


def test_a_command_that_claims_to_have_done_it(host: Host) -> None:
    """It ended well and the device still lacks the certificate: in vain, told, and not run in a loop."""
    host.device("fw", "exit 0")
    done = host.certhooks("reconcile")
    assert (done.code, done.out) == (14, ""), "what was not seen is not told"
    assert "the install command ended well, but fw.example.com does not have the certificate" in done.err
    assert host.certhooks("reconcile").out == ""
    assert host.runs("fw") == 1
    assert host.placement("fw")["failure"].startswith("the install command ended well, but fw.example.com does not")


def test_what_is_in_step_again_begins_anew(host: Host) -> None:
    """Once somebody has repaired it, the next failure with the same certificate is the first."""
    home = host.device("fw", "exit 4")
    host.certhooks("reconcile")
    leaf = leaves.of_file(home / "cert.pem")
    assert leaf
    [path] = host.state.glob("pan*.json")
    behind = path.read_text()
    path.write_text(behind.replace("ab" * 32, leaf.fingerprint))
    assert host.certhooks("reconcile") == Done(0, "", "")
    path.write_text(behind)
    assert host.certhooks("reconcile").code == 4, "no pause is left of before"
    assert host.placement("fw")["failures"] == 1


def test_a_failure_that_the_command_does_not_mend_has_its_pause(host: Host) -> None:
    """The device has the certificate, the journal tells of a failure, and a command that ends well changes neither."""
    host.device("fw", "exit 0", pushed=True)
    host.append("fw", outcome=UNDONE, message="no connection")
    assert [host.certhooks("reconcile").code for _ in range(2)] == [14, 0]
    assert host.runs("fw") == 1


def test_a_command_may_take_so_long_and_no_longer(host: Host) -> None:
    """``--timeout`` is for each command, whatever its own deadline is."""
    host.device("fw", "exec sleep 60")
    began = time.monotonic()
    done = host.certhooks("reconcile", "--timeout", "1")
    assert time.monotonic() - began < 10
    assert done.code == 1
    assert "fw.example.com: it did not end in time and was stopped" in done.err


def test_while_another_run_is_at_it_nothing_is_forgotten(host: Host) -> None:
    """Certmonger or a person has it in hand just now: reconcile leaves it alone, and keeps its count."""
    host.device("fw", "exit 4", pushed=True)
    host.append("fw", outcome=UNDONE, message="no connection")
    host.certhooks("reconcile")
    before = schedule.Tries(host.state)._known
    assert [each.times for each in before.values()] == [1]
    host.append("fw", outcome=RUNNING, ended=None)
    with Journal(host.state).lock("pan fw.example.com", Deadline(1)):
        assert host.placement("fw")["running"]
        assert host.certhooks("reconcile", "--now") == Done(0, "", "")
    assert schedule.Tries(host.state)._known == before
    assert host.runs("fw") == 1


def test_a_look_that_finds_all_well(host: Host) -> None:
    """A day after the last time the command itself looks, and then not for a day."""
    host.device("fw", pushed=True, started=time.time() - 2 * 86400, ended=time.time() - 2 * 86400)
    done = host.certhooks("reconcile")
    assert done == Done(0, "", ""), "cron would mail it"
    assert host.runs("fw") == 1
    assert host.certhooks("reconcile") == Done(0, "", "")


def test_a_look_that_finds_something_lost_is_a_repair(host: Host) -> None:
    """The device had lost what it had, and its own command saw that and brought it back: that is told."""
    home = host.device("fw", pushed=True, started=time.time() - 2 * 86400, ended=time.time() - 2 * 86400)
    [path] = host.state.glob("pan*.json")
    text = path.read_text()
    command = home / "pan_instcert"
    done = json.loads(text)
    done["attempts"].append({**done["attempts"][0], "started": time.time() + 1, "ended": time.time() + 2})
    (home / "after").write_text(json.dumps(done))
    command.write_text(f"#!/bin/sh\ncp {home}/after {path}\n")
    assert host.certhooks("reconcile").out == "fw.example.com: repaired (it was not looked at for a day)\n"


def test_files_that_are_gone_are_a_warning(host: Host) -> None:
    """While all is well already: when the device is reset it is too late to keep them."""
    home = host.device("fw", pushed=True)
    (home / "cert.pem").unlink()
    [finding] = [each for one in host.status()["watched"] for each in one["findings"]]
    assert (finding["level"], finding["kind"]) == ("warning", "gone")


def test_a_dry_run(host: Host) -> None:
    """What would be run and why, and what only later; or that there is nothing to do."""
    assert host.certhooks("reconcile", "--dry-run").out == "nothing to do\n"
    host.device("fw", "exit 4")
    first, second = host.certhooks("reconcile", "--dry-run").out.splitlines()
    assert first.startswith(f"fw.example.com: would run, now: {host.folder}/fw/pan_instcert -b -c ")
    assert second == "fw.example.com: because it does not have the certificate that it should have"
    assert host.runs("fw") == 0
    host.certhooks("reconcile")
    assert "would run, not before 2" in host.certhooks("reconcile", "--dry-run").out
    assert "would run, now: " in host.certhooks("reconcile", "--dry-run", "--now").out
    assert host.runs("fw") == 1


def running(note: Path) -> bool:
    """Tell whether the process runs whose number is in a file."""
    try:
        return "\nState:\tZ" not in Path(f"/proc/{note.read_text().strip()}/status").read_text()
    except FileNotFoundError:
        return False


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_an_interrupted_run_leaves_nothing_running_and_loses_nothing(host: Host, number: int, code: int) -> None:
    """The command that runs is asked to end and waited for, no other is started, and what had failed is remembered."""
    wait = "trap 'echo $? >taken-back; exit 143' TERM; echo $$ >{0}/pid; cd {0}; while :; do sleep 0.1; done"
    host.device("aa", "exit 4")
    long = host.device("bb", wait.format(host.folder / "bb"))
    host.device("cc", "exit 4")
    words = ["env", "--default-signal=INT", script("certhooks"), "reconcile", "--jobs", "1", *host.own]
    with subprocess.Popen(words, stderr=subprocess.PIPE, text=True) as process:
        try:
            while not (long / "pid").exists() or not (long / "pid").read_text().strip():
                assert process.poll() is None
                time.sleep(0.02)
            process.send_signal(number)
            _out, err = process.communicate(timeout=20)
        finally:
            process.kill()
            if running(long / "pid"):
                os.kill(int((long / "pid").read_text()), signal.SIGKILL)
    assert process.returncode == code
    assert "interrupted: the commands that run are asked to take back what they began" in err
    assert (long / "taken-back").exists(), "it was waited for"
    assert [host.runs(name) for name in ("aa", "bb", "cc")] == [1, 1, 0]
    command = long / "pan_instcert"
    command.write_text(command.read_text().replace("trap ", "exit 4; trap "))
    host.certhooks("reconcile")
    assert [host.runs(name) for name in ("aa", "bb", "cc")] == [1, 2, 1], (
        "the pause of the failure counts, of the others none"
    )


def test_what_it_had_no_time_for_comes_next(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """After half an hour nothing more is started, so that people are told; the next run begins with the rest."""
    for name in ("aa", "bb"):
        host.device(name, "sleep 0.3; exit 4")
    monkeypatch.setattr(reconcile, "_STARTS_WITHIN", 0.2)
    for _ in range(2):
        assert host.certhooks("reconcile", "--jobs", "1").code == 4
    assert [host.runs(name) for name in ("aa", "bb")] == [1, 1]


def test_a_full_disk_hides_no_result(host: Host, mocker: MockerFixture) -> None:
    """What was tried cannot be kept: results and messages go out all the same, and it is an error."""
    host.device("fw", "exit 0")
    mocker.patch.object(schedule.Tries, "save", side_effect=StateError("no space left on device"))
    queue = mocker.patch.object(notify, "queue")
    done = host.certhooks("reconcile")
    assert done.code == 14, "the first failure"
    assert "does not have the certificate" in done.err
    assert "error: no space left on device" in done.err
    assert queue.called


def test_a_queue_that_is_busy_is_not_another_reconcile(host: Host, mocker: MockerFixture) -> None:
    """Results are shown, and that people could not be told is an error of its own."""
    host.device("fw", "exit 4")
    mocker.patch.object(notify, "queue", side_effect=BusyError("another run holds what was told"))
    done = host.certhooks("reconcile")
    assert done.code == BusyError.exit_code
    assert "fw.example.com: exit status 4" in done.err
    assert "another run holds what was told" in done.err


def test_people_who_cannot_be_told_are_a_failure(host: Host, mocker: MockerFixture) -> None:
    """All is well but the mail server: its exit code, after that of a command that failed."""
    host.device("fw", "exit 4")
    mocker.patch.object(notify, "deliver", return_value=9)
    assert [host.certhooks("reconcile").code for _ in range(2)] == [4, 9]


def test_what_was_repaired_is_seen_at_once(host: Host) -> None:
    """The command has written its journal: well again in the same run, and nothing was in vain."""
    home = host.device("fw", "exit 4")
    host.certhooks("reconcile")
    leaf = leaves.of_file(home / "cert.pem")
    assert leaf
    [path] = host.state.glob("pan*.json")
    (home / "good").write_text(path.read_text().replace("ab" * 32, leaf.fingerprint))
    command = home / "pan_instcert"
    command.write_text(command.read_text().replace("exit 4", f"cp {home}/good {path}"))
    done = host.certhooks("reconcile", "--now")
    assert done == Done(0, "fw.example.com: repaired (exit status 4: it said nothing)\n", "")
    assert host.status()["level"] == "ok"
    assert [each.times for each in schedule.Tries(host.state)._known.values()] == [0]


def test_two_timers_at_once(host: Host) -> None:
    """The second one leaves the first alone and says nothing; a dry run needs no turn."""
    host.device("fw")
    with Journal(host.state).lock("certhooks reconcile", Deadline(1)):
        assert host.certhooks("reconcile") == Done(0, "", "")
        assert "would run" in host.certhooks("reconcile", "--dry-run").out
    assert host.runs("fw") == 0


def test_without_certmonger_files_are_enough(host: Host) -> None:
    """A host whose certificates an ACME client renews has no certmonger to miss; one that knows nothing has."""
    assert [finding["kind"] for finding in host.status()["findings"]] == ["certmonger"]
    assert host.certhooks("reconcile").code == 11
    host.device("fw", pushed=True)
    assert host.status()["level"] == "ok"
    places = installers.plan("esxi_instcert", words := ["--csr", "localhost:1"]).places
    record = Journal(host.state).record(places[0].target)
    record.end(record.begin(Attempt("ab" * 32, command=["esxi_instcert", *words])), DONE)
    assert host.placement("localhost:1")["findings"][0]["kind"] == "silent"
    assert host.status()["findings"] == [], "a device that makes its own key is none of certmonger's"


def test_status_makes_nothing(host: Host) -> None:
    """Neither its folder nor that of any command."""
    host.status()
    assert sorted(path.name for path in host.folder.iterdir()) == ["log"]


@pytest.mark.parametrize(
    "words",
    [
        ["--frob"],
        ["--warning", "soon"],
        ["--state-dir"],
        ["--html", "/nonexistent/x"],
    ],
    ids=" ".join,
)
def test_what_a_monitor_cannot_be_told_is_unknown(host: Host, words: list[str]) -> None:
    """Wrong words and files that cannot be used end with Nagios's 3, not with a number that means something else."""
    done = host.certhooks("status", *words)
    assert done.code == 3
    assert done.err.startswith("certhooks: error: ")


def test_a_state_folder_that_is_not_ours(host: Host) -> None:
    """A monitor sees one line that says so; nothing is run by what is in it."""
    host.device("fw")
    host.state.chmod(0o755)
    done = host.certhooks("status")
    assert done.code == 3
    assert done.out.startswith(f"certhooks UNKNOWN - the state folder {host.state} is open to others")
    assert host.certhooks("reconcile").code == StateError.exit_code
    assert host.runs("fw") == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_status_as_another_user(host: Host) -> None:
    """Who may not read the journal is told to be root, with the number for unknown."""
    with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:  # unlike the test's own, open to all
        Path(folder).chmod(0o755)
        host.state = Path(folder) / "state"
        host.device("fw")
        host.own[1] = str(host.state)
        assert host.certhooks("status").code == 2
        os.seteuid(65534)
        try:
            done = host.certhooks("status")
        finally:
            os.seteuid(0)
    assert done.code == 3, done
    assert done.out.startswith("certhooks UNKNOWN - cannot use the state folder")
    assert "hint: run as root" in done.err


def test_forget(host: Host) -> None:
    """The named devices and no others, by label or target; a name that is not known changes nothing."""
    for name in ("aa", "bb", "cc"):
        host.device(name)
    done = host.certhooks("forget", "aa.example.com", "dd.example.com")
    assert (done.code, "nothing is known of 'dd.example.com'" in done.err) == (1, True)
    assert len(host.status()["watched"]) == 3
    first, second = (f"pan {name}.example.com {name}.example.com" for name in ("aa", "bb"))
    done = host.certhooks("forget", "aa.example.com", second)
    assert done == Done(0, f"aa.example.com: forgotten ({first})\n{second}: forgotten ({second})\n", "")
    assert [one["name"] for one in host.status()["watched"]] == ["cc.example.com"]


def test_hostile_texts_reach_every_form_of_output(host: Host) -> None:
    """Half letters, escapes and newlines in journals are shown harmlessly: table, JSON, page, metrics, reconcile."""
    odd = "a\ud800\x1b[31m\x00\nb<script>"
    host.device("fw", f"printf '%s' '{odd[2:]}' | tr -d '\\0'; exit 1".replace("\x00", ""), outcome=UNDONE, message=odd)
    for words in (["status"], ["status", "-v"], ["status", "--html", "page"], ["status", "--prometheus", "metrics"]):
        done = host.certhooks(*words)
        assert done.code == 2, done
        assert not {"\x1b", "\x00"} & set(done.out + done.err)
    assert "<script>" not in (host.folder / "page").read_text()
    assert host.placement("fw")["failure"]
    done = host.certhooks("reconcile")
    assert done.code == 1
    assert "\x1b" not in done.err


def test_what_is_no_file_is_written_into_and_not_replaced(host: Host) -> None:
    """A device, a pipe and a link stay what they are; a link's file is replaced whole."""
    host.device("fw01", pushed=True)
    pipe, link, page = host.folder / "pipe", host.folder / "link", host.folder / "page.html"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        assert host.certhooks("status", "--prometheus", str(pipe)).code == 0
        assert b"# HELP" in os.read(reader, 65536)
    finally:
        os.close(reader)
    assert pipe.is_fifo()
    page.write_text("old")
    link.symlink_to(page)
    assert host.certhooks("status", "--html", str(link)).code == 0
    assert link.is_symlink()
    assert "<html" in page.read_text()
    assert host.certhooks("status", "--html", os.devnull).code == 0
    assert Path(os.devnull).is_char_device()


def test_a_device_that_is_not_there_any_more_can_be_forgotten(host: Host) -> None:
    """A one-off push to a name that was mistyped is told with the command that drops it."""
    host.device("typo", outcome=UNDONE, message="cannot resolve typo.example.com")
    [finding] = [each for each in host.placement("typo")["findings"] if each["kind"] == "behind"]
    assert finding["hint"].endswith("certhooks forget typo.example.com")


@pytest.mark.parametrize("text", ["[mail]\nsevrer = x\n", "not an ini file", "[notify]\nwarning_days = soon\n"])
def test_settings_that_cannot_be_used_stop_nothing(host: Host, text: str) -> None:
    """A slip in the settings of mail hides no device and keeps nothing from being repaired; it is told each time."""
    home = host.device("fw", "exit 0")
    config = host.folder / "notify.conf"
    config.write_text(text)
    done = host.certhooks("status", "--json", "--config", str(config))
    assert done.code == LEVELS.index("critical")
    shown = json.loads(done.out)
    assert "settings" in [finding["kind"] for finding in shown["findings"]]
    assert [one["name"] for one in shown["watched"]] == ["fw.example.com"]
    reconciled = host.certhooks("reconcile", "--config", str(config))
    assert host.runs(home.name) == 1
    assert reconciled.code
    assert str(config) in reconciled.err


def test_messages_that_wait_are_a_warning(host: Host) -> None:
    """A mail path that is broken is seen by whoever looks, from a quarter of an hour on."""
    host.device("fw", pushed=True)
    old, new = time.time() - 3600, time.time()
    spool.Spool(host.state).add(
        messages.make(key, messages.FAILURE, "s", "b", at, host="h.test") for key, at in (("a.1", old), ("a.2", new))
    )
    [finding] = host.status()["findings"]
    assert (finding["level"], finding["kind"]) == ("warning", "messages")
    assert "wait to be delivered: 1, the oldest for 1.0 hours" in finding["text"]


def test_limits_in_the_wrong_order_are_refused(host: Host) -> None:
    """Critical before warning would be a warning that never comes."""
    done = host.certhooks("status", "--warning", "5", "--critical", "10")
    assert (done.code, "critical (10 days" in done.err) == (3, True)


@pytest.mark.skipif(os.geteuid() != 0, reason="not root")
def test_a_folder_of_another_user_is_no_empty_one(tmp_path: Path) -> None:
    """Whoever may not look into the state folder is told so, and not that nothing is there."""
    state = tmp_path / "state"
    Journal(state)
    tmp_path.chmod(0o711)
    for only_look in (False, True):
        pid = os.fork()
        if pid == 0:
            os.setgid(65534)
            os.setuid(65534)
            try:
                Journal(state, only_look=only_look)
            except StateError:
                os._exit(0)
            os._exit(1)
        assert os.waitpid(pid, 0)[1] == 0
