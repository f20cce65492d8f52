"""vCenter's REST in both dialects, as captures show them: ``/api`` since 7.0, ``/rest`` before and beside it."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any, Callable, NamedTuple, Optional

from tests.lab.vsphere.faults import STATUS, Fault, unauthenticated
from tests.lab.vsphere.operations import fields

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.lab.vsphere.vcenter import VCenter

_TLS = "vcenter/certificate-management/vcenter/tls"
_ROOTS = "vcenter/certificate-management/vcenter/trusted-root-chains"
_STRUCTURE = "com.vmware.vcenter.certificate_management"
_SESSION_HEADER = "vmware-api-session-id"


class Reply(NamedTuple):
    """What goes back."""

    status: int
    body: bytes = b""
    content_type: str = "application/json"
    headers: tuple[tuple[str, str], ...] = ()
    pause: float = 0.0  # seconds after each byte


NOT_FOUND = Reply(404, b"<html><body>Not Found</body></html>", "text/html")


class Request(NamedTuple):
    """What came; header names are in lower case."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes


def answer(vcenter: VCenter, request: Request) -> Optional[Reply]:
    """Answer a request below ``/api/`` or ``/rest/``; None for another path."""
    if request.path.startswith("/api/") and vcenter.switches.api:
        return _Api(vcenter, request).answer(request.path[len("/api/") :])
    if request.path.startswith("/rest/") and vcenter.switches.rest:
        return _Rest(vcenter, request).answer(request.path[len("/rest/") :])
    if request.path.startswith("/api/"):  # 6.7 and older: rhttpproxy knows no such path
        return Reply(404, b"", "text/plain")
    return None


class _Dialect:
    """What the two have in common."""

    session_path = ""

    def __init__(self, vcenter: VCenter, request: Request) -> None:
        self.vcenter, self.request = vcenter, request
        self.session = request.headers.get(_SESSION_HEADER) or ""

    def answer(self, path: str) -> Reply:
        try:
            return self._route(path.partition("?")[0])
        except Fault as fault:
            return self.fault(fault)

    def _route(self, path: str) -> Reply:
        do, session = self.vcenter.operations, self.session
        place, _, name = path.rpartition("/")
        routes: dict[tuple[str, str], Callable[[], Reply]] = {
            ("POST", self.session_path): lambda: self.session_created(self._login()),
            ("GET", self.session_path): lambda: self.result(do.session(session)),
            ("DELETE", self.session_path): lambda: self._done(lambda: do.logout(session)),
            ("GET", _TLS): lambda: self.result(do.tls_get(session)),
            ("PUT", _TLS): lambda: self._done(lambda: do.tls_set(session, self._spec())),
            ("GET", _ROOTS): lambda: self.result([{"chain": each} for each in do.chains(session)]),
            ("POST", _ROOTS): lambda: self.created(self._create(self._spec())),
            ("GET", f"{_ROOTS}/"): lambda: self.result({"cert_chain": {"cert_chain": do.chain(session, name)}}),
            ("GET", "vcenter/vcha/cluster/mode"): lambda: self.result(do.high_availability(session)),
            ("DELETE", f"{_ROOTS}/"): lambda: self._done(lambda: do.chain_delete(session, name)),
        }
        route = routes.get((self.request.method, f"{place}/" if place == _ROOTS else path))
        return route() if route else self.unknown(path)

    def _done(self, operation: Callable[[], None]) -> Reply:
        operation()
        return self.done()

    def _spec(self) -> Any:
        self.vcenter.sessions.user(self.session)
        return self.spec()

    def _login(self) -> str:
        kind, _, given = self.request.headers.get("authorization", "").partition(" ")
        try:
            name, colon, password = base64.b64decode(given, validate=True).decode().partition(":")
        except ValueError:
            colon = ""
        if kind != "Basic" or not colon:
            raise unauthenticated()
        return self.vcenter.login(name, password)

    def _create(self, spec: Any) -> str:
        fields(spec, f"{_STRUCTURE}.vcenter.trusted_root_chains.create_spec", need=("cert_chain",), may=("chain",))
        fields(spec["cert_chain"], f"{_STRUCTURE}.x509_cert_chain", need=("cert_chain",))
        return self.vcenter.operations.chain_create(self.session, spec["cert_chain"]["cert_chain"], spec.get("chain"))

    def json(self) -> Any:
        try:
            return json.loads(self.request.body)
        except ValueError:
            raise Fault("invalid_argument", "com.vmware.vapi.rest.unexpectedInput", "Invalid JSON in body.") from None

    def spec(self) -> Any:
        raise NotImplementedError

    def result(self, value: Any) -> Reply:
        raise NotImplementedError

    def session_created(self, session: str) -> Reply:
        raise NotImplementedError

    def created(self, value: Any) -> Reply:
        raise NotImplementedError

    def done(self) -> Reply:
        raise NotImplementedError

    def unknown(self, path: str) -> Reply:
        raise NotImplementedError

    def fault(self, fault: Fault) -> Reply:
        raise NotImplementedError

    def fault_body(self, fault: Fault) -> dict[str, Any]:
        body: dict[str, Any] = {"error_type": fault.kind.upper(), "messages": fault.messages}
        if fault.kind == "unauthenticated" and self.vcenter.switches.challenge:
            body["challenge"] = 'Basic realm="VAPI endpoint",SIGN realm=e91864e2,service="VAPI endpoint"'
        return body


class _Api(_Dialect):
    session_path = "session"

    def spec(self) -> Any:
        return self.json()

    def result(self, value: Any) -> Reply:
        return Reply(200, json.dumps(value).encode())

    def session_created(self, session: str) -> Reply:
        return Reply(201, json.dumps(session).encode(), headers=((_SESSION_HEADER, session),))

    def created(self, value: Any) -> Reply:
        return Reply(201, json.dumps(value).encode())

    def done(self) -> Reply:
        return Reply(204)

    def unknown(self, path: str) -> Reply:  # noqa: ARG002
        return self.fault(Fault("not_found", "com.vmware.vapi.rest.httpNotFound", "Not found."))

    def fault(self, fault: Fault) -> Reply:
        return Reply(STATUS[fault.kind], json.dumps(self.fault_body(fault)).encode())


class _Rest(_Dialect):
    session_path = "com/vmware/cis/session"

    def spec(self) -> Any:
        body = self.json()
        fields(body, "operation-input", need=("spec",))
        return body["spec"]

    def result(self, value: Any) -> Reply:
        return Reply(200, json.dumps({"value": value}).encode())

    def session_created(self, session: str) -> Reply:
        cookie = f"{_SESSION_HEADER}={session};Path=/rest;Secure;HttpOnly"
        expires = ("Expires", "Thu, 01 Jan 1970 00:00:00 GMT")
        return Reply(200, json.dumps({"value": session}).encode(), headers=(expires, ("Set-Cookie", cookie)))

    def created(self, value: Any) -> Reply:
        return self.result(value)

    def done(self) -> Reply:
        return Reply(200)

    def unknown(self, path: str) -> Reply:
        text = f"Unable to find operations for URL: /{path}."
        return self.fault(Fault("not_found", "com.vmware.vapi.rest.operationsForUrlNotFound", text, f"/{path}"))

    def fault(self, fault: Fault) -> Reply:
        body = self.fault_body(fault)
        if fault.kind == "unauthenticated" and self.vcenter.switches.old_401:
            body = {
                "messages": [
                    {
                        "args": [],
                        "default_message": "This method requires authentication.",
                        "id": "vapi.method.authentication.required",
                    }
                ]
            }
        status = 400 if fault.kind == "error" else STATUS[fault.kind]
        return Reply(status, json.dumps({"type": f"com.vmware.vapi.std.errors.{fault.kind}", "value": body}).encode())
