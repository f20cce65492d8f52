"""Aliases and zones, as authoritative servers tell them."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

if sys.version_info < (3, 10):
    pytest.skip("the DNS hooks need Python 3.10", allow_module_level=True)

import dns.exception
import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype

from certhooks.address import Address
from certhooks.deadline import Deadline
from certhooks.errors import BadNameError, UnreachableError
from certhooks_freeipa_dns.lookup import Lookup, Server, UnknownZoneError
from certhooks_freeipa_dns.settings import Settings
from certhooks_freeipa_dns.view import View

if TYPE_CHECKING:
    from pytest_mock import MockerFixture

SOA = "IN SOA ns. hostmaster. 1 2 3 4 5"


class Internet(Lookup):
    """Answers by server and name; ``asked`` has every question."""

    def __init__(self, answers: dict[tuple[str, str], str], given: tuple[str, ...] = ()) -> None:
        self.answers = answers
        self.asked: list[tuple[str, str]] = []
        self.given = tuple(self.server(name) for name in given)

    @staticmethod
    def server(name: str) -> Server:
        """Return a server whose address is its name."""
        return Server(name, Address(name, 53))

    def ask(self, server: Address, name: str, kind: dns.rdatatype.RdataType) -> dns.message.Message | None:
        """Return the answer."""
        assert kind in {dns.rdatatype.SOA, dns.rdatatype.NS, dns.rdatatype.SRV}
        self.asked.append((server.host, name))
        text = self.answers.get((server.host, name))
        return None if text is None else dns.message.from_text("id 1\n" + text)

    def recursive(self, name: str, kind: dns.rdatatype.RdataType) -> dns.message.Message:
        """Ask the resolver."""
        answer = self.ask(Address("resolver", 53), name, kind)
        if answer is None:
            raise UnreachableError(f"cannot look {name} up in DNS")
        return answer

    def named(self, zone: str, answer: dns.message.Message) -> tuple[Server, ...]:
        """Return the servers that an answer names, without asking for their addresses."""
        assert zone
        rrsets = [rrset for rrset in (*answer.answer, *answer.authority) if rrset.rdtype == dns.rdatatype.NS]
        return tuple(self.server(rdata.target.to_text(omit_final_dot=True)) for rrset in rrsets for rdata in rrset)


def view(answers: dict[tuple[str, str], str], given: tuple[str, ...] = ()) -> tuple[View, Internet]:
    """Return a view of that Internet; the resolver knows example.test and its servers ns1 and ns2."""
    made = View(Settings(resolver="127.0.0.1"), Deadline(20))
    net = Internet(
        {
            (
                "resolver",
                "example.test",
            ): f";ANSWER\nexample.test. 5 {SOA}\nexample.test. 5 IN NS ns1.\nexample.test. 5 IN NS ns2.",
            **answers,
        },
        given,
    )
    made.lookup = net
    return made, net


def here(name: str, zone: str = "example.test") -> str:
    """Return an authoritative answer that the name is in a zone."""
    assert name
    return f"flags QR AA\nrcode NXDOMAIN\n;AUTHORITY\n{zone}. 5 {SOA}"


def leads(name: str, target: str) -> str:
    """Return an authoritative answer that the name is an alias."""
    return f"flags QR AA\n;ANSWER\n{name}. 5 IN CNAME {target}."


def test_eight_aliases_and_no_more() -> None:
    """A CA follows that many; the chain is shown."""
    chain = [f"a{n}.example.test" for n in range(10)]
    answers = {("ns1", a): leads(a, b) for a, b in zip(chain, chain[1:])}
    seen, _ = view({**answers, ("ns1", chain[8]): here(chain[8])})
    assert seen.place(chain[0])[1:] == (chain[8], "example.test")
    seen, _ = view({**answers, ("ns1", chain[9]): here(chain[9])})
    with pytest.raises(BadNameError, match="more than 8 aliases in a row: a0"):
        seen.place(chain[0])
    seen, _ = view({**answers, ("ns1", chain[1]): leads(chain[1], chain[0])})
    with pytest.raises(BadNameError, match=r"in a loop: a0\.example\.test -> a1\.example\.test -> a0"):
        seen.place(chain[0])


def test_an_alias_that_leads_to_no_name() -> None:
    """Hostile data in DNS is told like a hostile argument."""
    seen, _ = view({("ns1", "a.example.test"): "flags QR AA\n;ANSWER\na.example.test. 5 IN CNAME b\\;c.example.test."})
    with pytest.raises(BadNameError, match="not a full DNS name"):
        seen.place("a.example.test")


def test_resolvers_are_not_asked_for_the_name() -> None:
    """Nor for its host: they would remember that it is not there. Zones above are asked for once for many names."""
    names = [f"_acme-challenge.{host}.example.test" for host in ("a", "b", "c")]
    seen, net = view({("ns1", name): here(name) for name in names})
    places = seen.places(names)
    assert {place.zone for place in places.values()} == {"example.test"}
    assert {name for server, name in net.asked if server == "resolver"} == {"example.test"}


def test_servers_that_are_given_go_first() -> None:
    """Split horizon: what they say counts; one that does not have the zone leaves it to the world's servers."""
    name = "_acme-challenge.a.example.test"
    seen, net = view({("inside", name): here(name, "a.example.test"), ("ns1", name): here(name)}, ("inside",))
    assert seen.place(name).zone == "a.example.test"
    assert net.asked == [("inside", name)]
    assert [server.name for server in seen.servers("example.test")] == ["inside"]
    refused = "flags QR\nrcode REFUSED"
    seen, _ = view({("inside", name): refused, ("ns1", name): here(name)}, ("inside",))
    assert seen.place(name).zone == "example.test"


def test_a_silent_server_costs_once_and_a_broken_one_is_passed_over() -> None:
    """The next one is asked; many names do not wait for the same silence."""
    names = [f"n{n}.example.test" for n in range(20)]
    seen, net = view({("ns2", name): here(name) for name in names})
    for name in names:
        assert seen.place(name).zone == "example.test"
    assert [server for server, _ in net.asked].count("ns1") == 1
    seen, _ = view({("ns1", "a.example.test"): "flags QR AA\nrcode SERVFAIL", ("ns2", "a.example.test"): here("a")})
    assert seen.place("a.example.test").zone == "example.test"


def test_referrals_are_followed_down_and_no_further_than_that() -> None:
    """Into a delegated zone; one that leads elsewhere, or in circles, is no answer."""
    name = "a.sub.example.test"
    down = "flags QR\n;AUTHORITY\nsub.example.test. 5 IN NS ns3."
    seen, _ = view({("ns1", name): down, ("ns3", name): here(name, "sub.example.test")})
    assert seen.place(name).zone == "sub.example.test"
    for away in (down.replace("sub.example.test.", "other.test."), down.replace("ns3.", "ns1.")):
        seen, net = view({("ns1", name): away, ("resolver", name): here(name, "resolver.says.test")})
        with pytest.raises(UnknownZoneError, match=f"DNS knows no zone for {name}"):
            seen.place(name)
        assert len(net.asked) < 20


def test_srv_records() -> None:
    """By priority, then by weight; a target of the root means that there is none."""
    records = "\n".join(
        f"_ldap._tcp.ipa.test. 5 IN SRV {p} {w} 389 {host}"
        for p, w, host in [(1, 5, "c."), (0, 1, "b."), (0, 9, "A.Test."), (9, 0, ".")]
    )
    seen, _ = view({("resolver", "_ldap._tcp.ipa.test"): f";ANSWER\n{records}"})
    assert seen.ipa_servers("ipa.test") == [Address("a.test", 443), Address("b", 443), Address("c", 443)]
    seen, _ = view({("resolver", "_ldap._tcp.ipa.test"): "rcode NXDOMAIN"})
    assert seen.ipa_servers("ipa.test") == []


def test_how_servers_are_asked(mocker: MockerFixture) -> None:
    """Authoritative ones without recursion, resolvers with it; twice where there is no answer, then the next one."""
    asked: list[tuple[str, bool]] = []
    answers = iter(["late", "late", "rcode SERVFAIL", "rcode NXDOMAIN", "broken"])

    def exchange(query: dns.message.Message, where: str, *_: float) -> tuple[dns.message.Message, bool]:
        asked.append((where, bool(query.flags & dns.flags.RD)))
        answer = next(answers)
        if answer == "late":
            raise dns.exception.Timeout
        if answer == "broken":
            raise OSError
        return dns.message.from_text(f"id 1\n{answer}"), False

    mocker.patch("dns.query.udp_with_fallback", exchange)
    lookup = Lookup(Settings(resolver="127.0.0.1 127.0.0.2, 127.0.0.3"), Deadline(20))
    assert lookup.recursive("a.test", dns.rdatatype.SOA).rcode() == dns.rcode.NXDOMAIN
    assert lookup.ask(Address("127.0.0.9", 53), "a.test", dns.rdatatype.SOA) is None
    resolvers = [("127.0.0.1", True)] * 2 + [("127.0.0.2", True), ("127.0.0.3", True)]
    assert asked == [*resolvers, ("127.0.0.9", False)]
    answers = iter(["rcode REFUSED", "rcode REFUSED", "rcode REFUSED"])
    with pytest.raises(UnreachableError, match=r"cannot look a\.test up in DNS: 127\.0\.0\.3 says REFUSED"):
        lookup.recursive("a.test", dns.rdatatype.SOA)


def test_addresses_of_name_servers(mocker: MockerFixture) -> None:
    """Those that come with the answer, else those that the resolver has; another host's do not count."""
    lookup = Lookup(Settings(resolver="127.0.0.1", port=5353), Deadline(20))
    told = {"A": "ns2.test. 5 IN A 192.0.2.2", "AAAA": "ns2.test. 5 IN AAAA 2001:db8::2"}
    mocker.patch.object(
        lookup,
        "recursive",
        lambda name, kind: dns.message.from_text(
            f"id 1\n;ANSWER\n{told[dns.rdatatype.to_text(kind)]}" if name == "ns2.test" else "id 1\nrcode NXDOMAIN"
        ),
    )
    referral = "id 1\n;AUTHORITY\nz.test. 5 IN NS ns1.test.\nz.test. 5 IN NS NS2.test.\n;ADDITIONAL\n"
    found = lookup.named(
        "z.test", dns.message.from_text(f"{referral}ns1.test. 5 IN A 192.0.2.1\nx.test. 5 IN A 192.0.2.9")
    )
    assert [str(server) for server in found] == [
        "ns1.test (192.0.2.1:5353)", "ns2.test (192.0.2.2:5353)", "ns2.test ([2001:db8::2]:5353)",
    ]  # fmt: skip
    for answer, hosts in (("id 1", "none is named"), ("id 1\n;ANSWER\nz.test. 5 IN NS ns3.test.", "ns3.test")):
        with pytest.raises(UnreachableError, match=rf"no address of a name server of z\.test can be found \({hosts}\)"):
            lookup.named("z.test", dns.message.from_text(answer))
