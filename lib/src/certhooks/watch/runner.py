"""A stored command run as certmonger runs it: no shell, no terminal, little environment, and an end."""

from __future__ import annotations

import os
import pwd
import signal
import subprocess
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple

from certhooks.secrets import redact

if TYPE_CHECKING:
    from collections.abc import Sequence

_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_PASSED_ON = ("LANG", "LC_ALL", "TZ", "DBUS_SYSTEM_BUS_ADDRESS")
_KEPT = 16 * 1024  # bytes of the end of what it prints
_DIES_WITHIN = 330.0  # seconds after SIGTERM: our commands take back what they began
_LINES, _LONGEST = 20, 500  # of them, and characters in each
_NOT_STARTED = 127


class Ended(NamedTuple):
    """How a command ended: its exit code (negative for a signal) and the last lines of what it printed, redacted."""

    code: int
    lines: tuple[str, ...]
    late: bool = False

    @property
    def error(self) -> str:
        """What it said last of an error, in one line."""
        said = [line.partition(": error: ")[2] for line in self.lines if ": error: " in line]
        last = said[-1] if said else next(iter(self.lines[-1:]), "it said nothing")
        if self.late:
            return f"it did not end in time and was stopped: {last}"
        return last if said else f"exit status {self.code}: {last}"


class Runner:
    """Starts commands, and can end them all: an interrupted reconcile leaves nothing behind."""

    def __init__(self) -> None:
        self._running: set[subprocess.Popen[bytes]] = set()
        self._lock = threading.Lock()
        self._over = False

    def run(self, command: Sequence[str], *, cwd: str = "/", uid: str = "", seconds: float) -> Ended:
        """Run a command to its end; after ``seconds`` it is asked to end, and killed if it does not."""
        try:
            process = self._start(command, cwd, uid)
        except (OSError, ValueError, KeyError, subprocess.SubprocessError) as e:
            reason = (getattr(e, "strerror", None) or str(e)).lower()
            return Ended(_NOT_STARTED, (f"it cannot be started: {command[0]}: {reason}",))
        late = threading.Event()
        kill = threading.Timer(seconds + _DIES_WITHIN, _signal, (process, signal.SIGKILL))

        def end() -> None:
            late.set()
            _signal(process, signal.SIGTERM)

        term = threading.Timer(seconds, end)
        for timer in (term, kill):
            timer.daemon = True
            timer.start()
        try:
            assert process.stdout  # noqa: S101  it was asked for
            lines = _last_lines(process.stdout)
            code = process.wait()
        finally:
            term.cancel()
            kill.cancel()
            with self._lock:
                self._running.discard(process)
            if process.stdout:
                process.stdout.close()
        return Ended(code, lines, late.is_set())

    def end_all(self) -> None:
        """Ask all that runs to end, and start nothing more."""
        with self._lock:
            self._over = True
            for process in self._running:
                _signal(process, signal.SIGTERM)

    def _start(self, command: Sequence[str], cwd: str, uid: str) -> subprocess.Popen[bytes]:
        user = pwd.getpwuid(int(uid)) if uid.isascii() and uid.isdigit() else pwd.getpwnam(uid) if uid else None
        who: dict[str, Any] = {}
        if user and user.pw_uid != os.geteuid():
            groups = os.getgrouplist(user.pw_name, user.pw_gid)
            who = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": groups}
        env = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
        with self._lock:
            if self._over:
                raise OSError(0, "interrupted")
            process: subprocess.Popen[bytes] = subprocess.Popen(
                list(command),
                cwd=cwd,
                env={**env, "PATH": _PATH, "HOME": user.pw_dir if user else "/"},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                umask=0o077,
                start_new_session=True,
                **who,
            )
            self._running.add(process)
        return process


def _signal(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, number)


def _last_lines(stream: Any) -> tuple[str, ...]:
    """Read to the end and keep the last lines."""
    kept = b""
    while True:
        piece = stream.read1(_KEPT)
        if not piece:
            break
        kept = (kept + piece)[-_KEPT:]
    text = redact(kept.decode(errors="replace"))
    lines = ("".join(c if c.isprintable() else " " for c in line).strip() for line in text.splitlines())
    return tuple(line[:_LONGEST] for line in lines if line)[-_LINES:]
