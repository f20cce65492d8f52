"""TLS ports in a process of their own, each with its own certificate, told what to do as ``_devices`` tells it."""

from __future__ import annotations

import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Optional

if TYPE_CHECKING:
    from tests.lab.https import Listener

ROOT = Path(__file__).resolve().parents[2]
OTHER, REFUSED, DEAF = "serves another", "refuses", "never answers"


class _Endpoints:
    """What can be asked."""

    def __init__(self) -> None:
        self.listeners: list[Listener] = []
        self._identities: dict[int, tuple[bytes, bytes]] = {}
        self._trouble: dict[int, str] = {}
        self._over = threading.Event()

    def start(self, count: int) -> list[int]:
        """Listen on so many ports and return them; until ``use`` nothing is served."""
        from tests.lab.https import Listener

        for at in range(count):
            listener = Listener("127.0.0.1", 0, lambda at=at: self._identity(at), lambda _tls: None)  # type: ignore[misc]
            listener.start()
            self.listeners.append(listener)
        return [listener.port for listener in self.listeners]

    def use(self, folder: str) -> int:
        """Serve the pairs 0.crt and 0.key, 1.crt and so on of a folder; return how many there are."""
        from tests.lab.https import context_of

        for at in range(len(self.listeners)):
            pair = Path(folder, f"{at}.crt").read_bytes(), Path(folder, f"{at}.key").read_bytes()
            self._identities[at] = pair
            context_of(pair)  # made before it is needed: that is no part of what is measured
        return len(self._identities)

    def trouble(self, places: dict[str, list[int]]) -> None:
        """Have the listeners with these numbers misbehave, by how they do."""
        for how, numbers in places.items():
            for at in numbers:
                self._trouble[at] = how
                if how == REFUSED:
                    self.listeners[at].refuse(3600)

    def stop(self) -> None:
        """Stop all."""
        self._over.set()
        for listener in self.listeners:
            listener.stop()

    def _identity(self, at: int) -> tuple[bytes, bytes]:
        how: Optional[str] = self._trouble.get(at)
        if how == DEAF:  # the connection is taken, and nothing is said
            self._over.wait()
        return self._identities[(at + 1) % len(self._identities) if how == OTHER else at]


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    from tests.bench._devices import serve

    serve(_Endpoints())
