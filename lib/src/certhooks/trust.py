"""Whom we trust: the system's roots, FreeIPA's, a file of the user's, or one pinned certificate. Never everybody."""

from __future__ import annotations

import ssl
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable, NamedTuple, Optional

from certhooks import probe
from certhooks.errors import MisdirectedError, UnreachableError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from certhooks.address import Address

    Contexts = Callable[[Address], ssl.SSLContext]

IPA_CA = Path("/etc/ipa/ca.crt")
_SHA256_DIGITS = 64
# OpenSSL's X509_V_FLAG_*: the ssl module has a name for the first from Python 3.10 on, for the second never.
_PARTIAL_CHAIN, _NO_CHECK_TIME = 0x80000, 0x200000


class Context(ssl.SSLContext):
    """Verifies by the CA files that are named, and by the system's roots once those do not suffice.

    To read the system's roots takes a tenth of a whole push, and few devices have a certificate from one of them.
    ``only``, where it is not empty, are the fingerprints of the certificates that are accepted at all: a pinned one may
    be a CA, and what it has signed is not what was pinned.
    """

    wide = False
    only: frozenset[str] = frozenset()
    _lock = threading.Lock()  # threads share a context: one of them reads

    def wrap_socket(self, *args: Any, **named: Any) -> ssl.SSLSocket:
        """Shake hands, and refuse what the context is not limited to; so libraries of others are held to it too."""
        sock = super().wrap_socket(*args, **named)
        if self.only and probe.fingerprint(sock.getpeercert(binary_form=True) or b"") not in self.only:
            sock.close()
            refused = ssl.SSLCertVerificationError("certificate verify failed")
            refused.verify_message = "it is another certificate than the pinned one"
            raise refused
        return sock

    def widen(self) -> None:
        """Trust the system's roots too."""
        with self._lock:
            if not self.wide:
                self.load_default_certs()
                self.wide = True


class Trust(NamedTuple):
    """What makes a connection trustworthy.

    Args:
        cafile: PEM file of further trust anchors (``--cafile``).
        pin: ``sha256:HEX`` of the certificate that the device serves now (``--pin``), in place of all anchors.
    """

    cafile: Optional[Path] = None
    pin: Optional[str] = None

    def contexts(
        self,
        roots: Iterable[str] = (),
        leaf: str = "",
        brought: Callable[[Address], Iterable[str]] = lambda _address: (),
    ) -> Callable[[Address], ssl.SSLContext]:
        """Return what gives each device its verifying context: one for all, or with a pin one each.

        The device may serve the new certificate before the run is over, so that the new certificate's own ``roots``
        (PEM) are trusted too, and with a pin the new ``leaf`` (PEM). ``brought`` are fingerprints of what earlier runs
        brought to the device: a pin given once stays good when the device serves that.

        Raises (also the returned function):
            UsageError: a CA file cannot be read.
            UnreachableError: with a pin, no answer or another certificate than the pinned one.
        """
        if self.pin:
            return lambda address: self._pinned(address, leaf, brought(address))
        shared = self._verifying(roots)
        return lambda _address: shared

    def _verifying(self, roots: Iterable[str]) -> ssl.SSLContext:
        # Not ssl's default context: from Python 3.13 on that asks for RFC 5280's form to the letter, which the factory
        # certificates of devices lack. Chain, dates and name are verified all the same.
        context = Context(ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.verify_flags |= ssl.VerifyFlags(_PARTIAL_CHAIN)
        files = [file for file in (IPA_CA if IPA_CA.is_file() else None, self.cafile) if file]
        for file in files:
            _load(context, file)
        for pem in roots:
            context.load_verify_locations(cadata=pem)
        if not files:
            context.widen()
        return context

    def _pinned(self, address: Address, leaf: str, brought: Iterable[str]) -> ssl.SSLContext:
        """Fetch what is served by a bare handshake that sends nothing, compare it, and trust exactly that."""
        served = probe.first(address)
        new = ssl.PEM_cert_to_DER_cert(leaf) if leaf else b""
        if served.der != new and served.fingerprint not in {fingerprint(self.pin or ""), *brought}:
            raise UnreachableError(
                f"{address} serves another certificate than the pinned one: sha256:{served.fingerprint}",
                hint="compare it with the device's console; if it is right, give it to --pin",
            )
        context = Context(ssl.PROTOCOL_TLS_CLIENT)
        context.wide = True  # the pin takes the place of all other anchors
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.check_hostname = False  # the certificate itself is known: its names prove nothing more
        context.verify_flags |= ssl.VerifyFlags(_PARTIAL_CHAIN | _NO_CHECK_TIME)
        for der in filter(None, (served.der, new)):
            context.load_verify_locations(cadata=der)
        context.only = frozenset(probe.fingerprint(der) for der in (served.der, new) if der)
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


def explain(error: ssl.SSLError, address: Address, *, may_pin: bool = True) -> UnreachableError:
    """Return the error that tells why a handshake was not trusted and how to trust the right certificate."""
    if isinstance(error, ssl.SSLCertVerificationError):
        reason = error.verify_message or "verification failed"
        return MisdirectedError(
            f"the certificate of {address} is not trusted: {reason.rstrip('.').lower()}",
            hint=f"give its CA with --cafile FILE, the right host name, or after a look at the device's console "
            f"--pin sha256:... (openssl s_client -connect {address.host}:{address.port} </dev/null | "
            "openssl x509 -noout -fingerprint -sha256)"
            if may_pin
            else "give its CA with --cafile FILE, or the name that the certificate is for",
        )
    return UnreachableError(f"no TLS with {address}: {error.reason or error}", hint="does the port speak https?")


def _load(context: ssl.SSLContext, path: Path) -> None:
    try:
        context.load_verify_locations(cafile=str(path))
    except (OSError, ValueError) as e:
        what = (
            e.strerror
            if isinstance(e, OSError) and not isinstance(e, ssl.SSLError) and e.strerror
            else "no PEM certificate in it"
        )
        raise UsageError(f"cannot use the CA file {path}: {what}") from e
