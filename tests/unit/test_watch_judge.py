"""What is wrong, and how badly, by what is known and seen: each case has one verdict, and a hint that mends it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from certhooks.watch.judge import Limits, day, in_step, judge
from certhooks.watch.model import DAY, Finding, Leaf, Level, Placement, Sight, Watched

NOW = 1_800_000_000.0
RETRY = "certhooks reconcile"
NEW = Leaf("ab" * 32, "gp.example.com", NOW - 10 * DAY, NOW + 80 * DAY)
OLD = Leaf("cd" * 32, "gp.example.com", NOW - 80 * DAY, NOW + 20 * DAY)
OTHER = Leaf("ef" * 32, "factory", NOW - 80 * DAY, NOW + 900 * DAY)
WELL = Placement("pan fw1", "fw1", ("pan_instcert", "fw1"), pushed=NEW, pushed_at=NOW - DAY)
TRACKED = Watched("gp.example.com", "id-1", "certmonger", NEW, state="MONITORING")
LOST = replace(TRACKED, origin="journal", leaf=None)


def sees(*leaves: Leaf | None) -> tuple[Sight, ...]:
    """Return what the addresses of one endpoint serve; None for one that does not answer."""
    return tuple(Sight("vpn:443", f"192.0.2.{at}", leaf, "" if leaf else "timed out") for at, leaf in enumerate(leaves))


def judged(one: Watched, limits: Limits = Limits(), now: float = NOW) -> list[Finding]:  # noqa: B008  it is a tuple
    """Return everything that is wrong with one certificate."""
    [found] = judge([one], now, limits)
    return [finding for _where, finding in found.told()]


def placed(one: Watched = TRACKED, **facts: Any) -> list[tuple[str, str, str]]:
    """Return level, kind and text of what is wrong with one placement that is well but for these facts."""
    found = judged(replace(one, placements=(replace(WELL, **facts),)))
    return [(finding.level.word, finding.kind, finding.text) for finding in found]


ABOUT_OLD = f"gp.example.com, sha256:{'cd' * 8}, valid until 2027-02-04"
ABOUT_OTHER = f"factory, sha256:{'ef' * 8}, valid until 2029-07-03"
STAGED = ("warning", "staged", "in the candidate since 2027-01-14, not committed")
EXPIRED = ("critical", "expired", "the certificate has expired on 2027-01-15")
SILENT = ("warning", "silent", "vpn:443 does not answer: timed out")


@pytest.mark.parametrize(
    ("facts", "found"),
    [
        ({}, []),
        ({"served": sees(NEW, NEW)}, []),
        ({"pushed": OLD, "served": sees(NEW)}, []),  # somebody else has installed it
        ({"pushed": None, "served": sees(NEW)}, []),
        ({"served": sees(NEW, None)}, []),  # one address of several is down
        ({"served": sees(None)}, [SILENT]),
        ({"pushed": None}, [("critical", "behind", "nothing tells that it was ever installed")]),
        ({"pushed": OLD}, [("critical", "behind", f"not installed; it has {ABOUT_OLD}")]),
        ({"pushed": OLD, "failure": "no"}, [("critical", "behind", f"not installed: no; it has {ABOUT_OLD}")]),
        (
            {"pushed": OLD, "served": sees(None, OTHER)},
            [("critical", "behind", f"not installed; it serves {ABOUT_OTHER}")],
        ),
        (
            {"pushed": OLD, "served": sees(NEW, OTHER)},
            [("critical", "behind", f"not installed; it serves {ABOUT_OTHER}")],
        ),
        ({"served": sees(OTHER)}, [("critical", "differs", f"vpn:443 serves another certificate: {ABOUT_OTHER}")]),
        ({"served": sees(NEW, OTHER)}, [("critical", "differs", f"vpn:443 serves another certificate: {ABOUT_OTHER}")]),
        ({"failure": "no"}, [("warning", "failed", "the last run failed: no")]),
        (
            {"failure": "no", "served": sees(OTHER)},
            [("critical", "differs", f"vpn:443 serves another certificate: {ABOUT_OTHER}")],
        ),
        ({"staged": True}, [("warning", "staged", "in the candidate since 2027-01-14, not committed")]),
        (
            {"staged": True, "served": sees(OTHER)},
            [("warning", "staged", "in the candidate since 2027-01-14, not committed")],
        ),
        ({"staged": True, "served": sees(NEW)}, []),  # somebody has committed it
        ({"staged": True, "pushed": OLD}, [("critical", "behind", f"not installed; it has {ABOUT_OLD}")]),
        ({"staged": True, "failure": "no"}, [("warning", "failed", "the last run failed: no")]),
    ],
)
def test_a_target_is_in_step_or_there_is_one_thing_wrong_with_it(
    facts: dict[str, Any], found: list[tuple[str, str, str]]
) -> None:
    """What it should have, what was brought there and what it serves lead to one verdict; so does ``in_step``."""
    assert placed(**facts) == found
    out = any(kind in {"behind", "differs"} for _level, kind, _text in found)
    assert in_step(TRACKED, replace(WELL, **facts)) == (not out)


@pytest.mark.parametrize(
    ("facts", "found"),
    [
        ({}, []),
        ({"served": sees(OTHER)}, [("critical", "differs", f"vpn:443 serves another certificate: {ABOUT_OTHER}")]),
        ({"pushed": None, "failure": "no"}, [("critical", "behind", "not installed: no")]),
        ({"pushed": None}, []),
        (
            {"pushed": OLD._replace(not_after=NOW + 3 * DAY)},
            [("critical", "expiring", "the certificate expires in 3 days, on 2027-01-18")],
        ),
        (
            {"pushed": OLD._replace(not_after=NOW)},
            [("critical", "expired", "the certificate has expired on 2027-01-15")],
        ),
    ],
)
def test_what_was_pushed_last_is_what_it_should_have_where_nothing_else_tells(
    facts: dict[str, Any], found: list[tuple[str, str, str]]
) -> None:
    """Neither certmonger nor a file holds the certificate any more: the journal and the device are all there is."""
    assert placed(LOST, **facts) == found
    assert in_step(LOST, replace(WELL, **facts)) == ("served" not in facts and facts.get("pushed", NEW) is not None)


def test_the_served_certificate_s_end_is_told_too() -> None:
    """That another one is served is one thing; that it expires tomorrow is another, and both addresses say it once."""
    soon = OTHER._replace(not_after=NOW + 1.5 * DAY)
    assert placed(served=sees(soon, soon, NEW))[1:] == [
        ("critical", "expiring", "the certificate that is served expires in 36 hours, on 2027-01-16")
    ]
    both = placed(LOST, pushed=OLD._replace(not_after=NOW), served=sees(soon))
    assert [kind for _level, kind, _text in both] == ["differs", "expiring"], "only what is served counts"


@pytest.mark.parametrize(
    ("life", "left", "level"),
    [
        (90, 14.1, Level.OK),
        (90, 14, Level.WARNING),
        (90, 7.1, Level.WARNING),
        (90, 7, Level.CRITICAL),
        (8, 2.1, Level.OK),
        (8, 2, Level.WARNING),
        (8, 1.1, Level.WARNING),
        (8, 1, Level.CRITICAL),
        (1 / 24, 0.25 / 24, Level.WARNING),
        (None, 14, Level.WARNING),
        (None, 7, Level.CRITICAL),
        (None, 14.1, Level.OK),
    ],
)
def test_how_soon_is_too_soon(life: float | None, left: float, level: Level) -> None:
    """Fourteen and seven days; of a short-lived certificate a quarter and an eighth of its life."""
    end = NOW + left * DAY
    leaf = Leaf("ab" * 32, "", None if life is None else end - life * DAY, end)
    assert Limits().level(leaf, NOW) == level
    assert (
        Limits(warning_days=20).level(leaf, NOW) == (Level.WARNING if life == 90 and left > 14 else level) or life != 90
    )
    assert Limits().level(Leaf("ab" * 32), NOW) == Level.OK


@pytest.mark.parametrize(
    ("days", "level", "kind", "text"),
    [
        (13.6, "warning", "expiring", "the certificate expires in 14 days, on 2027-01-28"),
        (2, "critical", "expiring", "the certificate expires in 2 days, on 2027-01-17"),
        (1.9, "critical", "expiring", "the certificate expires in 46 hours, on 2027-01-17"),
        (0, "critical", "expired", "the certificate has expired on 2027-01-15"),
        (-3, "critical", "expired", "the certificate has expired on 2027-01-12"),
    ],
)
def test_a_certificate_s_end(days: float, level: str, kind: str, text: str) -> None:
    """In days, at last in hours; the hint is certmonger's advice, else to resubmit the request; none for a file."""
    leaf = NEW._replace(not_before=NOW - 300 * DAY, not_after=NOW + days * DAY)
    [finding] = judged(replace(TRACKED, leaf=leaf))
    assert (finding.level.word, finding.kind, finding.text) == (level, kind, text)
    assert finding.hint == "getcert resubmit -i id-1"
    assert judged(replace(TRACKED, leaf=leaf, advice="kinit"))[-1].hint == "kinit"
    assert judged(replace(TRACKED, leaf=leaf, origin="file"))[-1].hint is None


@pytest.mark.parametrize(
    ("facts", "found"),
    [
        ({"leaf": None}, []),  # it is on its way
        ({"leaf": None, "stuck": True, "state": "CA_REJECTED"}, [("critical", "no certificate: CA_REJECTED")]),
        ({"leaf": None, "stuck": True, "ca_error": "denied"}, [("critical", "no certificate: denied")]),
        ({"stuck": True, "state": "CA_REJECTED"}, [("warning", "not renewed: CA_REJECTED")]),
        ({"ca_error": "denied"}, [("warning", "not renewed: denied")]),
        ({"stuck": True, "ca_error": "denied"}, [("warning", "not renewed: denied")]),
    ],
)
def test_what_the_ca_has_against_it(facts: dict[str, Any], found: list[tuple[str, str]]) -> None:
    """No certificate is critical; one that is not renewed is a warning until its end is near. Advice is the hint."""
    findings = judged(replace(TRACKED, advice="do this", **facts))
    assert [(finding.level.word, finding.text) for finding in findings] == found
    assert all((finding.kind, finding.hint) == ("ca", "do this") for finding in findings)


def test_while_it_runs_it_is_let_alone() -> None:
    """Nothing is wrong with a run but that it does not end: ten minutes after its own deadline."""
    running: dict[str, Any] = {"running": True, "pushed": None, "failure": "no", "timeout": 60.0, "served": sees(None)}
    assert placed(**running, tried_at=NOW - 660) == []
    assert placed(**running, tried_at=None) == []
    assert placed(**running, tried_at=NOW + DAY) == [], "the clock was set back"
    [stuck] = placed(**running, tried_at=NOW - 721)
    assert stuck[:2] == ("critical", "stuck")
    assert "for 12 minutes" in stuck[2]


def test_the_hint_is_what_mends_it() -> None:
    """Where a command is known reconcile runs it; where none is, there is nothing to type."""
    cases: list[tuple[dict[str, Any], str]] = [
        ({"pushed": OLD}, RETRY),
        ({"served": sees(OTHER)}, RETRY),
        ({"failure": "no"}, f"mend what it says; then, without waiting: {RETRY} --now"),
    ]
    for facts, hint in cases:
        behind = replace(WELL, **facts)
        assert [finding.hint for finding in judged(replace(TRACKED, placements=(behind,)))] == [hint]
        bare = replace(behind, command=())
        assert [finding.hint for finding in judged(replace(TRACKED, placements=(bare,)))] == [None]


def test_two_certificates_for_one_place() -> None:
    """Each would undo the other: critical on both, which name each other, beside what else is wrong."""
    one, two = (
        replace(TRACKED, name=name, source=f"id-{name}", placements=(replace(WELL, pushed=pushed),))
        for name, pushed in (("a", NEW), ("b", OLD))
    )
    found = [[(each.kind, each.text) for _where, each in made.told()] for made in judge([one, two], NOW, Limits())]
    text = "another certificate is to go to the same place: {}; neither is repaired"
    assert [kinds[0] for kinds in found] == [
        ("conflict", text.format("b (id-b)")),
        ("conflict", text.format("a (id-a)")),
    ]
    assert [kind for kind, _text in found[1][1:]] == ["behind"]


def test_two_targets_in_one_slot_of_a_device() -> None:
    """Two names on a firewall for one profile, even for one certificate: each would take it from the other."""
    profile = ("fw1 GP (shared)",)
    first, second = (replace(WELL, target=target, slots=profile) for target in ("pan fw1 a", "pan fw1 b"))
    assert [kind for _level, kind, _text in (placed(slots=profile))] == []
    found = judged(replace(TRACKED, placements=(first, second)))
    assert [(each.kind, "gp.example.com (id-1)" in each.text) for each in found] == [("conflict", True)] * 2
    free = replace(second, slots=("fw1 OTHER (shared)",))
    assert judged(replace(TRACKED, placements=(first, free))) == []


def test_what_is_no_conflict() -> None:
    """A former push that has no command, or two commands for the same certificate, undo nothing."""
    bare = replace(TRACKED, source="id-2", placements=(replace(WELL, command=()),))
    well = replace(TRACKED, placements=(WELL,))
    assert [list(one.told()) for one in judge([well, bare], NOW, Limits())] == [[], []]
    twice = replace(TRACKED, placements=(WELL, replace(WELL, command=("pan_instcert", "-v", "fw1"))))
    assert judged(twice) == []


def test_what_was_found_before_is_kept() -> None:
    """The survey's own findings stay, and come first."""
    told = Finding(Level.WARNING, "unhooked", "text")
    one = replace(TRACKED, findings=(told,), ca_error="no", placements=(replace(WELL, findings=(told,), failure="no"),))
    assert [finding.kind for finding in judged(one)] == ["unhooked", "ca", "unhooked", "failed"]


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (NOW, "2027-01-15"),
        (None, "an unknown date"),
        (1e20, "a date beyond the calendar"),
        (-1e20, "a date beyond the calendar"),
        (float("nan"), "a date beyond the calendar"),
        (float("inf"), "a date beyond the calendar"),
    ],
)
def test_dates_of_any_kind(seconds: float | None, shown: str) -> None:
    """What a hostile certificate claims is shown as what it is."""
    assert day(seconds) == shown
