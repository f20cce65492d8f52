"""The model as plain JSON values, and lists as plain words."""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from datetime import datetime, timezone
from typing import Any

from certhooks.watch.model import Level, Overview, Placement, Watched

_TIMES = {"at", "not_before", "not_after", "pushed_at", "changed_at", "tried_at", "next_try"}


def as_plain(value: Any, name: str = "") -> Any:
    """Return a value of the model as JSON knows it; what has a level shows it too."""
    if isinstance(value, Level):
        return value.word
    if is_dataclass(value):
        shown = {each.name: as_plain(getattr(value, each.name), each.name) for each in fields(value)}
        return {"level": value.level.word, **shown} if isinstance(value, (Overview, Watched, Placement)) else shown
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return {each: as_plain(getattr(value, each), each) for each in value._fields}
    if isinstance(value, tuple):
        return [as_plain(each) for each in value]
    return iso(value) if name in _TIMES and value is not None else value


def first(names: list[str], most: int) -> str:
    """Return the first of some names, and how many more there are."""
    more = len(names) - most
    return ", ".join(names[:most]) + (f" and {more} more" if more > 0 else "")


def iso(seconds: float) -> str:
    """Return a time as ISO 8601 in UTC; the nearest one that can be written, for times beyond the calendar."""
    try:
        return datetime.fromtimestamp(seconds, tz=timezone.utc).isoformat(timespec="seconds")
    except (OverflowError, ValueError, OSError):
        return datetime.max.replace(tzinfo=timezone.utc).isoformat(timespec="seconds")
