"""The vAPI's JSON-RPC on ``POST /api``, which Broadcom's own SDK speaks (framing: vapi-runtime 9.1.1)."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Callable

from tests.lab.vsphere.faults import Fault, unauthenticated
from tests.lab.vsphere.rest import Reply

if TYPE_CHECKING:
    from tests.lab.vsphere.vcenter import VCenter

_VCENTER = "com.vmware.vcenter.certificate_management.vcenter"
_CHAIN = "com.vmware.vcenter.certificate_management.x509_cert_chain"
_MESSAGE = "com.vmware.vapi.std.localizable_message"


def answer(vcenter: VCenter, body: bytes) -> Reply:
    """Answer a call; errors have status 200 and the header ``vapi-error``."""
    try:
        call = json.loads(body)
        params = call["params"]
        context = params["ctx"]["securityCtx"] or {}
        given = params["input"]["STRUCTURE"]["operation-input"]
    except (ValueError, KeyError, TypeError):
        return Reply(400, b'{"jsonrpc":"2.0","error":{"code":-32700,"message":"Parse error."}}')
    headers: tuple[tuple[str, str], ...] = ()
    try:
        output = _invoke(vcenter, f"{params['serviceId']}.{params['operationId']}", context, given)
        result = {"output": output}
    except Fault as fault:
        name = f"com.vmware.vapi.std.errors.{fault.kind}"
        headers = (("vapi-error", name),)
        result = {"error": _error(name, fault)}
    return Reply(200, json.dumps({"jsonrpc": "2.0", "id": call.get("id"), "result": result}).encode(), headers=headers)


def _invoke(vcenter: VCenter, operation: str, context: dict[str, Any], given: dict[str, Any]) -> Any:
    do, session = vcenter.operations, str(context.get("sessionId", ""))
    spec = _plain(given.get("spec", {}))
    tls, roots = f"{_VCENTER}.tls", f"{_VCENTER}.trusted_root_chains"

    def chain() -> Any:
        inner = {_CHAIN: {"cert_chain": do.chain(session, given["chain"])}}
        return {"STRUCTURE": {f"{roots}.info": {"cert_chain": {"STRUCTURE": inner}}}}

    operations: dict[str, Callable[[], Any]] = {
        "com.vmware.cis.session.create": lambda: _login(vcenter, context),
        "com.vmware.cis.session.delete": lambda: do.logout(session),
        f"{tls}.get": lambda: {"STRUCTURE": {f"{tls}.info": do.tls_get(session)}},
        f"{tls}.set": lambda: do.tls_set(session, spec),
        f"{roots}.list": lambda: [{"STRUCTURE": {f"{roots}.summary": {"chain": c}}} for c in do.chains(session)],
        f"{roots}.get": chain,
        f"{roots}.create": lambda: do.chain_create(session, spec["cert_chain"]["cert_chain"], spec.get("chain")),
        f"{roots}.delete": lambda: do.chain_delete(session, given["chain"]),
    }
    if operation not in operations:
        service = operation.rpartition(".")[0]
        raise Fault(
            "operation_not_found", "vapi.method.input.invalid.interface", f"Invalid interface {service}", service
        )
    return operations[operation]()


def _login(vcenter: VCenter, context: dict[str, Any]) -> dict[str, str]:
    if not str(context.get("schemeId", "")).endswith("user_pass"):
        raise unauthenticated()
    return {"SECRET": vcenter.login(context["userName"], context["password"])}


def _plain(value: Any) -> Any:
    """Return a value without the framing: structures, optional and secret values."""
    if isinstance(value, list):
        return [_plain(each) for each in value]
    if not isinstance(value, dict):
        return value
    if set(value) == {"STRUCTURE"}:
        [inner] = value["STRUCTURE"].values()
        return _plain(inner)
    if set(value) in ({"OPTIONAL"}, {"SECRET"}):
        [inner] = value.values()
        return _plain(inner)
    return {name: _plain(each) for name, each in value.items()}


def _error(name: str, fault: Fault) -> dict[str, Any]:
    none = {"OPTIONAL": None}
    message = {"id": fault.id, "default_message": fault.text, "args": fault.args_, "params": none, "localized": none}
    body: dict[str, Any] = {
        "messages": [{"STRUCTURE": {_MESSAGE: message}}],
        "data": none,
        "error_type": {"OPTIONAL": fault.kind.upper()},
    }
    if fault.kind == "unauthenticated":
        body["challenge"] = none
    return {"ERROR": {name: body}}
