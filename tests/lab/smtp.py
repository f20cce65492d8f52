"""SMTP servers on loopback: aiosmtpd, which nobody here wrote, and sockets that say what no server should."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
import time
from typing import TYPE_CHECKING, Any, Callable, Optional

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult

from certhooks.address import Address

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from aiosmtpd.smtp import SMTP, Envelope, Session

    from tests.lab.ca import Issued

HOST = "127.0.0.1"


class Mailbox:
    """What a server took, and what it says to a command instead of taking it: ``{"RCPT": "550 no such user"}``."""

    def __init__(self, **says: str) -> None:
        self.says = says
        self.taken: list[Envelope] = []
        self.encrypted: list[bool] = []
        self.wants_login = False

    async def handle_MAIL(  # noqa: N802  aiosmtpd's names
        self, _server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        if self.wants_login and not session.authenticated:
            return "530 5.7.0 log in first"
        envelope.mail_from = address
        envelope.mail_options.extend(options)
        return self.says.get("MAIL", "250 OK")

    async def handle_RCPT(  # noqa: N802
        self, _server: SMTP, _session: Session, envelope: Envelope, address: str, _options: list[str]
    ) -> str:
        envelope.rcpt_tos.append(address)
        return self.says.get("RCPT", "250 OK")

    async def handle_DATA(self, _server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802
        if "DATA" not in self.says:
            self.taken.append(envelope)
            self.encrypted.append(session.ssl is not None)
        return self.says.get("DATA", "250 taken")


def server_context(issued: Issued, folder: Path) -> ssl.SSLContext:
    """Return what serves TLS with a certificate."""
    pem = folder / f"{issued.sha256[:8]}.pem"
    pem.write_bytes(issued.fullchain_pem + issued.key_pem)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    return context


@contextlib.contextmanager
def serve(
    box: Mailbox,
    *,
    starttls: Optional[ssl.SSLContext] = None,
    tls: Optional[ssl.SSLContext] = None,
    login: Optional[tuple[str, str]] = None,
    **more: Any,
) -> Iterator[Address]:
    """Run aiosmtpd; with ``starttls`` it takes nothing before TLS, with ``login`` nothing before that."""

    def check(_server: Any, _session: Any, _envelope: Any, _mechanism: str, data: Any) -> AuthResult:
        assert login
        good = (data.login.decode(), data.password.decode()) == login
        return AuthResult(success=good, handled=good)

    if login:
        box.wants_login = True  # not aiosmtpd's own auth_required, which warns where TLS is not begun by STARTTLS
        more = {"authenticator": check, "auth_require_tls": starttls is not None, **more}
    with socket.socket() as sock:
        sock.bind((HOST, 0))
        port = sock.getsockname()[1]
    controller = Controller(
        box,
        HOST,
        port,
        ssl_context=tls,
        tls_context=starttls,
        require_starttls=starttls is not None,
        **more,
    )
    controller.start()
    try:
        yield Address(HOST, port)
    finally:
        controller.stop()


@contextlib.contextmanager
def hostile(behave: Callable[[socket.socket], object]) -> Iterator[Address]:
    """Run a server that does with each connection what it is told, and then closes it."""
    ended = threading.Event()

    def accept() -> None:
        while not ended.is_set():
            with contextlib.suppress(OSError):
                peer, _ = listener.accept()
                with peer:
                    peer.settimeout(10)
                    behave(peer)

    with socket.create_server((HOST, 0)) as listener:
        listener.settimeout(0.1)
        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        try:
            yield Address(HOST, listener.getsockname()[1])
        finally:
            ended.set()
            thread.join(15)


def says(*replies: bytes) -> Callable[[socket.socket], object]:
    """Return what sends these replies, one for each command, and then hangs up."""

    def behave(peer: socket.socket) -> None:
        for reply in replies:
            peer.sendall(reply)
            if not peer.recv(65536):
                return

    return behave


def drips(text: bytes, pause: float = 0.05) -> Callable[[socket.socket], object]:
    """Return what sends a text for ever, a byte at a time."""

    def behave(peer: socket.socket) -> None:
        while True:
            for byte in text:
                peer.sendall(bytes([byte]))
                time.sleep(pause)

    return behave


def floods(text: bytes) -> Callable[[socket.socket], object]:
    """Return what sends a text for ever, as fast as it is read."""

    def behave(peer: socket.socket) -> None:
        while True:
            peer.sendall(text * 1000)

    return behave


def hangs(peer: socket.socket) -> None:
    """Say nothing until the other side hangs up."""
    while peer.recv(65536):
        pass
