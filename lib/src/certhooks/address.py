"""Names of hosts as people type them: FQDN, FQDN:PORT, an IPv4 address, an IPv6 address in brackets."""

from __future__ import annotations

import ipaddress
import re
from typing import NamedTuple

from certhooks.errors import BadNameError, UnreachableError

_LABEL = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?<!-)\Z")
_MAX_NAME = 253
_MAX_PORT = 65535
HTTPS = 443


class Address(NamedTuple):
    """Where a device or a service answers."""

    host: str
    port: int

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == HTTPS else f"{host}:{self.port}"


def parse(text: str, default_port: int = HTTPS) -> Address:
    """Return the address that ``text`` names.

    Raises:
        UnreachableError: exit code 4, the scripts' "bad FQDN".
    """
    host, port = _split(text)
    try:
        number = int(port) if port.isascii() and port.isdigit() else -1 if port else default_port
    except ValueError:  # more digits than Python converts
        number = -1
    if not 0 < number <= _MAX_PORT:
        raise UnreachableError(f"not a port number in {_shown(text)}", hint="write FQDN or FQDN:PORT")
    if not (is_name(host) or is_ip(host)):
        raise UnreachableError(
            f"not a host name: {_shown(text)}",
            hint="give its fully qualified name, such as fw01.example.com",
        )
    return Address(host.lower().rstrip("."), number)


def is_name(text: str) -> bool:
    """Tell whether the text is a host name: labels of letters, digits and hyphens, with a letter in the last one."""
    name = text.lower()[:-1] if text.endswith(".") else text.lower()
    labels = name.split(".")
    return len(name) <= _MAX_NAME and all(map(_LABEL.match, labels)) and not labels[-1].isdigit()


def is_ip(host: str) -> bool:
    """Tell whether it is an IP address."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def common_name(text: str) -> str:
    """Return the name of a certificate in lower case; a wildcard in the first label is fine.

    Raises:
        BadNameError: it is not a fully qualified name.
    """
    name = text.lower()
    plain = name.removeprefix("*.")
    if "." not in plain.strip(".") or not is_name(plain) or plain.endswith("."):
        raise BadNameError(
            f"not a fully qualified common name: {_shown(text)}", hint="give -c a name such as gp.example.com"
        )
    return name


def _split(text: str) -> tuple[str, str]:
    if text.startswith("["):
        host, bracket, rest = text[1:].partition("]")
        return (host, rest[1:] or "-" * len(rest)) if bracket and rest[:1] in {"", ":"} else ("", "")
    if text.count(":") > 1:
        return text, ""
    host, colon, port = text.partition(":")
    return host, port if not colon else port or "-"


def _shown(text: str) -> str:
    """Return hostile input in a form that is safe in one line of a message."""
    limit = 80
    return repr(text if len(text) <= limit else text[:limit] + "...")
