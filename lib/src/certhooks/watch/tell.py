"""The words of a message: what happened, to what, since when, how it stands, what to type next."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Optional

from certhooks.watch import message as messages
from certhooks.watch.message import line
from certhooks.watch.model import DAY, Level
from certhooks.watch.plain import iso

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from certhooks.watch.message import Message
    from certhooks.watch.model import Finding, Leaf, Placement, Watched

NEW, STILL, FLAPS = "new", "still", "flaps"
WELL, GONE, STEADY_WELL, STEADY_BAD, DOWN = "well", "gone", "steady-well", "steady-bad", "down"
_NAMED = 20  # things in one message; the rest are counted
_IN_FULL = 5  # up to as many are told with everything that is known
_MAX_COMMAND = 1000
_SEVERITY = (Level.OK, Level.WARNING, Level.UNKNOWN, Level.CRITICAL)
_HOUR, _MINUTE = 3600, 60
_MAX_ENDPOINTS = 4
_MAX_FINDINGS = 4


@dataclass(frozen=True)
class Item:
    """One thing in a message.

    Args:
        about: what people call it. what: one of the words above. since: when its trouble began.
        text: the words for its trouble when it was last told.
    """

    about: str
    what: str
    level: Level = Level.OK
    since: float = 0.0
    text: str = ""
    watched: Optional[Watched] = None
    placement: Optional[Placement] = None
    findings: tuple[Finding, ...] = ()


def message(key: str, kind: str, what: str, items: Sequence[Item], *, host: str, now: float) -> Message:
    """Return one message that tells all the items, the worst first; ``what`` is STILL for a reminder."""
    ordered = sorted(items, key=lambda item: (-_SEVERITY.index(item.level), item.about))
    level = ordered[0].level
    subject = f"certhooks on {line(host, 60)}: {_headline(kind, what, ordered, now)}"
    body = [
        "\n".join(_body(kind, what, ordered, now)).rstrip(),
        "",
        "Everything at a glance:",
        "",
        "    certhooks status",
    ]
    about = [item.about for item in ordered]
    return messages.make(key, kind, subject, "\n".join(body), now, host=host, level=level.word, about=about)


def _headline(kind: str, what: str, items: Sequence[Item], now: float) -> str:
    first = items[0]
    word = _word(kind, what, first)
    if len(items) > 1:
        names = ", ".join(line(item.about, 40) for item in items[:2])
        more = f" and {len(items) - 2} more" if len(items) > 2 else ""  # noqa: PLR2004  as many are named
        return f"{word}: {_count(items)}: {names}{more}"
    return f"{word}: {line(first.about, 80)}: {line(_short(first, now), 120)}"


def _count(items: Sequence[Item]) -> str:
    """Return how many there are, and of what."""
    kinds = {"targets" if item.placement else "certificates" if item.watched else "things" for item in items}
    return f"{len(items)} {kinds.pop() if len(kinds) == 1 else 'certificates and targets'}"


def _word(kind: str, what: str, item: Item) -> str:
    if kind == messages.RECOVERY:
        return "over" if item.what == GONE else "recovered"
    word = item.level.word if item.level else "warning"
    return f"still {word}" if what == STILL else f"{word} (flaps)" if item.what == FLAPS else word


def _short(item: Item, now: float) -> str:
    """Return what happened, without the name."""
    lasted = f" after {span(now - item.since)}" if item.since else ""
    if item.what == WELL:
        return f"all is well again{lasted}"
    if item.what == STEADY_WELL:
        return "has been steady for some hours: all is well"
    if item.what == GONE:
        return f"is not watched any more{lasted} of trouble" if lasted else "is not watched any more"
    worst = [finding.text for finding in item.findings if finding.level is item.level]
    text = worst[0] if item.level and worst else item.text
    if item.what == FLAPS:
        return f"comes and goes: {text}"
    if item.what == DOWN:
        return f"it came and went, and now has been so for half an hour: {text}"
    return f"has been steady for some hours: {text}" if item.what == STEADY_BAD else text


def _body(kind: str, what: str, items: Sequence[Item], now: float) -> Iterator[str]:
    if len(items) > 1:
        yield _count(items) + (" are still critical." if what == STILL else " at the same time.")
        yield ""
    full = len(items) <= _IN_FULL
    for item in items[:_NAMED]:
        yield f"{_word(kind, what, item).upper()}: {line(item.about)}: {line(_short(item, now), 500)}"
        yield from (f"  {text}" for text in _details(item, now, full=full))
        if full:
            yield ""
    if len(items) > _NAMED:
        yield f"... and {len(items) - _NAMED} more."
    if any(item.what == FLAPS for item in items):
        yield "What comes and goes is not told again until it has been steady for some hours, or gets worse."
    elif kind != messages.RECOVERY:
        yield "The next message about this comes when it is over or gets worse, or with the reminder (see notify.conf)."


def _details(item: Item, now: float, *, full: bool) -> Iterator[str]:
    """Yield what is known of a thing, most needed first; the short form is for many."""
    if item.what in {WELL, STEADY_WELL, GONE}:
        if item.since:
            yield f"since:    {when(item.since)}, for {span(now - item.since)}"
        if item.text:
            yield f"it was:   {line(item.text)}"
        if full and item.what != GONE:
            yield from _certificates(item, now)
        return
    if item.since:
        yield f"since:    {when(item.since)}"
    findings = sorted(item.findings, key=lambda finding: finding.level is not item.level)[:_MAX_FINDINGS]
    if full:
        yield from (f"also:     {line(finding.text, 500)}" for finding in findings[1:])
        yield from _certificates(item, now)
        yield from _errors(item)
    hints = list(dict.fromkeys(finding.hint for finding in findings if finding.hint))
    yield from (f"to do:    {line(hint, 500)}" for hint in (hints if full else hints[:1]))
    if full and item.placement and item.placement.command:
        yield f"command:  {line(item.placement.typed, _MAX_COMMAND)}"
    if item.placement and item.placement.next_try is not None:
        yield f"next try: {when(item.placement.next_try)}, by itself"


def _errors(item: Item) -> Iterator[str]:
    """Yield the errors as they were recorded."""
    if item.placement and item.placement.failure:
        yield f"error:    {line(item.placement.failure, 500)}"
    if item.watched and item.watched.ca_error:
        yield f"CA:       {line(item.watched.ca_error, 500)}"


def _certificates(item: Item, now: float) -> Iterator[str]:
    """Yield what is tracked and what is served, with the days that are left."""
    if item.watched and item.watched.leaf:
        yield f"tracked:  {_leaf(item.watched.leaf, now)}"
    if item.watched and item.watched.source:
        yield f"from:     {line(item.watched.source)}" + (
            f" ({line(item.watched.state)})" if item.watched.state else ""
        )
    for sight in item.placement.served[:_MAX_ENDPOINTS] if item.placement else ():
        where = sight.endpoint + (f" ({sight.ip})" if sight.ip and sight.ip not in sight.endpoint else "")
        shown = _leaf(sight.leaf, now) if sight.leaf else line(sight.error)
        yield f"served:   {line(where, 120)}: {shown}"


def _leaf(leaf: Leaf, now: float) -> str:
    left = leaf.days_left(now)
    valid = f", until {when(leaf.not_after)}" if leaf.not_after is not None else ""
    days = "" if left is None else f", {left:.1f} days left" if left >= 0 else f", expired {-left:.1f} days ago"
    return f"{line(leaf.name, 80)} sha256:{line(leaf.fingerprint[:16], 16)}...{valid}{days}"


def when(seconds: float) -> str:
    """Return a moment as people read it, in UTC."""
    try:
        return datetime.fromtimestamp(seconds, tz=timezone.utc).strftime("%Y-%m-%d %H:%M UTC")
    except (OverflowError, ValueError, OSError):
        return iso(seconds)


def span(seconds: float) -> str:
    """Return how long something lasted, in two units at most."""
    rest = max(0, int(seconds))
    days, rest = divmod(rest, int(DAY))
    hours, rest = divmod(rest, _HOUR)
    minutes = rest // _MINUTE
    parts = [
        f"{days} d" if days else "",
        f"{hours} h" if hours else "",
        f"{minutes} min" if minutes and not days else "",
    ]
    return " ".join(filter(None, parts)) or "less than a minute"
