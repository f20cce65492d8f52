"""Who may ask ``ipa_dns serve`` for which names: an INI file with a section a client, which only its owner can read."""

from __future__ import annotations

import base64
import binascii
import configparser
import hmac
from typing import TYPE_CHECKING, NamedTuple, Optional

from certhooks import secrets
from certhooks.errors import UsageError
from certhooks_freeipa_dns import names

if TYPE_CHECKING:
    from pathlib import Path

_KEYS = {"password", "names"}
_SHORTEST = 12
_STAND_IN = "an unknown user takes as long as a wrong password"


class Client(NamedTuple):
    """A user name, its password, and the domains that it may prove; ``*.DOMAIN`` stands for everything below."""

    user: str
    password: secrets.Secret
    domains: tuple[str, ...]

    def may(self, name: str) -> bool:
        """Tell whether a challenge's name, with or without its prefix, is one of the client's."""
        domain = name.removeprefix(f"{names.PREFIX}.")
        return any(
            domain.endswith(allowed[1:]) if allowed.startswith("*.") else domain == allowed for allowed in self.domains
        )


def read(path: Path) -> dict[str, Client]:
    """Return the clients of a file by their user names.

    Raises:
        CredentialsError: others can read it. UsageError: it is no such file, or a client lacks something.
        BadNameError: a domain that is none.
    """
    parser = configparser.ConfigParser(interpolation=None, default_section="")
    try:
        parser.read_string(secrets.read_private(path), str(path))
    except configparser.Error as e:
        raise UsageError(
            f"{path} is no INI file ({type(e).__name__})", hint="see contrib/examples/ipa_dns.clients"
        ) from None
    clients = {}
    for user in parser.sections():
        section = parser[user]
        if set(section) != _KEYS or ":" in user:
            raise UsageError(f"{path}: [{user}] needs password and names, and no colon in its own")
        if len(section["password"]) < _SHORTEST:
            raise UsageError(f"{path}: the password of [{user}] has fewer than {_SHORTEST} characters")
        domains = tuple(_domain(text) for text in section["names"].replace(",", " ").split())
        clients[user] = Client(user, secrets.Secret(section["password"]), domains)
    if not clients:
        raise UsageError(f"{path} names no client", hint="see contrib/examples/ipa_dns.clients")
    return clients


def authenticated(clients: dict[str, Client], header: str) -> Optional[Client]:
    """Return the client whose user and password an Authorization header has; None where there is none."""
    scheme, _, encoded = header.partition(" ")
    try:
        user, colon, password = base64.b64decode(encoded, validate=True).decode().partition(":")
    except (binascii.Error, ValueError):
        return None
    client = clients.get(user)
    known = client.password.reveal() if client else _STAND_IN
    right = hmac.compare_digest(password.encode(), known.encode())
    return client if right and colon and scheme.lower() == "basic" else None


def _domain(text: str) -> str:
    return f"*.{names.name(text[2:])}" if text.startswith("*.") else names.name(text)
