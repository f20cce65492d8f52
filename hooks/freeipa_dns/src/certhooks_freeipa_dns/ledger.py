"""Which values are ours: written down before they are added, struck out when they are gone.

One file for all, ``dns01.json`` in the state folder, written whole. A run that was killed leaves its values in it, and
``sweep`` removes those from the zone and nothing else. A value is no secret: the whole world may read it in DNS.
"""

from __future__ import annotations

import json
import logging
import time
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Optional

from certhooks import files
from certhooks.deadline import Deadline
from certhooks.journal import state_error

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from certhooks.journal import Journal

_FILE = "dns01.json"
_MAX_FILE = 16 * 1024 * 1024
_LOCK_SECONDS = 30.0


@dataclass(frozen=True)
class Entry:
    """A value of ours in a zone.

    Args:
        name: asked for; ``target``: where it was written, after following aliases.
        server: HOST or HOST:PORT of the FreeIPA server that it was written to.
        run: which run of which client added it; empty when a person did.
        created: seconds since the epoch.
        waited: the call that added it waited for the name servers itself, or a later one has for it.
    """

    name: str
    target: str
    zone: str
    value: str
    server: str = ""
    backend: str = "api"
    run: str = ""
    created: float = 0.0
    waited: bool = False

    @property
    def key(self) -> tuple[str, str]:
        """What makes it the one value that it is."""
        return (self.target, self.value)


class Ledger:
    """All entries of this host."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._path = journal.folder / _FILE

    def entries(self, wanted: Callable[[Entry], bool] = lambda _entry: True) -> list[Entry]:
        """Return the entries that are wanted, oldest first.

        Raises:
            StateError: the file cannot be read.
        """
        return [entry for entry in self._read() if wanted(entry)]

    def put(self, entries: Iterable[Entry]) -> None:
        """Write entries down, in place of those with the same target and value."""
        with self._changing() as there:
            there.update({entry.key: entry for entry in entries})

    def drop(self, entries: Iterable[Entry]) -> None:
        """Strike entries out."""
        with self._changing() as there:
            for entry in entries:
                there.pop(entry.key, None)

    @contextmanager
    def _changing(self) -> Iterator[dict[tuple[str, str], Entry]]:
        with self._journal.lock("dns01", Deadline(_LOCK_SECONDS), label="the list of our values"):
            before = {entry.key: entry for entry in self._read()}
            there = dict(before)
            yield there
            if there != before:
                document = {"version": 1, "values": [asdict(entry) for entry in there.values()]}
                try:
                    files.replace(self._path, json.dumps(document).encode())
                except OSError as e:
                    raise state_error(e, self._path) from e

    def _read(self) -> list[Entry]:
        try:
            with self._path.open("rb") as file:
                text = file.read(_MAX_FILE + 1)
        except FileNotFoundError:
            return []
        except OSError as e:
            raise state_error(e, self._path) from e
        try:
            return [entry for entry in map(_entry, json.loads(text)["values"]) if entry]
        except (ValueError, TypeError, KeyError, RecursionError):
            aside = self._path.with_suffix(".damaged")
            with suppress(OSError):
                self._path.replace(aside)
            logging.getLogger(__name__).warning("the list of our values is damaged; it is now %s", aside)
            return []


def now() -> float:
    """Return the time for ``Entry.created``."""
    return time.time()


def _entry(stored: object) -> Optional[Entry]:
    """Return an entry from the file; None where it is not what we write."""
    if not isinstance(stored, dict):
        return None
    usual = asdict(Entry("", "", "", ""))
    known = {key: value for key, value in stored.items() if key in usual}  # another version may have others
    if not {"name", "target", "zone", "value"} <= set(known) or any(
        not isinstance(value, (int, float) if isinstance(usual[key], float) else type(usual[key]))
        for key, value in known.items()
    ):
        return None
    return Entry(**known)
