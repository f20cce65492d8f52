"""What the tests of pushes to PAN-OS share: a quick command, further files, and what a device and the journal saw."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from certhooks import deploy
from certhooks import target as core
from certhooks_pan import jobs

if TYPE_CHECKING:
    import pytest

    from tests.lab.ca import CA, Issued
    from tests.lab.panos import Device, Firewall
    from tests.lab.site import Site

NAME = "gp.example.test"
SHARED_ADDRESS = ("/config/shared", "<address><entry name='h'/></address>")


def brisk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Poll often and give up soon: an emulator is quick."""
    monkeypatch.setattr(jobs, "_FIRST_POLL", 0.02)
    monkeypatch.setattr(core, "_SERVED_WITHIN", 0.5)
    monkeypatch.setattr(deploy, "_GRACE", 1.0)


def write(site: Site, issued: Issued, *more: CA, name: str = NAME) -> Issued:
    """Write a pair, its chain and further CA certificates into the site's files."""
    site.certificate(name)
    (site.folder / f"{name}.crt").write_bytes(issued.fullchain_pem + b"".join(ca.pem for ca in more))
    (site.folder / f"{name}.key").write_bytes(issued.key_pem)
    return issued


def managed(site: Site, *fws: Firewall, certificate: str = "mgmt") -> None:
    """Let firewalls be managed through the profile WEB, with a certificate of the site's CA."""
    issued = site.ca.issue(["localhost"])
    for fw in fws:
        fw.add_certificate(certificate, issued)
        fw.add_profile("WEB", certificate=certificate)
        fw.use_for_management("WEB")


def imports(device: Device) -> list[tuple[str, str]]:
    """Return category and name of every import, in order."""
    asked = [request.params for request in list(device.requests)]
    return [(params["category"], params["certificate-name"]) for params in asked if params.get("type") == "import"]


def attempt(site: Site) -> dict[str, Any]:
    """Return the last attempt in the site's only journal."""
    (path,) = site.state.glob("*.json")
    return dict(json.loads(path.read_text())["attempts"][-1])
