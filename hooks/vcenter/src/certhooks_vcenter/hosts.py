"""The CA certificates that hosts trust: vCenter pushes its own to them, a host alone is given them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Optional

from certhooks import certificate as certs
from certhooks.deadline import growing
from certhooks.errors import BundleError, UploadRefusedError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cryptography.x509 import Certificate

    from certhooks.deadline import Deadline
    from certhooks.target import Run
    from certhooks_vcenter.vim import Vim

_PUSHED = 90.0  # seconds; what was just added to vCenter's roots is pushed only once vmafd has copied it, after 60 s


def lacking(vim: Vim, host: Any, roots: Sequence[Certificate]) -> list[Certificate]:
    """Return which of the roots a host does not trust."""
    with vim.told("listing the CAs of a host"):
        texts = list(host.configManager.certificateManager.ListCACertificates())
    there = [each for text in texts for each in _read(text)]
    return [root for root in roots if root not in there]


def push(vim: Vim, host: Any, roots: Sequence[Certificate], run: Run, within: Optional[Deadline] = None) -> None:
    """Return when vCenter has pushed these roots of its own to a host.

    Raises:
        UploadRefusedError: it has not, in its words.
    """
    patience = (within or run.deadline).within(_PUSHED)
    for pause in growing(0.5, 10.0):
        said = vim.refresh_cas([host], patience)
        if said:
            raise UploadRefusedError(f"{vim.address} could not push its roots: {said}", hint="is the host connected?")
        missing = lacking(vim, host, roots)
        if not missing:
            return
        if patience.remaining() <= pause:
            raise UploadRefusedError(
                f"{vim.address} did not push the root {certs.label(missing[0])}", hint="run the same command again"
            )
        patience.pause(pause, "the push of roots")


def give(vim: Vim, host: Any, roots: Sequence[Certificate]) -> None:
    """Have a host that is asked itself trust these roots beside those that it trusts."""
    with vim.told("the CA certificates"):
        manager = host.configManager.certificateManager
        present = list(manager.ListCACertificates())
        crls = list(manager.ListCACertificateRevocationLists())  # they would be replaced by none
        manager.ReplaceCACertificatesAndCRLs(caCert=[*present, *map(certs.to_pem, roots)], caCrl=crls)


def _read(text: str) -> list[Certificate]:
    try:
        return certs.read(text.encode(), "a CA of the host")
    except BundleError:
        return []
