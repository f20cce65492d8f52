"""HTTPS on loopback for many devices in one process: one thread accepts for all, one thread a connection."""

from __future__ import annotations

import contextlib
import functools
import http.server
import selectors
import socket
import ssl
import tempfile
import threading
import time
from http import HTTPStatus
from pathlib import Path
from typing import Callable, Optional

BODY_MAXIMUM = 16_000_000
_HANDSHAKE_SECONDS = 10.0
_IDLE_SECONDS = 120.0

Identity = tuple[bytes, bytes]  # certificate chain and private key, PEM


@functools.lru_cache(maxsize=4096)
def context_of(identity: Identity) -> Optional[ssl.SSLContext]:
    """Return a server's TLS context; None when the two do not fit: such a web server does not start."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with tempfile.TemporaryDirectory() as folder:  # mkdtemp makes it 0700
        path = Path(folder, "pair.pem")
        path.write_bytes(identity[1] + b"\n" + identity[0])
        try:
            context.load_cert_chain(path)
        except (ssl.SSLError, ValueError):
            return None
    return context


class _Acceptor:
    """The one thread that accepts connections for every listener of the process."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._lock = threading.Lock()
        self._todo: list[Callable[[], object]] = []
        self._reader, self._writer = socket.socketpair()
        self._reader.settimeout(0)
        self._selector.register(self._reader, selectors.EVENT_READ, None)
        threading.Thread(target=self._run, daemon=True, name="lab-accept").start()

    def do(self, action: Callable[[], object]) -> None:
        """Run something in the accepting thread and wait for it."""
        done = threading.Event()

        def run() -> None:
            try:
                action()
            finally:
                done.set()

        with self._lock:
            self._todo.append(run)
        self._writer.send(b"x")
        done.wait(10)

    def add(self, sock: socket.socket, accepted: Callable[[socket.socket], None]) -> None:
        self.do(lambda: self._selector.register(sock, selectors.EVENT_READ, accepted))

    def remove(self, sock: socket.socket) -> None:
        def close() -> None:
            with contextlib.suppress(KeyError, ValueError):
                self._selector.unregister(sock)
            sock.close()

        self.do(close)

    def _run(self) -> None:
        while True:
            for key, _ in self._selector.select():
                if key.data is None:
                    with contextlib.suppress(BlockingIOError):
                        self._reader.recv(4096)
                    continue
                with contextlib.suppress(OSError):
                    connection, _address = key.fileobj.accept()  # type: ignore[union-attr]
                    key.data(connection)
            with self._lock:
                todo, self._todo = self._todo, []
            for action in todo:
                action()


@functools.lru_cache(maxsize=1)
def _acceptor() -> _Acceptor:
    return _Acceptor()


class Listener:
    """One TLS port.

    Args:
        address: where to listen; loopback.
        port: 0 takes a free one.
        identity: called for each connection, gives certificate and key of this moment.
        serve: called with each TLS connection, in its own thread.

    """

    def __init__(
        self, address: str, port: int, identity: Callable[[], Identity], serve: Callable[[ssl.SSLSocket], None]
    ) -> None:
        self.address, self.port = address, port
        self.identity, self._serve = identity, serve
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._holder: Optional[socket.socket] = None  # bound and never listening: keeps the port during a restart
        self._socket: Optional[socket.socket] = None
        self._timer: Optional[threading.Timer] = None
        self.handshakes_failed = 0

    @property
    def started(self) -> bool:
        """Whether it holds its port: between ``start()`` and ``stop()``, also while it refuses connections."""
        return self._holder is not None

    def start(self) -> None:
        """Bind and listen."""
        self._holder = self._bound(self.port)
        self.port = self._holder.getsockname()[1]
        self._listen()

    def _bound(self, port: int) -> socket.socket:
        family = socket.AF_INET6 if ":" in self.address else socket.AF_INET
        sock = socket.socket(family, socket.SOCK_STREAM)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.bind((self.address, port))
        return sock

    def _listen(self) -> None:
        with self._lock:
            if self._holder is None or self._socket is not None:
                return
            self._socket = self._bound(self.port)
            self._socket.listen(128)
            self._socket.settimeout(0)
            sock = self._socket
        _acceptor().add(sock, self._accepted)

    def _unlisten(self) -> None:
        with self._lock:
            sock, self._socket = self._socket, None
        if sock is not None:
            _acceptor().remove(sock)

    def refuse(self, seconds: float) -> None:
        """Drop every connection, and refuse new ones for this long."""
        if self._timer:
            self._timer.cancel()
        if seconds > 0:
            self._unlisten()
            self._timer = threading.Timer(seconds, self._listen)
            self._timer.daemon = True
            self._timer.start()
        self.drop_connections()

    def drop_connections(self) -> None:
        """Cut every connection that is open."""
        with self._lock:
            sockets, self._open = self._open, set()
        for sock in sockets:
            cut(sock)

    def stop(self) -> None:
        """Close everything."""
        if self._timer:
            self._timer.cancel()
        with self._lock:
            holder, self._holder = self._holder, None
        self._unlisten()
        if holder:
            holder.close()
        self.drop_connections()

    def _accepted(self, sock: socket.socket) -> None:
        sock.settimeout(None)
        with self._lock:
            self._open.add(sock)
        threading.Thread(target=self._connection, args=(sock,), daemon=True, name="lab-connection").start()

    def _connection(self, sock: socket.socket) -> None:
        wrapped: Optional[ssl.SSLSocket] = None
        try:
            with contextlib.suppress(OSError):
                sock.settimeout(_HANDSHAKE_SECONDS)
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            context = context_of(self.identity())
            if context is None:
                return
            try:
                wrapped = context.wrap_socket(sock, server_side=True, do_handshake_on_connect=False)
                with self._lock:
                    self._open.discard(sock)
                    self._open.add(wrapped)
                wrapped.do_handshake()
            except (OSError, ValueError):  # the client does not trust us, or the connection was dropped meanwhile
                self.handshakes_failed += 1
                return
            with contextlib.suppress(OSError, ValueError):  # the client is gone, or we dropped it on purpose
                wrapped.settimeout(_IDLE_SECONDS)
                self._serve(wrapped)
        finally:
            with self._lock:
                self._open.discard(sock)
                if wrapped is not None:
                    self._open.discard(wrapped)
            cut(wrapped or sock)


def cut(sock: socket.socket) -> None:
    """Close a connection without a goodbye of TLS."""
    with contextlib.suppress(OSError):
        sock.shutdown(socket.SHUT_RDWR)
    with contextlib.suppress(OSError):
        sock.close()


class Server:
    """What listens: on its first address, and perhaps on more."""

    listeners: list[Listener]

    def start(self) -> None:
        """Listen."""
        for listener in self.listeners:
            listener.start()

    def stop(self) -> None:
        """Close every port and connection."""
        for listener in self.listeners:
            listener.stop()

    def __enter__(self):  # type: ignore[no-untyped-def]  # noqa: ANN204 - typing.Self is newer than Python 3.9
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def address(self) -> str:
        """The loopback address."""
        return self.listeners[0].address

    @property
    def port(self) -> int:
        """The port."""
        return self.listeners[0].port


class Handler(http.server.BaseHTTPRequestHandler):
    """HTTP/1.1 with keep-alive; a subclass says what to answer in ``exchange``."""

    protocol_version = "HTTP/1.1"
    server_version, sys_version = "nginx", ""
    wbufsize = -1

    def log_message(self, *_: object) -> None:
        """Say nothing: the device keeps its own log of requests."""

    def do_GET(self) -> None:
        """Answer."""
        self._answer()

    def do_POST(self) -> None:
        """Answer."""
        self._answer()

    def do_PUT(self) -> None:
        """Answer."""
        self._answer()

    def do_DELETE(self) -> None:
        """Answer."""
        self._answer()

    def _answer(self) -> None:
        if self.headers.get("Transfer-Encoding"):
            self.close_connection = True
            self.reply(HTTPStatus.LENGTH_REQUIRED, b"", "text/html")
            return
        try:
            length = int(self.headers.get("Content-Length") or 0)
        except ValueError:
            length = -1
        if not 0 <= length <= BODY_MAXIMUM:
            self.close_connection = True
            self.reply(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, b"", "text/html")
            return
        body = self.rfile.read(length)
        if len(body) == length:
            self.exchange(body)

    def exchange(self, body: bytes) -> None:
        """Answer one request."""
        raise NotImplementedError

    def reply(
        self,
        status: int,
        body: bytes,
        content_type: str,
        *,
        headers: tuple[tuple[str, str], ...] = (),
        length: Optional[int] = None,
        pause: float = 0.0,
    ) -> None:
        """Send a reply; ``length`` lies about its size, ``pause`` (seconds) comes after each byte."""
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        for name, value in headers:
            self.send_header(name, value)
        self.end_headers()
        if not pause:
            self.wfile.write(body)
        else:
            for at in range(len(body)):
                self.wfile.write(body[at : at + 1])
                self.wfile.flush()
                time.sleep(pause)
        self.wfile.flush()
