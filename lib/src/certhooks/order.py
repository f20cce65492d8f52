"""A certificate that does not exist yet: the device makes key and request, which are signed on the way there."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any, Callable, Optional

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives import serialization as ser

from certhooks import certificate as certs
from certhooks.errors import BundleError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cryptography.x509 import Certificate


class Order:
    """Stands where a ``Bundle`` stands for a device that keeps its key; one for each device (``fresh()``).

    It is empty until it is met by what the device has, or signed. ``signed`` tells the latter.

    Args:
        roots: to one of these the certificate must lead.
        sign: returns leaf and chain (PEM) for a request (PEM) and a host's name.
        renew: what is valid for longer is left alone.
    """

    def __init__(
        self, roots: Sequence[Certificate], sign: Callable[[str, str], bytes], renew: timedelta = timedelta(days=28)
    ) -> None:
        self.roots = tuple(roots)
        self.chain: tuple[Certificate, ...] = ()
        self.signed = False
        self._leaf: Optional[Certificate] = None
        self._sign = sign
        self._renew = renew

    def fresh(self) -> Order:
        """Return the same order for another device."""
        return Order(self.roots, self._sign, self._renew)

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the leaf's DER, in lower-case hex; empty while there is none."""
        return self._leaf.fingerprint(hashes.SHA256()).hex() if self._leaf else ""

    @property
    def leaf_pem(self) -> str:
        """The leaf alone, in PEM; empty while there is none."""
        return certs.to_pem(self._leaf) if self._leaf else ""

    @property
    def chain_pem(self) -> str:
        """The intermediates in PEM, the leaf's issuer first; empty when there are none."""
        return "".join(map(certs.to_pem, self.chain))

    @property
    def roots_pem(self) -> tuple[str, ...]:
        """The roots in PEM, one by one."""
        return tuple(map(certs.to_pem, self.roots))

    def describe(self) -> dict[str, Any]:
        """Return what logs and ``--json`` may show: plain values, none while there is no certificate."""
        return certs.describe(self._leaf, self.chain) if self._leaf else {}

    def check(self, **_needs: object) -> tuple[str, ...]:
        """Return nothing: ``have_signed()`` checks what was signed once it is there."""
        return ()

    def is_met_by(self, served: Certificate, name: str) -> bool:
        """Tell whether what a device has need not be replaced; then it is this order's certificate."""
        path = certs.order(served, self.roots)
        left = certs.not_after(served) - datetime.now(timezone.utc)
        met = bool(path.roots) and certs.covers(served, name) and left > self._renew
        if met:
            self._leaf, self.chain, self.signed = served, path.chain, False
        return met

    def have_signed(self, request: str, name: str) -> None:
        """Have the device's request (PEM) signed; then the order holds leaf and chain.

        Raises:
            BundleError: what came back is not for this request and this name, leads to no root, or is not valid now.
        """
        asked = x509.load_pem_x509_csr(request.encode()).public_key()
        key = asked.public_bytes(ser.Encoding.DER, ser.PublicFormat.SubjectPublicKeyInfo)
        found = certs.read(self._sign(request, name), "what was signed")
        leaf = next((each for each in found if certs.spki(each) == key), None)
        if leaf is None or not certs.covers(leaf, name):
            raise BundleError(f"what was signed is not for the request of {name}", hint="is its FQDN among the names?")
        certs.check_dates(leaf, datetime.now(timezone.utc))
        path = certs.order(leaf, [*found, *self.roots])
        if not any(root in self.roots for root in path.roots):
            raise BundleError(f"what was signed for {name} leads to no known root", hint="--rootfile names it")
        self._leaf, self.chain, self.signed = leaf, path.chain, True
