"""Who logs in to vCenter: ``/etc/ipa/.vmwrc`` as the bash scripts read it, ``key=BASE64`` or user name and password."""

from __future__ import annotations

import base64
import binascii
import re
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Callable, Optional

from certhooks import secrets
from certhooks.errors import ConnectionLostError, CredentialsError, UnreachableError
from certhooks.secrets import Secret

if TYPE_CHECKING:
    from collections.abc import Iterator

DEFAULT = Path("/etc/ipa/.vmwrc")
_NAMES = ("key", "username", "password", "password_command")
_BASE64 = re.compile(r"[A-Za-z0-9+/]+={0,2}\Z")
_FORM = "write username=USER@DOMAIN and password=PASSWORD, a line each; or key=BASE64 of USER@DOMAIN:PASSWORD"


_MOST, _WITHIN = 3, 180.0  # SSO locks after five in three minutes, and its owner may mistype it too


class Credentials:
    """A user name and a password, which all devices of a run share.

    SSO locks an account after five wrong passwords within three minutes, and several vCenters may share one SSO. So a
    login goes alone, and once a password was refused no other device is asked with it. While services start, the right
    one is refused too: then there are at most three such refusals at a time.

    Args:
        shared: whether there are several devices; ``vmwrc.read`` is told.
    """

    def __init__(self, username: str, password: Secret, *, shared: bool = False) -> None:
        self.username = username
        self.password = password
        self.shared = shared
        self._refused = ""
        self._turn = threading.Lock()
        self._counts = threading.Condition()
        self._asked = 0
        self._refusals: list[float] = []

    def basic(self) -> str:
        """Return the header ``Authorization`` (RFC 7617, in UTF-8)."""
        text = base64.b64encode(f"{self.username}:{self.password.reveal()}".encode()).decode()
        secrets.conceal(text)
        return f"Basic {text}"

    @contextmanager
    def login(self, where: str, time_left: Callable[[], float]) -> Iterator[None]:
        """Hold the turn for a login, which raises CredentialsError when the password was refused.

        Raises:
            CredentialsError: another device has refused it, and this one is not asked.
            UnreachableError: the time is over; also a login whose connection broke, since it must not be repeated.
        """
        with self._turn:
            if self._refused:
                raise CredentialsError(
                    f"{where} was not asked: {self._refused} has refused the password of {self.username}",
                    hint="correct the credentials; -a FILE names others for devices that have their own",
                )
            try:
                with self.trial(where, time_left):
                    yield
            except CredentialsError:
                self._refused = where
                raise
            except ConnectionLostError as e:
                raise UnreachableError(str(e), hint=e.hint) from e

    @contextmanager
    def trial(self, where: str, time_left: Callable[[], float] = lambda: 0.0) -> Iterator[None]:
        """Count a login that may be refused although the password is right, and says nothing of other devices.

        Raises:
            UnreachableError: too many were refused, or are under way, and there is no time left to wait for that.
        """
        with self._counts:
            while self._asked + len(self._recent()) >= _MOST:
                if time_left() <= 0:
                    raise UnreachableError(f"{where} was not asked: too many logins were refused just now")
                self._counts.wait(min(1.0, time_left()))
            self._asked += 1
        refused = False
        try:
            yield
        except CredentialsError:
            refused = True
            raise
        finally:
            with self._counts:
                self._asked -= 1
                self._refusals += [time.monotonic()] * refused
                self._counts.notify_all()

    def _recent(self) -> list[float]:
        self._refusals = [when for when in self._refusals if time.monotonic() - when < _WITHIN]
        return self._refusals


def locate(option: Optional[Path]) -> Path:
    """Return the file that ``-a`` names; without it the systemd credential ``vmwrc``, else ``/etc/ipa/.vmwrc``."""
    return option or secrets.credential("vmwrc") or DEFAULT


def read(path: Path, *, shared: bool = False) -> Credentials:
    """Return the credentials in a file; ``shared``: for several devices.

    Raises:
        CredentialsError: it cannot be read, others can read it, or what is in it is of no use.
    """
    found = _settings(secrets.read_private(path))
    if "key" in found:
        return Credentials(*_from_key(found["key"], path), shared=shared)
    username = found.get("username", "")
    if not username or ":" in username or not username.isprintable():
        raise CredentialsError(f"no key= and no username=, without blanks around the =, in {path}", hint=_FORM)
    if found.get("password"):
        return Credentials(username, Secret(found["password"]), shared=shared)
    if found.get("password_command"):
        printed = secrets.from_command("password_command", found["password_command"])
        return Credentials(username, printed, shared=shared)
    raise CredentialsError(f"no password= in {path}", hint=_FORM)


def _settings(text: str) -> dict[str, str]:
    """Return the first value of each name; ``base64`` wraps a long key, and the lines that follow belong to it."""
    found: dict[str, str] = {}
    last = ""
    for line in (each.rstrip("\r") for each in text.split("\n")):
        name, equals, value = line.partition("=")
        if equals and name in _NAMES:
            last = "" if name in found else name
            found.setdefault(name, value)
        elif last == "key" and _BASE64.match(line):
            found["key"] += line
        else:
            last = ""
    return found


def _from_key(key: str, path: Path) -> tuple[str, Secret]:
    secrets.conceal(key)
    try:
        text = base64.b64decode("".join(key.split()), validate=True).decode().rstrip("\r\n")
    except (binascii.Error, ValueError):
        raise CredentialsError(f"the key= in {path} is not base64 of a text", hint=_FORM) from None
    username, colon, password = text.partition(":")
    if not (username and colon and password):
        raise CredentialsError(f"the key= in {path} is not USER@DOMAIN:PASSWORD in base64", hint=_FORM)
    return username, Secret(password)
