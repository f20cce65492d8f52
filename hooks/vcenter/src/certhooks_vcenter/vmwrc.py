"""Who logs in to vCenter: ``/etc/ipa/.vmwrc`` as the bash scripts read it, ``key=BASE64`` or user name and password."""

from __future__ import annotations

import base64
import binascii
import re
import threading
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Optional

from certhooks import secrets
from certhooks.errors import CredentialsError
from certhooks.secrets import Secret

if TYPE_CHECKING:
    from collections.abc import Iterator

DEFAULT = Path("/etc/ipa/.vmwrc")
_NAMES = ("key", "username", "password", "password_command")
_BASE64 = re.compile(r"[A-Za-z0-9+/]+={0,2}\Z")
_FORM = "write username=USER@DOMAIN and password=PASSWORD, a line each; or key=BASE64 of USER@DOMAIN:PASSWORD"


class Credentials:
    """A user name and a password, which all devices of a run share.

    SSO locks an account after five wrong passwords, and several vCenters may share one SSO. So the first login of a run
    goes alone, and once a password was refused no other device is asked with it.
    """

    def __init__(self, username: str, password: Secret) -> None:
        self.username = username
        self.password = password
        self._refused = ""
        self._turn = threading.Lock()

    def basic(self) -> str:
        """Return the header ``Authorization`` (RFC 7617, in UTF-8)."""
        text = base64.b64encode(f"{self.username}:{self.password.reveal()}".encode()).decode()
        secrets.conceal(text)
        return f"Basic {text}"

    @contextmanager
    def first_login(self, where: str) -> Iterator[None]:
        """Hold the turn for a device's first login, which raises CredentialsError when the password was refused.

        Raises:
            CredentialsError: another device has refused it, and this one is not asked.
        """
        with self._turn:
            if self._refused:
                raise CredentialsError(
                    f"{where} was not asked: {self._refused} has refused the password of {self.username}",
                    hint="correct the credentials; -a FILE names others for devices that have their own",
                )
            try:
                yield
            except CredentialsError:
                self._refused = where
                raise


def locate(option: Optional[Path]) -> Path:
    """Return the file that ``-a`` names; without it the systemd credential ``vmwrc``, else ``/etc/ipa/.vmwrc``."""
    return option or secrets.credential("vmwrc") or DEFAULT


def read(path: Path) -> Credentials:
    """Return the credentials in a file.

    Raises:
        CredentialsError: it cannot be read, others can read it, or what is in it is of no use.
    """
    found = _settings(secrets.read_private(path))
    if "key" in found:
        return _from_key(found["key"], path)
    username = found.get("username", "")
    if not username or ":" in username or not username.isprintable():
        raise CredentialsError(f"no key= and no username= in {path}", hint=_FORM)
    if found.get("password"):
        return Credentials(username, Secret(found["password"]))
    if found.get("password_command"):
        return Credentials(username, secrets.from_command("password_command", found["password_command"]))
    raise CredentialsError(f"no password= in {path}", hint=_FORM)


def _settings(text: str) -> dict[str, str]:
    """Return the first value of each name; ``base64`` wraps a long key, and the lines that follow belong to it."""
    found: dict[str, str] = {}
    last = ""
    for line in text.splitlines():
        name, equals, value = line.partition("=")
        if equals and name in _NAMES:
            last = "" if name in found else name
            found.setdefault(name, value)
        elif last == "key" and _BASE64.match(line):
            found["key"] += line
        else:
            last = ""
    return found


def _from_key(key: str, path: Path) -> Credentials:
    secrets.conceal(key)
    try:
        text = base64.b64decode("".join(key.split()), validate=True).decode().rstrip("\r\n")
    except (binascii.Error, ValueError):
        raise CredentialsError(f"the key= in {path} is not base64 of a text", hint=_FORM) from None
    username, colon, password = text.partition(":")
    if not (username and colon and password):
        raise CredentialsError(f"the key= in {path} is not USER@DOMAIN:PASSWORD in base64", hint=_FORM)
    return Credentials(username, Secret(password))
