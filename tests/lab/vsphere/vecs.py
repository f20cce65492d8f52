"""VMware's certificate stores: what they take, how they name it, and how the REST API shows it.

Rules are those of Lightwave (vmafd/common/ssl.c, vmafd/tools/dir-cli/cli.c, vmca/common/pkcs_openssl.c).
"""

from __future__ import annotations

import hashlib
import re
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Optional

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.x509.oid import SignatureAlgorithmOID

from tests.lab.vsphere.faults import Fault, certificate_error

if TYPE_CHECKING:
    from collections.abc import Sequence

_BLOCK = re.compile(r"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----", re.DOTALL)
_BITS = range(2048, 16385)
_WEAK = ("md5", "sha1")


@dataclass(frozen=True)
class Entry:
    """What MACHINE_SSL_CERT holds: a stack of certificates, the leaf first, and the key."""

    certificates: tuple[x509.Certificate, ...]
    key_pem: bytes

    @property
    def leaf(self) -> x509.Certificate:
        """The machine's own certificate."""
        return self.certificates[0]

    @property
    def identity(self) -> tuple[bytes, bytes]:
        """What a TLS server needs."""
        return b"".join(map(pem, self.certificates)), self.key_pem


@dataclass
class Roots:
    """TRUSTED_ROOTS: certificates by VMware's id, each with the moment (monotonic) from which it is listed."""

    chains: dict[str, tuple[x509.Certificate, ...]] = field(default_factory=dict)
    listed_from: dict[str, float] = field(default_factory=dict)

    def add(self, certificates: Sequence[x509.Certificate], *, name: str = "", lag: float = 0.0) -> str:
        """Keep a chain under its id, and return that; what has the id already stays."""
        name = name or chain_id(certificates[0])
        if name not in self.chains:
            self.chains[name] = tuple(certificates)
            self.listed_from[name] = time.monotonic() + lag
        return name

    def listed(self) -> list[str]:
        """Return the ids that a list shows now."""
        return [name for name in self.chains if self.listed_from[name] <= time.monotonic()]

    def all(self) -> list[x509.Certificate]:
        """Return every certificate."""
        return [certificate for chain in self.chains.values() for certificate in chain]


def read(text: str) -> tuple[x509.Certificate, ...]:
    """Return all certificates of a PEM text, whatever stands between them; a Fault when there is none."""
    try:
        found = tuple(x509.load_pem_x509_certificate(block.encode()) for block in _BLOCK.findall(text))
    except ValueError:
        found = ()
    if not found:
        raise certificate_error("Invalid input certificate : Could not parse certificate")
    return found


def pem(certificate: x509.Certificate) -> bytes:
    """Return a certificate in PEM."""
    return certificate.public_bytes(serialization.Encoding.PEM)


def chain_id(certificate: x509.Certificate) -> str:
    """Return the id in TRUSTED_ROOTS: SubjectKeyIdentifier, else SHA-1 of the SubjectPublicKeyInfo; upper hex."""
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest
    except x509.ExtensionNotFound:
        spki = certificate.public_key().public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        found = hashlib.sha1(spki).digest()
    return found.hex().upper()


def thumbprint(certificate: x509.Certificate) -> str:
    """Return SHA-1 of the DER, upper hex without colons."""
    return hashlib.sha1(certificate.public_bytes(serialization.Encoding.DER)).hexdigest().upper()


def check_ca(certificate: x509.Certificate) -> None:
    """Refuse a certificate that is no CA's, as ``X509_check_ca()`` has it."""
    try:
        is_ca = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except x509.ExtensionNotFound:
        is_ca = False
    try:
        signs = certificate.extensions.get_extension_for_class(x509.KeyUsage).value.key_cert_sign
    except x509.ExtensionNotFound:
        signs = True
    if not (is_ca and signs):
        subject = certificate.subject.rfc4514_string()
        what = f"create trusted root chain failed : Certificate bearing subject {subject} is not a valid CA certificate"
        text = f"{what}. Please retry with a valid certificate chain"
        raise Fault("error", "com.vmware.certificatemanagement.error", f"Internal Server Error ({text})", text)


def check_entry(cert: str, key: str, root_cert: Optional[str], fqdn: str, roots: Roots) -> Entry:
    """Return what PUT would store; a Fault for what vCenter does not take."""
    stack = read(cert)
    private = _rsa_key(key)
    leaf = stack[0]
    if leaf.public_key() != private.public_key():
        raise certificate_error("VECS_PRIVATE_KEY_MISMATCH")
    digest = leaf.signature_hash_algorithm
    if (digest and digest.name in _WEAK) or leaf.signature_algorithm_oid == SignatureAlgorithmOID.RSASSA_PSS:
        raise certificate_error("Invalid input certificate : Unsupported signature algorithm")
    names = _names(leaf)
    if fqdn not in names:
        raise certificate_error(
            "Invalid input certificate : DNS in Subject Alternative Name is not correct. "
            "DNS Name must contain machine FQDN."
        )
    given = read(root_cert) if root_cert else ()
    if not _leads_to_root(leaf, (*stack[1:], *given), (*given, *roots.all())):
        raise certificate_error("the trustAnchors parameter must be non-empty")
    plain = private.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    for each in given:
        check_ca(each)
        roots.add([each])
    return Entry(stack, plain)


def info(leaf: x509.Certificate) -> dict[str, Any]:
    """Return what GET of the machine certificate shows (7.0's capture): of a stack only the leaf."""
    usage = leaf.extensions.get_extension_for_class(x509.KeyUsage).value if _has(leaf, x509.KeyUsage) else None
    extended = _extension(leaf, x509.ExtendedKeyUsage)
    access = _extension(leaf, x509.AuthorityInformationAccess)
    constraints = _extension(leaf, x509.BasicConstraints)
    words = {
        "digital_signature": "digitalSignature",
        "content_commitment": "nonRepudiation",
        "key_encipherment": "keyEncipherment",
        "data_encipherment": "dataEncipherment",
        "key_agreement": "keyAgreement",
        "key_cert_sign": "keyCertSign",
        "crl_sign": "cRLSign",
    }
    return {
        "version": 3,
        "serial_number": f"{leaf.serial_number:x}",
        "signature_algorithm": _algorithm(leaf),
        "issuer_dn": _dn(leaf.issuer),
        "subject_dn": _dn(leaf.subject),
        "valid_from": f"{leaf.not_valid_before_utc:%Y-%m-%dT%H:%M:%S}.000Z",
        "valid_to": f"{leaf.not_valid_after_utc:%Y-%m-%dT%H:%M:%S}.000Z",
        "thumbprint": thumbprint(leaf),
        "is_CA": bool(constraints and constraints.ca),
        "path_length_constraint": -1,
        "key_usage": [word for name, word in words.items() if usage is not None and getattr(usage, name)],
        "extended_key_usage": [oid.dotted_string for oid in extended] if extended else [""],
        "subject_alternative_name": _names(leaf),
        "authority_information_access_uri": [f"URIName: {each.access_location.value}" for each in access or ()],
        "cert": pem(leaf).decode().rstrip("\n"),
    }


def signed_by(issuer: x509.Certificate, certificate: x509.Certificate) -> bool:
    """Tell whether the issuer has signed the certificate."""
    if issuer.subject != certificate.issuer:
        return False
    key, digest = issuer.public_key(), certificate.signature_hash_algorithm
    assert digest is not None
    try:
        if isinstance(key, rsa.RSAPublicKey):
            key.verify(certificate.signature, certificate.tbs_certificate_bytes, padding.PKCS1v15(), digest)
        else:
            assert isinstance(key, ec.EllipticCurvePublicKey)
            key.verify(certificate.signature, certificate.tbs_certificate_bytes, ec.ECDSA(digest))
    except InvalidSignature:
        return False
    return True


def _rsa_key(text: str) -> rsa.RSAPrivateKey:
    """Read as ``PEM_read_bio_RSAPrivateKey`` without a passphrase does."""
    try:
        key = serialization.load_pem_private_key(text.encode(), None)
    except (ValueError, TypeError):
        key = None
    if not isinstance(key, rsa.RSAPrivateKey) or key.key_size not in _BITS:
        raise certificate_error("Invalid input private key : ERROR_BAD_FORMAT")
    return key


def _leads_to_root(
    leaf: x509.Certificate, between: Sequence[x509.Certificate], anchors: Sequence[x509.Certificate]
) -> bool:
    current = leaf
    for _ in range(10):
        issuers = [other for other in (*anchors, *between) if signed_by(other, current)]
        if any(other.subject == other.issuer for other in issuers if other in anchors):
            return True
        if not issuers:
            return False
        current = issuers[0]
    return False


def _dn(name: x509.Name) -> str:
    """Return a name with its parts in the reverse of their order in the encoding."""
    return ", ".join(part.rfc4514_string() for part in reversed(list(name)))


def _algorithm(certificate: x509.Certificate) -> str:
    digest = certificate.signature_hash_algorithm
    oid = certificate.signature_algorithm_oid
    kind = "RSA" if "RSA" in str(oid).upper() else "ECDSA"
    return f"{digest.name if digest else '?'}with{kind}".upper()


def _names(certificate: x509.Certificate) -> list[str]:
    found = _extension(certificate, x509.SubjectAlternativeName)
    return [str(each.value) for each in found] if found else []


def _extension(certificate: x509.Certificate, kind: Any) -> Any:
    return certificate.extensions.get_extension_for_class(kind).value if _has(certificate, kind) else None


def _has(certificate: x509.Certificate, kind: Any) -> bool:
    try:
        certificate.extensions.get_extension_for_class(kind)
    except x509.ExtensionNotFound:
        return False
    return True
