"""What a firewall and a Panorama have in common: state, the API below the web server, and the web server itself."""

from __future__ import annotations

import collections
import copy
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Optional, Union
from xml.etree import ElementTree as ET
from xml.etree.ElementTree import Element
from xml.sax.saxutils import escape

from cryptography import x509

from tests.lab import ca as lab
from tests.lab.panos import (
    access,
    certificates,
    commit,
    configapi,
    faults,
    imports,
    jobs,
    locks,
    op,
    references,
    replies,
    tree,
)
from tests.lab.panos.api import ApiHandler
from tests.lab.panos.server import Identity, Listener
from tests.lab.panos.switches import Switches

if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterable

    from tests.lab.panos.requests import Request

Pair = tuple[bytes, bytes]
LOCALHOST = "/config/devices/entry[@name='localhost.localdomain']"
SYSTEM = f"{LOCALHOST}/deviceconfig/system"
_REQUESTS_KEPT = 20_000


@dataclass
class Restart:
    """What the management web server goes through when its certificate changes.

    Attributes:
        refuse: seconds during which connections are refused.
        bad_gateway: seconds after that with HTTP 502.
        invalid_credentials: requests after that answered with 403 ``Invalid credentials.``.

    """

    refuse: float = 0.3
    bad_gateway: float = 0.3
    invalid_credentials: int = 1


class Device:
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

    model: ClassVar[str]
    name_maximum: ClassVar[int]

    def __init__(
        self,
        hostname: str,
        *,
        address: str = "127.0.0.1",
        port: int = 0,
        tls: Optional[Pair] = None,
        ca: Optional[lab.CA] = None,
        serial: str = "007000000000001",
        version: str = "11.1.4",
        commit_seconds: float = 0.2,
        switches: Optional[Switches] = None,
    ) -> None:
        self.hostname, self.serial, self.version = hostname, serial, version
        self.ca = ca or lab.lab_ca()
        self.commit_seconds = commit_seconds
        self.switches = switches or Switches()
        self.restart = Restart()
        self.config = tree.Config()
        self.admins: dict[str, access.Admin] = {}
        self.jobs: dict[int, jobs.Job] = {}
        self.locks = locks.Locks()
        self.targets: dict[str, tuple[str, str]] = {}
        self.faults = faults.Faults()
        self.next_commits: list[jobs.Outcome] = []
        self.commit_outcome = jobs.Outcome()
        self.requests: collections.deque[Request] = collections.deque(maxlen=_REQUESTS_KEPT)
        self.restarts = 0
        self.lock = threading.RLock()
        self._keys: dict[str, bytes] = {}  # what stands in the configuration -> private key in the clear
        self._factory = tls or self._made_by_ca()
        self._served: Identity = self._factory
        self._not_before = 0.0  # until this moment (monotonic) the web server answers 502
        self._invalid_credentials = 0
        self.listener = Listener(address, port, self.served_pair, self._serve)
        self._listeners = [self.listener]
        self.config.put(SYSTEM, _leaf("hostname", hostname))

    # -- life ------------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Listen."""
        self._served = self._management_identity()
        for listener in self._listeners:
            listener.start()

    def stop(self) -> None:
        """Close every port and connection."""
        for listener in self._listeners:
            listener.stop()

    def __enter__(self):  # type: ignore[no-untyped-def]  # noqa: ANN204 - typing.Self is newer than Python 3.9
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def address(self) -> str:
        """The loopback address."""
        return self.listener.address

    @property
    def port(self) -> int:
        """The management port."""
        return self.listener.port

    @property
    def ca_pem(self) -> bytes:
        """What a client has to trust to verify the certificates that the emulator made itself."""
        return self.ca.root_pem

    def _made_by_ca(self) -> Pair:
        made = self.ca.issue([self.hostname, "localhost", "127.0.0.1"])
        return made.fullchain_pem, made.key_pem

    # -- setting the scene (both trees, no marks) --------------------------------------------------------------------

    def add_admin(
        self,
        name: str = "certhooks",
        *,
        key: Optional[str] = None,
        password: str = "",
        role: access.Role = access.SUPERUSER,
    ) -> access.Admin:
        """Add an administrator; a key is made unless given."""
        admin = access.Admin(name, key or access.new_key(), password, role)
        self.admins[name] = admin
        return admin

    def shared_path(self, vsys: str = "") -> str:
        """Return the xpath below which shared certificates and profiles are, or those of a vsys."""
        return f"{LOCALHOST}/vsys/entry[@name='{vsys}']" if vsys else "/config/shared"

    def add_certificate(
        self,
        name: str,
        issued: Optional[Union[lab.Issued, Pair]] = None,
        *,
        vsys: str = "",
        below: str = "",
    ) -> x509.Certificate:
        """Add a certificate with its key; the CA makes one for the host name unless it is given.

        Args:
            name: its name in the configuration.
            issued: certificate and key.
            vsys: the virtual system, shared when empty.
            below: another place, as the xpath of what holds the ``certificate`` container.

        """
        if issued is None:
            issued = self.ca.issue([self.hostname, "localhost", "127.0.0.1"])
        cert_pem, key_pem = issued if isinstance(issued, tuple) else (issued.fullchain_pem, issued.key_pem)
        found = certificates.read_pem(cert_pem + key_pem, "")
        if found.leaf is None or found.key_pem is None:
            raise ValueError("certificate and key are needed")
        values = certificates.fields(found.leaf)
        values["public-key"] += "".join(certificates.pem(c) for c in found.chain)
        values["private-key"] = self.keep_key(found.key_pem)
        with self.lock:
            self.config.put(f"{below or self.shared_path(vsys)}/certificate", certificates.entry(name, values))
        return found.leaf

    def add_profile(self, name: str, *, certificate: str, vsys: str = "", below: str = "") -> None:
        """Add an SSL/TLS service profile; a certificate of that name is made if there is none."""
        place = below or self.shared_path(vsys)
        if not self.config.find(f"{place}/certificate/entry[@name='{certificate}']") and not self.config.find(
            f"{self.shared_path()}/certificate/entry[@name='{certificate}']"
        ):
            self.add_certificate(certificate, vsys=vsys, below=below)
        entry = Element("entry", {"name": name})
        protocol = ET.SubElement(entry, "protocol-settings")
        protocol.append(_leaf("min-version", "tls1-2"))
        protocol.append(_leaf("max-version", "max"))
        entry.append(_leaf("certificate", certificate))
        with self.lock:
            self.config.put(f"{place}/ssl-tls-service-profile", entry)

    def use_for_management(self, profile: str) -> None:
        """Choose the profile of the management interface, without a commit and without a restart."""
        with self.lock:
            self.config.put(SYSTEM, _leaf("ssl-tls-service-profile", profile))
            self._served = self._management_identity()

    def edit_as(self, admin: str, path: str, element: str) -> None:
        """Make a pending change as another administrator: ``set`` without the API."""
        with self.lock:
            self.config.merge(path, configapi.elements(element), admin)

    # -- looking from outside ----------------------------------------------------------------------------------------

    def entry(self, name: str, *, running: bool = False, vsys: str = "", below: str = "") -> Optional[Element]:
        """Return a certificate's entry in the candidate or in the running configuration."""
        self.tick()
        find = self.config.find_running if running else self.config.find
        found = find(f"{below or self.shared_path(vsys)}/certificate/entry[@name='{name}']")
        return found[0] if found else None

    def certificate(self, name: str, **where: Any) -> Optional[x509.Certificate]:
        """Return a stored certificate; the arguments of ``entry``."""
        entry = self.entry(name, **where)
        stored = certificates.of_entry(entry) if entry is not None else []
        return stored[0] if stored else None

    def key_of(self, name: str, **where: Any) -> Optional[bytes]:
        """Return the private key that is stored for a certificate, PKCS#8 PEM; the arguments of ``entry``."""
        entry = self.entry(name, **where)
        return self._keys.get(entry.findtext("private-key", "")) if entry is not None else None

    def profile_certificate(self, name: str, *, running: bool = True, vsys: str = "") -> Optional[str]:
        """Return which certificate a profile names."""
        self.tick()
        find = self.config.find_running if running else self.config.find
        found = find(f"{self.shared_path(vsys)}/ssl-tls-service-profile/entry[@name='{name}']/certificate")
        return found[0].text if found else None

    def served(self) -> x509.Certificate:
        """Return the certificate that the management interface serves now."""
        return x509.load_pem_x509_certificate(self.served_pair()[0])

    def pending_of(self, admin: str) -> list[str]:
        """Return the xpaths of an administrator's pending changes."""
        self.tick()
        return [change.xpath for change in self.config.journal if change.admin == admin and change.shown]

    def snapshot(self) -> tuple[str, str, tuple[tuple[str, str, str], ...]]:
        """Return candidate (without marks), running and pending changes, to be compared with another moment's."""
        self.tick()
        with self.lock:
            candidate = tree.strip(copy.deepcopy(self.config.candidate))
            pending = tuple((c.xpath, c.admin, c.action) for c in self.config.journal if c.shown)
            return _canonical(candidate), _canonical(self.config.running), pending

    def count(self, kind: str = "") -> int:
        """Return how many requests of a kind came (``op``, ``config set``, ``import``, ``commit``); all of them."""
        return sum(1 for r in list(self.requests) if r.kind == kind or r.kind.startswith(kind + " ") or not kind)

    def kinds(self) -> list[str]:
        """Return the kinds of all requests in their order."""
        return [request.kind for request in list(self.requests)]

    # -- the machine ---------------------------------------------------------------------------------------------------

    def tick(self) -> None:
        """Finish the jobs whose time has come."""
        with self.lock:
            for job in list(self.jobs.values()):
                if not job.ended and job.due:
                    job.end()

    def enqueue(self, user: str, kind: str, seconds: float, **more: Any) -> jobs.Job:
        """Start a job."""
        number = max(self.jobs, default=1) + 1
        self.jobs[number] = jobs.Job(number, user, kind, seconds, **more)
        return self.jobs[number]

    def keep_key(self, key_pem: bytes) -> str:
        """Keep a private key in memory and return what stands for it in the configuration."""
        text = certificates.opaque(key_pem)
        self._keys[text] = key_pem
        return text

    def keys_from(self, other: Device) -> None:
        """Take the private keys of another device along: pushed, or replicated."""
        self._keys.update(other._keys)

    def committed(self) -> None:
        """Something new is running: restart the web server if its certificate is another one now."""
        identity = self._management_identity()
        if identity == self._served:
            return
        self._served = identity
        self.restarts += 1
        self._not_before = time.monotonic() + self.restart.refuse + self.restart.bad_gateway
        self._invalid_credentials = self.restart.invalid_credentials
        self.listener.refuse(self.restart.refuse)

    def served_pair(self) -> Identity:
        """Return chain and key of the management interface, PEM."""
        self.tick()
        return self._served

    def _management_identity(self) -> Identity:
        chosen = self.config.find_running(f"{SYSTEM}/ssl-tls-service-profile")
        identity = self.identity_of(chosen[0].text or "") if chosen else None
        return identity or self._factory

    def identity_of(self, profile: str, vsys: str = "") -> Optional[Identity]:
        """Return chain and key behind a profile in the running configuration, None when something is missing."""
        domain = references.domains(self.config.running)[0]
        containers = [entry for entry in domain.vsys if entry.get("name") == vsys]
        containers += [] if domain.shared is None else [domain.shared]
        found = references.lookup(containers, "ssl-tls-service-profile", profile)
        name = found.findtext("certificate", "") if found is not None else ""
        entry = references.lookup(containers, "certificate", name)
        if entry is None:
            return None
        chain = _with_issuers(certificates.of_entry(entry), containers)
        text = "".join(certificates.pem(c) for c in chain).encode()
        return text, self._keys.get(entry.findtext("private-key", ""), b"")

    # -- the API ---------------------------------------------------------------------------------------------------------

    def _serve(self, sock: ssl.SSLSocket) -> None:
        ApiHandler(sock, sock.getpeername(), self)  # type: ignore[arg-type]  # see ApiHandler.server

    def front_door(self, request: Request) -> Optional[replies.Reply]:
        """Return what the web server answers by itself while it restarts, else None."""
        if time.monotonic() < self._not_before:
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
        if kind == "version":
            return self._version()
        if kind == "config":
            return configapi.answer(self, admin, params)
        if kind == "op":
            return op.answer(self, admin, params)
        if kind == "commit":
            return self._commit(admin, params)
        if kind == "import":
            return self._import(admin, request)
        if kind == "export":
            return self._export(params)
        return replies.front_end_error(400, f"Invalid value for parameter type: {kind}")

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
            return replies.xml(tree.text_of(self.config.running))
        return replies.front_end_error(400, f"Invalid value for parameter category: {params.get('category', '')}")

    # -- what the kinds of devices differ in --------------------------------------------------------------------------------

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


def _leaf(tag: str, text: str) -> Element:
    node = Element(tag)
    node.text = text
    return node


def _canonical(node: Element) -> str:
    return ET.canonicalize(ET.tostring(node, encoding="unicode"), strip_text=True)


def _with_issuers(chain: list[x509.Certificate], containers: list[Element]) -> list[x509.Certificate]:
    """Return the chain with the issuers that the device has as certificates of their own, the root left out."""
    known = [c for box in containers for e in box.findall("certificate/entry") for c in certificates.of_entry(e)[:1]]
    chain = list(chain)
    while chain and chain[-1].issuer != chain[-1].subject:
        issuer = next((c for c in known if c.subject == chain[-1].issuer and certificates.is_ca(c)), None)
        if issuer is None or issuer in chain or issuer.issuer == issuer.subject:
            break
        chain.append(issuer)
    return chain
