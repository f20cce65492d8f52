"""The shared command line: errors as lines, exit codes, the screen, the log, and descriptors that certmonger closed."""

from __future__ import annotations

import io
import json
import logging
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from certhooks import cli, log
from certhooks.deadline import Deadline, growing
from certhooks.deploy import Result
from certhooks.errors import DeadlineError, Error, UsageError
from certhooks.secrets import Secret

if TYPE_CHECKING:
    import argparse
    from pathlib import Path


class Terminal(io.StringIO):
    """Text that claims to go to a terminal."""

    def isatty(self) -> bool:
        return True


def run(function: Any, argv: list[str], tmp_path: Path) -> int:
    """Run a command that has the shared options only."""
    return cli.run(
        "toy", function, lambda: cli.parser("toy", "x", examples=""), ["--log-file", str(tmp_path / "l"), *argv]
    )


def fail(error: BaseException) -> Any:
    """Return a command that raises."""

    def function(_args: argparse.Namespace, _screen: cli.Screen) -> int:
        raise error

    return function


def test_an_error_becomes_two_lines_and_its_exit_code(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """``name: error: ...`` and ``name: hint: ...`` on standard error, nothing on standard output, a line in the log."""
    code = run(fail(UsageError("no such thing", hint="try another")), [], tmp_path)
    out, err = capsys.readouterr()
    assert (code, out) == (1, "")
    assert err == "toy: error: no such thing\ntoy: hint: try another\n"
    assert "no such thing" in (tmp_path / "l").read_text()


def test_a_fault_is_one_line_without_a_traceback(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 70; the exception's own text, which may hold anything, is shown neither here nor in the log."""
    code = run(fail(RuntimeError("hunter2")), [], tmp_path)
    _, err = capsys.readouterr()
    assert code == 70
    assert "Traceback" not in err
    assert "hunter2" not in err + (tmp_path / "l").read_text()
    assert "RuntimeError at function:" in (tmp_path / "l").read_text()


@pytest.mark.parametrize("argv", [["--nonsense"], ["--vers"], ["-x"], ["word"]])
def test_unknown_arguments_are_usage_errors(
    argv: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 1 and not argparse's 2, which means a bad name here; abbreviations are not guessed."""
    assert run(fail(AssertionError()), argv, tmp_path) == 1
    assert capsys.readouterr().err.startswith("toy: error: ")


def test_a_closed_pipe_is_no_failure(tmp_path: Path) -> None:
    """``pan_instcert ... | head -1`` ends quietly."""
    code = f"""import sys
from certhooks import cli
def f(args, screen):
    for _ in range(5000):
        screen.say('x' * 100)
    return 0
words = ['--log-file', {str(tmp_path / "l")!r}]
cli.entry(lambda: cli.run('toy', f, lambda: cli.parser('toy', 'x', examples=''), words))"""
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout
    assert process.stderr
    process.stdout.readline()
    process.stdout.close()
    assert process.wait(20) == 0
    assert process.stderr.read() == b""
    process.stderr.close()


def test_a_terminal_gets_one_live_line_and_a_pipe_gets_none() -> None:
    """Progress is drawn over itself on a terminal and erased before a result; elsewhere only -v shows it."""
    out, err = Terminal(), Terminal()
    screen = cli.Screen("toy", out=out, err=err)
    screen.tell("fw01", "importing")
    screen.say("done")
    assert err.getvalue() == "\r\033[Kfw01: importing\r\033[K"
    assert out.getvalue() == "done\n"
    quiet, loud = io.StringIO(), io.StringIO()
    cli.Screen("toy", err=quiet).tell("fw01", "importing")
    cli.Screen("toy", 1, err=loud).tell("fw01", "importing")
    assert (quiet.getvalue(), loud.getvalue()) == ("", "fw01: importing\n")


def test_colours_only_where_they_are_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    """A terminal without NO_COLOR gets them; NO_COLOR and pipes do not."""
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    coloured, plain, piped = Terminal(), Terminal(), io.StringIO()
    cli.Screen("toy", err=coloured).error(Error("x"))
    monkeypatch.setenv("NO_COLOR", "1")
    cli.Screen("toy", err=plain).error(Error("x"))
    cli.Screen("toy", err=piped).error(Error("x"))
    assert "\033[31m" in coloured.getvalue()
    assert plain.getvalue() == piped.getvalue() == "toy: error: x\n"


def test_what_a_device_says_cannot_drive_the_terminal() -> None:
    """Escape sequences and carriage returns in a message are made harmless, and it stays one line."""
    Secret("swordfish")
    err = io.StringIO()
    screen = cli.Screen("toy", err=err)
    screen.error(Error("evil \033[2J\r\x07 swordfish\nsecond line"))
    assert err.getvalue().startswith("toy: error: evil ")
    assert err.getvalue()[:-1].isprintable()
    assert "swordfish" not in err.getvalue()


def test_results_are_reported_one_a_target(capsys: pytest.CaptureFixture[str]) -> None:
    """Good ones on standard output, failures with hint on standard error, a count, the first failure's exit code."""
    results = [
        Result("pan a", "a", "done", 0, "installed"),
        Result("pan b", "b", "failed", 13, "commit failed", "mend it", warnings=["odd"]),
        Result("pan c", "c", "failed", 4, "down"),
    ]
    code = cli.report(cli.Screen("toy"), results, as_json=False)
    out, err = capsys.readouterr()
    assert code == 13
    assert out == "a: installed\n1 of 3 done, 2 failed\n"
    assert err.splitlines() == [
        "toy: warning: b: odd",
        "toy: error: b: commit failed",
        "toy: hint: mend it",
        "toy: error: c: down",
    ]


def test_json_is_one_object_a_target(capsys: pytest.CaptureFixture[str]) -> None:
    """A machine reads standard output line by line, failures included."""
    results = [Result("pan a", "a", "done", 0, "installed"), Result("pan b", "b", "failed", 4, "down")]
    assert cli.report(cli.Screen("toy"), results, as_json=True) == 4
    first, second = map(json.loads, capsys.readouterr().out.splitlines())
    assert (first["device"], first["outcome"], first["exit_code"]) == ("a", "done", 0)
    assert (second["device"], second["exit_code"], second["message"]) == ("b", 4, "down")


@pytest.mark.parametrize("value", ["0", "-1", "nan", "inf", "1e9", "x", ""])
def test_a_timeout_is_a_sensible_number(value: str) -> None:
    """More than nothing, a day at most."""
    made = cli.parser("toy", "x", examples="")
    cli.add_push_options(made)
    with pytest.raises(UsageError):
        made.parse_args(["--timeout", value])
    with pytest.raises(UsageError):
        made.parse_args(["--jobs", value])


def test_help_imports_nothing_heavy() -> None:
    """--help of each command loads no TLS, no cryptography, no D-Bus, no pan-python and no logging."""
    code = """import sys
from {0} import main
try:
    main(['--help'])
except SystemExit:
    print(*sys.modules, file=sys.stderr)"""
    hooks = {"certhooks_pan": ("instcert", "getcert"), "certhooks_vcenter": ("instcert", "getcert", "esxi_instcert")}
    for module in (f"{hook}.{name}" for hook, names in hooks.items() for name in names):
        done = subprocess.run(
            [sys.executable, "-I", "-c", code.format(module)], capture_output=True, text=True, check=True
        )
        assert "exit status:" in done.stdout
        heavy = {
            "ssl",
            "cryptography",
            "jeepney",
            "pan",
            "pan.xapi",
            "pyVmomi",
            "logging",
            "socket",
            "xml.etree.ElementTree",
        }
        assert heavy.isdisjoint(done.stderr.split())


def test_closed_descriptors_are_opened_before_anything_else(tmp_path: Path) -> None:
    """Certmonger closes 0, 1 and 2: afterwards they lead to /dev/null, and no later file gets their numbers."""
    code = (
        "import os, sys\nfrom certhooks import cli\n"
        "def main():\n"
        "  print('lost'); sys.stderr.write('lost')\n"
        f"  fd = os.open({str(tmp_path / 'f')!r}, os.O_CREAT | os.O_WRONLY, 0o600)\n"
        "  os.write(fd, ' '.join([os.readlink(f'/proc/self/fd/{n}') for n in range(3)] + [str(fd)]).encode())\n"
        "  return 5\n"
        "cli.entry(main)"
    )
    shell = f'exec 0<&- 1>&- 2>&-; exec {sys.executable} -I -c "$0"'
    done = subprocess.run(["/bin/sh", "-c", shell, code], check=False)
    *descriptors, number = (tmp_path / "f").read_text().split()
    assert done.returncode == 5
    assert descriptors == ["/dev/null"] * 3
    assert int(number) > 2


def test_the_log_is_one_safe_line_a_record(tmp_path: Path) -> None:
    """0600, time and process, no secret, no control character, bounded length."""
    Secret("swordfish")
    path = tmp_path / "log"
    log.start("toy", path)
    logging.getLogger("certhooks.x").info("a\nb \033[0m swordfish %s", "y" * 5000)
    (line,) = path.read_text().splitlines()
    assert f"toy[{os.getpid()}] info: a | b ?[0m *** yyy" in line
    assert len(line) < 2200
    assert path.stat().st_mode & 0o777 == 0o600


def test_the_log_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At its limit it becomes ``.1`` and begins anew: never more than twice the limit on disk."""
    monkeypatch.setattr(log, "_MAX_FILE", 2000)
    path = tmp_path / "log"
    log.start("toy", path)
    for number in range(200):
        logging.getLogger("certhooks").info("line %d", number)
    assert sum(each.stat().st_size for each in tmp_path.iterdir()) < 4500
    assert sorted(each.name for each in tmp_path.iterdir()) == ["log", "log.1"]
    assert "line 199" in path.read_text() + path.with_name("log.1").read_text()


def test_a_log_that_cannot_be_written_stops_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A file named by the user that cannot be written is a warning; syslog has the lines all the same."""
    log.start("toy", tmp_path / "missing" / "log")
    logging.getLogger("certhooks").info("goes on")
    assert "warning: cannot write" in capsys.readouterr().err


def test_a_deadline_ends_waits() -> None:
    """It counts down, shortens the last pause, ends parts with the whole, and names what did not end."""
    now = [0.0]
    slept: list[float] = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        now[0] += seconds

    deadline = Deadline(10, clock=lambda: now[0], sleep=sleep)
    deadline.pause(4)
    assert (deadline.remaining(), deadline.elapsed()) == (6, 4)
    part = deadline.within(100)
    assert part.remaining() == 6
    deadline.pause(100)
    assert slept == [4, 6]
    for each in (deadline, part):
        with pytest.raises(DeadlineError, match="the commit did not end within"):
            each.check("the commit")
    with pytest.raises(DeadlineError):
        deadline.pause(1)


def test_an_interrupt_ends_a_deadline_and_its_parts() -> None:
    """Whoever sleeps wakes up, and every later check fails."""
    deadline = Deadline(60)
    part = deadline.within(30)
    deadline.interrupt()
    for each in (deadline, part):
        assert each.remaining() == 0
        with pytest.raises(DeadlineError, match="interrupted"):
            each.pause(30)


def test_pauses_grow_to_their_limit() -> None:
    """No fixed sleeps: short at first, bounded later."""
    pauses = growing(0.5, 2, 2)
    assert [next(pauses) for _ in range(5)] == [0.5, 1, 2, 2, 2]
