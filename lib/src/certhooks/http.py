"""One verified HTTPS connection to one host: kept alive, no redirects, no proxies, bounded replies."""

from __future__ import annotations

import http.client
import io
import select
import socket
import ssl
import time
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Callable, Optional

from certhooks import trust
from certhooks.errors import ConnectionLostError, ReplyTooLongError, UnreachableError
from certhooks.probe import unresolved

if TYPE_CHECKING:
    from collections.abc import Mapping

    from certhooks.address import Address

_CHUNK = 64 * 1024
_SHORTEST = 0.05  # seconds: a request whose run has no time left fails by itself, not by a socket that does not wait


@dataclass(frozen=True)
class Reply:
    """Status, headers with lower-case names, and the whole body."""

    status: int
    body: bytes = field(repr=False)
    headers: Mapping[str, str] = field(default_factory=dict)


class Connection:
    """Requests to one host over one TLS connection at a time.

    Args:
        context: verifies; see ``trust``.
        timeout: seconds for the connection and for each whole reply.
        time_left: what remains of the run, in seconds; asked before each request, which takes no longer.
        max_reply: bytes; a longer reply is refused and the connection closed.
        kind: what the host is, for hints. may_pin: the command has --pin.
    """

    def __init__(
        self,
        address: Address,
        context: ssl.SSLContext,
        *,
        timeout: float = 30.0,
        time_left: Callable[[], float] = lambda: float("inf"),
        max_reply: int = 16 * 1024 * 1024,
        kind: str = "device",
        may_pin: bool = True,
    ) -> None:
        self.address = address
        self.timeout = timeout
        self.context = context
        self._time_left = time_left
        self._max_reply = max_reply
        self._kind = kind
        self._may_pin = may_pin
        self._http: Optional[http.client.HTTPSConnection] = None
        self._used = False  # before the first reply there are TLS session tickets to be read, and not the end

    def request(self, method: str, path: str, *, headers: Mapping[str, str], body: bytes = b"") -> Reply:
        """Send a request once, and return the reply whatever its status.

        A connection that was kept from an earlier request and that the host has closed since is opened anew.

        Raises:
            UnreachableError: no connection, or a certificate that is not trusted. Nothing was sent.
            ConnectionLostError: it broke or stalled afterwards. ReplyTooLongError: sent, and the reply is not read.
        """
        timeout = max(_SHORTEST, min(self.timeout, self._time_left()))
        return self._once(self._open(timeout), method, path, headers=headers, body=body, timeout=timeout)

    def connect(self) -> None:
        """Open the connection unless it is open, so that a request that follows is answered or broken, never refused.

        Raises:
            UnreachableError: as ``request``.
        """
        self._open(max(_SHORTEST, min(self.timeout, self._time_left())))

    def close(self) -> None:
        """Close the connection; the next request opens another."""
        if self._http is not None:
            self._http.close()
            self._http = None

    def _open(self, timeout: float) -> http.client.HTTPSConnection:
        if self._http is not None and self._used and _closed(self._http.sock):
            self.close()
        if self._http is None:
            self._http, self._used = self._connect(timeout), False
        return self._http

    def _connect(self, timeout: float) -> http.client.HTTPSConnection:
        connection = http.client.HTTPSConnection(
            self.address.host, self.address.port, timeout=timeout, context=self.context
        )
        narrow = self.context if isinstance(self.context, trust.Context) and not self.context.wide else None
        try:
            connection.connect()
        except ssl.SSLError as e:
            if narrow and isinstance(e, ssl.SSLCertVerificationError):
                narrow.widen()
                return self._connect(timeout)
            raise trust.explain(e, self.address, may_pin=self._may_pin) from e
        except socket.timeout as e:
            raise UnreachableError(
                f"{self.address} does not answer within {timeout:.3g} s",
                hint="check the route and the firewall rules to it",
            ) from e
        except ConnectionResetError as e:
            raise ConnectionLostError(f"{self.address} closed the connection during the TLS handshake") from e
        except (OSError, UnicodeError) as e:
            if isinstance(e, (UnicodeError, socket.gaierror)):
                raise unresolved(self.address, e) from e
            raise UnreachableError(
                f"no connection to {self.address}: {(e.strerror or str(e)).lower()}",
                hint=f"is the {self._kind} up, and does it listen on this port?",
            ) from e
        return connection

    def _once(
        self,
        connection: http.client.HTTPSConnection,
        method: str,
        path: str,
        *,
        headers: Mapping[str, str],
        body: bytes,
        timeout: float,
    ) -> Reply:
        end = time.monotonic() + timeout
        connection.response_class = partial(_Response, end=end)  # type: ignore[assignment]  # called like the class
        try:
            connection.sock.settimeout(timeout)
            connection.request(method, path, body=body, headers=dict(headers))
            response = connection.getresponse()
            reply = Reply(
                response.status,
                self._read(response),
                {name.lower(): value for name, value in response.getheaders()},
            )
        except (OSError, http.client.HTTPException, ValueError) as e:
            self.close()
            what = "sent an incomplete reply" if isinstance(e, http.client.IncompleteRead) else "broke the connection"
            if isinstance(e, socket.timeout):
                what = f"did not answer within {timeout:.3g} s"
            raise ConnectionLostError(f"{self.address} {what} ({type(e).__name__})") from e
        except ReplyTooLongError:
            self.close()
            raise
        self._used = True
        if response.will_close:
            self.close()
        return reply

    def _read(self, response: http.client.HTTPResponse) -> bytes:
        body = bytearray()
        while chunk := response.read1(_CHUNK):
            body += chunk
            if len(body) > self._max_reply:
                raise ReplyTooLongError(
                    f"{self.address} sent a reply of more than {self._max_reply} bytes",
                    hint=f"that is more than this command needs from any {self._kind}: is it one?",
                )
        if response.length:  # read1() reports the end of the stream as the end of the body
            raise http.client.IncompleteRead(bytes(body), response.length)
        response.close()  # read1() does not notice the end by itself, and the connection would not be used again
        return bytes(body)


class Client:
    """What speaks to one host on one connection, which is opened once it is needed.

    Args:
        context: called then; see ``certhooks.trust``.

    Set ``time_left`` before the first request to what tells the seconds that remain of the run: none takes longer.
    """

    def __init__(self, address: Address, context: Callable[[], ssl.SSLContext]) -> None:
        self.address = address
        self.time_left: Callable[[], float] = lambda: float("inf")
        self.timeout = 30.0  # seconds for the connection and for each reply
        self._context = context
        self._connection: Optional[Connection] = None

    @property
    def connection(self) -> Connection:
        """The connection, which need not be open yet."""
        if self._connection is None:
            self._connection = Connection(self.address, self._context(), timeout=self.timeout, time_left=self.time_left)
        return self._connection

    def close(self) -> None:
        """Drop the connection; the next request opens another."""
        if self._connection:
            self._connection.close()


class _Response(http.client.HTTPResponse):
    """A response that has to be there, status line, headers and body, at ``end`` (monotonic seconds)."""

    def __init__(self, sock: socket.socket, *args: Any, end: float, **kwargs: Any) -> None:
        super().__init__(sock, *args, **kwargs)
        self.fp.close()
        self.fp = io.BufferedReader(_Timed(sock, end))


class _Timed(io.RawIOBase):
    """Reads from a socket until a moment: a timeout of the socket itself begins anew with every byte."""

    def __init__(self, sock: socket.socket, end: float) -> None:
        self._sock = sock
        self._raw = sock.makefile("rb", buffering=0)  # keeps the socket open as http.client expects it
        self._end = end

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> Optional[int]:
        left = self._end - time.monotonic()
        if left <= 0:
            raise socket.timeout("timed out")
        self._sock.settimeout(left)
        return self._raw.readinto(buffer)

    def close(self) -> None:
        self._raw.close()
        super().close()


def _closed(sock: Optional[socket.socket]) -> bool:
    """Tell whether a connection that waits for nothing has something to read, which can only be its end."""
    if sock is None:
        return True
    poll = select.poll()
    poll.register(sock, select.POLLIN)
    return bool(poll.poll(0))
