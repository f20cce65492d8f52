"""A leaf certificate, its private key and its chain: loaded, ordered and checked once, before anything is sent."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any, NoReturn, Optional

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives import serialization as ser
from cryptography.hazmat.primitives.asymmetric import rsa

from certhooks import certificate as certs
from certhooks import keys, pem
from certhooks.errors import BundleError, KeyTypeError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from cryptography import x509

_USUAL_EXPONENT = 65537


class PairError(BundleError):
    """The private key belongs to another certificate."""


@dataclass(frozen=True)
class Bundle:
    """What goes onto a device; ``from_pem`` and ``from_parts`` build one and prove that the key fits.

    ``chain`` holds the intermediates, the leaf's issuer first and without the root; ``roots`` the self-signed
    certificates at its end, if any came along. ``notes`` tell what of the input was left out. The key shows in no
    ``repr``, takes no part in comparisons, and a bundle can be neither pickled nor copied.
    """

    leaf: x509.Certificate
    key: keys.PrivateKey = field(compare=False)
    chain: tuple[x509.Certificate, ...] = ()
    roots: tuple[x509.Certificate, ...] = ()
    notes: tuple[str, ...] = field(default=(), compare=False)

    def __repr__(self) -> str:
        return f"<Bundle {self.label} {self.fingerprint[:16]}>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a bundle holds a private key: it is neither pickled nor copied")

    @classmethod
    def from_pem(
        cls,
        certificate: bytes,
        key: bytes,
        extra: Iterable[bytes] = (),
        passphrase: Optional[bytes] = None,
        *,
        certificate_name: str = "certificate",
        key_name: str = "private key",
        extra_name: str = "chain",
    ) -> Bundle:
        """Load PEM as files hold it: text around the blocks, any line ends, any order, one file or several.

        Certificates may also be DER; a key in DER is refused with the command that converts it. The key is looked for
        in ``key``, then in ``certificate``. Of several certificates the leaf is the one that the key fits.

        Args:
            certificate: the leaf, and perhaps chain and key.
            key: the private key in PKCS#8, PKCS#1 or SEC 1, and perhaps certificates.
            extra: more certificates for the chain.
            passphrase: opens an encrypted key, is ignored with another.
            certificate_name: names ``certificate`` in errors, usually its path.
            key_name: names ``key`` in errors.
            extra_name: names ``extra`` in errors.

        Raises:
            PairError: the key belongs to another certificate.
            KeyTypeError: a kind of key that cannot be used.
            BundleError: anything else about the input.
        """
        pem.limit(key, key_name)
        if pem.is_der(key):
            raise BundleError(
                f"{key_name}: this is DER, not PEM", hint="convert a copy: openssl pkey -inform der -in FILE -out NEW"
            )
        pool = certs.read(certificate, certificate_name)
        if not pool:
            raise pem.lacks("certificate", certificate, certificate_name)
        private = keys.read(key, key_name, passphrase) or keys.read(certificate, certificate_name, passphrase)
        if private is None:
            raise pem.lacks("private key", key, key_name)
        pool += certs.read(key, key_name)
        for data in extra:
            pool += certs.read(data, extra_name)
        return cls.from_parts(private, pool, certificate_name=certificate_name, key_name=key_name)

    @classmethod
    def from_parts(
        cls,
        key: keys.PrivateKey,
        certificates: Iterable[x509.Certificate],
        *,
        certificate_name: str = "certificate",
        key_name: str = "private key",
    ) -> Bundle:
        """Pick the leaf that the key fits, prove the pair, and order the rest; duplicates do not matter.

        Raises:
            PairError: the key fits none of the certificates.
            BundleError: the key is damaged.
        """
        pool = list(dict.fromkeys(certificates))
        wanted = keys.spki(key)
        leaf = next((each for each in pool if certs.spki(each) == wanted), None)
        if leaf is None:
            raise PairError(
                f"{key_name}: not the private key of {certificate_name} (CN {certs.label(pool[0])})",
                hint="give the key that this certificate was requested with",
            )
        keys.prove(key, leaf.public_key(), key_name)
        path = certs.order(leaf, pool)
        certs.dns_names(leaf)  # cryptography parses extensions late; one that is broken must stop here, not halfway
        return cls(leaf, key, path.chain, path.roots, _left_out(path.superfluous))

    @property
    def label(self) -> str:
        """What to call it in one line for people: its CN, else its subject or first name, always printable."""
        return certs.label(self.leaf)

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the leaf's DER, in lower-case hex."""
        return self.leaf.fingerprint(hashes.SHA256()).hex()

    @property
    def serial(self) -> int:
        """The leaf's serial number."""
        return self.leaf.serial_number

    @property
    def common_name(self) -> Optional[str]:
        """The most specific CN of the subject; modern ACME profiles issue without one."""
        return certs.common_name(self.leaf)

    @property
    def dns_names(self) -> tuple[str, ...]:
        """The DNS names of the subject alternative name."""
        return certs.dns_names(self.leaf)

    @property
    def ip_addresses(self) -> tuple[str, ...]:
        """The IP addresses of the subject alternative name, as text."""
        return certs.ip_addresses(self.leaf)

    @property
    def not_before(self) -> datetime:
        """Start of validity, aware, UTC."""
        return certs.not_before(self.leaf)

    @property
    def not_after(self) -> datetime:
        """End of validity, aware, UTC."""
        return certs.not_after(self.leaf)

    @property
    def key_type(self) -> str:
        """``rsa``, ``ec``, ``ed25519``, ``ed448`` or ``dsa``."""
        return keys.kind(self.key)

    @property
    def key_bits(self) -> int:
        """Size of the key in bits; for EC that of the curve."""
        return keys.bits(self.key)

    @property
    def rsa_exponent(self) -> Optional[int]:
        """The public exponent of an RSA key; devices in FIPS-CC mode take 65537 only."""
        return self.key.public_key().public_numbers().e if isinstance(self.key, rsa.RSAPrivateKey) else None

    @property
    def leaf_pem(self) -> str:
        """The leaf alone, in PEM."""
        return certs.to_pem(self.leaf)

    @property
    def chain_pem(self) -> str:
        """The intermediates in PEM, the leaf's issuer first; empty when there are none."""
        return "".join(certs.to_pem(each) for each in self.chain)

    @property
    def roots_pem(self) -> tuple[str, ...]:
        """The roots in PEM, one by one."""
        return tuple(certs.to_pem(each) for each in self.roots)

    def key_pem(self, passphrase: Optional[bytes] = None) -> bytes:
        """Write the private key as PKCS#8 in PEM, encrypted (PBES2, AES-256-CBC) when a passphrase is given.

        Raises:
            BundleError: the passphrase is empty.
        """
        protection: ser.KeySerializationEncryption = ser.NoEncryption()
        if passphrase is not None:
            if not passphrase:
                raise BundleError("the passphrase for the private key is empty", hint="give one, or none at all")
            protection = ser.BestAvailableEncryption(passphrase)
        return self.key.private_bytes(ser.Encoding.PEM, ser.PrivateFormat.PKCS8, protection)

    def describe(self) -> dict[str, Any]:
        """Return what logs and ``--json`` may show: plain values, no secret."""
        return {**certs.describe(self.leaf, self.chain), "key": f"{self.key_type}-{self.key_bits}"}

    def check(
        self,
        *,
        now: Optional[datetime] = None,
        names: Iterable[str] = (),
        key_types: Optional[Collection[str]] = None,
        min_rsa_bits: int = 2048,
        common_name: bool = False,
    ) -> tuple[str, ...]:
        """Hold the bundle against the calendar and a target's needs; return what is odd but no error, as sentences.

        Args:
            now: aware; the present if left out.
            names: DNS names and IP addresses that the certificate must cover.
            key_types: the ``Bundle.key_type`` that the target takes; all if left out.
            min_rsa_bits: of an RSA key.
            common_name: whether it must have one; PAN-OS cannot commit a certificate without CN.

        Raises:
            KeyTypeError: kind or size of the key.
            BundleError: expired, not yet valid, weakly signed, a name not covered, no CN.
        """
        moment = now or datetime.now(timezone.utc)
        certs.check_dates(self.leaf, moment)
        _check_key(self, key_types, min_rsa_bits)
        certs.check_hashes((self.leaf, *self.chain))
        if not (self.common_name or "").isprintable():
            raise BundleError(f"{self.label} has a common name with control characters", hint="request another")
        if common_name and not self.common_name:
            raise BundleError(
                f"{self.label} has no common name, which the target needs",
                hint="request it with a subject; for ACME choose a profile that sets one",
            )
        missing = [name for name in names if not certs.covers(self.leaf, name)]
        if missing:
            has = ", ".join([*self.dns_names, *self.ip_addresses]) or f"CN {self.label} alone"
            raise BundleError(
                certs.printable(f"{self.label} does not cover {', '.join(missing)} (it has {has})"),
                hint="request it with these names too (--dns)",
            )
        odd = list(self.notes)
        if not certs.for_servers(self.leaf):
            odd.append(f"{self.label} is not for servers (its extended key usage lacks serverAuth): clients refuse it")
        odd += [
            f"{certs.label(each)} of the chain has expired" for each in self.chain if certs.not_after(each) < moment
        ]
        if self.rsa_exponent not in {None, _USUAL_EXPONENT}:
            odd.append(f"RSA exponent {self.rsa_exponent}: devices in FIPS-CC mode take {_USUAL_EXPONENT} only")
        return tuple(odd)


def _check_key(bundle: Bundle, kinds: Optional[Collection[str]], smallest: int) -> None:
    if kinds is not None and bundle.key_type not in kinds:
        raise KeyTypeError(
            f"{bundle.label} has a key of type {bundle.key_type}, the target takes {' or '.join(sorted(kinds))}",
            hint=f"request it with another type of key: -G {next(iter(sorted(kinds)), 'rsa').upper()}",
        )
    if bundle.key_type == "rsa" and bundle.key_bits < smallest:
        raise KeyTypeError(
            f"{bundle.label} has an RSA key of {bundle.key_bits} bits, needed are {smallest} or more",
            hint="request it with another size of key: -b BITS",
        )


def _left_out(certificates: tuple[x509.Certificate, ...]) -> tuple[str, ...]:
    if not certificates:
        return ()
    named = [certs.label(each) for each in certificates[:3]]
    more = [f"{len(certificates) - 3} more"] if len(certificates) > len(named) else []
    return ("left out, not part of the chain: " + ", ".join(named + more),)
