"""What takes messages to people."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import threading
from contextlib import suppress
from typing import IO, TYPE_CHECKING, ClassVar, Protocol

from certhooks.child import kill_all
from certhooks.errors import DeadlineError, UploadRefusedError, UsageError
from certhooks.watch.message import line

if TYPE_CHECKING:
    from certhooks.deadline import Deadline
    from certhooks.watch.message import Message

COMMAND_SECONDS = 30.0
_KEPT = 2000  # bytes of what a command prints


class Channel(Protocol):
    """A way to people, with a name that stays."""

    @property
    def name(self) -> str:
        """The name that the queue knows it by."""

    def send(self, message: Message, deadline: Deadline) -> None:
        """Return when the message was taken; raises an Error when it was not, or may not have been."""


class NotTakenError(UploadRefusedError):
    """A mail server or a command did not take a message; it may later."""

    permanent: ClassVar[bool] = False


class RefusedError(NotTakenError):
    """One message was refused for good; others may be taken."""

    permanent: ClassVar[bool] = True


class Command:
    """A command that gets each message as JSON on standard input; exit status 0 means that it was taken.

    No shell reads it, and it has 30 seconds. What it prints to standard error is quoted where it fails.
    """

    name = "command"

    def __init__(self, words: tuple[str, ...]) -> None:
        self._words = words

    def send(self, message: Message, deadline: Deadline) -> None:
        """Run it.

        Raises:
            UsageError: it cannot be started. NotTakenError: it failed. DeadlineError: it was killed with all that it
            has started.
        """
        shown = f"the notify command {line(self._words[0], 100)}"
        by_hand = f"run it by hand: certhooks notify --test, or {shlex.join(self._words)[:300]} </dev/null"
        seconds = min(COMMAND_SECONDS, max(deadline.remaining(), 0.1))
        # In memory and complete: a command that does not read cannot hold us up, and no disk is needed.
        fd = os.memfd_create("certhooks-message")
        try:
            os.write(fd, json.dumps(message.as_dict()).encode() + b"\n")
            os.lseek(fd, 0, os.SEEK_SET)
            process = subprocess.Popen(
                self._words,
                stdin=fd,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                start_new_session=True,
                cwd="/",
            )
        except (OSError, ValueError) as e:
            reason = getattr(e, "strerror", None) or str(e)
            raise UsageError(f"{shown} cannot be run: {reason.lower()}", hint="see [command] in notify.conf") from None
        finally:
            os.close(fd)
        assert process.stderr  # noqa: S101  it was asked for
        said = _Said(process.stderr)
        try:
            status = process.wait(seconds)
        except subprocess.TimeoutExpired:
            _kill(process)
            raise DeadlineError(f"{shown} took longer than {seconds:.0f} s and was killed", hint=by_hand) from None
        except BaseException:
            _kill(process)
            raise
        finally:
            text = said.text()
        if status:
            how = f"exit status {status}" if status > 0 else f"signal {-status}"
            raise NotTakenError(f"{shown} failed ({how})" + (f": {text}" if text else ""), hint=by_hand)


class _Said(threading.Thread):
    """Reads what a command prints to its end, and keeps the first of it."""

    def __init__(self, stream: IO[bytes]) -> None:
        super().__init__(daemon=True)
        self._stream = stream
        self._kept = b""
        self.start()

    def run(self) -> None:
        with self._stream, suppress(OSError, ValueError):
            while more := os.read(self._stream.fileno(), 65536):
                self._kept = (self._kept + more)[:_KEPT]

    def text(self) -> str:
        """Return it as one line; something that it left running in the background may keep it open."""
        self.join(0.5)
        return line(self._kept.decode(errors="replace"))


def _kill(process: subprocess.Popen[bytes]) -> None:
    kill_all(process)
    process.wait()
