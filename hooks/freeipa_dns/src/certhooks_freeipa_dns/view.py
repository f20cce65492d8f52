"""The DNS as a validating CA sees it: aliases followed, zones and their servers found, without spoiling any cache.

A recursive server that is asked for a challenge before it is there remembers that it is not, for as long as the SOA
record says (3600 s in FreeIPA), and the CA may ask the same one. So recursive servers are asked for zones and addresses
only, and the authoritative ones, which remember nothing, for the challenge's name.
"""

from __future__ import annotations

import socket
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, NamedTuple, Optional

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.query
import dns.rcode
import dns.rdatatype
import dns.resolver

from certhooks import address
from certhooks.address import Address
from certhooks.errors import BadNameError, UnreachableError
from certhooks_freeipa_dns import names

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from certhooks.deadline import Deadline
    from certhooks_freeipa_dns.settings import Settings

_TIMEOUT = 2.0  # seconds for one answer
_TRIES = 2
_MAX_ALIASES = 8
_MAX_REFERRALS = 12
_THREADS = 16
_DNS = 53
_GOOD = (dns.rcode.NOERROR, dns.rcode.NXDOMAIN)


class Place(NamedTuple):
    """Where a challenge belongs: ``target`` is its name after following aliases, ``zone`` the one that serves it."""

    name: str
    target: str
    zone: str


class Server(NamedTuple):
    """One address of an authoritative server, and the name that it was found by."""

    name: str
    address: Address

    def __str__(self) -> str:
        where = _where(self.address)
        return where if self.name == where else f"{self.name} ({where})"


class View:
    """What DNS says, remembered for one run.

    Args:
        settings: resolver, nameserver, port.
        deadline: of the whole run.
    """

    def __init__(self, settings: Settings, deadline: Deadline) -> None:
        self._settings = settings
        self._deadline = deadline
        self._given = [server for each in settings.addresses(settings.nameserver) for server in self._resolved(each)]
        resolvers = [
            server.address for each in settings.addresses(settings.resolver) for server in self._resolved(each)
        ]
        self._resolvers = resolvers or _system_resolvers()
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
            target = _alias(answer, target)
            target = names.name(target) if target else None
        return Place(name, seen[-1], zone)

    def servers(self, zone: str) -> tuple[Server, ...]:
        """Return every address of every server that the world asks for a zone, or those that were given.

        Raises:
            UnreachableError: none can be found.
        """
        return tuple(self._given) or self._served(zone)

    def _served(self, zone: str) -> tuple[Server, ...]:
        if zone not in self._servers:
            self._servers[zone] = self._named(zone, self._recursive(zone, dns.rdatatype.NS))
        return self._servers[zone]

    def ipa_servers(self, domain: str) -> list[Address]:
        """Return the FreeIPA servers of a domain as its SRV records name them, preferred ones first."""
        answer = self._recursive(f"_ldap._tcp.{domain}", dns.rdatatype.SRV)
        found = [rdata for rrset in answer.answer if rrset.rdtype == dns.rdatatype.SRV for rdata in rrset]
        found.sort(key=lambda rdata: (rdata.priority, -rdata.weight))
        return [Address(_text(rdata.target), 443) for rdata in found]

    def primary(self, zone: str) -> str:
        """Return the server that the SOA record of a zone names."""
        for server in self.servers(zone):
            answer = self.ask(server.address, zone, dns.rdatatype.SOA)
            for rrset in answer.answer if answer else ():
                if rrset.rdtype == dns.rdatatype.SOA:
                    return _text(rrset[0].mname)
        raise _unknown(zone)

    def located(self, given: str) -> tuple[str, Address]:
        """Return a server's name, and an address of it, for ``HOST`` or ``HOST:PORT``.

        Raises:
            UnreachableError: it has none.
        """
        where = address.parse(given, self._settings.port)
        try:
            found = self._resolved(where)
        except UnreachableError:
            found = self._addresses(where.host, dns.message.Message())
            if not found:
                raise
        return where.host, Address(found[0].address.host, where.port)

    def ask(self, server: Address, name: str, kind: dns.rdatatype.RdataType) -> Optional[dns.message.Message]:
        """Return one authoritative server's answer, None where it gives none."""
        query = dns.message.make_query(name + ".", kind)
        query.flags &= ~dns.flags.RD
        return self._exchange(server, query)

    def _authoritative(self, name: str) -> tuple[dns.message.Message, str]:
        """Ask for a name's SOA record where the answer is made: it tells both the zone and an alias."""
        for servers in (tuple(self._given), None):
            if servers == ():
                continue
            found = self._descend(name, servers or self._start(name))
            if found:
                return found
        # The authoritative servers are out of reach, as behind a firewall that lets only the resolvers out.
        answer = self._recursive(name, dns.rdatatype.SOA)
        zone = _zone(answer, name)
        if not zone and not _alias(answer, name):
            raise _unknown(name)
        return answer, zone or ""

    def _start(self, name: str) -> tuple[Server, ...]:
        """Return servers of a zone above the name, found without asking the resolvers for the name or for its host."""
        above = names.suffixes(name)
        above = above[2:] if len(above) > 3 else above[1:]  # noqa: PLR2004  not a top level domain, if it can be helped
        for start in above:
            if start not in self._starts:
                zone = _zone(self._recursive(start, dns.rdatatype.SOA), start)
                self._starts[start] = self._served(zone) if zone else ()
            if self._starts[start]:
                return self._starts[start]
        raise _unknown(name)

    def _descend(self, name: str, servers: Sequence[Server]) -> Optional[tuple[dns.message.Message, str]]:
        for _ in range(_MAX_REFERRALS):
            referred: tuple[Server, ...] = ()
            for server in servers:
                if server in self._silent:  # once is enough: there may be many names, and many such addresses
                    continue
                answer = self.ask(server.address, name, dns.rdatatype.SOA)
                if answer is None:
                    self._silent.add(server)
                    continue
                if answer.flags & dns.flags.AA:
                    zone = _zone(answer, name) if answer.rcode() in _GOOD else None
                    if zone or _alias(answer, name):  # where aliases end in a loop, BIND says SERVFAIL beside them
                        return answer, zone or ""
                    continue
                below = [rrset for rrset in answer.authority if rrset.rdtype == dns.rdatatype.NS]
                if below and names.within(name, _text(below[0].name)):
                    referred = self._named(_text(below[0].name), answer)
                    break
            if not referred:
                return None
            servers = referred
        return None

    def _named(self, zone: str, answer: dns.message.Message) -> tuple[Server, ...]:
        """Return the addresses of the servers that an answer names for a zone."""
        hosts = dict.fromkeys(
            _text(rdata.target)
            for rrset in (*answer.answer, *answer.authority)
            if rrset.rdtype == dns.rdatatype.NS
            for rdata in rrset
        )
        found = [server for host in hosts for server in self._addresses(host, answer)]
        if not found:
            told = ", ".join(hosts) or "none is named"
            raise UnreachableError(
                f"no address of a name server of {zone} can be found ({told})",
                hint="name the servers to ask: --nameserver HOST",
            )
        return tuple(found)

    def _addresses(self, host: str, answer: dns.message.Message) -> list[Server]:
        port, wanted = self._settings.port, (dns.rdatatype.A, dns.rdatatype.AAAA)
        glue = [r for r in answer.additional if r.rdtype in wanted and _text(r.name) == host]
        if not glue:
            glue = [r for kind in wanted for r in self._recursive(host, kind).answer if r.rdtype == kind]
        return [Server(host, Address(rdata.address, port)) for rrset in glue for rdata in rrset]

    def _resolved(self, given: Address) -> list[Server]:
        try:
            found = socket.getaddrinfo(given.host, given.port, type=socket.SOCK_DGRAM)
        except (OSError, UnicodeError) as e:
            reason = (getattr(e, "strerror", None) or str(e)).lower()
            raise UnreachableError(
                f"cannot resolve the name server {given.host}: {reason}", hint="give its address instead"
            ) from e
        return [
            Server(_where(given), Address(str(ip), given.port)) for ip in dict.fromkeys(info[4][0] for info in found)
        ]

    def _recursive(self, name: str, kind: dns.rdatatype.RdataType) -> dns.message.Message:
        """Return the answer of the first resolver that has one."""
        query = dns.message.make_query(name + ".", kind)
        last = "no resolver is configured"
        for resolver in self._resolvers:
            answer = self._exchange(resolver, query)
            if answer is not None and answer.rcode() in _GOOD:
                return answer
            last = f"{resolver.host} " + (
                "does not answer" if answer is None else f"says {dns.rcode.to_text(answer.rcode())}"
            )
        raise UnreachableError(
            f"cannot look {name} up in DNS: {last}",
            hint="is /etc/resolv.conf right? --resolver names other servers to ask, --nameserver those of the zone",
        )

    def _exchange(self, server: Address, query: dns.message.Message) -> Optional[dns.message.Message]:
        for _ in range(_TRIES):
            self._deadline.check("the look into DNS")
            timeout = max(0.05, min(_TIMEOUT, self._deadline.remaining()))
            try:
                return dns.query.udp_with_fallback(query, server.host, timeout, server.port)[0]
            except dns.exception.Timeout:
                continue
            except (OSError, dns.exception.DNSException, ValueError):
                return None
        return None


def _where(server: Address) -> str:
    """Return an address as people write it: the port only where it is not that of DNS."""
    host = f"[{server.host}]" if ":" in server.host else server.host
    return host if server.port == _DNS else f"{host}:{server.port}"


def _alias(answer: dns.message.Message, name: str) -> Optional[str]:
    """Return where a name's CNAME record leads, None where it has none."""
    for rrset in answer.answer:
        if rrset.rdtype == dns.rdatatype.CNAME and _text(rrset.name) == name:
            return _text(rrset[0].target)
    return None


def _zone(answer: dns.message.Message, name: str) -> Optional[str]:
    """Return the apex of the zone that an answer to a question for SOA comes from."""
    for rrset in (*answer.answer, *answer.authority):
        owner = _text(rrset.name)
        if rrset.rdtype == dns.rdatatype.SOA and owner and names.within(name, owner):
            return owner
    return None


def _unknown(name: str) -> UnreachableError:
    return UnreachableError(
        f"DNS knows no zone for {name}",
        hint="is the domain right? --resolver or --nameserver names servers that know it, --zone the zone itself",
    )


def _text(name: dns.name.Name) -> str:
    return name.to_text(omit_final_dot=True).lower()


def _system_resolvers() -> list[Address]:
    try:
        return [Address(str(server), _DNS) for server in dns.resolver.Resolver().nameservers]
    except (dns.exception.DNSException, OSError) as e:
        raise UnreachableError(f"cannot read /etc/resolv.conf: {e}", hint="--resolver names the servers to ask") from e
