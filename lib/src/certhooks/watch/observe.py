"""One look at everything: certmonger, the journals and what is served; and what that means."""

from __future__ import annotations

import socket
import time
from typing import TYPE_CHECKING, Callable, NamedTuple, Optional

from certhooks.deadline import Deadline
from certhooks.errors import CertmongerError
from certhooks.watch import judge, schedule, sight
from certhooks.watch.model import Finding, Level, Overview, Watched
from certhooks.watch.survey import Survey

if TYPE_CHECKING:
    from pathlib import Path

    from certhooks.request import Request
    from certhooks.watch.schedule import Tries

_SECONDS = 60.0  # for all handshakes


class Look(NamedTuple):
    """What is there at one moment, not judged yet; ``failure`` is why certmonger did not tell."""

    at: float
    watched: tuple[Watched, ...]
    failure: Optional[CertmongerError]


def look(
    state_dir: Path,
    *,
    clock: Callable[[], float] = time.time,
    tell: Callable[[str, str], None] = lambda _who, _what: None,
) -> Look:
    """Return what certmonger, the journals and the targets show now.

    Raises:
        StateError: the state folder cannot be used.
    """
    tell("", "asking certmonger")
    found, failure = requests()
    tell("", "reading what was installed")
    now = clock()
    watched = Survey(now, state_dir).watched(found)
    tell("", "looking at what is served")
    seen = sight.look(watched, Deadline(_SECONDS))
    if failure and seen and all(one.origin in {"file", "device"} for one in seen):
        failure = None  # nothing here is certmonger's
    return Look(now, tuple(seen), failure)


def assess(seen: Look, tries: Tries, limits: judge.Limits) -> Overview:
    """Return what is wrong with what was seen, and when it is tried next; nothing is asked."""
    watched = judge.judge(schedule.with_errors(seen.watched, tries), seen.at, limits)
    failure = seen.failure
    findings = (Finding(Level.CRITICAL, "certmonger", str(failure), failure.hint),) if failure else ()
    return schedule.with_next_tries(Overview(seen.at, socket.gethostname(), tuple(watched), findings), tries)


def requests() -> tuple[list[Request], Optional[CertmongerError]]:
    """Return certmonger's requests, or none, and why it did not tell."""
    from certhooks.certmonger import Certmonger

    try:
        with Certmonger.open() as certmonger:
            return certmonger.requests(), None
    except CertmongerError as e:
        return [], e
