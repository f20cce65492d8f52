"""The part of XPath that clients of PAN-OS use, over ElementTree, keeping the way from the root.

Steps by name or ``*``, ``//``, and predicates ``[@name='x']``, ``[text()='x']``, joined with ``or``, or a position.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Optional
from xml.etree.ElementTree import Element

if TYPE_CHECKING:
    from collections.abc import Iterator

Way = tuple[Element, ...]  # from the root down to the node

_STEP = re.compile(r"(//?)([\w.:*-]+)((?:\[(?:'[^']*'|\"[^\"]*\"|[^\]'\"])*\])*)")
_PREDICATE = re.compile(r"\[((?:'[^']*'|\"[^\"]*\"|[^\]'\"])*)\]")
_TEST = re.compile(r"\s*(@name|text\(\))\s*=\s*('[^']*'|\"[^\"]*\")\s*(or\b|$)")


class BadXpathError(ValueError):
    """The xpath cannot be read."""


@dataclass(frozen=True)
class Step:
    """One step: a tag, and the values that ``@name`` or ``text()`` may have (none: any)."""

    tag: str
    names: tuple[str, ...] = ()
    texts: tuple[str, ...] = ()
    position: Optional[int] = None
    anywhere: bool = False

    def fits(self, node: Element) -> bool:
        """Tell whether the node is one that this step selects, position aside."""
        if self.tag not in ("*", node.tag):
            return False
        if not (self.names or self.texts):
            return True
        return node.get("name") in self.names or (node.text or "").strip() in self.texts


def parse(text: str) -> list[Step]:
    """Return the steps of an absolute xpath, ``/config`` first.

    Raises:
        BadXpathError: it is not absolute, or holds something outside of the subset.

    """
    steps, at = [], 0
    text = text.strip()
    while at < len(text):
        match = _STEP.match(text, at)
        if not match:
            raise BadXpathError(text)
        steps.append(_step(match))
        at = match.end()
    if not steps or not steps[0].fits(Element("config")):
        raise BadXpathError(text)
    return steps


def _step(match: re.Match[str]) -> Step:
    names: list[str] = []
    texts: list[str] = []
    position = None
    for predicate in _PREDICATE.findall(match[3]):
        if predicate.strip().isdigit():
            position = int(predicate)
            continue
        at = 0
        while at < len(predicate):
            test = _TEST.match(predicate, at)
            if not test:
                raise BadXpathError(predicate)
            (names if test[1] == "@name" else texts).append(test[2][1:-1])
            at = test.end()
    return Step(match[2], tuple(names), tuple(texts), position, match[1] == "//")


def find(root: Element, xpath: str) -> list[Way]:
    """Return the ways to all nodes that the xpath selects, in the order of the tree."""
    ways: list[Way] = [(root,)]
    for step in parse(xpath)[1:]:
        ways = [found for way in ways for found in _select(way, step)]
    return ways


def _select(way: Way, step: Step) -> list[Way]:
    pool = _below(way) if step.anywhere else ((*way, child) for child in way[-1])
    found = [candidate for candidate in pool if step.fits(candidate[-1])]
    if step.position is not None:
        found = found[step.position - 1 : step.position]
    return found


def _below(way: Way) -> Iterator[Way]:
    for child in way[-1]:
        yield (*way, child)
        yield from _below((*way, child))


def label(node: Element) -> str:
    """Return the step that tells this node from its siblings."""
    if node.tag == "entry" and node.get("name") is not None:
        return f"entry[@name='{node.get('name')}']"
    if node.tag == "member":
        return f"member[text()='{(node.text or '').strip()}']"
    return node.tag


def of(way: Way) -> str:
    """Return the xpath of a node."""
    return "".join("/" + label(node) for node in way)


def same(one: Element, other: Element) -> bool:
    """Tell whether two nodes stand for the same place below their parents."""
    return one.tag == other.tag and label(one) == label(other)


def child_like(parent: Element, node: Element) -> Optional[Element]:
    """Return the child of ``parent`` that stands for the same place as ``node``."""
    return next((child for child in parent if same(child, node)), None)
