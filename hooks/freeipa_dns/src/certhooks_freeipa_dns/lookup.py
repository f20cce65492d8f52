"""Questions to DNS servers: recursive ones, authoritative ones, and where the latter are found."""

from __future__ import annotations

import socket
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
from certhooks.errors import UnreachableError
from certhooks_freeipa_dns import names

if TYPE_CHECKING:
    from certhooks.deadline import Deadline
    from certhooks_freeipa_dns.settings import Settings

_TIMEOUT = 2.0  # seconds for one answer
_TRIES = 2
_DNS = 53
GOOD = (dns.rcode.NOERROR, dns.rcode.NXDOMAIN)


class UnknownZoneError(UnreachableError):
    """DNS answers, and knows no zone for a name."""

    def __init__(self, name: str) -> None:
        super().__init__(
            f"DNS knows no zone for {name}",
            hint="is the domain right? --resolver or --nameserver names servers that know it, --zone the zone itself",
        )


class Server(NamedTuple):
    """One address of an authoritative server, and the name that it was found by."""

    name: str
    address: Address

    def __str__(self) -> str:
        where = _where(self.address)
        return where if self.name == where else f"{self.name} ({where})"


class Lookup:
    """Asks servers, each twice at most.

    Args:
        settings: resolver, nameserver, port.
        deadline: of the whole run.

    Attributes:
        given: the addresses of the servers that the setting nameserver names.
    """

    def __init__(self, settings: Settings, deadline: Deadline) -> None:
        self._port = settings.port
        self._deadline = deadline
        self.given = tuple(s for each in settings.addresses(settings.nameserver) for s in _resolved(each))
        resolvers = [s.address for each in settings.addresses(settings.resolver) for s in _resolved(each)]
        self._resolvers = resolvers or _system_resolvers()

    def ask(self, server: Address, name: str, kind: dns.rdatatype.RdataType) -> Optional[dns.message.Message]:
        """Return one authoritative server's answer, None where it gives none."""
        query = dns.message.make_query(name + ".", kind)
        query.flags &= ~dns.flags.RD
        return self._exchange(server, query)

    def recursive(self, name: str, kind: dns.rdatatype.RdataType) -> dns.message.Message:
        """Return the answer of the first resolver that has one.

        Raises:
            UnreachableError: none has.
        """
        query = dns.message.make_query(name + ".", kind)
        last = "no resolver is configured"
        for resolver in self._resolvers:
            answer = self._exchange(resolver, query)
            if answer is not None and answer.rcode() in GOOD:
                return answer
            last = f"{resolver.host} " + (
                "does not answer" if answer is None else f"says {dns.rcode.to_text(answer.rcode())}"
            )
        raise UnreachableError(
            f"cannot look {name} up in DNS: {last}",
            hint="is /etc/resolv.conf right? --resolver names other servers to ask, --nameserver those of the zone",
        )

    def named(self, zone: str, answer: dns.message.Message) -> tuple[Server, ...]:
        """Return the addresses of the servers that an answer names for a zone.

        Raises:
            UnreachableError: there is none.
        """
        hosts = dict.fromkeys(
            text(rdata.target)
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

    def located(self, given: str) -> Server:
        """Return a server by its name alone, at one of its addresses, for ``HOST`` or ``HOST:PORT``.

        Raises:
            UnreachableError: it has none.
        """
        where = address.parse(given, self._port)
        try:
            found = _resolved(where)
        except UnreachableError:
            found = self._addresses(where.host, dns.message.Message())
            if not found:
                raise
        return Server(where.host, Address(found[0].address.host, where.port))

    def _addresses(self, host: str, answer: dns.message.Message) -> list[Server]:
        wanted = (dns.rdatatype.A, dns.rdatatype.AAAA)
        glue = [r for r in answer.additional if r.rdtype in wanted and text(r.name) == host]
        if not glue:
            glue = [r for kind in wanted for r in self.recursive(host, kind).answer if r.rdtype == kind]
        return [Server(host, Address(rdata.address, self._port)) for rrset in glue for rdata in rrset]

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


def alias(answer: dns.message.Message, name: str) -> Optional[str]:
    """Return where a name's CNAME record leads, None where it has none."""
    for rrset in answer.answer:
        if rrset.rdtype == dns.rdatatype.CNAME and text(rrset.name) == name:
            return text(rrset[0].target)
    return None


def apex(answer: dns.message.Message, name: str) -> Optional[str]:
    """Return the apex of the zone that an answer to a question for SOA comes from."""
    for rrset in (*answer.answer, *answer.authority):
        owner = text(rrset.name)
        if rrset.rdtype == dns.rdatatype.SOA and owner and names.within(name, owner):
            return owner
    return None


def text(name: dns.name.Name) -> str:
    """Return a name in lower case without a final dot; the root's is empty."""
    return name.to_text(omit_final_dot=True).lower().removeprefix(".")


def _resolved(given: Address) -> list[Server]:
    try:
        found = socket.getaddrinfo(given.host, given.port, type=socket.SOCK_DGRAM)
    except (OSError, UnicodeError) as e:
        reason = (getattr(e, "strerror", None) or str(e)).lower()
        raise UnreachableError(
            f"cannot resolve the name server {given.host}: {reason}", hint="give its address instead"
        ) from e
    return [Server(_where(given), Address(str(ip), given.port)) for ip in dict.fromkeys(info[4][0] for info in found)]


def _where(server: Address) -> str:
    """Return an address as people write it: the port only where it is not that of DNS."""
    host = f"[{server.host}]" if ":" in server.host else server.host
    return host if server.port == _DNS else f"{host}:{server.port}"


def _system_resolvers() -> list[Address]:
    try:
        return [Address(str(server), _DNS) for server in dns.resolver.Resolver().nameservers]
    except (dns.exception.DNSException, OSError) as e:
        raise UnreachableError(f"cannot read /etc/resolv.conf: {e}", hint="--resolver names the servers to ask") from e
