"""What the demo plays with: FreeIPA's part by the real certmonger and a CA helper, and an emulated firewall."""

from __future__ import annotations

import datetime as dt
import os
import ssl
import subprocess
import sys
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization

from certhooks import address, probe
from tests.lab.ca import CA, make_key, pem_of_key
from tests.lab.certmonger import SystemBusCertmonger
from tests.lab.panos import Firewall, custom_role

if TYPE_CHECKING:
    from typing_extensions import Self

DEVICE, PORTAL = "fw01.example.test", "gp.example.test"
CERT_FILE = Path(f"/etc/ssl/certs/{PORTAL}.crt")
_PORTAL_IP = "127.0.0.2"


@dataclass(frozen=True)
class Served:
    """The certificate that the portal showed in a handshake, as openssl tells it."""

    lines: tuple[str, ...]

    @property
    def serial(self) -> str:
        """In hex."""
        return next(line.partition("=")[2] for line in self.lines if line.startswith("serial="))


class Stage:
    """A host enrolled in FreeIPA, as certmonger and the commands see it, and a firewall with a portal.

    It writes to /etc and /var: only for a process that has called ``settle()``.
    """

    def __init__(self) -> None:
        self._stack = ExitStack()
        self.certmonger = SystemBusCertmonger()
        self.firewall = Firewall(DEVICE, port=address.HTTPS, tls=self._from_freeipa(DEVICE), commit_seconds=0.5)

    def __enter__(self) -> Self:
        for folder in ("requests", "cas", "local"):
            Path("/var/lib/certmonger", folder).mkdir(parents=True, exist_ok=True)
        _append("/etc/hosts", f"127.0.0.1 {DEVICE}\n{_PORTAL_IP} {PORTAL}\n")
        ipa = Path("/etc/ipa")
        ipa.mkdir(exist_ok=True)
        (ipa / "default.conf").write_text("[global]\nrealm = EXAMPLE.TEST\n")
        (ipa / "ca.crt").write_text(self.certmonger.roots)
        self._set_up_firewall(ipa / ".panrc")
        self._stack.enter_context(self.certmonger)
        self._stack.enter_context(self.firewall)
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def served(self) -> Served:
        """Shake hands with the portal, and return what it shows."""
        return told(probe.first(address.Address(PORTAL, address.HTTPS)).der)

    def kept(self) -> Served:
        """Return the certificate in certmonger's file."""
        return told(ssl.PEM_cert_to_DER_cert(CERT_FILE.read_text(encoding="ascii")))

    def _set_up_firewall(self, panrc: Path) -> None:
        fw = self.firewall
        admin = fw.add_admin("certhooks", role=custom_role("config", "op", "commit", "import"))
        panrc.touch(mode=0o600)
        panrc.write_text(f"api_key={admin.key}\n")
        last_year = dt.datetime.now(dt.timezone.utc) - dt.timedelta(days=340)
        fw.add_certificate("portal_old", CA("another CA").issue([PORTAL], days=365, not_before=last_year))
        for profile in ("GP_PORTAL", "GP_GATEWAY"):
            fw.add_profile(profile, certificate="portal_old")
        fw.add_portal("GP_PORTAL", name="gp", address=_PORTAL_IP, port=address.HTTPS)
        fw.add_admin("alice")
        fw.edit_as("alice", "/config/shared/address", "<entry name='printer'><fqdn>printer.example.test</fqdn></entry>")

    def _from_freeipa(self, name: str) -> tuple[bytes, bytes]:
        """Return a certificate and key for the firewall's management, from the same CA as all of the site."""
        key = make_key()
        subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        request = (
            x509.CertificateSigningRequestBuilder()
            .subject_name(subject)
            .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
            .sign(key, hashes.SHA256())
        )
        ca = self.certmonger.ca
        leaf, chain = ca.issue(request.public_bytes(serialization.Encoding.PEM).decode(), ca.policy())
        return "".join([leaf, *chain]).encode(), pem_of_key(key)


def told(der: bytes) -> Served:
    """Have openssl tell what a certificate is."""
    wanted = ("-subject", "-issuer", "-serial", "-dates", "-fingerprint", "-sha256")
    argv = ["openssl", "x509", "-inform", "DER", "-noout", *wanted]
    done = subprocess.run(argv, input=der, capture_output=True, check=True)
    return Served(tuple(done.stdout.decode().splitlines()))


def commands() -> str:
    """Return the PATH on which the installed commands come first."""
    return f"{Path(sys.executable).parent}:{os.environ.get('PATH', '')}:/usr/sbin:/usr/bin:/sbin:/bin"


def _append(path: str, text: str) -> None:
    with Path(path).open("a", encoding="utf-8") as file:
        file.write(text)
