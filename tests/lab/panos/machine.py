"""The state of a device and what moves it on: jobs by the clock, private keys, the certificate that is served."""

from __future__ import annotations

import collections
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Optional
from xml.etree.ElementTree import Element

from tests.lab import ca as lab
from tests.lab.https import Identity, Listener, Server
from tests.lab.panos import access, certificates, faults, jobs, locks, references, tree
from tests.lab.panos.switches import Switches

if TYPE_CHECKING:
    import ssl

    from cryptography import x509

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
        bad_gateway: seconds after that with HTTP 502; at least one request gets it, unless 0.
        invalid_credentials: requests after that answered with 403 ``Invalid credentials.``.
        after: requests that are still answered between the commit's end and all that.

    """

    refuse: float = 0.3
    bad_gateway: float = 0.3
    invalid_credentials: int = 1
    after: int = 0


class Machine(Server):
    """State and life of one device; ``Device`` describes the arguments."""

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
        self._bad_gateway_due = False  # nobody has got a 502 of this restart yet
        self._invalid_credentials = 0
        self._restart_after = 0  # requests until a restart that is due
        self.listener = Listener(address, port, self.served_pair, self._serve)
        self.listeners = [self.listener]
        self.config.put(SYSTEM, leaf("hostname", hostname))

    # -- life ---------------------------------------------------------------------------------------

    def start(self) -> None:
        """Listen."""
        self._served = self._management_identity()
        super().start()

    @property
    def ca_pem(self) -> bytes:
        """What a client has to trust to verify the certificates that the emulator made itself."""
        return self.ca.root_pem

    def _made_by_ca(self) -> Pair:
        made = self.ca.issue([self.hostname, "localhost", "127.0.0.1"])
        return made.fullchain_pem, made.key_pem

    # -- the machine --------------------------------------------------------------------------------

    def tick(self) -> None:
        """Finish the jobs whose time has come."""
        with self.lock:
            for job in list(self.jobs.values()):
                if not job.ended and job.due:
                    job.end()

    def finish_jobs(self) -> None:
        """Finish every job now, those that never end too."""
        with self.lock:
            for job in list(self.jobs.values()):
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

    def keys_from(self, other: Machine) -> None:
        """Take the private keys of another device along: pushed, or replicated."""
        self._keys.update(other._keys)

    def committed(self) -> None:
        """Something new is running: restart the web server if its certificate is another one now."""
        if self._management_identity() == self._served:
            return
        self._restart_after = self.restart.after
        if not self._restart_after:
            self._restart()

    def _restart(self) -> None:
        self._served = self._management_identity()
        self.restarts += 1
        self._not_before = time.monotonic() + self.restart.refuse + self.restart.bad_gateway
        self._bad_gateway_due = self.restart.bad_gateway > 0
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

    def _serve(self, sock: ssl.SSLSocket) -> None:
        """Serve one connection of the management interface."""
        raise NotImplementedError


def leaf(tag: str, text: str) -> Element:
    """Return an element with a text."""
    node = Element(tag)
    node.text = text
    return node


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
