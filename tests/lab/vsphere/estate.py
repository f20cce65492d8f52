"""An administrator's side of a vCenter with hosts, on names and port 443."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.lab import signer
from tests.lab.ca import CA
from tests.lab.site import Done, call
from tests.lab.vsphere.esxi import Esxi
from tests.lab.vsphere.vcenter import VCenter

if TYPE_CHECKING:
    from contextlib import ExitStack
    from pathlib import Path

NAMES = [f"esx{number:02}.example.test" for number in range(1, 11)]
VC = "vc01.example.test"
HOSTS = [f"127.0.0.2 {VC}", *(f"127.0.0.{21 + number} {name}" for number, name in enumerate(NAMES))]
USER, PASSWORD = "certhooks@vsphere.local", "s3cret <&> ä"


class Estate:
    """A vCenter with hosts, and the administrator's files."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.folder, self.stack = folder, stack
        self.ca = CA("Site CA")
        self.vc: VCenter = stack.enter_context(VCenter(VC, address="127.0.0.2", port=443, version="8.0.3"))
        self.vc.add_user(USER, PASSWORD)
        self.hosts: list[Esxi] = []
        self.vmwrc = folder / "vmwrc"
        self.vmwrc.touch(mode=0o600)
        self.vmwrc.write_text(f"username={USER}\npassword={PASSWORD}\n")
        (folder / "vmca.pem").write_bytes(self.vc.ca_pem)
        (folder / "roots.pem").write_bytes(self.ca.pem)

    def esxi(self, count: int = 1, version: str = "8.0.3") -> list[Esxi]:
        """Start hosts that vCenter manages and that know our user too."""
        for _ in range(count):
            number = len(self.hosts)
            host = Esxi(NAMES[number], address=f"127.0.0.{21 + number}", port=443, version=version)
            host.sessions.users = self.vc.sessions.users
            self.vc.add_host(host.host)
            self.hosts.append(self.stack.enter_context(host))
        return self.hosts[-count:]

    def common(self, *words: str) -> list[str]:
        """Return the words with this estate's files before them."""
        return [
            *("-a", str(self.vmwrc), "--cafile", str(self.folder / "vmca.pem")),
            *("--rootfile", str(self.folder / "roots.pem"), "--state-dir", str(self.folder / "state")),
            *("--log-file", str(self.folder / "log"), "--timeout", "30"),
            *words,
        ]

    def push(self, *words: str) -> Done:
        """Run esxi_instcert in this process."""
        from certhooks_vcenter import esxi_instcert

        return call(esxi_instcert.main, self.common(*words))

    def pair(self, *names: str, **settings: Any) -> list[str]:
        """Issue a certificate with its key, and return the words that name it."""
        self.new = self.ca.issue([*names], **{"key_type": "rsa", **settings})
        (self.folder / f"{names[0]}.crt").write_bytes(self.new.fullchain_pem)
        key = self.folder / f"{names[0]}.key"
        key.touch(mode=0o600)
        key.write_bytes(self.new.key_pem)
        return ["-b", "-c", names[0], "-C", str(self.folder), "-K", str(self.folder)]

    def csr(self) -> list[str]:
        """Return the words that have requests signed by a command with the site's CA."""
        return ["--csr", "--sign", str(signer.command(self.folder, self.ca))]

    def signed(self, host: Esxi) -> bool:
        """Tell whether a host serves what the site's CA has signed."""
        return host.host.served.leaf.issuer == self.ca.certificate.subject


def served(host: Esxi) -> str:
    """Return the fingerprint of what a host serves."""
    from certhooks_vcenter.settle import sha256

    return sha256(host.host.served.leaf)
