"""Machines of their own: what a test does there stays there, and what happens there is told here."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.lab import machine
from tests.lab.machine import machine_of_its_own

if TYPE_CHECKING:
    from collections.abc import Callable

_REPOSITORY = Path(__file__).parents[2]
_TRACE = Path("/etc/certhooks-test-trace")
FILE = """
import os, time
from pathlib import Path
import pytest
from tests.lab.machine import machine_of_its_own
pytestmark = machine_of_its_own("10.77.0.1 lab.example.test", hostname="lab.example.test")
TRACE = Path("/etc/certhooks-test-trace")
def test_first():
    assert os.uname().nodename == "lab.example.test"
    assert "10.77.0.1 lab.example.test" in Path("/etc/hosts").read_text()
    TRACE.touch()
@pytest.mark.parametrize("word", ["a b", "[c]", "-d"])
def test_same_machine(word):
    assert TRACE.exists()
def test_fails():
    print("what it printed")
    assert not TRACE.exists(), "as it should fail"
def test_skips():
    pytest.skip("for this reason")
def test_dies():
    os._exit(3)
def test_another_machine():
    assert not TRACE.exists()
"""
SLOW = """
import time
from tests.lab.machine import machine_of_its_own
@machine_of_its_own()
def test_long():
    time.sleep(600)
"""


@pytest.fixture
def pytest_on(tmp_path: Path) -> Callable[[str], subprocess.Popen[str]]:
    """Return a function that starts a pytest of its own on a file with this text."""

    def run(text: str) -> subprocess.Popen[str]:
        (tmp_path / "conftest.py").write_text('pytest_plugins = ["tests.lab.relay"]\n')
        (tmp_path / "test_there.py").write_text(text)
        env = {key: value for key, value in os.environ.items() if key != "CI"} | {"PYTHONPATH": str(_REPOSITORY)}
        return subprocess.Popen(
            [sys.executable, "-m", "pytest", "-q", "-ra", "-p", "no:cacheprovider", "--rootdir", ".", "test_there.py"],
            cwd=tmp_path,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    return run


@machine_of_its_own()
def test_nothing_is_there_but_loopback() -> None:
    """A machine of its own has a loopback device and nothing else, and what it writes below /etc stays there."""
    shown = subprocess.run(["ip", "-o", "link"], capture_output=True, text=True, check=True).stdout
    assert re.findall(r"^\d+: (\S+):", shown, re.MULTILINE) == ["lo"]
    _TRACE.touch()


def test_what_happens_there_is_told_here(pytest_on: Callable[[str], subprocess.Popen[str]]) -> None:
    """The tests of a file share one machine; a failure, a skip and the death of pytest are told, each of its test.

    After a death the rest runs on another machine. Nothing of what they wrote is on this one.
    """
    with pytest_on(FILE) as run:
        out, _ = run.communicate(timeout=60)
    assert "2 failed, 5 passed, 1 skipped" in out, out
    assert "as it should fail" in out
    assert "what it printed" in out
    assert re.search(r"SKIPPED .*for this reason", out)
    assert re.search(r"FAILED \S*test_dies - on a machine of its own: pytest ended with 3", out.replace("\n", " ")), out
    assert not _TRACE.exists()


def test_nothing_outlives_a_killed_pytest(pytest_on: Callable[[str], subprocess.Popen[str]]) -> None:
    """When the outer pytest is killed, everything on the machine is gone, and no mount is left."""
    before = Path("/proc/self/mountinfo").read_text()
    with pytest_on(SLOW) as run:
        inner = _child_running(run.pid, "tests.lab.machine")
        run.send_signal(signal.SIGKILL)
        run.communicate(timeout=20)
        until = time.monotonic() + 10
        while Path(f"/proc/{inner}").exists():
            assert time.monotonic() < until, "it lives on"
            time.sleep(0.02)
    assert Path("/proc/self/mountinfo").read_text() == before


def test_a_command_runs_on_a_machine_of_its_own(capfd: pytest.CaptureFixture[str]) -> None:
    """It has the names and paths of that machine and our output, and its exit status is ours."""
    if machine.lacking():
        pytest.skip(f"not here: {', '.join(machine.lacking())}")
    assert machine.run(["sh", "-c", "touch /usr/local/here; hostname; exit 7"], [], "a.test") == 7
    assert capfd.readouterr().out == "a.test\n"
    assert not Path("/usr/local/here").exists()


def _child_running(parent: int, word: str) -> int:
    """Return the first descendant of a process whose command has this word, once it runs Python."""
    until = time.monotonic() + 20
    while time.monotonic() < until:
        for child in _descendants(parent):
            try:
                argv = Path(f"/proc/{child}/cmdline").read_bytes().decode().split("\0")
            except OSError:
                continue  # it has ended meanwhile
            if argv[0] == sys.executable and word in argv:
                return child
        time.sleep(0.02)
    pytest.fail("it did not start")


def _descendants(parent: int) -> list[int]:
    try:
        children = [int(pid) for pid in Path(f"/proc/{parent}/task/{parent}/children").read_text().split()]
    except OSError:
        return []
    return [*children, *(pid for child in children for pid in _descendants(child))]
