"""What vCenter's certificate services do, apart from the dialect in which they are asked."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Optional

from tests.lab.vsphere import vecs
from tests.lab.vsphere.access import ADMINISTER, MANAGE, READ
from tests.lab.vsphere.faults import Fault, certificate_error

if TYPE_CHECKING:
    from tests.lab.vsphere.vcenter import VCenter

_SERVICE = "com.vmware.vcenter.certificate_management.vcenter"


class CutError(ConnectionError):
    """The connection is to be cut without an answer."""


class Operations:
    """The operations; each takes the caller's session id first."""

    def __init__(self, vcenter: VCenter) -> None:
        self._vcenter = vcenter

    def session(self, session: str) -> dict[str, str]:
        """Tell whose session it is."""
        user = self._vcenter.sessions.user(session)
        now = f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime())}.000Z"
        return {"user": user.name, "created_time": now, "last_accessed_time": now}

    def logout(self, session: str) -> None:
        """End a session."""
        self._vcenter.sessions.user(session)
        del self._vcenter.sessions.open[session]

    def tls_get(self, session: str) -> dict[str, Any]:
        """Show the machine certificate."""
        self._vcenter.sessions.need(session, READ)
        return vecs.info(self._vcenter.machine.leaf)

    def tls_set(self, session: str, spec: dict[str, Any]) -> None:
        """Replace the machine certificate, as the switch ``put`` has it."""
        vcenter = self._vcenter
        vcenter.sessions.need(session, ADMINISTER)
        fields(spec, f"{_SERVICE}.tls.spec", need=("cert",), may=("key", "root_cert"))
        if vcenter.switches.put in {"lost", "refused503"}:
            vcenter.end_put()
            return
        if spec.get("key") is None:
            raise Fault("not_found", "com.vmware.certificatemanagement.error", "Private key is not present in VECS")
        entry = vecs.check_entry(spec["cert"], spec["key"], spec.get("root_cert"), vcenter.hostname, vcenter.roots)
        if vcenter.switches.tls_already_exists and entry.leaf == vcenter.machine.leaf:
            text = "Certificate thumbprint is the same as the existing TLS certificate thumbprint"
            raise Fault("already_exists", "com.vmware.certificatemanagement.error", f"Exception found ({text})", text)
        vcenter.replace(entry)
        vcenter.end_put()

    def high_availability(self, session: str) -> dict[str, str]:
        """Show the mode of vCenter HA."""
        self._vcenter.sessions.need(session, READ)
        if not self._vcenter.switches.high_availability:
            text = "The vCenter HA cluster is not configured."
            raise Fault("not_allowed_in_current_state", "com.vmware.vcenter.vcha.notconfigured", text)
        return {"mode": self._vcenter.switches.high_availability}

    def chains(self, session: str) -> list[str]:
        """List the ids of the trusted roots."""
        self._vcenter.sessions.need(session, READ)
        return self._vcenter.roots.listed()

    def chain(self, session: str, name: str) -> list[str]:
        """Show a trusted root: PEM, with a CRL in the same string where the switch says so."""
        vcenter = self._vcenter
        vcenter.sessions.need(session, READ)
        if name not in vcenter.roots.listed():
            raise _no_chain(name)
        texts = [vecs.pem(each).decode().rstrip("\n") for each in vcenter.roots.chains[name]]
        if vcenter.switches.crl_in_chain:
            texts = [f"{text}\n-----BEGIN X509 CRL-----\nMIIC\n-----END X509 CRL-----" for text in texts]
        return texts

    def chain_create(self, session: str, chain: list[str], name: Optional[str] = None) -> str:
        """Trust a root, and return its id."""
        vcenter = self._vcenter
        for privilege in (MANAGE, ADMINISTER):
            vcenter.sessions.need(session, privilege)
        certificates = [each for text in chain for each in vecs.read(text)]
        for each in certificates:
            vecs.check_ca(each)
        wanted = name or vecs.chain_id(certificates[0 if vcenter.switches.first_id else -1])
        if wanted in vcenter.roots.chains and vcenter.switches.root_already_exists:
            text = f"Trusted root chain {wanted} exists already"
            raise Fault("already_exists", "com.vmware.certificatemanagement.error", text, wanted)
        vcenter.changed("root")
        return vcenter.roots.add(certificates, name=wanted, lag=vcenter.switches.root_lag)

    def chain_delete(self, session: str, name: str) -> None:
        """Trust a root no more."""
        vcenter = self._vcenter
        vcenter.sessions.need(session, ADMINISTER)
        if name not in vcenter.roots.chains:
            raise _no_chain(name)
        vcenter.changed("delete")
        del vcenter.roots.chains[name]


def fields(spec: Any, structure: str, *, need: tuple[str, ...], may: tuple[str, ...] = ()) -> None:
    """Refuse a structure with fields that it does not have, or without those that it needs; all hold text."""
    if not isinstance(spec, dict):
        raise certificate_error("not a structure")
    unknown = [name for name in spec if name not in (*need, *may)]
    if unknown:
        names = f"[{', '.join(unknown)}]"
        text = f"Found unexpected fields {names} in structure {structure}"
        raise Fault("unexpected_input", "com.vmware.vapi.data.structure.unexpected", text, names, structure)
    missing = [name for name in need if not spec.get(name)]
    if missing:
        text = f'Structure {structure} is missing a field "{missing[0]}"'
        raise Fault("invalid_argument", "vapi.data.structure.field.missing", text, structure, missing[0])


def _no_chain(name: str) -> Fault:
    return Fault("not_found", "com.vmware.certificatemanagement.error", f"Trusted root chain {name} not found", name)
