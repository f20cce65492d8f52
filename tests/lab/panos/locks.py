"""Commit locks and config locks of one device, shared scope only."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from xml.sax.saxutils import quoteattr

from tests.lab.panos import replies

if TYPE_CHECKING:
    from collections.abc import Mapping

_ACQUIRED = (
    "Successfully acquired lock. Other administrators will not be able to {what} until lock is released by {name}."
)


@dataclass
class Locks:
    """Who holds which lock, with the comment."""

    commit: dict[str, tuple[str, str]] = field(default_factory=dict)  # name -> (comment, since)
    config: dict[str, tuple[str, str]] = field(default_factory=dict)

    def add(self, kind: str, name: str, comment: str = "") -> replies.Reply:
        """Take a lock."""
        held = self._of(kind)
        if kind == "config" and held:
            return replies.error(f"Config for scope shared is currently locked by {next(iter(held))}")
        if name in held:
            return replies.error(f"{kind.capitalize()} lock is already held by {name}")
        held[name] = (comment or "(null)", time.strftime("%Y/%m/%d %H:%M:%S"))
        what = "commit configuration" if kind == "commit" else "modify configuration"
        return replies.result(_ACQUIRED.format(what=what, name=name))

    def remove(self, kind: str, name: str) -> replies.Reply:
        """Give a lock back."""
        if self._of(kind).pop(name, None) is None:
            return replies.error(f"{kind.capitalize()} is not currently locked for scope shared")
        return replies.result(f"{kind.capitalize()} lock released for {name}")

    def show(self, kind: str) -> replies.Reply:
        """List the locks of a kind."""
        entries = "".join(
            f"<entry name={quoteattr(name)}><type>shared</type><name>shared</name><created>{since}</created>"
            f"<last-activity>{since}</last-activity><loggedin>yes</loggedin>"
            f"<comment>{replies.cdata(comment)}</comment></entry>"
            for name, (comment, since) in self._of(kind).items()
        )
        return replies.result(f"<{kind}-locks>{entries}</{kind}-locks>")

    def _of(self, kind: str) -> dict[str, tuple[str, str]]:
        return self.commit if kind == "commit" else self.config

    def config_held_against(self, name: str) -> Mapping[str, tuple[str, str]]:
        """Return the config locks of others."""
        return {holder: lock for holder, lock in self.config.items() if holder != name}
