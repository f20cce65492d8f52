"""What is wanted against what is there, and whose a pending change is."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from certhooks.bundle import Bundle
from certhooks_pan import scope
from certhooks_pan.state import Config, Held, Pending, Profile
from certhooks_pan.wanted import Wanted, Wish, fingerprint, needed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.lab.ca import Issued

SHARED = "/config/shared"
OURS = f"{SHARED}/certificate/entry[@name='gp']"
EMPTY = Config({}, {})


def wanted(**more: Sequence[str]) -> Wanted:
    """Return what a certificate ``gp`` with a profile ``P`` needs."""
    settings = {"profiles": ("P",), "cas": {}, "roots": (), "superseded": (), **more}
    return Wanted(base=SHARED, name="gp", fingerprint="f", **settings)  # type: ignore[arg-type]  # as the caller says


def held(name: str, digest: str, *, key: bool = True, common_name: str = "gp") -> Held:
    """Return a certificate of a device."""
    return Held(name, digest, key, common_name)


def bundle(issued: Issued) -> Bundle:
    """Return an issued certificate with its chain."""
    return Bundle.from_pem(issued.fullchain_pem, issued.key_pem)


@pytest.mark.parametrize(
    ("path", "foreign"),
    [
        (OURS, False),
        (OURS.replace("'", '"'), False),
        (f"{OURS}/public-key", False),
        (f"{SHARED}/ssl-tls-service-profile/entry[@name='P']/certificate", False),
        (f"{SHARED}/ssl-tls-service-profile/entry[@name='P2']/certificate", True),
        (f"{SHARED}/certificate/entry[@name='gp2']", True),
        (f"{SHARED}/ssl-decrypt/trusted-root-CA/member[text()='x']", True),
        (f"{SHARED}/certificate", True),
        (SHARED, True),
        ("/config", True),
        ("", True),
    ],
)
def test_only_what_we_would_change_ourselves_is_ours(path: str, foreign: bool) -> None:  # noqa: FBT001
    """An entry at or below one of our objects is ours, in either kind of quotes; one beside or above it is not."""
    assert wanted().foreign([Pending(path, "me")], ()) == ([path] if foreign else [])


@pytest.mark.parametrize("path", [OURS, f"{OURS}/x", f"{SHARED}/certificate", SHARED, "/config"])
def test_what_an_earlier_run_left_is_ours_even_when_listed_coarsely(path: str) -> None:
    """After a crash a coarser entry is taken for what our journal knows to be below it."""
    other = Wanted(SHARED, "other", "f", (), {}, (), ())
    assert other.foreign([Pending(path, "me")], (OURS,)) == []
    for beside in ("/config/sharedness", "/config/share"):
        assert other.foreign([Pending(beside, "me")], (OURS,)) == [beside]


def test_predecessors_are_touched_too() -> None:
    """Deletions that a killed --prune left pending do not stop the next run."""
    path = scope.certificate(SHARED, "gp_2025")
    assert wanted(superseded=("gp_2025",)).foreign([Pending(path, "me")], ()) == []


def test_lacking_tells_each_difference() -> None:
    """Certificate, key, binding: each that differs is a sentence, and nothing is said when nothing does."""
    profile = Profile("P", "gp", "", ecdhe=True)
    assert wanted().lacking(Config({"gp": held("gp", "f")}, {"P": profile})) == ()
    assert wanted().lacking(EMPTY) == ("import the certificate gp", "bind the profile P to it")
    assert wanted().lacking(Config({"gp": held("gp", "e")}, {"P": profile})) == ("replace the certificate gp",)
    assert wanted().lacking(Config({"gp": held("gp", "f", key=False)}, {"P": profile}))
    other = Profile("P", "old", "", ecdhe=True)
    said = wanted().lacking(Config({"gp": held("gp", "f")}, {"P": other}))
    assert said == ("bind the profile P to it in place of old",)


def test_cas_are_known_by_fingerprint_wherever_they_are(ec_leaf: Issued) -> None:
    """One under another name here keeps it, one that is inherited is left out, one that is missing gets a name."""
    pair = bundle(ec_leaf)
    lower, upper = pair.chain
    here = Config({"mine": held("mine", fingerprint(lower))}, {})
    above = Config({"theirs": held("theirs", fingerprint(upper))}, {})
    wish = Wish("gp")

    def found(*candidates: Config) -> list[str]:
        return list(needed(wish, pair, base=SHARED, name="gp", limit=31, candidates=candidates, running=EMPTY).cas)

    assert found(here, above) == ["mine"]
    assert found(EMPTY) == [f"Unit-Lower_{fingerprint(lower)[:8]}", f"Unit-Upper_{fingerprint(upper)[:8]}"]
    impostor = Config({"Unit-Lower": held("Unit-Lower", "0" * 64)}, {})
    assert found(impostor)[0] == f"Unit-Lower_{fingerprint(lower)[:8]}"


def test_only_dated_names_with_the_same_common_name_are_superseded(ec_leaf: Issued) -> None:
    """NAME_YYYY with the certificate's CN, never the current one, another CN or a longer name."""
    pair = bundle(ec_leaf)
    names = ("gp_2024", "gp_2025", "gp_20255", "gp_25", "gp", "xgp_2024", "gp_2023")
    there = {n: held(n, "0", common_name="ec.example.com" if n != "gp_2023" else "other") for n in names}
    found = needed(
        Wish("gp", year=True),
        pair,
        base=SHARED,
        name="gp_2025",
        limit=63,
        candidates=(EMPTY,),
        running=Config(there, {}),
    )
    assert found.superseded == ("gp_2024",)
