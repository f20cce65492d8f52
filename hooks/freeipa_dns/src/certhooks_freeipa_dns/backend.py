"""What a way to write into a zone has to offer; ``ipa.py`` and ``update.py`` are the two that there are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Callable, NamedTuple, Optional, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from certhooks.deadline import Deadline
    from certhooks.trust import Trust
    from certhooks_freeipa_dns.settings import Settings
    from certhooks_freeipa_dns.view import View


class Record(NamedTuple):
    """One TXT value of one name in one zone."""

    zone: str
    target: str
    value: str


class Zone(NamedTuple):
    """A zone that the account can see; a ``forward`` zone holds no records."""

    name: str
    active: bool = True
    forward: bool = False


@dataclass(frozen=True)
class Held:
    """What a name holds: its TXT values as they would be served; ``exists`` also for a name with other types alone."""

    values: frozenset[str] = frozenset()
    exists: bool = False
    alias: bool = False


class Backend(Protocol):
    """A server to write to, the same for a whole run.

    Every method raises UnreachableError, CredentialsError or RefusedError; after ConnectionLostError it is not known
    what was done.
    """

    kind: str

    @property
    def server(self) -> str:
        """The server that is used, ``HOST`` or ``HOST:PORT``; empty while none has answered."""

    def survey(
        self, candidates: Sequence[str], records: Sequence[Record]
    ) -> tuple[Optional[dict[str, Zone]], Mapping[str, Held]]:
        """Return which candidates are zones (None: it cannot tell), and what the records' names hold, by target."""

    def add(self, records: Sequence[Record], ttls: Mapping[str, int]) -> Mapping[str, Held]:
        """Add values beside those that are there, and return what the names hold afterwards.

        A value that is there already is fine. ``ttls`` has a TTL for each target whose entry is ours alone.
        """

    def remove(self, records: Sequence[Record]) -> Mapping[str, Held]:
        """Remove exactly these values, and return what the names hold afterwards; what is absent is fine."""

    def read(self, records: Sequence[Record]) -> Mapping[str, Held]:
        """Return what the records' names hold."""

    def close(self) -> None:
        """Let go of the connection."""


def by_target(records: Iterable[Record]) -> dict[tuple[str, str], list[str]]:
    """Return the values of each (zone, target), in their order."""
    found: dict[tuple[str, str], list[str]] = {}
    for record in records:
        values = found.setdefault((record.zone, record.target), [])
        if record.value not in values:
            values.append(record.value)
    return found


def made(
    kind: str,
    settings: Settings,
    trust: Trust,
    deadline: Deadline,
    *,
    view: Callable[[], View],
    preferred: str = "",
    tell: Callable[[str], None],
) -> Backend:
    """Return a backend of that kind; ``preferred`` is the server that was written to before."""
    if kind == "update":
        from certhooks_freeipa_dns.update import Update

        return Update(settings, view(), deadline, preferred=preferred)
    from certhooks_freeipa_dns.ipa import Ipa

    return Ipa(
        settings,
        trust,
        deadline,
        preferred=preferred,
        discovered=lambda domain: view().ipa_servers(domain),
        tell=tell,
    )
