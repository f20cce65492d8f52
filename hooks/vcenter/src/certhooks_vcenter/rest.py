"""vCenter's REST as this hook speaks it: ``/api`` of 7.0 and newer, else ``/rest``, over one verified connection.

Paths, bodies and statuses: VMware's OpenAPI documents of 7.0.3 and 8.0.2. The session travels in a header; its cookie
is deprecated (KB 78315).
"""

from __future__ import annotations

import json
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Callable, NamedTuple, Optional

from certhooks import certificate as certs
from certhooks import http, secrets
from certhooks.errors import BundleError, ConnectionLostError, CredentialsError, DeadlineError, Error
from certhooks_vcenter import about, replies
from certhooks_vcenter.replies import RefusedError, UnauthenticatedError

if TYPE_CHECKING:
    import ssl

    from cryptography.x509 import Certificate

    from certhooks.address import Address
    from certhooks_vcenter.vmwrc import Credentials

_SERVICE = "vcenter/certificate-management/vcenter"
_TLS = f"{_SERVICE}/tls"
_ROOTS = f"{_SERVICE}/trusted-root-chains"
_HA_MODE = "vcenter/vcha/cluster/mode"
_HEADER = "vmware-api-session-id"
_SECONDS = 30.0  # for a reply
_PUT_SECONDS = 300.0  # vCenter restarts its services before it answers, or while it does
_NO_SUCH_PATH = {404, 405}


class _Dialect(NamedTuple):
    """Where a dialect begins, where its sessions are, and whether it wraps bodies and results."""

    base: str
    session: str
    wrapped: bool = False


_DIALECTS = (_Dialect("/api", "/api/session"), _Dialect("/rest", "/rest/com/vmware/cis/session", wrapped=True))


class Client(http.Client):
    """One vCenter's certificate management, in one session."""

    def __init__(self, address: Address, context: Callable[[], ssl.SSLContext], credentials: Credentials) -> None:
        super().__init__(address, context)
        self.timeout = _SECONDS
        self._credentials = credentials
        self._dialect = _DIALECTS[0]
        self._session = ""
        self._former: list[str] = []  # sessions that are not used any more, and may have outlived a restart

    @property
    def logged_in(self) -> bool:
        """Whether there is a session, as far as is known."""
        return bool(self._session)

    def connect(self) -> None:
        """Open the connection unless it is open.

        Raises:
            UnreachableError: nothing was sent.
        """
        self.connection.connect()

    def version(self) -> tuple[int, ...]:
        """Return vCenter's version, for which no session is needed; empty where it does not tell."""
        try:
            return about.version(self.connection)
        except Error:
            return ()

    def first_login(self, *, restarting: bool = False) -> None:
        """Open the run's first session here, and find out which dialect is spoken.

        ``restarting``: the right password may be refused for a while; else it is never tried twice.

        Raises:
            CredentialsError: wrong, or another device has refused them already.
            UnreachableError: no answer; also when the connection broke in the middle.
        """
        self.connect()  # a device that is down must hold nobody up
        if self._credentials.shared:
            self._knock()
        turn = self._credentials.trial if restarting else self._credentials.login
        with turn(str(self.address), self.time_left):
            for dialect in _DIALECTS[_DIALECTS.index(self._dialect) :]:
                self._dialect = dialect
                try:
                    self._log_in()
                except RefusedError as e:
                    if dialect is _DIALECTS[-1] or e.kind != "not_found":
                        raise
                else:
                    return

    def _knock(self) -> None:
        """Ask for a session without a password: who does not answer that must not hold up the turn of the others."""
        for dialect in _DIALECTS:
            self._dialect = dialect
            if self.connection.request("POST", dialect.session, headers={}).status not in _NO_SUCH_PATH:
                return

    def login_after_restart(self) -> None:
        """Open a session, where the right password may be refused for a while.

        Raises:
            UnauthenticatedError: refused. UnreachableError: not asked, since that has happened too often.
        """
        with self._credentials.trial(str(self.address)):
            self._log_in()

    def _log_in(self) -> None:
        self._session = ""
        given = {"Authorization": self._credentials.basic()}
        reply = self.connection.request("POST", self._dialect.session, headers=given)
        if reply.status in _NO_SUCH_PATH:
            raise RefusedError(f"{self.address} has no REST of vCenter: {reply.status}", "not_found", hint=_NOT_VCENTER)
        session = replies.value(reply, self.address, "a session", wrapped=self._dialect.wrapped)
        if not isinstance(session, str) or not session.isascii() or not session.isprintable() or not session:
            raise ConnectionLostError(f"{self.address} opened a session without an id")
        secrets.conceal(session)
        self._session = session

    def logout(self) -> None:
        """End the sessions; after a restart there are none any more, and whatever goes wrong does not matter."""
        sessions, self._session, self._former = [self._session, *self._former], "", []
        for session in filter(None, sessions):
            with suppress(Error):
                self.connection.request("DELETE", self._dialect.session, headers={_HEADER: session})

    def machine_certificate(self, *, renew: bool = True) -> Certificate:
        """Return the certificate that the store holds for the machine; ``renew``: log in again for it if need be.

        Raises:
            ConnectionLostError: what came is none.
        """
        found = self._call("GET", _TLS, "reading the machine certificate", renew=renew)
        leaf = next(iter(self._certificates(found.get("cert") if isinstance(found, dict) else None)), None)
        if leaf is None:
            raise ConnectionLostError(f"{self.address} shows no machine certificate")
        return leaf

    def high_availability(self) -> str:
        """Return the mode of vCenter HA (VMware's OpenAPI documents, vcha/cluster/mode); empty where there is none."""
        try:
            found = self._call("GET", _HA_MODE, "reading the mode of vCenter HA")
        except (RefusedError, CredentialsError):  # 400 where it is not set up, 404 before 6.7U1
            return ""
        return replies.harmless(str(found.get("mode") or "")) if isinstance(found, dict) else ""

    def replace(self, cert: str, key: str, root_cert: str) -> None:
        """Replace the machine certificate; PEM.

        Raises:
            RefusedError: not carried out.
            ConnectionLostError, AwayError: whether it was is not known.
        """
        secrets.conceal(key)
        spec = {"cert": cert, "key": key, "root_cert": root_cert}
        self._call("PUT", _TLS, "the machine certificate", spec, seconds=_PUT_SECONDS)

    def root_ids(self) -> list[str]:
        """Return the ids of all trusted roots."""
        found = self._call("GET", _ROOTS, "listing the trusted roots")
        if not isinstance(found, list):
            raise ConnectionLostError(f"{self.address} shows no list of its trusted roots")
        return [str(each["chain"]) for each in found if isinstance(each, dict) and each.get("chain")]

    def root(self, name: str) -> Optional[list[Certificate]]:
        """Return the certificates of a trusted root, without its CRLs and what cannot be read; None when not there."""
        if not name.isalnum():
            return None
        try:
            found = self._call("GET", f"{_ROOTS}/{name}", "reading a trusted root")
        except RefusedError as e:
            if e.kind == "not_found":
                return None
            raise
        chain = found.get("cert_chain") if isinstance(found, dict) else None
        texts = chain.get("cert_chain") if isinstance(chain, dict) else None
        if not isinstance(texts, list):
            raise ConnectionLostError(f"{self.address} shows no certificates for the trusted root {name}")
        return [one for text in texts for one in self._certificates(text)]

    def trust(self, pem: str, name: Optional[str] = None) -> None:
        """Add a trusted root, under another id than its own when ``name`` is given.

        Raises:
            RefusedError: ``already_exists`` when something has that id.
        """
        spec: dict[str, Any] = {"cert_chain": {"cert_chain": [pem]}, **({"chain": name} if name else {})}
        self._call("POST", _ROOTS, "a trusted root", spec)

    def forget(self) -> None:
        """Drop connection and session, for a vCenter that is restarting: neither is of use any more."""
        self.close()
        self._former += filter(None, [self._session])
        self._session = ""

    def _call(
        self, method: str, path: str, what: str, spec: Any = None, *, seconds: float = _SECONDS, renew: bool = True
    ) -> Any:
        """Send a request and return its result; a session that has ended meanwhile is opened again, once."""
        if self.time_left() <= 0:
            raise DeadlineError(f"no time is left for {what}", hint="give it more time with --timeout SECONDS")
        wrapped = self._dialect.wrapped
        body = b"" if spec is None else json.dumps({"spec": spec} if wrapped else spec).encode()
        connection = self.connection
        usual, connection.timeout = connection.timeout, seconds
        headers = {_HEADER: self._session, **({} if spec is None else {"Content-Type": "application/json"})}
        try:
            reply = connection.request(method, f"{self._dialect.base}/{path}", headers=headers, body=body)
        finally:
            connection.timeout = usual
        try:
            return replies.value(reply, self.address, what, wrapped=wrapped)
        except UnauthenticatedError:
            self._former.append(self._session)
            self._session = ""
            if not renew:
                raise
        with self._credentials.login(str(self.address), self.time_left):
            self._log_in()  # the request was not carried out
        return self._call(method, path, what, spec, seconds=seconds, renew=False)

    def _certificates(self, text: Any) -> list[Certificate]:
        try:
            return certs.read(text.encode(), str(self.address)) if isinstance(text, str) else []
        except (BundleError, UnicodeEncodeError):
            return []


_NOT_VCENTER = "is this a vCenter, 6.5 or newer? hosts are esxi_instcert's"
