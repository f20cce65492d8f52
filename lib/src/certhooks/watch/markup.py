"""Small pieces of HTML that the page and its timeline share; texts from elsewhere are escaped here alone."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from certhooks.watch import words

if TYPE_CHECKING:
    from certhooks.watch.model import Level

_UNITS = {"d": "day", "h": "hour", "min": "minute", "s": "second"}


def text(given: str) -> str:
    """Return a text as HTML shows it, between tags or within quotes; one line that UTF-8 can carry."""
    return escape(words.clean(given))


def badge(level: Level) -> str:
    """Return a level as a word on its colour."""
    return f"<span class=v>{level.word}</span> "


def number(count: int, one: str, many: str = "") -> str:
    """Return how many there are of something."""
    return f"{count} {one if count == 1 else many or f'{one}s'}"


def spelt(time: str) -> str:
    """Return a time of ``words`` with its unit spelt out."""
    parts = time.split(" ")
    for at, part in enumerate(parts):
        if part in _UNITS:
            parts[at] = _UNITS[part] + ("" if parts[at - 1] == "1" else "s")
    return " ".join(parts)


def moment(seconds: float) -> str:
    """Return a time on this host's clock."""
    when = words.moment(seconds)
    shown = f"{when.day} {when:%b %Y, %H:%M} {text(when.tzname() or '')}"
    return f'<time datetime="{when.isoformat(timespec="seconds")}">{shown}</time>'


def day(seconds: float) -> str:
    """Return the day of a time."""
    when = words.moment(seconds)
    return f"{when.day} {when:%b %Y}"
