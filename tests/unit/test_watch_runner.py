"""Install commands as reconcile starts them: whatever they do, they end, and what is kept of them is small."""

from __future__ import annotations

import os
import pwd
import signal
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from certhooks.secrets import conceal
from certhooks.watch import runner
from certhooks.watch.runner import Ended, Runner

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator

QUICK = 5.0  # seconds in which all here ends that ends by itself


def sh(text: str, **settings: object) -> Ended:
    """Run a line of shell as a stored command."""
    return Runner().run(["/bin/sh", "-c", text], **{"seconds": 30.0, **settings})  # type: ignore[arg-type]


@contextmanager
def within(seconds: float) -> Iterator[None]:
    """Fail if it takes longer."""
    began = time.monotonic()
    yield
    assert time.monotonic() - began < seconds


def gone(note: Path) -> bool:
    """Tell whether the process ends soon whose number a command has written down."""
    for _ in range(200):
        try:
            if "\nState:\tZ" in Path(f"/proc/{int(note.read_text())}/status").read_text():
                return True
        except FileNotFoundError:
            return True
        time.sleep(0.02)
    return False


def test_it_is_started_as_certmonger_starts_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No terminal, no input, a session of its own, files for nobody else, and nothing of our own environment."""
    monkeypatch.setenv("CERTHOOKS_TEST", "ours")
    monkeypatch.setenv("LANG", "C.UTF-8")
    ended = sh("env; umask; pwd; cat; ps -o sid= -p $$ | tr -d ' ' | sed s/^$$\\$/own/", cwd=str(tmp_path))
    env = dict(line.split("=", 1) for line in ended.lines if "=" in line)
    assert ended.lines[-3:] == ("0077", str(tmp_path), "own")
    assert "CERTHOOKS_TEST" not in env
    assert (env["LANG"], env["HOME"]) == ("C.UTF-8", "/")
    assert env["PATH"].startswith("/usr/local/sbin:")


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("echo 'x: error: no connection'; echo 'x: hint: wait'; exit 4", "no connection"),
        ("echo 'x: error: first'; echo 'x: error: second'; exit 4", "second"),
        ("echo one; echo two; exit 3", "exit status 3: two"),
        ("exit 3", "exit status 3: it said nothing"),
        ("kill -9 $$", "exit status -9: it said nothing"),
        ("printf 'a\\033[31mb\\000c\\377\\n'; exit 1", "exit status 1: a [31mb c\N{REPLACEMENT CHARACTER}"),
    ],
)
def test_what_it_said_last_of_an_error_is_told(text: str, error: str) -> None:
    """Our own commands' error line, else the last line and the status; nothing that a terminal would obey."""
    assert sh(text).error == error


def test_no_secret_is_kept(request: pytest.FixtureRequest) -> None:
    """What is known to be secret is taken out of what a command prints."""
    conceal(secret := f"secret-of-{request.node.name}")
    assert sh(f"echo {secret}; exit 1").error == "exit status 1: ***"


def test_a_gigabyte_is_read_and_its_end_kept() -> None:
    """Output without end or line ends is no reason to wait or to grow: the last lines count, each of them short."""
    with within(60):
        ended = sh("head -c 1000000000 /dev/zero; for i in 1 2 3; do echo; head -c 2000 /dev/zero | tr '\\0' x; done")
    assert ended.code == 0
    assert [len(line) for line in ended.lines] == [500, 500, 500]
    assert len(sh("seq 100000").lines) == 20


def test_what_is_still_in_the_pipe_at_its_end_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """All that it had printed by its end is there, however quick it was."""

    def once_it_has_ended(process: subprocess.Popen[bytes]) -> bool:
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        return True

    monkeypatch.setattr(runner, "_has_ended", once_it_has_ended)
    assert sh("seq 9000; echo last").lines[-2:] == ("9000", "last")


@pytest.mark.parametrize("detached", ["", "setsid "])
def test_a_child_that_holds_the_pipe_is_not_waited_for(tmp_path: Path, detached: str) -> None:
    """A command has ended when it has ended; what it left in its session ends with it, a daemon of its own lives on."""
    note = tmp_path / "pid"
    with within(QUICK):
        ended = sh(f"{detached}sh -c 'echo $$ >{note}; exec sleep 60' & while ! test -s {note}; do :; done; echo done")
    assert (ended.code, ended.lines) == (0, ("done",))
    assert not ended.late
    if not detached:
        assert gone(note)
    else:
        os.kill(int(note.read_text()), signal.SIGKILL)


def test_a_command_that_closes_its_output_is_waited_for() -> None:
    """The end of the output is not the end of the command, and no reason to look for that all the time."""
    began = time.process_time()
    assert sh("exec >&- 2>&-; sleep 1; exit 7").code == 7
    assert time.process_time() - began < 0.3


def test_a_command_that_takes_too_long_is_asked_to_end() -> None:
    """At its deadline it gets SIGTERM, and may take back what it began."""
    with within(QUICK):
        ended = sh("trap 'echo taking back; exit 16' TERM; while :; do sleep 0.1; done", seconds=0.5)
    assert (ended.code, ended.late) == (16, True)
    assert ended.error == "it did not end in time and was stopped: taking back"


def test_a_command_that_does_not_heed_that_is_killed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """After a while SIGKILL ends it, and what it has started."""
    monkeypatch.setattr(runner, "_DIES_WITHIN", 0.5)
    note = tmp_path / "pid"
    with within(QUICK):
        ended = sh(f"trap '' TERM; sleep 60 & echo $! >{note}; while :; do sleep 0.1; done", seconds=0.5)
    assert (ended.code, ended.late) == (-9, True)
    assert gone(note)


def test_all_are_ended_and_none_is_started_afterwards(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An interrupt asks every command to end, kills those that do not heed it in time, and starts no other."""
    monkeypatch.setattr(runner, "_DIES_WITHIN", 1.0)
    made = Runner()
    ended: list[Ended] = []

    def run(note: str, text: str) -> None:
        script = f"{text}; touch {tmp_path}/{note}; while :; do sleep 0.1; done"
        ended.append(made.run(["/bin/sh", "-c", script], seconds=60))

    texts = {"polite": "trap 'exit 143' TERM", "deaf": "trap '' TERM"}
    threads = [threading.Thread(target=run, args=each) for each in texts.items()]
    for thread in threads:
        thread.start()
    while len(list(tmp_path.iterdir())) < len(threads):
        time.sleep(0.02)
    with within(QUICK):
        made.end_all()
        for thread in threads:
            thread.join()
    assert sorted(each.code for each in ended) == [-9, 143]
    assert not any(each.late for each in ended), "that was not its fault"
    assert made.run(["/bin/true"], seconds=5).error == "exit status 127: it cannot be started: /bin/true: interrupted"


@pytest.mark.parametrize(
    ("command", "settings", "error"),
    [
        (["/nonexistent/pan_instcert"], {}, "/nonexistent/pan_instcert: no such file or directory"),
        (["/etc/passwd"], {}, "/etc/passwd: permission denied"),
        (["/bin/true", "a\0b"], {}, "/bin/true: embedded null byte"),
        (["/bin/true", "\ud800"], {}, "/bin/true: 'utf-8' codec can't encode character"),
        (["/bin/true", "x" * 3_000_000], {}, "argument list too long"),
        (["/bin/true"], {"cwd": "/nonexistent"}, "/nonexistent: no such file or directory"),
        (["/bin/true"], {"cwd": "a\0b"}, "/bin/true: embedded null byte"),
        (["/bin/true"], {"uid": "no-such-user"}, "/bin/true: "),
        (["/bin/true"], {"uid": "9" * 30}, "/bin/true: "),
        (["/bin/true"], {"uid": "9" * 9000}, "/bin/true: "),
        (["/bin/true"], {"uid": "a\0b"}, "/bin/true: "),
    ],
)
def test_what_cannot_be_started_is_told(command: list[str], settings: dict[str, str], error: str) -> None:
    """A command, a folder or a user that is not there is a failure like any other, with the name of what is missing."""
    ended = Runner().run(command, seconds=5, **settings)
    assert ended.code == 127
    assert "it cannot be started: " in ended.error
    assert error in ended.error


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
@pytest.mark.parametrize("uid", ["nobody", "65534"])
def test_it_runs_as_who_has_set_it(uid: str) -> None:
    """User, groups and home are those of the post-save command's user, by name or number."""
    home, groups = pwd.getpwnam("nobody").pw_dir, os.getgroups()
    os.setgroups([54321])
    try:
        assert sh("id -un; id -u; id -G; echo $HOME", uid=uid).lines == ("nobody", "65534", "65534", home)
    finally:
        os.setgroups(groups)


def test_no_descriptor_of_ours_is_passed_on() -> None:
    """A lock that is held here is not held by what a command leaves behind."""
    read, write = os.pipe()
    os.set_inheritable(write, True)  # noqa: FBT003  its only form
    try:
        assert sh("ls /proc/self/fd").lines == ("0", "1", "2", "3")
    finally:
        os.close(read)
        os.close(write)
