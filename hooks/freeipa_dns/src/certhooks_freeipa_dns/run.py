"""What every step of one run of one command needs: the list of our values, the names' locks, a server, and DNS."""

from __future__ import annotations

from contextlib import ExitStack, closing, contextmanager
from typing import TYPE_CHECKING, Callable, Optional

from certhooks_freeipa_dns import backend
from certhooks_freeipa_dns.changes import Changes
from certhooks_freeipa_dns.ledger import Ledger

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from certhooks.deadline import Deadline
    from certhooks.journal import Journal
    from certhooks.trust import Trust
    from certhooks_freeipa_dns.backend import Backend
    from certhooks_freeipa_dns.ledger import Entry
    from certhooks_freeipa_dns.settings import Settings
    from certhooks_freeipa_dns.view import View


class Run:
    """One run.

    Args:
        run: which run of which client this is; what it adds can be found again by it.
        tell: is told what is being done. warn: is told what is odd but no failure.
    """

    def __init__(
        self,
        settings: Settings,
        trust: Trust,
        journal: Journal,
        deadline: Deadline,
        *,
        run: str = "",
        tell: Callable[[str], None] = lambda _text: None,
        warn: Callable[[str], None] = lambda _text: None,
    ) -> None:
        self.settings = settings
        self.deadline = deadline
        self.ledger = Ledger(journal)
        self._trust = trust
        self._journal = journal
        self._run = run
        self._tell = tell
        self._warn = warn
        self._seen: Optional[View] = None

    def _changes(self, server: Backend) -> Changes:
        return Changes(server, self.deadline, self._tell)

    def _earlier(self) -> Optional[Entry]:
        """Return a value that an earlier call of this run added: its server is that of the whole run."""
        earlier = self.ledger.entries(lambda entry: bool(self._run) and entry.run == self._run)
        return earlier[-1] if earlier else None

    @contextmanager
    def _alone(self, entries: Sequence[Entry]) -> Iterator[None]:
        """Hold the names' locks, always in the same order."""
        with ExitStack() as held:
            for target in sorted({entry.target for entry in entries}):
                held.enter_context(self._journal.lock(f"dns01 {target}", self.deadline, label=target))
            yield

    @contextmanager
    def _backend(self, pinned: Optional[Entry] = None) -> Iterator[Backend]:
        kind, preferred = self._server(pinned)
        made = backend.made(
            kind,
            self.settings,
            self._trust,
            self.deadline,
            view=self._view,
            preferred=preferred,
            tell=self._tell,
        )
        with closing(made):
            yield made

    def _server(self, pinned: Optional[Entry]) -> tuple[str, str]:
        """Return the kind of backend and the server to try first; an option that says otherwise goes before both."""
        settings = self.settings
        if pinned is None or ("backend" in settings.options and settings.backend != pinned.backend):
            return settings.backend, ""
        if "server" in settings.options and pinned.server not in map(str, settings.servers()):
            return pinned.backend, ""
        return pinned.backend, pinned.server

    def _view(self) -> View:
        if self._seen is None:
            from certhooks_freeipa_dns.view import View

            self._seen = View(self.settings, self.deadline)
        return self._seen
