"""PKCS#12 in memory, with the algorithms that were asked for on every cryptography from 3.4.8 on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Optional

from cryptography.exceptions import InternalError, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives import serialization as ser
from cryptography.hazmat.primitives.serialization import pkcs12

from certhooks import keys, pem
from certhooks.errors import BundleError, KeyTypeError

if TYPE_CHECKING:
    from cryptography import x509

    from certhooks.bundle import Bundle

Profile = Literal["legacy", "modern"]

# OpenSSL's own default of rounds where the receiver is old; more where both ends can.
_ROUNDS = {"legacy": 2048, "modern": 20000}

_ORDER_SINCE = 35  # before it certificates are written in reverse


class Pieces(NamedTuple):
    """What a PKCS#12 file holds: the key, and all certificates with the key's own first."""

    key: keys.PrivateKey
    certificates: tuple[x509.Certificate, ...]


def build(
    bundle: Bundle, passphrase: bytes, *, name: str, profile: Profile = "legacy", with_chain: bool = False
) -> bytes:
    """Build PKCS#12 of key and leaf.

    Args:
        bundle: key and certificates; the root is never put in.
        passphrase: protects both bags; PAN-OS takes letters, digits, ``-`` and ``_`` only.
        name: the friendly name.
        profile: ``legacy`` is 3DES with SHA-1, which everything reads (and no OpenSSL legacy provider is needed for);
            ``modern`` is AES-256-CBC with SHA-256, which needs cryptography 38.
        with_chain: put the intermediates in too; PAN-OS 11 takes the leaf alone.

    Raises:
        KeyTypeError: PKCS#12 cannot hold this kind of key.
        BundleError: empty passphrase, or a profile that this cryptography cannot build.
    """
    if not passphrase:
        raise BundleError("the passphrase for PKCS#12 is empty", hint="devices refuse that: give one")
    chain = list(bundle.chain) if with_chain else []
    if keys.CRYPTOGRAPHY < _ORDER_SINCE:
        chain.reverse()
    protection = _protection(passphrase, profile)
    try:
        return pkcs12.serialize_key_and_certificates(name.encode(), bundle.key, bundle.leaf, chain or None, protection)
    except TypeError:
        raise KeyTypeError(
            f"{bundle.label}: PKCS#12 cannot hold a key of type {bundle.key_type} here", hint="request RSA or EC"
        ) from None
    except (UnsupportedAlgorithm, ValueError, InternalError):
        raise BundleError(
            f"{bundle.label}: PKCS#12 cannot be built with profile {profile}",
            hint="in FIPS mode use the modern profile",
        ) from None


def load(data: bytes, passphrase: Optional[bytes], source: str = "PKCS#12 file") -> Pieces:
    """Return key and certificates of a PKCS#12 file; ``source`` names it in errors.

    Raises:
        KeyTypeError: a kind of key that cannot be used.
        BundleError: not PKCS#12, the passphrase does not open it, no key or no certificate in it.
    """
    pem.limit(data, source)
    if not pem.is_der(data):
        raise BundleError(f"{source}: not a PKCS#12 file", hint="give a .p12 or .pfx file, or PEM files as such")
    try:
        key, leaf, others = pkcs12.load_key_and_certificates(data, passphrase or None)
    except (ValueError, TypeError, UnsupportedAlgorithm, InternalError):
        raise BundleError(
            f"{source}: the passphrase does not open it, or it is damaged",
            hint="try it with: openssl pkcs12 -info -noout -in FILE (with -legacy for RC2)",
        ) from None
    if key is None:
        raise BundleError(f"{source}: no private key in it", hint="export it again, with its key")
    certificates = tuple(each for each in (leaf, *others) if each is not None)
    if not certificates:
        raise BundleError(f"{source}: no certificate in it", hint="export it again, with its certificate")
    return Pieces(keys.known(key, source), certificates)


def _protection(passphrase: bytes, profile: Profile) -> ser.KeySerializationEncryption:
    # Before cryptography 38 there is no choice, and what it calls best *is* 3DES with SHA-1; from 38 on it is AES.
    form: Any = getattr(ser.PrivateFormat, "PKCS12", None)
    if form is None:
        if profile != "legacy":
            raise BundleError(
                "PKCS#12 with AES-256 needs cryptography 38 or newer", hint="use the legacy profile or PEM"
            )
        return ser.BestAvailableEncryption(passphrase)
    pbes, digest = (
        (pkcs12.PBES.PBESv1SHA1And3KeyTripleDESCBC, hashes.SHA1())  # noqa: S303 - what old devices read
        if profile == "legacy"
        else (pkcs12.PBES.PBESv2SHA256AndAES256CBC, hashes.SHA256())
    )
    builder = form.encryption_builder().kdf_rounds(_ROUNDS[profile]).key_cert_algorithm(pbes).hmac_hash(digest)
    protection: ser.KeySerializationEncryption = builder.build(passphrase)
    return protection
