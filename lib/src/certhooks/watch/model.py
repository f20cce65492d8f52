"""What is watched, as plain values: certificates, the targets they belong on, what is seen there, what is wrong.

Times are seconds since the epoch. A value that is not known is None or empty, never a guess.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass, field
from enum import IntEnum
from typing import TYPE_CHECKING, Any, NamedTuple, Optional

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

DAY = 86400.0
CUT_OFF = "the run was cut off before its end"


class Level(IntEnum):
    """How bad it is, in the numbers that Nagios gives to it."""

    OK = 0
    WARNING = 1
    CRITICAL = 2
    UNKNOWN = 3

    @property
    def word(self) -> str:
        """The level in lower case, as people and labels show it."""
        return self.name.lower()

    @property
    def rank(self) -> int:
        """How far up it stands, the worst being 3: that something is not known hides no fault that is."""
        return (0, 1, 3, 2)[self]


def worst(levels: Iterable[Level]) -> Level:
    """Return the level that all of them amount to."""
    return max(levels, default=Level.OK, key=lambda level: level.rank)


class Leaf(NamedTuple):
    """A certificate: SHA-256 in lower-case hex, the name it is known by, and from when to when it is valid."""

    fingerprint: str
    name: str = ""
    not_before: Optional[float] = None
    not_after: Optional[float] = None

    def days_left(self, now: float) -> Optional[float]:
        """Return for how many days it is valid yet; below 0 when it has expired."""
        return None if self.not_after is None else (self.not_after - now) / DAY


class Sight(NamedTuple):
    """What one address of one endpoint serves: a certificate, or why none was seen."""

    endpoint: str
    ip: str = ""
    leaf: Optional[Leaf] = None
    error: str = ""


class Finding(NamedTuple):
    """One thing that is worth telling, and what to do about it.

    ``kind`` is stable while the words change: of the host, ``certmonger`` (it does not answer), ``settings`` (nobody is
    told), ``messages`` (they wait); of a certificate, ``ca`` (no certificate, or not
    renewed), ``expiring``, ``expired``; of a placement: ``behind`` (it does not have what it should), ``failed``
    (it has, but the last look failed), ``differs`` (it serves another one), ``silent`` (it does not answer), ``stuck``
    (a run does not end), ``staged``, ``unhooked`` (certmonger has no command that brings it there), ``conflict`` (two
    certificates for one target), ``gone`` (its files are), ``unknown`` (its command is not understood).
    """

    level: Level
    kind: str
    text: str
    hint: Optional[str] = None


@dataclass(frozen=True)
class Placement:
    """One target that a certificate belongs on.

    Args:
        target: the journal's key of it.
        label: what people call it.
        command: what installs the certificate there, started in ``cwd``, by ``uid`` where that is not our own; it has
            ``timeout`` seconds by itself.
        looks: whether it may be run to see if all is well; not if that would install again, or it has nothing to bring.
        slots: what it takes, beside the target itself, that no other certificate can have at the same time.
        pushed: what was last brought there with success, and ``pushed_at`` when that was last seen to be so.
        changed_at: when a run last changed something there.
        tried_at: when the last attempt began; ``failure`` how it ended, empty where it ended well; ``failures`` how
            many in succession did not.
        running: whether an attempt is under way now.
        staged: whether the last one left it in a candidate, for somebody else to commit.
        endpoints: where it is to be seen; ``served`` what was seen there.
        next_try: when reconcile will run the command again; None when there is no reason to.
    """

    target: str
    label: str
    command: tuple[str, ...] = ()
    cwd: str = "/"
    uid: str = ""
    timeout: float = 900.0
    looks: bool = True
    slots: tuple[str, ...] = ()
    pushed: Optional[Leaf] = None
    pushed_at: Optional[float] = None
    changed_at: Optional[float] = None
    tried_at: Optional[float] = None
    failure: str = ""
    failures: int = 0
    running: bool = False
    staged: bool = False
    endpoints: tuple[str, ...] = ()
    served: tuple[Sight, ...] = ()
    findings: tuple[Finding, ...] = ()
    next_try: Optional[float] = None

    @property
    def typed(self) -> str:
        """Its command as it can be typed into a shell, from anywhere."""
        return ("" if self.cwd == "/" else f"cd {shlex.quote(self.cwd)} && ") + shlex.join(self.command)

    @property
    def level(self) -> Level:
        """The worst of its findings."""
        return worst(finding.level for finding in self.findings)


@dataclass(frozen=True)
class Watched:
    """One certificate, where it comes from, and the targets it belongs on.

    Args:
        name: its common name.
        source: the request's nickname or the file's path.
        origin: ``certmonger``, ``file``, ``device`` (it makes the key) or ``journal`` (known from a former push alone).
        leaf: the certificate that the targets should have; None until it is issued, or where nothing holds it.
        file: where the leaf lies, where that is known.
        state: certmonger's name for the request's state; ``stuck`` whether it gets no further by itself; ``advice``
            what to do about its state or ``ca_error``.
    """

    name: str
    source: str
    origin: str
    leaf: Optional[Leaf] = None
    file: str = ""
    state: str = ""
    stuck: bool = False
    ca_error: Optional[str] = None
    advice: Optional[str] = None
    findings: tuple[Finding, ...] = ()
    placements: tuple[Placement, ...] = ()

    @property
    def level(self) -> Level:
        """The worst of its own findings and of its placements."""
        return worst(finding.level for _where, finding in self.told())

    def told(self) -> Iterator[tuple[Optional[Placement], Finding]]:
        """Yield every finding, with the placement that it is about."""
        for finding in self.findings:
            yield None, finding
        for placement in self.placements:
            for finding in placement.findings:
                yield placement, finding


@dataclass(frozen=True)
class Overview:
    """Everything at one moment; ``findings`` are those about no single certificate (certmonger does not answer)."""

    at: float
    host: str
    watched: tuple[Watched, ...] = ()
    findings: tuple[Finding, ...] = field(default=())

    @property
    def level(self) -> Level:
        """The worst of all."""
        return worst([*(finding.level for finding in self.findings), *(one.level for one in self.watched)])

    def as_dict(self) -> dict[str, Any]:
        """Return it for ``--json``: the fields' names, levels as words, times as ISO 8601 in UTC."""
        from certhooks.watch.plain import as_plain

        return dict(as_plain(self))
