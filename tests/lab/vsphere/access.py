"""Users, their privileges and their sessions; SSO locks an account after five failed logins within three minutes."""

from __future__ import annotations

import secrets
import time
from dataclasses import dataclass, field

from tests.lab.vsphere.faults import unauthenticated, unauthorized

READ, MANAGE, ADMINISTER = "System.Read", "CertificateManagement.Manage", "CertificateManagement.Administer"
HOST_CERTIFICATE = "Certificate.Manage"
EVERYTHING = frozenset({READ, MANAGE, ADMINISTER, HOST_CERTIFICATE})
_FAILURES, _WITHIN = 5, 180.0


@dataclass
class User:
    """Somebody who can log in."""

    name: str
    password: str
    privileges: frozenset[str] = EVERYTHING
    failures: list[float] = field(default_factory=list)

    @property
    def locked(self) -> bool:
        """Whether SSO refuses even the right password."""
        recent = [when for when in self.failures if time.monotonic() - when < _WITHIN]
        return len(recent) >= _FAILURES


class Sessions:
    """Who is logged in; ``opened`` and ``failed`` count over the whole life."""

    def __init__(self) -> None:
        self.users: dict[str, User] = {}
        self.open: dict[str, User] = {}
        self.opened = self.failed = 0

    def add(self, name: str, password: str, privileges: frozenset[str] = EVERYTHING) -> User:
        """Let somebody log in."""
        self.users[name] = User(name, password, privileges)
        return self.users[name]

    def login(self, name: str, password: str) -> str:
        """Return a new session's id; a Fault for a wrong password or a locked account."""
        user = self.users.get(name)
        if user is None or user.password != password or user.locked:
            self.failed += 1
            if user is not None:
                user.failures.append(time.monotonic())
            raise unauthenticated()
        self.opened += 1
        session = secrets.token_hex(16)
        self.open[session] = user
        return session

    def user(self, session: str) -> User:
        """Return whose session it is; a Fault when it is none."""
        found = self.open.get(session)
        if found is None:
            raise unauthenticated()
        return found

    def need(self, session: str, privilege: str) -> User:
        """Return whose session it is; a Fault when the user may not do this."""
        user = self.user(session)
        if privilege not in user.privileges:
            raise unauthorized(privilege)
        return user
