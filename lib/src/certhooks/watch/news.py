"""What is worth telling: changes of state between what people were told and what is seen now, as few messages.

A thing is a certificate, one target of it, or the host itself. Its state is how bad each kind of trouble is: 1 where a
person is needed, 2 where it is critical, for expiry the threshold that was crossed. Only a rise is news, and that all
is well again; one message tells all failures of a run, one all expiries, one all recoveries. What changes 4 times
within a day is told to flap, and then left alone until it has been steady for 4 hours.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, NamedTuple, Optional

from certhooks.watch import tell
from certhooks.watch.message import EXPIRY, FAILURE, RECOVERY, Message, line
from certhooks.watch.model import DAY, Finding, Level
from certhooks.watch.told import Thing, Told, load, save

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from certhooks.watch.model import Overview, Placement, Watched

__all__ = ["Message", "Told", "changes", "load", "save"]

STEADY = 4 * 3600.0  # seconds after which what flapped counts as steady
_DOWN = 1800.0  # and after which one that was left critical is told before that, once
FLAPS = 4  # changes within a day
_NEEDS_PERSON = {"ca", "conflict", "gone", "staged", "stuck", "unhooked", "unknown"}  # as a warning too
_EXPIRIES = {"expiring", "expired"}
# One trouble by different names, which follow each other while it lasts: the target does not have the certificate.
_FAMILY = dict.fromkeys(("behind", "differs", "failed", "silent"), "push")
_PERSON, _CRITICAL = 1, 2
_LAST_DAY, _EXPIRED = 3, 4  # thresholds of expiry after those of its warning (1) and critical (2) findings
_LAST_PART = 8  # of a short life, what counts as its last day


class Now(NamedTuple):
    """A thing as it is seen now.

    ``settled``: whether what looks well is so. It is not while an attempt is under way, nor while certmonger does not
    answer: what should be on a target is not known then.
    """

    about: str
    watched: Optional[Watched]
    placement: Optional[Placement]
    findings: tuple[Finding, ...]
    levels: dict[str, int]
    settled: bool = True

    @property
    def worst(self) -> Level:
        """The worst of its findings; one that we know too little of is less bad than a critical one."""
        return max((finding.level for finding in self.findings), key=_rank, default=Level.OK)

    @property
    def well(self) -> bool:
        """Whether nothing is wrong."""
        return self.settled and not self.worst


@dataclass
class _News:
    failures: list[tell.Item] = field(default_factory=list)
    expiries: list[tell.Item] = field(default_factory=list)
    recoveries: list[tell.Item] = field(default_factory=list)
    reminders: list[tell.Item] = field(default_factory=list)


def changes(overview: Overview, told: Told, now: float, *, reminder: float = DAY) -> tuple[list[Message], Told]:
    """Return the messages that the overview is worth, and what has been told with them; changes nothing.

    ``reminder``: seconds after which one message tells again all that is still critical; 0 for never. The same
    arguments give messages with the same keys: kept or sent twice they can be known.
    """
    news, things = _News(), {}
    blind = any(_rank(finding.level) >= _rank(Level.UNKNOWN) for finding in overview.findings)
    seen = _seen(overview, now, settled=not blind)
    for key, one in seen.items():
        thing = _follow(_from(told.things.get(key), now, one.about), one, now, news)
        if thing.since or thing.changes or thing.flapping:
            things[key] = thing
    for key, thing in told.things.items():
        if key in seen:
            continue
        if blind:  # what cannot be seen has not ended
            things[key] = thing
        elif thing.since or thing.flapping:
            news.recoveries.append(tell.Item(thing.about, tell.GONE, since=thing.since, text=thing.text))
    reminded = _remind(seen, things, news, now, last=min(told.reminded, now), pause=reminder)
    made = Told(told.born or now, told.serial, reminded, things)
    messages = []
    for kind, what, items in (
        (FAILURE, "", news.failures),
        (EXPIRY, "", news.expiries),
        (RECOVERY, "", news.recoveries),
        (FAILURE, tell.STILL, news.reminders),
    ):
        if items:
            key = f"{made.born:.0f}.{made.serial}.{_digest([kind, *sorted(item.about for item in items)])}"
            messages.append(tell.message(key, kind, what, items, host=overview.host, now=now))
            made.serial += 1
    return messages, made


def _follow(thing: Thing, one: Now, now: float, news: _News) -> Thing:
    """Bring what was told of a thing up to what is seen, and note what is to be said."""
    rose = [kind for kind, level in one.levels.items() if level > thing.levels.get(kind, 0)]
    bucket = news.expiries if rose == ["expiry"] else news.failures
    if rose and not thing.since:
        thing.since = now
    item = tell.Item(one.about, tell.NEW, one.worst, thing.since, thing.text, one.watched, one.placement, one.findings)
    if thing.flapping:
        return _steadied(thing, item, now, news, one, worse=bucket if rose else None)
    recovered = thing.since and one.well
    if rose or recovered:
        thing.changes.append(now)
        thing.said = now
        if len(thing.changes) >= FLAPS:
            thing.flapping, thing.moved, thing.seen = True, now, dict(one.levels)
            bucket.append(replace(item, what=tell.FLAPS))
            thing.levels = _worse(thing.levels, one.levels)
            thing.text = _text(one) or thing.text
            return thing
    if rose:
        bucket.append(item)
    elif recovered:
        news.recoveries.append(replace(item, what=tell.WELL))
        thing.since, thing.text = 0.0, ""
    thing.levels = _worse({} if one.settled else thing.levels, one.levels)
    thing.text = _text(one) or thing.text
    return thing


def _steadied(
    thing: Thing, item: tell.Item, now: float, news: _News, one: Now, *, worse: Optional[list[tell.Item]]
) -> Thing:
    """Leave a flapping thing alone until it is steady; what is worse than ever told is told all the same."""
    if one.levels != thing.seen:
        thing.moved, thing.seen = now, dict(one.levels)
    if worse is not None:
        worse.append(replace(item, what=tell.NEW))
        thing.said = now
        thing.levels = _worse(thing.levels, one.levels)
    elif one.worst is Level.CRITICAL and now - thing.moved >= _DOWN and not thing.insisted:
        thing.insisted, thing.said = True, now
        news.failures.append(replace(item, what=tell.DOWN))
    elif now - thing.moved >= STEADY and one.settled:
        thing.flapping, thing.insisted, thing.changes, thing.said = False, False, [], now
        thing.levels = dict(one.levels)
        if one.well:
            news.recoveries.append(replace(item, what=tell.STEADY_WELL))
            thing.since, thing.text = 0.0, ""
        else:
            news.failures.append(replace(item, what=tell.STEADY_BAD))
    thing.text = _text(one) or thing.text
    return thing


def _remind(
    seen: dict[str, Now], things: dict[str, Thing], news: _News, now: float, *, last: float, pause: float
) -> float:
    """Note one reminder of all that is still critical, when it is time; return when the last one was."""
    critical = [
        key
        for key, one in seen.items()
        if one.worst is Level.CRITICAL and key in things and things[key].since and not things[key].flapping
    ]
    due = [key for key in critical if now - things[key].said >= pause]
    if pause <= 0 or not due or now - last < pause:
        return last
    for key in critical:
        if things[key].said == now:
            continue
        one, thing = seen[key], things[key]
        thing.said = now
        news.reminders.append(
            tell.Item(
                one.about, tell.STILL, one.worst, thing.since, thing.text, one.watched, one.placement, one.findings
            )
        )
    return now


def _seen(overview: Overview, now: float, *, settled: bool) -> dict[str, Now]:
    """Return everything that may be in trouble, by a name that stays; of two by one name, the worse."""
    seen: dict[str, Now] = {}
    for key, one in _things(overview, now, settled=settled):
        if key not in seen or _rank(one.worst) > _rank(seen[key].worst):
            seen[key] = one
    return seen


def _things(overview: Overview, now: float, *, settled: bool) -> Iterator[tuple[str, Now]]:
    yield _digest(["host"]), Now(overview.host, None, None, overview.findings, _levels(overview.findings))
    for watched in overview.watched:
        own = watched.leaf.not_after if watched.leaf else None
        born = watched.leaf.not_before if watched.leaf else None
        levels = _levels(watched.findings, _left(own, born, now))
        key = _digest([watched.source, watched.name])
        yield key, Now(watched.name, watched, None, watched.findings, levels, settled)
        for placement in watched.placements:
            ends = [sight.leaf.not_after for sight in placement.served if sight.leaf and sight.leaf.not_after]
            levels = _levels(placement.findings, _left(min(ends, default=own), born, now))
            about = f"{watched.name} on {placement.label}"
            ready = settled and not placement.running
            # Not by its source: where certmonger does not answer, that is the journal.
            key = _digest([watched.name, placement.target])
            yield key, Now(about, watched, placement, placement.findings, levels, ready)


def _levels(findings: Sequence[Finding], left: Optional[tuple[float, float]] = None) -> dict[str, int]:
    """Return how bad each kind of trouble is; what no person needs to look at is none."""
    levels: dict[str, int] = {}
    for finding in findings:
        level = 0
        family = _FAMILY.get(finding.kind, finding.kind)
        if finding.level is Level.CRITICAL:
            level = _CRITICAL
        elif finding.level is Level.UNKNOWN or finding.kind in _NEEDS_PERSON:
            level = _PERSON if finding.level else 0
        if finding.kind in _EXPIRIES and finding.level:
            family = "expiry"
            level = _threshold(finding, left)
        if level:
            levels[family] = max(level, levels.get(family, 0))
    return levels


def _threshold(finding: Finding, left: Optional[tuple[float, float]]) -> int:
    if finding.kind == "expired":
        return _EXPIRED
    if left and left[0] <= left[1]:
        return _LAST_DAY
    return _CRITICAL if finding.level is Level.CRITICAL else _PERSON


def _left(not_after: Optional[float], not_before: Optional[float], now: float) -> Optional[tuple[float, float]]:
    """Return the seconds that a certificate has left, and how many of them are its last day: less for a short life."""
    if not_after is None:
        return None
    life = not_after - not_before if not_before is not None and not_before < not_after else DAY * _LAST_PART
    return not_after - now, min(DAY, life / _LAST_PART)


def _from(thing: Optional[Thing], now: float, about: str) -> Thing:
    """Return a copy of what was told, in which nothing lies ahead: clocks are set back."""
    if thing is None:
        return Thing(about=line(about))
    kept = [min(at, now) for at in thing.changes if now - at < DAY]
    return replace(
        thing,
        about=line(about),
        since=min(thing.since, now),
        said=min(thing.said, now),
        moved=min(thing.moved, now),
        changes=kept,
        levels=dict(thing.levels),
        seen=dict(thing.seen),
    )


def _worse(one: dict[str, int], two: dict[str, int]) -> dict[str, int]:
    return {kind: max(one.get(kind, 0), two.get(kind, 0)) for kind in {**one, **two}}


def _text(one: Now) -> str:
    """Return the words for the worst that is seen."""
    worst = [finding.text for finding in one.findings if finding.level is one.worst and one.worst]
    return line(worst[0]) if worst else ""


def _rank(level: Level) -> int:
    return {Level.OK: 0, Level.WARNING: 1, Level.UNKNOWN: 2, Level.CRITICAL: 3}[level]


def _digest(parts: Sequence[str]) -> str:
    return hashlib.sha256("\0".join(parts).encode(errors="surrogateescape")).hexdigest()[:16]
