"""Two FreeIPA servers of one realm: what is written to one is on the other, unless a test keeps it back."""

from __future__ import annotations

import functools
import time
from pathlib import Path
from typing import TYPE_CHECKING

import dns.resolver
from cryptography import x509
from python_freeipa import exceptions

from tests.lab.freeipa import names
from tests.lab.freeipa.client import EnrolledHost
from tests.lab.freeipa.fixtures import enrolled_machine, pair

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.lab.freeipa.server import FreeIPA, Pair

__all__ = ["pair"]
pytestmark = enrolled_machine()
UNREACHABLE = 3  # getcert's exit status
ZONE = f"{names.DOMAIN}."


def soon(what: Callable[[], object], seconds: float = 5.0) -> None:
    """Wait until something is so."""
    until = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < until, "it did not happen"
        time.sleep(0.01)


def has_host(server: FreeIPA, name: str) -> bool:
    """Tell whether a server knows a host."""
    try:
        server.api("host_show", name)
    except exceptions.NotFound:
        return False
    return True


def served(server: FreeIPA, name: str) -> list[str]:
    """Return the TXT values that a server's own name server has for a name."""
    resolver = dns.resolver.Resolver(configure=False)
    resolver.nameservers = [server.node.address]
    try:
        return sorted(value.to_text().strip('"') for value in resolver.resolve(f"{name}.", "TXT"))
    except (dns.resolver.NXDOMAIN, dns.resolver.NoAnswer):
        return []


def serves(server: FreeIPA, name: str, value: str) -> bool:
    """Tell whether a server's own name server has this value alone."""
    return served(server, name) == [value]


def test_each_knows_what_the_other_was_told(pair: Pair) -> None:
    """A host added on either server is on the other within seconds."""
    pair.server.api("host_add", "one.ipa.test", force=True)
    pair.replica.api("host_add", "two.ipa.test", force=True)
    soon(lambda: has_host(pair.replica, "one.ipa.test"))
    soon(lambda: has_host(pair.server, "two.ipa.test"))
    assert "IPA server version" in pair.replica.ipa("ping")


def test_both_are_name_servers(pair: Pair) -> None:
    """The zone names both, and a value that one was told is served by both."""
    resolver = dns.resolver.Resolver(configure=False)
    resolver.nameservers = [names.SERVER.address]
    told = {value.to_text() for value in resolver.resolve(ZONE, "NS")}
    assert told == {f"{names.SERVER.host}.", f"{names.REPLICA.host}."}
    pair.replica.api("dnsrecord_add", ZONE, "both", txtrecord=["v"])
    for server in (pair.server, pair.replica):
        soon(functools.partial(serves, server, f"both.{names.DOMAIN}", "v"))


def test_one_can_lag(pair: Pair) -> None:
    """What one server keeps back is not on the other, whose own changes go on; then it is there at once."""
    with pair.apart(pair.server):
        pair.server.api("dnsrecord_add", ZONE, "late", txtrecord=["v"])
        pair.replica.api("dnsrecord_add", ZONE, "prompt", txtrecord=["v"])
        soon(lambda: served(pair.server, f"prompt.{names.DOMAIN}") == ["v"])
        assert served(pair.server, f"late.{names.DOMAIN}") == ["v"]
        assert served(pair.replica, f"late.{names.DOMAIN}") == []
    soon(lambda: served(pair.replica, f"late.{names.DOMAIN}") == ["v"])


def test_one_new_name_on_both_loses_a_value(pair: Pair) -> None:
    """A name that both make while they are apart keeps one server's values alone, though both said that all is well."""
    with pair.apart():
        for server, value in ((pair.server, "mine"), (pair.replica, "theirs")):
            server.api("dnsrecord_add", ZONE, "conflict", txtrecord=[value])
    name = f"conflict.{names.DOMAIN}"
    soon(lambda: served(pair.server, name) == served(pair.replica, name))
    assert len(served(pair.server, name)) == 1


def test_the_replica_alone_issues_certificates(pair: Pair) -> None:
    """With the first server down but for its DNS, certmonger gets its certificate from the second one.

    It asks the server that /etc/ipa/default.conf names and no other, until it is told another.
    """
    pair.server.add_service("HTTP/alone.ipa.test")
    soon(lambda: has_host(pair.replica, "alone.ipa.test"))
    file, key = "/etc/ssl/certs/alone.crt", "/etc/ssl/private/alone.key"
    request = ["ipa-getcert", "request", "-w", "-f", file, "-k", key, "-N", "CN=alone.ipa.test"]
    with pair.server.without("web", "kdc", "directory"), EnrolledHost(pair.server) as host:
        assert host.command(*request, "-D", "alone.ipa.test", "-K", "HTTP/alone.ipa.test").code == UNREACHABLE
        other = f"/usr/lib/certmonger/ipa-submit -h {names.REPLICA.host} -J https://{names.REPLICA.host}/ipa/json"
        host.certmonger.getcert("modify-ca", "-c", "IPA", "-e", other)
        done = host.command("ipa-getcert", "resubmit", "-w", "-f", file)
    assert done.code == 0, done
    certificate = x509.load_pem_x509_certificate(Path(file).read_bytes())
    assert pair.replica.api("cert_show", certificate.serial_number)["result"]["revoked"] is False


def test_both_start_again_within_seconds(pair: Pair) -> None:
    """A reset of both takes less than twenty seconds, and nothing of before is left on either."""
    pair.server.api("host_add", "gone.ipa.test", force=True)
    began = time.monotonic()
    pair.reset()
    assert time.monotonic() - began < 20
    assert not has_host(pair.server, "gone.ipa.test")
    assert not has_host(pair.replica, "gone.ipa.test")
