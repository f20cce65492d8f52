"""The certificate of one ESXi host, asked itself or through its vCenter.

Before 8.0U3 the host makes key and request and the key never leaves it; from 8.0U3 on a key can be brought, and the
services are notified afterwards, which cuts the connection.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Any, Optional

from certhooks import certificate as certs
from certhooks import probe
from certhooks.deadline import growing
from certhooks.errors import (
    ActivationError,
    ConnectionLostError,
    Error,
    NotServedError,
    UnreachableError,
    UploadRefusedError,
    UsageError,
)
from certhooks.target import AnyTarget, Inspection, Needs, Undone, What
from certhooks_vcenter import about, fit, hosts
from certhooks_vcenter.replies import RefusedError, harmless
from certhooks_vcenter.roots import RootStore
from certhooks_vcenter.settle import sha256
from certhooks_vcenter.vim import CUSTOM, Vim

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cryptography.x509 import Certificate

    from certhooks.address import Address
    from certhooks.bundle import Bundle
    from certhooks.order import Order
    from certhooks_vcenter.rest import Client

_CONNECTED = 180.0  # seconds for a host to be connected again
_STAYS = 60.0  # seconds for which it must then stay so: vCenter misses a host's heartbeats for a minute first


def device_name(address: Address) -> str:
    """Return the name under which a host is locked."""
    return f"esxi {address}"


class EsxiTarget(AnyTarget[What]):
    """One host; ``WithKey`` and ``WithRequest`` say where its key comes from.

    Args:
        vim: the host itself, or its vCenter; not yet logged in.
        rest: its vCenter's REST, for the roots; None when the host is asked itself.
        roots: what the host and its vCenter are to trust.
        force: do it although something speaks against it.
    """

    _how: str

    def __init__(
        self,
        address: Address,
        vim: Vim,
        rest: Optional[Client],
        roots: Sequence[Certificate],
        *,
        force: bool = False,
    ) -> None:
        self.name = self.device = device_name(address)
        self.label = str(address)
        self._address = address
        self._vim = vim
        self._rest = rest
        self._roots = tuple(roots)
        self._force = force
        self._host: Any = None
        self._version: tuple[int, ...] = ()
        self._sent = self._notified = False

    def needs(self) -> Needs:
        """Return RSA; ``fit.check`` has looked at the rest."""
        return Needs(key_types=("rsa",))

    def inspect(self, bundle: What) -> Inspection:
        """Look at what the host serves and trusts, and refuse what cannot last.

        Raises:
            BundleError, KeyTypeError: not for this host; UsageError: not in this way, or vCenter would undo it.
        """
        self._refuse(bundle)
        [served] = certs.read(probe.first(self._address).der, f"the certificate of {self._address}")
        if self._host is None:
            self._log_in()
            self._refuse(bundle)
        self._refuse_mode()
        changes = [f"have vCenter trust the root {certs.label(root)}" for root in self._unknown_to_vcenter()]
        changes += [f"have the host trust the root {certs.label(root)}" for root in self._unknown_to_host()]
        if not self._is_there(served, bundle):
            until = f"{certs.not_after(served):%Y-%m-%d}"
            changes.append(f"{self._how} the certificate {certs.label(served)}, valid until {until}")
        return Inspection(changes=tuple(changes), endpoints=(self._address,), touches=("the host's certificate",))

    def install(self, bundle: What) -> None:  # noqa: ARG002  the roots are known
        """Make vCenter and the host trust the roots; nothing in use changes.

        Raises:
            UploadRefusedError: the roots are not taken.
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

    def activate(self, bundle: What) -> None:
        """Install the certificate, with its key from 8.0U3 on, and have the services use it.

        A connection that breaks is what these steps do; what became of them is seen by ``verify``.

        Raises:
            UploadRefusedError: the host refuses it.
        """
        if not self._sent:
            self._send(bundle)
        if self._is_modern and not self._notified:
            self._notify()

    def _send(self, bundle: What) -> None:
        manager = self._host.configManager.certificateManager
        self._bring_key(manager, bundle)
        self.run.tell("installing the certificate")
        self._sent = True
        try:
            with self._vim.told("the certificate"):
                manager.InstallServerCertificate(bundle.leaf_pem + bundle.chain_pem)
        except ConnectionLostError as e:  # an older host may restart its services at once
            self.run.tell(f"{e}: whether it was carried out will be seen")
            self._host = None
        except Error as e:
            self._sent = False
            raise UploadRefusedError(str(e), hint=e.hint) from e

    def _notify(self) -> None:
        """Have the services of a modern host take up what is installed, which cuts the connection."""
        if self._host is None:
            self._vim.close()
            self._log_in()
        self.run.tell("having the host's services use it")
        try:
            with self._vim.told("the notice to its services"):
                self._host.configManager.certificateManager.NotifyAffectedServices()
        except ConnectionLostError as e:
            self.run.tell(f"{e}, as is to be expected")
        except UnreachableError:
            raise
        except Error as e:
            raise ActivationError(str(e), hint=e.hint) from e
        self._notified = True

    def verify(self, bundle: What, endpoints: tuple[Address, ...]) -> None:
        """Return when the host serves it, and its vCenter has the host connected.

        Raises:
            NotServedError: another one is served, or the host is not connected.
        """
        super().verify(bundle, endpoints)
        if not self._rest:
            return
        if self._host is None:
            self._vim.close()
            self._log_in()
        self._await_connection(bundle)

    def _await_connection(self, bundle: What) -> None:
        self.run.tell("waiting for the host to be connected in vCenter, and to stay so")
        patience = self.run.deadline.within(_CONNECTED + _STAYS)
        since: Optional[float] = None
        for pause in growing(0.2, 5.0):
            state = self._state(bundle)
            now = patience.elapsed()
            since = (now if since is None else since) if state == "connected" else None
            if since is not None and now - since >= _STAYS:
                return
            if patience.remaining() <= pause:
                break
            patience.pause(pause, "the host's connection")
        raise NotServedError(
            f"{self._address} serves the new certificate, but is {state} in {self._vim.address}",
            hint="does vCenter trust its root? reconnect the host in the vSphere Client",
        )

    def _state(self, bundle: What) -> str:
        """Return how vCenter sees the host; that it is connected is believed once the host answers through vCenter."""
        with self._vim.told("asking for the host's state"):
            state = harmless(str(self._host.runtime.connectionState))
        if state != "connected":
            return state
        try:
            with self._vim.told("asking the host for its certificate"):
                until = self._host.configManager.certificateManager.certificateInfo.notAfter
        except RefusedError:
            return "not answering"
        return state if until == bundle.not_after else "still known by another certificate"

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
        with self._vim.told("asking for its version"):
            told = harmless(str(self._host.summary.config.product.version))
        self._version = about.parsed(told)
        if not self._version:
            raise RefusedError(f"{self._address} has a version that cannot be read: {told}", hint="report that")

    @property
    def _is_modern(self) -> bool:
        return self._version >= about.INSTANT

    def _refuse(self, bundle: What) -> None:
        """Refuse what is not for this host, whose version is not known the first time."""

    @abstractmethod
    def _is_there(self, served: Certificate, bundle: What) -> bool:
        """Tell whether what is served need not be replaced."""

    def _bring_key(self, manager: Any, bundle: What) -> None:
        """Bring the key, unless the host has made it."""

    def _refuse_mode(self) -> None:
        """Refuse where vCenter itself renews the certificates of its hosts: the next time it would replace ours."""
        if not self._rest:
            self._warn_of_manager()
            return
        mode = self._vim.mode()
        if mode == CUSTOM:
            return
        if not mode:
            self.run.warn(f"{self._vim.address} does not show vpxd.certmgmt.mode, which should be custom")
            return
        text = f"vpxd.certmgmt.mode of {self._vim.address} is {mode}: vCenter may replace the certificate of its hosts"
        if not self._force:
            raise UsageError(text, hint="set it to custom and restart vpxd; --force goes on all the same")
        self.run.warn(text)

    def _warn_of_manager(self) -> None:
        with self._vim.told("asking for its vCenter"):
            manager = harmless(str(self._host.summary.managementServerIp or ""))
        if manager:
            self.run.warn(f"{self._address} is managed by the vCenter {manager}, which may lose it: give --vcenter")

    def _unknown_to_vcenter(self) -> list[Certificate]:
        return RootStore(self._rest).lacking(self._roots) if self._rest else []

    def _unknown_to_host(self) -> list[Certificate]:
        return hosts.lacking(self._vim, self._host, self._roots)


class WithKey(EsxiTarget["Bundle"]):
    """A host of 8.0U3 or newer, which is brought the key with its certificate."""

    _how = "replace"

    def _refuse(self, bundle: Bundle) -> None:
        fit.check(bundle, self._address.host)
        if self._version and not self._is_modern:
            raise UsageError(
                f"{self._address} is ESXi {'.'.join(map(str, self._version))}, which takes no key ({bundle.label})",
                hint="--csr has the request signed that the host makes itself; from 8.0U3 on a key can be brought",
            )

    def _is_there(self, served: Certificate, bundle: Bundle) -> bool:
        return sha256(served) == bundle.fingerprint

    def _bring_key(self, manager: Any, bundle: Bundle) -> None:
        from certhooks.secrets import conceal

        key = bundle.key_pem().decode()
        conceal(key)
        self.run.tell("bringing the key")
        with self._vim.told("the key"):
            manager.ProvisionServerPrivateKey(key)


class WithRequest(EsxiTarget["Order"]):
    """A host of any version, which makes key and request itself."""

    _how = "have its request signed and replace"

    def install(self, bundle: Order) -> None:
        """Have the roots trusted, and then the host's request signed.

        Raises:
            BundleError: what was signed is not for this host; and as the method of the class above.
        """
        super().install(bundle)
        if bundle.signed:  # a connection broke, and this is done again
            return
        self.run.tell("having the host's request signed")
        with self._vim.told("a request"):
            manager = self._host.configManager.certificateManager
            request = manager.GenerateCertificateSigningRequest(useIpAddressAsCommonName=False)
        bundle.have_signed(str(request), self._address.host, self.run.deadline)

    def _is_there(self, served: Certificate, bundle: Order) -> bool:
        return bundle.is_met_by(served, self._address.host, self.run.achieved)
