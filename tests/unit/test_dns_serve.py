"""``ipa_dns serve`` keeps answering, whatever local users send it."""

from __future__ import annotations

import argparse
import io
import json
import re
import socket
import sys
import threading
import time
from base64 import b64encode
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if sys.version_info < (3, 10):
    pytest.skip("the DNS hooks need Python 3.10", allow_module_level=True)

from certhooks import journal, log
from certhooks.cli import Screen
from certhooks.errors import (
    BadNameError,
    BusyError,
    CredentialsError,
    DeadlineError,
    NotServedError,
    UnreachableError,
    UsageError,
)
from certhooks.secrets import Secret
from certhooks_freeipa_dns import serve
from certhooks_freeipa_dns.clients import Client
from certhooks_freeipa_dns.errors import RefusedError
from certhooks_freeipa_dns.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Iterator

BASIC = f"Authorization: Basic {b64encode(b'traefik:a long enough one').decode()}\r\n"
BODY = json.dumps({"fqdn": "_acme-challenge.www.example.test.", "value": "v"})


class Service:
    """The service in this process; ``carried`` is what it was asked to do, ``failure`` what comes of it."""

    def __init__(self, server: Any) -> None:
        self.address = server.server_address
        self.carried: list[tuple[str, tuple[str, str]]] = []
        self.failure: Exception | None = None
        server.clients = {"traefik": Client("traefik", Secret("a long enough one"), ("www.example.test",))}
        server.carry_out = self._carry_out

    def _carry_out(self, operation: str, wanted: tuple[str, str]) -> None:
        self.carried.append((operation, tuple(wanted)))  # type: ignore[arg-type]
        if self.failure:
            raise self.failure

    @contextmanager
    def connected(self) -> Iterator[socket.socket]:
        """Connect."""
        with socket.create_connection(self.address, timeout=10) as made:
            yield made

    def said(self, request: bytes) -> tuple[int, str]:
        """Send bytes and return the status and the body of the answer; 0 for none."""
        with self.connected() as connection:
            connection.sendall(request)
            return answer(connection)

    def post(self, head: str = BASIC, body: str = BODY, path: str = "/present") -> tuple[int, str]:
        """Send a request and return the answer."""
        return self.said(f"POST {path} HTTP/1.1\r\n{head}Content-Length: {len(body)}\r\n\r\n{body}".encode())


def answer(connection: socket.socket) -> tuple[int, str]:
    """Read an answer to its end."""
    got = b""
    while True:
        try:
            chunk = connection.recv(65536)
        except ConnectionResetError:
            chunk = b""
        if not chunk:
            break
        got += chunk
    head, _, body = got.partition(b"\r\n\r\n")
    return (int(head.split()[1]), body.decode()) if head else (0, "")


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Iterator[Service]:
    """Start the service with half a second for a request, and for four at once."""
    monkeypatch.setattr(serve, "_IDLE", 0.5)
    monkeypatch.setattr(serve, "_MAX_REQUESTS", 4)
    with serve._Server(("127.0.0.1", 0), serve._Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield Service(server)
        server.shutdown()
        thread.join()


def test_a_request_is_answered(service: Service) -> None:
    """With user, password and a name that is theirs; twice, since the first must not leave anything behind."""
    for _ in range(2):
        assert service.post() == (200, "")
    assert service.carried == [("present", ("_acme-challenge.www.example.test", "v"))] * 2
    assert service.post(path="/cleanup") == (200, "")
    alias = json.dumps({"fqdn": "www.example.test.", "value": "x" * 43})  # lego has followed an alias to here
    assert service.post(body=alias) == (200, "")


def test_slow_clients_are_cut_off(service: Service) -> None:
    """A byte now and then does not hold a connection for ever, neither in the head nor in the body."""
    post = "POST /present HTTP/1.1\r\n"
    for head in (f"{post}X: ", f"{post}{BASIC}Content-Length: 5000\r\n\r\n"):
        began = time.monotonic()
        with service.connected() as connection:
            connection.sendall(head.encode())
            with suppress(ConnectionResetError, BrokenPipeError):
                while time.monotonic() - began < 5:
                    connection.sendall(b"x")
                    time.sleep(0.1)
        assert time.monotonic() - began < 3
    assert service.carried == []
    assert service.post() == (200, "")


def test_a_crowd_is_sent_away(service: Service) -> None:
    """More connections than the service has threads for are told so at once, and it goes on afterwards."""
    with ExitStack() as hold:
        for _ in range(4):
            hold.enter_context(service.connected())
        time.sleep(0.1)
        assert service.post()[0] in {503, 0}  # the answer may be lost with the request that nobody has read
    time.sleep(0.2)
    assert service.post() == (200, "")


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (f"POST /present HTTP/1.1\r\n{BASIC}Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", 413),
        (f"POST /present HTTP/1.1\r\n{BASIC}Content-Length: -1\r\n\r\n", 413),
        (f"POST /present HTTP/1.1\r\n{BASIC}Content-Length: 99999999999\r\n\r\n", 413),
        (f"POST /present HTTP/1.1\r\n{BASIC}Content-Length: \u0665\r\n\r\n", 413),
        (f"POST /present HTTP/1.1\r\n{BASIC}\r\n", 413),
        (f"GET /present HTTP/1.1\r\n{BASIC}\r\n", 501),
        (f"POST /../present HTTP/1.1\r\n{BASIC}Content-Length: 2\r\n\r\n{{}}", 404),
        ("POST /present HTTP/1.1\r\nAuthorization: Bearer x\r\nContent-Length: 2\r\n\r\n{}", 401),
        ("POST /present HTTP/1.1\r\nAuthorization: Basic \u00fc\u00fc==\r\nContent-Length: 2\r\n\r\n{}", 401),
        ("POST /present HTTP/1.1\r\nAuthorization: Basic /////w==\r\nContent-Length: 2\r\n\r\n{}", 401),
        ("POST /present HTTP/1.1\r\n" + "X: y\r\n" * 200 + "\r\n", 431),
        ("POST /" + "x" * 70_000 + " HTTP/1.1\r\n\r\n", 414),
        ("NONSENSE /present HTTP/1.1\r\n\r\n", 501),
    ],
)
def test_odd_requests(request_: str, status: int, service: Service) -> None:
    """Each has its answer; nothing is done, and the next one is served."""
    assert service.said(request_.encode())[0] == status
    assert service.carried == []
    assert service.post() == (200, "")


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ('{"domain": "www.example.test", "token": "t", "keyAuth": "\\ud800"}', 422),
        ('{"domain": "www.example.test", "token": "t", "keyAuth": "no dot"}', 422),
        ('{"domain": "\\ud800.test", "token": "t", "keyAuth": "a.b"}', 422),
        ('{"fqdn": "--", "value": "v"}', 422),
        ('{"fqdn": "_acme-challenge.www.example.test", "value": null}', 400),
        ("[]", 400),
        ('{"fqdn": NaN}', 400),
        ("1" * 5000, 400),
        ('{"fqdn": "_acme-challenge.other.test", "value": "v"}', 403),
        ('{"fqdn": "www.example.test", "value": "google-site-verification=x"}', 422),
        (f'{{"fqdn": "www.example.test", "value": "{"x" * 42}"}}', 422),
    ],
)
def test_odd_bodies(body: str, status: int, service: Service) -> None:
    """They are refused with a line that says what is wrong, and never a fault of our own."""
    got, text = service.post(body=body)
    assert (got, text.startswith("error: ")) == (status, True), text
    assert service.carried == []


@pytest.mark.parametrize(
    ("failure", "status"),
    [
        (BadNameError("x", hint="y"), 422),
        (RefusedError("x", hint="y"), 403),
        (CredentialsError("x", hint="y"), 502),
        (UnreachableError("x", hint="y"), 504),
        (NotServedError("x", hint="y"), 503),
        (DeadlineError("x", hint="y"), 503),
        (BusyError("x", hint="y"), 503),
    ],
)
def test_each_failure_has_a_status(failure: Exception, status: int, service: Service) -> None:
    """The text has the reason and the hint."""
    service.failure = failure
    assert service.post() == (status, "error: x\nhint: y\n")


def test_a_fault_of_our_own_shows_nothing(service: Service, caplog: pytest.LogCaptureFixture) -> None:
    """Whoever asks learns only that there is one; the log has it."""
    service.failure = ValueError("a secret detail")
    assert service.post() == (500, "error: a fault of our own; the log has more\n")
    assert "a secret detail" in caplog.text


@pytest.mark.parametrize(("asked", "wait", "seconds"), [(300.0, 120.0, (25.0, 20.0)), (5.0, 3.0, (5.0, 3.0))])
def test_answers_come_in_time_for_lego(
    asked: float, wait: float, seconds: tuple[float, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lego gives up after 30 s: no request takes as long, whatever is configured."""
    seen: list[tuple[float, float]] = []
    monkeypatch.setattr("certhooks_freeipa_dns.front.settings", lambda _args, **_usual: Settings(wait=wait))
    monkeypatch.setattr(
        "certhooks_freeipa_dns.front.core",
        lambda args, _screen, made, **_named: seen.append((args.timeout, made.wait)),
    )
    monkeypatch.setattr("certhooks_freeipa_dns.clients.read", lambda _path: {})

    class Stopped(serve._Server):
        def serve_forever(self, poll_interval: float = 0.5) -> None:
            assert poll_interval < 1
            raise KeyboardInterrupt

    monkeypatch.setattr(serve, "_listen", lambda _where: Stopped(("127.0.0.1", 0), serve._Handler))
    args = argparse.Namespace(clients=None, listen=None, timeout=asked)
    assert serve.run(args, Screen("ipa_dns", out=io.StringIO(), err=io.StringIO())) == 0
    assert seen == [seconds]


def test_the_unit_lets_it_write_where_it_has_to() -> None:
    """Under ProtectSystem=strict: its list, its log, the socket that the hint proposes; no restart mends a setting."""
    unit = Path(__file__).resolve().parents[2] / "contrib" / "examples" / "ipa_dns.service"
    settings = dict(re.findall(r"^(\w+)=(.*)$", unit.read_text(encoding="utf-8"), re.MULTILINE))
    assert settings["ProtectSystem"] == "strict"
    writable = [Path(path.removeprefix("-")) for path in settings["ReadWritePaths"].split()]
    writable += [Path("/run", settings["RuntimeDirectory"]), Path("/var/lib", settings["StateDirectory"])]
    with pytest.raises(UsageError) as refused:
        serve._listen("192.0.2.1:8553")
    (socket_path,) = re.findall(r"unix:(\S+);", str(refused.value.hint))
    for path in (Path(socket_path).parent, journal.DEFAULT, log.FOLDER):
        assert path in writable
    fatal = {str(kind.exit_code) for kind in (UsageError, BadNameError, CredentialsError)}
    assert set(settings["RestartPreventExitStatus"].split()) == fatal
