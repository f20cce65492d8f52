"""One verified HTTPS connection to one device: kept alive, no redirects, no proxies, bounded replies."""

from __future__ import annotations

import http.client
import socket
import ssl
import time
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Optional

from certhooks import trust
from certhooks.errors import ConnectionLostError, UnreachableError
from certhooks.probe import unresolved

if TYPE_CHECKING:
    from collections.abc import Mapping

    from certhooks.address import Address

_CHUNK = 64 * 1024


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
        max_reply: bytes; a longer reply is refused and the connection closed.
    """

    def __init__(
        self,
        address: Address,
        context: ssl.SSLContext,
        *,
        timeout: float = 30.0,
        max_reply: int = 16 * 1024 * 1024,
    ) -> None:
        self.address = address
        self.timeout = timeout
        self.context = context
        self._max_reply = max_reply
        self._http: Optional[http.client.HTTPSConnection] = None

    def request(self, method: str, path: str, *, headers: Mapping[str, str], body: bytes = b"") -> Reply:
        """Send a request that may safely be sent twice, and return the reply whatever its status.

        A connection that was kept from an earlier request and turns out to be closed is opened anew once.

        Raises:
            UnreachableError: no connection, or a certificate that is not trusted. Nothing was sent.
            ConnectionLostError: it broke or stalled afterwards, or the reply was too long.
        """
        if self._http is not None:
            with suppress(ConnectionLostError):
                return self._once(self._http, method, path, headers, body)
        self._http = self._connect()
        return self._once(self._http, method, path, headers, body)

    def close(self) -> None:
        """Close the connection; the next request opens another."""
        if self._http is not None:
            self._http.close()
            self._http = None

    def _connect(self) -> http.client.HTTPSConnection:
        connection = http.client.HTTPSConnection(
            self.address.host, self.address.port, timeout=self.timeout, context=self.context
        )
        try:
            connection.connect()
        except ssl.SSLError as e:
            raise trust.explain(e, self.address) from e
        except socket.timeout as e:
            raise UnreachableError(
                f"{self.address} does not answer within {self.timeout:g} s",
                hint="check the route and the firewall rules to it",
            ) from e
        except ConnectionResetError as e:
            raise ConnectionLostError(f"{self.address} closed the connection during the TLS handshake") from e
        except (OSError, UnicodeError) as e:
            if isinstance(e, (UnicodeError, socket.gaierror)):
                raise unresolved(self.address, e) from e
            raise UnreachableError(
                f"no connection to {self.address}: {(e.strerror or str(e)).lower()}",
                hint="is the device up, and does its management interface listen on this port?",
            ) from e
        return connection

    def _once(
        self,
        connection: http.client.HTTPSConnection,
        method: str,
        path: str,
        headers: Mapping[str, str],
        body: bytes,
    ) -> Reply:
        try:
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
                what = f"did not answer within {self.timeout:g} s"
            raise ConnectionLostError(
                f"{self.address} {what} ({type(e).__name__})",
                hint="run the same command again; it goes on from where it was",
            ) from e
        except ConnectionLostError:
            self.close()
            raise
        if response.will_close:
            self.close()
        return reply

    def _read(self, response: http.client.HTTPResponse) -> bytes:
        end = time.monotonic() + self.timeout
        body = bytearray()
        while chunk := response.read1(_CHUNK):
            body += chunk
            if len(body) > self._max_reply:
                raise ConnectionLostError(f"{self.address} sent a reply of more than {self._max_reply} bytes")
            if time.monotonic() > end:
                raise ConnectionLostError(f"{self.address} did not end its reply within {self.timeout:g} s")
        if response.length:  # read1() reports the end of the stream as the end of the body
            raise http.client.IncompleteRead(bytes(body), response.length)
        response.close()  # read1() does not notice the end by itself, and the connection would not be used again
        return bytes(body)
