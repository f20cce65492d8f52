"""Which values are ours: written down before they are added, struck out when they are gone.

One file for all, ``dns01.json`` in the state folder, written whole. A run that was killed leaves its values in it, and
``sweep`` removes those from the zone and nothing else. A value is no secret: the whole world may read it in DNS.
A file that is not as we write it is kept beside the new one, as ``dns01.damaged.N``; ``list`` and ``sweep`` tell once.
"""

from __future__ import annotations

import itertools
import json
import logging
import os
import time
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Optional

from certhooks import files
from certhooks.deadline import Deadline
from certhooks.journal import state_error

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path

    from certhooks.journal import Journal

_FILE = "dns01.json"
_VERSION = 1
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
        self._untold = self._path.with_suffix(".untold")  # the names of damaged ones, a line each

    def entries(self, wanted: Callable[[Entry], bool] = lambda _entry: True) -> list[Entry]:
        """Return the entries that are wanted, oldest first.

        Raises:
            StateError: the file cannot be read. BusyError: it is damaged, and another run holds it.
        """
        entries, sound = self._read()
        if not sound:
            with self._locked():
                entries = self._sound()
        return [entry for entry in entries if wanted(entry)]

    def put(self, entries: Iterable[Entry]) -> None:
        """Write entries down, in place of those with the same target and value."""
        with self._changing() as there:
            there.update({entry.key: entry for entry in entries})

    def drop(self, entries: Iterable[Entry]) -> None:
        """Strike entries out."""
        with self._changing() as there:
            for entry in entries:
                there.pop(entry.key, None)

    def untold(self) -> list[Path]:
        """Return the damaged lists that were set aside and that nobody was told of yet; they count as told then.

        Raises:
            StateError: it cannot be noted.
        """
        if not self._untold.exists():
            return []
        with self._locked():
            try:
                names = self._untold.read_text(encoding="utf-8").splitlines()
                self._untold.unlink()
            except FileNotFoundError:  # another was told meanwhile
                return []
            except (OSError, UnicodeDecodeError) as e:
                raise state_error(e, self._untold) from e
            return [self._path.with_name(name) for name in names]

    @contextmanager
    def _changing(self) -> Iterator[dict[tuple[str, str], Entry]]:
        with self._locked():
            before = {entry.key: entry for entry in self._sound()}
            there = dict(before)
            yield there
            if there != before:
                self._write(there.values())

    def _locked(self) -> AbstractContextManager[float]:
        return self._journal.lock("dns01", Deadline(_LOCK_SECONDS), label="the list of our values")

    def _write(self, entries: Iterable[Entry]) -> None:
        document = {"version": _VERSION, "values": [asdict(entry) for entry in entries]}
        try:
            files.replace(self._path, json.dumps(document).encode())
        except OSError as e:
            raise state_error(e, self._path) from e

    def _read(self) -> tuple[list[Entry], bool]:
        """Return what can be read, and whether that is all that the file has."""
        try:
            with self._path.open("rb") as file:
                text = file.read(_MAX_FILE + 1)
        except FileNotFoundError:
            return [], True
        except OSError as e:
            raise state_error(e, self._path) from e
        try:
            document = json.loads(text)
            entries = [_entry(stored) for stored in document["values"]]
            version = document["version"]
        except (ValueError, TypeError, KeyError, RecursionError):
            return [], False
        if version != _VERSION:
            return [], False
        return [entry for entry in entries if entry], all(entries)

    def _sound(self) -> list[Entry]:
        """Return what can be read, after setting a file aside that has more than that; the lock is held."""
        entries, sound = self._read()
        if sound:
            return entries
        try:
            aside = self._kept()
            files.replace(self._untold, self._noted() + aside.name.encode() + b"\n")
        except OSError as e:  # better no change than one that overwrites it
            raise state_error(e, self._path) from e
        self._write(entries)
        logging.getLogger(__name__).warning("the list of our values is damaged; as it was it is %s", aside)
        return entries

    def _kept(self) -> Path:
        """Give the file a second name, which no other has."""
        for number in itertools.count(1):
            aside = self._path.with_suffix(f".damaged.{number}")
            with suppress(FileExistsError):
                os.link(self._path, aside)
                return aside
        raise AssertionError  # numbers do not end

    def _noted(self) -> bytes:
        return self._untold.read_bytes() if self._untold.exists() else b""


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
