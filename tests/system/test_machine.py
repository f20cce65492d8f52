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
    from collections.abc import Callable, Sequence

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
TRIVIAL = """
from tests.lab.machine import machine_of_its_own
@machine_of_its_own()
def test_it():
    pass
"""
SLOW = """
import time
from pathlib import Path
from tests.lab.machine import machine_of_its_own
@machine_of_its_own()
def test_long():
    Path({sign!r}).touch()
    time.sleep(600)
"""
AMONG_OTHERS = """
import pytest
from tests.lab.machine import machine_of_its_own
@pytest.fixture(scope="module", autouse=True)
def of_the_file():
    yield
    print("torn down")
def test_here():
    pass
@machine_of_its_own()
def test_there():
    pass
"""
HANGS = """
import time
import tests.lab.relay
from tests.lab.machine import machine_of_its_own
tests.lab.relay.SECONDS = 2.0
pytestmark = machine_of_its_own()
def test_hangs():
    time.sleep(600)
def test_goes_on():
    pass
"""


@pytest.fixture
def pytest_on(tmp_path: Path) -> Callable[..., subprocess.Popen[str]]:
    """Return a function that starts a pytest of its own on a file with this text; skips where that is not allowed."""
    if machine.lacking() and not os.environ.get("CI"):
        pytest.skip(f"not here: {', '.join(machine.lacking())}")

    def run(text: str, *, ci: str = "", more: Sequence[str] = ()) -> subprocess.Popen[str]:
        (tmp_path / "conftest.py").write_text('pytest_plugins = ["tests.lab.relay"]\n')
        (tmp_path / "test_there.py").write_text(text)
        env = {**os.environ, "PYTHONPATH": str(_REPOSITORY), "CI": ci}
        return subprocess.Popen(
            [
                sys.executable,
                "-m",
                "pytest",
                "-q",
                "-ra",
                "-p",
                "no:cacheprovider",
                "--rootdir",
                ".",
                "test_there.py",
                *more,
            ],
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


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_nothing_outlives_a_pytest_that_is_ended(
    pytest_on: Callable[[str], subprocess.Popen[str]], tmp_path: Path, how: signal.Signals
) -> None:
    """When the outer pytest is killed, or interrupted, in the middle of a test, all of the machine is gone with it.

    No process and no mount is left.
    """
    before, sign = Path("/proc/self/mountinfo").read_text(), tmp_path / "sign"
    with pytest_on(SLOW.format(sign=str(sign))) as run:
        wait_for(sign.exists)
        inside = [pid for pid in _descendants(run.pid) if pid != run.pid]
        assert len(inside) > 1, inside
        run.send_signal(how)
        run.communicate(timeout=20)
        wait_for(lambda: not any(Path(f"/proc/{pid}").exists() for pid in inside))
    assert Path("/proc/self/mountinfo").read_text() == before


def test_machines_stand_among_other_tests(pytest_on: Callable[..., subprocess.Popen[str]], tmp_path: Path) -> None:
    """A file with tests of both kinds, and another one after it: what the file had set up is torn down in between."""
    (tmp_path / "test_after.py").write_text("def test_elsewhere():\n    pass\n")
    with pytest_on(AMONG_OTHERS, more=["test_after.py"]) as run:
        out, _ = run.communicate(timeout=60)
    assert "3 passed" in out, out


def test_a_command_runs_on_a_machine_of_its_own(capfd: pytest.CaptureFixture[str]) -> None:
    """It has the names and paths of that machine and our output, and its exit status is ours."""
    if machine.lacking():
        pytest.skip(f"not here: {', '.join(machine.lacking())}")
    assert machine.run(["sh", "-c", "touch /usr/local/here; hostname; exit 7"], [], "a.test") == 7
    assert capfd.readouterr().out == "a.test\n"
    assert not Path("/usr/local/here").exists()


def test_a_test_that_hangs_is_ended(pytest_on: Callable[[str], subprocess.Popen[str]]) -> None:
    """A test without an end fails when its time is over, and the next ones run on another machine."""
    with pytest_on(HANGS) as run:
        out, _ = run.communicate(timeout=60)
    assert "1 failed, 1 passed" in out, out
    assert "no answer within 2 s" in out


def test_where_machines_are_not_allowed(
    pytest_on: Callable[..., subprocess.Popen[str]],
) -> None:
    """Without the right to make namespaces a test is skipped, and in CI it fails."""
    for ci, told in (("", "1 skipped"), ("true", "1 failed")):
        with pytest_on("import tests.lab.machine\ntests.lab.machine._refused = lambda: True\n" + TRIVIAL, ci=ci) as run:
            out, _ = run.communicate(timeout=60)
        assert told in out, out
        assert "the right to make namespaces" in out


def wait_for(what: Callable[[], object], seconds: float = 20.0) -> None:
    """Wait until something is so."""
    until = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < until, "it did not happen"
        time.sleep(0.02)


def _descendants(parent: int) -> list[int]:
    try:
        children = [int(pid) for pid in Path(f"/proc/{parent}/task/{parent}/children").read_text().split()]
    except OSError:
        return []
    return [*children, *(pid for child in children for pid in _descendants(child))]
