"""A command of somebody else's: no shell, bounded time and output, and nothing of it is left behind."""

from __future__ import annotations

import os
import selectors
import signal
import subprocess
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple, Optional

from certhooks.errors import DeadlineError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from certhooks.deadline import Deadline

MOST_GIVEN = 60 * 1024  # bytes that a pipe takes at once, so that nobody waits for a command that does not read
_CHUNK = 64 * 1024
_LOOK = 0.2  # seconds between two looks at the deadline, which an interrupt may end


class Printed(NamedTuple):
    """How a command ended; ``out`` has one byte more than ``most`` when it printed more than that and was stopped."""

    code: int
    out: bytes


def run(
    argv: Sequence[str],
    deadline: Deadline,
    *,
    given: bytes = b"",
    env: Optional[Mapping[str, str]] = None,
    most: int = 1024 * 1024,
) -> Printed:
    """Run a command, give it up to ``MOST_GIVEN`` bytes on standard input, and return what it prints.

    Raises:
        OSError, ValueError, IndexError: it cannot be started, or is given too much.
        DeadlineError: it was stopped at the deadline, with all that it has started.
    """
    if len(given) > MOST_GIVEN:
        raise ValueError(f"more than {MOST_GIVEN} bytes for its standard input")
    process = subprocess.Popen(
        argv,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=env,
        start_new_session=True,
    )
    with process:
        try:
            out = _talk(process, deadline, given, most)
            if len(out) > most:
                kill_all(process)
            while process.poll() is None:
                _in_time(deadline)
                with suppress(subprocess.TimeoutExpired):
                    process.wait(_LOOK)
        except BaseException:
            kill_all(process)
            raise
    return Printed(process.returncode, out)


def _talk(process: subprocess.Popen[bytes], deadline: Deadline, given: bytes, most: int) -> bytes:
    assert process.stdin and process.stdout  # noqa: S101, PT018  they were asked for
    with suppress(BrokenPipeError):  # a command need not read
        process.stdin.write(given)
        process.stdin.flush()
    with suppress(BrokenPipeError):
        process.stdin.close()
    out = bytearray()
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        while len(out) <= most:
            _in_time(deadline)
            if selector.select(_LOOK):
                chunk = os.read(process.stdout.fileno(), _CHUNK)
                if not chunk:
                    break
                out += chunk
    return bytes(out[: most + 1])


def _in_time(deadline: Deadline) -> None:
    if deadline.remaining() <= 0:
        raise DeadlineError("it did not end in time")


def kill_all(process: subprocess.Popen[bytes]) -> None:
    """Kill a command that leads a session of its own, and what it has started, which may hold its pipe open."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
