"""What FreeIPA and its name servers refuse, in this project's kinds of errors."""

from __future__ import annotations

from certhooks.errors import (
    ActivationError,
    BadNameError,
    CredentialsError,
    Error,
    UnreachableError,
    UploadRefusedError,
)

NOT_FOUND, DUPLICATE, VALUE_NOT_FOUND, MIDAIR, NO_CHANGE = 4001, 4002, 4026, 4201, 4202
_DENIED, _INVALID, _REFERER, _VERSION = 2100, 3009, 911, 901
PASSING = (903, 907, 4203, 4204, 4401)  # internal, directory down, database, limits, resolver: another server may do


class RefusedError(UploadRefusedError):
    """FreeIPA or a name server understood the change and refuses it; exit code 12, nothing was changed."""


class NoZoneError(BadNameError):
    """The server shows no such zone: there is none any more, or the account may not see it; exit code 2."""


class PassingError(UnreachableError):
    """The server has a fault of its own just now; exit code 4, another one or a later moment may do."""


def from_code(code: int, message: str, server: str, what: str) -> Error:  # noqa: PLR0911  a table, with texts
    """Return the error for an error code of FreeIPA's API (ipalib/errors.py).

    ``what`` was asked for, such as a name or a zone.
    """
    told = " ".join(message.split())[:300] or "no reason given"
    if code == _DENIED:
        return RefusedError(
            f"{server} does not let this account change {what}: {told}",
            hint="give the account a role with the permission for this zone: ipa_dns setup --print-commands shows how",
        )
    if code == NOT_FOUND and "not configured" in told:
        return RefusedError(f"{server} manages no DNS: {told}", hint="FreeIPA needs its own DNS: ipa-dns-install")
    if code == NOT_FOUND:
        return NoZoneError(
            f"{server} knows no {what}: {told}",
            hint="it is not there, or this account may not see it: ipa dnszone-find as that account shows what it "
            "sees; for values of a zone that is gone: ipa_dns sweep --forget",
        )
    if code == _INVALID:
        return RefusedError(
            f"{server} refuses {what}: {told}",
            hint="an alias takes no other record: the value belongs to where it leads"
            if "CNAME" in told
            else "mend what it says, then run the same command again",
        )
    if code == _REFERER:
        return UnreachableError(
            f"{server} does not call itself so: {told}", hint="give the server's own name, not an alias or an address"
        )
    if code == _VERSION:
        return UnreachableError(f"{server} is older than FreeIPA 4.4: {told}")
    if code in PASSING:
        return PassingError(
            f"{server} has a fault (code {code}): {told}", hint="look at /var/log/httpd/error_log there, then try again"
        )
    return ActivationError(f"{server} failed at {what} (code {code}): {told}")


def rejected(server: str, reason: str, who: str) -> CredentialsError:
    """Return the error for a login that failed; ``reason`` is the header X-IPA-Rejection-Reason, or empty."""
    hints = {
        "password-expired": f"set a new one as {who}: kinit {who}; new users and policies expire passwords",
        "krbprincipal-expired": "an administrator has to renew it: ipa user-mod USER --principal-expiration=...",
        "user-locked": f"ipa user-unlock {who}",
    }
    return CredentialsError(
        f"{server} does not accept {who}: {reason.replace('-', ' ') or 'not authorized'}",
        hint=hints.get(reason, f"check user and password, and that the account is not disabled or locked: kinit {who}"),
    )
