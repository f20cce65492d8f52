"""Small work on XML nodes: walking, stripping of marks, growing what an xpath names."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Callable, Optional
from xml.etree.ElementTree import Element, SubElement, tostring

from tests.lab.panos import xpath

if TYPE_CHECKING:
    from collections.abc import Iterator

MARKS = ("admin", "dirtyId", "time")


def strip(node: Element) -> Element:
    """Take every mark off a tree, in place, and return it."""
    for each in node.iter():
        for mark in MARKS:
            each.attrib.pop(mark, None)
    return node


def walk(node: Element, path: str = "") -> Iterator[tuple[str, Element]]:
    """Yield every node with its xpath."""
    here = f"{path}/{xpath.label(node)}"
    yield here, node
    for child in node:
        yield from walk(child, here)


def text_of(node: Element) -> str:
    """Return the node as XML text without the blanks that follow it."""
    bare = copy.copy(node)
    bare.tail = None
    return tostring(bare, encoding="unicode").replace(" />", "/>")  # as devices write; ">" in text is escaped


def grow(root: Element, path: str, made: Callable[[Element], None] = lambda _: None) -> Element:
    """Return the first node at a plain xpath; what is missing on the way is created and handed to ``made``."""
    node = root
    for step in xpath.parse(path)[1:]:
        found = next((child for child in node if step.fits(child)), None)
        if found is None:
            if step.tag == "*" or step.anywhere:
                raise xpath.BadXpathError(path)
            found = SubElement(node, step.tag)
            if step.names:
                found.set("name", step.names[0])
            if step.texts:
                found.text = step.texts[0]
            made(found)
        node = found
    return node


def insert(node: Element, child: Element, order: Optional[Element]) -> None:
    """Put a child behind the sibling that it followed in ``order``."""
    at = 0
    for before in order if order is not None else ():
        if xpath.same(before, child):
            break
        present = xpath.child_like(node, before)
        at = list(node).index(present) + 1 if present is not None else at
    node.insert(at, child)


def any_below(node: Element, path: str, taken: Callable[[Element, str], bool]) -> bool:
    """Tell whether a change below the node is meant."""
    return any(
        "dirtyId" in each.attrib and taken(each, path + place[len("/") + len(xpath.label(node)) :])
        for place, each in walk(node)
    )


def holds(old: Element, new: Element) -> bool:
    """Tell whether merging ``new`` into ``old`` would change nothing."""
    if len(new) == 0:
        text = (new.text or "").strip()
        return not text or (old.text or "").strip() == text
    return all((mine := xpath.child_like(old, child)) is not None and holds(mine, child) for child in new)
