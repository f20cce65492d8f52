"""Into which zone a value goes: what FreeIPA shows to the account has to be what DNS serves."""

from __future__ import annotations

from typing import TYPE_CHECKING, Callable

from certhooks.errors import BadNameError, UnreachableError
from certhooks_freeipa_dns import names

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from certhooks_freeipa_dns.backend import Held, Zone
    from certhooks_freeipa_dns.view import Place, View


def places(view: View, wanted: Iterable[str], *, given: str, warn: Callable[[str], None]) -> Mapping[str, Place]:
    """Follow aliases and find the zones in DNS, of many names at once; a ``given`` zone goes before what DNS says.

    Raises:
        BadNameError: aliases in a loop, or a place outside the zone. UnreachableError: DNS does not answer.
    """
    from certhooks_freeipa_dns.view import Place

    todo = list(wanted)
    try:
        found = view.places(todo)
    except UnreachableError as e:
        if not given:
            raise
        warn(f"{e}; taking the names as they are")
        found = {name: Place(name, name, given) for name in todo}
    if not given:
        return found
    for place in found.values():
        if not names.within(place.target, given):
            raise BadNameError(f"{place} is not in the zone {given}", hint="leave --zone out, or name the right one")
    return {name: place._replace(zone=given) for name, place in found.items()}


def check(found: Collection[Place], zones: Mapping[str, Zone], server: str, *, given: str = "") -> None:
    """Return when each place's zone holds records in FreeIPA and is the one that DNS serves the name from.

    A least-privilege account may see the parent of a zone that it does not see: what is written there is never served.

    ``zones`` are those above and at the names that the ``server`` shows; ``given`` is a zone that somebody has named:
    DNS is not compared then.

    Raises:
        BadNameError: it does not, is a forward zone, is disabled, or is another.
    """
    for place in found:
        above = [place.zone] if given else names.suffixes(place.target)
        longest = next((zones[each] for each in above if each in zones), None)
        if longest is None:
            raise BadNameError(
                f"no zone of FreeIPA holds {place}",
                hint="FreeIPA does not serve it, or this account may not see it: ipa dnszone-find shows what it sees; "
                "an alias (CNAME) from there into a zone of FreeIPA would do",
            )
        if longest.forward:
            raise BadNameError(
                f"{place} is in {longest.name}, which is a forward zone in FreeIPA and holds no records",
                hint="an alias (CNAME) where that zone is served, into a zone of FreeIPA, would do",
            )
        if not longest.active:
            raise BadNameError(
                f"the zone {longest.name} is disabled in FreeIPA", hint=f"ipa dnszone-enable {longest.name}"
            )
        if longest.name != place.zone:
            raise BadNameError(
                f"{place} is served from the zone {place.zone}, but the longest zone that {server} "
                f"shows to this account is {longest.name}",
                hint="what is written there would never be served: give the account the permission for "
                f"{place.zone}, or if DNS looks different from here, --zone {longest.name}",
            )


def no_aliases(found: Collection[Place], held: Mapping[str, Held]) -> None:
    """Return when no place is an alias in FreeIPA, where DNS does not serve that yet.

    Raises:
        BadNameError: one is.
    """
    for place in found:
        if held[place.target].alias:
            raise BadNameError(
                f"{place} is an alias in FreeIPA, which takes no other record",
                hint="DNS does not serve that alias yet, or --zone hides it: try again without --zone",
            )
