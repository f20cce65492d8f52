"""The little of PAN-OS's schema that matters for certificates: names and the nodes of an SSL/TLS service profile."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.lab.panos import replies, xpath

if TYPE_CHECKING:
    from collections.abc import Iterable
    from xml.etree.ElementTree import Element

_NAMED = ("certificate", "ssl-tls-service-profile", "certificate-profile")
_PROFILE = {"protocol-settings", "certificate"}
_PROTOCOL = {"min-version", "max-version"} | {
    f"{group}-algo-{value}"
    for group, values in {
        "keyxchg": ("rsa", "dhe", "ecdhe"),
        "enc": ("3des", "rc4", "aes-128-cbc", "aes-256-cbc", "aes-128-gcm", "aes-256-gcm", "chacha20-poly1305"),
        "auth": ("sha1", "sha256", "sha384"),
    }.items()
    for value in values
}


def check(path: str, elements: Iterable[Element], name_maximum: int) -> None:
    """Check what ``set`` puts below a node.

    Raises:
        replies.RefusedError: code 12, the leaf first, then its parents.

    """
    steps = [(step.tag, step.names[0] if step.names else "") for step in xpath.parse(path)]
    for tag, name in steps:
        _check_length(tag, name, name_maximum)
    for element in elements:
        _walk(steps, element, name_maximum)


def check_node(path: str, element: Element, name_maximum: int) -> None:
    """Check what ``edit`` puts in the place of a node."""
    above = path[: path.rfind("/" + element.tag)]
    check(above, [element], name_maximum)


def check_name(path: str, name: str, name_maximum: int) -> None:
    """Check a new name for the entry at an xpath."""
    if not name:
        raise _invalid(f" {path} newname is missing")
    _check_length("entry", name, name_maximum)


def _check_length(tag: str, name: str, maximum: int) -> None:
    if tag == "entry" and len(name) > maximum:
        text = f" {name} -> name can be at most {maximum} characters, but current length: {len(name)}"
        raise _invalid(text, f" {name} is invalid")


def _walk(above: list[tuple[str, str]], element: Element, maximum: int) -> None:
    tags = [tag for tag, _ in above]
    if tags[-1:] and tags[-1] in _NAMED:
        _check_length(element.tag, element.get("name", ""), maximum)
    allowed = None
    if tags[-2:] == ["ssl-tls-service-profile", "entry"]:
        allowed = _PROFILE
    elif tags[-3:] == ["ssl-tls-service-profile", "entry", "protocol-settings"]:
        allowed = _PROTOCOL
    if allowed is not None and element.tag not in allowed:
        raise _invalid(f" {element.tag} unexpected here")
    for child in element:
        _walk([*above, (element.tag, element.get("name", ""))], child, maximum)


def _invalid(*lines: str) -> replies.RefusedError:
    return replies.RefusedError(replies.error(*lines, code=12))
