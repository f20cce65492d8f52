"""The certificate that a host and port really serve: by SNI, on every address, on a fresh connection.

This is the one place that shakes hands without verifying: it looks at what is there, whatever it is, and sends nothing.
"""

from __future__ import annotations

import hashlib
import socket
import ssl
import time
from functools import cache
from typing import TYPE_CHECKING, NamedTuple, Optional

from certhooks.deadline import Deadline, growing
from certhooks.errors import MisdirectedError, NotServedError, UnreachableError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from certhooks.address import Address


_LEAST = 0.1  # seconds


class Served(NamedTuple):
    """What one address served: a certificate, or why there was none."""

    ip: str
    der: bytes = b""
    error: str = ""

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the certificate in hex; empty where none was served."""
        return fingerprint(self.der) if self.der else ""


def fingerprint(der: bytes) -> str:
    """Return SHA-256 in lower-case hex, the form in which this project compares certificates."""
    return hashlib.sha256(der).hexdigest()


def every(address: Address, *, server_name: Optional[str] = None, timeout: float = 10.0) -> list[Served]:
    """Return what each address of the name serves, in the resolver's order.

    Raises:
        UnreachableError: the name does not resolve.
    """
    return [_look(ip, address.port, server_name or address.host, timeout) for ip in addresses(address)]


def addresses(address: Address) -> list[str]:
    """Return the addresses of the name, in the resolver's order.

    Raises:
        UnreachableError: it does not resolve.
    """
    try:
        found = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as e:
        raise unresolved(address, e) from e
    return [str(ip) for ip in dict.fromkeys(entry[4][0] for entry in found)]


def first(address: Address, *, timeout: float = 10.0) -> Served:
    """Return what the first address that answers serves.

    Raises:
        UnreachableError: none answers.
    """
    answers = every(address, timeout=timeout)
    for served in answers:
        if served.der:
            return served
    raise UnreachableError(
        f"{address} does not answer: {answers[0].error}",
        hint="check the name, the port and the route to the device",
    )


def serves(address: Address, wanted: str, *, timeout: float = 10.0) -> bool:
    """Tell whether at least one address serves the wanted fingerprint and none serves another."""
    try:
        answers = every(address, timeout=timeout)
    except UnreachableError:
        return False
    return {served.fingerprint for served in answers if served.der} == {wanted}


def wait(address: Address, wanted: str, deadline: Deadline) -> None:
    """Return when the wanted certificate is served; addresses that do not answer at all do not count against it.

    Raises:
        NotServedError: what is served instead, when the deadline is over.
    """
    for pause in growing(0.05, 2.0):
        if serves(address, wanted, timeout=max(0.1, min(10.0, deadline.remaining()))):
            return
        if deadline.remaining() <= 0:
            break
        deadline.pause(pause)
    raise NotServedError(
        f"{address} does not serve the new certificate: {_told(address)}",
        hint="is this the address that uses it? --probe HOST:PORT names another; openssl s_client shows what is served",
    )


def trusted(address: Address, roots: Iterable[str], *, timeout: float = 10.0) -> bool:
    """Tell whether a client that knows these roots (PEM) alone trusts what the host serves now, by chain and name.

    False too when it does not answer.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(cadata="".join(roots))
    try:
        with (
            socket.create_connection((address.host, address.port), timeout=timeout) as plain,
            context.wrap_socket(plain, server_hostname=address.host),
        ):
            return True
    except (OSError, ValueError):
        return False


def unresolved(address: Address, error: Exception) -> UnreachableError:
    """Return the error for a name that does not resolve."""
    text = error.strerror if isinstance(error, OSError) and error.strerror else "not a host name"
    return MisdirectedError(
        f"cannot resolve {address.host}: {text.lower()}", hint="check the name and /etc/resolv.conf"
    )


def _told(address: Address) -> str:
    try:
        answers = every(address, timeout=5.0)
    except UnreachableError as e:
        return str(e)
    return ", ".join(f"{a.ip}: " + (f"sha256:{a.fingerprint[:16]}..." if a.der else a.error) for a in answers)


def _look(ip: str, port: int, server_name: str, timeout: float) -> Served:
    end = time.monotonic() + timeout
    try:
        with socket.create_connection((ip, port), timeout=timeout) as plain:
            plain.settimeout(max(_LEAST, end - time.monotonic()))  # for connecting and the handshake together
            with _context().wrap_socket(plain, server_hostname=server_name) as tls:
                der = tls.getpeercert(binary_form=True)
    except (OSError, ValueError) as e:
        return Served(ip, error=(getattr(e, "strerror", None) or str(e) or type(e).__name__).lower())
    return Served(ip, der or b"", "" if der else "no certificate")


@cache
def _context() -> ssl.SSLContext:
    """Return what all handshakes go by; a session would be resumed only where a caller passes one on, and none does."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE  # nothing is sent and nothing believed: the caller compares the fingerprint
    return context
