"""What vCenter's REST answers, in every dialect that its versions and their proxies speak."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, Optional

from certhooks.errors import ConnectionLostError, CredentialsError, Error, UnreachableError
from certhooks.secrets import redact

if TYPE_CHECKING:
    from certhooks.address import Address
    from certhooks.http import Reply

_AWAY = {502, 503, 504}
_UNAUTHENTICATED, _UNAUTHORIZED, _NOT_FOUND = 401, 403, 404
_LONGEST = 300
_PEM = re.compile(r"-----BEGIN [A-Z0-9 ]+-----.*?(?:-----END [A-Z0-9 ]+-----|\Z)", re.DOTALL)
_ITS_WORDS = "these are vCenter's own words: mend what they name, then run the same command again"


class RefusedError(Error):
    """vCenter answered, and its answer is no; ``kind`` is the vAPI's name of the error, in lower case, or empty."""

    exit_code = 12

    def __init__(self, message: str, kind: str = "", *, hint: Optional[str] = _ITS_WORDS) -> None:
        super().__init__(message, hint=hint)
        self.kind = kind


class AwayError(UnreachableError):
    """The web server answers in place of the services behind it: they are starting, or were not reached."""


class UnauthenticatedError(CredentialsError):
    """No session: the password is wrong, or a session has ended, or the services that know it are not up yet."""


def value(reply: Reply, where: Address, what: str, *, wrapped: bool) -> Any:
    """Return the result of a reply; ``wrapped``: in the old dialect it is below ``value``, None where there is none.

    Raises:
        AwayError, UnauthenticatedError, CredentialsError, RefusedError: what the status and the body say.
        ConnectionLostError: a body that is none, so that what became of the request is not known.
    """
    if reply.status not in {200, 201, 204}:
        raise error(reply, where, what)
    if not reply.body:
        return None
    try:
        found = json.loads(reply.body)
        return found["value"] if wrapped else found
    except (ValueError, KeyError, TypeError, RecursionError):
        raise ConnectionLostError(f"{where} answered {what} with what is no JSON of vCenter's") from None


def error(reply: Reply, where: Address, what: str) -> Error:
    """Return the error that a reply is."""
    kind, text = _told(reply)
    if reply.status in _AWAY or kind == "service_unavailable":
        return AwayError(
            f"the services of {where} are not available ({reply.status}: {text})",
            hint="they may be starting: that takes minutes; run the same command again",
        )
    if reply.status == _UNAUTHENTICATED:
        return UnauthenticatedError(
            f"{where} does not accept user name and password",
            hint="correct the credentials file (-a) before trying again: SSO locks an account after five failures",
        )
    if reply.status == _UNAUTHORIZED:
        return CredentialsError(
            f"{where} does not allow {what}: {text}",
            hint="the role needs the privileges System.Read, CertificateManagement.Manage and .Administer",
        )
    if reply.status == _NOT_FOUND:
        kind = kind or "not_found"
    return RefusedError(f"{where} refuses {what}: {text}", kind)


def _told(reply: Reply) -> tuple[str, str]:
    """Return the vAPI's name of an error, and its words, without what they quote of a request.

    Four shapes: 7.0 and newer ``{error_type, messages}``, the old dialect's ``{type, value}``, 6.7's
    ``{localizableMessages}``, and what a proxy says as text or HTML.
    """
    try:
        body = json.loads(reply.body)
        inner = body["value"] if isinstance(body.get("value"), dict) else body
        kind = str(inner.get("error_type") or str(body.get("type") or "").rpartition(".")[2]).lower()
        messages = inner.get("messages") or inner.get("localizableMessages") or []
        texts = [str(each.get("default_message") or each.get("defaultMessage") or "") for each in messages]
        text = "; ".join(filter(None, texts)) or kind or str(body.get("name") or "")
    except (ValueError, AttributeError, TypeError, RecursionError):
        kind, text = "", re.sub(r"<[^>]*>", " ", reply.body[:4096].decode(errors="replace"))
    return kind, harmless(text) or f"HTTP status {reply.status} without a word"


def harmless(text: str) -> str:
    """Return what a device says in one line of bounded length, without secrets and keys that it quotes."""
    text = " ".join(_PEM.sub("***", redact(text)).split()).rstrip(".")
    text = "".join(letter if letter.isprintable() else "?" for letter in text)
    return text if len(text) <= _LONGEST else text[:_LONGEST] + "..."
