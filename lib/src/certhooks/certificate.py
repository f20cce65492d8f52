"""Reading X.509 certificates the same way on every cryptography from 3.4.8 on."""

from __future__ import annotations

import ipaddress
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any, NamedTuple, Optional

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives import serialization as ser
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID, SignatureAlgorithmOID

from certhooks import keys, pem
from certhooks.errors import BundleError

if TYPE_CHECKING:
    from collections.abc import Iterable

UNREADABLE = (
    ValueError,
    KeyError,  # cryptography before 42 meets a string type that it does not know
    TypeError,  # a string type that does not suit its attribute
    UnsupportedAlgorithm,
    x509.InvalidVersion,
    x509.DuplicateExtension,
    x509.UnsupportedGeneralNameType,
)
_WEAK_HASHES = {"md5", "sha1"}
_ANY_USAGE = x509.ObjectIdentifier("2.5.29.37.0")
_DEEPEST = 10
"""No chain is longer; a file made to waste time ends here."""


class Path(NamedTuple):
    """The way from a leaf to its roots."""

    chain: tuple[x509.Certificate, ...]
    roots: tuple[x509.Certificate, ...]
    superfluous: tuple[x509.Certificate, ...]


def read(data: bytes, source: str) -> list[x509.Certificate]:
    """Return all certificates in PEM, or the one in DER, in the order of the file; ``source`` names it in errors.

    Raises:
        BundleError: too large, cut off, or a certificate that cannot be read.
    """
    pem.limit(data, source)
    if pem.is_der(data):
        return [_load(data, source)]
    return [_load(block.der(source), source) for block in pem.split(data, source) if block.is_certificate]


def common_name(certificate: x509.Certificate) -> Optional[str]:
    """Return the most specific CN of the subject, if there is one."""
    names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(names[-1].value) if names else None


def label(certificate: x509.Certificate) -> str:
    """Name a certificate in one line for people: CN, else subject, else first name, always printable."""
    text = common_name(certificate) or certificate.subject.rfc4514_string() or next(iter(dns_names(certificate)), "?")
    return printable(text)


def printable(text: str) -> str:
    """Make text from a certificate fit for one line of a log or a terminal."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)


def dns_names(certificate: x509.Certificate) -> tuple[str, ...]:
    """Return the DNS names of the subject alternative name."""
    names = _alternative_names(certificate)
    return tuple(names.get_values_for_type(x509.DNSName)) if names else ()


def ip_addresses(certificate: x509.Certificate) -> tuple[str, ...]:
    """Return the IP addresses of the subject alternative name, as text."""
    names = _alternative_names(certificate)
    return tuple(str(each) for each in names.get_values_for_type(x509.IPAddress)) if names else ()


def covers(certificate: x509.Certificate, name: str) -> bool:
    """Whether a client that connects to ``name`` (host name or IP address) accepts the certificate (RFC 9525).

    A wildcard stands for exactly one label, the first. The CN counts only where there is no alternative name at all.
    """
    try:
        address = str(ipaddress.ip_address(name))
    except ValueError:
        wanted = _ascii(name)
    else:
        return address in ip_addresses(certificate)
    dns = dns_names(certificate)
    if not dns and not ip_addresses(certificate):
        dns = tuple(filter(None, [common_name(certificate)]))
    have = {_ascii(each) for each in dns}
    _, dot, parent = wanted.partition(".")
    return wanted in have or (bool(dot) and f"*.{parent}" in have)


def not_before(certificate: x509.Certificate) -> datetime:
    """Return the start of validity, aware, UTC."""
    return _utc(certificate, "not_valid_before")


def not_after(certificate: x509.Certificate) -> datetime:
    """Return the end of validity, aware, UTC."""
    return _utc(certificate, "not_valid_after")


def spki(certificate: x509.Certificate) -> bytes:
    """Return the public key in DER, for comparison; empty when cryptography does not know its kind."""
    try:
        public = certificate.public_key()
    except (UnsupportedAlgorithm, ValueError):
        return b""
    return public.public_bytes(ser.Encoding.DER, ser.PublicFormat.SubjectPublicKeyInfo)


def to_pem(certificate: x509.Certificate) -> str:
    """Write the certificate in PEM."""
    return certificate.public_bytes(ser.Encoding.PEM).decode("ascii")


def describe(leaf: x509.Certificate, chain: Iterable[x509.Certificate]) -> dict[str, Any]:
    """Return what logs and ``--json`` may show of a certificate: plain values."""
    return {
        "common_name": common_name(leaf),
        "names": [*dns_names(leaf), *ip_addresses(leaf)],
        "subject": leaf.subject.rfc4514_string(),
        "fingerprint": leaf.fingerprint(hashes.SHA256()).hex(),
        "serial": f"{leaf.serial_number:x}",
        "issuer": leaf.issuer.rfc4514_string(),
        "not_before": not_before(leaf).isoformat(),
        "not_after": not_after(leaf).isoformat(),
        "chain": [each.subject.rfc4514_string() for each in chain],
    }


def check_dates(leaf: x509.Certificate, now: datetime) -> None:
    """Return when the certificate is valid at a moment (aware).

    Raises:
        BundleError: expired, or not valid yet.
    """
    if now > not_after(leaf):
        raise BundleError(
            f"{label(leaf)} expired on {not_after(leaf):%Y-%m-%d %H:%M} UTC",
            hint="renew it first (getcert resubmit -f FILE, or the ACME client); else check this host's clock",
        )
    if now < not_before(leaf):
        raise BundleError(
            f"{label(leaf)} is not valid before {not_before(leaf):%Y-%m-%d %H:%M} UTC", hint="check this host's clock"
        )


def check_hashes(certificates: Iterable[x509.Certificate]) -> None:
    """Return when none is signed with a hash that clients refuse.

    Raises:
        BundleError: one is.
    """
    for each in certificates:
        if hash_name(each) in _WEAK_HASHES:
            raise BundleError(
                f"{label(each)} is signed with {hash_name(each)}", hint="have the CA issue it with SHA-256"
            )


def is_ca(certificate: x509.Certificate) -> bool:
    """Whether the certificate says that it is a CA's."""
    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except (x509.ExtensionNotFound, *UNREADABLE):
        return False


def for_servers(certificate: x509.Certificate) -> bool:
    """Tell whether the certificate may identify a TLS server; one without extended key usage may."""
    try:
        usages = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except (x509.ExtensionNotFound, *UNREADABLE):
        return True
    return ExtendedKeyUsageOID.SERVER_AUTH in usages or _ANY_USAGE in usages


def hash_name(certificate: x509.Certificate) -> Optional[str]:
    """Name the hash of the signature (``sha256``); None where it has none (Ed25519) or it is not known."""
    try:
        digest = certificate.signature_hash_algorithm
    except UnsupportedAlgorithm:
        return None
    return digest.name if digest else None


def order(leaf: x509.Certificate, pool: Iterable[x509.Certificate]) -> Path:
    """Walk from the leaf to its issuers, by name and signature, whatever order the pool has.

    Where an issuer exists twice (renewed with the same key, or cross-signed) the intermediate goes before the root, so
    that the longer chain is sent, and of several the one that lasts longest. The roots are all self-signed
    certificates that end the way; a way without one is fine.
    """
    rest = [certificate for certificate in pool if certificate != leaf]
    chain: list[x509.Certificate] = []
    roots: list[x509.Certificate] = []
    current = leaf
    while len(chain) < _DEEPEST and not is_self_signed(current):
        issuers = [other for other in rest if other.subject == current.issuer and _signed(other, current)]
        ends = [other for other in issuers if is_self_signed(other)]
        ways = [other for other in issuers if other not in ends]
        roots += ends
        rest = [other for other in rest if other not in ends]
        if not ways:
            break
        current = max(ways, key=not_after)
        chain.append(current)
        rest.remove(current)
    return Path(tuple(chain), tuple(roots), tuple(rest))


def is_self_signed(certificate: x509.Certificate) -> bool:
    """Whether the certificate names and signs itself."""
    return certificate.subject == certificate.issuer and _signed(certificate, certificate)


def _load(der: bytes, source: str) -> x509.Certificate:
    try:
        certificate = x509.load_der_x509_certificate(der)
        # Cryptography parses late: what is read of every certificate must be readable now.
        _ = certificate.subject, certificate.issuer, not_before(certificate), not_after(certificate)
    except UNREADABLE:
        hint = "check it with: openssl x509 -noout -text -in FILE; for PKCS#12 give the .p12 file as such"
        raise BundleError(f"{source}: the certificate cannot be read", hint=hint) from None
    return certificate


def _ascii(name: str) -> str:
    """Make a DNS name comparable: lower case, no last dot, A-labels."""
    name = name.lower().rstrip(".")
    try:
        return name if name.isascii() else name.encode("idna").decode("ascii")
    except UnicodeError:
        return name


def _alternative_names(certificate: x509.Certificate) -> Optional[x509.SubjectAlternativeName]:
    try:
        return certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return None
    except UNREADABLE:
        raise BundleError("the certificate's extensions cannot be read", hint="have it issued again") from None


def _utc(certificate: x509.Certificate, attribute: str) -> datetime:
    # ``..._utc`` came with cryptography 42, and the plain one warns since then.
    aware = getattr(certificate, f"{attribute}_utc", None)
    naive: Optional[datetime] = None if aware else getattr(certificate, attribute)
    moment: datetime = aware or naive.replace(tzinfo=timezone.utc)  # type: ignore[union-attr]
    return moment


def _signed(issuer: x509.Certificate, certificate: x509.Certificate) -> bool:
    """Tell whether the issuer's key made the signature.

    ``verify_directly_issued_by`` needs cryptography 40, so the signature is checked by hand. True for what cannot be
    checked here: then the names, which the caller has compared, decide.
    """
    scheme = None
    try:
        if certificate.signature_algorithm_oid == SignatureAlgorithmOID.RSASSA_PSS:
            scheme = getattr(certificate, "signature_algorithm_parameters", None)
            if scheme is None:  # before cryptography 41
                return True
        keys.verify(
            issuer.public_key(),
            certificate.signature,
            certificate.tbs_certificate_bytes,
            certificate.signature_hash_algorithm,
            scheme,
        )
    except InvalidSignature:
        return False
    except (UnsupportedAlgorithm, ValueError, TypeError):
        return True
    return True
