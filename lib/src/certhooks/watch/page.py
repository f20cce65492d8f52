"""The overview as one page for a browser: a verdict, a timeline of validity, and the details of each certificate.

The page needs no script and nothing from elsewhere, and says so to the browser (Content-Security-Policy). End tags that
HTML lets out (p, li, td, th, tr, dt, dd) are left out, so that a thousand certificates are a page of 1.5 MB.
"""

from __future__ import annotations

from importlib import resources
from typing import TYPE_CHECKING

from certhooks import __version__
from certhooks.watch import words
from certhooks.watch.markup import badge, day, moment, number, spelt, text
from certhooks.watch.model import Level
from certhooks.watch.timeline import Scale, timeline

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from certhooks.watch.model import Finding, Overview, Placement, Watched

_POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
_OPEN = 20  # details of so many certificates with something wrong are open at first
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


def html(overview: Overview) -> str:
    """Return the whole page; it can be written as UTF-8 whatever the names are."""
    shown = words.certificates(overview)
    return "".join([*_start(overview, shown), *_body(overview, shown), *_end(overview)])


def _start(overview: Overview, shown: list[Watched]) -> Iterator[str]:
    style = resources.files(__package__).joinpath("page.css").read_text(encoding="utf-8")
    yield '<!doctype html>\n<html lang="en">\n<meta charset="utf-8">\n'
    yield f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
    yield '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
    yield f"<title>{overview.level.word}: certificates of {text(overview.host)}</title>\n"
    yield f"<style>\n{style}{Scale.over(shown, overview.at).style()}</style>\n"


def _body(overview: Overview, shown: list[Watched]) -> Iterator[str]:
    yield from _head(overview, shown)
    yield "<main>\n"
    yield from _general(overview.findings)
    if shown:
        yield from timeline(shown, Scale.over(shown, overview.at))
        yield from _details(shown, overview.at)
    else:
        yield "<section>No certificate is tracked, and none has been pushed.</section>\n"
    yield "</main>\n"


def _end(overview: Overview) -> Iterator[str]:
    seen = f"seen from {text(overview.host)} at {moment(overview.at)}"
    yield f"<footer>certhooks {__version__}, {seen}</footer>\n</html>\n"


def _head(overview: Overview, shown: list[Watched]) -> Iterator[str]:
    level = overview.level
    away = sum(words.in_step(each, one) is False for each in shown for one in each.placements)
    targets = sum(len(each.placements) for each in shown)
    step = f"{number(away, 'is', 'are')} out of step" if away else "none out of step" if targets else ""
    said = ", ".join(filter(None, (number(len(shown), "certificate"), number(targets, "target"), step)))
    yield (
        f'<header class=l{level:d}><svg viewBox="0 0 24 24" aria-hidden=true>{_SIGNS[level]}</svg>'
        f"<div><h1>{_VERDICTS[level] if shown or level else 'Nothing is watched'}</h1><p>{said}"
        f"<p><small>seen from <b>{text(overview.host)}</b> at {moment(overview.at)}</small></div>\n"
        "<fieldset><legend class=h>Show certificates</legend>"
        f"<label><input type=radio name=f id=f checked><b>{len(shown)}</b>all</label>"
    )
    for each, count in words.counts(one.level for one in shown):
        yield f"<label class=l{each:d}><input type=radio name=f id=f{each:d}><b>{count}</b>{each.word}</label>"
    yield "</fieldset></header>\n"


def _general(findings: Iterable[Finding]) -> Iterator[str]:
    """Yield what is about no single certificate."""
    told = "".join(_finding(finding) for finding in sorted(findings, key=lambda each: -each.level.rank))
    if told:
        yield f"<section><h2>About this host</h2><ul>{told}</ul></section>\n"


def _finding(finding: Finding, about: str = "") -> str:
    hint = f"<small>what to do: {text(finding.hint)}</small>" if finding.hint else ""
    where = f"<b>{text(about)}</b>: " if about else ""
    return f"<li class=l{finding.level:d}>{badge(finding.level)}{where}{text(finding.text)}{hint}"


def _details(shown: list[Watched], now: float) -> Iterator[str]:
    yield "<section><h2>Details</h2>\n"
    for place, watched in enumerate(shown):
        level = watched.level
        opened = " open" if level is not Level.OK and place < _OPEN else ""
        yield f"<details class=l{level:d}{opened}><summary>{badge(level)}<b>{text(words.title(watched))}</b>"
        yield f"<small>{number(len(watched.placements), 'target')}</small></summary><div id=c{place}>"
        told = words.told_of(watched)
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
        begin = f"{day(leaf.not_before)} to " if leaf.not_before is not None else "until "
        valid = f", {begin}{day(leaf.not_after)}" if leaf.not_after is not None else ""
        yield f"<dt>tracked<dd><code>{text(leaf.fingerprint)}</code>{valid}"
    yield f"<dt>{text(watched.origin)}<dd>{text(watched.source)}{', ' if watched.state else ''}{text(watched.state)}"
    if watched.ca_error:
        yield f"<dt>the CA's words<dd>{text(watched.ca_error)}"


def _target(watched: Watched, placement: Placement, now: float) -> str:
    pushed = f"<code>{text(words.short(placement.pushed))}</code> " if placement.pushed else ""
    when = spelt(words.ago(placement.pushed_at, now))
    command = f"<small><code>{text(' '.join(placement.command))}</code></small>" if placement.command else ""
    following = spelt(words.next_try(placement, now))
    failures = f"<small>{number(placement.failures, 'failure')}</small>" if placement.failures else ""
    return (
        f"<tr><th scope=row><bdi>{text(placement.label)}</bdi>{command}<td data-n=pushed>{pushed}{when}"
        f'<td data-n=served>{"".join(_sights(watched, placement, now))}<td data-n="next try">{following}{failures}'
    )


def _sights(watched: Watched, placement: Placement, now: float) -> Iterator[str]:
    """Yield what is served at each address; the address where there are several."""
    want = words.wanted(watched, placement)
    for sight in placement.served:
        where = f"<small>{text(f'{sight.endpoint} {sight.ip}')}</small>" if len(placement.served) > 1 else ""
        if sight.leaf is None:
            yield f'<span class="w l1">not seen: {text(sight.error)}</span>{where}'
            continue
        step = "in step" if words.same(sight.leaf, want) else "out of step" if want else ""
        tone = ' class="w l2"' if step == "out of step" else ""
        name = f" {text(sight.leaf.name)}" if tone and sight.leaf.name != watched.name else ""
        left = spelt(words.left(sight.leaf, now))
        yield f"<span{tone}><code>{text(words.short(sight.leaf))}</code>{name} {left}, {step}</span>{where}"
