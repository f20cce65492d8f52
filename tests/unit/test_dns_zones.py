"""Into which zone a value goes, where FreeIPA, DNS and the person who calls say different things."""

from __future__ import annotations

import sys

import pytest

if sys.version_info < (3, 10):
    pytest.skip("the DNS hooks need Python 3.10", allow_module_level=True)

from certhooks.errors import BadNameError, UnreachableError
from certhooks_freeipa_dns import zones
from certhooks_freeipa_dns.backend import Held, Zone
from certhooks_freeipa_dns.view import Place

NAME = "_acme-challenge.www.sub.example.test"


def known(*made: Zone) -> dict[str, Zone]:
    """Return zones as a server shows them."""
    return {zone.name: zone for zone in made}


@pytest.mark.parametrize(
    ("zone", "shown", "given", "told"),
    [
        ("sub.example.test", [Zone("sub.example.test"), Zone("example.test")], "", ""),
        ("example.test", [Zone("example.test")], "", ""),
        ("sub.example.test", [Zone("example.test")], "", "from the zone sub.example.test, but the longest zone"),
        ("example.test", [Zone("sub.example.test"), Zone("example.test")], "", "from the zone example.test, but"),
        ("sub.example.test", [], "", "no zone of FreeIPA holds"),
        ("sub.example.test", [Zone("sub.example.test", forward=True)], "", "is a forward zone"),
        ("sub.example.test", [Zone("sub.example.test", active=False)], "", "is disabled"),
        ("example.test", [Zone("sub.example.test"), Zone("example.test")], "example.test", ""),
        ("sub.example.test", [Zone("example.test")], "sub.example.test", "no zone of FreeIPA holds"),
        ("example.test", [Zone("example.test", active=False)], "example.test", "is disabled"),
    ],
)
def test_zones_are_compared(zone: str, shown: list[Zone], given: str, told: str) -> None:
    """The longest zone that FreeIPA shows has to be the one that DNS serves the name from, and able to hold it."""
    place = Place(NAME, NAME, zone)
    if not told:
        zones.check([place], known(*shown), "ipa1.test", given=given)
        return
    with pytest.raises(BadNameError, match=told) as caught:
        zones.check(
            [Place("fine.test", "fine.test", "fine.test"), place],
            known(Zone("fine.test"), *shown),
            "ipa1.test",
            given=given,
        )
    assert caught.value.hint


def test_an_alias_takes_no_value() -> None:
    """Where FreeIPA has one that DNS does not serve yet."""
    place = Place(NAME, NAME, "example.test")
    zones.no_aliases([place], {NAME: Held(exists=True)})
    with pytest.raises(BadNameError, match="is an alias in FreeIPA"):
        zones.no_aliases([place], {NAME: Held(exists=True, alias=True)})


class Silent:
    """DNS that does not answer, or says that a name is in example.test."""

    def __init__(self, *, answers: bool) -> None:
        self.answers = answers

    def places(self, wanted: list[str]) -> dict[str, Place]:
        """See View."""
        if not self.answers:
            raise UnreachableError("cannot look up")
        return {name: Place(name, f"{name}.target.test", "target.test") for name in wanted}


def test_a_zone_that_is_named_goes_before_dns() -> None:
    """Also where DNS does not answer, which is told; a name outside of it is refused, with its alias."""
    warned: list[str] = []
    found = zones.places(Silent(answers=False), iter(["a.test"]), given="test", warn=warned.append)  # type: ignore[arg-type]
    assert found == {"a.test": Place("a.test", "a.test", "test")}
    assert warned == ["cannot look up; taking the names as they are"]
    found = zones.places(Silent(answers=True), ["a.test"], given="test", warn=warned.append)  # type: ignore[arg-type]
    assert found == {"a.test": Place("a.test", "a.test.target.test", "test")}
    with pytest.raises(UnreachableError):
        zones.places(Silent(answers=False), ["a.test"], given="", warn=warned.append)  # type: ignore[arg-type]
    with pytest.raises(
        BadNameError, match=r"a\.test \(an alias of a\.test\.target\.test\) is not in the zone other\.test"
    ):
        zones.places(Silent(answers=True), ["a.test"], given="other.test", warn=warned.append)  # type: ignore[arg-type]
