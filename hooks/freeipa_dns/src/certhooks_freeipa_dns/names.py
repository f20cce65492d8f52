"""Names and values of dns-01 challenges, checked before anything is asked or sent (RFC 8555 section 8.4)."""

from __future__ import annotations

import re

from certhooks.errors import BadNameError

PREFIX = "_acme-challenge"
_LABEL = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?\Z")
# A challenge's value is a digest in base64url. What else is let through needs no quoting in FreeIPA, which reads TXT
# data as a zone file does: blanks, commas, quotes and semicolons would mean something there.
_VALUE = re.compile(r"[A-Za-z0-9_=+/.-]{1,255}\Z")
_KEY_AUTHORIZATION = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\Z")
_DIGEST = re.compile(r"[A-Za-z0-9_-]{43}\Z")
_MAX_NAME = 253
_SHOWN = 80


def name(text: str) -> str:
    """Return a full name in lower case and A-labels, without a final dot.

    Raises:
        BadNameError: no DNS name of at least two labels.
    """
    plain = text.removesuffix(".")
    if not plain.isascii():
        plain = _ascii(plain)
    plain = plain.lower()
    labels = plain.split(".")
    if len(plain) > _MAX_NAME or len(labels) == 1 or not all(map(_LABEL.match, labels)):
        raise BadNameError(
            f"not a full DNS name: {shown(text)}", hint="give a name such as _acme-challenge.www.example.com"
        )
    return plain


def challenge(domain: str) -> str:
    """Return the name that answers for a domain; a wildcard's is that of the name without the asterisk.

    Raises:
        BadNameError: no domain name, or one that is too long to have such a name.
    """
    return name(f"{PREFIX}.{name(domain.removeprefix('*.'))}")


def record(text: str) -> str:
    """Return the name for what a person types: a domain gets the prefix, a name that has it stays.

    Raises:
        BadNameError: neither.
    """
    return name(text) if text.lower().startswith(f"{PREFIX}.") else challenge(text)


def value(text: str, *, exact: bool = False) -> str:
    """Return the value unchanged; ``exact`` lets nothing through but a digest.

    Raises:
        BadNameError: it has characters that no challenge's value has, or is too long for one TXT string.
    """
    if not (_DIGEST if exact else _VALUE).match(text):
        raise BadNameError(
            f"not the value of a dns-01 challenge: {shown(text)}",
            hint="it is 43 letters, digits, hyphens and underscores: the digest of the key authorization in base64url",
        )
    return text


def digest(key_authorization: str) -> str:
    """Return the value that proves a key authorization (token, dot, thumbprint of the account's key).

    Raises:
        BadNameError: it is none; it is not shown, as it proves who holds the account.
    """
    import base64
    import hashlib

    if not _KEY_AUTHORIZATION.match(key_authorization):
        raise BadNameError(
            "not a key authorization", hint="it is a token, a dot and a thumbprint (RFC 8555 section 8.1)"
        )
    hashed = hashlib.sha256(key_authorization.encode()).digest()
    return base64.urlsafe_b64encode(hashed).rstrip(b"=").decode()


def suffixes(full: str) -> list[str]:
    """Return the name and what is above it, the longest first, the root left out."""
    labels = full.split(".")
    return [".".join(labels[at:]) for at in range(len(labels))]


def within(full: str, zone: str) -> bool:
    """Tell whether a name is a zone's apex or below it, by whole labels."""
    return full == zone or full.endswith(f".{zone}")


def relative(full: str, zone: str) -> str:
    """Return a name as FreeIPA has it in a zone; ``@`` for the apex."""
    return "@" if full == zone else full[: -len(zone) - 1]


def shown(text: str) -> str:
    """Return hostile input in a form that is safe in one line of a message."""
    return ascii(text if len(text) <= _SHOWN else text[:_SHOWN] + "...")


def _ascii(text: str) -> str:
    import idna

    try:
        return idna.encode(text, uts46=True).decode()
    except (idna.IDNAError, UnicodeError) as e:
        raise BadNameError(f"not a domain name: {shown(text)}: {e}") from e
