"""ESXi: the certificate of one host, what it trusts, and its own SOAP end.

Before 8.0U3 the key is made on the host and never leaves it; an installed certificate is served at once. From 8.0U3
on a key can be brought, and an installed certificate is served once the services are notified, which cuts connections.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Callable, Optional

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization

from tests.lab import ca as lab
from tests.lab.https import Listener
from tests.lab.vsphere import rest, vecs
from tests.lab.vsphere.access import Sessions
from tests.lab.vsphere.faults import Fault
from tests.lab.vsphere.front import Front
from tests.lab.vsphere.operations import CutError
from tests.lab.vsphere.soap import Soap, SoapFault

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.lab.https import Identity

_MODERN = (8, 0, 3)
OWN = "ha-host"


class Host:
    """The state of one host.

    Args:
        trusts: what its vCenter is to know: a host whose certificate does not lead there is disconnected.
    """

    def __init__(self, name: str, version: str, ca: lab.CA, names: list[str]) -> None:
        self.name, self.version, self.answers = name, version, True
        made = ca.issue(names, key_type="rsa")
        self.stored = self.served = vecs.Entry((made.certificate, *made.chain), made.key_pem)
        self.trusted: list[x509.Certificate] = [ca.certificate]
        self.changes: list[str] = []
        self.known_to_vcenter: Optional[Callable[[], list[x509.Certificate]]] = None
        self.cut_after_install = False
        self.crls: list[str] = []
        self.managed_by = ""
        self._staged = b""

    @property
    def modern(self) -> bool:
        """Whether it is 8.0U3 or newer."""
        return tuple(int(part) for part in self.version.split(".")) >= _MODERN

    def csr(self) -> str:
        """Make a key, and return a request for this host's name."""
        key = lab.make_key("rsa")
        self._staged = lab.pem_of_key(key)
        name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, self.name)])
        names = x509.SubjectAlternativeName([x509.DNSName(self.name)])
        builder = x509.CertificateSigningRequestBuilder().subject_name(name).add_extension(names, critical=False)
        return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()

    def provision(self, key: str) -> None:
        """Take a key for the certificate that will be installed."""
        try:
            serialization.load_pem_private_key(key.encode(), None)
        except (ValueError, TypeError):
            raise SoapFault("HostConfigFault", "Invalid private key") from None
        self._staged = key.encode()
        self.changes.append("key")

    def install(self, cert: str) -> None:
        """Store a certificate whose key is here."""
        try:
            stack = vecs.read(cert)
        except Fault:
            raise SoapFault("HostConfigFault", "failed to pem.Decode cert") from None
        for key in filter(None, (self._staged, self.stored.key_pem)):
            private = serialization.load_pem_private_key(key, None)
            if private.public_key() == stack[0].public_key():
                self.stored = vecs.Entry(stack, key)
                self.changes.append("certificate")
                if not self.modern:
                    self._serve()
                if self.cut_after_install:
                    raise CutError
                return
        raise SoapFault("HostConfigFault", "Certificate does not match the private key")

    def notify(self) -> None:
        """Have the services use what is stored; the connection goes with them."""
        self.changes.append("notify")
        self._serve()
        raise CutError

    def replace_cas(self, texts: list[str], crls: Sequence[str] = ()) -> None:
        """Trust exactly these."""
        self.crls = list(crls)
        self.trusted = [each for text in texts for each in vecs.read(text)]
        self.changes.append("cas")

    def trusted_pem(self) -> list[str]:
        """Return what is trusted."""
        return [vecs.pem(each).decode() for each in self.trusted]

    def certificate_info(self) -> str:
        """Return what the certificate manager tells of the stored certificate."""
        leaf = self.stored.leaf
        start, end = (f"{when:%Y-%m-%dT%H:%M:%SZ}" for when in (leaf.not_valid_before_utc, leaf.not_valid_after_utc))
        issuer, subject = leaf.issuer.rfc4514_string(), leaf.subject.rfc4514_string()
        return (
            f"<issuer>{issuer}</issuer><notBefore>{start}</notBefore><notAfter>{end}</notAfter>"
            f"<subject>{subject}</subject><status>good</status>"
        )

    def connection_state(self) -> str:
        """Return how vCenter sees it: both must trust what it serves."""
        if not self.answers:
            return "notResponding"
        known = self.known_to_vcenter() if self.known_to_vcenter else self.trusted
        stack = self.served.certificates
        pools = (known, self.trusted)
        return "connected" if all(any(_leads(stack, root) for root in pool) for pool in pools) else "disconnected"

    def _serve(self) -> None:
        self.served = self.stored


class Esxi(Front):
    """A host that listens; it knows nobody yet."""

    software = "hostd"

    def __init__(
        self,
        name: str = "esx01.example.test",
        *,
        address: str = "127.0.0.21",
        port: int = 0,
        version: str = "8.0.3",
        ca: Optional[lab.CA] = None,
    ) -> None:
        self.ca = ca or lab.lab_ca()
        self.host = Host(name, version, self.ca, [name, address])
        self.sessions = Sessions()
        self.soap = Soap(self.sessions, version, {OWN: self.host}, vcenter=False)
        self.listeners = [Listener(address, port, self._identity, self._serve)]

    def stop(self) -> None:
        """Take it off the network."""
        self.host.answers = False
        super().stop()

    def answer(self, request: rest.Request) -> rest.Reply:
        """Answer one request."""
        return self.soap.answer(request) if request.path.startswith("/sdk") else rest.NOT_FOUND

    def _identity(self) -> Identity:
        return self.host.served.identity


def _leads(stack: tuple[x509.Certificate, ...], root: x509.Certificate) -> bool:
    return any(vecs.signed_by(root, each) or each == root for each in stack)
