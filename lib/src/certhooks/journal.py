"""What was attempted on each target, with which certificate, and how it ended: crash recovery, status, reconcile.

One JSON file a target and one lock file a device in ``/var/lib/certhooks`` (0700). Files are written whole and
atomically; a journal holds the last 20 attempts and never a secret.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Optional

from certhooks import files
from certhooks.deadline import Deadline, growing
from certhooks.errors import BusyError, DeadlineError, StateError
from certhooks.secrets import redact

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

DEFAULT = Path("/var/lib/certhooks")
_KEPT = 20
_LONGEST = 2000  # characters of a message
_HASH = 8  # characters
_ABANDONED = 3600.0  # seconds; no write takes as long
_MAX_FILE = 1024 * 1024
_LATEST = 253402300799.0  # seconds: the end of the year 9999, after which nothing can be written as a date
_LONGEST_MESSAGE = 2000  # characters
RUNNING, DONE, UNCHANGED, STAGED, FAILED, UNDONE = (
    "running",
    "done",
    "unchanged",
    "staged",
    "failed",
    "undone",
)


@dataclass
class Attempt:
    """One try to bring one certificate to one target; times are seconds since the epoch.

    ``outcome`` is ``running`` until it ends; a run that was killed leaves it so. ``undone`` is a failure that
    left nothing behind; ``staged`` is a candidate that somebody else will commit. ``endpoints`` is where the
    certificate is to be seen. ``command`` in the folder ``cwd`` does it again; ``count`` is how many attempts in
    succession ended so, of which this is the last. Only the newest attempt of a record keeps its command.
    """

    fingerprint: str
    subject: str = ""
    not_after: str = ""
    command: list[str] = field(default_factory=list)
    started: float = 0.0
    ended: Optional[float] = None
    outcome: str = RUNNING
    exit_code: int = 0
    message: str = ""
    steps: list[dict[str, Any]] = field(default_factory=list)
    touches: list[str] = field(default_factory=list)
    count: int = 1
    endpoints: list[str] = field(default_factory=list)
    cwd: str = ""

    def key(self) -> tuple[object, ...]:
        """Return what two attempts have in common that tell the same."""
        return (self.fingerprint, self.outcome, self.exit_code, self.message, self.steps, self.touches)


class Record:
    """The attempts on one target, oldest first; ``damaged``: the file at ``path`` is there and tells nothing."""

    def __init__(self, path: Path, target: str, attempts: list[Attempt], *, damaged: bool = False) -> None:
        self.path = path
        self.target = target
        self.attempts = attempts
        self.damaged = damaged

    @property
    def last(self) -> Optional[Attempt]:
        """The newest attempt."""
        return self.attempts[-1] if self.attempts else None

    def begin(self, attempt: Attempt) -> Attempt:
        """Write down that an attempt starts."""
        attempt.started = time.time()
        self.attempts = [*self.attempts, attempt][-_KEPT:]
        self._write()
        return attempt

    def step(self, attempt: Attempt, name: str) -> None:
        """Write down what is done next, before it is done."""
        attempt.steps.append({"step": name, "at": time.time()})
        self._write()

    def end(self, attempt: Attempt, outcome: str, exit_code: int = 0, message: str = "") -> None:
        """Write down how it ended; what ended like the one before, without a step, is counted and not repeated."""
        attempt.outcome, attempt.exit_code, attempt.message = outcome, exit_code, redact(message)[:_LONGEST_MESSAGE]
        attempt.ended = time.time()
        before = self.attempts[-2] if len(self.attempts) > 1 else None
        if before and attempt is self.attempts[-1] and before.key() == attempt.key() and not before.steps:
            attempt.count = before.count + 1
            if outcome == UNCHANGED and before.command:
                attempt.command, attempt.cwd = before.command, before.cwd
            self.attempts.remove(before)
        kept = self.repeated()
        for one in self.attempts:
            if one is not kept:
                one.command = []  # it may name a thousand devices, in each of whose journals it stands
        self._write()

    def repeated(self) -> Optional[Attempt]:
        """Return the attempt whose command brings the certificate there again; None where no command is known.

        That is the newest that changed something or tried to. One that only found all well, or failed on its own words
        before it had a certificate, was perhaps a look with words that would not do for a push.
        """
        with_command = [one for one in reversed(self.attempts) if one.command]
        settled = False
        for one in with_command:
            if one.outcome in {DONE, STAGED} or (one.fingerprint and one.outcome != UNCHANGED and not settled):
                return one
            settled |= one.outcome == UNCHANGED
        found_well = [one for one in with_command if one.outcome == UNCHANGED]
        return next(iter([*found_well, *with_command]), None)

    def unfinished(self) -> list[str]:
        """Return what attempts that left something behind touched: after a kill, a failed undo, or a staged change."""
        touched: list[str] = []
        for attempt in reversed(self.attempts):
            if attempt.outcome == DONE or (attempt.outcome == UNDONE and attempt.steps):
                break
            touched += attempt.touches
        return touched

    def brought(self) -> set[str]:
        """Return the fingerprints that the target may serve because of us: what was last in place, or tried since."""
        found: set[str] = set()
        for attempt in reversed(self.attempts):
            found.add(attempt.fingerprint)
            if attempt.outcome in {DONE, UNCHANGED}:
                break
        return found - {""}

    def pushed(self) -> Optional[Attempt]:
        """Return the newest attempt that ended well: what the target should have, as far as we know."""
        return next((one for one in reversed(self.attempts) if one.outcome in {DONE, UNCHANGED, STAGED}), None)

    def failures(self) -> int:
        """Return how many attempts in succession, up to the newest, ended badly."""
        found = 0
        for attempt in reversed(self.attempts):
            if attempt.outcome not in {FAILED, UNDONE}:
                break
            found += attempt.count
        return found

    def _write(self) -> None:
        document = {"version": 1, "target": self.target, "attempts": [vars(a) for a in self.attempts]}
        try:
            files.replace(self.path, json.dumps(document).encode())
        except OSError as e:
            raise state_error(e, self.path) from e


class Journal:
    """The folder of all records and locks.

    Args:
        only_look: nothing is made, removed or set aside; a folder that is not there is an empty one.
        owner: who may own it too, beside root and us.

    Raises:
        StateError: it cannot be made or is not private.
    """

    def __init__(self, folder: Path = DEFAULT, *, only_look: bool = False, owner: int = 0) -> None:
        self.folder = folder
        self._only_look = only_look
        self._owner = owner
        try:
            if not only_look:
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            info = folder.stat()
        except FileNotFoundError as e:
            if only_look:
                return
            raise state_error(e, folder) from e
        except (OSError, ValueError) as e:
            raise state_error(e, folder) from e
        if info.st_mode & 0o077 or info.st_uid not in {0, os.geteuid(), owner}:
            raise StateError(
                f"the state folder {folder} is open to others (uid {info.st_uid}, mode {info.st_mode & 0o7777:04o})",
                hint=f"if it is for certhooks alone: chmod 0700 {folder}; else name another with --state-dir",
            )
        try:
            os.scandir(folder).close()  # another user's: an empty one and a closed one look alike else
        except OSError as e:
            raise state_error(e, folder) from e
        if not only_look:
            self._tidy()

    def record(self, target: str) -> Record:
        """Return what is known of a target; a damaged file is set aside and begun anew."""
        path = self.folder / f"{_slug(target)}.json"
        record = self._read(path)
        if record and record.damaged and not self._only_look:
            with suppress(OSError):
                path.replace(path.with_suffix(".damaged"))
        return record if record and not record.damaged else Record(path, target, [])

    def records(self, besides: Collection[Path] = ()) -> Iterator[Record]:
        """Yield the record of every known target, and those that are damaged, without attempts.

        ``besides``: files that need not be read again (``Record.path``).
        """
        for path in sorted(self.folder.glob(f"*-{'[0-9a-f]' * _HASH}.json")):  # others keep lists of their own here
            if path in besides:
                continue
            record = self._read(path)
            if record:
                yield record

    @contextmanager
    def lock(self, device: str, deadline: Deadline, *, label: str = "") -> Iterator[float]:
        """Hold the device alone; yields when it was last held by another run (seconds since the epoch, 0 for never).

        Raises:
            BusyError: another run kept it until the deadline.
        """
        path = self.folder / f"{_slug(device)}.lock"
        try:
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError as e:
            raise state_error(e, path) from e
        try:
            waited = _acquire(fd, label or device, deadline)
            try:
                yield time.time() if waited else _last_held(fd)  # a holder that was killed has written no time
            finally:
                with suppress(OSError):  # a full disk must not hide how the run ended
                    os.pwrite(fd, f"{time.time():017.6f}\n".encode(), 0)
        finally:
            os.close(fd)

    def is_held(self, device: str) -> bool:
        """Tell whether a run holds the device just now."""
        try:
            fd = os.open(self.folder / f"{_slug(device)}.lock", os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except OSError:  # no run has ever held it
            return False
        try:
            fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(fd)
        return False

    def forget(self, target: str) -> bool:
        """Remove what is known of a target; tell whether anything was."""
        path = self.folder / f"{_slug(target)}.json"
        try:
            path.unlink()
        except FileNotFoundError:
            return False
        except OSError as e:
            raise state_error(e, path) from e
        return True

    def _tidy(self) -> None:
        """Remove what a run left that was killed while it wrote."""
        for left in self.folder.glob(".*.new"):
            with suppress(OSError):
                if time.time() - left.stat().st_mtime > _ABANDONED:
                    left.unlink()

    def _read(self, path: Path) -> Optional[Record]:
        try:
            document = json.loads(files.read(path, _MAX_FILE, owner=self._owner))
            return Record(path, str(document["target"]), [_attempt(stored) for stored in document["attempts"]])
        except FileNotFoundError:
            return None
        except OSError as e:
            raise state_error(e, path) from e
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            return Record(path, path.stem, [], damaged=True)


def _attempt(stored: dict[str, Any]) -> Attempt:
    """Return an attempt from a file; TypeError or KeyError where it is not what we wrote."""
    known = vars(Attempt("", ended=0.0))
    attempt = Attempt(**{name: stored[name] for name in ("fingerprint", *stored) if name in known})
    for name, usual in known.items():
        value = getattr(attempt, name)
        number = isinstance(usual, (int, float))
        fits = isinstance(value, (int, float)) and abs(value) <= _LATEST if number else isinstance(value, type(usual))
        if not fits and (name, value) != ("ended", None):
            raise TypeError(name)
    if not all(isinstance(text, str) for text in (*attempt.command, *attempt.touches, *attempt.endpoints)):
        raise TypeError("text")
    return attempt


def _acquire(fd: int, device: str, deadline: Deadline) -> bool:
    """Take the lock; tell whether somebody else had it."""
    waited = False
    for pause in growing(0.05, 1.0):
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            pass  # somebody holds it: try again below
        else:
            return waited
        waited = True
        try:
            deadline.pause(pause)
        except DeadlineError:
            raise BusyError(
                f"another run holds {device}", hint="wait for it to end, or look for it: pgrep -af 'instcert|ipa_dns'"
            ) from None
    raise AssertionError("growing() has no end")


def _last_held(fd: int) -> float:
    """Read when the lock was let go; the file's own time is too coarse to be compared with ours."""
    try:
        return float(os.pread(fd, 64, 0))
    except ValueError:
        return 0.0


def _slug(name: str) -> str:
    readable = re.sub(r"[^A-Za-z0-9.-]+", "_", name)[:80].lstrip(".")
    return f"{readable}-{hashlib.sha256(name.encode(errors='surrogateescape')).hexdigest()[:_HASH]}"


def state_error(error: Exception, path: Path) -> StateError:
    """Return the error that tells why a file of the state folder cannot be used."""
    reason = getattr(error, "strerror", None) or str(error)
    hint = "make room on the disk, or name another folder with --state-dir"
    if isinstance(error, PermissionError):
        hint = (
            "run as root, or give this user a folder of its own: install -d -m 0700 -o USER /var/lib/certhooks-USER, "
            "and --state-dir /var/lib/certhooks-USER"
        )
    return StateError(f"cannot use the state folder: {path}: {reason.lower()}", hint=hint)
