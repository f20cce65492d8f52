"""A certificate that does not exist yet: the device makes key and request, which are signed on the way there."""

from __future__ import annotations

import socket
from contextlib import suppress
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any, Callable, Optional

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives import serialization as ser

from certhooks import certificate as certs
from certhooks import keys
from certhooks.errors import BundleError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from cryptography.x509 import Certificate

    from certhooks.deadline import Deadline

    Sign = Callable[[str, str, Deadline], bytes]

_LEAST_BITS = 2048
_LAST_THIRD = 3  # what lives shorter than ``renew`` is renewed in the last third of its life


class Order:
    """Stands where a ``Bundle`` stands for a device that keeps its key; one for each device (``fresh()``).

    It is empty until it is met by what the device has, or signed. ``signed`` tells the latter.

    Args:
        roots: to one of these the certificate must lead.
        sign: returns leaf and chain (PEM) for a request (PEM) and a host's name, before the deadline.
        renew: what is valid for longer is left alone.
        known: further CA certificates, by which it may lead to a root.
    """

    def __init__(
        self,
        roots: Sequence[Certificate],
        sign: Sign,
        renew: timedelta = timedelta(days=28),
        known: Iterable[Certificate] = (),
    ) -> None:
        self.roots = tuple(roots)
        self.chain: tuple[Certificate, ...] = ()
        self.signed = False
        self._leaf: Optional[Certificate] = None
        self._sign = sign
        self._renew = renew
        self._known = tuple(known)

    def fresh(self) -> Order:
        """Return the same order for another device."""
        return Order(self.roots, self._sign, self._renew, self._known)

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the leaf's DER, in lower-case hex; empty while there is none."""
        return self._leaf.fingerprint(hashes.SHA256()).hex() if self._leaf else ""

    @property
    def not_after(self) -> Optional[datetime]:
        """End of validity, aware, UTC; None while there is none."""
        return certs.not_after(self._leaf) if self._leaf else None

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

    def is_met_by(self, served: Certificate, name: str, ours: str = "") -> bool:
        """Tell whether what a device has need not be replaced; then it is this order's certificate.

        ``ours`` is the fingerprint of what an earlier run left there: its intermediates were checked then.
        """
        path = certs.order(served, [*self._known, *self.roots])
        leads = self._leads(path) or served.fingerprint(hashes.SHA256()).hex() == ours
        end = certs.not_after(served)
        life = end - certs.not_before(served)
        renew = self._renew if life > self._renew else life / _LAST_THIRD
        met = leads and certs.covers(served, name) and end - datetime.now(timezone.utc) > renew
        if met:
            self._leaf, self.chain, self.signed = served, path.chain, False
        return met

    def have_signed(self, request: str, name: str, deadline: Deadline) -> None:
        """Have the device's request (PEM) signed; then the order holds leaf and chain.

        A device decides what stands in its request: other names than its own are not signed.

        Raises:
            BundleError: the request is not for this name, or what came back is not for the request, leads to no root,
                or is nothing that a server can use now.
        """
        own = _own_names(name)
        asked = _asked(request, name, own)
        found = certs.read(self._sign(request, name, deadline), "what was signed")
        leaf = next((each for each in found if certs.spki(each) == asked), None)
        if leaf is None or not certs.covers(leaf, name):
            raise BundleError(f"what was signed is not for the request of {name}", hint="is its FQDN among the names?")
        path = certs.order(leaf, [*found, *self._known, *self.roots])
        if not self._leads(path):
            raise BundleError(f"what was signed for {name} leads to no known root", hint="--rootfile names it")
        _refuse_others("what was signed", name, _names(leaf), own)
        certs.check_dates(leaf, datetime.now(timezone.utc))
        certs.check_hashes((leaf, *path.chain))
        if certs.is_ca(leaf) or not certs.for_servers(leaf):
            raise BundleError(f"what was signed for {name} is not for servers", hint="choose another profile")
        self._leaf, self.chain, self.signed = leaf, path.chain, True

    def _leads(self, path: certs.Path) -> bool:
        return any(root in self.roots for root in path.roots)


def _asked(request: str, name: str, own: set[str]) -> bytes:
    """Return the public key of a request, once it is known to be proper."""
    try:
        csr = x509.load_pem_x509_csr(request.encode())
        public, signed = csr.public_key(), csr.is_signature_valid
        names = _names(csr)
    except certs.UNREADABLE as e:
        raise BundleError(f"the request that {name} made cannot be read", hint=_TRY_AGAIN) from e
    if not signed or keys.kind(public) != "rsa" or keys.bits(public) < _LEAST_BITS:
        raise BundleError(f"the request that {name} made is not signed with an RSA key of 2048 bits", hint=_TRY_AGAIN)
    _refuse_others("the request", name, names, own)
    return public.public_bytes(ser.Encoding.DER, ser.PublicFormat.SubjectPublicKeyInfo)


def _names(what: Any) -> set[str]:
    """Return common names, DNS names and addresses of a certificate or a request, in lower case."""
    found = {str(each.value) for each in what.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)}
    with suppress(x509.ExtensionNotFound):
        value = what.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        for kind in (x509.DNSName, x509.IPAddress):
            found |= set(map(str, value.get_values_for_type(kind)))
    return {each.lower() for each in found}


def _own_names(name: str) -> set[str]:
    """Return the names that a host may have in its certificate: its FQDN, the first part of it, its addresses."""
    own = {name.lower(), name.lower().partition(".")[0]}
    with suppress(OSError, UnicodeError):
        own |= {str(entry[4][0]) for entry in socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)}
    return own


def _refuse_others(what: str, name: str, names: set[str], own: set[str]) -> None:
    others = sorted(names - own)
    if others:
        shown = certs.printable(", ".join(others[:5])[:200])
        raise BundleError(
            f"{what} for {name} has names that are not its own: {shown}",
            hint="mend the host's name and domain (esxcli system hostname get)",
        )


_TRY_AGAIN = "look at what the device shows as its request, then run the same command again"
