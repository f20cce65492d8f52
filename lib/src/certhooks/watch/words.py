"""What the table, the page and the metrics have in common: the order, what is in step, and times as people say them."""

from __future__ import annotations

import math
from collections import Counter
from datetime import datetime, timezone
from typing import TYPE_CHECKING, NamedTuple, Optional

from certhooks.cli import safe
from certhooks.secrets import redact
from certhooks.watch import judge
from certhooks.watch.model import DAY, Level, Placement, Watched, worst

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from certhooks.watch.model import Finding, Leaf, Overview

HOUR = 3600.0
_UNITS = ((DAY, "d"), (HOUR, "h"), (60.0, "min"), (1.0, "s"))
_SHORT = 8  # characters of a fingerprint that people compare
_FIRST_LINE = 200  # characters; what is longer is cut off in a pager
_WORST_FIRST = sorted(Level, key=lambda level: -level.rank)


class Row(NamedTuple):
    """A certificate on one of its targets, or a certificate that has none."""

    watched: Watched
    placement: Optional[Placement]

    @property
    def level(self) -> Level:
        """The worst that is told of the two."""
        findings = [*self.watched.findings, *(self.placement.findings if self.placement else ())]
        return worst(finding.level for finding in findings)


class Told(NamedTuple):
    """A finding and the words for what it is about; empty for the whole host."""

    about: str
    finding: Finding


def rows(overview: Overview) -> list[Row]:
    """Return what is watched, one row a placement, worst and most urgent first."""
    made = [Row(each, one) for each in overview.watched for one in (each.placements or (None,))]
    return sorted(made, key=lambda row: (-row.level.rank, ends(row.watched, row.placement), row.watched.name))


def certificates(overview: Overview) -> list[Watched]:
    """Return what is watched, worst and most urgent first."""
    return sorted(overview.watched, key=lambda each: (-each.level.rank, ends(each), each.name))


def ends(watched: Watched, only: Optional[Placement] = None) -> float:
    """Return when the first of the certificates ends that are tracked or served; infinity when nothing is known."""
    known = (leaf.not_after for leaf in leaves(watched, only))
    return min((end for end in known if end is not None and not math.isnan(end)), default=math.inf)


def leaves(watched: Watched, only: Optional[Placement] = None) -> Iterator[Leaf]:
    """Yield the certificates that are tracked or served, on all targets or on one."""
    if watched.leaf:
        yield watched.leaf
    for placement in watched.placements if only is None else (only,):
        for sight in placement.served:
            if sight.leaf:
                yield sight.leaf


def wanted(watched: Watched, placement: Placement) -> Optional[Leaf]:
    """Return the certificate that belongs on the target, as far as anybody knows."""
    return watched.leaf or placement.pushed


def same(one: Optional[Leaf], other: Optional[Leaf]) -> bool:
    """Tell whether both are known and are one certificate."""
    return one is not None and other is not None and one.fingerprint == other.fingerprint


def in_step(watched: Watched, placement: Placement) -> Optional[bool]:
    """Tell whether the target has what belongs there, as ``judge`` sees it; None when nobody knows what that is."""
    return judge.in_step(watched, placement) if wanted(watched, placement) else None


def told_of(watched: Watched) -> list[tuple[Optional[Placement], Finding]]:
    """Return every finding about a certificate and its targets, worst first."""
    return sorted(watched.told(), key=lambda each: -each[1].level.rank)


def told(overview: Overview) -> list[Told]:
    """Return every finding, worst first, those about the whole host before the others of their level."""
    found = [Told("", finding) for finding in overview.findings]
    for watched in certificates(overview):
        for placement, finding in watched.told():
            found.append(Told(f"{title(watched)} on {placement.label}" if placement else title(watched), finding))
    return sorted(found, key=lambda each: -each.finding.level.rank)


def counts(levels: Iterable[Level]) -> Iterator[tuple[Level, int]]:
    """Yield how many there are of each level, worst first; those that do not occur are left out, but for ok."""
    counted = Counter(levels)
    for level in _WORST_FIRST:
        if counted[level] or level is Level.OK:
            yield level, counted[level]


def summary(overview: Overview) -> str:
    """Return one line for a monitor that shows no more: the verdict, the counts, and the worst of the findings."""
    shown = rows(overview)
    counted = ", ".join(f"{number} {level.word}" for level, number in counts(row.level for row in shown))
    line = f"certhooks {overview.level.name} - {counted if shown else 'nothing is watched'}"
    worst = next((each for each in told(overview) if each.finding.level is not Level.OK), None)
    if worst:
        line += f": {worst.about}: {worst.finding.text}" if worst.about else f": {worst.finding.text}"
    line = clean(line).replace("|", "/")  # behind a bar, monitors read figures
    return line if len(line) <= _FIRST_LINE else f"{line[: _FIRST_LINE - 3]}..."


def clean(text: str) -> str:
    """Return a foreign text as one line without secrets and without anything that a terminal or a page would obey."""
    return safe(" ".join(redact(text).split()))


def short(leaf: Leaf) -> str:
    """Return as much of the fingerprint as people compare."""
    return clean(leaf.fingerprint[:_SHORT])


def span(seconds: float) -> str:
    """Return how long something is, in one unit, rounded down."""
    if not math.isfinite(seconds):
        return "?"
    seconds = abs(seconds)
    size, unit = next(each for each in _UNITS if seconds >= each[0] or each[1] == "s")
    if unit == "d" and seconds < 2 * DAY:  # one day is anything up to 47 hours
        size, unit = HOUR, "h"
    return f"{int(seconds // size)} {unit}"


def left(leaf: Leaf, now: float) -> str:
    """Return for how long a certificate is valid yet; empty when that is not known."""
    if leaf.not_after is None:
        return ""
    return span(leaf.not_after - now) if leaf.not_after > now else f"ended {span(now - leaf.not_after)} ago"


def next_try(placement: Placement, now: float) -> str:
    """Return when its command is run again."""
    if placement.running:
        return "running"
    return "now" if placement.next_try is not None and placement.next_try <= now else ago(placement.next_try, now)


def ago(seconds: Optional[float], now: float) -> str:
    """Return a time as seen from now; empty when there is none."""
    if seconds is None:
        return ""
    return f"{span(now - seconds)} ago" if seconds <= now else f"in {span(seconds - now)}"


def moment(seconds: float) -> datetime:
    """Return a time on this host's clock; the nearest one that can be written, for times beyond the calendar."""
    try:
        return datetime.fromtimestamp(seconds, tz=timezone.utc).astimezone()
    except (OverflowError, ValueError, OSError):
        return datetime.fromisoformat("0001-01-02T00:00:00+00:00" if seconds < 0 else "9999-12-30T00:00:00+00:00")


def title(watched: Watched) -> str:
    """Return what a certificate is called."""
    return watched.name or watched.source
