"""A firewall: virtual systems, GlobalProtect ports, high availability, values from a Panorama."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any, Optional
from xml.etree import ElementTree as ET

from tests.lab.https import Identity, Listener
from tests.lab.panos import access, nodes, replies, validation, xpath
from tests.lab.panos.api import PortalHandler
from tests.lab.panos.device import LOCALHOST, Device

if TYPE_CHECKING:
    import ssl
    from xml.etree.ElementTree import Element


class Portal:
    """A GlobalProtect portal or gateway: its own TLS port, the certificate of a profile."""

    def __init__(self, firewall: Firewall, name: str, listener: Listener) -> None:
        self.firewall, self.name, self.listener = firewall, name, listener
        self.stuck: Optional[Identity] = None  # what it goes on serving, whatever is committed

    @property
    def port(self) -> int:
        """Its port."""
        return self.listener.port

    def stick(self) -> None:
        """Serve from now on what it serves now, whatever is committed."""
        self.stuck = self.listener.identity()


class Firewall(Device):
    """An emulated firewall; see ``Device`` for the arguments."""

    model = "PA-VM"
    name_maximum = 63

    def __init__(self, hostname: str = "fw01.example.test", **more: Any) -> None:
        super().__init__(hostname, **more)
        self.peer: Optional[Firewall] = None
        self.ha = ""  # "active" or "passive" when paired
        self.ha_sync = True  # commits of the active unit are replicated to the passive one
        self.portals: list[Portal] = []
        self.add_vsys("vsys1")

    def add_vsys(self, name: str) -> None:
        """Add a virtual system; ``vsys1`` is there already."""
        for root in (self.config.candidate, self.config.running):
            nodes.grow(root, f"{LOCALHOST}/vsys/entry[@name='{name}']")

    # -- GlobalProtect ------------------------------------------------------------------------------

    def add_portal(
        self,
        profile: str,
        *,
        name: str = "gp",
        gateway: bool = False,
        vsys: str = "vsys1",
        address: str = "",
        port: int = 0,
    ) -> Portal:
        """Open a port that serves the certificate of a profile, as committed; before ``start()`` or after.

        It listens on the device's own loopback address unless another is given.
        """
        kind = "gateway" if gateway else "portal"
        place = f"{LOCALHOST}/vsys/entry[@name='{vsys}']/global-protect/global-protect-{kind}"
        inner = f"<ssl-tls-service-profile>{profile}</ssl-tls-service-profile>"
        if not gateway:
            inner = f"<portal-config>{inner}</portal-config>"
        self.config.put(place, ET.fromstring(f'<entry name="{name}">{inner}</entry>'))
        choice = f"{place}/entry[@name='{name}']//ssl-tls-service-profile"

        def identity() -> Identity:
            self.tick()
            with self.lock:
                chosen = self.config.find_running(choice)
                now = self.identity_of(chosen[0].text or "", vsys) if chosen else None
                return portal.stuck or now or (b"", b"")

        listener = Listener(address or self.address, port, identity, _serve_portal)
        portal = Portal(self, name, listener)
        self.listeners.append(listener)
        if self.listener.started:
            listener.start()
        self.portals.append(portal)
        return portal

    # -- imports ------------------------------------------------------------------------------------

    def import_place(self, admin: access.Admin, params: Any) -> str:  # noqa: ARG002
        """Return shared, or the vsys that the request names."""
        vsys = params.get("vsys", "")
        if vsys in ("", "shared"):
            return "/config/shared/certificate"
        if not self.config.find(f"{LOCALHOST}/vsys/entry[@name='{vsys}']"):
            raise replies.RefusedError(replies.error(f" vsys '{vsys}' is not a valid reference", code=17))
        return f"{self.shared_path(vsys)}/certificate"

    # -- high availability --------------------------------------------------------------------------

    def check_writable(self, admin: access.Admin, *, config_lock: bool = True) -> None:
        """Refuse changes on a passive unit, where the switch says so."""
        if self.ha == "passive" and self.switches.passive_refuses_writes:
            raise replies.RefusedError(replies.error("Operation denied: the device is passive", code=15))
        super().check_writable(admin, config_lock=config_lock)

    def pair_with(self, passive: Firewall, *, sync: bool = True) -> None:
        """Make an HA pair of this firewall (active) and another (passive)."""
        self.peer, passive.peer = passive, self
        self.ha_sync = passive.ha_sync = sync
        self.ha, passive.ha = "active", "passive"
        self._replicate()

    def committed(self) -> None:
        """Replicate to the peer what HA replicates."""
        super().committed()
        if self.ha == "active":
            self._replicate()

    def _replicate(self) -> None:
        peer = self.peer
        if peer is None or not self.ha_sync:
            return
        with peer.lock:
            peer.keys_from(self)
            for root in (peer.config.candidate, peer.config.running):
                for path in ("/config/shared", f"{LOCALHOST}/vsys"):  # the choice for management stays the peer's own
                    _copy(self.config.running, root, path)
            peer.config.journal.clear()
            Device.committed(peer)

    def fail_over(self) -> None:
        """Let the other unit of the pair become the active one."""
        if self.peer is not None:
            self.ha, self.peer.ha = self.peer.ha, self.ha

    def ha_state(self) -> str:
        """Return the result of ``show high-availability state``."""
        peer = self.peer
        if peer is None:
            return "<enabled>no</enabled>"
        return (
            "<enabled>yes</enabled><group><mode>Active-Passive</mode>"
            f"<local-info>{_unit(self)}<mgmt-ip>{self.address}/8</mgmt-ip></local-info>"
            f"<peer-info>{_unit(peer)}<conn-status>up</conn-status>"
            f"<mgmt-ip>{peer.address}/8</mgmt-ip></peer-info>"
            "<running-sync>synchronized</running-sync>"
            f"<running-sync-enabled>{'yes' if self.ha_sync else 'no'}</running-sync-enabled></group>"
        )

    # -- Panorama -----------------------------------------------------------------------------------

    def receive(self, layers: list[tuple[str, Element]], sender: Device, *, force: bool = False) -> list[str]:
        """Take the values of templates, the most important first, and commit them.

        Returns:
            the lines of the failure, empty when all is well (and only then anything has changed).

        """
        self.tick()
        with self.lock:
            roots = [copy.deepcopy(self.config.candidate), copy.deepcopy(self.config.running)]
            for root in roots:
                _drop_pushed(root)
                for name, layer in layers:
                    _fill(root, layer, name, force=force)
            lines = validation.problems(roots[1], self.switches)
            if not lines:
                self.keys_from(sender)
                self.config.candidate, self.config.running = roots
                self.committed()
            return lines


def _serve_portal(sock: ssl.SSLSocket) -> None:
    PortalHandler(sock, sock.getpeername(), None)  # type: ignore[arg-type]  # it never looks at its server


def _unit(firewall: Firewall) -> str:
    priority = 100 if firewall.ha == "active" else 110
    return (
        f"<build-rel>{firewall.version}</build-rel><platform-model>{firewall.model}</platform-model>"
        f"<priority>{priority}</priority><state>{firewall.ha}</state>"
    )


def _copy(source: Element, root: Element, path: str) -> None:
    found = xpath.find(source, path)
    if not found:
        return
    node = nodes.grow(root, path)
    node[:] = [copy.deepcopy(child) for child in found[0][-1]]


def _drop_pushed(node: Element) -> None:
    for child in list(node):
        _drop_pushed(child)
        if child.get("src") == "tpl" and len(child) == 0:
            node.remove(child)


def _fill(node: Element, layer: Element, name: str, *, force: bool) -> None:
    """Add what the template has and the node lacks; what is local stays, unless forced."""
    for child in layer:
        old = xpath.child_like(node, child)
        if old is None:
            fresh = nodes.strip(copy.deepcopy(child))
            for each in fresh.iter():
                each.set("ptpl", name)
                each.set("src", "tpl")
            node.append(fresh)
        elif len(child):
            _fill(old, child, name, force=force)
        elif force and old.get("src") != "tpl":
            old.text = child.text
            old.set("ptpl", name)
            old.set("src", "tpl")
