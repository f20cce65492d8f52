"""Whom to tell, how, and from when on: ``/etc/certhooks/notify.conf``."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Optional

from certhooks import address, ini, secrets
from certhooks.errors import UnreachableError, UsageError
from certhooks.watch.model import DAY

if TYPE_CHECKING:
    from collections.abc import Mapping

    from certhooks.address import Address
    from certhooks.watch.channel import Channel

DEFAULT = Path("/etc/certhooks/notify.conf")
KNOWN = {
    "mail": ("to", "from", "server", "tls", "user", "password", "password_command", "cafile"),
    "command": ("command",),
    "notify": ("warning_days", "critical_days", "reminders"),
}
REMINDERS = {"daily": DAY, "weekly": 7 * DAY, "never": 0.0}
_SECRET = ("password",)
_EXAMPLE = "contrib/examples/notify.conf"
_TLS = ("starttls", "tls", "none")
_LOCAL_PART = re.compile(r"(?!-)[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(?:\.[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*\Z")
_MAX_LOCAL_PART = 64
_MAX_PEOPLE = 20
_SMTP, _SMTPS = 25, 465
_MAX_DAYS = 3650.0
_HERE = address.Address("localhost", _SMTP)


@dataclass(frozen=True)
class Settings:
    """What the file says; without one there is nobody to tell.

    Args:
        to: addresses in ASCII. sender: one, empty for root at this host.
        server, tls: see ``mail``. password or password_command: for ``user``.
        command: split into words.
        warning_days, critical_days: before expiry; None for what is usual.
        reminder: seconds between two reminders of what stays critical, 0 for none.
    """

    to: tuple[str, ...] = ()
    sender: str = ""
    server: Address = _HERE
    tls: str = "none"
    user: str = ""
    password: Optional[secrets.Secret] = field(default=None, repr=False)
    password_command: str = ""
    cafile: Optional[Path] = None
    command: tuple[str, ...] = ()
    warning_days: Optional[float] = None
    critical_days: Optional[float] = None
    reminder: float = DAY

    def channels(self) -> list[Channel]:
        """Return the ways to people: one for each address, so that each is tried until it took the message."""
        channels: list[Channel] = []
        if self.to:
            from certhooks.watch.mail import Mail

            login = self._password if self.user else None
            channels += [Mail(to, self.server, self.tls, self.sender, self.user, login, self.cafile) for to in self.to]
        if self.command:
            from certhooks.watch.channel import Command

            channels.append(Command(self.command))
        return channels

    def _password(self) -> secrets.Secret:
        return self.password or secrets.from_command("password_command", self.password_command)


def read(path: Path = DEFAULT) -> Settings:
    """Return what the file says; nobody to tell where there is none.

    Raises:
        UsageError: something in it that we do not know or that is no such value, named with its place.
        CredentialsError: it cannot be read, others may write it, or read the password in it.
    """
    if not path.exists():
        return Settings()
    found = ini.read(path, KNOWN, secret=_SECRET, example=_EXAMPLE)
    mail = _Section(path, "mail", found.get("mail", {}))
    command = _Section(path, "command", found.get("command", {}))
    notify = _Section(path, "notify", found.get("notify", {}))
    server, tls = _server(mail)
    user, password, by_command = _login(mail, server, tls)
    warning, critical = notify.days("warning_days"), notify.days("critical_days")
    if warning is not None and critical is not None and critical > warning:
        raise notify.wrong("critical_days", "more than warning_days: it would come first")
    return Settings(
        to=_people(mail),
        sender=_mailbox(mail, "from", mail.text("from")) if mail.text("from") else "",
        server=server,
        tls=tls,
        user=user,
        password=password,
        password_command=by_command,
        cafile=_cafile(mail),
        command=_command(command),
        warning_days=warning,
        critical_days=critical,
        reminder=REMINDERS[notify.one_of("reminders", tuple(REMINDERS), "daily")],
    )


class _Section:
    """The settings of one section, and errors that say where they are."""

    def __init__(self, path: Path, name: str, settings: Mapping[str, str]) -> None:
        self.there = bool(settings)
        self._path, self._name, self._settings = path, name, settings

    def text(self, key: str) -> str:
        return self._settings.get(key, "").strip()

    def one_of(self, key: str, allowed: tuple[str, ...], usual: str) -> str:
        value = self.text(key) or usual
        if value not in allowed:
            raise self.wrong(key, f"none of {', '.join(allowed)}: {value[:80]!r}")
        return value

    def days(self, key: str) -> Optional[float]:
        text = self.text(key)
        if not text:
            return None
        try:
            value = float(text)
        except ValueError:
            value = float("nan")
        if not 0 < value <= _MAX_DAYS:
            raise self.wrong(key, f"not a number of days, more than 0 and up to {_MAX_DAYS:g}: {text[:80]!r}")
        return value

    def wrong(self, key: str, what: str, hint: str = "") -> UsageError:
        return UsageError(f"{key} in [{self._name}] of {self._path} is {what}", hint=hint or f"see {_EXAMPLE}")


def _server(mail: _Section) -> tuple[Address, str]:
    text = mail.text("server") or "localhost"
    try:
        ascii_text = text if text.isascii() else text.encode("idna").decode("ascii")
        server = address.parse(ascii_text, _SMTPS if mail.text("tls") == "tls" else _SMTP)
    except (UnreachableError, UnicodeError):
        raise mail.wrong("server", f"no HOST or HOST:PORT: {text[:80]!r}") from None
    return server, mail.one_of("tls", _TLS, "none" if _loopback(server) else "starttls")


def _login(mail: _Section, server: Address, tls: str) -> tuple[str, Optional[secrets.Secret], str]:
    user, password, command = mail.text("user"), mail.text("password"), mail.text("password_command")
    if password and command:
        raise mail.wrong("password", "there and password_command too", "take one of them out")
    if bool(user) != bool(password or command):
        missing = "password or password_command" if user else "user"
        raise mail.wrong("user" if user else "password", f"there without {missing}")
    if user and tls == "none" and not _loopback(server):
        raise mail.wrong("tls", "none, and a password would go over the wire as it is", "tls = starttls, or tls = tls")
    if not user.isprintable() or "\0" in password:
        raise mail.wrong("user", "not printable")
    return user, secrets.Secret(password) if password else None, command


def _people(mail: _Section) -> tuple[str, ...]:
    words = mail.text("to").replace(",", " ").split()
    if mail.there and not words:
        raise mail.wrong("to", "missing", "to = root, or to = you@example.com")
    if len(words) > _MAX_PEOPLE:
        raise mail.wrong("to", f"more than {_MAX_PEOPLE} addresses", "name a mailing list")
    return tuple(dict.fromkeys(_mailbox(mail, "to", word) for word in words))


def _mailbox(mail: _Section, key: str, text: str) -> str:
    """Return an address in ASCII; a user of this host gets this host's name."""
    local, at, domain = text.rpartition("@")
    if not at:
        import socket

        from certhooks.watch.mail import ascii_host

        local, domain = text, ascii_host(socket.getfqdn())
    try:
        domain = domain if domain.isascii() else domain.encode("idna").decode("ascii")
    except UnicodeError:
        domain = ""
    if not (_LOCAL_PART.match(local) and len(local) <= _MAX_LOCAL_PART and address.is_name(domain)):
        raise mail.wrong(key, f"no plain mail address: {text[:80]!r}", "write it as root or you@example.com, no name")
    return f"{local}@{domain}"


def _cafile(mail: _Section) -> Optional[Path]:
    text = mail.text("cafile")
    if text and not Path(text).is_absolute():
        raise mail.wrong("cafile", f"no absolute path: {text[:80]!r}")
    return Path(text) if text else None


def _command(section: _Section) -> tuple[str, ...]:
    text = section.text("command")
    try:
        words = tuple(shlex.split(text))
    except ValueError as e:
        raise section.wrong("command", f"not readable: {str(e).lower()}") from None
    if section.there and not words:
        raise section.wrong("command", "empty")
    if words and not Path(words[0]).is_absolute():
        raise section.wrong("command", f"no absolute path: {words[0][:80]!r}", "a timer's PATH is not yours")
    return words


def _loopback(server: Address) -> bool:
    import ipaddress

    try:
        return ipaddress.ip_address(server.host).is_loopback
    except ValueError:
        return server.host == "localhost"
