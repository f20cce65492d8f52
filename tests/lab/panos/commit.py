"""type=commit on the device itself: full, partial by administrator, forced, or only validated."""

from __future__ import annotations

from typing import TYPE_CHECKING, Optional
from xml.etree import ElementTree as ET

from tests.lab.panos import jobs, replies, validation

if TYPE_CHECKING:
    from collections.abc import Mapping
    from xml.etree.ElementTree import Element

    from tests.lab.panos.access import Admin
    from tests.lab.panos.device import Device
    from tests.lab.panos.tree import Takes

_DEVICE_AND_NETWORK = ("/deviceconfig", "/network", "/certificate", "/ssl-tls-service-profile", "/mgt-config")


def answer(device: Device, admin: Admin, params: Mapping[str, str]) -> replies.Reply:
    """Enqueue a commit, or say why not."""
    command = parse(params.get("cmd", "<commit></commit>"))
    if command is None:
        return replies.NOT_XML
    if command.tag != "commit":
        return replies.error(f" {command.tag}  is unexpected", code=17)
    partial = _first(command, "partial", "force/partial")
    if partial is not None and device.switches.partial_needs_action and params.get("action") != "partial":
        return replies.error(" commit -> partial  is unexpected", code=17)
    description = command.findtext("description") or command.findtext(".//partial/description") or ""
    _check_description(device, description)
    forced = command.find("force") is not None
    takes = taking(partial, device.config.last_change)
    only_validate = command.find("validate") is not None
    refused = busy(device, admin)
    if refused is not None:
        return refused
    if not (forced or only_validate or device.config.pending(takes)):
        return _no_changes(device, admin)
    return start(device, admin, takes, description=description, only_validate=only_validate)


def parse(text: str) -> Optional[Element]:
    """Return a command, or None when it is no XML; declarations are refused, as a device does."""
    if "<!DOCTYPE" in text or "<!ENTITY" in text:
        return None
    try:
        return ET.fromstring(text)
    except ET.ParseError:
        return None


def _first(command: Element, *paths: str) -> Optional[Element]:
    return next((node for path in paths if (node := command.find(path)) is not None), None)


def taking(partial: Optional[Element], limit: int) -> Takes:
    """Return which changes a commit or a revert means: all up to now, or those of some administrators."""
    if partial is None:
        return lambda _admin, number, _path: number <= limit
    admins = [member.text for member in partial.findall("admin/member")]
    shared = partial.findtext("shared-object") == "excluded"
    device = partial.findtext("device-and-network") == "excluded"
    policy = partial.findtext("policy-and-objects") == "excluded"

    def takes(admin: str, number: int, path: str) -> bool:
        if number > limit or (admins and admin not in admins):
            return False
        of_device = any(part in path for part in _DEVICE_AND_NETWORK)
        if of_device:
            return not device
        return not (policy or (shared and path.startswith("/config/shared")))

    return takes


def _check_description(device: Device, description: str) -> None:
    if description and device.switches.commit_description == "refuse":
        raise replies.RefusedError(replies.error(" commit -> description  is unexpected", code=17))
    maximum = device.switches.description_maximum
    if len(description) > maximum:
        text = f" commit -> description can be at most {maximum} characters, but current length: {len(description)}"
        raise replies.RefusedError(replies.error(text, " commit -> description is invalid", code=17))


def busy(device: Device, admin: Admin) -> Optional[replies.Reply]:
    """Return why no commit can start now: another runs, or somebody holds a commit lock."""
    if any(not job.ended and job.kind in ("Commit", "Validate") for job in device.jobs.values()):
        return replies.BUSY
    if any(holder != admin.name for holder in device.locks.commit):
        return replies.LOCKED
    return None


def _no_changes(device: Device, admin: Admin) -> replies.Reply:
    which = device.switches.no_changes
    if which == "role":
        which = "19" if admin.role.superuser else "13"
    return replies.NO_CHANGES if which == "19" else replies.SAME_AS_PREVIOUS


def start(
    device: Device, admin: Admin, takes: Takes, *, description: str = "", only_validate: bool = False
) -> replies.Reply:
    """Enqueue the job; what it will run is fixed now, what changes later stays pending."""
    outcome = device.next_commits.pop(0) if device.next_commits else device.commit_outcome
    tree = device.config.with_changes(takes)

    def at_end(job: jobs.Job) -> None:
        lines = list(outcome.fail) or validation.problems(tree, device.switches)
        if lines:
            job.result, job.details = jobs.FAIL, lines
            return
        job.details = ["Configuration is valid"] if only_validate else [jobs.COMMITTED]
        job.warnings = [*outcome.warnings, *validation.warnings(tree)]
        if not only_validate:
            device.config.committed(tree, takes)
            device.committed()

    job = device.enqueue(
        admin.name,
        "Validate" if only_validate else "Commit",
        device.commit_seconds if outcome.seconds is None else outcome.seconds,
        description=description,
        never_ends=outcome.never_ends,
        at_end=at_end,
    )
    return replies.enqueued(job.number, "Validate job" if only_validate else "Commit job")
