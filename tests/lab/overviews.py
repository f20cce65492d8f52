"""Overviews to be shown: as many certificates as wanted, with every kind of finding, and names that mean harm."""

from __future__ import annotations

import hashlib
import random
from typing import TYPE_CHECKING

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
    made = []
    for number in range(count):
        watched = _healthy(chance, number, at)
        made.append(FAULTS[number % len(FAULTS)](watched, at) if number < faults else watched)
    chance.shuffle(made)
    gone = Finding(Level.WARNING, "unknown", "the log /var/log/pan_instcert.log cannot be read", "ls -l /var/log")
    return Overview(at, HOST, tuple(made), (gone,) if faults > len(FAULTS) else ())


def hostile(at: float = NOW) -> Overview:
    """Make an overview in which every text that comes from elsewhere means harm."""
    made = []
    for number, text in enumerate(HOSTILE):
        served = leaf(f"served {number}", text, at - 80 * DAY, 90)
        sights = (Sight(text, text, served), Sight(text, "", None, text))
        findings = (Finding(Level.CRITICAL, "differs", text, text),)
        where = Placement(text, text, (text, text), served, at, at, text, 3, False, False, (text,), sights, findings)
        odd = Leaf(text, text, float("-inf"), 1e300) if number % 2 else Leaf(text, text, float("nan"), None)
        made.append(Watched(text, text, text, odd, text, text, findings, (where,)))
    return Overview(at, HOSTILE[0], tuple(made), (Finding(Level.UNKNOWN, "unknown", HOSTILE[1], HOSTILE[2]),))


def _healthy(chance: random.Random, number: int, at: float) -> Watched:
    place = chance.choice(PLACES)
    name = f"{chance.choice(SERVICES)}{number:03}.{place}.example.org"
    validity = chance.choice(VALIDITIES)
    age = chance.uniform(0.02, 0.6) * validity
    current = leaf(f"{name} current", name, at - age * DAY, validity)
    placements = []
    for device in range(chance.choice((1, 1, 1, 2, 2, 3, 8))):
        fqdn = f"{chance.choice(DEVICES)}{device + 1}.{place}.example.org"
        sights = (Sight(f"{fqdn}:443", f"192.0.2.{number % 250}", current),)
        command = ("pan_instcert", "-c", name, fqdn)
        pushed = (current.not_before or at) + 60
        placements.append(
            Placement(f"pan:{fqdn}:443", fqdn, command, current, pushed, pushed, served=sights, endpoints=(fqdn,))
        )
    return Watched(name, f"20260{number:011}", "certmonger", current, "MONITORING", placements=tuple(placements))


def _with(watched: Watched, *findings: Finding, **changed: object) -> Watched:
    return Watched(**{**vars(watched), "findings": findings, **changed})  # type: ignore[arg-type]


def _placed(watched: Watched, finding: Finding, **changed: object) -> Watched:
    """Change the first of the placements."""
    first, *others = watched.placements
    changed_first = Placement(**{**vars(first), "findings": (finding,), **changed})  # type: ignore[arg-type]
    return Watched(**{**vars(watched), "placements": (changed_first, *others)})


def _old(watched: Watched, at: float, left: float) -> Leaf:
    return leaf(f"{watched.name} old", watched.name, at - (90 - left) * DAY, 90)


def _shown(watched: Watched, served: Leaf | None, error: str = "") -> tuple[Sight, ...]:
    sight = watched.placements[0].served[0]
    return (sight._replace(leaf=served, error=error),)


def _expired(watched: Watched, at: float) -> Watched:
    old = _old(watched, at, -3)
    placements = tuple(
        Placement(**{**vars(each), "served": tuple(sight._replace(leaf=old) for sight in each.served), "pushed": old})
        for each in watched.placements
    )
    text = "the certificate expired 3 days ago"
    hint = f"getcert resubmit -i {watched.source}"
    return _with(watched, Finding(Level.CRITICAL, "expired", text, hint), leaf=old, placements=placements)


def _expiring(watched: Watched, at: float) -> Watched:
    old = _old(watched, at, 6.4)
    placements = tuple(
        Placement(**{**vars(each), "served": tuple(sight._replace(leaf=old) for sight in each.served), "pushed": old})
        for each in watched.placements
    )
    hint = f"see why it is not renewed: getcert list -i {watched.source}"
    finding = Finding(Level.WARNING, "expiring", "the certificate expires in 6 days", hint)
    return _with(watched, finding, leaf=old, placements=placements)


def _ca(watched: Watched, _at: float) -> Watched:
    error = (
        "Server at https://ipa1.example.org/ipa/json failed request, will retry: 4001 (The service principal "
        f"'HTTP/{watched.name}@EXAMPLE.ORG' was not found)."
    )
    hint = (
        f"prepare it, as an admin: ipa host-add {watched.name} --force; ipa service-add HTTP/{watched.name} --force; "
        f"ipa service-add-host HTTP/{watched.name} --hosts=$(hostname -f); then: getcert resubmit -i {watched.source}"
    )
    finding = Finding(Level.WARNING, "ca", f"certmonger is in CA_UNREACHABLE: {error}", hint)
    return _with(watched, finding, state="CA_UNREACHABLE", ca_error=error)


def _unissued(watched: Watched, _at: float) -> Watched:
    bare = tuple(
        Placement(**{**vars(each), "pushed": None, "pushed_at": None, "tried_at": None, "served": ()})
        for each in watched.placements
    )
    finding = Finding(Level.WARNING, "unissued", "no certificate has been issued yet", "getcert list")
    return _with(watched, finding, leaf=None, state="SUBMITTING", placements=bare)


def _failed(watched: Watched, at: float) -> Watched:
    old, where = _old(watched, at, 1.2), watched.placements[0]
    failure = f"{where.label}: commit failed: vsys1 -> ssl-tls-service-profile is invalid"
    finding = Finding(
        Level.CRITICAL, "failed", f"the push has failed 4 times; {failure}", "correct the profile on the firewall"
    )
    return _placed(
        watched, finding, pushed=old, pushed_at=at - 89 * DAY, tried_at=at - 3600, failure=failure, failures=4,
        served=_shown(watched, old), next_try=at + 4 * 3600,
    )  # fmt: skip


def _missing(watched: Watched, at: float) -> Watched:
    finding = Finding(Level.CRITICAL, "missing", "the renewed certificate was never pushed", "certhooks reconcile")
    old = _old(watched, at, 11.5)
    return _placed(watched, finding, pushed=old, pushed_at=at - 78 * DAY, served=_shown(watched, old), next_try=at + 60)


def _differs(watched: Watched, at: float) -> Watched:
    factory = Leaf("fac7" * 16, "PA-440 factory default", at - 900 * DAY, at + 2700 * DAY)
    finding = Finding(
        Level.CRITICAL, "differs", "it serves another certificate than was pushed: PA-440 factory default",
        "was the device reset or restored? certhooks reconcile",
    )  # fmt: skip
    return _placed(watched, finding, served=_shown(watched, factory), next_try=at + 120)


def _silent(watched: Watched, _at: float) -> Watched:
    label = watched.placements[0].label
    finding = Finding(Level.WARNING, "silent", f"{label}:443 does not answer: timed out", "is the device up?")
    return _placed(watched, finding, served=_shown(watched, None, "timed out"))


def _lost(watched: Watched, at: float) -> Watched:
    finding = Finding(Level.WARNING, "lost", "a push was cut off before its end", "certhooks reconcile")
    return _placed(watched, finding, tried_at=at - 7200, running=False, next_try=at + 30)


def _loop(watched: Watched, _at: float) -> Watched:
    hint = "take getcert resubmit out of the command"
    return _placed(watched, Finding(Level.CRITICAL, "loop", "the command resubmits its own request", hint))


def _conflict(watched: Watched, _at: float) -> Watched:
    text = "two requests push to this target: 20260123 and 20260124"
    return _placed(watched, Finding(Level.WARNING, "conflict", text, "getcert stop-tracking -i 20260124"))


def _gone(watched: Watched, _at: float) -> Watched:
    finding = Finding(Level.WARNING, "gone", "the file that it was pushed from is no longer there", None)
    return _with(watched, finding, origin="journal", source="/etc/ssl/portal.pem", state="", leaf=None)


def _unknown(watched: Watched, _at: float) -> Watched:
    finding = Finding(Level.UNKNOWN, "unknown", "the command is not one that we know", "certhooks status --help")
    return _with(watched, finding, placements=())


FAULTS: tuple[Callable[[Watched, float], Watched], ...] = (
    _failed, _expired, _differs, _expiring, _missing, _silent, _ca, _unissued, _lost, _loop, _conflict, _gone, _unknown,
)  # fmt: skip
