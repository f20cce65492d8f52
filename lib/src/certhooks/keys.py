"""Private keys: loading what files hold, and proving that one belongs to a certificate."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Optional, Union

import cryptography
from cryptography.exceptions import InternalError, InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives import serialization as ser
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, ed25519, padding, rsa

from certhooks import pem
from certhooks.errors import BundleError, KeyTypeError

if TYPE_CHECKING:
    PrivateKey = Union[
        rsa.RSAPrivateKey,
        ec.EllipticCurvePrivateKey,
        ed25519.Ed25519PrivateKey,
        ed448.Ed448PrivateKey,
        dsa.DSAPrivateKey,
    ]

CRYPTOGRAPHY = int(cryptography.__version__.split(".")[0])
"""Its major version, for what it has or does differently."""

_SKIP_SINCE = 39

# OpenSSL 3 tests the primes of an RSA key each time one is loaded: 50 ms for 2048 bits, 310 ms for 4096. The key is its
# owner's, made by certmonger or an ACME client; that its numbers agree and that the certificate accepts its signature
# (``prove``, 1 ms) says what is to be known. The switch came with cryptography 39; before it a load takes its time.
_OPTIONS: dict[str, Any] = {"unsafe_skip_rsa_key_validation": True} if CRYPTOGRAPHY >= _SKIP_SINCE else {}
_KINDS = {
    "rsa": (rsa.RSAPrivateKey, rsa.RSAPublicKey),
    "ec": (ec.EllipticCurvePrivateKey, ec.EllipticCurvePublicKey),
    "ed25519": (ed25519.Ed25519PrivateKey, ed25519.Ed25519PublicKey),
    "ed448": (ed448.Ed448PrivateKey, ed448.Ed448PublicKey),
    "dsa": (dsa.DSAPrivateKey, dsa.DSAPublicKey),
}
_FIXED_BITS = {"ed25519": 256, "ed448": 456}


def read(data: bytes, source: str, passphrase: Optional[bytes] = None) -> Optional[PrivateKey]:
    """Load the one private key in PEM data, or None when there is none; ``source`` names the file in errors.

    Raises:
        KeyTypeError: a kind of key that no certificate here can have.
        BundleError: several keys, an encrypted one and no passphrase that opens it, DER, or damage.
    """
    blocks = list(dict.fromkeys(block for block in pem.split(data, source) if block.is_key))
    if len(blocks) > 1:
        raise BundleError(f"{source}: more than one private key in it", hint="keep only the certificate's own key")
    return _load(blocks[0], source, passphrase) if blocks else None


def spki(key: PrivateKey) -> bytes:
    """Return the public half in DER, for comparison: before cryptography 41 ``==`` on keys is identity."""
    return key.public_key().public_bytes(ser.Encoding.DER, ser.PublicFormat.SubjectPublicKeyInfo)


def kind(key: object) -> str:
    """Name the kind: ``rsa``, ``ec``, ``ed25519``, ``ed448`` or ``dsa``, private or public; else ``unknown``."""
    return next((name for name, classes in _KINDS.items() if isinstance(key, classes)), "unknown")


def bits(key: object) -> int:
    """Return the size in bits; for EC that of the curve."""
    return int(getattr(key, "key_size", _FIXED_BITS.get(kind(key), 0)))


def known(key: object, source: str) -> PrivateKey:
    """Return the key itself, when it is of a kind that can be used.

    Raises:
        KeyTypeError: it is not.
    """
    if kind(key) == "unknown":
        raise KeyTypeError(f"{source}: a {type(key).__name__} cannot be used", hint="request an RSA or EC key")
    return key  # type: ignore[return-value]  # narrowed by kind()


def prove(key: PrivateKey, public: object, source: str) -> None:
    """Sign with the private half and verify with the certificate's public half: the pair works.

    Raises:
        BundleError: it does not: the key is damaged, or too small to sign.
    """
    message, digest = b"certhooks", hashes.SHA256()
    try:
        if isinstance(key, rsa.RSAPrivateKey):
            _check_rsa(key.private_numbers())
            signature = key.sign(message, padding.PKCS1v15(), digest)
        elif isinstance(key, ec.EllipticCurvePrivateKey):
            signature = key.sign(message, ec.ECDSA(digest))
        elif isinstance(key, dsa.DSAPrivateKey):
            signature = key.sign(message, digest)
        else:
            signature = key.sign(message)
        verify(public, signature, message, digest)
    except (InvalidSignature, InternalError, ValueError, ArithmeticError):
        raise BundleError(
            f"{source}: the private key does not work with its certificate",
            hint="check it with: openssl pkey -check -noout -in FILE",
        ) from None


def _check_rsa(numbers: rsa.RSAPrivateNumbers) -> None:
    # A signature alone is no proof: OpenSSL makes a good one with d when the four numbers of the CRT are wrong, and the
    # other way round. The device may use either.
    p, q, public = numbers.p, numbers.q, numbers.public_numbers
    if not (
        p * q == public.n
        and numbers.d * public.e % (p - 1) == numbers.d * public.e % (q - 1) == 1
        and numbers.dmp1 == numbers.d % (p - 1)
        and numbers.dmq1 == numbers.d % (q - 1)
        and numbers.iqmp * q % p == 1
    ):
        raise ArithmeticError


def verify(
    public: object,
    signature: bytes,
    message: bytes,
    digest: Optional[hashes.HashAlgorithm],
    scheme: Optional[padding.AsymmetricPadding] = None,
) -> None:
    """Verify a signature with a public key of any kind; ``scheme`` is RSA's padding, PKCS#1 v1.5 if left out.

    Raises:
        InvalidSignature: the key did not make it.
        UnsupportedAlgorithm: a kind of key that is not known here.
    """
    if isinstance(public, (ed25519.Ed25519PublicKey, ed448.Ed448PublicKey)):
        public.verify(signature, message)
    elif digest is None:
        raise InvalidSignature
    elif isinstance(public, rsa.RSAPublicKey):
        public.verify(signature, message, scheme or padding.PKCS1v15(), digest)
    elif isinstance(public, ec.EllipticCurvePublicKey):
        public.verify(signature, message, ec.ECDSA(digest))
    elif isinstance(public, dsa.DSAPublicKey):
        public.verify(signature, message, digest)
    else:
        raise UnsupportedAlgorithm(type(public).__name__)


def _load(block: pem.Block, source: str, passphrase: Optional[bytes]) -> PrivateKey:
    if block.label == "OPENSSH PRIVATE KEY":
        raise BundleError(
            f"{source}: a key in OpenSSH's own format", hint="convert a copy: ssh-keygen -p -m PKCS8 -f FILE"
        )
    if block.is_encrypted and not passphrase:
        raise BundleError(
            f"{source}: the private key is encrypted",
            hint="give its passphrase, or decrypt a copy: openssl pkey -in FILE -out NEW",
        )
    try:
        key = ser.load_pem_private_key(block.pem, passphrase if block.is_encrypted else None, **_OPTIONS)
    except UnsupportedAlgorithm:
        raise KeyTypeError(
            f"{source}: a kind of private key that is not known here", hint="request RSA or EC"
        ) from None
    except (ValueError, TypeError, InternalError):
        # The cause is not chained: whatever it quotes, it cannot quote the key.
        if block.is_encrypted:
            raise BundleError(
                f"{source}: the passphrase does not open the private key", hint="try it with: openssl pkey"
            ) from None
        raise BundleError(
            f"{source}: the private key cannot be read", hint="check it with: openssl pkey -noout -in FILE"
        ) from None
    return known(key, source)
