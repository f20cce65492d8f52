"""One vCenter: its stores, its sessions, what it serves, and what becomes of it when its certificate is replaced."""

from __future__ import annotations

import collections
import threading
import time
from typing import TYPE_CHECKING, Callable, Optional

from tests.lab import ca as lab
from tests.lab.https import Listener
from tests.lab.vsphere import jsonrpc, rest, vecs
from tests.lab.vsphere.access import EVERYTHING, Sessions, User
from tests.lab.vsphere.faults import Fault, unauthenticated, unavailable
from tests.lab.vsphere.front import Front
from tests.lab.vsphere.operations import CutError, Operations
from tests.lab.vsphere.soap import Soap
from tests.lab.vsphere.switches import Phase, Switches

if TYPE_CHECKING:
    from tests.lab.https import Identity
    from tests.lab.vsphere.esxi import Host
    from tests.lab.vsphere.rest import Reply, Request

TEXT_503 = (
    b"503 Service Unavailable (Failed to connect to endpoint: "
    b"[N7Vmacore4Http20NamedPipeServiceSpecE:0x00007f843400bef0]"
    b" _serverNamespace = / action = Allow _pipeName =/var/run/vmware/vpxd-webserver-pipe)"
)
ENVOY_503 = b"no healthy upstream"
_TEXTS = {"text503": TEXT_503, "envoy503": ENVOY_503}
FAILURES = {
    "400": Fault("invalid_argument", "com.vmware.vapi.std.errors.invalid_argument", "Invalid argument."),
    "404": Fault("not_found", "com.vmware.vapi.rest.httpNotFound", "Not found."),
    "500": Fault("error", "com.vmware.certificatemanagement.error", "Exception found"),
}
_KEPT = 20_000
_HANG = 60.0


class VCenter(Front):
    """A vCenter on loopback.

    Args:
        hostname: its FQDN (PNID), which the machine certificate's names must contain.
        address: where it listens.
        port: 0 takes a free one.
        ca: signs the certificate that it begins with, as VMCA does; its root is trusted from the start.

    ``requests`` are all that came, ``changes`` what was carried out: ``tls``, ``root`` and ``delete``. A test may set
    ``spoil`` to a function that answers a request in the device's place.
    """

    def __init__(
        self,
        hostname: str = "vc01.example.test",
        *,
        address: str = "127.0.0.2",
        port: int = 0,
        version: str = "8.0.3",
        ca: Optional[lab.CA] = None,
        switches: Optional[Switches] = None,
    ) -> None:
        self.hostname, self.version = hostname, version
        self.ca = ca or lab.lab_ca()
        self.switches = switches or Switches()
        self.sessions = Sessions()
        self.operations = Operations(self)
        self.roots = vecs.Roots()
        self.roots.add([self.ca.certificate])
        self.requests: collections.deque[Request] = collections.deque(maxlen=_KEPT)
        self.changes: list[str] = []
        self.spoil: Callable[[Request], Optional[Reply]] = lambda _request: None
        self.hosts: dict[str, Host] = {}
        self.soap = Soap(self.sessions, version, self.hosts, vcenter=True, roots=self._roots_pem)
        self.lock = threading.RLock()
        made = self.ca.issue([hostname, address], key_type="rsa")
        self.machine = vecs.Entry((made.certificate, *made.chain), made.key_pem)
        self._before = self.machine
        self._phases: list[Phase] = []
        self._phase_began = 0.0
        self._hits = 0
        self._rolls_back = False
        self.listener = Listener(address, port, self._identity, self._serve)
        self.listeners = [self.listener]

    @property
    def ca_pem(self) -> bytes:
        """What a client has to trust to verify the certificate that it begins with."""
        return self.ca.root_pem

    def also_listen(self, address: str) -> None:
        """Answer on another address of the same name, too; before it is started, with a port of its own choice."""
        self.listeners.append(Listener(address, self.listener.port, self._identity, self._serve))

    def add_user(self, name: str, password: str, privileges: frozenset[str] = EVERYTHING) -> User:
        """Let somebody log in."""
        return self.sessions.add(name, password, privileges)

    def login(self, name: str, password: str) -> str:
        """Open a session; for a while after a replacement, none is opened even with the right password."""
        phase = self._phase()
        if phase is not None and phase.what == "unauthenticated":
            raise unauthenticated()
        return self.sessions.login(name, password)

    def changed(self, what: str) -> None:
        """Count what was carried out."""
        self.changes.append(what)

    def replace(self, entry: vecs.Entry) -> None:
        """Take a new machine certificate, and begin what follows that."""
        with self.lock:
            self.changed("tls")
            self._before, self.machine = self.machine, entry
            self._phases = list(self.switches.after)
            self._rolls_back = self.switches.roll_back
            self._begin_phase()
            if self.switches.after and not self.switches.sessions_survive:
                self.sessions.open.clear()

    def end_put(self) -> None:
        """End the request that replaces the certificate as the switch says."""
        how = self.switches.put
        if how in {"reset", "lost"}:
            raise CutError
        if how == "hang":
            time.sleep(_HANG)
            raise CutError
        if how in {"unavailable", "refused503"}:
            raise unavailable()
        if how in FAILURES:
            raise FAILURES[how]

    def answer(self, request: Request) -> Reply:
        """Answer one request."""
        with self.lock:
            self.requests.append(request)
            phase = self._phase()
            if phase is not None:
                self._hits += 1
                self._refuse_if(phase.what)
        spoiled = self.spoil(request)
        if spoiled is not None:
            return spoiled
        try:
            if phase is not None and phase.what == "json503":
                raise unavailable()
            if phase is not None and phase.what == "unauthenticated":
                raise unauthenticated()
        except Fault as fault:
            return self._as_fault(request, fault)
        if phase is not None and phase.what in _TEXTS:
            return rest.Reply(503, _TEXTS[phase.what], "text/plain")
        if request.path == "/api" and request.method == "POST":
            return jsonrpc.answer(self, request.body)
        if request.path.startswith("/sdk"):
            return self.soap.answer(request)
        return rest.answer(self, request) or rest.NOT_FOUND

    def add_host(self, host: Host) -> str:
        """Manage a host, and return its id."""
        moid = f"host-{10 + len(self.hosts)}"
        self.hosts[moid] = host
        host.known_to_vcenter = self.roots.all
        return moid

    def _roots_pem(self) -> list[str]:
        return [vecs.pem(each).decode() for each in self.roots.all()]

    def _as_fault(self, request: Request, fault: Fault) -> Reply:
        dialect = rest._Rest if request.path.startswith("/rest/") else rest._Api
        return dialect(self, request).fault(fault)

    def _refuse_if(self, what: str) -> None:
        if what == "reset":
            raise CutError

    def _phase(self) -> Optional[Phase]:
        """Return the phase of this moment, None when everything is over."""
        with self.lock:
            while self._phases:
                phase = self._phases[0]
                over = time.monotonic() - self._phase_began >= phase.seconds
                if not over or self._hits < phase.hits:
                    return phase
                self._phases.pop(0)
                self._begin_phase()
            if self._rolls_back:
                self._rolls_back = False
                self.machine = self._before
            return None

    def _begin_phase(self) -> None:
        self._phase_began, self._hits = time.monotonic(), 0
        if self._phases and self._phases[0].what != "quiet" and not self.switches.sessions_survive:
            self.sessions.open.clear()
        if self._phases and self._phases[0].what == "refuse":
            for listener in self.listeners:
                listener.refuse(self._phases[0].seconds)

    def _identity(self) -> Identity:
        phase = self._phase()
        return (self._before if phase is not None and phase.old else self.machine).identity
