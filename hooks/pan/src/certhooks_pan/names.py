"""Which names PAN-OS takes: checked before anything is sent, and safe inside an XPath and an XML document.

Lengths: 63 on a firewall, 31 on Panorama, even for what goes on to a firewall (Keyfactor's rules, and
the device's own message ``can be at most 31 characters``). A certificate name begins
neither with ``*`` nor with ``_``; dots work through the API.
"""

from __future__ import annotations

import re

from certhooks.errors import BadNameError

FIREWALL, PANORAMA = 63, 31
_CERTIFICATE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*\Z")
_OBJECT = re.compile(r"[A-Za-z0-9_][A-Za-z0-9 ._-]*\Z")
_SHOWN = 60


def certificate(name: str, limit: int = FIREWALL) -> str:
    """Return the name if a certificate can have it.

    Raises:
        BadNameError: it cannot.
    """
    if not _CERTIFICATE.match(name):
        raise BadNameError(
            f"not a certificate name that PAN-OS takes: {_shown(name)}",
            hint="letters, digits, dots, hyphens and underscores, the first a letter or digit; give another with -n",
        )
    return _short_enough(name, limit, "certificate")


def thing(name: str, kind: str, limit: int = FIREWALL) -> str:
    """Return the name if a profile, template, stack or vsys can have it; blanks and dots are legal.

    Raises:
        BadNameError: it cannot.
    """
    if not _OBJECT.match(name) or name != name.strip():
        raise BadNameError(
            f"not a {kind} name that PAN-OS takes: {_shown(name)}",
            hint="letters, digits, blanks, dots, hyphens and underscores",
        )
    return _short_enough(name, limit, kind)


def ca(common_name: str, fingerprint: str, limit: int) -> str:
    """Return a name for a CA certificate: readable, and the same for the same certificate everywhere."""
    digits = fingerprint[:8]
    readable = re.sub(r"[^A-Za-z0-9.-]+", "-", common_name).strip("-.") or "CA"
    return f"{readable[: limit - len(digits) - 1]}_{digits}"


def _short_enough(name: str, limit: int, kind: str) -> str:
    if len(name) > limit:
        raise BadNameError(
            f"the {kind} name {_shown(name)} has {len(name)} characters, {limit} are allowed",
            hint="give a shorter one with -n (-Y adds five characters)" if kind == "certificate" else None,
        )
    return name


def _shown(name: str) -> str:
    return repr(name if len(name) <= _SHOWN else name[:_SHOWN] + "...")
