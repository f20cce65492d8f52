"""What vCenter needs of a certificate, held against it before anything is sent: a refused one may cost a restart.

Sources: VMware's requirements for custom certificates (7.0, 8.0), KB 316601 (wildcards), and how its store reads keys
(Lightwave, vmafd/common/ssl.c).
"""

from __future__ import annotations

import hashlib
from datetime import datetime, timezone
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.x509.oid import SignatureAlgorithmOID

from certhooks import certificate as certs
from certhooks.address import is_ip
from certhooks.errors import BundleError, KeyTypeError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from cryptography.x509 import Certificate

    from certhooks.bundle import Bundle

_MOST_BITS = 16384  # 8192 from 8.0U2b on, which says so itself


def check(bundle: Bundle, host: str) -> None:
    """Return when vCenter, reached as ``host``, can use the certificate.

    Raises:
        KeyTypeError, BundleError: it cannot.
    """
    if bundle.key_type != "rsa" or bundle.key_bits > _MOST_BITS:
        raise KeyTypeError(
            f"{bundle.label} has a key of type {bundle.key_type}-{bundle.key_bits}, vCenter takes RSA of 2048 to 16384",
            hint="request it with -G RSA -b 2048",
        )
    if bundle.leaf.signature_algorithm_oid == SignatureAlgorithmOID.RSASSA_PSS:
        raise BundleError(f"{bundle.label} is signed with RSASSA-PSS, which vCenter does not take", hint=_ISSUE_ANEW)
    wildcards = [name for name in bundle.dns_names if "*" in name]
    if wildcards:
        raise BundleError(f"{bundle.label} has a wildcard ({wildcards[0]}), which vCenter does not take", hint=_NAMES)
    if not is_ip(host) and host not in {name.lower() for name in bundle.dns_names}:
        has = ", ".join(bundle.dns_names) or "none"
        raise BundleError(
            certs.printable(f"{bundle.label} does not have {host} among its DNS names (it has {has})"), hint=_NAMES
        )


def anchors(bundle: Bundle, others: Iterable[Certificate]) -> tuple[Certificate, ...]:
    """Return the roots that vCenter is to trust: the chain's own, and CAs of the same owner that are good still.

    ``others`` are those of ``/etc/ipa/ca.crt``: around a renewal of the CA it holds the old one and the new one.

    Raises:
        BundleError: no root is known for this chain.
    """
    pool = [certificate for certificate in others if certs.is_self_signed(certificate)]
    kin = pool if any(root in pool for root in bundle.roots) else []
    good = [root for root in dict.fromkeys([*bundle.roots, *kin]) if is_good_ca(root)]
    if not any(root in bundle.roots for root in good):
        raise BundleError(
            f"no self-signed root for the chain of {bundle.label}, and vCenter needs one that is valid",
            hint="looked for in the files, certmonger's request and /etc/ipa/ca.crt; --rootfile names another",
        )
    return tuple(good)


def best_root(bundle: Bundle, roots: Sequence[Certificate]) -> Certificate:
    """Return the root to send with the chain: it has signed the chain's end, and lasts longest of several."""
    good = [root for root in roots if root in bundle.roots]
    end = (bundle.leaf, *bundle.chain)[-1]
    return max(certs.order(end, good).roots or good, key=certs.not_after)


def chain_id(root: Certificate) -> str:
    """Return VMware's id of a trusted root: SubjectKeyIdentifier, else SHA-1 of the SubjectPublicKeyInfo; upper hex.

    Source: Lightwave, vmafd/tools/dir-cli/cli.c. It is not the fingerprint: all certificates of one key share it.
    """
    try:
        found = root.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest
    except (x509.ExtensionNotFound, ValueError):
        found = hashlib.sha1(certs.spki(root)).digest()  # noqa: S324  VMware's choice, and no secret
    return found.hex().upper()


def is_good_ca(certificate: Certificate) -> bool:
    """Tell whether VMware takes it as a CA (``X509_check_ca()``), and it is valid now."""
    now = datetime.now(timezone.utc)
    try:
        extensions = certificate.extensions
        is_ca = extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except (x509.ExtensionNotFound, ValueError):
        return False
    try:
        signs = extensions.get_extension_for_class(x509.KeyUsage).value.key_cert_sign
    except x509.ExtensionNotFound:
        signs = True
    return is_ca and signs and certs.not_before(certificate) <= now <= certs.not_after(certificate)


_ISSUE_ANEW = "have the CA sign it with SHA-256 and PKCS#1 v1.5"
_NAMES = "request it with the machine's own FQDN (PNID) as a name, and reach vCenter by that"
