"""The part of FreeIPA's JSON-RPC API that the DNS hooks use, with a switch for each fault.

For what a real one cannot be made to do at will. Its replies are those of a real 4.12; what it stores goes into a BIND
when there is one.

    with IpaStub({"example.test": {}}) as ipa:
        ipa.faults.codes["dnsrecord_add"] = (2100, "Insufficient access: ...")
"""

from __future__ import annotations

import json
import secrets
import socket
import ssl
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Callable
from urllib.parse import parse_qs

from tests.lab.ca import CA

if TYPE_CHECKING:
    from collections.abc import Iterable

    from typing_extensions import Self

    from tests.lab.acme import NameServer

USER, PASSWORD = "acme", "swordfish & more"
Entry = dict[str, list[str]]
_NAMES = {
    2100: "ACIError", 3009: "ValidationError", 4001: "NotFound", 4026: "AttrValueNotFound", 4201: "MidairCollision",
    4202: "EmptyModlist", 903: "InternalError", 907: "NetworkError", 911: "RefererError", 905: "CommandError",
}  # fmt: skip


@dataclass
class Faults:
    """What goes wrong; everything may be changed while it runs.

    Args:
        codes: error for every call of a method.
        status: HTTP status of every request, with an empty body.
        silent: seconds without an answer, to every request.
        drop_after: this many requests are carried out and then not answered.
        expire: the next requests find their session ended, that many times.
        lose: this many additions are acknowledged and undone, as by another's write at the same moment.
        lose_later: the same, that many seconds after they were acknowledged.
        garbage: sent in place of every answer.
        reason: every login fails, with this X-IPA-Rejection-Reason.
    """

    codes: dict[str, tuple[int, str]] = field(default_factory=dict)
    status: int = 0
    silent: float = 0.0
    drop_after: int = 0
    expire: int = 0
    lose: int = 0
    lose_later: tuple[int, float] = (0, 0.0)
    garbage: bytes | None = None
    reason: str = ""


class IpaStub:
    """One server with zones; ``requests`` and ``methods`` tell what it was asked.

    Args:
        zones: per zone its entries, per entry its attributes.
        dns: what is stored is served there too.
        hidden: zones that the account may not see. denied: that it may not change.
        accept: checks a Negotiate token; None: only passwords let in.
    """

    def __init__(
        self,
        zones: Iterable[str],
        *,
        dns: NameServer | None = None,
        hidden: Iterable[str] = (),
        denied: Iterable[str] = (),
        inactive: Iterable[str] = (),
        forward: Iterable[str] = (),
        address: str = "127.0.0.1",
        names: Iterable[str] = ("localhost",),
        accept: Callable[[str], bool] | None = None,
        ca: CA | None = None,
    ) -> None:
        self.zones: dict[str, dict[str, Entry]] = {zone: {"@": {}} for zone in zones}
        self.hidden, self.denied, self.inactive, self.forward = set(hidden), set(denied), set(inactive), set(forward)
        self.faults = Faults()
        self.requests: list[str] = []
        self.methods: list[str] = []
        self.ca = ca or CA("IPA stub CA")
        self._dns = dns
        self._accept = accept
        self._sessions: set[str] = set()
        self._lock, self._serving = threading.Lock(), threading.Lock()
        self._changes: list[str] = []  # what the name server has not been told yet, as nsupdate takes it
        self._folder = TemporaryDirectory(prefix="ipa-stub-")
        issued = self.ca.issue(list(names))
        pair = Path(self._folder.name, "pair.pem")
        pair.write_bytes(issued.key_pem + issued.fullchain_pem)
        self.cafile = Path(self._folder.name, "ca.pem")
        self.cafile.write_bytes(self.ca.root_pem)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(pair)
        stub = self

        class Handler(_Handler):
            ipa = stub

        self._server = _Server((address, 0), Handler)
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True, do_handshake_on_connect=False)
        self.port = int(self._server.server_address[1])
        self.name = next(iter(names))

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._folder.cleanup()

    @property
    def where(self) -> str:
        """The server as a setting has it."""
        return f"{self.name}:{self.port}"

    def txt(self, name: str) -> set[str]:
        """Return the stored TXT values of a full name."""
        zone = self._zone_of(name)
        return set(self.zones[zone].get(_relative(name, zone), {}).get("txtrecord", []))

    def put(self, name: str, value: str, kind: str = "TXT") -> None:
        """Store a record as somebody else would."""
        zone = self._zone_of(name)
        self.zones[zone].setdefault(_relative(name, zone), {}).setdefault(f"{kind.lower()}record", []).append(value)
        if self._dns:
            self._dns.add(name, kind, _quoted(value, kind))

    def serve(self) -> None:
        """Have the name server serve what has been stored since the last time, in order."""
        with self._serving:
            lines, self._changes = self._changes, []
            if self._dns and lines:
                self._dns.update(*"\nsend\n".join(lines).splitlines())

    def call(self, method: str, arguments: list[Any], options: dict[str, Any]) -> dict[str, Any]:
        """Carry out one command; raise Failed with FreeIPA's code."""
        self.methods.append(method)
        if method in self.faults.codes:
            raise Failed(*self.faults.codes[method])
        if method == "batch":
            return {"count": len(arguments[0]), "results": [self._one_of(item) for item in arguments[0]]}
        zone = str(arguments[0]).rstrip(".")
        if method == "dnsforwardzone_show":
            if zone not in self.forward:
                raise Failed(4001, f"{zone}.: DNS forward zone not found")
            return {"result": {"idnsname": [zone]}, "value": zone, "summary": None}
        if zone not in self.zones or zone in self.hidden | self.forward:
            raise Failed(4001, f"{zone}.: DNS zone not found")
        if method == "dnszone_show":
            active = "FALSE" if zone in self.inactive else "TRUE"
            result = {"idnsname": [{"__dns_name__": f"{zone}."}], "idnszoneactive": [active]}
            return {"result": result, "value": zone, "summary": None}
        with self._lock:
            return self._record(method, zone, str(arguments[1]), options)

    def log_in(self, body: bytes) -> str:
        """Return a new session's cookie; empty for a wrong password."""
        given = {key: values[0] for key, values in parse_qs(body.decode()).items()}
        if self.faults.reason or given != {"user": USER, "password": PASSWORD}:
            return ""
        return self.session()

    def session(self) -> str:
        """Return a new session's cookie."""
        made = f"MagBearerToken={secrets.token_urlsafe(32)}"
        self._sessions.add(made)
        return made

    def let_in(self, cookie: str, authorization: str) -> str | None:
        """Return a cookie to set, empty for none; None when the request is not let in."""
        if self.faults.expire:
            self.faults.expire -= 1
            self._sessions.clear()
            return None
        if cookie.removeprefix("ipa_session=") in self._sessions:
            return ""
        return self.session() if self._accept and authorization and self._accept(authorization) else None

    def _one_of(self, item: dict[str, Any]) -> dict[str, Any]:
        arguments, options = item["params"]
        try:
            return {**self.call(item["method"], arguments, options), "error": None}
        except Failed as e:
            return {"error": e.text, "error_code": e.code, "error_name": _NAMES.get(e.code, "Error"), "error_kw": {}}

    def _record(self, method: str, zone: str, name: str, options: dict[str, Any]) -> dict[str, Any]:
        entries = self.zones[zone]
        full = zone if name == "@" else f"{name}.{zone}"
        if method == "dnsrecord_show":
            if name not in entries:
                raise Failed(4001, f"{name}: DNS resource record not found")
            return {"result": {"idnsname": [{"__dns_name__": name}], **entries[name]}, "value": name, "summary": None}
        if zone in self.denied:
            right = "add" if method == "dnsrecord_add" else "write"
            raise Failed(2100, f"Insufficient access: Insufficient '{right}' privilege to the entry 'idnsname={name}'")
        values = [options["txtrecord"]] if isinstance(options["txtrecord"], str) else list(options["txtrecord"])
        return (
            self._added(entries, name, full, values, options)
            if method == "dnsrecord_add"
            else self._removed(entries, name, full, values)
        )

    def _added(
        self, entries: dict[str, Entry], name: str, full: str, values: list[str], options: dict[str, Any]
    ) -> dict[str, Any]:
        entry = entries.get(name, {})
        if "cnamerecord" in entry:
            raise Failed(3009, "invalid 'cnamerecord': CNAME record is not allowed to coexist with any other record")
        new = [value for value in values if value not in entry.get("txtrecord", [])]
        if not new and "dnsttl" not in options:
            raise Failed(4202, "no modifications to be performed")
        count, seconds = self.faults.lose_later
        if self.faults.lose:
            self.faults.lose -= 1
            return {"result": {}, "value": name, "summary": None}
        entries.setdefault(name, {}).setdefault("txtrecord", []).extend(new)
        if "dnsttl" in options:
            entries[name]["dnsttl"] = [str(options["dnsttl"])]
        ttl = entries[name].get("dnsttl", ["86400"])[0]
        self._changes += [f"update add {full}. {ttl} TXT {_quoted(value)}" for value in new]

        def lose() -> None:
            self._removed(entries, name, full, new)
            self.serve()

        if count:
            self.faults.lose_later = (count - 1, seconds)
            threading.Timer(seconds, lose).start()
        return {"result": {}, "value": name, "summary": None}

    def _removed(self, entries: dict[str, Entry], name: str, full: str, values: list[str]) -> dict[str, Any]:
        if name not in entries:
            raise Failed(4001, f"{name}: DNS resource record not found")
        there = entries[name].get("txtrecord", [])
        for value in values:
            if value not in there:
                raise Failed(4026, f"TXT record does not contain '{value}'")
        for value in values:
            there.remove(value)
            self._changes.append(f"update delete {full}. TXT {_quoted(value)}")
        if not there:
            entries[name].pop("txtrecord", None)
            if not set(entries[name]) - {"dnsttl"} and name != "@":
                del entries[name]
        return {"result": {"failed": []}, "value": [name], "summary": f'Deleted record "{name}"'}

    def _zone_of(self, name: str) -> str:
        return max((zone for zone in self.zones if f".{name}".endswith(f".{zone}")), key=len)


class Failed(Exception):  # noqa: N818  not an error of the lab
    """An error of FreeIPA's, with its code."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code, self.text = code, text


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: clients that break off are what is tested."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    ipa: IpaStub

    def setup(self) -> None:
        self.request.settimeout(30)
        self.request.do_handshake()
        super().setup()

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        faults, ipa = self.ipa.faults, self.ipa
        ipa.requests.append(self.path)
        if faults.silent:
            time.sleep(faults.silent)
        if faults.status:
            self._answer(faults.status)
        elif faults.garbage is not None:
            self._answer(200, faults.garbage)
        elif not self.headers.get("Referer", "").startswith(f"https://{ipa.name}"):
            self._answer(400, b"<html>denied</html>")
        elif self.path == "/ipa/session/login_password":
            cookie = ipa.log_in(body)
            if cookie:
                self._answer(200, b"", cookie=cookie)
            else:
                self._answer(401, b"<html/>", reason=faults.reason or "invalid-password")
        elif self.path == "/ipa/session/json":
            self._json(body)
        else:
            self._answer(404)

    def _json(self, body: bytes) -> None:
        cookie = self.ipa.let_in(self.headers.get("Cookie", ""), self.headers.get("Authorization", ""))
        if cookie is None:
            self._answer(401, b"<html/>")
            return
        given = json.loads(body)
        reply: dict[str, Any] = {"result": None, "error": None, "id": None, "principal": USER, "version": "4.12.4"}
        try:
            reply["result"] = self.ipa.call(given["method"], *given["params"])
        except Failed as e:
            reply["error"] = {"code": e.code, "message": e.text, "name": _NAMES.get(e.code, "Error"), "data": {}}
        self.ipa.serve()
        if self.ipa.faults.drop_after:
            self.ipa.faults.drop_after -= 1
            self.connection.shutdown(socket.SHUT_RDWR)
            self.close_connection = True
            return
        self._answer(200, json.dumps(reply).encode(), cookie=cookie)

    def _answer(self, status: int, body: bytes = b"", *, cookie: str = "", reason: str = "") -> None:
        self.send_response(status)
        if cookie:
            self.send_header("Set-Cookie", f"ipa_session={cookie};path=/ipa;httponly;secure;")
        if reason:
            self.send_header("X-IPA-Rejection-Reason", reason)
        self.send_header("Content-Type", "application/json; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  http.server's name
        """Say nothing."""


def _relative(name: str, zone: str) -> str:
    return "@" if name == zone else name[: -len(zone) - 1]


def _quoted(value: str, kind: str = "TXT") -> str:
    """Return a value as a zone file has it."""
    return f'"{value}"' if kind == "TXT" else value
