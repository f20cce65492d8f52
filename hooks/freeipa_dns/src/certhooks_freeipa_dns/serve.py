"""``ipa_dns serve``: lego's httpreq protocol over loopback or a unix socket, for Traefik, lego, acme.sh and others.

``POST /present`` and ``/cleanup`` with ``{"fqdn", "value"}``, or RAW ``{"domain", "token", "keyAuth"}``; 2xx is fine.
lego waits 30 s for an answer, so that each request has 25.
"""

from __future__ import annotations

import ipaddress
import json
import logging
import os
import socket
import stat
import threading
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any, Optional, cast

from certhooks import address
from certhooks.errors import BadNameError, CredentialsError, Error, UnreachableError, UsageError
from certhooks_freeipa_dns import clients, front, lego, names
from certhooks_freeipa_dns.errors import RefusedError

if TYPE_CHECKING:
    import argparse

    from certhooks import cli
    from certhooks_freeipa_dns.clients import Client

_SECONDS = 25.0
_WAIT = 20.0  # seconds of them for the name servers, where the configuration says to wait
_MAX_BODY = 64 * 1024
_MAX_REQUESTS = 32  # at once
_IDLE = 10.0  # seconds for a client to send its request, all of it
_HTTP = {BadNameError: 422, UsageError: 422, RefusedError: 403, CredentialsError: 502, UnreachableError: 504}
_OK, _BAD, _UNKNOWN, _DENIED, _MISSING, _TOO_LONG, _BUSY, _FAULT = 200, 400, 401, 403, 404, 413, 503, 500
_PORT = 8553
_UNIX = "unix:"

_logger = logging.getLogger(front.LOG)


def run(args: argparse.Namespace, screen: cli.Screen) -> int:
    """Answer until SIGTERM or Ctrl-C; requests that are under way are finished.

    Raises:
        UsageError: not a loopback address, or it is taken. CredentialsError: the file of clients.
    """
    made = front.settings(args, wait=0.0)
    known = clients.read(Path(args.clients or made.clients))
    made.wait = min(made.wait, _WAIT)
    args.timeout = min(args.timeout, _SECONDS)
    front.core(args, screen, made)  # the state folder must be there before anybody is answered

    run_name = front.run_of_service("httpreq")  # what an earlier process left does not choose this one's server

    def carry_out(operation: str, wanted: Any) -> None:
        core = front.core(args, screen, made, run=run_name)
        if operation == "present":
            core.add([wanted])
        else:
            core.remove([wanted])

    server = _listen(args.listen or made.listen)
    server.clients, server.carry_out = known, carry_out
    screen.say(f"listening on {args.listen or made.listen} for {len(known)} client(s)")
    try:
        with server:
            server.serve_forever(poll_interval=0.5)
    except KeyboardInterrupt:
        screen.say("stopped")
    finally:
        if isinstance(server, _UnixServer):
            with suppress(OSError):
                Path(cast("str", server.server_address)).unlink()
    return 0


class _Server(ThreadingHTTPServer):
    """One thread a request, a bounded number of them; closing waits for those that are under way."""

    daemon_threads = False
    block_on_close = True
    clients: dict[str, Client]
    carry_out: Any

    def __init__(self, where: Any, handler: Any) -> None:
        self._turns = threading.BoundedSemaphore(_MAX_REQUESTS)
        super().__init__(where, handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Give a connection a thread; with too many under way it has to come again."""
        if not self._turns.acquire(blocking=False):
            with suppress(OSError):
                request.settimeout(0)  # whoever floods us need not read it
                request.sendall(b"HTTP/1.0 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n")
            self.shutdown_request(request)
            return
        super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Answer in a thread of its own."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._turns.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        _logger.debug("a client broke off: %s %s", request, client_address)


class _UnixServer(_Server):
    """The same on a unix socket, which its owner and group may use."""

    address_family = socket.AF_UNIX

    def server_bind(self) -> None:
        before = os.umask(0o117)
        try:
            self.socket.bind(self.server_address)
        finally:
            os.umask(before)
        self.server_name, self.server_port = "localhost", 0

    def get_request(self) -> Any:
        request, _ = self.socket.accept()
        return request, ("unix", 0)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.0"  # a connection a request: lego keeps none
    timeout = _IDLE
    server: _Server
    server_version = "certhooks"
    sys_version = ""

    def setup(self) -> None:
        """Give the client a time for its whole request: a socket's own timeout begins anew with every byte."""
        super().setup()
        self._late = threading.Timer(_IDLE, self._cut_off)
        self._late.daemon = True
        self._late.start()

    def finish(self) -> None:
        """Close what the base class has opened."""
        self._late.cancel()
        super().finish()

    def _cut_off(self) -> None:
        with suppress(OSError):
            self.connection.shutdown(socket.SHUT_RD)

    def do_POST(self) -> None:
        """Answer one request."""
        try:
            status, text = self._carried_out()
        except Error as e:
            _logger.error("%s (exit status %d)", e, e.exit_code)  # noqa: TRY400  the user's error, not a fault
            status = next((code for kind, code in _HTTP.items() if isinstance(e, kind)), _BUSY)
            text = f"error: {e}" + (f"\nhint: {e.hint}" if e.hint else "")
        except Exception:
            _logger.exception("a fault of our own")
            status, text = _FAULT, "error: a fault of our own; the log has more"
        self._answer(status, text)

    def _carried_out(self) -> tuple[int, str]:
        client = clients.authenticated(self.server.clients, self.headers.get("Authorization", ""))
        body = self._body()
        if client is None:
            _logger.warning("a request without a known user and password")
            return _UNKNOWN, "error: user and password are needed"
        if body is None:
            return _TOO_LONG, "error: the request has no length, or is too long"
        operation = self.path.strip("/")
        if operation not in {"present", "cleanup"}:
            return _MISSING, "error: there are /present and /cleanup"
        words = _words(body)
        if words is None:
            return _BAD, 'error: no JSON object with "fqdn" and "value", or "domain", "token" and "keyAuth"'
        wanted = lego.challenge(words)
        if not client.may(wanted.name):
            _logger.warning("%s may not ask for %s", client.user, wanted.name)
            return _DENIED, f"error: {client.user} may not ask for {wanted.name}"
        if not wanted.name.startswith(f"{names.PREFIX}."):
            names.value(wanted.value, exact=True)  # where an alias leads: nothing that proves a domain to somebody else
        _logger.info("%s: %s %s", client.user, operation, wanted.name)
        self.server.carry_out(operation, wanted)
        return _OK, ""

    def _body(self) -> Optional[bytes]:
        length = self.headers.get("Content-Length", "")
        if not (length.isascii() and length.isdigit() and len(length) < 8 and int(length) <= _MAX_BODY):  # noqa: PLR2004
            return None
        body = self.rfile.read(int(length))
        self._late.cancel()
        return body

    def _answer(self, status: int, text: str) -> None:
        data = f"{text}\n".encode() if text else b""
        self.send_response(status)
        if status == _UNKNOWN:
            self.send_header("WWW-Authenticate", 'Basic realm="ipa_dns"')
        self.send_header("Content-Type", "text/plain; charset=utf-8")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  http.server's name
        """Leave it to our own log, which has it already."""


def _words(body: bytes) -> Optional[list[str]]:
    try:
        given = json.loads(body)
    except (ValueError, RecursionError):
        return None
    for keys in (("fqdn", "value"), ("domain", "token", "keyAuth")):
        if isinstance(given, dict) and all(isinstance(given.get(key), str) for key in keys):
            return [given[key] for key in keys]
    return None


def _listen(where: str) -> _Server:
    try:
        if where.startswith(_UNIX):
            path = Path(where[len(_UNIX) :])
            if path.exists() and stat.S_ISSOCK(path.lstat().st_mode) and not _alive(path):
                path.unlink()  # left by one that was killed
            return _UnixServer(str(path), _Handler)
        at = address.parse(where, _PORT)
        host = "127.0.0.1" if at.host == "localhost" else at.host
        if not _loopback(host):
            raise UsageError(
                f"{where} is not a loopback address, and passwords would travel in the clear",
                hint="--listen 127.0.0.1:8553 or unix:/run/ipa_dns/sock; let a web server with TLS pass requests on",
            )
        kind = type("_Server6", (_Server,), {"address_family": socket.AF_INET6}) if ":" in host else _Server
        return cast("_Server", kind((host, at.port), _Handler))
    except OSError as e:
        raise UsageError(f"cannot listen on {where}: {(e.strerror or str(e)).lower()}") from e


def _loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _alive(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(str(path))
        except OSError:
            return False
    return True
