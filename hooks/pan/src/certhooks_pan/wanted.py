"""What the user wants, and what that needs in one place of one device, held against what is there."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple, Optional

from cryptography.hazmat.primitives import hashes

from certhooks import certificate as certs
from certhooks_pan import names, scope

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from cryptography.x509 import Certificate

    from certhooks.address import Address
    from certhooks.bundle import Bundle
    from certhooks_pan.state import Config, Pending

FULL, PARTIAL, NONE, FORCE = "full", "partial", "none", "force"  # --commit: whose changes go along
PEM, PKCS12, PKCS12_MODERN = "pem", "pkcs12", "pkcs12-modern"  # --format: how a pair travels
_SHARED = scope.Scope()


class Wish(NamedTuple):
    """What the user wants on every device of a call.

    ``name`` is the base of the certificate's name; ``year`` appends ``_YYYY`` of the leaf's first day of validity, so
    that a second run for the same certificate finds the same name whatever the date.
    """

    name: str
    year: bool = False
    profiles: tuple[str, ...] = ()
    where: scope.Scope = _SHARED
    commit: str = PARTIAL
    file_format: str = PEM
    trust_root: bool = False
    push: bool = False
    lenient: bool = False

    def certificate_name(self, bundle: Bundle) -> str:
        """Return the full name on the device."""
        return f"{self.name}_{bundle.not_before:%Y}" if self.year else self.name


def device_name(address: Address) -> str:
    """Return the name under which a device is locked."""
    return f"pan {address}"


def journal_name(address: Address, wish: Wish) -> str:
    """Return the journal's key for a certificate on a device: the same for every renewal."""
    where = "" if wish.where == _SHARED else f" ({wish.where}{', pushed' if wish.push else ''})"
    return f"{device_name(address)} {wish.name}{where}"


class Wanted(NamedTuple):
    """The objects below ``base`` as they should be: a pair, the CA certificates that it needs, who refers to them.

    ``cas`` are those that this place must hold itself, ``roots`` the names that it is to trust (held here or where it
    inherits from), ``superseded`` the predecessors that ``--prune`` may delete.
    """

    base: str
    name: str
    fingerprint: str
    profiles: tuple[str, ...]
    cas: Mapping[str, Certificate]
    roots: tuple[str, ...]
    superseded: tuple[str, ...]

    def lacking(self, has: Config) -> tuple[str, ...]:
        """Tell what has to be done so that a configuration is as wanted, a sentence each."""
        todo = [f"import the CA certificate {name}" for name in self.lacking_cas(has)]
        if not has.holds(self.name, self.fingerprint):
            verb = "replace" if self.name in has.certificates else "import"
            todo.append(f"{verb} the certificate {self.name}")
        todo += [f"trust the root {name}" for name in self.roots if name not in has.trusted]
        for name in self.profiles:
            bound = has.profiles[name].certificate if name in has.profiles else ""
            if bound != self.name:
                todo.append(f"bind the profile {name} to it" + (f" in place of {bound}" if bound else ""))
        return tuple(todo)

    def lacking_cas(self, has: Config) -> dict[str, Certificate]:
        """Return the CA certificates that a configuration does not hold, by their names."""
        return {name: ca for name, ca in self.cas.items() if has.fingerprint(name) != fingerprint(ca)}

    def touches(self) -> tuple[str, ...]:
        """Return the XPaths of everything that a run may change."""
        certificates = (scope.certificate(self.base, name) for name in (self.name, *self.cas, *self.superseded))
        profiles = (f"{scope.profile(self.base, name)}/certificate" for name in self.profiles)
        roots = (scope.trusted_roots(self.base),) if self.roots else ()
        return (*certificates, *profiles, *roots)

    def contested(self, running: Config, candidate: Config) -> tuple[str, ...]:
        """Return the XPaths of what this run would change and what the candidate has as neither was nor shall be."""
        places: list[str] = []
        if candidate.fingerprint(self.name) not in {running.fingerprint(self.name), self.fingerprint}:
            places.append(scope.certificate(self.base, self.name))
        for name in self.profiles:
            was = running.profiles[name].certificate if name in running.profiles else ""
            if candidate.profiles[name].certificate not in {was, self.name}:
                places.append(scope.profile(self.base, name))
        return tuple(places)

    def foreign(self, pending: Iterable[Pending], leftover: Sequence[str]) -> list[str]:
        """Return the pending changes that are neither what this run would do nor what an earlier one left.

        A device may list a change by a node above it. Such an entry tells nothing about what is below, and is
        taken for ours only where an earlier run of ours is known to have left something there.
        """
        places = (*self.touches(), *leftover)
        return [
            each.xpath
            for each in pending
            if not any(scope.within(each.xpath, place) for place in places)
            and not any(scope.within(left, each.xpath) for left in leftover)
        ]


def needed(
    wish: Wish, bundle: Bundle, *, base: str, name: str, limit: int, candidates: Sequence[Config], running: Config
) -> Wanted:
    """Return what a wish means below ``base``.

    CA certificates keep the names under which the device has them already, and are named after themselves otherwise.

    Args:
        wish: what the user wants.
        bundle: the certificate.
        base: XPath of the place.
        name: the certificate's name there.
        limit: the longest name, in characters.
        candidates: the candidate of this place, then of the places that it inherits certificates from.
        running: the running configuration of this place.
    """

    def named(ca: Certificate) -> str:
        held = (config.name_of(fingerprint(ca)) for config in candidates)
        return next(filter(None, held), None) or names.ca(certs.label(ca), fingerprint(ca), limit)

    roots = bundle.roots if wish.trust_root else ()
    inherited = [
        ca for ca in (*bundle.chain, *roots) if any(config.name_of(fingerprint(ca)) for config in candidates[1:])
    ]
    return Wanted(
        base=base,
        name=name,
        fingerprint=bundle.fingerprint,
        profiles=wish.profiles,
        cas={named(ca): ca for ca in (*bundle.chain, *roots) if ca not in inherited},
        roots=tuple(named(ca) for ca in roots),
        superseded=tuple(_superseded(running, wish.name, name, bundle.common_name)),
    )


def _superseded(has: Config, base_name: str, name: str, common_name: Optional[str]) -> list[str]:
    """Return the names ``NAME_YYYY`` of earlier years' certificates for the same common name."""
    year = re.compile(re.escape(base_name) + r"_(\d{4})\Z")
    ours = year.match(name)
    found = ((held, year.match(held.name)) for held in has.certificates.values() if held.common_name == common_name)
    return [held.name for held, its in found if its and its[1] < (ours[1] if ours else "9999") and held.name != name]


def fingerprint(certificate: Certificate) -> str:
    """Return SHA-256 in lower-case hex."""
    return certificate.fingerprint(hashes.SHA256()).hex()
