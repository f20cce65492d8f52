"""certmonger over D-Bus: which requests there are, how they stand, waiting for them, asking for more.

Protocol: bus name org.fedorahosted.certmonger on the system bus (DBUS_SYSTEM_BUS_ADDRESS is honoured), observed with
certmonger 0.79.17. jeepney is imported only when a connection is opened.
"""

from __future__ import annotations

import os
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Callable, NamedTuple, Optional, Union

from certhooks import getcert
from certhooks.advice import advice
from certhooks.deadline import growing
from certhooks.errors import CertmongerError
from certhooks.postsave import quote, split
from certhooks.request import Request, value_of

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType

    from typing_extensions import Self

    from certhooks.deadline import Deadline

__all__ = ["Certmonger", "Request", "advice", "quote", "split"]

_NAME = "org.fedorahosted.certmonger"
_ROOT = "/org/fedorahosted/certmonger"
_TIMEOUT = 10.0  # seconds a call; certmonger answers in milliseconds, and between two saves of others in less than 1 s
_AT_ONCE = 32  # questions that wait for their answers; the bus lets a connection have 128
_PROPERTIES = "org.freedesktop.DBus.Properties"
_START = "start it with: systemctl start certmonger"
_HINTS = {
    "org.freedesktop.DBus.Error.ServiceUnknown": _START,
    "org.freedesktop.DBus.Error.NameHasNoOwner": _START,
    "org.freedesktop.DBus.Error.NoReply": "see what holds it up with: journalctl -u certmonger",
    "org.freedesktop.DBus.Error.AccessDenied": "run it as root",
}


class _GoneError(CertmongerError):
    """The object that was asked does not exist (any more)."""


class _Call(NamedTuple):
    """A method's call."""

    path: Any
    interface: str
    method: str
    signature: Optional[str] = None
    body: tuple[Any, ...] = ()


class Certmonger:
    """A connection to certmonger: open it with ``Certmonger.open()``, as a context manager.

    Every call raises CertmongerError when certmonger does not answer in time or not in a way that is understood.
    """

    def __init__(self, connection: Any, timeout: float = _TIMEOUT) -> None:
        self._connection = connection
        self._timeout = timeout
        self._cas: dict[str, Optional[str]] = {}

    @classmethod
    def open(cls, timeout: float = _TIMEOUT) -> Certmonger:
        """Connect, and see that certmonger is there; ``timeout`` in seconds holds for connecting and for each call."""
        opened = cls(_connect(timeout), timeout)
        try:
            opened._call(_ROOT, _NAME, "get_requests")
        except BaseException:
            opened.close()
            raise
        return opened

    def close(self) -> None:
        """End the connection; may be called twice."""
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: Optional[type[BaseException]],
        error: Optional[BaseException],
        trace: Optional[TracebackType],
    ) -> None:
        self.close()

    def requests(self) -> list[Request]:
        """Return all requests, in certmonger's order."""
        paths = self._call(_ROOT, _NAME, "get_requests")
        if len(paths) != 1 or not isinstance(paths[0], list):
            raise CertmongerError("certmonger's list of requests is not understood")
        found = []
        for at in range(0, len(paths[0]), _AT_ONCE):
            some = paths[0][at : at + _AT_ONCE]
            for path, answer in zip(some, self._answers(list(map(_properties_of, some)))):
                if not isinstance(answer, _GoneError):  # removed since the list was made
                    found.append(self._request(path, answer))
        return found

    def by_nickname(self, nickname: str) -> Optional[Request]:
        """Return the request called ``nickname``, if there is one."""
        reply = self._call(_ROOT, _NAME, "find_request_by_nickname", "s", (nickname,))
        if not reply:  # an unknown nickname is answered with an empty body
            return None
        try:
            return self._get(reply[0])
        except _GoneError:
            return None

    def by_cert_file(self, path: str) -> Optional[Request]:
        """Return the request that keeps its certificate in ``path`` (compared as real paths)."""
        real = os.path.realpath(path)
        fits = [one for one in self.requests() if one.cert_file and os.path.realpath(one.cert_file) == real]
        return _only(fits, f"the file {path}")

    def by_common_name(self, common_name: str) -> Optional[Request]:
        """Return the request for that CN; CertmongerError when there are several."""
        wanted = common_name.lower()
        fits = [one for one in self.requests() if (one.common_name or "").lower() == wanted]
        return _only(fits, f"the name {common_name}")

    def ca_helper(self, name: str) -> str:
        """Return the command line of the helper of a CA of certmonger's; ``postsave.split`` reads it.

        Raises:
            CertmongerError: there is no such CA, or it has no helper.
        """
        interface = f"{_NAME}.ca"
        for path in (self._call(_ROOT, _NAME, "get_known_cas") or ([],))[0]:
            if self._call(path, interface, "get_nickname") != (name,):
                continue
            found = self._call(path, _PROPERTIES, "Get", "ss", (interface, "external-helper"))
            helper = found[0][1] if found and isinstance(found[0], tuple) else ""
            if isinstance(helper, str) and helper:
                return helper
            raise CertmongerError(f"the CA {name} of certmonger has no helper that could be asked by itself")
        raise CertmongerError(
            f"certmonger does not know a CA called {name[:80]!r}",
            hint="see the CAs that it knows with: getcert list-cas",
        )

    def refresh(self, request: Request) -> Request:
        """Return how ``request`` stands now, also after a restart of certmonger."""
        with suppress(_GoneError):
            now = self._get(request.path)
            if now.nickname == request.nickname:
                return now
        found = self.by_nickname(request.nickname)
        if found is None:
            raise CertmongerError(
                f"certmonger does not track {request.nickname} any more", hint="see what it tracks with: getcert list"
            )
        return found

    def add_request(
        self,
        *,
        cert_file: str,
        key_file: str,
        ca: str = "IPA",
        nickname: Optional[str] = None,
        **settings: Any,
    ) -> Request:
        """Have certmonger request a certificate and track it; do not wait. ``settings``: see ``getcert.options``."""
        self._call(_ROOT, _NAME, "get_requests")  # no bus, no getcert: see there
        named = ["-I", nickname] if nickname else []
        where = ["-c", ca, "-f", str(cert_file), "-k", str(key_file), *named]
        getcert.run(["request", *where, *getcert.options(**settings)], timeout=self._timeout)
        added = self.by_nickname(nickname) if nickname else self.by_cert_file(cert_file)
        if added is None:
            raise CertmongerError(f"certmonger took the request for {cert_file} but does not show it")
        return added

    def resubmit(self, request: Request, *, ca: Optional[str] = None, **settings: Any) -> Request:
        """Have a new certificate issued for the same key; ``settings`` (see ``getcert.options``) are changed before."""
        if settings or ca:
            self._call(_ROOT, _NAME, "get_requests")
            chosen = ["-c", ca] if ca else []
            command = ["resubmit", "-i", request.nickname, *chosen, *getcert.options(**settings)]
            getcert.run(command, timeout=self._timeout)
        elif self._call(request.path, f"{_NAME}.request", "resubmit") != (True,):
            raise CertmongerError(f"certmonger does not resubmit {request.nickname}")
        return self.refresh(request)

    def modify(
        self,
        request: Request,
        *,
        post_save: Optional[str] = None,
        common_name: Optional[str] = None,
        dns_names: Optional[Sequence[str]] = None,
        principal: Optional[str] = None,
        profile: Optional[str] = None,
    ) -> Request:
        """Change what is stored, for the next renewal; nothing is issued or run now. The principal needs its realm."""
        if principal is not None and "@" not in principal:
            raise CertmongerError(f"the principal {principal!a} lacks its realm", hint="write SERVICE/NAME@REALM")
        changes: dict[str, tuple[str, Any]] = {}
        if post_save is not None:
            changes["cert-postsave-command"] = ("s", post_save)
        if common_name is not None:
            changes["template-subject"] = ("s", f"CN={common_name}")
        if dns_names is not None:
            changes["template-hostname"] = ("as", list(dns_names))
        if principal is not None:
            changes["template-principal"] = ("as", [principal])
        if profile is not None:
            changes["template-profile"] = ("s", profile)
        reply = self._call(request.path, f"{_NAME}.request", "modify", "a{sv}", (changes,))
        if reply[:1] != (True,):
            raise CertmongerError(f"certmonger does not change {request.nickname}")
        return self.refresh(request)

    def wait(
        self, request: Request, deadline: Deadline, tell: Callable[[str], object], *, monitoring: bool = False
    ) -> Request:
        """Wait until ``request`` is settled or in trouble and return it; DeadlineError when that takes too long.

        ``tell`` gets a line at each change of state. With ``monitoring``, wait for the post-save command too (never
        from within that command). A refused renewal is settled: see ``Request.check``.
        """
        told, usual = None, self._timeout
        try:
            for pause in growing(0.05, 1.0):
                self._timeout = min(usual, max(deadline.remaining(), 0.1))
                request = self.refresh(request)
                if request.describe() != told:
                    told = request.describe()
                    tell(told)
                if request.failed or (request.settled and (request.monitoring or not monitoring)):
                    break
                deadline.pause(pause, f"certmonger's work on {request.nickname} ({told})")
        finally:
            self._timeout = usual
        return request

    def _get(self, path: Any) -> Request:
        return self._request(path, self._call(*_properties_of(path)))

    def _request(self, path: Any, reply: tuple[Any, ...]) -> Request:
        properties = reply[0] if reply else None
        return Request.from_properties(path, properties, ca=self._ca(properties))

    def _ca(self, properties: Any) -> Optional[str]:
        """Return the nickname of a request's CA; before 0.79.20 its path has the right end, but a wrong beginning."""
        given = value_of(properties, "ca")
        end = given.rpartition("/")[2] if isinstance(given, str) else ""
        if not (end.isascii() and end.isalnum()):
            return None
        path = f"{_ROOT}/cas/{end}"
        if path not in self._cas:
            try:
                reply = self._call(path, f"{_NAME}.ca", "get_nickname")
            except _GoneError:
                reply = ()
            self._cas[path] = reply[0] if reply and isinstance(reply[0], str) else None
        return self._cas[path]

    def _call(
        self, path: Any, interface: str, method: str, signature: Optional[str] = None, body: tuple[Any, ...] = ()
    ) -> tuple[Any, ...]:
        """Call a method and return the reply's body."""
        [answer] = self._answers([_Call(path, interface, method, signature, body)])
        if isinstance(answer, _GoneError):
            raise answer
        return answer

    def _answers(self, calls: Sequence[_Call]) -> list[Union[tuple[Any, ...], _GoneError]]:
        """Call all before any reply is awaited, and return the replies' bodies in the calls' order.

        A call to an object that is not there has its error in that place; any other error is raised.
        """
        from jeepney import DBusAddress, HeaderFields, new_method_call

        places: dict[int, int] = {}
        answers: dict[int, Union[tuple[Any, ...], _GoneError]] = {}
        try:
            for at, call in enumerate(calls):
                address = DBusAddress(call.path, _NAME, call.interface)
                serial = next(self._connection.outgoing_serial)
                places[serial] = at
                message = new_method_call(address, call.method, call.signature, call.body)
                self._connection.send(message, serial=serial)
            end = time.monotonic() + self._timeout
            while places:
                reply = self._connection.receive(timeout=max(0.0, end - time.monotonic()))
                at_last = places.pop(reply.header.fields.get(HeaderFields.reply_serial), None)
                if at_last is not None:  # else a signal, or the late answer to what was given up
                    answers[at_last] = _body(reply)
                    end = time.monotonic() + self._timeout
            return [answers[at] for at in range(len(calls))]
        except CertmongerError:
            raise
        except TimeoutError:
            raise CertmongerError(
                f"certmonger did not answer within {self._timeout:g} s",
                hint=_HINTS["org.freedesktop.DBus.Error.NoReply"],
            ) from None
        except OSError as error:
            raise CertmongerError(f"the connection to the system bus broke: {error}", hint=_START) from None
        except Exception as error:  # noqa: BLE001 - jeepney raises whatever a malformed message makes it stumble over
            raise CertmongerError(f"the answer on the system bus is not understood ({type(error).__name__})") from None


def _properties_of(path: Any) -> _Call:
    return _Call(path, _PROPERTIES, "GetAll", "s", (f"{_NAME}.request",))


def _body(reply: Any) -> Union[tuple[Any, ...], _GoneError]:
    """Return what a reply brings; an error is raised, but for that of an object which is not there."""
    from jeepney import DBusErrorResponse
    from jeepney.wrappers import unwrap_msg

    try:
        return tuple(unwrap_msg(reply))
    except DBusErrorResponse as error:
        refused = _refusal(error.name, error.data)
        if isinstance(refused, _GoneError):
            return refused
        raise refused from None


def _connect(timeout: float) -> Any:
    from jeepney.bus import get_bus
    from jeepney.io.blocking import DBusConnection, prep_socket

    class Bounded(DBusConnection):  # type: ignore[misc]  # jeepney is untyped
        """A connection whose greeting cannot wait for ever either."""

        def receive(self, *, timeout: Optional[float] = None) -> Any:
            return super().receive(timeout=limit if timeout is None else timeout)

    limit = timeout
    try:
        connected = prep_socket(get_bus("SYSTEM"), timeout=timeout)
        try:
            return Bounded(connected)
        except BaseException:
            connected.close()
            raise
    except (FileNotFoundError, ConnectionRefusedError):
        raise CertmongerError("there is no system bus here, so certmonger cannot be asked", hint=_START) from None
    except TimeoutError:
        raise CertmongerError(f"the system bus did not answer within {timeout:g} s") from None
    except PermissionError:
        raise CertmongerError("the system bus refuses us", hint="run it as root") from None
    except Exception as error:  # noqa: BLE001 - an odd address or greeting makes jeepney raise anything
        raise CertmongerError(
            f"cannot use the system bus: {error}", hint="see DBUS_SYSTEM_BUS_ADDRESS in the environment"
        ) from None


def _refusal(name: Any, data: Any) -> CertmongerError:
    """Turn a D-Bus error into ours."""
    name = name if isinstance(name, str) else "an unnamed error"
    said = data[0] if isinstance(data, tuple) and data and isinstance(data[0], str) else name
    said = " ".join(said.split())[:300].rstrip(".")
    if name.rpartition(".")[2] in {"UnknownMethod", "UnknownObject", "UnknownInterface"}:
        return _GoneError(f"certmonger does not know that object: {said}")
    if name in {"org.freedesktop.DBus.Error.ServiceUnknown", "org.freedesktop.DBus.Error.NameHasNoOwner"}:
        return CertmongerError("certmonger is not running", hint=_START)
    return CertmongerError(f"certmonger: {said}", hint=_HINTS.get(name))


def _only(found: Sequence[Request], what: str) -> Optional[Request]:
    if len(found) > 1:
        names = ", ".join(f"{one.nickname} ({one.cert_file})" for one in found)
        raise CertmongerError(
            f"certmonger tracks {what} more than once: {names}", hint="end one with: getcert stop-tracking -i ID"
        )
    return found[0] if found else None
