"""The metrics: what node_exporter reads, and what an alert can rely on."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from certhooks.watch import prometheus
from certhooks.watch.model import DAY, Leaf, Level, Overview, Placement, Sight, Watched
from tests.lab import overviews

NOW = overviews.NOW
LABEL = r'[a-z_]+="(?:[^"\\\n]|\\["\\n])*"'
SAMPLE = re.compile(rf"(certhooks_[a-z_]+)(\{{{LABEL}(?:,{LABEL})*\}})? (-?\d+)")


def series(text: str) -> dict[str, float]:
    """Read the format as strictly as node_exporter does: every line is right, and no series comes twice."""
    assert text.endswith("\n")
    found: dict[str, float] = {}
    kinds: set[str] = set()
    for line in text.splitlines():
        if line.startswith("# TYPE "):
            _hash, _type, name, kind = line.split(" ")
            assert kind == "gauge"
            assert name not in kinds
            kinds.add(name)
        elif not line.startswith("# HELP "):
            match = SAMPLE.fullmatch(line)
            assert match, line
            assert match[1] in kinds, "TYPE stands before the samples"
            key = match[1] + (match[2] or "")
            assert key not in found, key
            found[key] = float(match[3])
    return found


@pytest.mark.parametrize("overview", [overviews.overview(n) for n in (0, 1, 50)] + [overviews.hostile()])
def test_every_overview_can_be_read(overview: Overview) -> None:
    """Well-formed and without a double whatever the names are; the level is there, and when it was seen."""
    found = series(prometheus.text(overview))
    assert found["certhooks_level"] == overview.level
    assert found["certhooks_overview_timestamp_seconds"] == overview.at
    assert sum(value for name, value in found.items() if name.startswith("certhooks_findings")) == len(
        [*overview.findings, *(told for one in overview.watched for told in one.told())]
    )


def test_a_target_out_of_step_can_be_alerted_on() -> None:
    """In step, level, until when served and tracked are valid, last success and attempt, failures, next attempt."""
    new, old = overviews.leaf("new", "w", NOW - DAY, 90), overviews.leaf("old", "w", NOW - 85 * DAY, 90)
    placement = Placement(
        "pan:fw1", "fw1", pushed=old, pushed_at=NOW - 85 * DAY, tried_at=NOW - 60, failures=3, next_try=NOW + 600,
        served=(Sight("fw1:443", "192.0.2.1", old), Sight("fw1:443", "192.0.2.2", None, "timed out")),
    )  # fmt: skip
    found = series(
        prometheus.text(Overview(NOW, "h", (Watched("w", "2026", "certmonger", new, placements=(placement,)),)))
    )
    certificate = '{certificate="w",source="2026"}'
    target = '{certificate="w",source="2026",target="pan:fw1"}'
    assert found[f"certhooks_certificate_not_after_timestamp_seconds{certificate}"] == new.not_after
    assert {name: found[f"certhooks_target_{name}{target}"] for name in (
        "in_step", "level", "addresses", "addresses_silent", "failures", "served_not_after_timestamp_seconds",
        "last_success_timestamp_seconds", "last_attempt_timestamp_seconds", "next_attempt_timestamp_seconds",
    )} == {
        "in_step": 0, "level": Level.OK, "addresses": 2, "addresses_silent": 1, "failures": 3,
        "served_not_after_timestamp_seconds": old.not_after, "last_success_timestamp_seconds": NOW - 85 * DAY,
        "last_attempt_timestamp_seconds": NOW - 60, "next_attempt_timestamp_seconds": NOW + 600,
    }  # fmt: skip


def test_a_renewal_makes_no_new_series_but_in_info() -> None:
    """Fingerprints and dates change, the names of the series stay: graphs go on and alerts do not flap."""
    before = overviews.overview(50)

    def renewed(one: Watched) -> Watched:
        leaf = one.leaf and overviews.leaf(f"{one.name} next", one.name, NOW, 90)
        placed = tuple(replace(each, pushed=leaf, served=(Sight("a:443", "::1", leaf),)) for each in one.placements)
        return replace(one, leaf=leaf, placements=placed if leaf and one.placements[:1] else one.placements)

    after = replace(before, watched=tuple(renewed(one) for one in before.watched))

    def names(overview: Overview) -> set[str]:
        return {name for name in series(prometheus.text(overview)) if "_info" not in name and "certificate" in name}

    appeared = {name for name in names(after) - names(before) if "served_not_after" not in name}
    assert not appeared, "what was silent is seen now: that alone is new"


def test_what_is_not_known_has_no_series() -> None:
    """No made-up zero, no NaN: an alert on absence works."""
    odd = Leaf("f", "n", float("nan"), float("inf"))
    unknown = Watched("w", "s", "certmonger", odd, placements=(Placement("t", "t"),))
    names = {name.partition("{")[0] for name in series(prometheus.text(Overview(NOW, "h", (unknown,))))}
    assert not {name for name in names if "not_" in name or "attempt" in name or "success" in name}


def test_of_two_alike_the_worse_is_shown() -> None:
    """Two requests that cannot be told apart make one series, or node_exporter would drop the whole file."""
    fine, bad = overviews.overview(1, faults=0).watched[0], overviews.overview(1).watched[0]
    twin = replace(bad, name=fine.name, source=fine.source)
    found = series(prometheus.text(Overview(NOW, "h", (fine, twin))))
    (level,) = (value for name, value in found.items() if name.startswith("certhooks_certificate_level"))
    assert level == Level.CRITICAL


def test_labels_are_escaped() -> None:
    """Quotes and backslashes as the format wants them; line ends and control characters never come so far."""
    text = prometheus.text(Overview(NOW, "h", (Watched('a"b\\c\nd\x1b', "s", "file"),)))
    assert 'certificate="a\\"b\\\\c d?"' in text
