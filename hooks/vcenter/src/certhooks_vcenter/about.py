"""What a vCenter or a host tells of itself before a login: SOAP's about, asked by one plain request."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from certhooks.http import Connection

INSTANT = (8, 0, 3)
"""From this version on a certificate is taken up without a restart, and a host takes a key."""
_ASK = (
    b'<Envelope xmlns="http://schemas.xmlsoap.org/soap/envelope/"><Body><RetrieveServiceContent xmlns="urn:vim25">'
    b'<_this type="ServiceInstance">ServiceInstance</_this></RetrieveServiceContent></Body></Envelope>'
)
_BYTES = 65536
_VERSION = re.compile(rb"<version>(\d{1,4}(?:\.\d{1,4}){1,4})</version>")


def version(connection: Connection) -> tuple[int, ...]:
    """Return the version, empty where the answer is not that of vSphere.

    Raises:
        UnreachableError: no answer.
    """
    reply = connection.request("POST", "/sdk", headers={"Content-Type": "text/xml"}, body=_ASK)
    found = _VERSION.search(reply.body[:_BYTES])
    return tuple(map(int, found.group(1).split(b"."))) if found else ()


def parsed(text: str) -> tuple[int, ...]:
    """Return a version that is written as text, empty where it is none."""
    return tuple(map(int, text.split("."))) if re.fullmatch(r"[0-9]{1,4}(\.[0-9]{1,4}){1,4}", text) else ()
