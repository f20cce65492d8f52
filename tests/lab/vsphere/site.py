"""A host as an administrator has it, with vCenters in place of firewalls.

with VSphereSite(tmp_path) as site:
vc = site.vcenter()
new = site.certificate()
done = site.instcert(vc)
assert done.code == 0, done
"""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any, Optional

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from certhooks import probe
from certhooks.address import Address
from tests.lab.ca import pem_of_key
from tests.lab.site import Done, Site, call
from tests.lab.vsphere.vcenter import VCenter

if TYPE_CHECKING:
    from pathlib import Path

    from tests.lab.ca import CA, Issued

NAME = "vc01.example.test"
USER, PASSWORD = "certhooks@vsphere.local", "Pä:ss wörd=1"


class VSphereSite(Site):
    """A site with vCenters on addresses of their own, the first on 127.0.0.2; the site's CA is not known to them."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.vmwrc = folder / "vmwrc"
        self.vmwrc.touch(mode=0o600)
        self.vmwrc.write_text(f"username={USER}\npassword={PASSWORD}\n")
        self.roots = folder / "roots.pem"
        self.roots.write_bytes(self.ca.pem)
        self.vcenters: list[VCenter] = []

    def vcenter(self, hostname: str = NAME, **settings: Any) -> VCenter:
        """Start a vCenter that knows our user; its own CA is trusted."""
        settings.setdefault("address", f"127.0.0.{2 + len(self.vcenters)}")
        vc: VCenter = self._stack.enter_context(VCenter(hostname, **settings))
        vc.add_user(USER, PASSWORD)
        self.vcenters.append(vc)
        if vc.ca_pem not in (self.trusted.read_bytes() if self.trusted.exists() else b""):
            with self.trusted.open("ab") as file:
                file.write(vc.ca_pem)
        return vc

    def certificate(self, name: str = NAME, *, ca: Optional[CA] = None, **settings: Any) -> Issued:
        """Issue a certificate for a name and the addresses of all vCenters, and write its files."""
        names = settings.pop("names", None) or [name, *(vc.address for vc in self.vcenters)]
        issued = (ca or self.ca).issue(names, **{"key_type": "rsa", **settings})
        self.write(issued, name)
        return issued

    def write(self, issued: Issued, name: str = NAME, more: bytes = b"") -> None:
        """Write the files of a pair, with its chain and further certificates."""
        (self.folder / f"{name}.crt").write_bytes(issued.fullchain_pem + more)
        key = self.folder / f"{name}.key"
        key.touch(mode=0o600)
        key.write_bytes(issued.key_pem)

    def instcert(self, *words: Any) -> Done:
        """Run ``vcenter_instcert -b`` on this site's files, in this process; a vCenter stands for its address."""
        from certhooks_vcenter import instcert

        return call(instcert.main, self.argv(*words))

    def argv(self, *words: Any) -> list[str]:
        """Return the words with this site's folders and files before them."""
        return [
            *("-b", "-c", NAME, "-a", str(self.vmwrc), "-C", str(self.folder), "-K", str(self.folder)),
            *("--cafile", str(self.trusted), "--state-dir", str(self.state), "--log-file", str(self.log)),
            *("--rootfile", str(self.roots)),
            *(where(word) if isinstance(word, VCenter) else str(word) for word in words),
        ]

    def attempts(self, vcenter: VCenter) -> list[dict[str, Any]]:
        """Return the attempts in a vCenter's journal, oldest first."""
        for path in self.state.glob("*.json"):
            record = json.loads(path.read_text())
            if record["target"] == f"vcenter {where(vcenter)}":
                return list(record["attempts"])
        return []


def where(vcenter: VCenter) -> str:
    """Return a vCenter's address as people type it."""
    return f"{vcenter.address}:{vcenter.port}"


def served(vcenter: VCenter) -> str:
    """Return the fingerprint that a client of vCenter's sees."""
    return probe.first(Address(vcenter.address, vcenter.port)).fingerprint


def expect_refusal(done: Done, code: int, *texts: str) -> None:
    """Make sure that it ended with this code, one line of error with these texts, and a hint."""
    assert done.code == code, done
    [error] = [line for line in done.err.splitlines() if line.startswith("vcenter_instcert: error: ")]
    for text in texts:
        assert text in error, done
    assert "vcenter_instcert: hint: " in done.err
    assert "Traceback" not in done.err
    assert done.err.replace("\n", "").isprintable()


def secrets_of(new: Issued, user: str, password: str) -> dict[str, str]:
    """Return what nobody may see: password and header, and the private key in any form."""
    assert isinstance(new.key, rsa.RSAPrivateKey)
    lines = pem_of_key(new.key).decode().splitlines()[1:-1]
    form = (serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption())
    plain = new.key.private_bytes(serialization.Encoding.PEM, *form).decode().splitlines()[1:-1]
    return {
        "password": password,
        "header": base64.b64encode(f"{user}:{password}".encode()).decode(),
        **{f"PKCS#8 line {number}": line for number, line in enumerate(lines) if number > 6},
        **{f"PKCS#1 line {number}": line for number, line in enumerate(plain) if number > 6},
        "a prime": f"{new.key.private_numbers().p:x}",
        "its exponent": str(new.key.private_numbers().d),
    }
