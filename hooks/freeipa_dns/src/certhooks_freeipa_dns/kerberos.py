"""Kerberos tickets for one run: from a keytab into this process's memory, or from a cache that is named."""

from __future__ import annotations

import base64
import itertools
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from certhooks.errors import CredentialsError, Error, UnreachableError

if TYPE_CHECKING:
    from certhooks_freeipa_dns.settings import Settings

KEYTAB = Path("/etc/krb5.keytab")
_SPNEGO = "1.3.6.1.5.5.2"
_AWAY = ("contact any kdc", "cannot find kdc", "cannot resolve", "connection refused")
_STRANGER = "not found in kerberos database"
_IDLE = ("generic error", "service is not available")  # a KDC without its directory
_numbers = itertools.count(1)


def installed() -> bool:
    """Tell whether the gssapi module is there."""
    from importlib.util import find_spec

    return find_spec("gssapi") is not None


def keytab(settings: Settings) -> Path:
    """Return the keytab to use.

    Raises:
        CredentialsError: it cannot be read.
    """
    path = Path(settings.keytab) if settings.keytab else KEYTAB
    if not os.access(path, os.R_OK):
        raise CredentialsError(
            f"cannot read the keytab {path}",
            hint="run as root, or name one that this user can read (keytab, --keytab); ipa-getkeytab makes it",
        )
    return path


def credentials(settings: Settings) -> Any:
    """Return GSSAPI credentials; nothing is left behind, and nobody's ticket cache is touched.

    Raises:
        CredentialsError: no gssapi, no key, or the KDC does not take it. UnreachableError: no KDC.
    """
    if not installed():
        raise CredentialsError(
            "Kerberos needs the Python module gssapi, which is not installed",
            hint="pip install 'certhooks-freeipa-dns[kerberos]' (needs a compiler and the Kerberos headers); else "
            "set user and password_file, or backend = update, which then uses nsupdate -g",
        )
    import gssapi
    from gssapi.raw import GSSError

    store: dict[str | bytes, str | bytes] = {"ccache": f"MEMORY:certhooks-{os.getpid()}-{next(_numbers)}"}
    if settings.ccache:
        store = {"ccache": settings.ccache}
    else:
        path = keytab(settings)
        store["client_keytab"] = f"FILE:{path}"
    try:
        name = gssapi.Name(settings.principal, gssapi.NameType.kerberos_principal) if settings.principal else None
        made = gssapi.Credentials(name=name, usage="initiate", store=store)
        _ = made.lifetime  # an empty cache is noticed only now
    except GSSError as e:
        error = explain(e, "no Kerberos ticket")
        if not settings.ccache and "credentials cache" in str(
            error
        ):  # all that GSSAPI tells of a keytab without the key
            who = settings.principal or "any principal"
            raise CredentialsError(
                f"no Kerberos ticket: {path} has no usable key of {who}", hint=f"klist -k {path} shows what is in it"
            ) from e
        raise error from e
    return made


def negotiate(host: str, creds: Any) -> str:
    """Return the header Authorization that lets a request in at once, without a login before it.

    Raises:
        CredentialsError: there is no ticket for the server. UnreachableError: no KDC, or it knows no such server.
    """
    import gssapi
    from gssapi.raw import GSSError

    try:
        context = gssapi.SecurityContext(
            name=gssapi.Name(f"HTTP@{host}", gssapi.NameType.hostbased_service),
            creds=creds,
            mech=gssapi.OID.from_int_seq(_SPNEGO),
            usage="initiate",
        )
        token = context.step()
    except GSSError as e:
        error = explain(e, f"no Kerberos ticket for HTTP/{host}")
        if _STRANGER in str(error).lower():  # not we: who has credentials has been found there
            error = UnreachableError(
                str(error),
                hint=f"{host} is no FreeIPA server (any more): check server= and /etc/ipa/default.conf",
            )
        raise error from e
    return f"Negotiate {base64.b64encode(token or b'').decode()}"


def explain(error: Any, what: str) -> Error:
    """Return the error for a GSSAPI failure, with the reason that Kerberos gives."""
    try:
        told = "; ".join(error.get_all_statuses(error.min_code, is_maj=False))
    except Exception:  # noqa: BLE001  a status that the library cannot show must not hide the failure
        told = str(error)
    told = " ".join(told.split()).rstrip(".")
    if any(text in told.lower() for text in _AWAY):
        return UnreachableError(f"{what}: {told}", hint="is the KDC up, and is /etc/krb5.conf right?")
    if any(text in told.lower() for text in _IDLE):
        return UnreachableError(
            f"{what}: {told}", hint="has the KDC its directory? ipactl status there; then try again"
        )
    return CredentialsError(
        f"{what}: {told}",
        hint="kinit -k -t KEYTAB PRINCIPAL tries the same; ipa-getkeytab fetches a new key; is the clock right?",
    )
