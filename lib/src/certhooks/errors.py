"""Every failure that a command can tell its user: one root, one exit code a kind, one line, one hint.

The numbers 1 to 11 are those of the bash scripts that these commands replace, so that what watches them keeps working.
"""

from __future__ import annotations

from typing import ClassVar, Optional


class Error(Exception):
    """Something went wrong that the user can understand; ``str()`` is one line without a secret.

    Args:
        message: what happened, lower case, no full stop.
        hint: what to type or to look at next.
    """

    exit_code: ClassVar[int] = 70

    def __init__(self, message: str, *, hint: Optional[str] = None) -> None:
        super().__init__(message)
        self.hint = hint


class UsageError(Error):
    """The command line or a configuration file does not make sense."""

    exit_code = 1


class BadNameError(Error):
    """A certificate, profile, template or vsys name that the device would refuse."""

    exit_code = 2


class UnreachableError(Error):
    """The host does not answer, its name is not valid, or its TLS cannot be trusted."""

    exit_code = 4


class MisdirectedError(UnreachableError):
    """The name does not resolve, or the certificate is not trusted: to wait does not help."""


class ConnectionLostError(UnreachableError):
    """The connection broke in the middle: whether the request was carried out is not known.

    ``deploy()`` repeats the stage it happened in; every stage may be repeated.
    """

    def __init__(
        self, message: str, *, hint: Optional[str] = "run the same command again; it goes on from where it was"
    ) -> None:
        super().__init__(message, hint=hint)


class ReplyTooLongError(UnreachableError):
    """A reply is longer than we read; it would be so again."""


class CredentialsError(Error):
    """No usable credentials, or the device does not accept them."""

    exit_code = 5


class KeyTypeError(Error):
    """The key's type or size does not suit the target."""

    exit_code = 6


class BundleError(Error):
    """The files, the pair of key and certificate, or the chain are not usable."""

    exit_code = 10


class CertmongerError(Error):
    """certmonger cannot be asked, does not track the certificate, or is in a state that needs a person."""

    exit_code = 11


class UploadRefusedError(Error):
    """The device refused the material; what it serves has not changed."""

    exit_code = 12


class ActivationError(Error):
    """The commit (or what the device calls it) failed."""

    exit_code = 13


class NotServedError(Error):
    """The device said yes, but another certificate is served."""

    exit_code = 14


class RolledBackError(Error):
    """It failed after the change was active, and what was there before has been put back."""

    exit_code = 15


class DeadlineError(Error):
    """The time given with ``--timeout`` is over."""

    exit_code = 16


class BusyError(Error):
    """Another run holds the target."""

    exit_code = 17


class StateError(Error):
    """Our own state folder cannot be used; exit code 70, nothing was changed on the target."""
