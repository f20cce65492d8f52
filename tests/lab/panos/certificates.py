"""Certificates as PAN-OS stores them: reading an upload, and the fields of an entry."""

from __future__ import annotations

import base64
import datetime as dt
import functools
import hashlib
import re
import secrets
from dataclasses import dataclass
from typing import Any, Optional
from xml.etree.ElementTree import Element, SubElement

import cryptography
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import pkcs12
from cryptography.x509.oid import NameOID

PRIVATE_KEY = re.compile(rb"-----BEGIN ([A-Z ]*)PRIVATE KEY-----.*?-----END \1PRIVATE KEY-----", re.DOTALL)
_CERTIFICATE = re.compile(rb"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----\r?\n?", re.DOTALL)
_PBES2 = bytes.fromhex("06092a864886f70d01050d")
# checked_key() tests the primes, once; cryptography before 39 cannot leave that out here.
_WITHOUT_TEST: dict[str, Any] = (
    {"unsafe_skip_rsa_key_validation": True} if int(cryptography.__version__.split(".")[0]) >= 39 else {}
)
_SHORT = {
    NameOID.COMMON_NAME: "CN",
    NameOID.COUNTRY_NAME: "C",
    NameOID.ORGANIZATION_NAME: "O",
    NameOID.ORGANIZATIONAL_UNIT_NAME: "OU",
    NameOID.LOCALITY_NAME: "L",
    NameOID.STATE_OR_PROVINCE_NAME: "ST",
    NameOID.EMAIL_ADDRESS: "emailAddress",
    NameOID.DOMAIN_COMPONENT: "DC",
    NameOID.USER_ID: "UID",
    NameOID.SERIAL_NUMBER: "serialNumber",
}


class WrongPassphraseError(Exception):
    """The private key or the PKCS#12 does not open with this passphrase."""


@dataclass(frozen=True)
class Material:
    """What an upload held: a certificate or none, the ones after it, a private key (PKCS#8 PEM) or none."""

    leaf: Optional[x509.Certificate]
    chain: tuple[x509.Certificate, ...] = ()
    key_pem: Optional[bytes] = None


def read_pem(data: bytes, passphrase: str) -> Material:
    """Read certificates and at most one private key out of PEM text.

    Raises:
        WrongPassphraseError: the key is encrypted and does not open.
        ValueError: a certificate or the key cannot be read.

    """
    found = [x509.load_pem_x509_certificate(block) for block in _CERTIFICATE.findall(data)]
    block = PRIVATE_KEY.search(data)
    key = _open_key(block[0], passphrase) if block else None
    return Material(found[0] if found else None, tuple(found[1:]), key)


def _open_key(block: bytes, passphrase: str) -> bytes:
    encrypted = b"ENCRYPTED" in block
    try:
        key = serialization.load_pem_private_key(block, passphrase.encode() if encrypted else None, **_WITHOUT_TEST)
    except (TypeError, ValueError) as error:
        if encrypted:
            raise WrongPassphraseError from error
        raise
    plain = _pem(key)
    checked_key(plain)
    return plain


@functools.lru_cache(maxsize=64)
def checked_key(key_pem: bytes) -> Any:
    """Return a private key whose numbers are right; to test its primes takes 50 ms, and a fleet gets the same one.

    Raises:
        ValueError: they are not.

    """
    return serialization.load_pem_private_key(key_pem, None)


def _pem(key: Any) -> bytes:
    none = serialization.NoEncryption()
    made: bytes = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, none)
    return made


def read_pkcs12(data: bytes, passphrase: str) -> Material:
    """Read a PKCS#12.

    Raises:
        WrongPassphraseError: its MAC does not fit the passphrase.
        ValueError: it is no PKCS#12.

    """
    if data[:1] != b"\x30":
        raise ValueError("not DER")
    try:
        key, leaf, chain = pkcs12.load_key_and_certificates(data, passphrase.encode())
    except UnsupportedAlgorithm as error:
        raise ValueError(str(error)) from error
    except ValueError as error:
        if "password" in str(error).lower():
            raise WrongPassphraseError from error
        raise
    return Material(leaf, tuple(chain), _pem(key) if key else None)


def uses_pbes2(data: bytes) -> bool:
    """Tell whether a PKCS#12 is encrypted with the modern scheme."""
    return _PBES2 in data


def fits(certificate: x509.Certificate, key_pem: bytes) -> bool:
    """Tell whether the private key belongs to the certificate."""
    key = checked_key(key_pem)
    spki = serialization.PublicFormat.SubjectPublicKeyInfo
    der = serialization.Encoding.DER
    return bool(key.public_key().public_bytes(der, spki) == certificate.public_key().public_bytes(der, spki))


def subject_hash(name: x509.Name) -> str:
    """Return the hash that ``openssl x509 -subject_hash_old`` prints: MD5 over the DER, four bytes turned round."""
    digest = hashlib.md5(name.public_bytes()).digest()  # the stored values of three devices are this one
    return digest[:4][::-1].hex()


def oneline(name: x509.Name) -> str:
    """Return the form in the configuration, ``/O=Example/CN=host``."""
    return "".join(f"/{short}={value}" for short, value in _parts(name))


def spaced(name: x509.Name) -> str:
    """Return the form of ``request certificate show``, ``O = Example, CN = host``."""
    return ", ".join(f"{short} = {value}" for short, value in _parts(name))


def _parts(name: x509.Name) -> list[tuple[str, str]]:
    return [(_SHORT.get(a.oid, a.oid.dotted_string), str(a.value)) for a in name]


def common_name(name: x509.Name) -> str:
    """Return the last common name, empty when there is none."""
    found = name.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(found[-1].value) if found else ""


def opaque(key_pem: bytes) -> str:
    """Return what stands in the configuration for a private key: encrypted, and another text each time."""
    check = base64.b64encode(hashlib.sha1(secrets.token_bytes(16)).digest()).decode()
    return "-AQ==" + check + base64.b64encode(secrets.token_bytes(16 * (len(key_pem) // 16 + 1))).decode()


def fields(certificate: x509.Certificate, *, order: str = "usual") -> dict[str, str]:
    """Return the fields of an entry, the private key left out."""
    start, end = _utc(certificate, "not_valid_before"), _utc(certificate, "not_valid_after")
    found = {
        "subject-hash": subject_hash(certificate.subject),
        "issuer-hash": subject_hash(certificate.issuer),
        "not-valid-before": _openssl_date(start),
        "issuer": oneline(certificate.issuer),
        "not-valid-after": _openssl_date(end),
        "common-name": common_name(certificate.subject),
        "expiry-epoch": str(int(end.timestamp())),
        "ca": "yes" if is_ca(certificate) else "no",
        "subject": oneline(certificate.subject),
        "public-key": pem(certificate),
        "algorithm": _algorithm(certificate),
    }
    if not found["common-name"]:
        del found["common-name"]
    return found if order == "usual" else dict(sorted(found.items()))


def entry(name: str, values: dict[str, str]) -> Element:
    """Return an ``entry`` of the certificate container."""
    node = Element("entry", {"name": name})
    for tag, text in values.items():
        SubElement(node, tag).text = text
    return node


def pem(certificate: x509.Certificate) -> str:
    """Return the certificate as PEM text."""
    return certificate.public_bytes(serialization.Encoding.PEM).decode()


def of_entry(node: Element) -> list[x509.Certificate]:
    """Return the certificates in the ``public-key`` field of an entry: the leaf, and a chain if it was kept."""
    text = "\n".join(line.strip() for line in (node.findtext("public-key") or "").splitlines())
    try:
        return [x509.load_pem_x509_certificate(block) for block in _CERTIFICATE.findall(text.encode())]
    except ValueError:
        return []


def is_ca(certificate: x509.Certificate) -> bool:
    """Tell whether it says that it may sign certificates."""
    try:
        return bool(certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca)
    except x509.ExtensionNotFound:
        return False


def expired(certificate: x509.Certificate) -> bool:
    """Tell whether its time is over."""
    return _utc(certificate, "not_valid_after") < dt.datetime.now(dt.timezone.utc)


def _utc(certificate: x509.Certificate, which: str) -> dt.datetime:
    moment: Optional[dt.datetime] = getattr(certificate, which + "_utc", None)  # cryptography 42 and newer
    if moment is None:
        old: dt.datetime = getattr(certificate, which)
        moment = old.replace(tzinfo=dt.timezone.utc)
    return moment


def _openssl_date(moment: dt.datetime) -> str:
    return f"{moment:%b} {moment.day:2d} {moment:%H:%M:%S %Y} GMT"


def _algorithm(certificate: x509.Certificate) -> str:
    key = certificate.public_key()
    if isinstance(key, rsa.RSAPublicKey):
        return "RSA"
    return "EC" if isinstance(key, ec.EllipticCurvePublicKey) else "unknown"
