"""Bounds for what pyvmomi reads: it knows neither the end of a run nor how long a reply may be."""

from __future__ import annotations

import socket
import ssl
from typing import Any, Callable, Optional

_MOST = 16 * 1024 * 1024  # bytes of a reply, as for our own connections
_SHORTEST = 0.05


class Socket(ssl.SSLSocket):
    """Reads until the run's time is over, and no more than a reply may have; once ``time_left`` is set.

    Others that use the same context have bounds of their own.
    """

    time_left: Optional[Callable[[], float]] = None
    longest = 30.0  # seconds to wait for anything at all
    _got = 0

    def recv_into(self, *args: Any, **named: Any) -> int:
        """Read, within the bounds.

        Raises:
            TimeoutError, OSError: beyond them.
        """
        if self.time_left is None:
            return super().recv_into(*args, **named)
        left = self.time_left()
        if left <= 0:
            raise socket.timeout("no time is left")
        self.settimeout(max(_SHORTEST, min(self.longest, left)))
        got = super().recv_into(*args, **named)
        self._got += got
        if self._got > _MOST:
            raise OSError("more than a reply may have")
        return got

    def sendall(self, *args: Any, **named: Any) -> None:
        """Send a request, whose reply has the whole bound again."""
        self._got = 0
        super().sendall(*args, **named)


class Context:
    """A verifying context whose sockets are bounded by what remains of one run."""

    def __init__(self, context: ssl.SSLContext, time_left: Callable[[], float]) -> None:
        context.sslsocket_class = Socket
        self._context = context
        self._time_left = time_left

    def __getattr__(self, name: str) -> Any:
        return getattr(self._context, name)

    def wrap_socket(self, *args: Any, **named: Any) -> ssl.SSLSocket:
        """Shake hands as the context itself does."""
        made = self._context.wrap_socket(*args, **named)
        if isinstance(made, Socket):
            made.time_left = self._time_left
        return made
