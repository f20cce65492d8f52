"""What a device has now: its kind, its place in an HA pair, certificates, profiles and pending changes."""

from __future__ import annotations

import base64
import binascii
import re
from typing import TYPE_CHECKING, Callable, NamedTuple, Optional

from certhooks import probe
from certhooks.errors import ReplyTooLongError, UnreachableError
from certhooks_pan import scope
from certhooks_pan.xapi import RefusedError

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

    from certhooks_pan.xapi import Client

_UNKNOWN_COMMAND = "17"
_PEM = re.compile(r"-----BEGIN CERTIFICATE-----(.*?)-----END CERTIFICATE-----", re.DOTALL)


class Kind(NamedTuple):
    """What sort of device it is; ``passive`` is one that takes its configuration from its HA peer."""

    panorama: bool
    model: str
    version: str
    group: str
    passive: bool


class Held(NamedTuple):
    """A certificate that the device holds; ``fingerprint`` is empty where its text cannot be read."""

    name: str
    fingerprint: str
    has_key: bool
    common_name: str


class Profile(NamedTuple):
    """An SSL/TLS service profile; ``template`` names the Panorama template that pushed it."""

    name: str
    certificate: str
    template: str
    ecdhe: bool


class Config(NamedTuple):
    """Certificates and profiles of one scope, in the candidate or in the running configuration."""

    certificates: dict[str, Held]
    profiles: dict[str, Profile]
    trusted: frozenset[str] = frozenset()

    def holds(self, name: str, fingerprint: str) -> bool:
        """Tell whether this certificate is there under this name with its private key."""
        held = self.certificates.get(name)
        return held is not None and held.fingerprint == fingerprint and held.has_key

    def fingerprint(self, name: str) -> str:
        """Return the fingerprint of the certificate with this name, empty when there is none."""
        return self.certificates[name].fingerprint if name in self.certificates else ""

    def name_of(self, fingerprint: str) -> Optional[str]:
        """Return a name under which a certificate is held."""
        return next((c.name for c in self.certificates.values() if c.fingerprint == fingerprint), None)


class Pending(NamedTuple):
    """One change in the candidate that is not committed."""

    xpath: str
    owner: str


def kind(client: Client) -> Kind:
    """Ask what the device is and whether it is the passive half of an HA pair."""
    system = client.op("<show><system><info/></system></show>").find("result/system")
    if system is None:
        raise UnreachableError(f"{client.address} does not tell what it is", hint="is it a PAN-OS management address?")
    model = (system.findtext("model") or "").strip()
    serial = (system.findtext("serial") or "").strip()
    group, passive = _high_availability(client)
    known = serial if serial and serial != "unknown" else ""
    return Kind(
        panorama=model.lower().startswith("panorama") or model.startswith("M-"),
        model=model,
        version=(system.findtext("sw-version") or "").strip(),
        group=group or (f"serial {known}" if known else ""),
        passive=passive,
    )


def running(client: Client, base: str, *, roots: bool = False) -> Config:
    """Read the running configuration of a scope, with ``roots`` its list of trusted roots too."""
    return _config(client.show, base, roots=roots)


def candidate(client: Client, base: str, *, roots: bool = False) -> Config:
    """Read the candidate of a scope, with ``roots`` its list of trusted roots too."""
    return _config(client.get, base, roots=roots)


def one_certificate(client: Client, base: str, name: str) -> Optional[Held]:
    """Read one certificate of the candidate."""
    entry = client.get(scope.certificate(base, name))
    return _held(entry) if entry is not None else None


def management_profile(client: Client) -> str:
    """Return the name of the profile that the management interface uses, empty for the built-in certificate."""
    node = client.show(scope.MANAGEMENT_PROFILE)
    return (node.text or "").strip() if node is not None else ""


def exists(client: Client, xpath: str) -> bool:
    """Tell whether the candidate has something at a path, however large it is."""
    try:
        return client.get(xpath) is not None
    except ReplyTooLongError:
        return True


def administrator(client: Client) -> Optional[str]:
    """Return the name of the administrator whose key we use: the entry that the device marks as ourselves."""
    for entry in client.op("<show><admins/></show>").iter("entry"):
        if entry.find("self") is not None:
            return (entry.findtext("admin") or entry.get("name") or "").strip() or None
    return None


def pending(client: Client) -> Optional[list[Pending]]:
    """Return what is in the candidate and not committed; None where the version cannot tell."""
    try:
        reply = client.op("<show><config><list><changes/></list></config></show>")
    except RefusedError as e:
        if e.code == _UNKNOWN_COMMAND:
            return None
        raise
    return [
        Pending((entry.findtext("xpath") or "").strip(), (entry.findtext("owner") or "").strip())
        for entry in reply.iter("entry")
    ]


def stacks_with(client: Client, template: str) -> list[str]:
    """Return the names of the template stacks that hold a template, in Panorama's running configuration."""
    stacks = client.show(scope.STACKS)
    entries = stacks.findall("entry") if stacks is not None else []
    return [
        str(entry.get("name"))
        for entry in entries
        if template in [(m.text or "").strip() for m in entry.findall("templates/member")]
    ]


def _config(read: Callable[[str], Optional[Element]], base: str, *, roots: bool) -> Config:
    listed = read(scope.trusted_roots(base)) if roots else None
    return Config(
        _certificates(read(f"{base}/certificate")),
        _profiles(read(f"{base}/ssl-tls-service-profile")),
        frozenset((m.text or "").strip() for m in (listed.findall("member") if listed is not None else [])),
    )


def _high_availability(client: Client) -> tuple[str, bool]:
    """Return a name for the HA pair (the same seen from both peers) and whether this is the passive one."""
    try:
        reply = client.op("<show><high-availability><state/></high-availability></show>")
    except RefusedError:
        return "", False
    result = reply.find("result")
    if result is None or (result.findtext("enabled") or "").strip() != "yes":
        return "", False
    synchronized = (result.findtext("group/running-sync-enabled") or "yes").strip() != "no"
    local = result.find("group/local-info")
    peer = result.find("group/peer-info")
    if local is None:  # Panorama's form has no group
        local, peer = result.find("local-info"), result.find("peer-info")
    addresses = sorted(_address(node) for node in (local, peer))
    state = (local.findtext("state") or "").strip().lower() if local is not None else ""
    return "ha " + " ".join(addresses), synchronized and state.endswith("passive")


def _address(node: Optional[Element]) -> str:
    return (node.findtext("mgmt-ip") or "").partition("/")[0].strip() if node is not None else ""


def _certificates(node: Optional[Element]) -> dict[str, Held]:
    entries = node.findall("entry") if node is not None else []
    return {held.name: held for held in map(_held, entries)}


def _held(entry: Element) -> Held:
    return Held(
        name=entry.get("name") or "",
        fingerprint=_fingerprint(entry.findtext("public-key") or ""),
        has_key=bool((entry.findtext("private-key") or "").strip()) or entry.find("private-key-on-hsm") is not None,
        common_name=(entry.findtext("common-name") or "").strip(),
    )


def _fingerprint(pem: str) -> str:
    """Compare by the certificate itself: two may share a date, and the text is indented in some replies."""
    match = _PEM.search(pem)
    try:
        return probe.fingerprint(base64.b64decode("".join(match[1].split()), validate=True)) if match else ""
    except (binascii.Error, ValueError):
        return ""


def _profiles(node: Optional[Element]) -> dict[str, Profile]:
    entries = node.findall("entry") if node is not None else []
    return {
        name: Profile(
            name=name,
            certificate=(entry.findtext("certificate") or "").strip(),
            template=(entry.get("ptpl") or "") if entry.get("src") == "tpl" else "",
            ecdhe=(entry.findtext("protocol-settings/keyxchg-algo-ecdhe") or "yes").strip() != "no",
        )
        for entry in entries
        if (name := entry.get("name") or "")
    }
