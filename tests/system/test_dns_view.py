"""How zones, aliases and servers are found in DNS, on port 53 of addresses of their own."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

from certhooks.deadline import Deadline
from certhooks_freeipa_dns.settings import Settings
from certhooks_freeipa_dns.view import View
from tests.lab.acme.bind import name_server
from tests.lab.dns_fixtures import needs_bind
from tests.lab.machine import machine_of_its_own

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from tests.lab.acme import NameServer

pytestmark = needs_bind

PARENT, CHILD, NOBODY = "10.53.0.1", "10.53.0.2", "10.53.0.9"


def addresses() -> None:
    """Give the loopback device addresses for name servers."""
    for address in (PARENT, CHILD):
        subprocess.run(["ip", "address", "add", f"{address}/32", "dev", "lo"], check=True)
    Path("/etc/resolv.conf").write_text(f"nameserver {PARENT}\n")


def at(address: str, zone: str, text: str = "") -> AbstractContextManager[NameServer]:
    """Run the name server of one zone on port 53."""
    return name_server({zone: text}, servers=zone, addresses=[address], port=53)


@machine_of_its_own()
def test_delegations_are_followed_without_asking_a_resolver_for_the_name() -> None:
    """Zone and servers of a name are those below the cut; an alias that leads there is followed."""
    addresses()
    parent = (
        f"sub NS ns1.sub\nns1.sub A {CHILD}\n"
        "_acme-challenge.www CNAME www.sub\n"
        "_ldap._tcp SRV 10 5 389 ipa2\n_ldap._tcp SRV 0 1 389 ipa1\n_ldap._tcp SRV 10 50 389 ipa3\n"
    )
    with at(PARENT, "example.test", parent), at(CHILD, "sub.example.test"):
        view = View(Settings(), Deadline(30))
        place = view.place("_acme-challenge.www.example.test")
        assert (place.target, place.zone) == ("www.sub.example.test", "sub.example.test")
        place = view.place("_acme-challenge.new.sub.example.test")
        assert (place.target, place.zone) == ("_acme-challenge.new.sub.example.test", "sub.example.test")
        assert [str(server) for server in view.servers("sub.example.test")] == [f"ns1.sub.example.test ({CHILD})"]
        assert view.primary("sub.example.test") == "ns1.sub.example.test"
        found = [server.host for server in view.ipa_servers("example.test")]
        assert found == ["ipa1.example.test", "ipa3.example.test", "ipa2.example.test"]


@machine_of_its_own()
def test_authoritative_servers_out_of_reach() -> None:
    """Where a firewall lets only the resolvers out, they are asked after all, and each silent server costs once."""
    addresses()
    text = f"@ NS ns2\nns2 A {CHILD}\n_acme-challenge.www CNAME www.other\n"
    with at(PARENT, "example.test", text) as dns:
        dns.delete("example.test", "NS", "ns1.example.test.")  # what is left does not answer
        view = View(Settings(), Deadline(60))
        began = time.monotonic()
        places = view.places(["_acme-challenge.www.example.test", "_acme-challenge.mail.example.test"])
        assert places["_acme-challenge.www.example.test"].target == "www.other.example.test"
        assert {place.zone for place in places.values()} == {"example.test"}
        assert time.monotonic() - began < 10
