"""A FreeIPA server that runs in namespaces of its own, with the knobs that tests turn.

    with FreeIPA() as server:
        server.api("host_add", "fw01.ipa.test", force=True)
        server.lifetime(days=5)
        with server.without("kdc"):
            ...

Each start is the freshly installed state. It listens at its node's address alone, on the loopback device of the network
that it is started in, or of one of its own. ``Pair`` is two of them that know each other.
"""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import cached_property
from typing import TYPE_CHECKING, Any, Optional

from tests.lab.freeipa import build, names, sources
from tests.lab.freeipa.system import LabError, System

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from python_freeipa import Client
    from typing_extensions import Self

_CA = "/var/lib/ipa/labca"
_PLUGINS = "/usr/lib/python3/dist-packages/ipaserver/plugins"


class FreeIPA(System):
    """One server.

    Args:
        node: which one.
        pair: it is one of two that know each other.
        own_network: give it a network of its own, in place of the caller's.
        detached: let it outlive this process.
    """

    def __init__(
        self,
        node: names.Node = names.SERVER,
        *,
        pair: bool = False,
        own_network: bool = False,
        detached: bool = False,
    ) -> None:
        super().__init__(node, build.folders(node, pair=pair), own_network=own_network, detached=detached)

    def start(self) -> None:
        """Start it as freshly installed, and return when all of it answers.

        Raises:
            LabError: not built, or it does not start.
        """
        self.lay_out()
        try:
            self.services("start", "all")
        except BaseException:
            self.stop()
            raise

    def lay_out(self) -> None:
        """Do the first half of ``start``, in the thread that is to live as long as the server."""
        if not build.PAIR.built:
            raise LabError("not built yet; first: python3 -m tests.lab.freeipa build")
        super().start()
        sources.copy_in(self.path(build.SCRIPTS))
        self.run("cp", f"{build.SCRIPTS}/lab_ca.py", _PLUGINS)

    def stop(self) -> None:
        """End it, and all that runs on it; may be called twice."""
        super().stop()
        self.__dict__.pop("_client", None)

    def reset(self) -> None:
        """Make it again what it was when it was installed."""
        self.stop()
        self.start()

    def ipa(self, *words: str) -> str:
        """Run the command ``ipa`` on the server as its administrator, and return what it prints."""
        self.run("kinit", "admin", text=f"{names.ADMIN_PASSWORD}\n")
        return self.run("ipa", *words).stdout

    def api(self, method: str, *args: Any, **options: Any) -> dict[str, Any]:
        """Call a method of FreeIPA's API as its administrator, from here; AssertionError when it has not done all.

        For what ``*_add_host`` and its like could not add, FreeIPA has no error but a list.
        """
        from python_freeipa.exceptions import Denied, Unauthorized

        try:
            result: dict[str, Any] = self._client._request(method, list(args), options)
        except Denied:
            raise
        except Unauthorized:  # a test has ended the session
            del self._client
            result = self._client._request(method, list(args), options)
        assert not _refused(result.get("failed", {})), (method, args, options, result)
        return result

    def add_service(self, principal: str, *, managed_by: Optional[str] = names.CLIENT.host) -> None:
        """Add a service (``HTTP/gp.ipa.test``) with its host, and let another host manage it."""
        self.api("host_add", principal.partition("/")[2], force=True)
        self.api("service_add", principal, force=True)
        if managed_by:
            self.api("service_add_host", principal, host=[managed_by])

    def services(self, action: str, *which: str) -> None:
        """Start or stop daemons: directory, kdc, kadmin, gssproxy, web, dns, or all; LabError for another name."""
        self.run(f"{build.SCRIPTS}/services", action, *which)

    @contextmanager
    def without(self, *which: str) -> Iterator[None]:
        """Stop daemons meanwhile."""
        self.services("stop", *which)
        try:
            yield
        finally:
            self.services("start", *which)

    @contextmanager
    def clock(self, offset: str, *which: str) -> Iterator[None]:
        """Set the clock of these daemons off meanwhile (``+10m``, ``-2h``); of all but the name server by default."""
        daemons = which or ("directory", "kdc", "kadmin", "gssproxy", "web")  # named hangs under faketime
        self._set_clock(offset, daemons)
        try:
            yield
        finally:
            self._set_clock("", daemons)

    def lifetime(self, days: float) -> None:
        """Let certificates that are issued from now on live that long."""
        self.path(f"{_CA}/days").write_text(f"{days}\n")

    @contextmanager
    def refusing(self, text: str) -> Iterator[None]:
        """Let the CA refuse every request meanwhile, with this text."""
        told = self.path(f"{_CA}/refusal")
        told.write_text(text)
        try:
            yield
        finally:
            told.unlink()

    def expire_sessions(self) -> None:
        """End every session at the web server, that of ``api`` too, as the end of its ticket does."""
        for ticket in self.path("/run/ipa/ccaches").iterdir():
            ticket.unlink()

    def lock(self, user: str) -> None:
        """Lock an account, as too many wrong passwords do."""
        from python_freeipa import Client
        from python_freeipa.exceptions import Unauthorized

        allowed = int(self.api("pwpolicy_show")["result"]["krbpwdmaxfailure"][0])
        for _ in range(allowed + 1):
            with suppress(Unauthorized):
                self._logged_in(Client(self.node.host), user, "wrong")

    def write_keytab(self, principal: str, to: Path) -> None:
        """Make new keys for a principal and write them into a file here, for its owner alone."""
        there = f"/tmp/keytab-{time.monotonic_ns()}"
        manager = ["-D", "cn=Directory Manager", "-w", names.MANAGER_PASSWORD]
        ldapi = f"ldapi://%2Frun%2Fslapd-{names.REALM.replace('.', '-')}.socket"
        self.run("ipa-getkeytab", *manager, "-H", ldapi, "-p", principal, "-k", there)
        to.touch(mode=0o600)
        to.write_bytes(self.path(there).read_bytes())
        self.path(there).unlink()

    def _set_clock(self, offset: str, daemons: Sequence[str]) -> None:
        self.services("stop", *daemons)
        preload, settings = self.path("/etc/ld.so.preload"), self.path("/etc/faketimerc")
        if offset:
            [library] = self.path("/usr/lib").glob("*/faketime/libfaketime.so.1")
            preload.write_text(f"/{library.relative_to(self.path('/'))}\n")
            settings.write_text(f"{offset}\n")
        else:
            preload.unlink()
            settings.unlink()
        self.services("start", *daemons)

    @property
    def ca_pem(self) -> bytes:
        """The certificate of FreeIPA's CA."""
        return self.path("/etc/ipa/ca.crt").read_bytes()

    @cached_property
    def _client(self) -> Client:
        from python_freeipa import Client

        return self._logged_in(Client(self.node.host), "admin", names.ADMIN_PASSWORD)

    def _logged_in(self, client: Client, user: str, password: str) -> Client:
        client._verify_ssl = str(self.path("/etc/ipa/ca.crt"))
        client._session.trust_env = False  # else a variable of the environment names other CAs
        client.login(user, password)
        return client


def _refused(failed: dict[str, Any]) -> bool:
    """Tell whether anything stands in the lists of what could not be added."""
    return any(_refused(value) if isinstance(value, dict) else bool(value) for value in failed.values())


class Pair:
    """Two servers of one realm, each the other's replica."""

    def __init__(self) -> None:
        self.server, self.replica = (FreeIPA(node, pair=True) for node in (names.SERVER, names.REPLICA))

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Start both as freshly installed; LabError when one does not start."""
        both = (self.server, self.replica)
        try:
            for server in both:
                server.lay_out()
            with ThreadPoolExecutor() as threads:
                list(threads.map(lambda server: server.services("start", "all"), both))
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """End both."""
        for server in (self.server, self.replica):
            server.stop()

    def reset(self) -> None:
        """Make both again what they were when they were installed."""
        self.stop()
        self.start()

    @contextmanager
    def apart(self, *senders: FreeIPA) -> Iterator[None]:
        """Keep back meanwhile what these, or both, would send the other; then let them send at once."""
        chosen = senders or (self.server, self.replica)
        for server in chosen:
            server.run(f"{build.SCRIPTS}/second", "waits")
        try:
            yield
        finally:
            for server in chosen:
                server.run(f"{build.SCRIPTS}/second", "hears")
