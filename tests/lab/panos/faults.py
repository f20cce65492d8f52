"""Faults on the wire: rules that spoil the answers that they match."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Optional

from tests.lab.panos.replies import Reply, xml

if TYPE_CHECKING:
    from tests.lab.panos.requests import Request


class Kind(enum.Enum):
    """What goes wrong."""

    DROP_BEFORE = "the connection is dropped and nothing is done"
    DROP_AFTER = "the request is carried out, and the connection is dropped without an answer"
    BAD_GATEWAY = "HTTP 502 with a page of HTML, nothing is done"
    TRUNCATED = "the answer ends in its middle, below its Content-Length"
    OVERSIZED = "an answer of many megabytes"
    ENTITY_BOMB = "XML whose entities grow"
    CONTENT_TYPE = "the answer comes as text/html"
    REDIRECT = "HTTP 302 to another path of this device"
    SLOW = "the answer comes byte by byte"
    ERROR_CODE_1 = "HTTP 200, status error, code 1 and nothing else; nothing is done"
    RAW = "a given reply; nothing is done"


@dataclass
class Rule:
    """One rule: what it matches, which occurrence, what happens.

    Attributes:
        kind: what goes wrong.
        type: ``type`` of the request (config, op, commit, import, ...); empty matches all. So with the next ones.
        action: its ``action``.
        category: its ``category``.
        text: a part of its ``cmd``, ``xpath`` or ``element``.
        nth: only the nth match, counted from 1; 0 means always.
        times: from that match on, this many; 0 means no end. ``nth=0`` ignores it.
        reply: for RAW.
        size: bytes of OVERSIZED.
        pause: seconds between the bytes of SLOW.

    """

    kind: Kind
    type: str = ""
    action: str = ""
    category: str = ""
    text: str = ""
    nth: int = 0
    times: int = 1
    reply: Optional[Reply] = None
    size: int = 40_000_000
    pause: float = 0.05
    seen: int = 0

    def matches(self, request: Request) -> bool:
        """Tell whether the rule is about this request; counts the occurrence."""
        params = request.params
        fits = all(
            not wanted or params.get(name) == wanted
            for name, wanted in (("type", self.type), ("action", self.action), ("category", self.category))
        )
        if not fits or (self.text and not any(self.text in params.get(n, "") for n in ("cmd", "xpath", "element"))):
            return False
        self.seen += 1
        if not self.nth:
            return True
        return self.seen >= self.nth and (not self.times or self.seen < self.nth + self.times)


@dataclass
class Faults:
    """The rules of one device, first match wins."""

    rules: list[Rule] = field(default_factory=list)

    def add(self, kind: Kind, **what: object) -> Rule:
        """Add a rule: ``faults.add(Kind.DROP_AFTER, type="commit", nth=1)``."""
        rule = Rule(kind, **what)  # type: ignore[arg-type]  # the fields of Rule, checked by it
        self.rules.append(rule)
        return rule

    def clear(self) -> None:
        """Forget all rules."""
        self.rules.clear()

    def for_(self, request: Request) -> Optional[Rule]:
        """Return the first rule that matches, or None."""
        return next((rule for rule in self.rules if rule.matches(request)), None)


def entity_bomb() -> Reply:
    """Return the "billion laughs": small on the wire, gigabytes when its entities are expanded."""
    levels = "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' for n in range(1, 10))
    return xml(
        f'<?xml version="1.0"?><!DOCTYPE response [<!ENTITY l0 "lol">{levels}]>'
        '<response status="success"><result>&l9;</result></response>'
    )


def oversized(size: int) -> Reply:
    """Return a well-formed answer of about this many bytes."""
    return xml(f'<response status="success"><result><junk>{"x" * size}</junk></result></response>')
