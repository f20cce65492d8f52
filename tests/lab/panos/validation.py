"""What a commit checks, and the lines with which it refuses."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.lab.panos import certificates, references

if TYPE_CHECKING:
    from collections.abc import Iterator
    from xml.etree.ElementTree import Element

    from tests.lab.panos.switches import Switches

HEADING = "Validation Error:"


def problems(tree: Element, switches: Switches) -> list[str]:
    """Return the ``details`` lines of a commit that fails; empty when the configuration is good."""
    lines: list[str] = []
    for domain in references.domains(tree):
        for scope, containers in domain.scopes():
            lines += _of_scope(scope, containers, switches)
    return [HEADING, *lines] if lines else []


def _of_scope(scope: Element, containers: list[Element], switches: Switches) -> list[str]:
    certificate_lines = list(_certificates(scope, switches))
    profile_lines = list(_profiles(scope, containers, switches))
    lines = [*certificate_lines, *([" certificate is invalid"] if certificate_lines else [])]
    lines += [*profile_lines, *([" ssl-tls-service-profile is invalid"] if profile_lines else [])]
    for kind, named in (
        ("certificate", references.certificates_named(scope)),
        ("ssl-tls-service-profile", references.profiles_named(scope)),
    ):
        for reference in named:
            if references.lookup(containers, kind, reference.name) is None:
                place = str(reference)
                shown = place if place.endswith(reference.name) else f"{place} '{reference.name}'"
                lines += [f" {shown} is not a valid reference", f" {place} is invalid"]
    return lines


def _certificates(scope: Element, switches: Switches) -> Iterator[str]:
    for entry in scope.findall("certificate/entry"):
        if switches.common_name_required and entry.find("public-key") is not None and not entry.findtext("common-name"):
            yield f" certificate -> {entry.get('name')}  is missing 'common-name'"


def _profiles(scope: Element, containers: list[Element], switches: Switches) -> Iterator[str]:
    for entry in scope.findall("ssl-tls-service-profile/entry"):
        place = f" ssl-tls-service-profile -> {entry.get('name')} "
        for needed in ("protocol-settings", "certificate"):
            if entry.find(needed) is None:
                yield f"{place} is missing '{needed}'"
        certificate = references.lookup(containers, "certificate", entry.findtext("certificate", ""))
        if (
            certificate is not None
            and switches.profile_without_key == "refuse"
            and not certificate.findtext("private-key")
        ):
            yield f"{place}-> certificate '{entry.findtext('certificate')}' has no private key"


def warnings(tree: Element) -> list[str]:
    """Return the warnings of a commit that succeeds: expired certificates that are referred to."""
    found = []
    for domain in references.domains(tree):
        for scope, containers in domain.scopes():
            for reference in references.certificates_named(scope):
                entry = references.lookup(containers, "certificate", reference.name)
                stored = certificates.of_entry(entry) if entry is not None else []
                if stored and certificates.expired(stored[0]):
                    found.append(f"Warning: certificate {reference.name} is expired ({reference})")
    return found
