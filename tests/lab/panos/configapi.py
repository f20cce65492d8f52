"""type=config: get, show, set, edit, delete, rename and multi-config."""

from __future__ import annotations

from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

from tests.lab.panos import references, replies, schema, xpath
from tests.lab.panos.nodes import text_of

if TYPE_CHECKING:
    from collections.abc import Mapping
    from xml.etree.ElementTree import Element

    from tests.lab.panos.access import Admin
    from tests.lab.panos.device import Device

_WRITES = ("set", "edit", "delete", "rename", "override", "multi-config")
_REFERRED = ("certificate", "ssl-tls-service-profile")


def answer(device: Device, admin: Admin, params: Mapping[str, str]) -> replies.Reply:
    """Carry out one request of type config."""
    action = params.get("action", "")
    if action not in ("get", "show", *_WRITES):
        return replies.error(f"config -> {action}  is unexpected", code=17)
    if action == "multi-config":
        return _multi(device, admin, params)
    path = params.get("xpath", "")
    if not admin.role.sees(path):
        return replies.unauthorized(device.switches.unauth_http_status)
    try:
        xpath.parse(path)
        if action in _WRITES:
            device.check_writable(admin)
        return _ACTIONS[action](device, admin, path, params)
    except ET.ParseError:
        return replies.MALFORMED
    except xpath.BadXpathError:
        return replies.error(" xpath is invalid", code=6)


def _get(device: Device, _: Admin, path: str, __: Mapping[str, str]) -> replies.Reply:
    found = device.config.find(path)
    if not found:
        return replies.NOTHING
    inner = "".join(text_of(node) for node in found)
    return replies.xml(
        f'<response status="success" code="19"><result total-count="{len(found)}" count="{len(found)}">\n'
        f"  {inner}\n</result></response>"
    )


def _show(device: Device, _: Admin, path: str, __: Mapping[str, str]) -> replies.Reply:
    found = device.config.find_running(path)
    return replies.result("".join(text_of(node) for node in found)) if found else replies.NO_SUCH_NODE


def elements(text: str) -> list[Element]:
    """Return the elements of an ``element`` parameter, of which there may be several side by side."""
    if "<!" in text.replace("<![CDATA[", ""):
        raise ET.ParseError("no declarations")
    return list(ET.fromstring(f"<element>{text}</element>"))


def _set(device: Device, admin: Admin, path: str, params: Mapping[str, str]) -> replies.Reply:
    new = elements(params.get("element", ""))
    schema.check(path, new, device.name_maximum)
    device.config.merge(path, new, admin.name)
    return replies.SUCCEEDED


def _edit(device: Device, admin: Admin, path: str, params: Mapping[str, str]) -> replies.Reply:
    new = elements(params.get("element", ""))
    last = xpath.parse(path)[-1]
    if len(new) != 1 or not last.fits(new[0]):
        return replies.error(" element does not match the last node of xpath", code=12)
    schema.check_node(path, new[0], device.name_maximum)
    device.config.replace(path, new[0], admin.name)
    return replies.SUCCEEDED


def _delete(device: Device, admin: Admin, path: str, _: Mapping[str, str]) -> replies.Reply:
    ways = xpath.find(device.config.candidate, path)
    if ways and device.switches.use_up("delete_seven"):
        return replies.NOT_THERE
    for way in ways:
        if way[-1].tag == "entry" and way[-2].tag in _REFERRED:
            _refuse_if_referred(device, way)
    return replies.SUCCEEDED if device.config.delete(path, admin.name) else replies.NOT_THERE


def _refuse_if_referred(device: Device, way: xpath.Way) -> None:
    users = references.referring_to(device.config.candidate, way[-1], way[-2].tag)
    if users:
        name = replies.cdata(f" {way[-1].get('name')}")
        first = f"<line> {name} cannot be deleted because of references from:</line>"
        lines = "".join(f"<line> {_escape(str(user))}</line>" for user in users)
        raise replies.RefusedError(
            replies.xml(f'<response status="error" code="10"><msg>{first}{lines}</msg></response>')
        )


def _escape(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;")


def _rename(device: Device, admin: Admin, path: str, params: Mapping[str, str]) -> replies.Reply:
    new_name = params.get("newname", "")
    schema.check_name(path, new_name, device.name_maximum)
    ways = xpath.find(device.config.candidate, path)
    if not ways:
        return replies.NOT_THERE
    way = ways[0]
    if any(child.get("name") == new_name for child in way[-2]):
        return replies.error(f" {new_name} already exists", code=8)
    users = references.referring_to(device.config.candidate, way[-1], way[-2].tag) if way[-2].tag in _REFERRED else []
    device.config.rename(path, new_name, admin.name)
    for user in users:  # a device takes its references along
        device.config.retarget(user.way[-1], new_name, admin.name)
    return replies.SUCCEEDED


_ACTIONS = {
    "get": _get, "show": _show, "set": _set, "edit": _edit, "delete": _delete, "rename": _rename, "override": _set,
}  # fmt: skip


def _multi(device: Device, admin: Admin, params: Mapping[str, str]) -> replies.Reply:
    try:
        (bundle,) = elements(params.get("element", ""))
    except (ET.ParseError, ValueError):
        return replies.MALFORMED
    strict = params.get("strict-transactional") == "yes"
    before = device.config.checkpoint()
    inner, failed = [], False
    for step in bundle:
        made = {**step.attrib, "action": step.tag, "element": "".join(text_of(child) for child in step)}
        try:
            reply = answer(device, admin, made)
        except replies.RefusedError as refused:
            reply = refused.reply
        text = reply.body.decode()
        failed = failed or 'status="success"' not in text.partition(">")[0]
        if step.get("id"):
            head, _, rest = text.partition(">")
            text = f'{head} id="{step.get("id")}">{rest}'
        inner.append(f"    {text}\n")
        if failed:
            break
    if failed and strict:
        device.config.back_to(before)
    head = 'status="error" code="13"' if failed else 'status="success" code="20"'
    return replies.xml(f"<response {head}>\n{''.join(inner)}</response>")
