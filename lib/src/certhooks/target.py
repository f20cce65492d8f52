"""What every kind of device offers, so that ``deploy()`` can do the rest once for all of them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Generic, NamedTuple, TypeVar, Union

from certhooks import probe
from certhooks.deadline import Deadline

if TYPE_CHECKING:
    from collections.abc import Callable

    from certhooks.address import Address
    from certhooks.bundle import Bundle
    from certhooks.order import Order

What = TypeVar("What", bound="Union[Bundle, Order]")
_SERVED_WITHIN = 120.0  # seconds after an activation that succeeded


class Needs(NamedTuple):
    """What a certificate must be like before anything is sent.

    ``names``: host names that the leaf must cover. ``common_name``: whether it must have one.
    """

    key_types: tuple[str, ...] = ("rsa", "ec")
    min_rsa_bits: int = 2048
    names: tuple[str, ...] = ()
    common_name: bool = False


class Inspection(NamedTuple):
    """What a device has now, against what it should have.

    Args:
        changes: what ``install()`` and ``activate()`` would do, a sentence each; empty when nothing differs.
        endpoints: where the certificate is to be seen once it is active.
        touches: names of the objects that would be changed, as the device's own list of changes names them.
        group: devices with the same group are done in turn (an HA pair, one device under two names).
        rank: the order within the group, lowest first.
        superseded: what ``prune()`` would try to remove.
    """

    changes: tuple[str, ...]
    endpoints: tuple[Address, ...] = ()
    touches: tuple[str, ...] = ()
    group: str = ""
    rank: int = 0
    superseded: tuple[str, ...] = ()


class Undone(Enum):
    """What ``rollback()`` left: nothing in use had changed, what was in use is back, or it stays as it is."""

    CLEAN = "clean"
    RESTORED = "restored"
    KEPT = "kept"


@dataclass
class Run:
    """What a target may use of its surroundings: the deadline, and somebody to tell.

    ``leftover`` is what earlier runs touched and did not end (see ``Inspection.touches``), ``achieved`` the fingerprint
    that the last of them left in place, empty where that is not known; ``parts`` are results within the target, such
    as those of the devices behind a Panorama.
    """

    deadline: Deadline
    tell: Callable[[str], None] = lambda _: None
    warnings: list[str] = field(default_factory=list)
    leftover: tuple[str, ...] = ()
    achieved: str = ""
    parts: list[dict[str, str]] = field(default_factory=list)

    def warn(self, text: str) -> None:
        """Keep a remark for the result; nothing stops."""
        if text not in self.warnings:
            self.warnings.append(text)


class AnyTarget(ABC, Generic[What]):
    """One place for one certificate on one device, which takes a ``Bundle``, or an ``Order`` where it keeps its key.

    ``name`` is the journal's key (stable over renewals), ``device`` the lock's, ``label`` what people call it.
    Every method may be called again after
    a ConnectionLostError, and must then go on from whatever it finds.
    """

    name: str
    device: str
    label: str
    run: Run = Run(Deadline(0))

    def time_left(self) -> float:
        """Return the seconds that remain of the run, for a client's ``time_left``."""
        return self.run.deadline.remaining()

    def needs(self) -> Needs:
        """Return what the bundle must fulfil; called after ``inspect()``."""
        return Needs()

    @abstractmethod
    def inspect(self, bundle: What) -> Inspection:
        """Look, and change nothing."""

    @abstractmethod
    def install(self, bundle: What) -> None:
        """Put the material beside the old one; nothing that is in use changes."""

    @abstractmethod
    def activate(self, bundle: What) -> None:
        """Bring it into use: bind, commit, reload; return when the device itself says that it ended well."""

    def verify(self, bundle: What, endpoints: tuple[Address, ...]) -> None:
        """Return when the new certificate is in use; by default when every endpoint serves it."""
        for endpoint in endpoints:
            self.run.tell(f"waiting for {endpoint} to serve the new certificate")
            probe.wait(endpoint, bundle.fingerprint, self.run.deadline.within(_SERVED_WITHIN))

    @abstractmethod
    def rollback(self) -> Undone:
        """Undo what this run did, as far as that is right."""

    def prune(self, bundle: What) -> list[str]:  # noqa: ARG002  the default has nothing to prune
        """Remove what this certificate superseded and nothing uses; return the names."""
        return []

    def close(self) -> None:
        """Let go of connections and sessions."""


class Target(AnyTarget["Bundle"]):
    """A device that is given certificate and key, as most are."""
