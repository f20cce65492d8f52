"""vAPI's errors: what an operation refuses, before a dialect of the wire gives it a form."""

from __future__ import annotations

from typing import Any

# vapi-runtime, rest/lib.py; the old dialect answers ``error`` with 400.
STATUS = {
    "already_exists": 400,
    "invalid_argument": 400,
    "invalid_request": 400,
    "not_allowed_in_current_state": 400,
    "unexpected_input": 400,
    "unauthenticated": 401,
    "unauthorized": 403,
    "not_found": 404,
    "operation_not_found": 404,
    "error": 500,
    "internal_server_error": 500,
    "service_unavailable": 503,
}


class Fault(Exception):  # noqa: N818  vAPI's own word for it
    """An operation that failed; ``kind`` is a key of STATUS, ``id`` and ``text`` its one localizable message."""

    def __init__(self, kind: str, id_: str, text: str, *args: str) -> None:
        super().__init__(text)
        self.kind, self.id, self.text, self.args_ = kind, id_, text, list(args)

    @property
    def messages(self) -> list[dict[str, Any]]:
        """The messages as JSON."""
        return [{"args": self.args_, "default_message": self.text, "id": self.id}]


def certificate_error(text: str) -> Fault:
    """Return how certificate management refuses (8.0): the reason in brackets, and again as argument."""
    return Fault("error", "com.vmware.certificatemanagement.error", f"Exception found ({text})", text)


def unauthenticated() -> Fault:
    """Return what a request without a session gets."""
    return Fault(
        "unauthenticated", "com.vmware.vapi.endpoint.method.authentication.required", "Authentication required."
    )


def unauthorized(privilege: str) -> Fault:
    """Return what a session without the privilege gets."""
    return Fault(
        "unauthorized", "com.vmware.vapi.endpoint.method.authorization.denied", f"Not authorized: {privilege}."
    )


def unavailable() -> Fault:
    """Return what comes while the services behind the endpoint start."""
    return Fault("service_unavailable", "com.vmware.vapi.endpoint.cis.ServiceUnavailable", "Service unavailable.")
