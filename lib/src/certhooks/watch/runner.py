"""A stored command run as certmonger runs it: no shell, no terminal, little environment, and an end."""

from __future__ import annotations

import os
import pwd
import selectors
import signal
import subprocess
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple

from certhooks.secrets import redact

if TYPE_CHECKING:
    from collections.abc import Sequence

_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_PASSED_ON = ("LANG", "LC_ALL", "TZ", "DBUS_SYSTEM_BUS_ADDRESS")
_KEPT = 16 * 1024  # bytes of the end of what it prints
_IN_A_PIPE = 1024 * 1024  # bytes that may still be there when the command has ended
_DIES_WITHIN = 330.0  # seconds after SIGTERM: our commands take back what they began
_LOOK, _LOOK_SOON = 0.2, 0.02  # seconds between two looks whether it has ended; soon, once it has closed its output
_LINES, _LONGEST = 20, 500  # of them, and characters in each
_NOT_STARTED = 127


class Ended(NamedTuple):
    """How a command ended: its exit code (negative for a signal) and the last lines of what it printed, redacted.

    ``told``: what is to be said of it in place of those lines.
    """

    code: int
    lines: tuple[str, ...] = ()
    late: bool = False
    told: str = ""

    @property
    def error(self) -> str:
        """What it said last of an error, in one line."""
        if self.told:
            return self.told
        said = [line.partition(": error: ")[2] for line in self.lines if ": error: " in line]
        last = said[-1] if said else next(iter(self.lines[-1:]), "it said nothing")
        if self.late:
            return f"it did not end in time and was stopped: {last}"
        return last if said else f"exit status {self.code}: {last}"


class Runner:
    """Starts commands, and can end them all: an interrupted reconcile leaves nothing behind."""

    def __init__(self) -> None:
        self._over = threading.Event()

    def run(self, command: Sequence[str], *, cwd: str = "/", uid: str = "", seconds: float) -> Ended:
        """Run a command to its end; after ``seconds`` it is asked to end, and killed if it does not.

        What it has started ends with it; a daemon that it has started is left alone, and not waited for.
        """
        try:
            process = self._start(command, cwd, uid)
        except (OSError, ValueError, KeyError, subprocess.SubprocessError) as e:
            what = getattr(e, "filename", None) or command[0]  # or its folder
            reason = (getattr(e, "strerror", None) or str(e)).lower()
            return Ended(_NOT_STARTED, (f"it cannot be started: {what}: {reason}",))
        output = _Output(process)
        try:
            late = self._until_end(process, output, seconds)
        finally:
            _signal(process, signal.SIGKILL)  # its children; it is not reaped yet, so that nobody else has its number
            process.wait()
            lines = output.close()
        return Ended(process.returncode, lines, late)

    @property
    def is_over(self) -> bool:
        """Whether all were asked to end."""
        return self._over.is_set()

    def end_all(self) -> None:
        """Ask all that runs to end, and start nothing more."""
        self._over.set()

    def _until_end(self, process: subprocess.Popen[bytes], output: _Output, seconds: float) -> bool:
        """Return once it has ended or was killed; tell whether it took too long."""
        late = False
        end = time.monotonic() + seconds
        while not (late or self._over.is_set()):
            if _has_ended(process):
                return False
            output.take()
            late = time.monotonic() >= end
        _signal(process, signal.SIGTERM)
        end = time.monotonic() + _DIES_WITHIN
        while not _has_ended(process) and time.monotonic() < end:
            output.take()
        return late

    def _start(self, command: Sequence[str], cwd: str, uid: str) -> subprocess.Popen[bytes]:
        user = pwd.getpwuid(int(uid)) if uid.isascii() and uid.isdigit() else pwd.getpwnam(uid) if uid else None
        who: dict[str, Any] = {}
        if user and user.pw_uid != os.geteuid():
            groups = os.getgrouplist(user.pw_name, user.pw_gid)
            who = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": groups}
        env = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
        if self._over.is_set():
            raise OSError(0, "interrupted")
        return subprocess.Popen(
            list(command),
            bufsize=0,
            cwd=cwd,
            env={**env, "PATH": _PATH, "HOME": user.pw_dir if user else "/"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            umask=0o077,
            start_new_session=True,
            **who,
        )


class _Output:
    """The end of what a command prints; what somebody else writes into its pipe later is not waited for."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdout  # noqa: S101  it was asked for
        self._stream = process.stdout
        self._kept = b""
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._stream, selectors.EVENT_READ)

    def take(self, seconds: float = _LOOK) -> int:
        """Take what is printed within that time, and return how much it was."""
        if not self._selector.get_map():  # it has closed its output
            time.sleep(min(seconds, _LOOK_SOON))
        elif self._selector.select(seconds):
            piece = os.read(self._stream.fileno(), _KEPT)
            self._kept = (self._kept + piece)[-_KEPT:]
            if piece:
                return len(piece)
            self._selector.unregister(self._stream)
        return 0

    def close(self) -> tuple[str, ...]:
        """Take what is still in the pipe, and return the last lines."""
        left = _IN_A_PIPE
        while left > 0 and (taken := self.take(0.0)):
            left -= taken
        self._selector.close()
        self._stream.close()
        text = redact(self._kept.decode(errors="replace"))
        lines = ("".join(c if c.isprintable() else " " for c in line).strip() for line in text.splitlines())
        return tuple(line[:_LONGEST] for line in lines if line)[-_LINES:]


def _has_ended(process: subprocess.Popen[bytes]) -> bool:
    """Tell whether it has, and leave it to be reaped: until then its number is its own."""
    return os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def _signal(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, number)
