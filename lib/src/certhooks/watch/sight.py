"""What is served now, on every address of every endpoint, seen side by side."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING

from certhooks import address, probe
from certhooks.errors import Error
from certhooks.watch import leaves
from certhooks.watch.model import Leaf, Placement, Sight, Watched

if TYPE_CHECKING:
    from collections.abc import Sequence

    from certhooks.deadline import Deadline

_AT_ONCE = 256  # they wait more than they compute: with fewer, the timeouts of many that are silent would add up
_SECONDS = 5.0  # for each handshake


def look(watched: Sequence[Watched], deadline: Deadline) -> list[Watched]:
    """Return the certificates with what is served where they belong; what is not seen by the deadline stays unseen."""
    held = sorted((leaf for one in watched for leaf in _leaves(one)), key=lambda leaf: leaf.not_before is not None)
    known = {leaf.fingerprint: leaf for leaf in held if leaf.not_after is not None}  # the last: what is known best
    endpoints = dict.fromkeys(each for one in watched for placement in one.placements for each in placement.endpoints)
    seen: dict[str, tuple[Sight, ...]] = {}
    if endpoints:
        with ThreadPoolExecutor(min(_AT_ONCE, len(endpoints))) as pool:
            seen = dict(zip(endpoints, pool.map(lambda each: _sights(each, known, deadline), endpoints)))

    def with_sights(placement: Placement) -> Placement:
        return replace(placement, served=tuple(sight for each in placement.endpoints for sight in seen[each]))

    return [replace(one, placements=tuple(map(with_sights, one.placements))) for one in watched]


def _sights(endpoint: str, known: dict[str, Leaf], deadline: Deadline) -> tuple[Sight, ...]:
    seconds = min(_SECONDS, deadline.remaining())
    if seconds <= 0:
        return (Sight(endpoint, error="not looked at: no time was left"),)
    try:
        answers = probe.every(address.parse(endpoint), timeout=seconds)
    except Error as e:
        return (Sight(endpoint, error=str(e)),)
    return tuple(
        Sight(endpoint, each.ip, known.get(each.fingerprint) or leaves.of_der(each.der))
        if each.der
        else Sight(endpoint, each.ip, error=each.error)
        for each in answers
    )


def _leaves(one: Watched) -> list[Leaf]:
    held = [one.leaf, *(placement.pushed for placement in one.placements)]
    return [leaf for leaf in held if leaf]
