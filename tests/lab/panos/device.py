"""What a firewall and a Panorama have in common: the API below the web server."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Callable, Optional
from xml.sax.saxutils import escape

from tests.lab.panos import access, commit, configapi, imports, nodes, op, replies
from tests.lab.panos.api import ApiHandler
from tests.lab.panos.machine import LOCALHOST, Restart
from tests.lab.panos.scene import Scene

if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterable
    from xml.etree.ElementTree import Element

    from tests.lab.panos.requests import Request

__all__ = ["LOCALHOST", "Device", "Restart"]


class Device(Scene):
    """One emulated device; use it as a context manager, or ``start()`` and ``stop()`` it.

    Args:
        hostname: its name; also the name in its factory certificate.
        address: loopback address to listen on.
        port: 0 takes a free one; see ``port`` afterwards.
        tls: certificate (chain) and key, PEM, that the factory gave it; made by ``ca`` unless given.
        ca: authority for what it needs certificates for; one lab CA a process unless given.
        serial: serial number.
        version: PAN-OS version.
        commit_seconds: how long a commit takes.
        switches: what it does where nobody knows.

    """

    # -- the API ------------------------------------------------------------------------------------

    def _serve(self, sock: ssl.SSLSocket) -> None:
        ApiHandler(sock, sock.getpeername(), self)  # type: ignore[arg-type]  # see ApiHandler.server

    def front_door(self, request: Request) -> Optional[replies.Reply]:
        """Return what the web server answers by itself while it restarts, else None."""
        if self._restart_after:
            self._restart_after -= 1
            if not self._restart_after:
                self._restart()
        if self._bad_gateway_due or time.monotonic() < self._not_before:
            self._bad_gateway_due = False
            return replies.BAD_GATEWAY
        if self._invalid_credentials and request.params.get("type") != "keygen":
            self._invalid_credentials -= 1
            return replies.INVALID_CREDENTIALS
        return None

    def answer(self, request: Request) -> replies.Reply:
        """Carry out one request."""
        with self.lock:
            self.tick()
            try:
                return self._answer(request)
            except replies.RefusedError as refused:
                return refused.reply

    def _answer(self, request: Request) -> replies.Reply:
        params = request.params
        kind = params.get("type", "")
        if kind == "keygen":
            return self._keygen(params)
        admin = access.who(self.admins, request.headers, params)
        if admin is None:
            return replies.INVALID_KEY
        if not admin.role.may(kind):
            return replies.front_end_error(403, f"Type [{kind}] not authorized for user role.")
        answers: dict[str, Callable[[], replies.Reply]] = {
            "version": self._version,
            "config": lambda: configapi.answer(self, admin, params),
            "op": lambda: op.answer(self, admin, params),
            "commit": lambda: self._commit(admin, params),
            "import": lambda: self._import(admin, request),
            "export": lambda: self._export(params),
        }
        if kind not in answers:
            return replies.front_end_error(400, f"Invalid value for parameter type: {kind}")
        return answers[kind]()

    def _keygen(self, params: Any) -> replies.Reply:
        admin = access.by_password(self.admins, params.get("user", ""), params.get("password", ""))
        if admin is None:
            return replies.INVALID_CREDENTIALS
        return replies.xml(f"<response status = 'success'><result><key>{admin.key}</key></result></response>")

    def _version(self) -> replies.Reply:
        return replies.xml(
            f'<response status = "success"><result><sw-version>{self.version}</sw-version><multi-vsys>off</multi-vsys>'
            f"<model>{self.model}</model><serial>{self.serial}</serial></result></response>"
        )

    def _commit(self, admin: access.Admin, params: Any) -> replies.Reply:
        self.check_writable(admin, config_lock=False)
        return commit.answer(self, admin, params)

    def _import(self, admin: access.Admin, request: Request) -> replies.Reply:
        params = request.params
        if params.get("category") not in imports.CATEGORIES or request.method != "POST" or request.file is None:
            return replies.front_end_error(400, "Invalid value for parameter category, or no file in the request")
        self.check_writable(admin)
        name = params.get("certificate-name", "")
        upload = imports.Upload(params["category"], name, request.file_name, request.file, params)
        imports.check_parameters(upload, self.switches, self.name_maximum)
        material = imports.read(upload, self.switches)
        place = self.import_place(admin, params)
        old = self.config.find(f"{place}/entry[@name='{name}']")
        entries = imports.entries(upload, material, old[0] if old else None, self.switches, self.keep_key)
        for entry in entries:
            self._store(place, entry, admin)
        return replies.result(f"Successfully imported {name} into candidate configuration")

    def _store(self, place: str, entry: Element, admin: access.Admin) -> None:
        path = f"{place}/entry[@name='{entry.get('name')}']"
        old = self.config.find(path)
        if old and not self.switches.identical_import_is_change and self._same(old[0], entry):
            return
        if old:
            self.config.replace(path, entry, admin.name)
        else:
            self.config.merge(place, [entry], admin.name)

    def _same(self, old: Element, new: Element) -> bool:
        keys = [self._keys.get(e.findtext("private-key", "")) for e in (old, new)]
        return keys[0] == keys[1] and old.findtext("public-key") == new.findtext("public-key")

    def _export(self, params: Any) -> replies.Reply:
        if params.get("category") == "certificate" and "format" not in params:
            return replies.front_end_error(400, 'Parameter "format" is required while exporting certificate')
        if params.get("category") == "configuration":
            return replies.xml(nodes.text_of(self.config.running))
        return replies.front_end_error(400, f"Invalid value for parameter category: {params.get('category', '')}")

    # -- what the kinds of devices differ in --------------------------------------------------------

    def check_writable(self, admin: access.Admin, *, config_lock: bool = True) -> None:
        """Refuse a change while somebody else holds the config lock.

        Raises:
            replies.RefusedError: the refusal.

        """
        holders: Iterable[str] = self.locks.config_held_against(admin.name)
        for holder in holders if config_lock else ():
            raise replies.RefusedError(
                replies.error(f"Config for scope shared is currently locked by {escape(holder)}")
            )

    def import_place(self, admin: access.Admin, params: Any) -> str:
        """Return the xpath of the container into which an import goes."""
        raise NotImplementedError

    def system_info(self) -> dict[str, str]:
        """Return the rows of ``show system info``."""
        now = time.strftime("%a %b %e %H:%M:%S %Y")
        return {
            "hostname": self.hostname, "ip-address": self.address, "netmask": "255.0.0.0", "default-gateway": "",
            "ipv6-address": "unknown", "mac-address": "00:00:5e:00:53:01", "time": now, "uptime": "11 days, 22:09:01",
            "devicename": self.hostname, "family": "vm", "model": self.model, "serial": self.serial,
            "sw-version": self.version, "app-version": "8800-8500", "multi-vsys": "off", "operational-mode": "normal",
        }  # fmt: skip

    def ha_state(self) -> str:
        """Return the result of ``show high-availability state``."""
        return "<enabled>no</enabled>"

    def managed_devices(self) -> Optional[str]:
        """Return the rows of ``show devices``; None where there is no such command."""
        return None
