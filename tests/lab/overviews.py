"""Overviews to be shown: as many certificates as wanted, with every kind of finding, and names that mean harm.

Here are the facts alone; what is wrong with them says the product itself.
"""

from __future__ import annotations

import hashlib
import random
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from certhooks.watch.judge import Limits, judge
from certhooks.watch.model import DAY, Finding, Leaf, Level, Overview, Placement, Sight, Watched

if TYPE_CHECKING:
    from collections.abc import Callable

NOW = 1_790_000_000.0  # 21 September 2026
HOST = "ipaclient.example.org"
SERVICES = ("www", "vpn", "portal", "mail", "git", "wiki", "build", "registry", "ldap", "radius", "print", "files")
PLACES = ("ber", "muc", "ham", "cgn", "fra", "dus")
DEVICES = ("fw", "pan", "vc", "esx", "lb")
VALIDITIES = (47, 90, 90, 200, 398, 730)  # days
HOSTILE = (
    "<script>document.title='owned'</script>",
    '"><img src=x onerror="document.title=\'owned\'">',
    "</style><style>body{display:none}</style>",
    "a\nb\r\x1b[31mred\x1b[0m\x07\x00",
    "right\u202eto\u202cleft \u05d0\u05d1\u05d2",
    "lone \ud800 half",
    '\\" back\\slash {x="y"} | 1=2;3',
    "&lt;b&gt; &amp; '",
    "x" * 300,
    "[red]markup[/red] :smile: %s {0}",
)


def leaf(seed: str, name: str, begins: float, days: float) -> Leaf:
    """Make a certificate that is valid for ``days`` from ``begins``."""
    return Leaf(hashlib.sha256(seed.encode()).hexdigest(), name, begins, begins + days * DAY)


def overview(count: int, *, faults: int | None = None, at: float = NOW) -> Overview:
    """Make an overview of ``count`` certificates, the same at each call; ``faults`` of them have something wrong.

    Where there is room for it, every kind of finding occurs.
    """
    chance = random.Random(count)  # noqa: S311  nothing here is secret
    faults = min(count, max(len(FAULTS), count // 40)) if faults is None else faults
    made = [_healthy(chance, number, at) for number in range(count)]
    made[:faults] = [FAULTS[number % len(FAULTS)](one, at) for number, one in enumerate(made[:faults])]
    if faults > CONFLICT:  # it takes two: they are to go to one place
        made[CONFLICT - 1] = replace(made[CONFLICT - 1], placements=made[CONFLICT].placements[:1])
    chance.shuffle(made)
    mute = Finding(Level.CRITICAL, "certmonger", "certmonger does not answer", "systemctl start certmonger")
    return Overview(at, HOST, tuple(judge(made, at, Limits())), (mute,) if faults > len(FAULTS) else ())


def hostile(at: float = NOW) -> Overview:
    """Make an overview in which every text that comes from elsewhere means harm."""
    made = []
    for number, text in enumerate(HOSTILE):
        served = leaf(f"served {number}", text, at - 80 * DAY, 90)
        sights = (Sight(text, text, served), Sight(text, "", None, text))
        findings = (Finding(Level.CRITICAL, "differs", text, text),)
        where = Placement(
            text, text, (text, text), pushed=served, pushed_at=at, tried_at=at, failure=text, failures=3,
            endpoints=(text,), served=sights, findings=findings,
        )  # fmt: skip
        odd = Leaf(text, text, float("-inf"), 1e300) if number % 2 else Leaf(text, text, float("nan"), None)
        facts = {"file": text, "state": text, "ca_error": text, "advice": text}
        made.append(Watched(text, text, text, odd, findings=findings, placements=(where,), **facts))  # type: ignore[arg-type]
    return Overview(at, HOSTILE[0], tuple(made), (Finding(Level.UNKNOWN, "unknown", HOSTILE[1], HOSTILE[2]),))


def _healthy(chance: random.Random, number: int, at: float) -> Watched:
    place = chance.choice(PLACES)
    name = f"{chance.choice(SERVICES)}{number:03}.{place}.example.org"
    validity = chance.choice(VALIDITIES)
    current = leaf(f"{name} current", name, at - chance.uniform(0.02, 0.6) * validity * DAY, validity)
    placements = []
    for device in range(chance.choice((1, 1, 1, 2, 2, 3, 8))):
        fqdn = f"{chance.choice(DEVICES)}{device + 1}-{number}.{place}.example.org"
        pushed = (current.not_before or at) + 60
        made = Placement(f"pan:{fqdn}:443", fqdn, ("pan_instcert", "-c", name, fqdn), pushed=current, pushed_at=pushed)
        sights = (Sight(f"{fqdn}:443", f"192.0.2.{number % 250}", current),)
        placements.append(replace(made, tried_at=pushed, served=sights, endpoints=(f"{fqdn}:443",)))
    source = f"20260{number:011}"
    return Watched(name, source, "certmonger", current, state="MONITORING", placements=tuple(placements))


def _first(watched: Watched, *, shown: Leaf | None = None, error: str = "", **changed: Any) -> Watched:
    """Change the first of the placements, and what it shows."""
    one, *others = watched.placements
    sight = one.served[0]._replace(leaf=shown or (None if error else one.served[0].leaf), error=error)
    return replace(watched, placements=(replace(one, served=(sight,), **changed), *others))


def _everywhere(watched: Watched, held: Leaf) -> Watched:
    """Let every target have the same certificate."""
    placements = tuple(
        replace(each, pushed=held, served=tuple(sight._replace(leaf=held) for sight in each.served))
        for each in watched.placements
    )
    return replace(watched, leaf=held, placements=placements)


def _old(watched: Watched, at: float, left: float) -> Leaf:
    return leaf(f"{watched.name} old", watched.name, at - (90 - left) * DAY, 90)


def _expired(watched: Watched, at: float) -> Watched:
    return _everywhere(watched, _old(watched, at, -3))


def _expiring(watched: Watched, at: float) -> Watched:
    return _everywhere(watched, _old(watched, at, 9.4))


def _ca(watched: Watched, _at: float) -> Watched:
    from certhooks.advice import advice

    error = (
        "Server at https://ipa1.example.org/ipa/json failed request, will retry: 4001 (The service principal "
        f"'HTTP/{watched.name}@EXAMPLE.ORG' was not found)."
    )
    todo = advice("CA_UNREACHABLE", error, principal=f"HTTP/{watched.name}", nickname=watched.source)
    return replace(watched, state="CA_UNREACHABLE", stuck=True, ca_error=error, advice=todo)


def _unissued(watched: Watched, at: float) -> Watched:
    bare = (Placement(watched.placements[0].target, watched.placements[0].label, watched.placements[0].command),)
    return replace(_ca(watched, at), leaf=None, state="CA_REJECTED", placements=bare)


def _behind(watched: Watched, at: float) -> Watched:
    old = _old(watched, at, 1.2)
    failure = "commit failed: vsys1 -> ssl-tls-service-profile is invalid (exit status 13)"
    return _first(
        watched, shown=old, pushed=old, pushed_at=at - 89 * DAY, tried_at=at - 3600, failure=failure, failures=4,
        next_try=at + 4 * 3600,
    )  # fmt: skip


def _lost(watched: Watched, at: float) -> Watched:
    old = _old(watched, at, 31)
    return _first(watched, shown=old, pushed=old, pushed_at=at - 59 * DAY, tried_at=at - 59 * DAY, next_try=at + 60)


def _differs(watched: Watched, at: float) -> Watched:
    factory = Leaf("fac7" * 16, "PA-440 factory default", at - 900 * DAY, at + 2700 * DAY)
    return _first(watched, shown=factory, next_try=at + 120)


def _failed(watched: Watched, at: float) -> Watched:
    failure = "the API key is not accepted (exit status 5)"
    return _first(watched, failure=failure, failures=1, tried_at=at - 300, next_try=at + 240)


def _silent(watched: Watched, _at: float) -> Watched:
    return _first(watched, error="timed out")


def _stuck(watched: Watched, at: float) -> Watched:
    return _first(watched, running=True, tried_at=at - 7200)


def _staged(watched: Watched, at: float) -> Watched:
    return _first(watched, shown=_old(watched, at, 40), staged=True)


def _gone(watched: Watched, _at: float) -> Watched:
    return replace(watched, origin="journal", source="/etc/ssl/portal.pem", state="", leaf=None)


def _unknown(watched: Watched, _at: float) -> Watched:
    finding = Finding(Level.UNKNOWN, "unknown", "the command is not one that we know", "certhooks status --help")
    return replace(watched, findings=(finding,), placements=())


def _as_it_is(watched: Watched, _at: float) -> Watched:
    return watched


FAULTS: tuple[Callable[[Watched, float], Watched], ...] = (
    _behind, _expired, _differs, _expiring, _lost, _silent, _ca, _unissued, _failed, _stuck, _staged, _gone, _as_it_is,
    _as_it_is, _unknown,
)  # fmt: skip
CONFLICT = FAULTS.index(_as_it_is) + 1
