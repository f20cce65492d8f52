"""The queue of messages: one file each in STATE/spool, deleted only after every channel took it.

A message is taken at least once: a run that is killed after a channel took one and before that was written down sends
it again, with the same key (and Message-ID), so that a mail system can see the duplicate. Files are written whole;
their numbers, not the clock, keep the order. It holds 200 messages and 4 MiB; of more, the oldest become one note.
"""

from __future__ import annotations

import json
import logging
import re
import time
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Callable, NamedTuple, Optional

from certhooks import files
from certhooks.deadline import Deadline, doubled
from certhooks.errors import BusyError, DeadlineError, Error, StateError
from certhooks.journal import Journal, state_error
from certhooks.watch import message as messages
from certhooks.watch.message import Message
from certhooks.watch.told import fits

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from certhooks.watch.channel import Channel

MAX_MESSAGES = 200
MAX_BYTES = 4 * 1024 * 1024
FOLDER = "spool"  # in the state folder
_MAX_FILE = 256 * 1024
_NAME = re.compile(r"[0-9]{12}\.json\Z")
_PAUSES = "channels.json"
_FIRST_PAUSE, _LONGEST_PAUSE = 300.0, 4 * 3600.0
_MAX_DOUBLINGS = 10
_TRIES = 5  # of a message that a channel refuses for good
_NOTE_BYTES = 16 * 1024
_SUBJECTS = 20  # of dropped messages, in the note about them
_KEPT_DAMAGED = 5
_ADD_SECONDS = 30.0  # nobody holds the queue longer than it takes to write a file


@dataclass
class _Entry:
    """A message in the queue, which channels took it, and how often one refused it for good.

    ``dropped``: how many earlier messages it stands for; ``subjects`` of the last of them.
    """

    message: Message
    taken: list[str] = field(default_factory=list)
    refused: dict[str, int] = field(default_factory=dict)
    dropped: int = 0
    subjects: list[str] = field(default_factory=list)


class _Pause(NamedTuple):
    failures: int
    at: float
    until: float


class Spool:
    """The queue in the folder ``spool`` of a state folder.

    Args:
        clock: seconds since the epoch; replaced in tests.

    Raises:
        StateError: the folder cannot be made or is not private.
    """

    def __init__(self, state: Path, *, clock: Callable[[], float] = time.time) -> None:
        self.folder = state / FOLDER
        self._clock = clock
        self._journal = Journal(self.folder)

    def add(self, new: Iterable[Message]) -> None:
        """Queue messages, on the disk before this returns; one whose key is queued already is not queued twice.

        Raises:
            StateError: it cannot be written. BusyError: another run held the queue for half a minute.
        """
        new = list(new)
        if not new:
            return
        with self._lock("queue", Deadline(_ADD_SECONDS)):
            paths = self._paths()
            queued = {entry.message.key for path in paths if (entry := self._read(path))}
            number = int(paths[-1].stem) + 1 if paths else 1
            for message in new:
                if message.key in queued:
                    continue
                queued.add(message.key)
                self._write(self.folder / f"{number:012d}.json", _Entry(message))
                number += 1
            self._fold()

    def queued(self) -> list[Message]:
        """Return what is queued, oldest first."""
        return [_clean_copy(entry.message) for path in self._paths() if (entry := self._read(path))]

    def deliver(self, channels: Sequence[Channel], deadline: Deadline, *, force: bool = False) -> list[Error]:
        """Hand what is queued to the channels, oldest first, and return what failed, one error a channel at most.

        A channel that fails is left alone for 5 minutes, then twice as long each time, up to 4 hours; ``force`` tries
        it all the same. A message that a channel refuses for good is in no other's way, and given up after 5 tries.

        Raises:
            StateError: the folder cannot be used. BusyError: another run delivers until the deadline.
        """
        with self._lock("delivery", deadline):
            pauses = self._pauses()
            damaged = self._set_damaged_aside()
            failed: list[Error] = list(damaged)
            for channel in channels:
                pause = pauses.get(channel.name)
                if pause and not force and self._paused(pause):
                    continue
                error = self._through(channel, deadline)
                if error is None:
                    pauses.pop(channel.name, None)
                else:
                    failed.append(error)
                    if not isinstance(error, _OutOfTimeError):
                        pauses[channel.name] = self._longer(pause)
            self._keep_pauses({name: pause for name, pause in pauses.items() if name in {c.name for c in channels}})
            self._clean({channel.name for channel in channels})
            return failed

    def _through(self, channel: Channel, deadline: Deadline) -> Optional[Error]:
        """Send one channel what it has not taken yet; return the error that ended that, or the last refusal."""
        refusal: Optional[Error] = None
        for path in self._paths():
            entry = self._read(path)
            if entry is None or channel.name in entry.taken:
                continue
            if deadline.remaining() <= 0:
                return _OutOfTimeError(
                    f"{channel.name}: messages are left in the queue: the time is over",
                    hint="the next run goes on; --timeout SECONDS gives more time",
                )
            try:
                channel.send(_clean_copy(entry.message), deadline)
            except Error as e:
                logging.getLogger(__name__).warning("%s: %s", channel.name, e)
                if not getattr(e, "permanent", False):
                    return e
                refusal = e
                self._mark(path, entry.message.key, channel.name, taken=False)
            else:
                self._mark(path, entry.message.key, channel.name, taken=True)
        return refusal

    def _mark(self, path: Path, key: str, channel: str, *, taken: bool) -> None:
        """Write down that a channel took a message or refused it for good, unless a note stands there meanwhile."""
        with self._lock("queue", Deadline(_ADD_SECONDS)):
            entry = self._read(path)
            if entry is None or entry.message.key != key or channel in entry.taken:
                return
            if not taken:
                entry.refused[channel] = entry.refused.get(channel, 0) + 1
                taken = entry.refused[channel] >= _TRIES
                if taken:
                    logging.getLogger(__name__).error("%s: given up: %s", channel, entry.message.subject)
            if taken:
                entry.taken.append(channel)
            self._write(path, entry)

    def _clean(self, channels: set[str]) -> None:
        """Delete what every channel took."""
        if not channels:
            return
        with self._lock("queue", Deadline(_ADD_SECONDS)):
            for path in self._paths():
                entry = self._read(path)
                if entry and channels <= set(entry.taken):
                    _unlink(path)

    def _fold(self) -> None:
        """Make one note of the oldest messages while there are too many or too large ones.

        The note takes the place of the oldest file; a kill before the others are deleted counts some of them twice.
        """
        sizes = {path: path.stat().st_size for path in self._paths()}
        paths = list(sizes)
        total = sum(sizes.values())
        gone = 0
        while gone < len(paths) and (len(paths) - gone + bool(gone) > MAX_MESSAGES or total + _NOTE_BYTES > MAX_BYTES):
            some = paths[gone : gone + (1 if gone else 2)]  # for one alone a note would win nothing
            total -= sum(sizes[path] for path in some)
            gone += len(some)
        if not gone:
            return
        folded = paths[:gone]
        entries = [entry for path in folded if (entry := self._read(path))]
        self._write(folded[0], _note(entries))
        for path in folded[1:]:
            _unlink(path)

    def _set_damaged_aside(self) -> list[StateError]:
        aside = []
        with self._lock("queue", Deadline(_ADD_SECONDS)):
            for path in self._paths():
                if self._read(path) is None and path.exists():
                    with suppress(OSError):
                        path.replace(path.with_suffix(".damaged"))
                        aside.append(path.with_suffix(".damaged"))
            for path in sorted(self.folder.glob("*.damaged"))[:-_KEPT_DAMAGED]:
                _unlink(path)
        return [StateError(f"a damaged message was set aside: {path}") for path in aside]

    def _paths(self) -> list[Path]:
        return sorted(path for path in self.folder.iterdir() if _NAME.match(path.name))

    def _read(self, path: Path) -> Optional[_Entry]:
        """Return what a file holds; None where it is damaged or gone meanwhile."""
        try:
            with path.open("rb") as file:
                data = file.read(_MAX_FILE + 1)
            return _entry(json.loads(data if len(data) <= _MAX_FILE else b""))
        except FileNotFoundError:
            return None
        except OSError as e:
            raise state_error(e, path) from e
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            return None

    def _write(self, path: Path, entry: _Entry) -> None:
        try:
            files.replace(path, json.dumps({"version": 1, **asdict(entry)}).encode())
        except OSError as e:
            raise state_error(e, path) from e

    def _paused(self, pause: _Pause) -> bool:
        """Tell whether it is too early; a pause that lies beyond the longest one is of a clock that was set back."""
        now = self._clock()
        return pause.at <= now < pause.until <= now + _LONGEST_PAUSE

    def _longer(self, pause: Optional[_Pause]) -> _Pause:
        failures = min((pause.failures if pause else 0) + 1, _MAX_DOUBLINGS)
        now = self._clock()
        return _Pause(failures, now, now + doubled(_FIRST_PAUSE, _LONGEST_PAUSE, failures))

    def _pauses(self) -> dict[str, _Pause]:
        try:
            stored = json.loads((self.folder / _PAUSES).read_bytes()[:_MAX_FILE])
            return {str(name): _pause(values) for name, values in stored.items()}
        except (OSError, ValueError, TypeError, AttributeError, RecursionError):
            return {}  # the worst that follows is a try too early

    def _keep_pauses(self, pauses: dict[str, _Pause]) -> None:
        path = self.folder / _PAUSES
        try:
            if pauses:
                files.replace(path, json.dumps(pauses).encode())
            else:
                path.unlink(missing_ok=True)
        except OSError as e:
            raise state_error(e, path) from e

    @contextmanager
    def _lock(self, name: str, deadline: Deadline) -> Iterator[None]:
        with ExitStack() as stack:
            try:
                stack.enter_context(self._journal.lock(name, deadline, label="the queue of messages"))
            except BusyError as e:
                raise BusyError(str(e), hint="wait for it to end, or look for it: pgrep -af certhooks") from None
            yield


class _OutOfTimeError(DeadlineError):
    """The run's own time is over: no fault of the channel."""


def _note(entries: Sequence[_Entry]) -> _Entry:
    """Return what stands for dropped messages, to be sent to each channel that has not taken all of them."""
    count = sum(entry.dropped or 1 for entry in entries)
    subjects = [text for entry in entries for text in (entry.subjects or [entry.message.subject])][-_SUBJECTS:]
    taken = [name for name in (entries[0].taken if entries else []) if all(name in entry.taken for entry in entries)]
    newest = entries[-1].message
    plural = "s were" if count > 1 else " was"
    body = "\n".join(
        [
            f"{count} earlier message{plural} dropped: the queue was full, as they could not be delivered for long.",
            "The last of them:",
            "",
            *(f"  {text}" for text in subjects),
            "",
            "How it stands now:",
            "",
            "    certhooks status",
        ]
    )
    subject = f"certhooks on {newest.host}: {count} earlier message{plural} dropped"
    made = messages.make(
        f"{newest.key}.dropped", messages.DROPPED, subject, body, newest.at, host=newest.host, level="warning"
    )
    return _Entry(made, taken, {}, count, subjects)


def _entry(stored: dict[str, Any]) -> _Entry:
    """Return an entry from a file; ValueError, TypeError, KeyError or AttributeError where it is not what we wrote."""
    stored.pop("version")
    message = stored.pop("message")
    made = _Entry(Message(**{**message, "about": tuple(message["about"])}), **stored)
    usual = _Entry(Message("", "", "", "", 0.0))
    for mine, its in ((made, usual), (made.message, usual.message)):
        for name, value in vars(mine).items():
            if name != "message" and not fits(value, getattr(its, name)):
                raise TypeError(name)
    texts = (*made.taken, *made.subjects, *made.message.about)
    if not all(isinstance(text, str) for text in texts) or not all(fits(n, 0) for n in made.refused.values()):
        raise TypeError("text")
    return made


def _clean_copy(message: Message) -> Message:
    """Return a message from a file, held to what we send whoever wrote it."""
    return messages.make(**vars(message))


def _pause(values: Any) -> _Pause:
    failures, at, until = values
    if not (fits(failures, 0) and fits(at, 0.0) and fits(until, 0.0)) or failures < 1:
        raise TypeError("pause")
    return _Pause(failures, at, until)


def _unlink(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError as e:
        raise state_error(e, path) from e
