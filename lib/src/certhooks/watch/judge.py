"""What is wrong, and how badly: from what is known and seen to findings. Nothing here asks or reads anything."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timezone
from typing import TYPE_CHECKING, NamedTuple, Optional

from certhooks.watch.model import CUT_OFF, DAY, Finding, Leaf, Level, Placement, Sight, Watched
from certhooks.watch.plain import first

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

_SHOWN = 16  # characters of a fingerprint
_OTHERS = 3  # certificates that are named in one finding
_ENDS_WITHIN = 600.0  # seconds after its own deadline, for taking back what it did


class Limits(NamedTuple):
    """How many days before expiry it is told; for a short-lived certificate a quarter and an eighth of its life."""

    warning_days: float = 14.0
    critical_days: float = 7.0

    def level(self, leaf: Leaf, now: float) -> Level:
        """Return how bad the time is that a certificate has left."""
        left = leaf.days_left(now)
        if left is None:
            return Level.OK
        life = (leaf.not_after - leaf.not_before) / DAY if leaf.not_after and leaf.not_before else float("inf")
        if left <= min(self.critical_days, life / 8):
            return Level.CRITICAL
        return Level.WARNING if left <= min(self.warning_days, life / 4) else Level.OK


def judge(watched: Sequence[Watched], now: float, limits: Limits) -> list[Watched]:
    """Return the certificates with what is wrong with them and with each of their targets."""
    wanted: dict[str, set[tuple[str, str, str]]] = {}
    for one in watched:
        for placement in one.placements:
            for slot in _slots(placement):
                wanted.setdefault(slot, set()).add((one.name, one.source, placement.target))

    def judged(one: Watched, placement: Placement) -> Placement:
        findings = (*placement.findings, *_of_placement(one, placement, now, limits))
        rivals = set().union(*(wanted[slot] for slot in _slots(placement))) - {(one.name, one.source, placement.target)}
        return replace(placement, findings=(*_conflict(rivals), *findings))

    return [
        replace(
            one,
            findings=(*one.findings, *_of_certificate(one, now, limits)),
            placements=tuple(judged(one, placement) for placement in one.placements),
        )
        for one in watched
    ]


def in_step(one: Watched, placement: Placement) -> bool:
    """Tell whether the target has, as far as is known and seen, the certificate that it should have.

    What waits in its candidate for somebody else to commit is all that it should have of us.
    """
    goal = one.leaf or placement.pushed
    if not goal or (_others(placement, goal) and not placement.staged):
        return False
    return _brought(placement, goal) or _seen(placement, goal)


def day(seconds: Optional[float]) -> str:
    """Return a date for people, in UTC."""
    if seconds is None:
        return "an unknown date"
    try:
        return datetime.fromtimestamp(seconds, tz=timezone.utc).strftime("%Y-%m-%d")
    except (OverflowError, ValueError, OSError):
        return "a date beyond the calendar"


def _slots(placement: Placement) -> tuple[str, ...]:
    """Return what of its device only one certificate can have that somebody is to bring there."""
    return (placement.target, *placement.slots) if placement.command else ()


def _conflict(rivals: Iterable[tuple[str, str, str]]) -> Iterator[Finding]:
    others = sorted(f"{name} ({source})" for name, source, _target in rivals)
    if others:
        text = f"another certificate is to go to the same place: {first(others, _OTHERS)}; neither is repaired"
        hint = "take the post-save command from one: getcert start-tracking -i ID -C ''; or: certhooks forget FQDN"
        yield Finding(Level.CRITICAL, "conflict", text, hint)


def _of_certificate(one: Watched, now: float, limits: Limits) -> Iterator[Finding]:
    if one.stuck and one.leaf is None:
        yield Finding(Level.CRITICAL, "ca", f"no certificate: {one.ca_error or one.state}", one.advice)
    elif one.stuck or one.ca_error:
        yield Finding(Level.WARNING, "ca", f"not renewed: {one.ca_error or one.state}", one.advice)
    if one.leaf:
        yield from _time_left("the certificate", one.leaf, now, limits, one.advice or _renew(one))


def _of_placement(one: Watched, placement: Placement, now: float, limits: Limits) -> Iterator[Finding]:
    retry = _retry(one, placement)
    if placement.running:
        since = now - (placement.tried_at or now)
        if since > placement.timeout + _ENDS_WITHIN:
            text = f"its install command has been running for {since / 60:.0f} minutes; other renewals may wait for it"
            yield Finding(Level.CRITICAL, "stuck", text, "find it with pgrep -af instcert, end it, certhooks reconcile")
        return
    goal = one.leaf or placement.pushed
    if goal is None:
        if placement.failure:
            yield Finding(Level.CRITICAL, "behind", f"not installed: {placement.failure}", retry)
        return
    yield from _out_of_step(placement, goal, retry)
    for endpoint in dict.fromkeys(sight.endpoint for sight in placement.served):
        sights = [sight for sight in placement.served if sight.endpoint == endpoint]
        if not any(sight.leaf for sight in sights):
            yield Finding(Level.WARNING, "silent", f"{endpoint} does not answer: {sights[0].error}")
    others = {sight.leaf.fingerprint: sight.leaf for sight in _others(placement, goal) if sight.leaf}
    for leaf in others.values():
        yield from _time_left("the certificate that is served", leaf, now, limits, retry)
    if one.leaf is None and not others:
        yield from _time_left("the certificate", goal, now, limits, None)


def _retry(one: Watched, placement: Placement) -> Optional[str]:
    if not placement.command:
        return None
    if placement.failure in {"", CUT_OFF}:
        return "certhooks reconcile"
    hint = "mend what it says; then, without waiting: certhooks reconcile --now"
    gone = f"; or, if it is not to have it any more: certhooks forget {placement.label}"
    return hint + (gone if one.origin in {"file", "device"} else "")


def _out_of_step(placement: Placement, goal: Leaf, retry: Optional[str]) -> Iterator[Finding]:
    """Yield at most one finding: how the target is not as it should be."""
    others = _others(placement, goal)
    brought = _brought(placement, goal)
    if not brought and not _seen(placement, goal):
        yield Finding(Level.CRITICAL, "behind", _behind(placement, others), retry)
    elif others and not placement.staged:
        text = f"{others[0].endpoint} serves another certificate: {_named(others[0].leaf)}"
        yield Finding(Level.CRITICAL, "differs", text, retry)
    elif placement.failure:
        yield Finding(Level.WARNING, "failed", f"the last run failed: {placement.failure}", retry)
    elif placement.staged and brought and not _seen(placement, goal):
        text = f"in the candidate since {day(placement.pushed_at)}, not committed"
        yield Finding(Level.WARNING, "staged", text, "commit it on the device")


def _time_left(what: str, leaf: Leaf, now: float, limits: Limits, hint: Optional[str]) -> Iterator[Finding]:
    left, level = leaf.days_left(now), limits.level(leaf, now)
    if left is not None and left <= 0:
        yield Finding(Level.CRITICAL, "expired", f"{what} has expired on {day(leaf.not_after)}", hint)
    elif left is not None and level:
        days = f"{left:.0f} days" if left >= 2 else f"{left * 24:.0f} hours"  # noqa: PLR2004  from two days on
        yield Finding(level, "expiring", f"{what} expires in {days}, on {day(leaf.not_after)}", hint)


def _behind(placement: Placement, others: Sequence[Sight]) -> str:
    old = (
        f"; it serves {_named(others[0].leaf)}"
        if others
        else f"; it has {_named(placement.pushed)}"
        if placement.pushed
        else ""
    )
    if placement.failure:
        return f"not installed: {placement.failure}{old}"
    return f"not installed{old}" if placement.pushed else f"nothing tells that it was ever installed{old}"


def _named(leaf: Optional[Leaf]) -> str:
    if leaf is None:
        return "none"
    name = f"{leaf.name}, " if leaf.name else ""
    return f"{name}sha256:{leaf.fingerprint[:_SHOWN]}, valid until {day(leaf.not_after)}"


def _renew(one: Watched) -> Optional[str]:
    return f"getcert resubmit -i {one.source}" if one.origin == "certmonger" else None


def _brought(placement: Placement, goal: Leaf) -> bool:
    return bool(placement.pushed and placement.pushed.fingerprint == goal.fingerprint)


def _seen(placement: Placement, goal: Leaf) -> bool:
    """Tell whether it is served wherever anything is."""
    found = {sight.leaf.fingerprint for sight in placement.served if sight.leaf}
    return found == {goal.fingerprint}


def _others(placement: Placement, goal: Leaf) -> list[Sight]:
    return [sight for sight in placement.served if sight.leaf and sight.leaf.fingerprint != goal.fingerprint]
