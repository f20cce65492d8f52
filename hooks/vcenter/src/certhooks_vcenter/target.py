"""The Machine SSL certificate of one vCenter."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Optional

from certhooks import certificate as certs
from certhooks import probe
from certhooks.deadline import growing
from certhooks.errors import (
    ActivationError,
    CredentialsError,
    DeadlineError,
    Error,
    MisdirectedError,
    UnreachableError,
    UploadRefusedError,
)
from certhooks.target import Inspection, Needs, Target, Undone
from certhooks_vcenter import about, fit, hosts, settle
from certhooks_vcenter.replies import RefusedError, UnauthenticatedError, harmless
from certhooks_vcenter.roots import RootStore
from certhooks_vcenter.settle import Settling, sha256

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cryptography.x509 import Certificate

    from certhooks.address import Address
    from certhooks.bundle import Bundle
    from certhooks_vcenter.rest import Client
    from certhooks_vcenter.vim import Vim

_ALL_HOSTS = 300.0  # seconds in which hosts are given the roots, before the machine certificate is replaced
MACHINE = "the Machine SSL certificate"


def device_name(address: Address) -> str:
    """Return the name under which a vCenter is locked."""
    return f"vcenter {address}"


class VCenterTarget(Target):
    """One vCenter; ``inspect()`` first, everything else acts on what it found.

    Args:
        others: CA certificates beside the chain's own, some of which vCenter is to trust too; see ``fit.anchors``.
        fullchain: the intermediates go with the leaf, in place of with the root.
        force: replace even what is there already.
        vim: vCenter's SOAP end, when its roots are to be pushed to its hosts.
    """

    def __init__(
        self,
        address: Address,
        client: Client,
        *,
        others: Sequence[Certificate] = (),
        fullchain: bool = False,
        force: bool = False,
        vim: Optional[Vim] = None,
    ) -> None:
        self.name = self.device = device_name(address)
        self.label = str(address)
        self._address = address
        self._client = client
        self._store = RootStore(client)
        self._others = others
        self._fullchain = fullchain
        self._force = force
        self._vim = vim
        self._uninformed: list[Any] = []  # hosts that lack one of the roots
        self._failed: list[str] = []  # and those that could not be told
        self._roots: tuple[Certificate, ...] = ()
        self._lacking: list[Certificate] = []
        self._addresses: frozenset[str] = frozenset()  # those that answered before the replacement
        self._before: Optional[Certificate] = None  # what the store held when the run began
        self._sent = self._restarts = self._taken_back = False
        self._unsure: Optional[Error] = None  # what came in place of a reply that says "done"

    def needs(self) -> Needs:
        """Return RSA; ``fit.check`` has looked at the rest before the first connection."""
        return Needs(key_types=("rsa",))

    def inspect(self, bundle: Bundle) -> Inspection:
        """Compare the machine certificate and the trusted roots with what is wanted.

        Raises:
            KeyTypeError, BundleError: vCenter would choke on it; nothing was sent.
            CredentialsError, UnreachableError: see there.
        """
        fit.check(bundle, self._address.host)
        self._roots = fit.anchors(bundle, self._others)
        if not self._client.logged_in:
            self._log_in()
        self._before = self._client.machine_certificate()
        self._lacking = self._store.lacking(self._roots)
        changes = [f"trust the root {certs.label(root)}" for root in self._lacking]
        if self._vim:
            changes += self._look_at_hosts(self._vim)
        if not self._holds(bundle):
            changes.append(f"replace {MACHINE} {certs.label(self._before)}, valid until {_day(self._before)}")
            self._warn_of_names(bundle, self._before)
            mode = self._client.high_availability()
            if mode:
                self.run.warn(f"vCenter HA is set up ({mode.lower()}): VMware has it removed first, and set up anew")
        return Inspection(changes=tuple(changes), endpoints=(self._address,), touches=(MACHINE,))

    def install(self, bundle: Bundle) -> None:  # noqa: ARG002  the roots are known since inspect()
        """Add the roots that vCenter does not trust yet; nothing in use changes, and none is ever deleted.

        Raises:
            UploadRefusedError: vCenter refuses one.
        """
        for root in list(self._lacking):
            self._store.trust(root, self.run)
            self._lacking.remove(root)
        if self._vim:
            self._inform_hosts(self._vim)

    def activate(self, bundle: Bundle) -> None:
        """Replace the machine certificate unless the store has it, and wait until vCenter is back with it.

        A replacement is sent once a run. How it ended is told by vCenter itself afterwards, not by the reply alone.

        Raises:
            UploadRefusedError, CredentialsError: not carried out, and said so.
            ActivationError, NotServedError, DeadlineError: see ``Settling``.
        """
        if not self._sent and (self._force or not self._holds(bundle)):
            self._addresses = self._that_answer()
            self._restarts = not self._client.version() >= about.INSTANT
            self._replace(bundle)
        settling = Settling(
            self._client,
            self.run,
            bundle,
            self._before,
            unsure=self._unsure,
            restarts=self._restarts,
            addresses=self._addresses,
        )
        try:
            settling.wait()
        except UploadRefusedError:
            self._sent = False  # it was looked at
            raise
        finally:
            self._taken_back = settling.taken_back

    def verify(self, bundle: Bundle, endpoints: tuple[Address, ...]) -> None:
        """Return when every endpoint serves it, and remark when clients that know the root alone would not trust it.

        On vCenter's own addresses ``activate()`` has just seen it, in handshakes of their own.

        Raises:
            NotServedError: what is served instead.
        """
        super().verify(bundle, tuple(endpoint for endpoint in endpoints if endpoint != self._address))
        if self._failed:
            raise ActivationError(
                f"{self._address} has the new certificate, but hosts did not get its roots: {', '.join(self._failed)}",
                hint="run the same command again once they answer",
            )
        if bundle.chain and not probe.trusted(self._address, [certs.to_pem(root) for root in self._roots]):
            remark = f"{self._address} does not serve the intermediate CAs: clients that know the root alone refuse it"
            self.run.warn(f"{remark}; vCenter keeps the chain that a certificate came with: renew it, with --fullchain")

    def rollback(self) -> Undone:
        """Tell what is left: nothing can be put back, since vCenter does not give the former key away."""
        if self._taken_back:
            return Undone.RESTORED
        return Undone.KEPT if self._sent else Undone.CLEAN

    def close(self) -> None:
        """End the session and close the connection."""
        self._client.logout()
        self._client.close()
        if self._vim:
            self._vim.close()

    def _log_in(self) -> None:
        """Open the first session; a run before that was cut off may have left vCenter in its restart."""
        if not self.run.leftover:
            self._client.first_login()
            return
        refused = False
        for pause in growing(0.5, 10.0):
            try:
                self._client.first_login(restarting=not refused)
            except UnauthenticatedError as e:
                if refused or self.run.deadline.remaining() <= settle.AFTER_REFUSAL:
                    raise
                refused = True
                self.run.tell(f"{e}; the services that know them may not be up, so this waits and tries once more")
                self.run.deadline.pause(settle.AFTER_REFUSAL, "the wait for vCenter")
            except MisdirectedError:
                raise
            except UnreachableError as e:
                self._client.forget()
                self.run.tell(f"{e}; an earlier run was cut off, so this waits")
                if self.run.deadline.remaining() <= pause:
                    raise
                self.run.deadline.pause(pause, "the wait for vCenter")
            else:
                return

    def _that_answer(self) -> frozenset[str]:
        """Return the addresses of the name that answer; of a single one that is known already."""
        ips = probe.addresses(self._address)
        if len(ips) > 1:
            ips = [answer.ip for answer in probe.every(self._address, timeout=5.0) if answer.der]
        return frozenset(ips)

    def _holds(self, bundle: Bundle) -> bool:
        return self._before is not None and sha256(self._before) == bundle.fingerprint

    def _replace(self, bundle: Bundle) -> None:
        chain, root = bundle.chain_pem, certs.to_pem(fit.best_root(bundle, self._roots))
        cert = bundle.leaf_pem + (chain if self._fullchain else "")
        self.run.tell(f"replacing {MACHINE}; vCenter may restart its services now")
        self._client.connect()  # what fails here was not sent
        self._sent = True
        try:
            self._client.replace(cert, bundle.key_pem().decode(), root if self._fullchain else chain + root)
        except UnreachableError as e:
            self._unsure = e
        except RefusedError as e:
            if e.kind == "already_exists":
                self.run.tell(f"{self._address} says that it has this certificate already")
                return
            if self._holds(bundle):  # to look would tell nothing
                self._sent = False
                raise UploadRefusedError(str(e), hint=e.hint) from e
            self._unsure = e  # proxies say 404 and 500 while services go, and it may have been carried out
        except CredentialsError:
            self._sent = False
            raise
        if self._unsure:
            self.run.tell(f"{self._unsure}: whether it was carried out will be seen")

    def _look_at_hosts(self, vim: Vim) -> list[str]:
        """Find the hosts that lack a root; what cannot be asked counts as one, and will be told then.

        Hosts that vCenter has no connection to are left out: they are off, and no change is due until they are back.
        """
        vim.close()
        vim.login()
        self._uninformed, self._failed = [], []
        for host in vim.hosts():
            with vim.told("asking for a host's state"):
                name, state = harmless(str(host.name)), harmless(str(host.runtime.connectionState))
            if state != "connected":
                self.run.warn(f"{name} did not get the roots: it is {state}")
                continue
            try:
                if hosts.lacking(vim, host, self._roots):
                    self._uninformed.append(host)
            except Error:
                self._uninformed.append(host)
        return [f"push the roots to {len(self._uninformed)} hosts"] if self._uninformed else []

    def _inform_hosts(self, vim: Vim) -> None:
        """Push the roots to hosts one by one: one that is down must not keep the others from theirs."""
        patience = self.run.deadline.within(_ALL_HOSTS)
        for host in list(self._uninformed):
            name = "a host"
            try:
                with vim.told("asking for a host's name"):
                    name = harmless(str(host.name))
                self.run.tell(f"pushing the roots to {name}")
                hosts.push(vim, host, self._roots, self.run, patience)
            except Error as e:
                if isinstance(e, DeadlineError):
                    self.run.deadline.check("the push of roots to hosts")
                self._failed.append(name)
                self.run.warn(f"{name} did not get the roots: {e}")
                self.run.parts.append({"name": name, "result": f"failed: {e}"})
            else:
                self.run.parts.append({"name": name, "result": "trusts the roots"})
            self._uninformed.remove(host)

    def _warn_of_names(self, bundle: Bundle, before: Certificate) -> None:
        """Remark names that are lost: one of them may be the machine's own, by which its services know it."""
        try:
            lost = [name for name in certs.dns_names(before) if name.lower() not in map(str.lower, bundle.dns_names)]
        except Error:  # what is there now cannot be read, and is replaced anyway
            return
        if lost:
            self.run.warn(certs.printable(f"the new certificate lacks names of the present one: {', '.join(lost)}"))


def _day(certificate: Certificate) -> str:
    return f"{certs.not_after(certificate):%Y-%m-%d}"
