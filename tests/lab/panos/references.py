"""Who refers to what: needed to refuse a delete, to validate a commit, and to know what is served."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Callable, Optional

if TYPE_CHECKING:
    from collections.abc import Iterator
    from xml.etree.ElementTree import Element

DEVICE = "devices/entry"
_LISTS = {"trusted-root-CA", "root-ca-exclude-list"}
_NAMED = {"local-certificate", "forward-trust-certificate", "forward-untrust-certificate", "cookie-encrypt-cert"}
_CONTAINERS = {"certificate", "ssl-tls-service-profile", "certificate-profile"}


@dataclass(frozen=True)
class Reference:
    """A place that names a certificate or a profile."""

    way: tuple[Element, ...]  # from the scope (shared, a vsys, deviceconfig, ...) down to the naming node
    name: str

    def __str__(self) -> str:
        """Return the form of the device's texts: steps joined by arrows."""
        return " -> ".join(step for node in self.way for step in _steps(node))


def _steps(node: Element) -> list[str]:
    if node.tag == "entry":
        return [node.get("name", "")]
    return [(node.text or "").strip()] if node.tag == "member" else [node.tag]


@dataclass(frozen=True)
class Domain:
    """A configuration whose names are its own: a firewall's, Panorama's own, one template's.

    Attributes:
        root: its ``config`` node (Panorama's own and its templates live in the same file but in different domains).
        shared: where shared certificates and profiles are, or None.
        inherited: the shared parts of the templates of a stack.

    """

    root: Element
    shared: Optional[Element]
    inherited: tuple[Element, ...] = ()

    @property
    def vsys(self) -> list[Element]:
        """The virtual systems."""
        return self.root.findall(f"{DEVICE}/vsys/entry")

    def scopes(self) -> Iterator[tuple[Element, list[Element]]]:
        """Yield each scope with the containers in which its names are looked up, nearest first."""
        shared = [*([] if self.shared is None else [self.shared]), *self.inherited]
        for vsys in self.vsys:
            yield vsys, [vsys, *shared]
        if self.shared is not None:
            yield self.shared, shared
        for tag in ("deviceconfig", "network"):
            for node in self.root.findall(f"{DEVICE}/{tag}"):
                yield node, shared


def domains(tree: Element) -> list[Domain]:
    """Return the domains of a whole configuration."""
    panorama = tree.find("panorama")
    found = [Domain(tree, panorama if panorama is not None else tree.find("shared"))]
    templates = {t.get("name"): t.find("config/shared") for t in tree.findall(f"{DEVICE}/template/entry")}
    found.extend(Domain(c, c.find("shared")) for c in tree.findall(f"{DEVICE}/template/entry/config"))
    for stack in tree.findall(f"{DEVICE}/template-stack/entry"):
        config = stack.find("config")
        if config is not None:
            members = [templates.get(m.text) for m in stack.findall("templates/member")]
            found.append(Domain(config, config.find("shared"), tuple(m for m in members if m is not None)))
    return found


def certificates_named(scope: Element) -> Iterator[Reference]:
    """Yield the references to certificates below a scope."""
    return _references(scope, _certificate_name)


def profiles_named(scope: Element) -> Iterator[Reference]:
    """Yield the references to SSL/TLS service profiles below a scope."""
    return _references(scope, _profile_name)


def _references(scope: Element, name_of: Callable[[tuple[Element, ...]], str]) -> Iterator[Reference]:
    def walk(node: Element, way: tuple[Element, ...]) -> Iterator[Reference]:
        for child in node:
            if child.tag == "certificate" and child.find("entry") is not None and not way:
                continue  # the container itself
            here = (*way, child)
            name = name_of(here)
            if name:
                yield Reference(here, name)
            yield from walk(child, here)

    return walk(scope, ())


def _certificate_name(way: tuple[Element, ...]) -> str:
    node, above = way[-1], [n.tag for n in way[:-1]]
    text = (node.text or "").strip()
    if node.tag == "certificate" and len(node) == 0:
        return text
    if node.tag == "entry" and above[-1:] == ["CA"] and "certificate-profile" in above:
        return node.get("name", "")
    if node.tag == "member" and above and above[-1] in _LISTS:
        return text
    if node.tag in _NAMED and len(node) == 0:
        return text
    return text if node.tag in ("rsa", "ecdsa") and above and above[-1] in _NAMED else ""


def _profile_name(way: tuple[Element, ...]) -> str:
    node = way[-1]
    return (node.text or "").strip() if node.tag == "ssl-tls-service-profile" and len(node) == 0 else ""


def lookup(containers: list[Element], kind: str, name: str) -> Optional[Element]:
    """Return the certificate or the profile with this name, as seen from a scope."""
    for container in containers:
        for entry in container.findall(f"{kind}/entry"):
            if entry.get("name") == name:
                return entry
    return None


def referring_to(tree: Element, target: Element, kind: str) -> list[Reference]:
    """Return who refers to this certificate or profile entry."""
    named = certificates_named if kind == "certificate" else profiles_named
    return [
        reference
        for domain in domains(tree)
        for scope, containers in domain.scopes()
        for reference in named(scope)
        if reference.name == target.get("name") and lookup(containers, kind, reference.name) is target
    ]
