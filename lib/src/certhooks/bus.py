"""Calls to certmonger over D-Bus: many at once, each within its time, and what goes wrong in words.

jeepney is imported only when a connection is opened.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, NamedTuple, Optional, Union

from certhooks.errors import CertmongerError

if TYPE_CHECKING:
    from collections.abc import Sequence

NAME = "org.fedorahosted.certmonger"
_START = "start it with: systemctl start certmonger"
_HINTS = {
    "org.freedesktop.DBus.Error.ServiceUnknown": _START,
    "org.freedesktop.DBus.Error.NameHasNoOwner": _START,
    "org.freedesktop.DBus.Error.NoReply": "see what holds it up with: journalctl -u certmonger",
    "org.freedesktop.DBus.Error.AccessDenied": "run it as root",
}


class GoneError(CertmongerError):
    """The object that was asked does not exist (any more)."""


class Call(NamedTuple):
    """A method's call."""

    path: Any
    interface: str
    method: str
    signature: Optional[str] = None
    body: tuple[Any, ...] = ()


def connect(timeout: float) -> Any:
    """Return a connection to the system bus (DBUS_SYSTEM_BUS_ADDRESS is honoured), or raise CertmongerError."""
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


def answers(connection: Any, calls: Sequence[Call], timeout: float) -> list[Union[tuple[Any, ...], GoneError]]:
    """Call all before any reply is awaited, and return the replies' bodies in the calls' order.

    A call to an object that is not there has its error in that place; any other error is raised. ``timeout`` in
    seconds holds for each reply.
    """
    from jeepney import DBusAddress, HeaderFields, new_method_call

    places: dict[int, int] = {}
    bodies: dict[int, Union[tuple[Any, ...], GoneError]] = {}
    try:
        for at, call in enumerate(calls):
            address = DBusAddress(call.path, NAME, call.interface)
            serial = next(connection.outgoing_serial)
            places[serial] = at
            message = new_method_call(address, call.method, call.signature, call.body)
            connection.send(message, serial=serial)
        end = time.monotonic() + timeout
        while places:
            reply = connection.receive(timeout=max(0.0, end - time.monotonic()))
            place = places.pop(reply.header.fields.get(HeaderFields.reply_serial), None)
            if place is not None:  # else a signal, or the late answer to what was given up
                bodies[place] = _body(reply)
                end = time.monotonic() + timeout
        return [bodies[at] for at in range(len(calls))]
    except CertmongerError:
        raise
    except TimeoutError:
        raise CertmongerError(
            f"certmonger did not answer within {timeout:g} s",
            hint=_HINTS["org.freedesktop.DBus.Error.NoReply"],
        ) from None
    except OSError as error:
        raise CertmongerError(f"the connection to the system bus broke: {error}", hint=_START) from None
    except Exception as error:  # noqa: BLE001 - jeepney raises whatever a malformed message makes it stumble over
        raise CertmongerError(f"the answer on the system bus is not understood ({type(error).__name__})") from None


def _body(reply: Any) -> Union[tuple[Any, ...], GoneError]:
    """Return what a reply brings; an error is raised, but for that of an object which is not there."""
    from jeepney import DBusErrorResponse
    from jeepney.wrappers import unwrap_msg

    try:
        return tuple(unwrap_msg(reply))
    except DBusErrorResponse as error:
        refused = _refusal(error.name, error.data)
        if isinstance(refused, GoneError):
            return refused
        raise refused from None


def _refusal(name: Any, data: Any) -> CertmongerError:
    """Turn a D-Bus error into ours."""
    name = name if isinstance(name, str) else "an unnamed error"
    said = data[0] if isinstance(data, tuple) and data and isinstance(data[0], str) else name
    said = " ".join(said.split())[:300].rstrip(".")
    if name.rpartition(".")[2] in {"UnknownMethod", "UnknownObject", "UnknownInterface"}:
        return GoneError(f"certmonger does not know that object: {said}")
    gone = {"org.freedesktop.DBus.Error.ServiceUnknown", "org.freedesktop.DBus.Error.NameHasNoOwner"}
    if name in gone or name.startswith("org.freedesktop.DBus.Error.Spawn."):  # the bus could not start it either
        return CertmongerError("certmonger is not running", hint=_START)
    if name == "org.freedesktop.DBus.Error.AccessDenied":
        return CertmongerError("certmonger does not answer this user", hint=_HINTS[name])
    return CertmongerError(f"certmonger: {said}", hint=_HINTS.get(name))
