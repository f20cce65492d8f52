"""Every wait has an end: one deadline a run, handed down to whatever may take time."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Callable, Optional

from certhooks.errors import DeadlineError

if TYPE_CHECKING:
    from collections.abc import Iterator


_DOUBLINGS = 20  # at most: more would only be larger numbers


class Deadline:
    """A moment that nothing of this run may pass.

    Args:
        seconds: how long from now.
        clock, sleep: replaced in tests; seconds, monotonic.
    """

    def __init__(
        self,
        seconds: float,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Optional[Callable[[float], object]] = None,
    ) -> None:
        self.seconds = seconds
        self._interrupted = threading.Event()
        self._clock = clock
        self._sleep = sleep or self._interrupted.wait
        self._end = clock() + seconds

    def remaining(self) -> float:
        """Return the seconds that are left, never below 0."""
        return 0.0 if self._interrupted.is_set() else max(0.0, self._end - self._clock())

    def interrupt(self) -> None:
        """End it now: whoever waits wakes up, and every later check fails."""
        self._interrupted.set()

    def extend(self, seconds: float) -> None:
        """Give at least that many seconds from now, also after the end or an interrupt: to take something back."""
        self._interrupted.clear()
        self._end = max(self._end, self._clock() + seconds)

    def elapsed(self) -> float:
        """Return the seconds since the start, also after the end."""
        return self.seconds - (self._end - self._clock())

    def check(self, what: str) -> None:
        """Raise DeadlineError, naming what was waited for, when no time is left."""
        if self._interrupted.is_set():
            raise DeadlineError(
                f"{what} was interrupted", hint="run the same command again; it goes on from where it was"
            )
        if self.remaining() <= 0:
            raise DeadlineError(
                f"{what} did not end within {self.seconds:g} s",
                hint="give it more time with --timeout SECONDS, or look at what holds it up and run this again",
            )

    def pause(self, seconds: float, what: str = "the run") -> None:
        """Sleep, but not past the end; raise DeadlineError when there was no time left to sleep."""
        self.check(what)
        self._sleep(min(seconds, self.remaining()))

    def within(self, seconds: float) -> Deadline:
        """Return a deadline for a part of the work: that many seconds, or what remains if that is less."""
        part = Deadline(min(seconds, self.remaining()), clock=self._clock, sleep=self._sleep)
        part._interrupted = self._interrupted
        return part


def growing(first: float, limit: float, factor: float = 1.5) -> Iterator[float]:
    """Yield pauses in seconds that grow from ``first`` to ``limit``, without end."""
    pause = first
    while True:
        yield pause
        pause = min(limit, pause * factor)


def doubled(first: float, longest: float, failures: int) -> float:
    """Return the pause in seconds after so many failures in succession: it doubles from the first to the longest."""
    return min(longest, first * 2.0 ** min(failures - 1, _DOUBLINGS))
