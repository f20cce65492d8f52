"""Commands of others: bounded in time and output, with nothing left behind."""

from __future__ import annotations

import os
import sys
import threading
import time
from typing import TYPE_CHECKING

import pytest

from certhooks import child, signing
from certhooks.deadline import Deadline
from certhooks.errors import DeadlineError, UsageError

if TYPE_CHECKING:
    from pathlib import Path


def test_what_it_is_given_and_prints() -> None:
    """Standard input, output and exit status; a command need not read."""
    assert child.run(["/bin/cat"], Deadline(5), given=b"text") == (0, b"text")
    assert child.run(["/bin/sh", "-c", "echo no; exit 3"], Deadline(5), given=b"x" * 50_000) == (3, b"no\n")
    with pytest.raises(ValueError, match="standard input"):
        child.run(["/bin/cat"], Deadline(5), given=b"x" * (child.MOST_GIVEN + 1))


def test_an_endless_output_is_cut() -> None:
    """One byte more than was asked for tells it; the command is ended, and nothing is kept in memory."""
    began = time.monotonic()
    done = child.run(["/usr/bin/yes"], Deadline(20), most=100_000)
    assert len(done.out) == 100_001
    assert done.code == -9
    assert time.monotonic() - began < 5


@pytest.mark.parametrize("interrupt", [True, False])
def test_what_it_has_started_ends_with_it(tmp_path: Path, *, interrupt: bool) -> None:
    """At the deadline, or once the run is interrupted, the command and its children are gone, and the pipe is free."""
    note = tmp_path / "pid"
    deadline = Deadline(60 if interrupt else 1.0)
    if interrupt:
        threading.Timer(0.7, deadline.interrupt).start()
    began = time.monotonic()
    with pytest.raises(DeadlineError):
        child.run(["/bin/sh", "-c", f"sleep 50 & echo $! >{note}; wait"], deadline)
    assert time.monotonic() - began < 5
    for _ in range(100):
        try:
            os.kill(int(note.read_text()), 0)
        except ProcessLookupError:
            return
        time.sleep(0.02)
    raise AssertionError("the child of the command lives")


def test_a_command_that_closes_its_output_is_waited_for() -> None:
    """The end of the output is not the end of the command: its status counts."""
    code = "import os, time; os.close(1); time.sleep(0.5); os._exit(7)"
    assert child.run([sys.executable, "-c", code], Deadline(10)).code == 7


def test_a_quote_that_is_not_closed() -> None:
    """One line, before anything is run."""
    with pytest.raises(UsageError, match="cannot read the command"):
        signing.words("/bin/cat 'x")
