"""What people see: a live line on a terminal, plain lines elsewhere, one line when they interrupt, help at no cost."""

from __future__ import annotations

import os
import pty
import re
import select
import shlex
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from certhooks.journal import Attempt, Journal
from certhooks_pan import getcert, instcert
from tests.lab.enrolled import NAME, sha256
from tests.lab.panos import Outcome
from tests.lab.site import Site, script

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from types import ModuleType

    from tests.lab.enrolled import EnrolledSite
    from tests.lab.panos import Firewall

DRAW = "\r\x1b[K"
COLOR = re.compile(r"\x1b\[\d+m")
SECONDS = 30


def on_a_terminal(argv: list[str], env: dict[str, str]) -> tuple[int, str]:
    """Run a command whose output and errors go to a terminal of 80 columns; return exit code and what was drawn."""
    ours, theirs = pty.openpty()
    try:
        with subprocess.Popen(argv, env=env, stdin=theirs, stdout=theirs, stderr=theirs, close_fds=True) as run:
            os.close(theirs)
            try:
                drawn = b"".join(_read(ours))
            finally:
                run.kill()
    finally:
        os.close(ours)
    return run.returncode, drawn.decode()


def _read(terminal: int) -> Iterator[bytes]:
    """Yield what is written to a terminal until its last writer has gone, which Linux tells by an I/O error."""
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        if select.select([terminal], [], [], 0.1)[0]:
            try:
                yield os.read(terminal, 65536)
            except OSError:
                return
    raise AssertionError(f"the command did not end within {SECONDS} s")


def left_on_screen(drawn: str) -> list[str]:
    """Return the lines that stay on a terminal after all drawing."""
    lines = [line.rstrip("\r").rpartition("\r")[2].removeprefix("\x1b[K") for line in drawn.split("\n")]
    return [COLOR.sub("", line) for line in lines if line]


def test_a_live_line_is_drawn_and_leaves_nothing(enrolled: EnrolledSite) -> None:
    """On a terminal progress is one line that is drawn over; at the end only the two results stand there."""
    fw = enrolled.firewall()
    fw.commit_seconds = 1.0
    argv = [script("pan_getcert"), *enrolled.getcert_argv("-c", NAME, "-p", "GP_PORTAL", fw)]
    code, drawn = on_a_terminal(argv, enrolled.env(TERM="xterm", COLUMNS="60"))
    assert code == 0, drawn
    live = [part.partition("\r")[0] for part in drawn.split(DRAW)[1:]]
    assert any("the CA" in line or "request" in line for line in live), drawn
    assert any(line.startswith(f"localhost:{fw.port}: activate") for line in live), drawn
    assert all(len(line.partition("\n")[0]) < 60 or "issued" in line for line in live), live
    issued, installed = left_on_screen(drawn)
    assert issued.startswith(f"{NAME}: issued by IPA")
    assert installed.startswith(f"localhost:{fw.port}: installed in")


@pytest.mark.parametrize(
    ("more", "colors"), [({"TERM": "xterm"}, 1), ({"TERM": "xterm", "NO_COLOR": "1"}, 0), ({"TERM": "dumb"}, 0)]
)
def test_colors_where_they_are_wanted(site: Site, more: dict[str, str], colors: int) -> None:
    """An error is coloured on a terminal; not with NO_COLOR, not on a dumb one. The words are the same."""
    argv = [script("pan_instcert"), *site.argv("-c", NAME, "localhost:1")]
    code, drawn = on_a_terminal(argv, {"PATH": "/usr/bin:/bin", **more})
    assert code == 10, drawn
    assert len(re.findall(r"\x1b\[31m", drawn)) == colors
    assert bool(COLOR.search(drawn)) is bool(colors)
    assert left_on_screen(drawn)[0].startswith("pan_instcert: error: ")
    if more["TERM"] == "dumb":
        assert "\x1b" not in drawn


def test_piped_it_is_plain(enrolled: EnrolledSite) -> None:
    """Where nobody looks there is no escape sequence: results alone, and with -v a plain line for each step."""
    fw = enrolled.firewall()
    quiet = enrolled.getcert("-c", NAME, "-p", "GP_PORTAL", fw, env=enrolled.env(TERM="xterm"))
    assert (quiet.code, quiet.err) == (0, ""), quiet
    told = enrolled.getcert("-v", "-c", NAME, "-p", "GP_PORTAL", fw, env=enrolled.env(TERM="xterm"))
    assert told.code == 0, told
    assert "waiting for the install\n" in told.err
    assert not {"\x1b", "\r"} & set(quiet.out + told.out + told.err)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """Provide a host without certmonger."""
    with Site(tmp_path) as made:
        made.panrc.touch(mode=0o600)
        yield made


def interrupted(site: Site, fw: Firewall, *how: signal.Signals) -> tuple[int, str]:
    """Start a push, send signals while the firewall commits, and return how it ended and what it said."""
    argv = [script("pan_instcert"), *site.argv("-c", NAME, "-p", "GP_PORTAL", fw)]
    with subprocess.Popen(argv, env={}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as run:
        try:
            end = time.monotonic() + SECONDS
            while not any(job.kind == "Commit" for job in fw.jobs.values()):
                assert run.poll() is None, run.communicate()
                assert time.monotonic() < end, "no commit has begun"
                time.sleep(0.01)
            run.send_signal(how[0])
            for each in how[1:]:
                while last_attempt(site).steps[-1]["step"] != "rollback":
                    assert time.monotonic() < end, "it does not take its changes back"
                    time.sleep(0.01)
                run.send_signal(each)
            out, err = run.communicate(timeout=SECONDS)
        finally:
            run.kill()
    assert out == ""
    return run.returncode, err


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_interrupted_in_mid_commit(site: Site, how: signal.Signals) -> None:
    """What became of the device, a hint and the shell's exit code for the signal; the commit is waited for and undone.

    The journal tells so, the old certificate is in use, nothing stays pending, and the next run ends it well.
    """
    fw = site.firewall()
    new = site.certificate()
    fw.next_commits.append(Outcome(seconds=2))
    code, err = interrupted(site, fw, how)
    assert code == 128 + how, err
    at_once, first, *_, last, hint = err.splitlines()
    assert at_once.startswith("pan_instcert: warning: interrupted: taking back what was begun")
    assert "the previous certificate is back in place" in first
    assert last == "pan_instcert: error: interrupted"
    assert hint == "pan_instcert: hint: run the same command again; it goes on from where it was"
    assert fw.profile_certificate("GP_PORTAL") == "old"
    assert not fw.pending_of("certhooks")
    attempt = last_attempt(site)
    assert (attempt.outcome, [step["step"] for step in attempt.steps]) == (
        "undone",
        ["install", "activate", "rollback"],
    )
    assert "the previous certificate is back in place" in attempt.message
    again = site.instcert_process("-c", NAME, "-p", "GP_PORTAL", fw)
    assert again.code == 0, again
    held = fw.certificate(NAME, running=True)
    assert held is not None
    assert sha256(held) == new.sha256
    assert last_attempt(site).outcome == "done"


@pytest.mark.parametrize(
    ("again", "code", "lines"), [(signal.SIGINT, 130, 3), (signal.SIGTERM, 143, 3), (signal.SIGKILL, -9, 1)]
)
def test_interrupted_again_it_leaves_at_once(site: Site, again: signal.Signals, code: int, lines: int) -> None:
    """A second signal is not kept waiting by a commit that does not end; the journal says that something is left.

    Nothing but a warning, error and hint is written, and when the commit is over the next run ends it well.
    """
    fw = site.firewall()
    site.certificate()
    fw.next_commits.append(Outcome(never_ends=True))
    ended, err = interrupted(site, fw, signal.SIGINT, again)
    assert (ended, len(err.splitlines())) == (code, lines), err
    assert (last_attempt(site).outcome, bool(last_attempt(site).touches)) == ("running", True)
    for job in fw.jobs.values():
        job.never_ends, job.seconds = False, 0
    done = site.instcert("-c", NAME, "-p", "GP_PORTAL", fw)
    assert done.code == 0, done
    assert fw.profile_certificate("GP_PORTAL") == NAME
    assert last_attempt(site).outcome == "unchanged", "the device has ended the commit by itself"


def last_attempt(site: Site) -> Attempt:
    """Return the newest attempt in the site's one record."""
    [record] = Journal(site.state).records()
    assert record.last is not None
    return record.last


@pytest.mark.parametrize("command", ["getcert", "instcert"])
def test_help_costs_nothing(command: str) -> None:
    """--help loads neither ssl nor cryptography, jeepney or pan-python, and --version none but what it names."""
    code = (
        "import sys\n"
        f"from certhooks_pan import {command} as hook\n"
        "try:\n    hook.main(['--help'])\nexcept SystemExit as e:\n    code = e.code\n"
        "print(code, sorted({name.partition('.')[0] for name in sys.modules} & "
        "{'ssl', 'cryptography', 'jeepney', 'pan', 'http', 'logging', 'asyncio', 'subprocess'}))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=SECONDS, check=True)
    assert done.stdout.splitlines()[-1] == "0 []", done
    assert "exit status:" in done.stdout


@pytest.mark.parametrize("hook", [getcert, instcert])
def test_the_examples_of_the_help_make_sense(hook: ModuleType) -> None:
    """Every example of --help is a command line that the parser takes and that asks for something possible."""
    parser = hook.parser()
    examples = [
        shlex.split(line) for line in (parser.epilog or "").splitlines() if line.strip().startswith(parser.prog)
    ]
    assert len(examples) >= 3
    for words in examples:
        args = parser.parse_args(words[1:])
        assert instcert.wish(args).name
