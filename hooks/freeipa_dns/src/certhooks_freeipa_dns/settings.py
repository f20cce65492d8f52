"""What the hooks are told: one INI file, overridden by the environment, overridden by options.

Every setting has a name in the file (``keytab``), in the environment (``IPA_DNS_KEYTAB``) and, where it is of use
there, an option (``--keytab``). IPA_SERVER, IPA_DOMAIN, IPA_USER and IPA_PASSWORD are an
older dehydrated hook's, and count for dehydrated alone.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Optional

from certhooks import ini, secrets
from certhooks.errors import CredentialsError, UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from certhooks.address import Address

_DERIVED = {"discover", "options", "user_from"}
DEFAULT = Path("/etc/certhooks/ipa_dns.ini")
IPA_CONF = Path("/etc/ipa/default.conf")
SECTIONS = ("ipa", "dns", "dehydrated", "serve")
_SECRET = ("password",)
_KEY = {"keytab", "principal"}
_OLD_NAMES = {"IPA_SERVER": "server", "IPA_DOMAIN": "domain", "IPA_USER": "user", "IPA_PASSWORD": "password"}
_DNS, _HTTPS = 53, 443
_DAY = 86400.0
_MAX_TTL, _MAX_PORT = 2**31 - 1, 65535


@dataclass
class Settings:
    """Everything that can be set; names, defaults and units as in the file."""

    # In the section ipa:
    backend: str = "api"  # api: FreeIPA's API; update: GSS-TSIG dynamic update
    server: str = ""  # FreeIPA servers, blank between them; the first that answers is used
    domain: str = ""  # FreeIPA's own domain, whose SRV records name servers when no server is given
    user: str = ""
    password: Optional[secrets.Secret] = None
    password_file: str = ""
    password_command: str = ""
    principal: str = ""  # whose key is taken from the keytab
    keytab: str = ""  # default /etc/krb5.keytab, the host's own
    ccache: str = ""  # use these tickets instead of a keytab
    cafile: str = ""
    # dns:
    zone: str = ""  # do not search: the record belongs into this zone
    resolver: str = ""  # recursive servers to ask instead of those of /etc/resolv.conf
    nameserver: str = ""  # servers to wait for instead of those that the zone's NS records name
    require: str = "all"  # all, majority or any of the servers' addresses must have the value
    wait: float = 120.0  # seconds; 0: do not wait
    settle: float = 0.0  # seconds to wait after every server has it
    ttl: int = 60  # seconds
    port: int = _DNS  # of every name server that is given or found without one
    # dehydrated:
    install: str = ""  # command that deploy_cert hands the files to
    install_timeout: float = 1800.0  # seconds for it; 0: as long as it takes
    # serve:
    listen: str = "127.0.0.1:8553"
    clients: str = "/etc/certhooks/ipa_dns.clients"

    # Not settings:
    discover: bool = False  # no server was given: those of FreeIPA's SRV records may be used
    options: frozenset[str] = frozenset()  # what was given as an option of the command
    user_from: str = ""  # where ``user`` was set

    def servers(self) -> list[Address]:
        """Return the FreeIPA servers that are given, in order.

        Raises:
            UnreachableError: one is no address.
        """
        from certhooks import address

        return [address.parse(text, _HTTPS) for text in self.server.replace(",", " ").split()]

    def addresses(self, texts: str) -> list[Address]:
        """Return name servers, ``HOST`` or ``HOST:PORT`` with blanks or commas between them."""
        from certhooks import address

        return [address.parse(text, self.port) for text in texts.replace(",", " ").split()]

    def secret(self) -> secrets.Secret:
        """Return the password of ``user``.

        Raises:
            CredentialsError: it cannot be read, or there is none.
        """
        if self.password:
            return self.password
        if self.password_file:
            lines = secrets.read_private(self.password_file).splitlines()
            if not lines or not lines[0]:
                raise CredentialsError(f"{self.password_file} is empty", hint="the password is its first line")
            return secrets.Secret(lines[0])
        if self.password_command:
            return secrets.from_command("password_command", self.password_command)
        raise CredentialsError(
            f"there is no password for {self.user}" + (f" ({self.user_from})" if self.user_from else ""),
            hint="set password_file, or leave user out to use the host's keytab",
        )


def read(
    path: Optional[Path] = None,
    options: Optional[Mapping[str, Any]] = None,
    usual: Optional[Mapping[str, Any]] = None,
    *,
    old_names: bool = False,
) -> Settings:
    """Return the settings of the file, the environment and the options that are not None; ``usual`` ones else.

    With ``old_names`` IPA_SERVER, IPA_DOMAIN, IPA_USER and IPA_PASSWORD count too; the last leaves the environment.

    Without ``path`` the file is $IPA_DNS_CONFIG, the systemd credential ``ipa_dns``, or the default,
    which may be missing.

    Raises:
        UsageError: something in them that we do not know or that is no such value.
        CredentialsError: the file cannot be read, or holds a password that others can read.
    """
    made = Settings(**(usual or {}))
    named = path or os.environ.get("IPA_DNS_CONFIG") or secrets.credential("ipa_dns")
    file = Path(named) if named else DEFAULT
    if named or file.exists():
        written = _from_file(file)
        _one_login(written, str(file))
        for key, text in written.items():
            _set(made, key, text, f"{key} in {file}")
    variables = {f"IPA_DNS_{key.upper()}": key for key in _keys() if key not in _SECRET}
    names = {**(_OLD_NAMES if old_names else {}), **variables}
    named_in = {variable: key for variable, key in names.items() if os.environ.get(variable)}
    if _KEY & set(named_in.values()):
        made.user = made.ccache = ""  # who names a key means it, whatever the file has
    _one_login({key: os.environ[variable] for variable, key in named_in.items()}, "the environment")
    for variable, key in named_in.items():
        # No command that is started from here, such as that of ``install``, inherits a password.
        text = os.environ.pop(variable) if key in _SECRET else os.environ[variable]
        _set(made, key, text, variable)
    given = {key: value for key, value in (options or {}).items() if value is not None}
    if _KEY & set(given):
        made.user = made.ccache = ""
    made.options = frozenset(given)
    for key, value in given.items():
        _set(made, key, str(value), f"--{key.replace('_', '-')}")
    _complete(made)
    return made


def _keys() -> list[str]:
    return [each.name for each in fields(Settings) if each.name not in _DERIVED]


def _from_file(path: Path) -> dict[str, str]:
    found = ini.read(path, dict.fromkeys(SECTIONS, _keys()), secret=_SECRET, example="contrib/examples/ipa_dns.ini")
    return {key: value for settings in found.values() for key, value in settings.items()}


def _one_login(given: Mapping[str, str], where: str) -> None:
    """Refuse what names tickets that are there and a key to get others with: one of them would be ignored."""
    keys = [key for key in sorted(_KEY) if given.get(key, "").strip()]
    if keys and given.get("ccache", "").strip():
        raise UsageError(f"{where} has both ccache and {keys[0]}", hint=f"take one of them out: ccache, or {keys[0]}")


def _set(made: Settings, key: str, text: str, where: str) -> None:
    usual = getattr(Settings, key)
    if key in _SECRET:
        made.password = secrets.Secret(text)
    elif isinstance(usual, float):
        setattr(made, key, _number(text, where, 0, _DAY))
    elif isinstance(usual, int):
        setattr(made, key, int(_number(text, where, 1, _MAX_PORT if key == "port" else _MAX_TTL)))
    else:
        setattr(made, key, text.strip())
    if key == "user":
        made.user_from = where
    allowed = {"backend": ("api", "update"), "require": ("all", "majority", "any")}.get(key)
    if allowed and getattr(made, key) not in allowed:
        raise UsageError(f"{where} is none of {', '.join(allowed)}: {text[:80]!r}")


def _number(text: str, where: str, least: float, most: float) -> float:
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not least <= value <= most:
        raise UsageError(f"{where} is not a number from {least:g} to {most:g}: {text[:80]!r}")
    return value


def _complete(made: Settings) -> None:
    """Take what is missing from the enrolment of this host."""
    from certhooks_freeipa_dns import names

    if made.zone:
        made.zone = names.name(made.zone)
    if made.server:
        return
    import configparser
    from urllib.parse import urlsplit

    parser = configparser.ConfigParser(interpolation=None)
    try:
        parser.read(IPA_CONF, encoding="utf-8")
    except (configparser.Error, UnicodeDecodeError) as e:
        raise UsageError(f"{IPA_CONF} is no INI file: {type(e).__name__}") from None
    known = parser["global"] if parser.has_section("global") else {}
    made.domain = made.domain or known.get("domain", "")
    made.discover = True
    made.server = known.get("server", "") or urlsplit(known.get("xmlrpc_uri", "")).hostname or ""  # which servers have
