"""What people were told already, kept in the state folder between two runs."""

from __future__ import annotations

import json
import logging
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from certhooks import files
from certhooks.journal import state_error

if TYPE_CHECKING:
    from pathlib import Path

FILE = "watch-told.json"
_MAX_FILE = 64 * 1024 * 1024


@dataclass
class Thing:
    """What was told of one certificate, or of one target of it; times are seconds since the epoch.

    Args:
        about: what people call it. since: when its trouble began; 0 where all is well.
        levels: how bad each kind of trouble was when it was last told (see ``news``).
        seen: the same as last seen, for one that flaps.
        said: when something was last said. changes: when, within the last day.
        flapping: it changes so often that nothing is said until it is steady. moved: when it last changed.
        insisted: while it flaps, it was told that it stays down.
    """

    about: str = ""
    since: float = 0.0
    text: str = ""
    levels: dict[str, int] = field(default_factory=dict)
    seen: dict[str, int] = field(default_factory=dict)
    said: float = 0.0
    changes: list[float] = field(default_factory=list)
    flapping: bool = False
    insisted: bool = False
    moved: float = 0.0


@dataclass
class Told:
    """All that was told.

    Args:
        born: when this was begun. serial: how many messages were made since; both are part of a message's key.
        reminded: when the last reminder was made.
    """

    born: float = 0.0
    serial: int = 0
    reminded: float = 0.0
    things: dict[str, Thing] = field(default_factory=dict)


_Kept = TypeVar("_Kept", Thing, Told)


def load(folder: Path) -> Told:
    """Return what was told; nothing when there is no file or a damaged one, which is set aside.

    Raises:
        StateError: it is there and cannot be read.
    """
    path = folder / FILE
    try:
        with path.open("rb") as file:
            data = file.read(_MAX_FILE + 1)
    except FileNotFoundError:
        return Told()
    except OSError as e:
        raise state_error(e, path) from e
    try:
        return _told(json.loads(data if len(data) <= _MAX_FILE else b""))
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        logging.getLogger(__name__).warning("%s is damaged: begun anew, what is wrong now will be told again", path)
        with suppress(OSError):
            path.replace(path.with_suffix(".damaged"))
        return Told()


def save(folder: Path, told: Told) -> None:
    """Keep it, whole and private.

    Raises:
        StateError: it cannot be written; what was kept is as it was.
    """
    path = folder / FILE
    try:
        files.replace(path, json.dumps({"version": 1, **asdict(told)}, separators=(",", ":")).encode())
    except OSError as e:
        raise state_error(e, path) from e


def fits(value: Any, usual: Any) -> bool:
    """Tell whether a value from a file is of the type of the usual one; a finite number where that is a number."""
    if isinstance(usual, float):
        return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < float("inf")
    return type(value) is type(usual)


def _told(stored: dict[str, Any]) -> Told:
    """Return it from a file; ValueError, TypeError, KeyError or AttributeError where it is not what we wrote."""
    stored.pop("version")
    things = {str(key): _thing(one) for key, one in stored.pop("things").items()}
    return _checked(Told(**stored, things=things))


def _thing(stored: dict[str, Any]) -> Thing:
    made = _checked(Thing(**stored))
    numbers = [*made.levels.values(), *made.seen.values()]
    if not all(fits(each, 0) for each in numbers) or not all(fits(each, 0.0) for each in made.changes):
        raise TypeError("number")
    return made


def _checked(made: _Kept) -> _Kept:
    usual = type(made)()
    for name, value in vars(made).items():
        if not fits(value, getattr(usual, name)):
            raise TypeError(name)
    return made
