"""The DNS as a validating CA sees it: aliases followed, zones and their servers found, without spoiling any cache.

A recursive server that is asked for a challenge before it is there remembers that it is not, for as long as the SOA
record says (3600 s in FreeIPA), and the CA may ask the same one. So recursive servers are asked for zones and addresses
only, and the authoritative ones, which remember nothing, for the challenge's name.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, NamedTuple, Optional

import dns.flags
import dns.message
import dns.rdatatype

from certhooks.address import Address
from certhooks.errors import BadNameError
from certhooks_freeipa_dns import names
from certhooks_freeipa_dns.lookup import GOOD, Lookup, Server, UnknownZoneError, alias, apex, text

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from certhooks.deadline import Deadline
    from certhooks_freeipa_dns.settings import Settings

_MAX_ALIASES = 8
_MAX_REFERRALS = 12
_THREADS = 16


class Place(NamedTuple):
    """Where a challenge belongs: ``target`` is its name after following aliases, ``zone`` the one that serves it."""

    name: str
    target: str
    zone: str

    def __str__(self) -> str:
        return self.name if self.target == self.name else f"{self.name} (an alias of {self.target})"


class View:
    """What DNS says, remembered for one run.

    Args:
        settings: resolver, nameserver, port.
        deadline: of the whole run.
    """

    def __init__(self, settings: Settings, deadline: Deadline) -> None:
        self.lookup = Lookup(settings, deadline)
        self._starts: dict[str, tuple[Server, ...]] = {}
        self._servers: dict[str, tuple[Server, ...]] = {}
        self._silent: set[Server] = set()

    def places(self, wanted: Iterable[str]) -> dict[str, Place]:
        """Return the place of each name, many at a time.

        Raises:
            BadNameError: aliases in a loop, or too many. UnreachableError: nobody answers for it.
        """
        todo = list(dict.fromkeys(wanted))
        with ThreadPoolExecutor(min(_THREADS, len(todo) or 1)) as pool:
            return dict(zip(todo, pool.map(self.place, todo)))

    def place(self, name: str) -> Place:
        """Return the place of one name; see ``places``."""
        seen: list[str] = []
        target: Optional[str] = name
        while target:
            if target in seen:
                raise BadNameError(f"the aliases of {name} run in a loop: {' -> '.join([*seen, target])}")
            seen.append(target)
            if len(seen) > _MAX_ALIASES + 1:
                raise BadNameError(f"{name} has more than {_MAX_ALIASES} aliases in a row: {' -> '.join(seen)}")
            answer, zone = self._authoritative(target)
            target = alias(answer, target)
            target = names.name(target) if target else None
        return Place(name, seen[-1], zone)

    def servers(self, zone: str) -> tuple[Server, ...]:
        """Return every address of every server that the world asks for a zone, or those that were given.

        Raises:
            UnreachableError: none can be found.
        """
        return self.lookup.given or self._served(zone)

    def _served(self, zone: str) -> tuple[Server, ...]:
        if zone not in self._servers:
            self._servers[zone] = self.lookup.named(zone, self.lookup.recursive(zone, dns.rdatatype.NS))
        return self._servers[zone]

    def ipa_servers(self, domain: str) -> list[Address]:
        """Return the FreeIPA servers of a domain as its SRV records name them, preferred ones first.

        Raises:
            UnreachableError: no resolver answers.
        """
        answer = self.lookup.recursive(f"_ldap._tcp.{domain}", dns.rdatatype.SRV)
        found = [rdata for rrset in answer.answer if rrset.rdtype == dns.rdatatype.SRV for rdata in rrset]
        found.sort(key=lambda rdata: (rdata.priority, -rdata.weight))
        return [Address(host, 443) for host in map(text, (rdata.target for rdata in found)) if host]

    def primary(self, zone: str) -> str:
        """Return the server that the SOA record of a zone names.

        Raises:
            UnknownZoneError: no server of the zone has one.
        """
        for server in self.servers(zone):
            answer = self.lookup.ask(server.address, zone, dns.rdatatype.SOA)
            for rrset in answer.answer if answer else ():
                if rrset.rdtype == dns.rdatatype.SOA:
                    return text(rrset[0].mname)
        raise UnknownZoneError(zone)

    def _authoritative(self, name: str) -> tuple[dns.message.Message, str]:
        """Ask for a name's SOA record where the answer is made: it tells both the zone and an alias."""
        for servers in (self.lookup.given, None):
            if servers == ():
                continue
            found = self._descend(name, servers or self._start(name))
            if found:
                return found
        # The authoritative servers are out of reach, as behind a firewall that lets only the resolvers out.
        answer = self.lookup.recursive(name, dns.rdatatype.SOA)
        zone = apex(answer, name)
        if not zone and not alias(answer, name):
            raise UnknownZoneError(name)
        return answer, zone or ""

    def _start(self, name: str) -> tuple[Server, ...]:
        """Return servers of a zone above the name, found without asking the resolvers for the name or for its host."""
        above = names.suffixes(name)
        above = above[2:] if len(above) > 3 else above[1:]  # noqa: PLR2004  not a top level domain, if it can be helped
        for start in above:
            if start not in self._starts:
                zone = apex(self.lookup.recursive(start, dns.rdatatype.SOA), start)
                self._starts[start] = self._served(zone) if zone else ()
            if self._starts[start]:
                return self._starts[start]
        raise UnknownZoneError(name)

    def _descend(self, name: str, servers: Sequence[Server]) -> Optional[tuple[dns.message.Message, str]]:
        for _ in range(_MAX_REFERRALS):
            referred: tuple[Server, ...] = ()
            for server in servers:
                if server in self._silent:  # once is enough: there may be many names, and many such addresses
                    continue
                answer = self.lookup.ask(server.address, name, dns.rdatatype.SOA)
                if answer is None:
                    self._silent.add(server)
                    continue
                if answer.flags & dns.flags.AA:
                    zone = apex(answer, name) if answer.rcode() in GOOD else None
                    if zone or alias(answer, name):  # where aliases end in a loop, BIND says SERVFAIL beside them
                        return answer, zone or ""
                    continue
                below = [rrset for rrset in answer.authority if rrset.rdtype == dns.rdatatype.NS]
                if below and names.within(name, text(below[0].name)):
                    referred = self.lookup.named(text(below[0].name), answer)
                    break
            if not referred:
                return None
            servers = referred
        return None
