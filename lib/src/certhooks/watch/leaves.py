"""Certificates as far as watching needs them; cryptography is imported only where one has to be parsed."""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from datetime import datetime
from typing import TYPE_CHECKING, Optional

from certhooks.errors import Error
from certhooks.watch.model import Leaf

if TYPE_CHECKING:
    from pathlib import Path

    from certhooks.journal import Attempt
    from certhooks.request import Request

_BODY = re.compile(r"-----BEGIN CERTIFICATE-----(.*?)-----END CERTIFICATE-----", re.DOTALL)
_COMMON_NAME = re.compile(r"(?:^|,)CN=((?:\\.|[^,\\])*)")


def of_request(request: Request) -> Optional[Leaf]:
    """Return what certmonger says that it keeps; None until it is issued."""
    body = _BODY.search(request.cert or "")
    if not body:
        return None
    try:
        der = base64.b64decode("".join(body[1].split()), validate=True)
    except (binascii.Error, ValueError):
        return None
    return Leaf(
        hashlib.sha256(der).hexdigest(),
        request.common_name or "",
        _seconds(request.not_before),
        _seconds(request.not_after),
    )


def of_der(der: bytes) -> Optional[Leaf]:
    """Return a certificate that a server sent; None where it is none that can be read."""
    from cryptography import x509

    from certhooks import certificate as certs

    fingerprint = hashlib.sha256(der).hexdigest()
    try:
        parsed = x509.load_der_x509_certificate(der)
        name = certs.common_name(parsed) or next(iter(certs.dns_names(parsed)), "")
        return Leaf(fingerprint, name, certs.not_before(parsed).timestamp(), certs.not_after(parsed).timestamp())
    except (ValueError, OverflowError, OSError, Error):  # whatever a hostile server has written into it
        return Leaf(fingerprint)


def of_file(path: Path) -> Optional[Leaf]:
    """Return the first certificate of a PEM file; None where there is none that can be read."""
    from cryptography.hazmat.primitives.serialization import Encoding

    from certhooks import certificate as certs
    from certhooks import sources

    try:
        found = certs.read(sources.read(path), str(path))
    except Error:
        return None
    return of_der(found[0].public_bytes(Encoding.DER)) if found else None


def of_attempt(attempt: Attempt) -> Optional[Leaf]:
    """Return what an attempt brought, as far as the journal tells; None where it had not come to a certificate."""
    if not attempt.fingerprint:
        return None
    named = _COMMON_NAME.search(attempt.subject)
    try:
        not_after = datetime.fromisoformat(attempt.not_after).timestamp() if attempt.not_after else None
    except (ValueError, OverflowError, OSError):
        not_after = None
    return Leaf(attempt.fingerprint, named[1] if named else "", None, not_after)


def _seconds(when: Optional[datetime]) -> Optional[float]:
    return when.timestamp() if when else None
