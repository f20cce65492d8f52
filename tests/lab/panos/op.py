"""type=op: the operational commands that have to do with certificates and commits."""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING, Callable, Optional
from xml.etree.ElementTree import Element
from xml.sax.saxutils import escape

from tests.lab.panos import certificates, commit, jobs, references, replies
from tests.lab.panos.nodes import text_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.lab.panos.access import Admin
    from tests.lab.panos.device import Device

Command = Callable[["Device", "Admin", Element], replies.Reply]

_COMMANDS: dict[tuple[str, ...], Command] = {}


def command(*words: str) -> Callable[[Command], Command]:
    """Register the function that carries out the command of these elements."""

    def register(function: Command) -> Command:
        _COMMANDS[words] = function
        return function

    return register


def answer(device: Device, admin: Admin, params: Mapping[str, str]) -> replies.Reply:
    """Carry out one operational command."""
    root = commit.parse(params.get("cmd", ""))
    if root is None:
        return replies.NOT_XML
    words, node = [root.tag], root
    while tuple(words) not in _COMMANDS:
        if not any(known[: len(words)] == tuple(words) for known in _COMMANDS):
            return unexpected(*words)
        if len(node) == 0:
            return replies.error(" " + " -> ".join(words) + " is incomplete", code=17)
        node = node[0]
        words.append(node.tag)
    if not admin.role.sees(" ".join(words)):
        return replies.unauthorized(device.switches.unauth_http_status)
    return _COMMANDS[tuple(words)](device, admin, node)


def unexpected(*words: str) -> replies.Reply:
    """Return the refusal of a command that this version does not know."""
    return replies.error(f" {' -> '.join(words)}  is unexpected", code=17)


@command("show", "system", "info")
def _system_info(device: Device, _: Admin, __: Element) -> replies.Reply:
    rows = "".join(f"<{tag}>{escape(text)}</{tag}>" for tag, text in device.system_info().items())
    return replies.result(f"<system>{rows}</system>")


@command("show", "jobs")
def _jobs(device: Device, _: Admin, node: Element) -> replies.Reply:
    as_date = device.switches.progress_date_on_finish
    number = node.findtext("id")
    if number is None:
        listed = reversed(list(device.jobs.values()))
        done = node.find("processed") is not None
        waiting = node.find("pending") is not None
        rows = [j.xml(date_as_progress=as_date) for j in listed if j.ended or not done if not (waiting and j.ended)]
        if device.switches.failed_job_listed:
            rows.insert(len(rows) // 2, jobs.FAILED_JOB)
        return replies.result("".join(rows))
    if device.switches.use_up("session_timeout_errors"):
        return replies.error("Session timed out", code=22)
    job = device.jobs.get(int(number)) if number.strip().isdigit() else None
    if job is None:
        return replies.error(f"job {number} not found", code=7 if device.switches.job_not_found_code else None)
    return replies.result(job.xml(date_as_progress=as_date))


@command("show", "clock")
def _clock(_: Device, __: Admin, ___: Element) -> replies.Reply:
    return replies.result(time.strftime("%a %b %e %H:%M:%S %Z %Y"))


@command("check", "pending-changes")
def _pending(device: Device, _: Admin, __: Element) -> replies.Reply:
    answer_ = "yes" if device.config.pending() else "no"
    return replies.xml(f"<response status='success'><result>{answer_}</result></response>")


@command("show", "config", "list", "changes")
def _changes(device: Device, _: Admin, node: Element) -> replies.Reply:
    takes = commit.taking(node.find("partial"), device.config.last_change)
    shown = (c for c in device.config.journal if c.shown and takes(c.admin, c.dirty_id, c.xpath))
    shorten = _scope_of if device.switches.changes_by_scope else str
    rows = "".join(
        f"<entry><xpath>{escape(place, {chr(39): '&#39;'})}</xpath><owner>{escape(admin)}</owner>"
        f"<action> {action}</action><admin-history>{escape(admin)}</admin-history>"
        f"<component-type>{_component(place)}</component-type></entry>"
        for place, admin, action in dict.fromkeys((shorten(c.xpath), c.admin, c.action) for c in shown)
    )
    return replies.result(f"<journal>{rows}</journal>" if rows else "")


def _scope_of(path: str) -> str:
    """Return the part of an xpath that names the scope: shared, Panorama's own, a vsys, deviceconfig."""
    match = re.match(r".*?(/config/shared|/config/panorama|/vsys/entry\[[^]]*\]|/deviceconfig)(?=/|$)", path)
    return match[0] if match else path


def _component(path: str) -> str:
    for part, name in (
        ("/template-stack/", "template-stack"),
        ("/template/", "template"),
        ("/shared/", "shared-object"),
    ):
        if part in path:
            return name
    return "device-and-network" if "/deviceconfig/" in path else "vsys"


@command("show", "config", "running")
def _running(device: Device, _: Admin, __: Element) -> replies.Reply:
    return replies.result(text_of(device.config.running))


@command("show", "admins")
def _admins(device: Device, admin: Admin, _: Element) -> replies.Reply:
    rows = "".join(
        f"<entry><admin>{escape(each.name)}</admin><from>127.0.0.1</from><type>Web</type>"
        f"<session-start>{time.strftime('%m/%d %H:%M:%S')}</session-start><idle-for>00:00:00s</idle-for>"
        f"{'<self/>' if each.name == admin.name else ''}</entry>"
        for each in device.admins.values()
    )
    return replies.result(f"<admins>{rows}</admins>")


@command("validate", "full")
def _validate(device: Device, admin: Admin, _: Element) -> replies.Reply:
    return _validation(device, admin, None)


@command("validate", "partial")
def _validate_partial(device: Device, admin: Admin, node: Element) -> replies.Reply:
    return _validation(device, admin, node)


def _validation(device: Device, admin: Admin, partial: Optional[Element]) -> replies.Reply:
    refused = commit.busy(device, admin)
    if refused is not None:
        return refused
    return commit.start(device, admin, commit.taking(partial, device.config.last_change), only_validate=True)


@command("revert", "config")
def _revert(device: Device, admin: Admin, node: Element) -> replies.Reply:
    if device.locks.config_held_against(admin.name):
        return replies.REVERT_FAILED
    device.config.revert(commit.taking(node.find("partial"), device.config.last_change))
    return replies.REVERTED


@command("request", "commit-lock")
def _commit_lock(device: Device, admin: Admin, node: Element) -> replies.Reply:
    return _lock(device, admin, node, "commit")


@command("request", "config-lock")
def _config_lock(device: Device, admin: Admin, node: Element) -> replies.Reply:
    return _lock(device, admin, node, "config")


def _lock(device: Device, admin: Admin, node: Element, kind: str) -> replies.Reply:
    if node.find("add") is not None:
        return device.locks.add(kind, admin.name, node.findtext("add/comment") or "")
    if node.find("remove") is not None:
        return device.locks.remove(kind, node.findtext("remove/admin") or admin.name)
    return unexpected("request", f"{kind}-lock", node[0].tag if len(node) else "")


@command("show", "commit-locks")
def _commit_locks(device: Device, _: Admin, node: Element) -> replies.Reply:
    return _show_locks(device, node, "commit")


@command("show", "config-locks")
def _config_locks(device: Device, _: Admin, node: Element) -> replies.Reply:
    return _show_locks(device, node, "config")


def _show_locks(device: Device, node: Element, kind: str) -> replies.Reply:
    if node.find("vsys") is not None and not device.switches.commit_locks_vsys:
        return unexpected("show", f"{kind}-locks", "vsys")
    return device.locks.show(kind)


@command("show", "high-availability", "state")
def _ha(device: Device, _: Admin, __: Element) -> replies.Reply:
    return replies.result(device.ha_state())


@command("set", "system", "setting", "target")
def _target(device: Device, admin: Admin, node: Element) -> replies.Reply:
    device.targets.pop(admin.name, None)
    for template in (*node.findall("template"), *node.findall("template-stack")):
        device.targets[admin.name] = (template.findtext("name") or "", template.findtext("vsys") or "")
    return replies.SUCCEEDED


@command("request", "certificate", "show")
def _certificate_show(device: Device, _: Admin, node: Element) -> replies.Reply:
    wanted: Optional[str] = node.findtext("certificate-name")
    rows = [
        _shown(entry)
        for domain in references.domains(device.config.candidate)
        for entry in ([] if domain.shared is None else domain.shared.findall("certificate/entry"))
        if wanted in (None, "", entry.get("name"))
    ]
    return replies.result("\n".join(rows))


def _shown(entry: Element) -> str:
    stored = certificates.of_entry(entry)
    subject = certificates.spaced(stored[0].subject) if stored else ""
    issuer = certificates.spaced(stored[0].issuer) if stored else ""
    fields = {
        "common-name": entry.findtext("common-name", ""),
        "subject": subject,
        "issuer": issuer,
        **{
            tag: entry.findtext(tag, "")
            for tag in ("subject-hash", "issuer-hash", "ca", "not-valid-before", "not-valid-after")
        },
        "expiry": entry.findtext("expiry-epoch", ""),
    }
    inner = "".join(f"<{tag}>{escape(text)}</{tag}>" for tag, text in fields.items())
    return f'<entry name="{escape(entry.get("name", ""))}">\n{inner}\n</entry>'


@command("show", "devices")
def _devices(device: Device, _: Admin, __: Element) -> replies.Reply:
    rows = device.managed_devices()
    return unexpected("show", "devices") if rows is None else replies.result(f"<devices>{rows}</devices>")
