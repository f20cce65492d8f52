"""Whom we trust: the system's roots, FreeIPA's, a file of the user's, or one pinned certificate. Never everybody."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Optional

from certhooks import probe
from certhooks.errors import UnreachableError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from certhooks.address import Address

IPA_CA = Path("/etc/ipa/ca.crt")
_SHA256_DIGITS = 64
_NO_CHECK_TIME = 0x200000  # OpenSSL's X509_V_FLAG_NO_CHECK_TIME; the ssl module has no name for it


@dataclass(frozen=True)
class Trust:
    """What makes a connection trustworthy.

    Args:
        cafile: PEM file of further trust anchors (``--cafile``).
        pin: ``sha256:HEX`` of the certificate that the device serves now (``--pin``), in place of all anchors.
    """

    cafile: Optional[Path] = None
    pin: Optional[str] = None

    def context(self, also: Iterable[str] = ()) -> ssl.SSLContext:
        """Return one verifying context for all devices; ``also`` are PEMs of the new certificate's own roots.

        Raises:
            UsageError: a CA file cannot be read.
        """
        context = ssl.create_default_context()
        # Python 3.13 asks for RFC 5280's form to the letter, which the factory certificates of devices lack.
        # Chain, dates and name are verified all the same.
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT
        if IPA_CA.is_file():
            _load(context, IPA_CA)
        if self.cafile:
            _load(context, self.cafile)
        for pem in also:
            context.load_verify_locations(cadata=pem)
        return context

    def context_for(self, address: Address, also: Iterable[str] = (), *, timeout: float = 10.0) -> ssl.SSLContext:
        """Return the context for one device: the shared kind, or one that accepts the pinned certificate alone.

        The pinned certificate is fetched by a bare handshake in which nothing is sent, compared, and then made
        the only anchor of the connection that carries data. ``also`` are PEMs that will be served later in the
        run (the new leaf), and are as good as the pin.

        Raises:
            UnreachableError: no answer, or another certificate than the pinned one.
        """
        if self.pin is None:
            return self.context(also)
        wanted = fingerprint(self.pin)
        served = probe.first(address, timeout=timeout)
        also = tuple(also)
        accepted = {wanted, *(probe.fingerprint(ssl.PEM_cert_to_DER_cert(pem)) for pem in also)}
        if served.fingerprint not in accepted:
            raise UnreachableError(
                f"{address} serves another certificate than the pinned one: sha256:{served.fingerprint}",
                hint="compare it with the device's console; if it is right, give it to --pin",
            )
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False  # the certificate itself is known: its names prove nothing more
        context.verify_flags |= ssl.VerifyFlags(ssl.VERIFY_X509_PARTIAL_CHAIN | _NO_CHECK_TIME)
        for pem in (ssl.DER_cert_to_PEM_cert(served.der), *also):
            context.load_verify_locations(cadata=pem)
        return context


def fingerprint(pin: str) -> str:
    """Return the hex digits of ``sha256:HEX`` (colons between bytes are fine).

    Raises:
        UsageError: anything else.
    """
    digits = pin.lower().removeprefix("sha256:").replace(":", "")
    if len(digits) != _SHA256_DIGITS or not set(digits) <= set("0123456789abcdef"):
        raise UsageError(
            f"not a SHA-256 fingerprint: {pin[:80]!r}",
            hint="openssl x509 -noout -fingerprint -sha256 shows it; write sha256:AB:CD:...",
        )
    return digits


def explain(error: ssl.SSLError, address: Address) -> UnreachableError:
    """Return the error that tells why a handshake was not trusted and how to trust the right certificate."""
    if isinstance(error, ssl.SSLCertVerificationError):
        reason = error.verify_message or "verification failed"
        return UnreachableError(
            f"the certificate of {address} is not trusted: {reason.rstrip('.').lower()}",
            hint=f"give its CA with --cafile FILE, the right host name, or after a look at the device's console "
            f"--pin sha256:... (openssl s_client -connect {address.host}:{address.port} </dev/null | "
            "openssl x509 -noout -fingerprint -sha256)",
        )
    return UnreachableError(f"no TLS with {address}: {error.reason or error}", hint="does the port speak https?")


def _load(context: ssl.SSLContext, path: Path) -> None:
    try:
        context.load_verify_locations(cafile=str(path))
    except (OSError, ssl.SSLError) as e:
        what = (
            e.strerror
            if isinstance(e, OSError) and not isinstance(e, ssl.SSLError) and e.strerror
            else "no PEM certificate in it"
        )
        raise UsageError(f"cannot use the CA file {path}: {what}") from e
