"""FreeIPA's JSON-RPC API over python-freeipa: one server, one verified connection, one login, many calls a request.

python-freeipa's transport is replaced by this project's (deadlines, bounded replies, no proxies, no redirects, no
.netrc), and its failures are told by their codes: it calls a denied change a bad login, for instance.
"""

from __future__ import annotations

import io
from http.cookies import CookieError, SimpleCookie
from typing import TYPE_CHECKING, Any, Callable, NamedTuple, Optional

import requests
from python_freeipa import ClientMeta
from python_freeipa import exceptions as theirs
from requests.adapters import BaseAdapter
from requests.structures import CaseInsensitiveDict

from certhooks.errors import CredentialsError, Error, UnreachableError
from certhooks.http import Connection
from certhooks_freeipa_dns import errors, kerberos

if TYPE_CHECKING:
    import ssl
    from collections.abc import Sequence

    from certhooks.address import Address
    from certhooks_freeipa_dns.settings import Settings

_SECONDS, _SECONDS_A_CALL = 20.0, 0.5  # for one request, and more for each call in it
_COOKIE = "ipa_session"
_UNAUTHORIZED, _SERVER_FAULT = 401, 500
_BAD_REQUEST = 400


class Call(NamedTuple):
    """One command of the API: ``subject`` is what it is about, for messages."""

    method: str
    arguments: tuple[str, ...]
    options: dict[str, Any]
    subject: str

    def packed(self) -> dict[str, Any]:
        """Return it as ``batch`` takes it."""
        return {"method": self.method, "params": [list(self.arguments), self.options]}


class Answer(NamedTuple):
    """What became of a call: the entry that it is about, or the code and text of its error."""

    entry: dict[str, Any]
    code: int = 0
    message: str = ""


class Api:
    """One FreeIPA server.

    Args:
        address: the server by its own name.
        context: verifies its certificate.
        time_left: seconds that remain of the run.
        creds: gets Kerberos credentials when they are needed; None to log in with user and password.
    """

    def __init__(
        self,
        address: Address,
        context: ssl.SSLContext,
        settings: Settings,
        time_left: Callable[[], float],
        creds: Optional[Callable[[], Any]],
    ) -> None:
        self.address = address
        self._settings = settings
        self._creds = creds
        self._transport = _Transport(
            Connection(address, context, timeout=_SECONDS, time_left=time_left, kind="FreeIPA server", may_pin=False)
        )
        self._client = _Client(str(address), self._transport)

    def batch(self, calls: Sequence[Call]) -> list[Answer]:
        """Carry out calls in their order, in one request, and return an answer each.

        Raises:
            UnreachableError: nothing was sent. ConnectionLostError: what was done is not known.
            PassingError: a fault of the server. CredentialsError: it does not let us in.
        """
        self._transport.connection.timeout = _SECONDS + _SECONDS_A_CALL * len(calls)
        packed = [call.packed() for call in calls]
        result = self._authorized(lambda: self._client.batch(a_methods=packed))
        try:
            answers = [_answer(each) for each in result["results"]]
        except (TypeError, KeyError, ValueError, AttributeError) as e:
            raise self._nonsense(e) from e
        if len(answers) != len(calls):
            raise self._nonsense(ValueError(f"{len(answers)} answers to {len(calls)} calls"))
        return answers

    def close(self) -> None:
        """Close the connection; the session ends by itself, as nobody has its cookie."""
        self._transport.connection.close()

    def _authorized(self, call: Callable[[], Any]) -> Any:
        """Log in where that is needed, once more where a session has ended."""
        fresh = not self._transport.cookie
        if fresh:
            self._log_in()
        try:
            return self._told(call)
        except _NotLetInError:
            if fresh:
                raise
        self._log_in()
        return self._told(call)

    def _log_in(self) -> None:
        self._transport.cookie = ""
        if self._creds:
            self._transport.authorization = kerberos.negotiate(self.address.host, self._creds())
        else:
            password = self._settings.secret().reveal()
            self._told(lambda: self._client.login(self._settings.user, password))
            if not self._transport.cookie:
                raise self._nonsense(ValueError("a login without a session"))

    def _told(self, call: Callable[[], Any]) -> Any:
        """Turn python-freeipa's exceptions into ours.

        It gives 401 no code of its own, and every other HTTP status its number.
        """
        server = str(self.address)
        try:
            return call()
        except Error:
            raise
        except theirs.FreeIPAError as e:
            code = getattr(e, "code", 0) or 0
            status = self._transport.status
            if status == _UNAUTHORIZED:
                raise _NotLetInError.of(server, self._transport.reason, self._who()) from e
            if status >= _SERVER_FAULT:
                raise errors.PassingError(
                    f"{server} has a fault: HTTP status {status}", hint="look at httpd, pki-tomcatd and dirsrv there"
                ) from e
            if status >= _BAD_REQUEST:
                raise UnreachableError(
                    f"{server} does not take the request: HTTP status {status}",
                    hint="give the server's own name: FreeIPA refuses aliases and addresses",
                ) from e
            raise errors.from_code(int(code), str(e), server, "the request") from e
        except (requests.RequestException, ValueError, TypeError, KeyError, AttributeError, RecursionError) as e:
            raise self._nonsense(e) from e

    def _who(self) -> str:
        return self._settings.user if not self._creds else self._settings.principal or "this Kerberos principal"

    def _nonsense(self, error: Exception) -> UnreachableError:
        return UnreachableError(
            f"{self.address} does not answer as FreeIPA does ({type(error).__name__})",
            hint="is this a FreeIPA server? curl -s https://SERVER/ipa/config/ca.crt shows its CA",
        )


class _NotLetInError(CredentialsError):
    """HTTP status 401."""

    @classmethod
    def of(cls, server: str, reason: str, who: str) -> _NotLetInError:
        error = errors.rejected(server, reason, who)
        return cls(str(error), hint=error.hint)


class _Client(ClientMeta):  # type: ignore[misc]  # untyped
    """python-freeipa's client, for a server that is known, over our transport."""

    def __init__(self, host: str, transport: _Transport) -> None:
        super().__init__(host=host, dns_discovery=False)
        self._current_host = host  # set by a login alone, which Kerberos does not need
        self._session.trust_env = False
        self._session.mount("https://", transport)


class _Transport(BaseAdapter):
    """Sends requests' requests over our own connection, and keeps the session's cookie."""

    def __init__(self, connection: Connection) -> None:
        super().__init__()
        self.connection = connection
        self.cookie = ""
        self.authorization = ""  # for the next request alone
        self.status = 0
        self.reason = ""

    def send(self, request: Any, *_args: Any, **_named: Any) -> Any:
        headers = {**request.headers, "Accept-Encoding": "identity"}  # a bound on what we read bounds what we get
        if self.cookie:
            headers["Cookie"] = f"{_COOKIE}={self.cookie}"
        elif self.authorization:
            headers["Authorization"] = self.authorization
        self.authorization = ""
        self.status, self.reason = 0, ""
        body = request.body or b""
        reply = self.connection.request(
            request.method,
            request.path_url,
            headers=headers,
            body=body.encode() if isinstance(body, str) else body,
        )
        self.status, self.reason = reply.status, reply.headers.get("x-ipa-rejection-reason", "")[:80]
        self._keep(reply.headers.get("set-cookie", ""))
        made = requests.Response()
        made.status_code, made.request, made.url = reply.status, request, request.url
        made.headers = CaseInsensitiveDict(
            {k: v for k, v in reply.headers.items() if k not in {"location", "set-cookie"}}
        )
        made.encoding = "utf-8"
        made.raw = io.BytesIO(reply.body)
        made._content = reply.body  # noqa: SLF001  requests has no other way to make a response
        return made

    def close(self) -> None:
        self.connection.close()

    def _keep(self, header: str) -> None:
        try:
            jar = SimpleCookie(header)
        except CookieError:
            return
        if _COOKIE in jar:
            self.cookie = jar[_COOKIE].coded_value


def _answer(item: dict[str, Any]) -> Answer:
    if item.get("error") is not None:
        return Answer({}, int(item.get("error_code") or 0) or 1, str(item["error"]))
    result = item.get("result")
    return Answer(result if isinstance(result, dict) else {})
