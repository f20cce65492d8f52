"""The way of every front end: find where a value belongs, write it down, add it, wait, and later remove it alone."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Callable, NamedTuple, Optional

from certhooks.errors import BadNameError, Error, UnreachableError
from certhooks_freeipa_dns import names, zones
from certhooks_freeipa_dns.backend import Record
from certhooks_freeipa_dns.changes import Watch
from certhooks_freeipa_dns.errors import NoZoneError, RefusedError
from certhooks_freeipa_dns.ledger import Entry, now
from certhooks_freeipa_dns.run import Run

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from certhooks_freeipa_dns.backend import Backend, Held
    from certhooks_freeipa_dns.lookup import Server
    from certhooks_freeipa_dns.view import Place

_UNDO = 30.0  # seconds to take back, beyond the deadline


class Challenge(NamedTuple):
    """One value that is to stand under one name; both as ``names`` returns them."""

    name: str
    value: str


class Core(Run):
    """Challenges in FreeIPA's zones, for one run of one command."""

    def add(self, challenges: Iterable[Challenge], *, more: bool = False) -> list[Entry]:
        """Add every challenge's value, and unless there are ``more`` to come wait until the name servers have it.

        A failure takes back what this call added, and nothing that was in our list before. The call after those with
        ``more`` to come waits for theirs too, and takes them back with its own when that fails.

        Raises:
            BadNameError: no zone, or an alias that leads nowhere. UnreachableError, CredentialsError, RefusedError: the
            server. ActivationError: it says yes, but the value is not there. NotServedError: not on every name server
            in time. BusyError: another run holds the name. DeadlineError.
        """
        wanted = list(dict.fromkeys(challenges))
        if not wanted:
            return []
        places = self._places(wanted)
        with self._backend(self._earlier()) as server:
            entries, held = self._surveyed(server, wanted, places, waited=not more)
            with self._alone(entries):
                known = {entry.key: entry for entry in self.ledger.entries()}
                found = [e for e in entries if e.value in held[e.target].values and e.key not in known]
                ours = [entry for entry in entries if entry not in found]
                earlier = [known[e.key] for e in ours if e.key in known and not self._pending(known[e.key])]
                kept = {entry.key for entry in earlier}
                new = [entry for entry in ours if entry.key not in kept]
                self.ledger.put(ours)
                with self._undone(new, lambda: self._erase(server, new), earlier):
                    self._changes(server).add(_records(entries), held, self.settings.ttl)
            if not more:
                pending = self.ledger.entries(self._pending)
                with self._undone([*pending, *new], lambda: self.forget([*pending, *new]), earlier):
                    self._lasting(server, [*pending, *entries])
                    if pending:
                        self.ledger.put(replace(entry, waited=True) for entry in pending)
        self._tell(f"{len(entries)} value(s) in place")
        return entries

    def watch(self, challenges: Iterable[Challenge]) -> None:
        """Wait until the name servers have values, whoever added them; nothing is changed.

        Raises:
            NotServedError, UnreachableError, BadNameError, DeadlineError.
        """
        wanted = list(dict.fromkeys(challenges))
        places = self._places(wanted)
        self._served([Entry(c.name, places[c.name].target, places[c.name].zone, c.value) for c in wanted])

    def remove(self, challenges: Iterable[Challenge], *, strangers: bool = False) -> None:
        """Remove exactly these values, wherever they were written; what is not there is fine.

        Those that are not in our list were added by somebody else, and stay unless ``strangers`` are meant too.

        Raises:
            as ``add``; what could not be removed stays written down for ``sweep``.
        """
        wanted = list(dict.fromkeys(challenges))
        known = {(entry.name, entry.value): entry for entry in self.ledger.entries()}
        entries = [known[challenge] for challenge in wanted if challenge in known]
        others = [challenge for challenge in wanted if challenge not in known]
        self.forget(entries)
        if others and not strangers:
            self._tell(f"{len(others)} value(s) are not in our list, and are left as they are")
        elif others:
            places = self._places(others)
            with self._backend(self._earlier()) as server:
                found, _ = self._surveyed(server, others, places)
                with self._alone(found):
                    self._erase(server, found)

    def forget(self, entries: Sequence[Entry]) -> None:
        """Remove the values of these entries from their zones, and strike them out.

        Raises:
            as ``remove``: the first failure, when all have been tried.
        """
        failures: list[Error] = []
        for group in _groups(entries, lambda entry: (entry.backend, entry.server)):
            with _kept(failures), self._backend(group[0]) as server, self._alone(group):
                self._erase(server, group)
        _raise_first(failures)

    def sweep(self, entries: Sequence[Entry], *, give_up: bool = False) -> tuple[list[Entry], Optional[Error]]:
        """Do as ``forget``, but return what was removed, and the first failure.

        What can never be removed is struck out with a warning: where FreeIPA shows no such zone, nor DNS has one. As
        long as one of them has it, the account may lack a right. ``give_up`` strikes out whatever cannot be removed.
        """
        removed: list[Entry] = []
        failures: list[Error] = []
        for group in _groups(entries, lambda entry: (entry.backend, entry.server, entry.zone)):
            try:
                self.forget(group)
                removed += group
            except Error as e:
                if give_up or (isinstance(e, NoZoneError) and self._gone(group[0].zone)):
                    self.ledger.drop(group)
                    for entry in group:
                        self._warn(f"{entry.target}: {entry.value} is struck out and not removed: {e}")
                else:
                    failures.append(e)
                    self._warn(f"{len(group)} value(s) of zone {group[0].zone} stay in the list: {e}")
        return removed, failures[0] if failures else None

    def _gone(self, zone: str) -> bool:
        """Tell whether DNS knows a zone no more."""
        from certhooks_freeipa_dns.lookup import UnknownZoneError

        try:
            return self._view().place(zone).zone != zone
        except UnknownZoneError:
            return True
        except Error:
            return False

    def _pending(self, entry: Entry) -> bool:
        """Tell whether an earlier call of this run has left it to a later one to wait for this value."""
        return bool(self._run) and self._run == entry.run and not entry.waited

    def _places(self, challenges: Sequence[Challenge]) -> Mapping[str, Place]:
        wanted = dict.fromkeys(challenge.name for challenge in challenges)
        self._tell(f"looking up {len(wanted)} name(s) in DNS")
        return zones.places(self._view(), wanted, given=self.settings.zone, warn=self._warn)

    def _surveyed(
        self, server: Backend, wanted: Sequence[Challenge], places: Mapping[str, Place], *, waited: bool = True
    ) -> tuple[list[Entry], Mapping[str, Held]]:
        """Return where each value goes and what is there, after comparing FreeIPA's zones with what DNS says."""
        candidates = list(dict.fromkeys(each for c in wanted for each in names.suffixes(places[c.name].target)))
        records = [Record(places[c.name].zone, places[c.name].target, c.value) for c in wanted]
        there, held = server.survey(candidates, records)
        if there is not None:
            zones.check(places.values(), there, server.server, given=self.settings.zone)
        zones.no_aliases(places.values(), held)
        stamp = now()
        return [
            Entry(
                name=c.name,
                target=record.target,
                zone=record.zone,
                value=c.value,
                server=server.server,
                backend=server.kind,
                run=self._run,
                created=stamp,
                waited=waited,
            )
            for c, record in zip(wanted, records)
        ], held

    def _lasting(self, server: Backend, entries: Sequence[Entry]) -> None:
        """Wait for the name servers, and see to it that the values are still there when others' changes have ended."""
        if server.kind != "api":  # dynamic updates are atomic
            if self.settings.wait > 0:
                self._served(entries)
            return
        watch = Watch(self.deadline, lambda: self._repaired(server, entries))
        while True:
            watch.repaired = False
            if self.settings.wait > 0:
                self._served(entries, watch.now_and_then)
            if not watch.sure:
                watch.look()
            if not watch.repaired:
                return

    def _repaired(self, server: Backend, entries: Sequence[Entry]) -> bool:
        """Add again what somebody else's change has undone; tell whether there was nothing to do."""
        try:
            held = server.read(_records(entries))
        except UnreachableError as e:  # it is not what is waited for: the values were there when it was last asked
            self._tell(f"{e}; not looking again whether the values are still there")
            return True
        lost = [entry for entry in entries if entry.value not in held[entry.target].values]
        if lost:
            self._tell(f"{len(lost)} value(s) were lost to somebody else's change: adding again")
            with self._alone(lost):
                self._changes(server).add(_records(lost), held, self.settings.ttl)
        return not lost

    def _erase(self, server: Backend, entries: Sequence[Entry]) -> None:
        """Remove values from their zones and strike them out; their names' locks are held.

        One zone that refuses does not keep the others' values in the list.
        """
        if not entries:
            return
        failures: list[Error] = []
        try:
            self._changes(server).remove(_records(entries))
        except (BadNameError, RefusedError) as e:
            groups = _groups(entries, lambda entry: entry.zone)
            if len(groups) == 1:
                raise
            self._tell(f"{e}; zone by zone")
            for group in groups:
                with _kept(failures):
                    self._erase(server, group)
        else:
            self.ledger.drop(entries)
            self._tell(f"{len(entries)} value(s) removed")
        _raise_first(failures)

    def _served(self, entries: Sequence[Entry], between: Callable[[], None] = lambda: None) -> None:
        """Wait for the name servers of the entries' zones."""
        from certhooks_freeipa_dns import wait

        view = self._view()
        wanted: dict[tuple[Server, ...], list[wait.Wanted]] = {}
        for entry in entries:
            wanted.setdefault(view.servers(entry.zone), []).append(wait.Wanted(entry.target, entry.value))
        self._tell(f"waiting for {sum(map(len, wanted))} address(es) of name servers")
        within = self.deadline.within(self.settings.wait)
        for remark in wait.until_served(wanted, within, self.settings.require, tell=self._tell, between=between):
            self._warn(remark)
        if self.settings.settle:
            self.deadline.pause(self.settings.settle, "the pause that settle asks for")

    @contextmanager
    def _undone(self, entries: Sequence[Entry], undo: Callable[[], None], earlier: Sequence[Entry]) -> Iterator[None]:
        """Take back what was added when the block fails; what cannot be removed stays written down, and is told.

        What ``earlier`` calls have added is theirs again.
        """
        try:
            yield
        except BaseException:
            self.deadline.extend(_UNDO)
            try:
                self.ledger.put(earlier)
                undo()
            except Error as e:
                self._warn(f"could not take back {len(entries)} value(s): {e}; ipa_dns sweep does that later")
            raise


def _records(entries: Sequence[Entry]) -> list[Record]:
    return [Record(entry.zone, entry.target, entry.value) for entry in entries]


def _groups(entries: Iterable[Entry], key: Callable[[Entry], object]) -> list[list[Entry]]:
    found: dict[object, list[Entry]] = {}
    for entry in entries:
        found.setdefault(key(entry), []).append(entry)
    return list(found.values())


@contextmanager
def _kept(failures: list[Error]) -> Iterator[None]:
    """Keep a failure for later, so that the others get their turn."""
    try:
        yield
    except Error as e:
        failures.append(e)


def _raise_first(failures: Sequence[Error]) -> None:
    if failures:
        raise failures[0]
