"""The page's timeline: one line a certificate, its validity and below it that of what each target serves."""

from __future__ import annotations

import math
from datetime import datetime
from typing import TYPE_CHECKING, NamedTuple

from certhooks.watch import words
from certhooks.watch.markup import badge, day, spelt, text
from certhooks.watch.model import DAY, Leaf, Level
from certhooks.watch.plain import first

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from certhooks.watch.model import Placement, Watched

_PAST, _FUTURE, _AT_LEAST = 120 * DAY, 400 * DAY, 30 * DAY  # how far it reaches
_SOON = 14 * DAY  # time left that is shown in the row's colour
_NAMES, _LANES = 2, 4  # names in a line, bars below the tracked one
_LABELS, _MONTHS = 3, 8  # of more months than these, a narrow screen names one in so many
_LAST = 97.0  # percent; a month's name further right would stick out
_DECEMBER = 12
_LEGEND = (
    "<p class=k><small><i class=c></i>certificate that is tracked</small><small><i></i>served, in step</small>"
    "<small><i class=x></i>served, out of step</small><small><i class=n></i>today</small></p>\n"
)


def timeline(shown: list[Watched], scale: Scale) -> Iterator[str]:
    """Yield the section's parts."""
    yield (
        f"<section><h2>Validity, most urgent first</h2>{_LEGEND}<table class=t>"
        "<caption class=h>One line a certificate: its name, its validity, and what is left of it</caption>\n"
        '<thead><tr><th scope=col>certificate<th scope=col class="a b"><span class=h>validity</span>'
        f"{scale.axis()}<th scope=col>time left</thead>\n<tbody>\n"
    )
    for place, watched in enumerate(shown):
        yield _row(place, watched, scale)
    yield "</tbody></table></section>\n"


class Scale(NamedTuple):
    """From when to when the timeline reaches, and when it is now."""

    start: float
    end: float
    now: float

    @classmethod
    def over(cls, shown: Iterable[Watched], now: float) -> Scale:
        """Return one that shows what there is, within what is of use."""
        known = [leaf for each in shown for leaf in words.leaves(each)]
        begins = [leaf.not_before for leaf in known if leaf.not_before is not None and math.isfinite(leaf.not_before)]
        ends = [leaf.not_after for leaf in known if leaf.not_after is not None and math.isfinite(leaf.not_after)]
        start = min(max(min(begins, default=now), now - _PAST), now - _AT_LEAST)
        end = max(min(max(ends, default=now), now + _FUTURE), now + _AT_LEAST)
        return cls(start, end + (end - start) * 0.02, now)

    def at(self, seconds: float) -> float:
        """Return where a time is, in percent of the width."""
        return round(min(max((seconds - self.start) / (self.end - self.start), 0.0), 1.0) * 100, 2)

    def bar(self, leaf: Leaf, kind: str) -> str:
        """Return a certificate's validity; empty when it is not known."""
        begin, end = leaf.not_before, leaf.not_after
        begin = self.start if begin is None else begin
        if end is None or math.isnan(begin) or math.isnan(end):
            return ""
        left = self.at(begin)
        kind += (" p" if begin < self.start else "") + (" f" if end > self.end else "")
        kind = kind.strip()
        shown = (f' class="{kind}"' if " " in kind else f" class={kind}") if kind else ""
        return f'<i{shown} style="margin-left:{min(left, 99.5):g}%;width:{max(self.at(end) - left, 0):.4g}%"></i>'

    def months(self) -> Iterator[tuple[float, datetime]]:
        """Yield the first of each month, and where it is."""
        first = words.moment(self.start)
        year, month = first.year, first.month
        while True:
            year, month = (year, month + 1) if month < _DECEMBER else (year + 1, 1)
            begins = datetime(year, month, 1).astimezone()
            if begins.timestamp() >= self.end:
                return
            yield self.at(begins.timestamp()), begins

    def style(self) -> str:
        """Return the style of the line for today and of the months' lines, once for all rows."""
        line = "linear-gradient(var(--grid),var(--grid)) {:g}% 0/1px 100% no-repeat"
        lines = ",".join(line.format(at) for at, _month in self.months())
        return f".b{{background:{lines or 'none'}}}\n.b::after{{left:{self.at(self.now):g}%}}\n"

    def axis(self) -> str:
        """Return the months' names."""
        spans, before = [], 0
        months = [(at, month) for at, month in self.months() if at < _LAST]
        for place, (at, month) in enumerate(months):
            year = f"\n{month.year}" if month.year != before else ""
            hidden = " class=q" if place % _LABELS and len(months) > _MONTHS else ""
            spans.append(f'<span{hidden} style="left:{at:g}%">{month:%b}{year}</span>')
            before = month.year
        return f'{"".join(spans)}<span class=n style="left:{self.at(self.now):g}%">today</span>'


def _row(place: int, watched: Watched, scale: Scale) -> str:
    level = watched.level
    shown = "" if level is Level.OK else badge(level)
    labels = first([each.label for each in watched.placements], _NAMES)
    return (
        f"<tr class=l{level:d}><th scope=row><a href=#c{place}><bdi>{text(words.title(watched))}</bdi></a>"
        f"<small>{shown}{text(f'on {labels}' if labels else 'on no target')}</small>"
        f"<td class=b>{''.join(_bars(watched, scale))}{_words(watched, scale.now)}<td>{_left(watched, scale.now)}\n"
    )


def _bars(watched: Watched, scale: Scale) -> Iterator[str]:
    """Yield the tracked certificate's validity, and below it that of each that is served."""
    if watched.leaf:
        worried = any(each.kind in {"expired", "expiring"} for each in watched.findings)
        yield scale.bar(watched.leaf, "c w" if worried else "c")
    lanes: dict[tuple[bool, str], Leaf] = {}
    for placement in watched.placements:
        want = words.wanted(watched, placement)
        for sight in placement.served:
            if sight.leaf:
                lanes[want is not None and not words.same(sight.leaf, want), sight.leaf.fingerprint] = sight.leaf
    for (other, _fingerprint), leaf in sorted(lanes.items(), key=lambda lane: not lane[0][0])[:_LANES]:
        yield scale.bar(leaf, "x" if other else "")


def _words(watched: Watched, now: float) -> str:
    """Return what is wrong, in words: who is out of step, and the worst of what is told."""
    said = []
    away = [each for each in watched.placements if words.in_step(watched, each) is False]
    if away:
        names = first([_away(watched, each, now) for each in away], _NAMES)
        said.append(f"<small class=l2>out of step: {text(names)}</small>")
    for placement, finding in words.told_of(watched)[:1]:
        if finding.level is not Level.OK:
            about = f"{placement.label}: " if placement and len(watched.placements) > 1 else ""
            said.append(f"<small class=l{finding.level:d}>{text(about + finding.text)}</small>")
    return "".join(said)


def _away(watched: Watched, placement: Placement, now: float) -> str:
    want = words.wanted(watched, placement)
    other = [sight.leaf for sight in placement.served if sight.leaf and not words.same(sight.leaf, want)]
    if not other:
        return f"{placement.label} (not installed)"
    ends = other[0].not_after
    if ends is None:
        return f"{placement.label} (serves another)"
    return f"{placement.label} (serves one that {'ends' if ends > now else 'ended'} {spelt(words.ago(ends, now))})"


def _left(watched: Watched, now: float) -> str:
    """Return how long the first of all that is tracked or served is valid yet."""
    first = words.ends(watched)
    if not math.isfinite(first):
        return "<small>not known</small>"
    tone = " class=w" if first < now + _SOON else ""
    shown = spelt(words.span(first - now) if first > now else f"ended {words.span(now - first)} ago")
    return f"<b{tone}>{shown}</b><small>until {day(first)}</small>"
