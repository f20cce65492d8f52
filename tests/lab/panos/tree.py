"""The candidate and the running configuration of one device, and who changed what in between.

Every node that was changed since the last commit carries ``admin``, ``dirtyId`` and ``time`` in the candidate, as on
a device; what was deleted cannot carry a mark and stands in the journal.
"""

from __future__ import annotations

import copy
import time
from dataclasses import dataclass
from typing import Callable, Optional
from xml.etree.ElementTree import Element

from tests.lab.panos import nodes, xpath

PUSHED = ("ptpl", "src")
CREATE, EDIT, DELETE = "CREATE", "EDIT", "DELETE"


@dataclass(frozen=True)
class Change:
    """One change that is not committed yet."""

    xpath: str
    admin: str
    action: str
    dirty_id: int
    shown: bool = True


Takes = Callable[[str, int, str], bool]  # (admin, dirty id, xpath) -> is this change meant?


class Config:
    """The two trees; every write goes through here and leaves its mark."""

    def __init__(self) -> None:
        self.candidate = Element("config")
        self.running = Element("config")
        self.journal: list[Change] = []
        self._dirty_id = 0

    # -- reading ------------------------------------------------------------------------------------

    def find(self, path: str) -> list[Element]:
        """Return the candidate's nodes at an xpath."""
        return [way[-1] for way in xpath.find(self.candidate, path)]

    def find_running(self, path: str) -> list[Element]:
        """Return the running configuration's nodes at an xpath."""
        return [way[-1] for way in xpath.find(self.running, path)]

    @property
    def last_change(self) -> int:
        """The number of the latest change."""
        return self._dirty_id

    def pending(self, takes: Optional[Takes] = None) -> bool:
        """Tell whether changes wait for a commit, those that ``takes`` means or any."""
        return any(takes is None or takes(c.admin, c.dirty_id, c.xpath) for c in self.journal)

    # -- writing ------------------------------------------------------------------------------------

    def merge(self, path: str, elements: list[Element], admin: str) -> None:
        """Merge elements below a node (``set``), and create what is not there."""
        ways = xpath.find(self.candidate, path) or [self._create(path, admin)]
        for way in ways:
            for element in elements:
                self._merge(way, element, self._change(way, element, admin), admin)

    def replace(self, path: str, element: Element, admin: str) -> None:
        """Put an element in the place of what the xpath selects (``edit``), or create it."""
        ways = xpath.find(self.candidate, path) or [self._create(path, admin)]
        for way in ways:
            dirty_id = self._note(xpath.of(way), admin, EDIT)
            self._sync(way, element, dirty_id, admin)

    def delete(self, path: str, admin: str) -> bool:
        """Remove what the xpath selects; False when there is nothing."""
        ways = xpath.find(self.candidate, path)
        for way in ways:
            self._note(xpath.of(way), admin, DELETE)
            way[-2].remove(way[-1])
        return bool(ways)

    def rename(self, path: str, new_name: str, admin: str) -> bool:
        """Give an entry another name; False when there is nothing."""
        ways = xpath.find(self.candidate, path)
        for way in ways:
            self._note(xpath.of(way), admin, DELETE, shown=False)
            way[-1].set("name", new_name)
            self._mark_all(way[-1], self._note(xpath.of(way), admin, EDIT), admin)
        return bool(ways)

    def retarget(self, node: Element, new_name: str, admin: str) -> None:
        """Let a reference name something else, with its mark."""
        path = next(place for place, each in nodes.walk(self.candidate) if each is node)
        if node.tag in ("entry", "member"):
            self._note(path, admin, DELETE, shown=False)
        if node.tag == "entry":
            node.set("name", new_name)
        else:
            node.text = new_name
        self._mark(node, self._note(path, admin, EDIT), admin)

    def put(self, path: str, element: Element) -> None:
        """Write into both trees without a mark: how a device was set up before the story begins."""
        for root in (self.candidate, self.running):
            ways = xpath.find(root, path)
            parent = ways[0][-1] if ways else nodes.grow(root, path)
            old = xpath.child_like(parent, element)
            if old is not None:
                parent.remove(old)
            parent.append(copy.deepcopy(element))

    def checkpoint(self) -> tuple[Element, list[Change]]:
        """Return what ``back_to`` needs."""
        return copy.deepcopy(self.candidate), list(self.journal)

    def back_to(self, checkpoint: tuple[Element, list[Change]]) -> None:
        """Undo every write since the checkpoint."""
        self.candidate, self.journal = checkpoint

    # -- commit and revert --------------------------------------------------------------------------

    def with_changes(self, takes: Takes) -> Element:
        """Return the running configuration as it will be with the changes that ``takes`` means."""
        return nodes.strip(self._blend(takes))

    def committed(self, tree: Element, takes: Takes) -> None:
        """Make the tree the running configuration and forget the marks of the changes in it."""
        self.running = tree
        self._forget(takes)

    def revert(self, takes: Takes) -> None:
        """Take the changes that ``takes`` means back to what is running."""
        self.candidate = self._blend(lambda admin, number, path: not takes(admin, number, path))
        self._forget(takes)

    def _forget(self, takes: Takes) -> None:
        self.journal = [c for c in self.journal if not takes(c.admin, c.dirty_id, c.xpath)]
        for path, node in nodes.walk(self.candidate):
            if "dirtyId" in node.attrib and takes(node.attrib["admin"], int(node.attrib["dirtyId"]), path):
                for mark in nodes.MARKS:
                    node.attrib.pop(mark, None)

    def _blend(self, takes: Takes) -> Element:
        deleted = [c for c in self.journal if c.action == DELETE]

        def was_deleted(path: str) -> bool:
            fitting = [c for c in deleted if path == c.xpath or path.startswith(c.xpath + "/")]
            return any(takes(c.admin, c.dirty_id, c.xpath) for c in fitting)

        def taken(node: Element, path: str) -> bool:
            return takes(node.get("admin", ""), int(node.get("dirtyId", "0")), path)

        def blend(old: Optional[Element], new: Element, path: str) -> Optional[Element]:
            mine = "dirtyId" not in new.attrib or taken(new, path)
            if old is None and "dirtyId" in new.attrib and not mine and not nodes.any_below(new, path, taken):
                return None
            source = new if mine or old is None else old
            node = Element(source.tag, dict(source.attrib))
            node.text, node.tail = source.text, source.tail
            for child in new:
                before = xpath.child_like(old, child) if old is not None else None
                kept = blend(before, child, f"{path}/{xpath.label(child)}")
                if kept is not None:
                    node.append(kept)
            for child in old if old is not None else ():
                place = f"{path}/{xpath.label(child)}"
                if xpath.child_like(new, child) is None and not was_deleted(place):
                    nodes.insert(node, copy.deepcopy(child), old)
            return node

        blended = blend(self.running, self.candidate, "/config")
        return blended if blended is not None else Element("config")

    # -- marks --------------------------------------------------------------------------------------

    def _note(self, path: str, admin: str, action: str, *, shown: bool = True) -> int:
        self._dirty_id += 1
        self.journal.append(Change(path, admin, action, self._dirty_id, shown))
        return self._dirty_id

    def _change(self, way: xpath.Way, element: Element, admin: str) -> int:
        before = self._dirty_id
        old = xpath.child_like(way[-1], element)
        if old is not None and nodes.holds(old, element):
            return before  # nothing differs: no mark, no journal
        return self._note(f"{xpath.of(way)}/{xpath.label(element)}", admin, CREATE if old is None else EDIT)

    def _mark(self, node: Element, dirty_id: int, admin: str) -> None:
        node.set("admin", admin)
        node.set("dirtyId", str(dirty_id))
        node.set("time", time.strftime("%Y/%m/%d %H:%M:%S"))

    def _mark_all(self, node: Element, dirty_id: int, admin: str) -> None:
        for each in node.iter():
            self._mark(each, dirty_id, admin)

    def _create(self, path: str, admin: str) -> xpath.Way:
        number = self._note(path, admin, CREATE)
        nodes.grow(self.candidate, path, lambda node: self._mark(node, number, admin))
        return xpath.find(self.candidate, path)[0]

    def _merge(self, way: xpath.Way, element: Element, dirty_id: int, admin: str) -> None:
        old = xpath.child_like(way[-1], element)
        if old is None:
            fresh = nodes.strip(copy.deepcopy(element))
            self._mark_all(fresh, dirty_id, admin)
            way[-1].append(fresh)
            self._localize(way)
            return
        here = (*way, old)
        if len(element) == 0 and (element.text or "").strip() and (old.text or "") != (element.text or ""):
            old.text = element.text
            self._mark(old, dirty_id, admin)
            self._localize(here)
        for child in element:
            self._merge(here, child, dirty_id, admin)

    def _sync(self, way: xpath.Way, element: Element, dirty_id: int, admin: str) -> None:
        node = way[-1]
        if (node.text or "").strip() != (element.text or "").strip():
            node.text = element.text
            self._mark(node, dirty_id, admin)
            self._localize(way)
        for child in list(node):
            if xpath.child_like(element, child) is None:
                self._note(xpath.of((*way, child)), admin, DELETE, shown=False)
                node.remove(child)
        for child in element:
            old = xpath.child_like(node, child)
            if old is None:
                fresh = nodes.strip(copy.deepcopy(child))
                self._mark_all(fresh, dirty_id, admin)
                node.append(fresh)
                self._localize(way)
            else:
                self._sync((*way, old), child, dirty_id, admin)

    @staticmethod
    def _localize(way: xpath.Way) -> None:
        """Make a node that came from a template a local override."""
        for node in way:
            for name in PUSHED:
                node.attrib.pop(name, None)
