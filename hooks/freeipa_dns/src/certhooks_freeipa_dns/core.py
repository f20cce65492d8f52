"""The way of every front end: find where a value belongs, write it down, add it, wait, and later remove it alone."""

from __future__ import annotations

import random
from contextlib import ExitStack, contextmanager, suppress
from typing import TYPE_CHECKING, Callable, NamedTuple, Optional

from certhooks.errors import ActivationError, BadNameError, ConnectionLostError, Error, UnreachableError
from certhooks_freeipa_dns import names
from certhooks_freeipa_dns.backend import Record
from certhooks_freeipa_dns.errors import PassingError
from certhooks_freeipa_dns.ledger import Entry, Ledger, now

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from certhooks.deadline import Deadline
    from certhooks.journal import Journal
    from certhooks.trust import Trust
    from certhooks_freeipa_dns.backend import Backend, Held, Zone
    from certhooks_freeipa_dns.settings import Settings
    from certhooks_freeipa_dns.view import Place, Server, View

_TRIES = 6  # two writers lose a value to each other in a third of all tries; six such losses in a row do not happen
_JITTER = 0.15  # seconds, doubled with each try
_APART = 0.3  # seconds after which another's change that was under way when ours was made has come to its end
_REPAIR = 3.0  # seconds between looks at the server while the name servers are waited for
_UNDO = 30.0  # seconds to take back, beyond the deadline


class Challenge(NamedTuple):
    """One value that is to stand under one name; both as ``names`` returns them."""

    name: str
    value: str


class Core:
    """Challenges in FreeIPA's zones, for one run of one command.

    Args:
        run: which run of which client this is; what it adds can be found again by it.
        tell: is told what is being done. warn: is told what is odd but no failure.
    """

    def __init__(
        self,
        settings: Settings,
        trust: Trust,
        journal: Journal,
        deadline: Deadline,
        *,
        run: str = "",
        tell: Callable[[str], None] = lambda _text: None,
        warn: Callable[[str], None] = lambda _text: None,
    ) -> None:
        self.settings = settings
        self.deadline = deadline
        self.ledger = Ledger(journal)
        self.requests = 0
        self._trust = trust
        self._journal = journal
        self._run = run
        self._tell = tell
        self._warn = warn
        self._seen: Optional[View] = None

    def add(self, challenges: Iterable[Challenge], *, more: bool = False) -> list[Entry]:
        """Add every challenge's value, and unless there are ``more`` to come wait until the name servers have it.

        A failure takes back what this call added. With ``more`` to come, ``finish`` waits for all.

        Raises:
            BadNameError: no zone, or an alias that leads nowhere. UnreachableError, CredentialsError, RefusedError: the
            server. ActivationError: it says yes, but the value is not there. NotServedError: not on every name server
            in time. BusyError: another run holds the name. DeadlineError.
        """
        wanted = list(dict.fromkeys(challenges))
        if not wanted:
            return []
        places = self._places(wanted)
        with self._backend(self._earlier()) as backend:
            entries, held = self._surveyed(backend, wanted, places)
            with self._alone(entries):
                known = {entry.key for entry in self.ledger.entries()}
                found = [e for e in entries if e.value in held[e.target].values and e.key not in known]
                ours = [entry for entry in entries if entry not in found]
                self.ledger.put(ours)
                with self._undone(ours, lambda: self._erase(backend, ours)):
                    self._write(backend, entries, held)
            if not more:
                with self._undone(ours, lambda: self.forget(ours)):
                    self._finish(backend, entries)
                self._waited(ours)
        self._tell(f"{len(entries)} value(s) in place")
        return entries

    def finish(self, entries: Sequence[Entry]) -> None:
        """See to it that values that were added before stay, and wait for the name servers; a failure takes all back.

        Raises:
            as ``add``.
        """
        if entries:
            with self._undone(entries, lambda: self.forget(entries)), self._backend(entries[-1]) as backend:
                self._finish(backend, entries)
            self._waited(entries)

    def watch(self, challenges: Iterable[Challenge]) -> None:
        """Wait until the name servers have values, whoever added them; nothing is changed.

        Raises:
            NotServedError, UnreachableError, BadNameError, DeadlineError.
        """
        wanted = list(dict.fromkeys(challenges))
        places = self._places(wanted)
        self._served([Entry(c.name, places[c.name].target, places[c.name].zone, c.value) for c in wanted])

    def remove(self, challenges: Iterable[Challenge]) -> None:
        """Remove exactly these values, wherever they were written; what is not there is fine.

        Raises:
            as ``add``; what could not be removed stays written down for ``sweep``.
        """
        wanted = list(dict.fromkeys(challenges))
        known = {(entry.name, entry.value): entry for entry in self.ledger.entries()}
        entries = [known[challenge] for challenge in wanted if challenge in known]
        strangers = [challenge for challenge in wanted if challenge not in known]
        self.forget(entries)
        if strangers:
            places = self._places(strangers)
            with self._backend(self._earlier()) as backend:
                found, _ = self._surveyed(backend, strangers, places)
                with self._alone(found):
                    self._erase(backend, found)

    def forget(self, entries: Sequence[Entry]) -> None:
        """Remove the values of these entries from their zones, and strike them out.

        Raises:
            as ``remove``: the first failure, when all have been tried.
        """
        failure: Optional[Error] = None
        groups: dict[tuple[str, str], list[Entry]] = {}
        for entry in entries:
            groups.setdefault((entry.backend, entry.server), []).append(entry)
        for group in groups.values():
            try:
                with self._backend(group[0]) as backend, self._alone(group):
                    self._erase(backend, group)
            except Error as e:
                failure = failure or e
        if failure:
            raise failure

    def _places(self, challenges: Sequence[Challenge]) -> dict[str, Place]:
        """Follow aliases and find the zones, in DNS."""
        from certhooks_freeipa_dns.view import Place

        self._tell(f"looking up {len({c.name for c in challenges})} name(s) in DNS")
        zone = self.settings.zone
        try:
            places = self._view().places(c.name for c in challenges)
        except UnreachableError as e:
            if not zone:
                raise
            self._warn(f"{e}; taking the names as they are")
            places = {c.name: Place(c.name, c.name, zone) for c in challenges}
        if zone:
            for place in places.values():
                if not names.within(place.target, zone):
                    raise BadNameError(
                        f"{_told(place)} is not in the zone {zone}", hint="leave --zone out, or name the right one"
                    )
            places = {name: place._replace(zone=zone) for name, place in places.items()}
        return places

    def _surveyed(
        self, backend: Backend, wanted: Sequence[Challenge], places: Mapping[str, Place]
    ) -> tuple[list[Entry], Mapping[str, Held]]:
        """Return where each value goes and what is there, after comparing FreeIPA's zones with what DNS says."""
        candidates = list(dict.fromkeys(each for c in wanted for each in names.suffixes(places[c.name].target)))
        records = [Record(places[c.name].zone, places[c.name].target, c.value) for c in wanted]
        zones, held = backend.survey(candidates, records)
        if zones is not None:
            for place in places.values():
                self._check_zone(backend, place, zones)
        for place in places.values():
            if held[place.target].alias:
                raise BadNameError(
                    f"{_told(place)} is an alias in FreeIPA, which takes no other record",
                    hint="DNS does not serve that alias yet, or --zone hides it: try again without --zone",
                )
        stamp = now()
        return [
            Entry(
                name=c.name,
                target=record.target,
                zone=record.zone,
                value=c.value,
                server=backend.server,
                backend=backend.kind,
                run=self._run,
                created=stamp,
            )
            for c, record in zip(wanted, records)
        ], held

    def _check_zone(self, backend: Backend, place: Place, zones: Mapping[str, Zone]) -> None:
        longest = next((zones[each] for each in names.suffixes(place.target) if each in zones), None)
        if self.settings.zone:
            longest = zones.get(place.zone)
        if longest is None:
            raise BadNameError(
                f"no zone of FreeIPA holds {_told(place)}",
                hint="FreeIPA does not serve it, or this account may not see it: ipa dnszone-find shows what it sees; "
                "an alias (CNAME) from there into a zone of FreeIPA would do",
            )
        if longest.forward:
            raise BadNameError(
                f"{_told(place)} is in {longest.name}, which is a forward zone in FreeIPA and holds no records",
                hint="an alias (CNAME) where that zone is served, into a zone of FreeIPA, would do",
            )
        if not longest.active:
            raise BadNameError(
                f"the zone {longest.name} is disabled in FreeIPA", hint=f"ipa dnszone-enable {longest.name}"
            )
        if longest.name != place.zone:
            raise BadNameError(
                f"{_told(place)} is served from the zone {place.zone}, but the longest zone that {backend.server} "
                f"shows to this account is {longest.name}",
                hint="what is written there would never be served: give the account the permission for "
                f"{place.zone}, or if DNS looks different from here, --zone {longest.name}",
            )

    def _write(self, backend: Backend, entries: Sequence[Entry], held: Mapping[str, Held]) -> None:
        """Add what is missing until the server shows it all."""
        ttls = {e.target: self.settings.ttl for e in entries if not held[e.target].exists}
        self._repeat(
            "add",
            backend,
            entries,
            act=lambda some: backend.add(some, ttls),
            good=lambda record, there: record.value in there.values,
            held=held,
        )

    def _finish(self, backend: Backend, entries: Sequence[Entry]) -> None:
        """Wait for the name servers, and look whether the values are still there.

        A change of somebody else's that was under way when ours was made may undo it after we have read it back: so
        there is a second look, when such a change has ended. Now and then there is one while the servers lag, too.
        """
        began = looked = self.deadline.elapsed()

        def between() -> None:
            nonlocal looked
            if self.deadline.elapsed() - looked > _REPAIR:
                looked = self.deadline.elapsed()
                with suppress(UnreachableError):  # the server's absence is not what is waited for
                    self._repair(backend, entries)

        api = backend.kind == "api"
        while True:
            if self.settings.wait > 0:
                self._served(entries, between if api else lambda: None)
            if not api:
                return
            self.deadline.pause(max(0.0, began + _APART - self.deadline.elapsed()), "the second look")
            if self._repair(backend, entries):
                return

    def _repair(self, backend: Backend, entries: Sequence[Entry]) -> bool:
        """Add again what somebody else's change has undone; tell whether there was nothing to do."""
        held = backend.read(_records(entries))
        lost = [entry for entry in entries if entry.value not in held[entry.target].values]
        if lost:
            self._tell(f"{len(lost)} value(s) were lost to somebody else's change: adding again")
            with self._alone(lost):
                self._write(backend, lost, held)
        return not lost

    def _erase(self, backend: Backend, entries: Sequence[Entry]) -> None:
        """Remove values from a zone; their names' locks are held."""
        if not entries:
            return
        self._repeat(
            "removal",
            backend,
            entries,
            act=backend.remove,
            good=lambda record, there: record.value not in there.values,
        )
        self.ledger.drop(entries)
        self._tell(f"{len(entries)} value(s) removed")

    def _repeat(
        self,
        what: str,
        backend: Backend,
        entries: Sequence[Entry],
        *,
        act: Callable[[Sequence[Record]], Mapping[str, Held]],
        good: Callable[[Record, Held], bool],
        held: Optional[Mapping[str, Held]] = None,
    ) -> None:
        """Change what is not good yet, and look; after a lost connection or a passing fault, look again and repeat."""
        open_ = [r for r in _records(entries) if held is None or not good(r, held[r.target])]
        failure: Optional[Error] = None
        for attempt in range(_TRIES):
            if not open_:
                return
            if attempt:
                self.deadline.pause(_JITTER * 2**attempt * random.uniform(0.3, 1.0), f"the {what}")  # noqa: S311  no secret
            try:
                after = act(open_)
                failure = None
            except (ConnectionLostError, PassingError) as e:
                self._tell(f"{e}; trying again")
                failure = e
                continue
            open_ = [record for record in open_ if not good(record, after[record.target])]
            if open_:
                self._tell(f"the {what} at {open_[0].target} did not last: somebody else writes there too")
        if failure:
            raise failure
        if open_:
            raise ActivationError(
                f"{backend.server} accepts the {what} at {open_[0].target} and undoes it again",
                hint="something else changes the same name all the time: look at /var/log/httpd/error_log there",
            )

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

    def _waited(self, entries: Sequence[Entry]) -> None:
        from dataclasses import replace

        self.ledger.put(replace(entry, waited=True) for entry in entries)

    @contextmanager
    def _undone(self, entries: Sequence[Entry], undo: Callable[[], None]) -> Iterator[None]:
        """Take back what was added when the block fails; what cannot be removed stays written down, and is told."""
        try:
            yield
        except BaseException:
            self.deadline.extend(_UNDO)
            try:
                undo()
            except Error as e:
                self._warn(f"could not take back {len(entries)} value(s): {e}; ipa_dns sweep does that later")
            raise

    def _earlier(self) -> Optional[Entry]:
        """Return a value that an earlier call of this run added: its server is that of the whole run."""
        earlier = self.ledger.entries(lambda entry: bool(self._run) and entry.run == self._run)
        return earlier[-1] if earlier else None

    @contextmanager
    def _alone(self, entries: Sequence[Entry]) -> Iterator[None]:
        """Hold the names' locks, always in the same order."""
        with ExitStack() as held:
            for target in sorted({entry.target for entry in entries}):
                held.enter_context(self._journal.lock(f"dns01 {target}", self.deadline, label=target))
            yield

    @contextmanager
    def _backend(self, pinned: Optional[Entry] = None) -> Iterator[Backend]:
        kind = pinned.backend if pinned else self.settings.backend
        preferred = pinned.server if pinned else ""
        made: Backend
        if kind == "update":
            from certhooks_freeipa_dns.update import Update

            made = Update(self.settings, self._view(), self.deadline, preferred=preferred)
        else:
            from certhooks_freeipa_dns.ipa import Ipa

            made = Ipa(
                self.settings,
                self._trust,
                self.deadline,
                preferred=preferred,
                discovered=lambda domain: self._view().ipa_servers(domain),
                tell=self._tell,
            )
        try:
            yield made
        finally:
            made.close()
            self.requests += made.requests

    def _view(self) -> View:
        if self._seen is None:
            from certhooks_freeipa_dns.view import View

            self._seen = View(self.settings, self.deadline)
        return self._seen


def _records(entries: Sequence[Entry]) -> list[Record]:
    return [Record(entry.zone, entry.target, entry.value) for entry in entries]


def _told(place: Place) -> str:
    return place.name if place.target == place.name else f"{place.name} (an alias of {place.target})"
