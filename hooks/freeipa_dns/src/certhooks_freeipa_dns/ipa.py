"""Writing through FreeIPA's API: every change is read back, because its adds and deletes are not atomic."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING, Any, Callable, Optional

from certhooks import address
from certhooks.errors import CredentialsError, Error, UnreachableError, UsageError
from certhooks_freeipa_dns import errors, kerberos, names
from certhooks_freeipa_dns.api import Answer, Api, Call
from certhooks_freeipa_dns.backend import Held, Record, Zone, by_target

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from certhooks.address import Address
    from certhooks.deadline import Deadline
    from certhooks.trust import Trust
    from certhooks_freeipa_dns.settings import Settings

# What the look afterwards judges. NOT_FOUND and DUPLICATE: another deleted or made the entry at the same moment.
_FINE = {errors.NO_CHANGE, errors.NOT_FOUND, errors.DUPLICATE}
_GONE = {errors.NOT_FOUND, errors.VALUE_NOT_FOUND, errors.NO_CHANGE}
_HTTPS = 443


class Ipa:
    """FreeIPA's API on the first of its servers that answers.

    Args:
        preferred: the server that the values were written to, to be tried first.
        discovered: asked for further servers when none of those that are given answers.
        tell: is told what is worth a line in the log.
    """

    kind = "api"

    def __init__(
        self,
        settings: Settings,
        trust: Trust,
        deadline: Deadline,
        *,
        preferred: str = "",
        discovered: Callable[[str], list[Address]] = lambda _domain: [],
        tell: Callable[[str], None] = lambda _text: None,
    ) -> None:
        self._settings = settings
        self._trust = trust
        self._deadline = deadline
        self._preferred = preferred
        self._discovered = discovered
        self._tell = tell
        self._api: Optional[Api] = None
        self._tickets: Any = None

    @property
    def server(self) -> str:
        """See Backend."""
        return str(self._api.address) if self._api else ""

    def survey(
        self, candidates: Sequence[str], records: Sequence[Record]
    ) -> tuple[Optional[dict[str, Zone]], Mapping[str, Held]]:
        """See Backend: one request."""
        shows = [_zone_show(name) for name in candidates]
        targets = {record.target for record in records}
        above = [name for name in candidates if name not in targets]
        forwards = [Call("dnsforwardzone_show", (f"{name}.",), {}, name) for name in above]
        answers = self._batch([*shows, *_shows(records), *forwards])
        zones = {
            name: Zone(name, forward=True) for name, answer in zip(above, answers[-len(above) :]) if not answer.code
        }
        for name, answer in zip(candidates, answers):
            if not answer.code:
                active = _first(answer.entry.get("idnszoneactive"))
                zones[name] = Zone(name, active=str(active).upper() != "FALSE")
            elif answer.code != errors.NOT_FOUND or "not configured" in answer.message:
                raise errors.from_code(answer.code, answer.message, self.server, f"zone {name}")
        return zones, self._held(records, answers[len(shows) :])

    def add(self, records: Sequence[Record], ttls: Mapping[str, int]) -> Mapping[str, Held]:
        """See Backend: one request."""
        adds = [
            Call(
                "dnsrecord_add",
                (f"{zone}.", names.relative(target, zone)),
                {"txtrecord": values, **({"dnsttl": ttls[target]} if target in ttls else {})},
                f"zone {zone}",
            )
            for (zone, target), values in by_target(records).items()
        ]
        try:
            return self._change(adds, records, _FINE)
        except errors.RefusedError as e:
            if not ttls or "dnsttl" not in str(e).lower():
                raise
            # Somebody else has made the entry since we looked, and this account may not change the TTL of one.
            return self.add(records, {})

    def remove(self, records: Sequence[Record]) -> Mapping[str, Held]:
        """See Backend: one request. One call a value: FreeIPA refuses a whole list for one value that is not there."""
        deletes = [
            Call("dnsrecord_del", (f"{r.zone}.", names.relative(r.target, r.zone)), {"txtrecord": [r.value]}, r.target)
            for r in dict.fromkeys(records)
        ]
        return self._change(deletes, records, _GONE)

    def read(self, records: Sequence[Record]) -> Mapping[str, Held]:
        """See Backend: one request."""
        return self._held(records, self._batch(_shows(records)))

    def close(self) -> None:
        """See Backend."""
        if self._api:
            self._api.close()

    def _change(self, calls: Sequence[Call], records: Sequence[Record], fine: set[int]) -> Mapping[str, Held]:
        """Carry out changes and read back, in one request; raise the first refusal that is not passing."""
        answers = self._batch([*calls, *_shows(records)])
        held = self._held(records, answers[len(calls) :])
        for call, answer in zip(calls, answers):
            lost = answer.code == errors.NOT_FOUND and "zone not found" in answer.message  # or hidden from us since
            if not answer.code or answer.code == errors.MIDAIR or (answer.code in fine and not lost):
                continue
            if (
                call.method == "dnsrecord_del"
                and not lost
                and call.options["txtrecord"][0] not in held[call.subject].values
            ):
                continue  # whatever the reason: it is not there, as when its addition was refused
            raise errors.from_code(answer.code, answer.message, self.server, call.subject)
        return held

    def _held(self, records: Sequence[Record], answers: Sequence[Answer]) -> dict[str, Held]:
        found = {}
        for (zone, target), answer in zip(by_target(records), answers):
            if answer.code and answer.code != errors.NOT_FOUND:
                raise errors.from_code(answer.code, answer.message, self.server, f"zone {zone}")
            values = frozenset(_plain(text) for text in answer.entry.get("txtrecord") or () if isinstance(text, str))
            found[target] = Held(values, not answer.code, alias="cnamerecord" in answer.entry)
        return found

    def _batch(self, calls: Sequence[Call]) -> list[Answer]:
        if not calls:
            return []
        self._deadline.check("the talk with FreeIPA")
        if self._api:
            return self._api.batch(calls)
        return self._first_that_answers(calls)

    def _first_that_answers(self, calls: Sequence[Call]) -> list[Answer]:
        """Try one server after the other, and stay with the one that answers.

        What is asked first changes nothing, or removes values, which does no harm on two servers.
        """
        failure: Optional[Error] = None
        contexts = self._trust.contexts()
        for where in self._candidates():
            api = Api(where, contexts(where), self._settings, self._deadline.remaining, self._creds())
            try:
                answers = api.batch(calls)
                _no_passing_fault(calls, answers, str(where))
            except UnreachableError as e:
                api.close()
                if isinstance(e.__cause__, ssl.SSLError) and str(where) != self._preferred:
                    raise  # what cannot be trusted is no reason to go elsewhere
                self._tell(f"{e}; trying the next server")
                failure = failure or e
            except CredentialsError as e:
                api.close()
                if str(where) != self._preferred:
                    raise
                self._tell(f"{e}; trying the next server")  # one that was written to once need not be one any more
                failure = failure or e
            except BaseException:
                api.close()
                raise
            else:
                self._api = api
                return answers
        raise failure or UsageError(
            "no FreeIPA server is known",
            hint="write server = ipa1.example.com below [ipa] in the configuration, or enrol this host",
        )

    def _candidates(self) -> Iterable[Address]:
        seen = set()
        if self._preferred:
            seen.add(address.parse(self._preferred))
            yield address.parse(self._preferred)
        for where in self._settings.servers():
            if where not in seen:
                seen.add(where)
                yield where
        if self._settings.discover and self._settings.domain:
            try:
                found = self._discovered(self._settings.domain)
            except UnreachableError as e:  # why the servers before it failed is the better answer
                self._tell(f"no further servers: {e}")
                return
            yield from (where for where in found if where not in seen)

    def _creds(self) -> Optional[Callable[[], Any]]:
        """Return what gets tickets, once a run; None where a user logs in with a password."""
        if self._settings.user:
            return None

        def tickets() -> Any:
            if self._tickets is None:
                self._tickets = kerberos.credentials(self._settings)
            return self._tickets

        return tickets


def _no_passing_fault(calls: Sequence[Call], answers: Sequence[Answer], server: str) -> None:
    """Raise PassingError where one of the answers is a fault of the server: another one may do better."""
    for call, answer in zip(calls, answers):
        if answer.code in errors.PASSING:
            raise errors.from_code(answer.code, answer.message, server, call.subject)


def _zone_show(name: str) -> Call:
    return Call("dnszone_show", (f"{name}.",), {}, f"zone {name}")


def _shows(records: Sequence[Record]) -> list[Call]:
    return [
        Call("dnsrecord_show", (f"{zone}.", names.relative(target, zone)), {}, target)
        for zone, target in by_target(records)
    ]


def _first(value: Any) -> Any:
    return value[0] if isinstance(value, list) and value else value


def _plain(text: str) -> str:
    """Return TXT data as served: FreeIPA keeps it as a zone file has it, quoted or not."""
    if not text.startswith('"'):
        return text
    import dns.exception
    import dns.rdata

    try:
        strings = dns.rdata.from_text("IN", "TXT", text).strings  # type: ignore[attr-defined]  # of TXT alone
    except dns.exception.DNSException:
        return text
    return b"".join(strings).decode("latin-1")
