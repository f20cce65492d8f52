"""vCenter's trusted roots (TRUSTED_ROOTS): looked at by certificate, added when missing, never removed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cryptography.hazmat.primitives import hashes

from certhooks import certificate as certs
from certhooks.deadline import growing
from certhooks.errors import UploadRefusedError
from certhooks_vcenter import fit
from certhooks_vcenter.replies import RefusedError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from cryptography.x509 import Certificate

    from certhooks.target import Run
    from certhooks_vcenter.rest import Client

_MOST = 1000
_LISTED = 90.0  # seconds until a new root is listed; vmafd copies them every 60 s


class RootStore:
    """The store of one vCenter, in a session that is open."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def lacking(self, roots: Iterable[Certificate]) -> list[Certificate]:
        """Return which of the roots it does not have: by their bytes, since certificates of one key share an id.

        Raises:
            RefusedError: there are more than anybody has.
        """
        wanted = {root: fit.chain_id(root) for root in roots}
        there = {each for name in dict.fromkeys(wanted.values()) for each in self._client.root(name) or ()}
        if there.issuperset(wanted):
            return []
        ids = dict.fromkeys(self._client.root_ids())
        if len(ids) > _MOST:
            raise RefusedError(f"{self._client.address} lists {len(ids)} trusted roots", hint="is it a vCenter?")
        for name in ids:
            if name not in wanted.values():
                there.update(self._client.root(name) or ())
        return [root for root in wanted if root not in there]

    def trust(self, root: Certificate, run: Run) -> None:
        """Add a root.

        Raises:
            UploadRefusedError: vCenter refuses it.
        """
        pem, label = certs.to_pem(root), certs.label(root)
        run.tell(f"trusting the root {label}")
        try:
            self._client.trust(pem)
        except RefusedError as e:
            if e.kind != "already_exists":
                raise UploadRefusedError(str(e), hint=e.hint) from e
            there = self._listed(root, run)
        else:
            there = self._client.root(fit.chain_id(root)) or [root]  # not listed yet, so that nothing else had the id
        if root in there:
            return
        # Another certificate of the same CA key has the id; under one of its own this one can stand beside it.
        try:
            self._client.trust(pem, root.fingerprint(hashes.SHA256()).hex()[:40].upper())
        except RefusedError as e:
            if not any(fit.is_good_ca(other) and certs.spki(other) == certs.spki(root) for other in there):
                raise UploadRefusedError(str(e), hint=e.hint) from e
            run.warn(f"vCenter keeps another certificate of {label}, with the same key, and does not take this one")

    def _listed(self, root: Certificate, run: Run) -> list[Certificate]:
        """Return what has the root's id, once that is listed: a root that was added a moment ago is not yet."""
        patience = run.deadline.within(_LISTED)
        for pause in growing(0.2, 5.0):
            there = self._client.root(fit.chain_id(root))
            if there or patience.remaining() <= pause:
                return there or []
            run.tell(f"waiting for the root {certs.label(root)} to be listed")
            patience.pause(pause)
        raise AssertionError("growing() has no end")
