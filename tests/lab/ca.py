"""A throw-away certificate authority for the lab: everything is made in memory, nothing is kept."""

from __future__ import annotations

import datetime as dt
import functools
import ipaddress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Optional, Union

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import pkcs12
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

if TYPE_CHECKING:
    from collections.abc import Sequence

Key = Union[rsa.RSAPrivateKey, ec.EllipticCurvePrivateKey]
PublicKey = Union[rsa.RSAPublicKey, ec.EllipticCurvePublicKey]

_CURVES: dict[int, type[ec.EllipticCurve]] = {256: ec.SECP256R1, 384: ec.SECP384R1, 521: ec.SECP521R1}


def make_key(key_type: str = "ec", key_size: Optional[int] = None) -> Key:
    """Return a fresh private key: ``ec`` (256, 384, 521 bits) or ``rsa`` (2048 bits unless told)."""
    if key_type == "rsa":
        return rsa.generate_private_key(public_exponent=65537, key_size=key_size or 2048)
    return ec.generate_private_key(_CURVES[key_size or 256]())


def pem_of_key(key: Key, passphrase: Optional[str] = None) -> bytes:
    """Return the key as PKCS#8 PEM, encrypted when a passphrase is given."""
    encryption: serialization.KeySerializationEncryption = serialization.NoEncryption()
    if passphrase is not None:
        encryption = serialization.BestAvailableEncryption(passphrase.encode())
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption)


@dataclass(frozen=True)
class Issued:
    """A certificate with its private key and the chain that leads to the root (root left out)."""

    certificate: x509.Certificate
    key: Key
    chain: tuple[x509.Certificate, ...] = ()

    @property
    def cert_pem(self) -> bytes:
        """The leaf alone."""
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    @property
    def key_pem(self) -> bytes:
        """The private key, PKCS#8, not encrypted."""
        return pem_of_key(self.key)

    @property
    def chain_pem(self) -> bytes:
        """The intermediates, leaf side first; empty when the root signed the leaf."""
        return b"".join(c.public_bytes(serialization.Encoding.PEM) for c in self.chain)

    @property
    def fullchain_pem(self) -> bytes:
        """Leaf and intermediates."""
        return self.cert_pem + self.chain_pem

    @property
    def sha256(self) -> str:
        """The SHA-256 fingerprint, 64 lower-case hex digits."""
        return self.certificate.fingerprint(hashes.SHA256()).hex()

    def pkcs12(self, passphrase: str, *, modern: bool = False, chain: bool = False, name: str = "lab") -> bytes:
        """Return a PKCS#12: 3DES and SHA-1, or PBES2 (AES-256) and SHA-256 when ``modern``.

        Raises:
            NotImplementedError: ``modern``, and cryptography is older than 38.

        """
        secret = passphrase.encode()
        encryption: serialization.KeySerializationEncryption
        if hasattr(serialization.PrivateFormat, "PKCS12"):
            pbe, mac = (
                (pkcs12.PBES.PBESv2SHA256AndAES256CBC, hashes.SHA256())
                if modern
                else (pkcs12.PBES.PBESv1SHA1And3KeyTripleDESCBC, hashes.SHA1())  # noqa: S303 - what devices take
            )
            builder = serialization.PrivateFormat.PKCS12.encryption_builder().kdf_rounds(2048)
            encryption = builder.key_cert_algorithm(pbe).hmac_hash(mac).build(secret)
        elif modern:
            raise NotImplementedError("PBES2 in PKCS#12 needs cryptography 38")
        else:
            encryption = serialization.BestAvailableEncryption(secret)  # 3DES and SHA-1 with the OpenSSL of its time
        return pkcs12.serialize_key_and_certificates(
            name.encode(), self.key, self.certificate, list(self.chain) if chain else None, encryption
        )


class CA:
    """A certificate authority; ``intermediate()`` makes one below it."""

    def __init__(
        self,
        name: str = "Lab Root CA",
        *,
        key_type: str = "ec",
        parent: Optional[CA] = None,
        key: Optional[Key] = None,
    ) -> None:
        self.name = name
        self.parent = parent
        self.key = key or make_key(key_type)
        subject = _name(name)
        signer = parent or self
        builder = _builder(
            subject, parent.certificate.subject if parent else subject, self.key.public_key(), *_span(3650, None)
        ).add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        builder = builder.add_extension(_usage(sign_certificates=True), critical=True)
        builder = builder.add_extension(
            x509.SubjectKeyIdentifier.from_public_key(self.key.public_key()), critical=False
        )
        builder = builder.add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.key.public_key()), critical=False
        )
        self.certificate: x509.Certificate = builder.sign(signer.key, hashes.SHA256())

    @classmethod
    def stored(cls, certificate_pem: bytes, key_pem: bytes) -> CA:
        """Return a root that was kept."""
        key: Any = serialization.load_pem_private_key(key_pem, None)
        made = cls(key=key)
        made.certificate = x509.load_pem_x509_certificate(certificate_pem)
        return made

    @property
    def pem(self) -> bytes:
        """The authority's own certificate."""
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    @property
    def root_pem(self) -> bytes:
        """The root's certificate: what a client has to trust."""
        return self.parent.root_pem if self.parent else self.pem

    @property
    def chain(self) -> tuple[x509.Certificate, ...]:
        """The intermediates from this authority up, the root left out."""
        return (self.certificate, *self.parent.chain) if self.parent else ()

    def intermediate(self, name: str = "Lab Intermediate CA") -> CA:
        """Return a certificate authority signed by this one."""
        return CA(name, parent=self)

    def issue(
        self,
        names: Union[str, Sequence[str]],
        *,
        key_type: str = "ec",
        key_size: Optional[int] = None,
        days: float = 90,
        not_before: Optional[dt.datetime] = None,
        common_name: Optional[str] = None,
        ca: bool = False,
        key: Optional[Key] = None,
    ) -> Issued:
        """Return a certificate for DNS names and IP addresses.

        Args:
            names: the subject alternative names; the first is the common name unless ``common_name`` says
                otherwise (an empty one leaves the subject empty).
            key_type: ``ec`` or ``rsa``.
            key_size: bits; 256 and 2048 unless told.
            days: length of validity from ``not_before``.
            not_before: start of validity, an hour ago unless told; with few days, an expired one comes out.
            common_name: the subject's CN.
            ca: make it a CA certificate.
            key: use this key instead of a fresh one.

        """
        names = [names] if isinstance(names, str) else list(names)
        key = key or make_key(key_type, key_size)
        cn = names[0] if common_name is None else common_name
        made = self._certify(key.public_key(), names, cn, _span(days, not_before), ca=ca)
        return Issued(made, key, self.chain)

    def sign(self, request_pem: bytes, *, days: float = 90) -> bytes:
        """Return a certificate (PEM) for the key and the DNS names of a request."""
        request = x509.load_pem_x509_csr(request_pem)
        names = request.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        found = names.get_values_for_type(x509.DNSName)
        key: Any = request.public_key()
        return self._certify(key, found, found[0], _span(days, None)).public_bytes(serialization.Encoding.PEM)

    def _certify(
        self, key: PublicKey, names: Sequence[str], cn: str, span: tuple[dt.datetime, dt.datetime], *, ca: bool = False
    ) -> x509.Certificate:
        builder = _builder(_name(cn), self.certificate.subject, key, *span)
        builder = builder.add_extension(x509.SubjectAlternativeName([_general(n) for n in names]), critical=not cn)
        builder = builder.add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        builder = builder.add_extension(_usage(sign_certificates=ca), critical=True)
        builder = builder.add_extension(
            x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]),
            critical=False,
        )
        builder = builder.add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key()), critical=False
        )
        return builder.sign(self.key, hashes.SHA256())


@functools.lru_cache(maxsize=1)
def lab_ca() -> CA:
    """Return the CA that emulators use when they are not given a certificate; one a process."""
    return CA("certhooks lab CA")


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)] if common_name else [])


def _general(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _span(days: float, start: Optional[dt.datetime]) -> tuple[dt.datetime, dt.datetime]:
    if start is None:
        start = dt.datetime.now(dt.timezone.utc) - dt.timedelta(hours=1)
    return start, start + dt.timedelta(days=days)


def _builder(
    subject: x509.Name, issuer: x509.Name, key: PublicKey, start: dt.datetime, end: dt.datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(end)
    )


def _usage(*, sign_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=not sign_certificates,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=sign_certificates,
        crl_sign=sign_certificates,
        encipher_only=False,
        decipher_only=False,
    )
