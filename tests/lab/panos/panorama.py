"""A Panorama: its own certificates, templates and stacks, and pushes to firewalls."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Optional
from xml.etree import ElementTree as ET
from xml.etree.ElementTree import Element
from xml.sax.saxutils import escape

from tests.lab.panos import access, commit, jobs, nodes, replies
from tests.lab.panos.device import LOCALHOST, Device

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tests.lab.panos.firewall import Firewall


class Panorama(Device):
    """An emulated Panorama; see ``Device`` for the arguments."""

    model = "Panorama"
    name_maximum = 31

    def __init__(self, hostname: str = "panorama.example.test", **more: Any) -> None:
        more.setdefault("serial", "000710000000001")
        super().__init__(hostname, **more)
        self.firewalls: dict[str, Firewall] = {}
        self.push_results: dict[str, jobs.DeviceResult] = {}  # serial -> how every push ends there
        self.push_seconds = self.commit_seconds
        nodes.grow(self.config.candidate, "/config/panorama")
        nodes.grow(self.config.running, "/config/panorama")

    # -- setting the scene --------------------------------------------------------------------------

    def shared_path(self, vsys: str = "") -> str:
        """Return where Panorama's own certificates and profiles are; it has no virtual systems."""
        del vsys
        return "/config/panorama"

    def template_path(self, template: str, *, stack: bool = False, vsys: str = "") -> str:
        """Return the xpath of a template's shared part, or of a vsys in it."""
        kind = "template-stack" if stack else "template"
        config = f"{LOCALHOST}/{kind}/entry[@name='{template}']/config"
        if vsys:
            return f"{config}/devices/entry[@name='localhost.localdomain']/vsys/entry[@name='{vsys}']"
        return f"{config}/shared"

    def add_template(self, name: str) -> None:
        """Add a template, empty."""
        config = "<config><shared/></config>"
        self.config.put(f"{LOCALHOST}/template", ET.fromstring(f'<entry name="{name}">{config}</entry>'))

    def add_stack(self, name: str, *, templates: Sequence[str], devices: Sequence[str] = ()) -> None:
        """Add a template stack: templates, the most important first, and serial numbers of devices."""
        members = "".join(f"<member>{template}</member>" for template in templates)
        serials = "".join(f'<entry name="{serial}"/>' for serial in devices)
        text = f'<entry name="{name}"><templates>{members}</templates><devices>{serials}</devices></entry>'
        self.config.put(f"{LOCALHOST}/template-stack", ET.fromstring(text))

    def attach(self, firewall: Firewall) -> None:
        """Manage an emulated firewall: pushes to its serial number change it."""
        self.firewalls[firewall.serial] = firewall
        self.config.put("/config/mgt-config/devices", Element("entry", {"name": firewall.serial}))

    # -- imports ------------------------------------------------------------------------------------

    def import_place(self, admin: access.Admin, params: Any) -> str:
        """Return the container: a template's, a stack's, that of the op-level target, or Panorama's own."""
        template = params.get("target-tpl", "")
        vsys = "" if self.switches.target_tpl_vsys_ignored else params.get("target-tpl-vsys", "")
        if not template:
            template, vsys = self.targets.get(admin.name, ("", ""))
        if not template:
            return "/config/panorama/certificate"
        stack = bool(self.config.find(f"{LOCALHOST}/template-stack/entry[@name='{template}']"))
        known = stack or self.config.find(f"{LOCALHOST}/template/entry[@name='{template}']")
        if not known and not self.switches.import_creates_template:
            raise replies.RefusedError(replies.error(f" template '{template}' is not a valid reference", code=17))
        return self.template_path(template, stack=stack, vsys="" if vsys == "shared" else vsys) + "/certificate"

    # -- pushes -------------------------------------------------------------------------------------

    def _commit(self, admin: access.Admin, params: Mapping[str, str]) -> replies.Reply:
        if params.get("action") == "all":
            return self._push(admin, params)
        return super()._commit(admin, params)

    def _push(self, admin: access.Admin, params: Mapping[str, str]) -> replies.Reply:
        command = commit.parse(params.get("cmd", ""))
        if command is None:
            return replies.NOT_XML
        if command.tag != "commit-all" or len(command) == 0:
            return replies.error(f" {command.tag}  is unexpected", code=17)
        what = command[0]
        refused = commit.busy(self, admin)
        if refused is not None:
            return refused
        plan = self._plan(what)
        outcome = self.next_commits.pop(0) if self.next_commits else self.commit_outcome
        force = what.findtext("force-template-values") == "yes"
        results = [self._result(serial) for serial in plan]

        def at_end(job: jobs.Job) -> None:
            if outcome.fail:
                job.result, job.details = jobs.FAIL, list(outcome.fail)
                return
            for at, device in enumerate(results):
                firewall = self.firewalls.get(device.serial)
                if firewall is not None and device.ok and not device.never_ends:
                    lines = firewall.receive(plan[device.serial], self, force=force)
                    if lines:
                        results[at] = replace(device, ok=False, lines=tuple(lines))
            job.devices[:] = results

        name = what.findtext("name") or next((e.get("name", "") for e in what.iter("entry")), "")
        job = self.enqueue(
            admin.name,
            "CommitAll",
            self.push_seconds if outcome.seconds is None else outcome.seconds,
            description=what.findtext("description") or "",
            never_ends=outcome.never_ends,
            at_end=at_end,
            devices=[replace(device, never_ends=True) for device in results],
            push_type=what.tag,
            pushed=name,
        )
        return replies.enqueued(job.number, self.switches.push_reply)

    def _result(self, serial: str) -> jobs.DeviceResult:
        firewall = self.firewalls.get(serial)
        name = firewall.hostname if firewall else serial
        given = self.push_results.get(serial)
        return replace(given, serial=serial, name=name) if given else jobs.DeviceResult(serial, name)

    def _plan(self, what: Element) -> dict[str, list[tuple[str, Element]]]:
        """Return for each serial number the template layers it gets, the most important first."""
        if what.tag == "shared-policy":
            return self._policy_plan(what)
        name = what.findtext("name") or ""
        running = self.config.find_running(f"{LOCALHOST}/template-stack/entry")
        if what.tag == "template-stack":
            stacks = [stack for stack in running if stack.get("name") == name]
        else:
            stacks = [s for s in running if name in [m.text for m in s.findall("templates/member")]]
        if not stacks:
            text = f" commit-all -> {what.tag} -> name '{name}' is not a valid reference"
            raise replies.RefusedError(replies.error(text, f" commit-all -> {what.tag} is invalid", code=17))
        wanted = [member.text for member in what.findall("device/member")]
        return {
            serial: self._layers(stack)
            for stack in stacks
            for serial in (entry.get("name", "") for entry in stack.findall("devices/entry"))
            if not wanted or serial in wanted
        }

    def _policy_plan(self, what: Element) -> dict[str, list[tuple[str, Element]]]:
        groups = [entry.get("name", "") for entry in what.findall("device-group/entry")]
        if not all(groups) or not groups:
            text = " commit-all -> shared-policy -> device-group ->  '' needs to be at least 1 character"
            raise replies.RefusedError(replies.error(text, code=17))
        plan: dict[str, list[tuple[str, Element]]] = {}
        include = what.findtext("include-template") == "yes"
        for group in groups:
            for entry in self.config.find_running(f"{LOCALHOST}/device-group/entry[@name='{group}']/devices/entry"):
                serial = entry.get("name", "")
                stack = self._stack_of(serial) if include else None
                plan[serial] = [] if stack is None else self._layers(stack)
        return plan

    def _stack_of(self, serial: str) -> Optional[Element]:
        found = self.config.find_running(f"{LOCALHOST}/template-stack/entry")
        return next((s for s in found if serial in [e.get("name") for e in s.findall("devices/entry")]), None)

    def _layers(self, stack: Element) -> list[tuple[str, Element]]:
        own = stack.find("config")
        templates = [member.text or "" for member in stack.findall("templates/member")]
        return [
            *([] if own is None else [(stack.get("name", ""), own)]),
            *(
                (template, config)
                for template in templates
                for config in self.config.find_running(f"{LOCALHOST}/template/entry[@name='{template}']/config")
            ),
        ]

    def managed_devices(self) -> str:
        """Return the rows of ``show devices``."""
        return "".join(
            f'<entry name="{serial}"><serial>{serial}</serial><connected>yes</connected>'
            f"<hostname>{escape(fw.hostname)}</hostname><ip-address>{fw.address}</ip-address><model>{fw.model}</model>"
            f"<sw-version>{fw.version}</sw-version><multi-vsys>no</multi-vsys></entry>"
            for serial, fw in self.firewalls.items()
        )

    def system_info(self) -> dict[str, str]:
        """Return the rows of ``show system info``."""
        return {**super().system_info(), "family": "pc", "system-mode": "panorama"}
