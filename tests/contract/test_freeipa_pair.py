"""Two FreeIPA servers of one realm: what is written to one is on the other, unless a test keeps it back."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import TYPE_CHECKING

import dns.resolver
import pytest
from cryptography import x509

from tests.lab.freeipa import names
from tests.lab.freeipa.client import EnrolledHost
from tests.lab.freeipa.fixtures import enrolled_machine, pair
from tests.lab.freeipa.looks import ZONE, quickest, served, soon

if TYPE_CHECKING:
    from tests.lab.freeipa.server import FreeIPA, Pair

pytestmark = enrolled_machine()
exceptions = pytest.importorskip("python_freeipa", reason="python-freeipa needs Python 3.10").exceptions
__all__ = ["pair"]
UNREACHABLE = 3  # getcert's exit status


def has_host(server: FreeIPA, name: str) -> bool:
    """Tell whether a server knows a host."""
    try:
        server.api("host_show", name)
    except exceptions.NotFound:
        return False
    return True


def serves(server: FreeIPA, name: str, value: str) -> bool:
    """Tell whether a server's own name server has this value alone."""
    return served(name, at=server.node) == [value]


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
        soon(lambda: served(f"prompt.{names.DOMAIN}", at=pair.server.node) == ["v"])
        assert served(f"late.{names.DOMAIN}", at=pair.server.node) == ["v"]
        assert served(f"late.{names.DOMAIN}", at=pair.replica.node) == []
    soon(lambda: served(f"late.{names.DOMAIN}", at=pair.replica.node) == ["v"])


def test_one_new_name_on_both_loses_a_value(pair: Pair) -> None:
    """A name that both make while they are apart keeps one server's values alone, though both said that all is well."""
    with pair.apart():
        for server, value in ((pair.server, "mine"), (pair.replica, "theirs")):
            server.api("dnsrecord_add", ZONE, "conflict", txtrecord=[value])
    name = f"conflict.{names.DOMAIN}"
    soon(lambda: served(name, at=pair.server.node) == served(name, at=pair.replica.node) != [])
    assert len(served(name, at=pair.server.node)) == 1


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
    assert quickest(pair.reset, 20) < 20
    assert not has_host(pair.server, "gone.ipa.test")
    assert not has_host(pair.replica, "gone.ipa.test")
