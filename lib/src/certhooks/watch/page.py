"""The overview as one page for a browser: a verdict, a timeline of validity, and the details of each certificate.

The page needs no script and nothing from elsewhere, and says so to the browser (Content-Security-Policy). Texts from
elsewhere are escaped at one place, ``_text``. End tags that HTML lets out (li, td, th, tr, dt, dd) are left out: a
thousand certificates are a page of about a megabyte.
"""

from __future__ import annotations

import math
from datetime import datetime
from html import escape
from importlib import resources
from typing import TYPE_CHECKING, NamedTuple, Optional

from certhooks import __version__
from certhooks.watch import words
from certhooks.watch.model import DAY, Level

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from certhooks.watch.model import Finding, Leaf, Overview, Placement, Watched

_POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
_PAST, _FUTURE, _AT_LEAST = 120 * DAY, 400 * DAY, 30 * DAY  # how far the timeline reaches
_SOON = 14 * DAY  # time left that is shown in the row's colour
_NAMES, _LANES, _OPEN = 2, 4, 20  # names in a line, bars below the tracked one, details that are open at first
_LABELS = 3  # on a narrow screen one month in so many is named
_VERDICTS = {
    Level.OK: "All in order",
    Level.WARNING: "Needs attention",
    Level.CRITICAL: "Action needed",
    Level.UNKNOWN: "Not everything is known",
}
_SIGNS = {
    Level.OK: '<circle cx="12" cy="12" r="10"/><path d="m7.5 12.5 3 3 6-6.5" fill="none"/>',
    Level.WARNING: '<path d="M12 2.5 22.5 21h-21z"/><path d="M12 9v5.5m0 3v.01"/>',
    Level.CRITICAL: '<path d="M8 2h8l6 6v8l-6 6H8l-6-6V8z"/><path d="m8.5 8.5 7 7m0-7-7 7"/>',
    Level.UNKNOWN: '<circle cx="12" cy="12" r="10"/><path d="M9 9.5a3 3 0 1 1 3 3.2v1.3m0 3v.01" fill="none"/>',
}
_UNITS = {"d": "day", "h": "hour", "min": "minute", "s": "second"}


def html(overview: Overview) -> str:
    """Return the whole page; it can be written as UTF-8 whatever the names are."""
    shown = words.certificates(overview)
    scale = _Scale.over(shown, overview.at)
    host, level = _text(overview.host), overview.level
    style = resources.files(__package__).joinpath("page.css").read_text(encoding="utf-8")
    parts = [
        '<!doctype html>\n<html lang="en">\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{level.word}: certificates of {host}</title>\n<style>\n{style}{scale.style()}</style>\n",
        *_head(overview, shown),
        "<main>\n",
        *_general(overview.findings),
        *_timeline(shown, scale),
        *_details(shown, overview.at),
        f"</main>\n<footer>certhooks {__version__}, seen from {host} at {_time(overview.at)}</footer>\n</html>\n",
    ]
    return "".join(parts)


class _Scale(NamedTuple):
    """From when to when the timeline reaches, and when it is now."""

    start: float
    end: float
    now: float

    @classmethod
    def over(cls, shown: Iterable[Watched], now: float) -> _Scale:
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
            year, month = (year, month + 1) if month < 12 else (year + 1, 1)  # noqa: PLR2004  December
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
        for number, (at, month) in enumerate(self.months()):
            if at < 97:  # noqa: PLR2004  percent; a name further right would stick out
                year = f"\n{month.year}" if month.year != before else ""
                hidden = "" if number % _LABELS == 0 else " class=q"
                spans.append(f'<span{hidden} style="left:{at:g}%">{month:%b}{year}</span>')
                before = month.year
        return f'{"".join(spans)}<span class=n style="left:{self.at(self.now):g}%">today</span>'


def _head(overview: Overview, shown: list[Watched]) -> Iterator[str]:
    level = overview.level
    away = sum(words.in_step(each, one) is False for each in shown for one in each.placements)
    targets = sum(len(each.placements) for each in shown)
    step = f"{_number(away, 'is', 'are')} out of step" if away else "none out of step" if targets else ""
    said = ", ".join(filter(None, (_number(len(shown), "certificate"), _number(targets, "target"), step)))
    counted = dict(words.counts(each.level for each in shown))
    yield (
        f'<header class=l{level:d}><svg viewBox="0 0 24 24" aria-hidden=true>{_SIGNS[level]}</svg>'
        f"<div><h1>{_VERDICTS[level]}</h1><p>{said}"
        f"<p><small>seen from <b>{_text(overview.host)}</b> at {_time(overview.at)}</small></div>\n"
        "<fieldset><legend class=h>Show certificates</legend>"
        f"<label><input type=radio name=f id=f checked><b>{len(shown)}</b>all</label>"
    )
    for each, number in counted.items():
        yield f"<label class=l{each:d}><input type=radio name=f id=f{each:d}><b>{number}</b>{each.word}</label>"
    yield "</fieldset></header>\n"


def _general(findings: Iterable[Finding]) -> Iterator[str]:
    """Yield what is about no single certificate."""
    told = "".join(_finding(finding) for finding in sorted(findings, key=lambda each: words.rank(each.level)))
    if told:
        yield f"<section><h2>About this host</h2><ul>{told}</ul></section>\n"


def _finding(finding: Finding, about: str = "") -> str:
    hint = f"<small>what to do: {_text(finding.hint)}</small>" if finding.hint else ""
    where = f"<b>{_text(about)}</b>: " if about else ""
    return f"<li class=l{finding.level:d}><span class=v>{finding.level.word}</span> {where}{_text(finding.text)}{hint}"


def _timeline(shown: list[Watched], scale: _Scale) -> Iterator[str]:
    if not shown:
        yield "<section><h2>Nothing is watched</h2><p>No certificate is tracked, and none has been pushed.</section>\n"
        return
    yield (
        "<section><h2>Validity, most urgent first</h2><p class=k><small><i class=c></i>certificate that is tracked</small>"
        "<small><i></i>served, in step</small><small class=w><i class=x></i>served, out of step</small>"
        "<small><i class=n></i>today</small></p>\n<table class=t><caption class=h>One line a certificate: its name, its "
        'validity, and what is left of it</caption>\n<thead><tr><th scope=col>certificate<th scope=col class="a b">'
        f"<span class=h>validity</span>{scale.axis()}<th scope=col>time left</thead>\n<tbody>\n"
    )
    for number, watched in enumerate(shown):
        yield _row(number, watched, scale)
    yield "</tbody></table></section>\n"


def _row(number: int, watched: Watched, scale: _Scale) -> str:
    level = watched.level
    badge = "" if level is Level.OK else f"<span class=v>{level.word}</span> "
    labels = words.first([each.label for each in watched.placements], _NAMES)
    return (
        f"<tr class=l{level:d}><th scope=row><a href=#c{number}><bdi>{_text(_name(watched))}</bdi></a>"
        f"<small>{badge}{_text(f'on {labels}' if labels else 'on no target')}</small>"
        f"<td class=b>{''.join(_bars(watched, scale))}{_words(watched, scale.now)}<td>{_left(watched, scale.now)}\n"
    )


def _bars(watched: Watched, scale: _Scale) -> Iterator[str]:
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
        names = words.first([_away(watched, each, now) for each in away], _NAMES)
        said.append(f"<small class=l2>out of step: {_text(names)}</small>")
    told = sorted(watched.told(), key=lambda each: words.rank(each[1].level))
    for placement, finding in told[:1]:
        if finding.level is not Level.OK:
            about = f"{placement.label}: " if placement and len(watched.placements) > 1 else ""
            said.append(f"<small class=l{finding.level:d}>{_text(about + finding.text)}</small>")
    return "".join(said)


def _away(watched: Watched, placement: Placement, now: float) -> str:
    want = words.wanted(watched, placement)
    other = [sight.leaf for sight in placement.served if sight.leaf and not words.same(sight.leaf, want)]
    if not other:
        return f"{placement.label} (not pushed)"
    return f"{placement.label} (serves one with {_long(words.left(other[0], now)) or 'unknown time'} left)"


def _left(watched: Watched, now: float) -> str:
    """Return how long the first of all that is tracked or served is valid yet."""
    first = words.ends(watched)
    if not math.isfinite(first):
        return "<small>not known</small>"
    tone = " class=w" if first < now + _SOON else ""
    shown = _long(words.span(first - now) if first > now else f"ended {words.span(now - first)} ago")
    return f"<b{tone}>{shown}</b><small>until {_date(first)}</small>"


def _details(shown: list[Watched], now: float) -> Iterator[str]:
    if not shown:
        return
    yield "<section><h2>Details</h2>\n"
    for number, watched in enumerate(shown):
        opened = " open" if watched.level is not Level.OK and number < _OPEN else ""
        level = watched.level
        yield (
            f"<details class=l{level:d}{opened}><summary><span class=v>{level.word}</span> <b>{_text(_name(watched))}</b>"
            f"<small>{_number(len(watched.placements), 'target')}</small></summary><div id=c{number}>"
        )
        told = sorted(watched.told(), key=lambda each: words.rank(each[1].level))
        if told:
            yield f"<ul>{''.join(_finding(finding, where.label if where else '') for where, finding in told)}</ul>"
        yield f"<dl>{''.join(_facts(watched))}</dl>"
        if watched.placements:
            yield "<table><thead><tr><th scope=col>target<th scope=col>pushed<th scope=col>served<th scope=col>next try"
            yield "</thead><tbody>"
            yield from (_target(watched, placement, now) for placement in watched.placements)
            yield "</tbody></table>"
        yield "</div></details>\n"
    yield "</section>\n"


def _facts(watched: Watched) -> Iterator[str]:
    leaf = watched.leaf
    if leaf:
        begin = f"{_date(leaf.not_before)} to " if leaf.not_before is not None else "until "
        valid = f", {begin}{_date(leaf.not_after)}" if leaf.not_after is not None else ""
        yield f"<dt>tracked<dd><code>{_text(leaf.fingerprint)}</code>{valid}"
    yield f"<dt>{_text(watched.origin)}<dd>{_text(watched.source)}{', ' if watched.state else ''}{_text(watched.state)}"
    if watched.ca_error:
        yield f"<dt>the CA's words<dd>{_text(watched.ca_error)}"


def _target(watched: Watched, placement: Placement, now: float) -> str:
    pushed = f"<code>{_text(words.short(placement.pushed))}</code> " if placement.pushed else ""
    when = _text(words.ago(placement.pushed_at, now))
    command = f"<small><code>{_text(' '.join(placement.command))}</code></small>" if placement.command else ""
    following = "running" if placement.running else _text(words.ago(placement.next_try, now))
    failures = f"<small>{_number(placement.failures, 'failure')}</small>" if placement.failures else ""
    return (
        f"<tr><th scope=row><bdi>{_text(placement.label)}</bdi>{command}<td data-n=pushed>{pushed}{when}"
        f'<td data-n=served>{"<br>".join(_sights(watched, placement, now))}<td data-n="next try">{following}{failures}'
    )


def _sights(watched: Watched, placement: Placement, now: float) -> Iterator[str]:
    """Yield what is served at each address; the address where there are several."""
    want = words.wanted(watched, placement)
    for sight in placement.served:
        where = f"<small>{_text(f'{sight.endpoint} {sight.ip}')}</small>" if len(placement.served) > 1 else ""
        if sight.leaf is None:
            yield f'<span class="w l1">not seen: {_text(sight.error)}</span>{where}'
            continue
        step = "in step" if words.same(sight.leaf, want) else "out of step" if want else ""
        tone = ' class="w l2"' if step == "out of step" else ""
        name = f" {_text(sight.leaf.name)}" if tone and sight.leaf.name != watched.name else ""
        left = _long(words.left(sight.leaf, now))
        yield f"<span{tone}><code>{_text(words.short(sight.leaf))}</code>{name} {left}, {step}</span>{where}"


def _name(watched: Watched) -> str:
    return watched.name or watched.source


def _number(number: int, one: str, many: str = "") -> str:
    return f"{number} {one if number == 1 else many or f'{one}s'}"


def _long(text: str) -> str:
    """Return a time with its unit spelt out."""
    parts = text.split(" ")
    for at, part in enumerate(parts):
        if part in _UNITS:
            parts[at] = _UNITS[part] + ("" if parts[at - 1] == "1" else "s")
    return " ".join(parts)


def _time(seconds: float) -> str:
    when = words.moment(seconds)
    shown = f"{when.day} {when:%b %Y, %H:%M} {_text(when.tzname() or '')}"
    return f'<time datetime="{when.isoformat(timespec="seconds")}">{shown}</time>'


def _date(seconds: float) -> str:
    when = words.moment(seconds)
    return f"{when.day} {when:%b %Y}"


def _text(text: str) -> str:
    """Return a text as HTML shows it, between tags or within quotes."""
    return escape(words.clean(text))
