"""Who may do what: administrators, their roles, and how a request says who it comes from."""

from __future__ import annotations

import base64
import binascii
import hmac
import secrets
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Optional

if TYPE_CHECKING:
    from collections.abc import Mapping

RIGHTS = frozenset({"config", "op", "commit", "import", "export"})
_FREE = frozenset({"version"})  # every role may ask


@dataclass(frozen=True)
class Role:
    """A set of request types; ``superuser`` may do everything.

    Attributes:
        rights: some of config, op, commit, import, export.
        hidden: beginnings of xpaths and of commands (``request commit-lock``) that are refused with code 16.

    """

    name: str
    rights: frozenset[str] = RIGHTS
    superuser: bool = False
    hidden: tuple[str, ...] = ()

    def may(self, kind: str) -> bool:
        """Tell whether requests of this type are for this role at all."""
        return self.superuser or kind in self.rights or kind in _FREE

    def sees(self, place: str) -> bool:
        """Tell whether an xpath, or a command as words, is open to this role."""
        return not any(place.startswith(start) for start in self.hidden)


SUPERUSER = Role("superuser", superuser=True)


def custom_role(*rights: str, name: str = "certificates", hidden: tuple[str, ...] = ()) -> Role:
    """Return a role that holds these rights of the XML API and no other; all of them when none is named."""
    return Role(name, frozenset(rights) or RIGHTS, hidden=hidden)


def new_key() -> str:
    """Return an API key of the old form: it looks like a real one and opens nothing elsewhere."""
    inner = (
        "-AQ=="
        + base64.b64encode(secrets.token_bytes(20)).decode()
        + base64.b64encode(secrets.token_bytes(16)).decode()
    )
    return base64.b64encode(inner.encode()).decode()


@dataclass
class Admin:
    """One administrator."""

    name: str
    key: str = field(default_factory=new_key, repr=False)
    password: str = field(default="", repr=False)
    role: Role = SUPERUSER


def who(admins: Mapping[str, Admin], headers: Mapping[str, str], params: Mapping[str, str]) -> Optional[Admin]:
    """Return the administrator that the request proves to be, or None.

    The key counts in the header ``X-PAN-KEY``, the query, the form or the multipart body; Basic counts too.
    """
    key = headers.get("X-PAN-KEY") or params.get("key")
    if key:
        return next((a for a in admins.values() if hmac.compare_digest(a.key.encode(), key.encode())), None)
    scheme, _, value = headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        name, _, password = base64.b64decode(value).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        return None
    return by_password(admins, name, password)


def by_password(admins: Mapping[str, Admin], name: str, password: str) -> Optional[Admin]:
    """Return the administrator with this name and password, or None."""
    admin = admins.get(name)
    if admin is None or not admin.password:
        return None
    return admin if hmac.compare_digest(admin.password.encode(), password.encode()) else None
