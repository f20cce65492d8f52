"""The Machine SSL certificate of one vCenter."""

from __future__ import annotations

from typing import TYPE_CHECKING, Optional

from cryptography.hazmat.primitives import hashes

from certhooks import certificate as certs
from certhooks import probe
from certhooks.deadline import growing
from certhooks.errors import (
    ConnectionLostError,
    CredentialsError,
    Error,
    UnreachableError,
    UploadRefusedError,
)
from certhooks.target import Inspection, Needs, Target, Undone
from certhooks_vcenter import fit
from certhooks_vcenter.replies import AwayError, RefusedError
from certhooks_vcenter.settle import Settling, sha256

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cryptography.x509 import Certificate

    from certhooks.address import Address
    from certhooks.bundle import Bundle
    from certhooks_vcenter.rest import Client

MACHINE = "the Machine SSL certificate"
_LISTED = 90.0  # seconds until a new root is listed; vmafd copies them every 60 s


def device_name(address: Address) -> str:
    """Return the name under which a vCenter is locked."""
    return f"vcenter {address}"


class VCenterTarget(Target):
    """One vCenter; ``inspect()`` first, everything else acts on what it found.

    Args:
        others: CA certificates beside the chain's own, some of which vCenter is to trust too; see ``fit.anchors``.
        fullchain: the intermediates go with the leaf, in place of with the root.
        force: replace even what is there already.
    """

    def __init__(
        self,
        address: Address,
        client: Client,
        *,
        others: Sequence[Certificate] = (),
        fullchain: bool = False,
        force: bool = False,
    ) -> None:
        self.name = self.device = device_name(address)
        self.label = str(address)
        self._address = address
        self._client = client
        self._others = others
        self._fullchain = fullchain
        self._force = force
        self._roots: tuple[Certificate, ...] = ()
        self._lacking: list[Certificate] = []
        self._addresses: frozenset[str] = frozenset()  # those that answered before the replacement
        self._before: Optional[Certificate] = None  # what the store held when the run began
        self._sent = self._unanswered = self._taken_back = False

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
        self._lacking = [root for root in self._roots if not self._trusts(root)]
        changes = [f"trust the root {certs.label(root)}" for root in self._lacking]
        if not self._holds(bundle):
            changes.append(f"replace {MACHINE} {certs.label(self._before)}, valid until {_day(self._before)}")
            self._warn_of_names(bundle, self._before)
        return Inspection(changes=tuple(changes), endpoints=(self._address,), touches=(MACHINE,))

    def install(self, bundle: Bundle) -> None:  # noqa: ARG002  the roots are known since inspect()
        """Add the roots that vCenter does not trust yet; nothing in use changes, and none is ever deleted.

        Raises:
            UploadRefusedError: vCenter refuses one.
        """
        for root in list(self._lacking):
            self.run.tell(f"trusting the root {certs.label(root)}")
            self._trust(root)
            self._lacking.remove(root)

    def activate(self, bundle: Bundle) -> None:
        """Replace the machine certificate unless the store has it, and wait until vCenter is back with it.

        A replacement is sent once a run. How it ended is told by vCenter itself afterwards, not by the reply alone.

        Raises:
            UploadRefusedError, CredentialsError: not carried out, and said so.
            ActivationError, NotServedError, DeadlineError: see ``Settling``.
        """
        if not self._sent and (self._force or not self._holds(bundle)):
            answers = probe.every(self._address, timeout=5.0)
            self._addresses = frozenset(answer.ip for answer in answers if answer.der)
            self._replace(bundle)
        settling = Settling(
            self._client,
            self.run,
            bundle,
            self._before,
            unanswered=self._unanswered,
            addresses=self._addresses,
        )
        try:
            settling.wait()
        finally:
            self._taken_back = settling.taken_back

    def verify(self, bundle: Bundle, endpoints: tuple[Address, ...]) -> None:
        """Return when every endpoint serves it, and remark when clients that know the root alone would not trust it.

        Raises:
            NotServedError: what is served instead.
        """
        super().verify(bundle, endpoints)
        if bundle.chain and not probe.trusted(self._address, [certs.to_pem(root) for root in self._roots]):
            remark = f"{self._address} does not serve the intermediate CAs: clients that know the root alone refuse it"
            self.run.warn(f"{remark} ({'report that' if self._fullchain else 'try --fullchain'})")

    def rollback(self) -> Undone:
        """Tell what is left: nothing can be put back, since vCenter does not give the former key away."""
        if self._taken_back:
            return Undone.RESTORED
        return Undone.KEPT if self._sent else Undone.CLEAN

    def close(self) -> None:
        """End the session and close the connection."""
        self._client.logout()
        self._client.close()

    def _log_in(self) -> None:
        """Open the first session; a run before that was cut off may have left vCenter in its restart."""
        if not self.run.leftover:
            self._client.first_login()
            return
        for pause in growing(0.5, 10.0):
            try:
                self._client.first_login()
            except UnreachableError as e:
                self._client.forget()
                self.run.tell(f"{e}; an earlier run was cut off, so this waits")
                if self.run.deadline.remaining() <= pause:
                    raise
                self.run.deadline.pause(pause, "the wait for vCenter")
            else:
                return

    def _holds(self, bundle: Bundle) -> bool:
        return self._before is not None and sha256(self._before) == bundle.fingerprint

    def _replace(self, bundle: Bundle) -> None:
        chain, root = bundle.chain_pem, certs.to_pem(fit.best_root(bundle, self._roots))
        cert = bundle.leaf_pem + (chain if self._fullchain else "")
        self.run.tell(f"replacing {MACHINE}; vCenter may restart its services now")
        self._sent = True
        try:
            self._client.replace(cert, bundle.key_pem().decode(), root if self._fullchain else chain + root)
        except (ConnectionLostError, AwayError) as e:
            self._unanswered = True
            self.run.tell(f"{e}: whether it was carried out will be seen")
        except UnreachableError:
            self._sent = False  # no connection, so that nothing was sent
            raise
        except RefusedError as e:
            if e.kind == "already_exists":
                self.run.tell(f"{self._address} says that it has this certificate already")
                return
            self._sent = False
            raise UploadRefusedError(str(e), hint=e.hint) from e
        except CredentialsError:
            self._sent = False
            raise

    def _trusts(self, root: Certificate) -> bool:
        """Tell whether a root is among the trusted ones: by its bytes, since certificates of one key share an id."""
        own = fit.chain_id(root)
        if root in (self._client.root(own) or ()):
            return True
        return any(root in (self._client.root(name) or ()) for name in self._client.root_ids() if name != own)

    def _trust(self, root: Certificate) -> None:
        pem, label = certs.to_pem(root), certs.label(root)
        try:
            self._client.trust(pem)
        except RefusedError as e:
            if e.kind != "already_exists":
                raise UploadRefusedError(str(e), hint=e.hint) from e
            there = self._listed(root)
        else:
            return
        if root in there:
            return
        # Another certificate of the same CA key has the id; under one of its own this one can stand beside it.
        try:
            self._client.trust(pem, root.fingerprint(hashes.SHA256()).hex()[:40].upper())
        except RefusedError as e:
            if not any(fit.is_good_ca(other) and certs.spki(other) == certs.spki(root) for other in there):
                raise UploadRefusedError(str(e), hint=e.hint) from e
            self.run.warn(
                f"vCenter keeps another certificate of {label}, with the same key, and does not take this one"
            )

    def _listed(self, root: Certificate) -> list[Certificate]:
        """Return what has the root's id, once that is listed: a root that was added a moment ago is not yet."""
        patience = self.run.deadline.within(_LISTED)
        for pause in growing(0.2, 5.0):
            there = self._client.root(fit.chain_id(root))
            if there or patience.remaining() <= pause:
                return there or []
            self.run.tell(f"waiting for the root {certs.label(root)} to be listed")
            patience.pause(pause)
        raise AssertionError("growing() has no end")

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
