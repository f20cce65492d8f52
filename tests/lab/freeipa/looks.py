"""What is looked at in tests of the lab's servers: names as a server serves them, and things that take a moment."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import dns.resolver

from tests.lab.freeipa import names

if TYPE_CHECKING:
    from collections.abc import Callable

ZONE = f"{names.DOMAIN}."


def served(name: str, kind: str = "TXT", at: names.Node = names.SERVER) -> list[str]:
    """Return the values that a server's own name server has for a name, without anybody between."""
    resolver = dns.resolver.Resolver(configure=False)
    resolver.nameservers = [at.address]
    try:
        return sorted(value.to_text().strip('"') for value in resolver.resolve(f"{name}.", kind))
    except (dns.resolver.NXDOMAIN, dns.resolver.NoAnswer, dns.resolver.NoNameservers):  # the last: not its zone
        return []


def soon(what: Callable[[], object], seconds: float = 5.0) -> float:
    """Wait until something is so, and return the seconds that it took; AssertionError when it does not happen."""
    began = time.monotonic()
    while not what():
        assert time.monotonic() - began < seconds, "it did not happen"
        time.sleep(0.01)
    return time.monotonic() - began


def quickest(what: Callable[[], object], limit: float, tries: int = 3) -> float:
    """Return the shortest time of a few tries, up to the first within the limit: others may use the machine too."""
    shortest = float("inf")
    for _ in range(tries):
        began = time.monotonic()
        what()
        shortest = min(shortest, time.monotonic() - began)
        if shortest < limit:
            break
    return shortest
