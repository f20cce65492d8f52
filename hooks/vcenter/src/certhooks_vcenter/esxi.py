"""The certificate of one ESXi host, asked itself or through its vCenter.

Before 8.0U3 the host makes key and request and the key never leaves it; from 8.0U3 on a key can be brought, and the
services are notified afterwards, which cuts the connection.
"""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any, Callable, Optional, cast

from cryptography import x509
from cryptography.hazmat.primitives import serialization as ser

from certhooks import certificate as certs
from certhooks import probe
from certhooks.deadline import growing
from certhooks.errors import BundleError, ConnectionLostError, Error, NotServedError, UploadRefusedError, UsageError
from certhooks.target import Inspection, Needs, Target, Undone
from certhooks_vcenter import fit, hosts
from certhooks_vcenter.roots import RootStore
from certhooks_vcenter.settle import sha256
from certhooks_vcenter.vim import CUSTOM, Vim

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cryptography.x509 import Certificate

    from certhooks.address import Address
    from certhooks.bundle import Bundle
    from certhooks_vcenter.rest import Client

_MODERN = (8, 0, 3)
_CONNECTED = 120.0  # seconds for a host to be connected again


def device_name(address: Address) -> str:
    """Return the name under which a host is locked."""
    return f"esxi {address}"


class Order:
    """Stands where a bundle stands while there is no certificate yet: each host's request will be signed."""

    fingerprint, leaf_pem, chain_pem, chain = "", "", "", ()

    def __init__(self, roots: Sequence[Certificate]) -> None:
        self.roots = tuple(roots)

    @property
    def roots_pem(self) -> tuple[str, ...]:
        """The roots in PEM, one by one."""
        return tuple(map(certs.to_pem, self.roots))

    def check(self, **_: Any) -> tuple[str, ...]:
        """Return nothing: what will be signed is checked when it is there."""
        return ()

    def describe(self) -> dict[str, Any]:
        """Return nothing: it is not known yet."""
        return {}

    def as_bundle(self) -> Bundle:
        """Return itself, where the type asks for a bundle."""
        return cast("Bundle", self)


class EsxiTarget(Target):
    """One host.

    Args:
        vim: the host itself, or its vCenter; not yet logged in.
        rest: its vCenter's REST, for the roots; None when the host is asked itself.
        roots: what the host and its vCenter are to trust.
        sign: returns leaf and chain (PEM) for a request; None when the bundle brings a key.
        renew: with ``sign``, how long a certificate must still be valid to be left alone.
        force: do it although something speaks against it.
    """

    def __init__(
        self,
        address: Address,
        vim: Vim,
        rest: Optional[Client],
        roots: Sequence[Certificate],
        *,
        sign: Optional[Callable[[str, str], bytes]] = None,
        renew: timedelta = timedelta(days=28),
        force: bool = False,
    ) -> None:
        self.name = self.device = device_name(address)
        self.label = str(address)
        self._address = address
        self._vim = vim
        self._rest = rest
        self._roots = tuple(roots)
        self._sign = sign
        self._renew = renew
        self._force = force
        self._host: Any = None
        self._modern = False
        self._signed: Optional[list[Certificate]] = None
        self._sent = False

    def needs(self) -> Needs:
        """Return RSA; ``fit.check`` has looked at the rest."""
        return Needs(key_types=("rsa",))

    def inspect(self, bundle: Bundle) -> Inspection:
        """Look at what the host serves and trusts, and refuse what cannot last.

        Raises:
            BundleError, KeyTypeError: not for this host; UsageError: not in this way, or vCenter would undo it.
        """
        if self._sign is None:
            fit.check(bundle, self._address.host)
        served = x509.load_der_x509_certificate(probe.first(self._address).der)
        if self._host is None:
            self._log_in()
        self._refuse_old(bundle)
        self._refuse_mode()
        changes = [f"have vCenter trust the root {certs.label(root)}" for root in self._unknown_to_vcenter()]
        changes += [f"have the host trust the root {certs.label(root)}" for root in self._unknown_to_host()]
        if not self._is_good(served, bundle):
            how = "replace" if self._sign is None else "have its request signed and replace"
            changes.append(
                f"{how} the certificate {certs.label(served)}, valid until {certs.not_after(served):%Y-%m-%d}"
            )
        endpoints = () if self._sign else (self._address,)
        return Inspection(changes=tuple(changes), endpoints=endpoints, touches=("the host's certificate",))

    def install(self, bundle: Bundle) -> None:  # noqa: ARG002  roots and request do not depend on it
        """Make vCenter and the host trust the roots, and have the host's request signed; nothing in use changes.

        Raises:
            UploadRefusedError: the roots are not taken; BundleError: what was signed is not for this host.
        """
        if self._rest:
            store = RootStore(self._rest)
            for root in self._unknown_to_vcenter():
                store.trust(root, self.run)
        missing = self._unknown_to_host()
        if missing:
            self.run.tell("having the host trust the roots")
            if self._rest:
                hosts.push(self._vim, self._host, missing, self.run)
            else:
                hosts.give(self._vim, self._host, missing)
        if self._sign and self._signed is None:
            self._signed = self._have_signed(self._sign)

    def activate(self, bundle: Bundle) -> None:
        """Install the certificate, with its key from 8.0U3 on, and have the services use it.

        A connection that breaks is what these steps do; what became of them is seen by ``verify``.

        Raises:
            UploadRefusedError: the host refuses it.
        """
        if self._sent:
            return
        manager = self._host.configManager.certificateManager
        leaf, chain = (bundle.leaf_pem, bundle.chain_pem) if self._signed is None else self._signed_pem()
        if self._signed is None:
            from certhooks.secrets import conceal

            key = bundle.key_pem().decode()
            conceal(key)
            self.run.tell("bringing the key")
            with self._vim.told("the key"):
                manager.ProvisionServerPrivateKey(key)
        self.run.tell("installing the certificate")
        self._sent = True
        try:
            with self._vim.told("the certificate"):
                manager.InstallServerCertificate(leaf + chain)
            if self._modern:
                with self._vim.told("the notice to its services"):
                    manager.NotifyAffectedServices()
        except ConnectionLostError as e:
            self.run.tell(f"{e}, as is to be expected")
        except Error as e:
            self._sent = False
            raise UploadRefusedError(str(e), hint=e.hint) from e

    def verify(self, bundle: Bundle, endpoints: tuple[Address, ...]) -> None:
        """Return when the host serves it, and its vCenter has the host connected.

        Raises:
            NotServedError: another one is served, or the host is not connected.
        """
        if self._signed:
            probe.wait(self._address, sha256(self._signed[0]), self.run.deadline.within(_CONNECTED))
        super().verify(bundle, endpoints)
        if not self._rest:
            return
        self.run.tell("waiting for the host to be connected in vCenter")
        patience = self.run.deadline.within(_CONNECTED)
        state = ""
        for pause in growing(0.2, 5.0):
            with self._vim.told("asking for the host's state"):
                state = str(self._host.runtime.connectionState)
            if state == "connected":
                return
            if patience.remaining() <= pause:
                break
            patience.pause(pause, "the host's connection")
        raise NotServedError(
            f"{self._address} serves the new certificate, but is {state} in {self._vim.address}",
            hint="does vCenter trust its root? reconnect the host in the vSphere Client",
        )

    def rollback(self) -> Undone:
        """Tell what is left: a host does not give its former key away."""
        return Undone.KEPT if self._sent else Undone.CLEAN

    def close(self) -> None:
        """End the sessions."""
        self._vim.close()
        if self._rest:
            self._rest.logout()
            self._rest.close()

    def _log_in(self) -> None:
        self._vim.login()
        if self._rest:
            self._rest.first_login()
        self._host = self._vim.host(self._address.host)

    def _refuse_old(self, bundle: Bundle) -> None:
        with self._vim.told("asking for its version"):
            version = str(self._host.summary.config.product.version)
        self._modern = tuple(int(part) for part in version.split(".")[:3] if part.isdigit()) >= _MODERN
        if self._sign is None and not self._modern:
            raise UsageError(
                f"{self._address} is ESXi {version}, which takes no key ({bundle.label})",
                hint="--csr has the request signed that the host makes itself; from 8.0U3 on a key can be brought",
            )

    def _refuse_mode(self) -> None:
        """Refuse where vCenter itself renews the certificates of its hosts: the next time it would replace ours."""
        mode = self._vim.mode() if self._rest else CUSTOM
        if mode in {"", CUSTOM}:
            return
        text = f"vpxd.certmgmt.mode of {self._vim.address} is {mode}: vCenter may replace the certificate of its hosts"
        if not self._force:
            raise UsageError(text, hint="set it to custom and restart vpxd; --force goes on all the same")
        self.run.warn(text)

    def _unknown_to_vcenter(self) -> list[Certificate]:
        return RootStore(self._rest).lacking(self._roots) if self._rest else []

    def _unknown_to_host(self) -> list[Certificate]:
        return hosts.lacking(self._vim, self._host, self._roots)

    def _is_good(self, served: Certificate, bundle: Bundle) -> bool:
        if self._sign is None:
            return sha256(served) == bundle.fingerprint
        left = certs.not_after(served) - datetime.now(timezone.utc)
        path = certs.order(served, self._roots)
        return bool(path.roots) and certs.covers(served, self._address.host) and left > self._renew

    def _have_signed(self, sign: Callable[[str, str], bytes]) -> list[Certificate]:
        self.run.tell("having the host's request signed")
        with self._vim.told("a request"):
            request = self._host.configManager.certificateManager.GenerateCertificateSigningRequest(
                useIpAddressAsCommonName=False
            )
        asked = x509.load_pem_x509_csr(str(request).encode()).public_key()
        form = (ser.Encoding.DER, ser.PublicFormat.SubjectPublicKeyInfo)
        found = certs.read(sign(str(request), self._address.host), "what was signed")
        leaf = next((each for each in found if certs.spki(each) == asked.public_bytes(*form)), None)
        if leaf is None or not certs.covers(leaf, self._address.host):
            raise BundleError(
                f"what was signed is not for the request of {self._address}", hint="is its FQDN among the names?"
            )
        path = certs.order(leaf, [*found, *self._roots])
        if not path.roots:
            raise BundleError(f"what was signed for {self._address} leads to no known root", hint="--rootfile names it")
        return [leaf, *path.chain]

    def _signed_pem(self) -> tuple[str, str]:
        leaf, *chain = map(certs.to_pem, self._signed or ())
        return leaf, "".join(chain)
