"""Address, trust, probe and the HTTPS connection, against real TLS servers on loopback; each refusal must refuse."""

from __future__ import annotations

import select
import socket
import ssl
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Callable, Optional

import pytest

from certhooks import address, http, probe
from certhooks.address import Address
from certhooks.deadline import Deadline
from certhooks.errors import (
    BadNameError,
    ConnectionLostError,
    NotServedError,
    ReplyTooLongError,
    UnreachableError,
    UsageError,
)
from certhooks.trust import Trust, fingerprint
from tests.lab.ca import CA
from tests.lab.https import Listener

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.lab.ca import Issued

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


class Server:
    """Serves TLS with a certificate that can be changed; ``answer`` gets each request and returns the reply's bytes."""

    def __init__(self, issued: Issued, folder: Path, host: str = "127.0.0.1") -> None:
        self._folder = folder
        self.serve(issued)
        self.answer: Callable[[bytes], bytes] = lambda _: OK
        self.hang_up = False
        self.hung_up = threading.Event()
        self.connections = 0
        self.requests: list[bytes] = []
        self._listener = socket.create_server((host, 0), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
        self.address = Address("localhost", self._listener.getsockname()[1])
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def serve(self, issued: Issued) -> None:
        """Serve another certificate from the next connection on."""
        file = self._folder / "server.pem"
        file.write_bytes(issued.fullchain_pem + issued.key_pem)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(file)
        self._context = context

    def stop(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                plain, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._talk, args=(plain,), daemon=True).start()

    def _talk(self, plain: socket.socket) -> None:
        try:
            with self._context.wrap_socket(plain, server_side=True) as tls:
                self.connections += 1
                tls.settimeout(20)
                while request := _whole(tls):
                    self.requests.append(request)
                    reply = self.answer(request)
                    if not reply:
                        return
                    tls.sendall(reply)
                    if self.hang_up or b"Content-Length" not in reply:
                        break
            self.hung_up.set()
        except OSError:
            return


def _whole(tls: ssl.SSLSocket) -> bytes:
    """Read one request with its body, which may come in pieces."""
    request = tls.recv(65536)
    while request and (b"\r\n\r\n" not in request or (b"Content-Length: 1\r" in request and request[-1:] != b"x")):
        request += tls.recv(65536)
    return request


@pytest.fixture
def ca() -> CA:
    """Make an authority that nobody trusts yet."""
    return CA("Wire CA")


@pytest.fixture
def server(ca: CA, tmp_path: Path) -> Iterator[Server]:
    """Serve ``localhost``."""
    made = Server(ca.issue(["localhost"]), tmp_path)
    yield made
    made.stop()


@pytest.fixture
def cafile(ca: CA, tmp_path: Path) -> Path:
    """Write the authority's certificate."""
    path = tmp_path / "ca.pem"
    path.write_bytes(ca.pem)
    return path


@contextmanager
def connected(server: Server, trust: Trust, *, leaf: str = "", **settings: float) -> Iterator[http.Connection]:
    """Connect as a target does."""
    context = trust.contexts(leaf=leaf)(server.address)
    connection = http.Connection(server.address, context, timeout=settings.get("timeout", 5.0), max_reply=100_000)
    yield connection
    connection.close()


def ask(connection: http.Connection) -> bytes:
    """Send one small request and return the reply's body."""
    return connection.request("POST", "/api/", headers={"X-Test": "1"}, body=b"x").body


def test_a_trusted_server_is_asked_over_one_connection(server: Server, cafile: Path) -> None:
    """Several requests share one connection and one handshake."""
    with connected(server, Trust(cafile)) as connection:
        assert [ask(connection) for _ in range(3)] == [b"ok"] * 3
    assert server.connections == 1


def test_a_connection_can_be_opened_before_the_first_request(server: Server, cafile: Path) -> None:
    """What refuses a connection is known before anything is sent, and the request then goes over that connection."""
    with connected(server, Trust(cafile)) as connection:
        connection.connect()
        assert connection._http is not None
        assert select.select([connection._http.sock], [], [], 5)[0], "TLS 1.3's session tickets are there to be read"
        assert server.requests == []
        assert ask(connection) == b"ok"
        connection.connect()
    assert server.connections == 1


def test_an_untrusted_server_gets_nothing(server: Server) -> None:
    """Without its CA the handshake fails, no byte of the request is sent, and the hint names both ways out."""
    with connected(server, Trust()) as connection, pytest.raises(UnreachableError, match="not trusted") as refused:
        ask(connection)
    assert not isinstance(refused.value, ConnectionLostError)
    assert refused.value.hint
    assert "--cafile" in refused.value.hint
    assert "--pin" in refused.value.hint
    assert server.requests == []


def test_a_wrong_host_name_is_refused(ca: CA, cafile: Path, server: Server) -> None:
    """A good certificate for another name is no good."""
    server.serve(ca.issue(["other.example.test"]))
    with connected(server, Trust(cafile)) as connection, pytest.raises(UnreachableError, match="not trusted"):
        ask(connection)
    assert server.requests == []


def test_an_expired_certificate_is_refused_by_ca_and_taken_by_pin(ca: CA, cafile: Path, server: Server) -> None:
    """Replacing an expired certificate is what a pin is for; a CA file does not make it valid."""
    import datetime as dt

    past = dt.datetime.now(dt.timezone.utc) - dt.timedelta(days=30)
    expired = ca.issue(["localhost"], days=1, not_before=past)
    server.serve(expired)
    with connected(server, Trust(cafile)) as connection, pytest.raises(UnreachableError, match="expired"):
        ask(connection)
    with connected(server, Trust(pin=f"sha256:{expired.sha256}")) as connection:
        assert ask(connection) == b"ok"


def test_a_pin_takes_exactly_that_certificate(ca: CA, server: Server) -> None:
    """Another certificate of the same CA for the same name is refused, and nothing is sent."""
    with (
        pytest.raises(UnreachableError, match=r"another certificate than the pinned"),
        connected(server, Trust(pin=ca.issue(["localhost"]).sha256)),
    ):
        pass
    assert server.requests == []


def test_a_pin_holds_for_every_later_connection(ca: CA, server: Server) -> None:
    """A server that changes its certificate after the look at it is not trusted by the old look."""
    first, second = ca.issue(["localhost"]), ca.issue(["localhost"])
    server.serve(first)
    with connected(server, Trust(pin=first.sha256)) as connection:
        assert ask(connection) == b"ok"
        connection.close()
        server.serve(second)
        with pytest.raises(UnreachableError, match="not trusted"):
            ask(connection)


def test_a_pin_does_not_trust_what_the_pinned_certificate_signed(ca: CA, server: Server) -> None:
    """A factory certificate may be a CA: a certificate below it is not the pinned one, and gets no request."""
    from tests.lab.ca import Issued

    factory = Issued(ca.certificate, ca.key, ())
    server.serve(factory)
    with connected(server, Trust(pin=factory.sha256)) as connection:
        assert ask(connection) == b"ok"
        connection.close()
        server.serve(ca.issue(["localhost"]))
        with pytest.raises(UnreachableError, match="another certificate than the pinned"):
            ask(connection)
    assert len(server.requests) == 1


def test_with_a_pin_the_new_leaf_is_as_good(ca: CA, server: Server) -> None:
    """The device may serve what the run has installed before the run is over."""
    first, second = ca.issue(["localhost"]), ca.issue(["localhost"])
    server.serve(first)
    with connected(server, Trust(pin=first.sha256), leaf=second.cert_pem.decode()) as connection:
        assert ask(connection) == b"ok"
        connection.close()
        server.serve(second)
        assert ask(connection) == b"ok"


def test_a_colon_separated_pin_is_read(ca: CA) -> None:
    """Openssl's own form of a fingerprint can be pasted."""
    digits = ca.issue(["x.test"]).sha256
    pasted = "sha256:" + ":".join(digits[i : i + 2] for i in range(0, 64, 2)).upper()
    assert fingerprint(pasted) == digits
    for wrong in ("", "sha256:", "sha1:" + digits, digits[:-1], digits + "0", "g" * 64, "\n" + digits):
        with pytest.raises(UsageError):
            fingerprint(wrong)


@pytest.mark.parametrize(
    "content", [b"", b"garbage", b"-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n"]
)
def test_a_useless_ca_file_is_a_usage_error(tmp_path: Path, content: bytes) -> None:
    """The file is named, and no handshake is tried without it."""
    path = tmp_path / "useless.pem"
    path.write_bytes(content)
    with pytest.raises(UsageError, match=r"useless\.pem"):
        Trust(path).contexts()
    with pytest.raises(UsageError, match=r"missing\.pem"):
        Trust(tmp_path / "missing.pem").contexts()


@pytest.mark.parametrize(
    "reply",
    [
        b"",
        b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort",
        b"HTTP/1.1 200 OK\r\nContent-Length: 200000\r\n\r\n" + b"x" * 200_000,
        b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 200_000,
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"\x00\x01\x02\xff" * 10,
        b"HTTP/1.1 200 OK\r\n" + b"X-A: b\r\n" * 200 + b"\r\n",
        b"HTTP/1.1 abc OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n" + b"x" * 200_000,
    ],
    ids=["closed", "cut", "too long", "endless", "bad chunk", "garbage", "headers", "status", "negative length"],
)
def test_a_broken_reply_is_a_lost_connection(server: Server, cafile: Path, reply: bytes) -> None:
    """Whatever comes in place of a reply: one kind of error, and the next request starts afresh."""
    with connected(server, Trust(cafile), timeout=0.5) as connection:
        server.answer = lambda _: reply
        with pytest.raises((ConnectionLostError, ReplyTooLongError)):
            ask(connection)
        server.answer = lambda _: OK
        assert ask(connection) == b"ok"


def test_a_kept_connection_that_the_host_closed_is_opened_anew(server: Server, cafile: Path) -> None:
    """A device closes idle connections: the next request goes over a new one, once."""
    with connected(server, Trust(cafile)) as connection:
        server.hang_up = True
        assert ask(connection) == b"ok"
        server.hung_up.wait(5)
        assert ask(connection) == b"ok"
    assert (server.connections, len(server.requests)) == (2, 2)


def test_a_silent_server_is_left_in_time(server: Server, cafile: Path) -> None:
    """The timeout holds for the reply as a whole, also when bytes keep dripping."""
    import time

    with connected(server, Trust(cafile), timeout=0.3) as connection:
        stop = threading.Event()
        server.answer = lambda _: b"" * stop.wait(5)
        started = time.monotonic()
        with pytest.raises(ConnectionLostError, match=r"within 0\.3 s"):
            ask(connection)
        assert time.monotonic() - started < 3
        stop.set()


@pytest.mark.parametrize("status", [301, 302, 307])
def test_redirects_and_proxies_are_not_followed(
    server: Server, cafile: Path, monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    """A redirect is a reply like any other; proxy variables are not looked at."""
    for name in ("http_proxy", "https_proxy", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    reply = f"HTTP/1.1 {status} Found\r\nLocation: /elsewhere\r\nContent-Length: 0\r\n\r\n"
    server.answer = lambda _: reply.encode()
    with connected(server, Trust(cafile)) as connection:
        assert connection.request("POST", "/api/", headers={}).status == status
    assert len(server.requests) == 1


def test_nobody_there_is_unreachable(cafile: Path) -> None:
    """A closed port and an unknown name are told apart, and nothing is repeated for them."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    for where, words in ((Address("localhost", port), "refused"), (Address("nobody.invalid", 443), "resolve")):
        connection = http.Connection(where, Trust(cafile).contexts()(where))
        with pytest.raises(UnreachableError, match=words) as failed:
            ask(connection)
        assert not isinstance(failed.value, ConnectionLostError)


def test_plain_http_is_not_tls(cafile: Path) -> None:
    """A port that does not speak TLS is named as such."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        where = Address("localhost", listener.getsockname()[1])

        def talk() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(100)
                connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        thread = threading.Thread(target=talk)
        thread.start()
        with pytest.raises(UnreachableError, match="no TLS"):
            ask(http.Connection(where, Trust(cafile).contexts()(where)))
        thread.join(5)


def test_the_probe_sees_what_is_served_whatever_it_is(ca: CA, server: Server) -> None:
    """Untrusted, expired or for another name: the probe compares the certificate itself."""
    issued = ca.issue(["other.example.test"])
    server.serve(issued)
    assert probe.first(server.address).fingerprint == issued.sha256
    assert probe.serves(server.address, issued.sha256)
    assert not probe.serves(server.address, "0" * 64)


def test_the_probe_never_resumes_a_session(ca: CA) -> None:
    """A resumed session would show the certificate of the first handshake for ever: each look is a whole handshake."""
    issued = ca.issue(["localhost"])
    resumed: list[bool] = []
    seen = threading.Semaphore(0)

    def served(tls: ssl.SSLSocket) -> None:
        resumed.append(bool(tls.session_reused))
        seen.release()

    identity = (issued.fullchain_pem, issued.key_pem)
    listener = Listener("127.0.0.1", 0, lambda: identity, served)
    listener.start()
    try:
        for _ in range(3):
            assert probe.first(Address("127.0.0.1", listener.port)).fingerprint == issued.sha256
            assert seen.acquire(timeout=10)
    finally:
        listener.stop()
    assert resumed == [False] * 3


def test_the_probe_waits_for_the_new_certificate(ca: CA, server: Server) -> None:
    """It looks afresh each time and returns once the new one is there."""
    new = ca.issue(["localhost"])
    threading.Timer(0.3, server.serve, [new]).start()
    probe.wait(server.address, new.sha256, Deadline(10))
    assert probe.first(server.address).fingerprint == new.sha256


def test_the_probe_tells_what_is_served_instead(server: Server) -> None:
    """When time is over the error names the address and the start of the other fingerprint."""
    seen = probe.first(server.address).fingerprint
    with pytest.raises(NotServedError, match=seen[:16]):
        probe.wait(server.address, "0" * 64, Deadline(0.2))


def test_every_address_of_a_name_counts(
    ca: CA, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One address that still serves the old certificate is enough for a no; one that is silent is not."""
    issued = ca.issue(["localhost"])
    server.serve(issued)
    port = server.address.port
    (tmp_path / "second").mkdir()
    found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (ip, port)) for ip in ("127.0.0.1", "127.0.0.2")]
    real = socket.getaddrinfo
    monkeypatch.setattr(
        "certhooks.probe.socket.getaddrinfo",
        lambda host, *a, **k: found if host == "localhost" else real(host, *a, **k),
    )
    assert probe.serves(server.address, issued.sha256)  # nothing listens on 127.0.0.2
    listener = socket.create_server(("127.0.0.2", port))
    other: Optional[Server] = None
    try:
        other = Server.__new__(Server)
        other._folder, other._listener, other.connections, other.requests = tmp_path / "second", listener, 0, []
        other.hang_up, other.hung_up = False, threading.Event()
        other.answer = lambda _: OK
        other.serve(ca.issue(["localhost"]))
        threading.Thread(target=other._accept, daemon=True).start()
        assert not probe.serves(server.address, issued.sha256)
    finally:
        listener.close()


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("fw01.example.com", "fw01.example.com", 443),
        ("FW01.Example.COM.", "fw01.example.com", 443),
        ("fw01:4443", "fw01", 4443),
        ("192.0.2.1", "192.0.2.1", 443),
        ("[2001:db8::1]:8443", "2001:db8::1", 8443),
        ("2001:db8::1", "2001:db8::1", 443),
    ],
)
def test_addresses_as_people_type_them(text: str, host: str, port: int) -> None:
    """Name, name and port, IPv4, IPv6 with and without a port."""
    assert address.parse(text) == Address(host, port)


@pytest.mark.parametrize(
    "text",
    [
        *(
            "",
            " ",
            ":",
            ":443",
            "fw01:",
            "fw01:0",
            "fw01:65536",
            "fw01:x",
            "fw01:-1",
            "fw01:\u0661",
            "-fw01",
            "fw01-.x",
        ),
        *("a..b", "fw 01", "fw01/x", "http://fw01", "fw01'", 'fw"', "fw\n01", "fw01\x00", "a" * 64, "a." * 127 + "aa"),
        *("1.2.3.4.5", "[::1", "[fw01", "[::1]x", "[::1]:", "::g", "*.example.com", "f\u00fc.example.com"),
        "fw01:" + "9" * 5000,
    ],
)
def test_what_is_no_address_ends_in_one_error(text: str) -> None:
    """Exit code 4, and a message of bounded length without a raw control character."""
    with pytest.raises(UnreachableError) as refused:
        address.parse(text)
    assert refused.value.exit_code == 4
    assert str(refused.value).isprintable()
    assert len(str(refused.value)) < 200


@pytest.mark.parametrize("text", ["gp.example.com", "*.example.com", "GP.Example.com"])
def test_common_names(text: str) -> None:
    """A fully qualified name, or a wildcard of one, in lower case."""
    assert address.common_name(text) == text.lower()


@pytest.mark.parametrize(
    "text", ["", "gp", "*", "*.", "gp.example.com.", "a.*.b", "x/y.z", "..", "a'.b", "a" * 300 + ".b"]
)
def test_what_is_no_common_name(text: str) -> None:
    """Exit code 2."""
    with pytest.raises(BadNameError):
        address.common_name(text)
