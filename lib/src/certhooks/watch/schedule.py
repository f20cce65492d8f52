"""When an install command is run again: at once where it is out of step, then after growing pauses; and once a day.

What was tried is kept in ``watch-tries.json`` in the state folder, since a command that cannot start writes no journal.
"""

from __future__ import annotations

import hashlib
import json
import shlex
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

from certhooks import files
from certhooks.deadline import doubled
from certhooks.journal import state_error
from certhooks.watch.judge import in_step
from certhooks.watch.model import DAY, Overview, Placement, Watched

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

_FILE = "watch-tries.json"
_MAX_FILE = 8 * 1024 * 1024
_FIRST, _LONGEST = 300.0, DAY  # seconds
_LOOK_EVERY = DAY
_LOOK = "it was not looked at for a day"
_LOOKS = 100  # at most one in so many targets is looked at only because it is time to, but always some
_SOME = 4
_LONGEST_ERROR = 500  # characters
_SHOWN = 10  # targets
_KEY = 32  # characters of a hash
_LATEST = 253402300799.0  # the end of the year 9999
_SKEW = 3600.0  # seconds; a time that is further ahead is of a clock that was wrong
# Running the command would not mend these, or would do harm.
_HOPELESS = {"conflict", "unknown", "stuck"}


class Try(NamedTuple):
    """What was tried in vain: for which certificates, how often in succession (0: never), when last, what was said.

    ``began`` is when that last try was started, in seconds since the epoch as ``at`` is.
    """

    goals: str = ""
    times: int = 0
    at: float = 0.0
    error: str = ""
    began: float = 0.0

    def again(self) -> float:
        """Return when to try again, in seconds since the epoch."""
        return self.at + doubled(_FIRST, _LONGEST, self.times)


@dataclass(frozen=True)
class Task:
    """A command to be run, with the placements that are out of step and why."""

    command: tuple[str, ...]
    cwd: str
    uid: str
    timeout: float
    placements: tuple[Placement, ...]
    why: str
    due: float
    look: bool = False

    @property
    def typed(self) -> str:
        """The command as it can be typed into a shell, from anywhere."""
        return self.placements[0].typed

    @property
    def key(self) -> str:
        """What tells this command from others."""
        return key(self.command, self.cwd)

    @property
    def where(self) -> str:
        """Its targets in one line for people."""
        labels = [placement.label for placement in self.placements]
        more = f" and {len(labels) - _SHOWN} more" if len(labels) > _SHOWN else ""
        return ", ".join(labels[:_SHOWN]) + more


@lru_cache(maxsize=10_000)  # a command may name a thousand devices, and is asked for with each of them
def key(command: tuple[str, ...], cwd: str) -> str:
    """Return what a command is remembered by."""
    return hashlib.sha256(shlex.join([cwd, *command]).encode(errors="surrogatepass")).hexdigest()[:_KEY]


class Tries:
    """What was tried in vain, by command."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / _FILE
        self._known = _read(self._path)

    def get(self, name: str) -> Try:
        """Return what was tried of a command; a count of 0 where nothing was."""
        return self._known.get(name, Try())

    def failed(self, name: str, error: str, *, goals: str, began: float, at: float) -> None:
        """Remember that a command was in vain once more; other certificates than before begin anew."""
        before = self.get(name)
        count = before.times + 1 if before.goals == goals else 1
        self._known[name] = Try(goals, count, at, error[:_LONGEST_ERROR], began)

    def ended_well(self, name: str, at: float) -> None:
        """Forget what was in vain of a command that is in step since then."""
        self._known[name] = Try(at=at)

    def save(self, commands: Iterable[str], now: float) -> None:
        """Write it down, without commands that are no more (but for a day, in which they may come back).

        Raises:
            StateError: it cannot be written.
        """
        alive = set(commands)
        kept = {name: each for name, each in self._known.items() if name in alive or abs(now - each.at) < DAY}
        try:
            files.replace(self._path, json.dumps({"version": 1, "tries": kept}).encode())
        except OSError as e:
            raise state_error(e, self._path) from e


def tasks(overview: Overview, tries: Tries) -> list[Task]:
    """Return every command that there is a reason to run, the longest due first; ``due`` may lie in the future."""
    wanted = goals(overview.watched)
    found: dict[str, Task] = {}
    looks: list[Task] = []
    for one in overview.watched:
        for placement in one.placements:
            if not placement.command or placement.running or _hopeless(one, placement, overview.at):
                continue
            why = _reason(one, placement)
            name = key(placement.command, placement.cwd)
            tried = tries.get(name)
            waits = tried.times and tried.goals == wanted[name]
            again = tried.again() if waits and _is_past(tried.at, overview.at) else 0.0
            made = Task(
                placement.command,
                placement.cwd,
                placement.uid,
                placement.timeout,
                (placement,),
                why,
                again,
                look=not why,
            )
            if why:
                same = found.get(name)
                found[name] = replace(same, placements=(*same.placements, placement)) if same else made
            elif placement.looks and overview.at - _looked_at(placement, tried, overview.at) > _LOOK_EVERY:
                looks.append(replace(made, why=_LOOK, due=max(again, _looked_at(placement, tried, overview.at))))
    looks.sort(key=lambda each: each.due)
    total = sum(len(one.placements) for one in overview.watched)
    for each in looks[: max(_SOME, total // _LOOKS)]:
        found.setdefault(each.key, each)
    return sorted(found.values(), key=lambda each: each.due)


def with_next_tries(overview: Overview, tries: Tries) -> Overview:
    """Return the overview with when each placement that is out of step is tried next."""
    found = [each for each in tasks(overview, tries) if not each.look]
    due = {(each.key, placement.target): max(each.due, overview.at) for each in found for placement in each.placements}

    def timed(placement: Placement) -> Placement:
        return replace(placement, next_try=due.get((key(placement.command, placement.cwd), placement.target)))

    watched = tuple(replace(one, placements=tuple(map(timed, one.placements))) for one in overview.watched)
    return replace(overview, watched=watched)


def with_errors(watched: Iterable[Watched], tries: Tries) -> list[Watched]:
    """Return the certificates with what was tried in vain since then by commands that wrote no journal."""

    def told(placement: Placement) -> Placement:
        tried = tries.get(key(placement.command, placement.cwd)) if placement.command else None
        if not tried or tried.began <= (placement.tried_at or 0.0):
            return placement
        return replace(placement, failure=tried.error, failures=tried.times, tried_at=tried.at)

    return [replace(one, placements=tuple(map(told, one.placements))) for one in watched]


def by_command(watched: Iterable[Watched]) -> dict[str, list[tuple[Watched, Placement]]]:
    """Return, by command, the placements that it brings a certificate to."""
    found: dict[str, list[tuple[Watched, Placement]]] = {}
    for one in watched:
        for placement in one.placements:
            if placement.command:
                found.setdefault(key(placement.command, placement.cwd), []).append((one, placement))
    return found


def goals(watched: Iterable[Watched]) -> dict[str, str]:
    """Return, by command, the fingerprints that it is to bring: when they change, trying begins anew."""
    return {
        name: " ".join(sorted({one.leaf.fingerprint for one, _placement in places if one.leaf}))
        for name, places in by_command(watched).items()
    }


def _reason(one: Watched, placement: Placement) -> str:
    if placement.failure:
        return placement.failure
    if not in_step(one, placement) and (one.leaf or placement.pushed):
        return "it does not have the certificate that it should have"
    return ""


def _looked_at(placement: Placement, tried: Try, now: float) -> float:
    """Return when it was last seen to be well, 0 where that is not known."""
    return max((each for each in (placement.pushed_at, tried.at) if each and _is_past(each, now)), default=0.0)


def _is_past(when: float, now: float) -> bool:
    """Tell whether a time has come; it has not if the clock was wrong when it was written down, or is now."""
    return when <= now + _SKEW


def _hopeless(one: Watched, placement: Placement, now: float) -> bool:
    if any(finding.kind in _HOPELESS for finding in placement.findings):
        return True
    goal = one.leaf or (placement.pushed if not placement.failure else None)
    left = goal.days_left(now) if goal else None
    missing = one.origin == "certmonger" and one.leaf is None
    return missing or (left is not None and left <= 0)  # nothing to bring, or nothing that a device should get


def _read(path: Path) -> dict[str, Try]:
    """Return what is kept; a damaged file costs no more than a try too many."""
    try:
        document: Any = json.loads(files.read(path, _MAX_FILE))
        return {str(name): _try(*stored) for name, stored in document["tries"].items()}
    except FileNotFoundError:
        return {}
    except OSError as e:
        raise state_error(e, path) from e
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError):
        return {}


def _try(goals: Any, times: Any, at: Any, error: Any, began: Any) -> Try:
    made = Try(str(goals), int(times), float(at), str(error), float(began))
    if not (made.times >= 0 and 0 <= made.at <= _LATEST and 0 <= made.began <= _LATEST):
        raise ValueError(times)
    return made
