"""How a test sets the scene on a device, and how it looks at it from outside."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any, Optional, Union
from xml.etree import ElementTree as ET
from xml.etree.ElementTree import Element

from cryptography import x509

from tests.lab.panos import access, certificates, configapi, nodes
from tests.lab.panos.machine import LOCALHOST, SYSTEM, Machine, Pair, leaf

if TYPE_CHECKING:
    from tests.lab import ca as lab


class Scene(Machine):
    """The part of a device that only tests see: nothing here goes over the wire, nothing leaves a mark."""

    # -- setting the scene (both trees, no marks) ---------------------------------------------------

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
        """Add an SSL/TLS service profile; a certificate of that name is made if the profile would see none.

        A vsys sees what is shared; another place (``below``) is a template's, which sees nothing of Panorama's own.
        """
        place = below or self.shared_path(vsys)
        seen = {place} if below else {place, self.shared_path()}
        if not any(self.config.find(f"{each}/certificate/entry[@name='{certificate}']") for each in seen):
            self.add_certificate(certificate, vsys=vsys, below=below)
        entry = Element("entry", {"name": name})
        protocol = ET.SubElement(entry, "protocol-settings")
        protocol.append(leaf("min-version", "tls1-2"))
        protocol.append(leaf("max-version", "max"))
        entry.append(leaf("certificate", certificate))
        with self.lock:
            self.config.put(f"{place}/ssl-tls-service-profile", entry)

    def use_for_management(self, profile: str) -> None:
        """Choose the profile of the management interface, without a commit and without a restart."""
        with self.lock:
            self.config.put(SYSTEM, leaf("ssl-tls-service-profile", profile))
            self._served = self._management_identity()

    def edit_as(self, admin: str, path: str, element: str) -> None:
        """Make a pending change as another administrator: ``set`` without the API."""
        with self.lock:
            self.config.merge(path, configapi.elements(element), admin)

    # -- looking from outside -----------------------------------------------------------------------

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
            candidate = nodes.strip(copy.deepcopy(self.config.candidate))
            pending = tuple((c.xpath, c.admin, c.action) for c in self.config.journal if c.shown)
            return _canonical(candidate), _canonical(self.config.running), pending

    def count(self, kind: str = "") -> int:
        """Return how many requests of a kind came (``op``, ``config set``, ``import``, ``commit``); all of them."""
        return sum(1 for r in list(self.requests) if r.kind == kind or r.kind.startswith(kind + " ") or not kind)

    def kinds(self) -> list[str]:
        """Return the kinds of all requests in their order."""
        return [request.kind for request in list(self.requests)]


def _canonical(node: Element) -> str:
    return ET.canonicalize(ET.tostring(node, encoding="unicode"), strip_text=True)
