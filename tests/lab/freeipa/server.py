"""A FreeIPA server that runs in namespaces of its own, with the knobs that tests turn.

    with FreeIPA() as server:
        server.api("host_add", "fw01.ipa.test", force=True)
        server.lifetime(days=5)
        with server.without("kdc"):
            ...

What it writes goes to memory: each start is the freshly installed state, and nothing is left when the process ends that
started it, even if that is killed. It listens at ``names.ADDRESS`` alone, on the loopback device of the network that it
is started in, or of one of its own.
"""

from __future__ import annotations

import shutil
import subprocess
import time
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Optional, Union

from tests.lab.freeipa import build, names, sources

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from python_freeipa import Client
    from typing_extensions import Self

_SCRIPTS = f"/{build.SCRIPTS}"
_CA = "/var/lib/ipa/labca"
_HOLD = "echo ready; exec tini -s -- sleep infinity >/dev/null 2>&1"
_PLUGINS = "/usr/lib/python3/dist-packages/ipaserver/plugins"
_STOP_SECONDS = 10.0


class ServerError(Exception):
    """The server, or a command on it, did not do what it should; the message ends with what was printed."""


class FreeIPA:
    """One server.

    Args:
        own_network: give it a network of its own, in place of the caller's.
        detached: let it outlive this process.

    Attributes:
        pid: its process 1.
        holder: the process to kill to end all of it.
    """

    def __init__(self, *, own_network: bool = False, detached: bool = False) -> None:
        self._own_network, self._detached = own_network, detached
        self._process: Optional[subprocess.Popen[bytes]] = None
        self.pid = self.holder = 0

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self, said: Union[int, IO[bytes]] = subprocess.DEVNULL) -> None:
        """Start it as freshly installed, and return when all of it answers; ``said`` takes what goes wrong.

        Raises:
            ServerError: not built, or it does not start.
        """
        if not build.SERVER.built:
            raise ServerError("not built yet; first: python -m tests.lab.freeipa build")
        hold = ["/bin/sh", "-c", _HOLD]
        command = build.enter(build.SERVER, hold, own_network=self._own_network, detached=self._detached)
        self._process = subprocess.Popen(
            command,
            env=names.ENVIRONMENT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=said,
            cwd="/",
            start_new_session=self._detached,
        )
        try:
            assert self._process.stdout is not None, command
            with self._process.stdout as told:
                ready = told.readline()
            self.holder = self._process.pid
            self.pid = _child(self.holder, ready)
            sources.copy_in(self.path(_SCRIPTS))
            shutil.copy(self.path(f"{_SCRIPTS}/lab_ca.py"), self.path(_PLUGINS))
            self.services("start", "all")
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """End it, and all that runs on it; may be called twice."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            if self.pid:
                gone(self.pid)
        self._process, self.pid, self.holder = None, 0, 0
        self.__dict__.pop("_client", None)

    def reset(self) -> None:
        """Make it again what it was when it was installed."""
        self.stop()
        self.start()

    def command(self, *argv: str) -> list[str]:
        """Return the command that runs another one on the server, as root."""
        return [*enter_command(self.pid, network=self._own_network), *argv]

    def run(self, *argv: str, text: Optional[str] = None, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a command on the server, as root; ServerError with what it printed when it fails and ``check`` is set."""
        done = subprocess.run(
            self.command(*argv),
            env=names.ENVIRONMENT,
            input=text or "",
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=120,
            check=False,
        )
        if check and done.returncode:
            raise ServerError(f"{' '.join(argv)}: exit status {done.returncode}\n{done.stdout}")
        return done

    def ipa(self, *words: str) -> str:
        """Run the command ``ipa`` on the server as its administrator, and return what it prints."""
        if not self.path("/tmp/lab-admin").exists():
            self.run("kinit", "-c", "/tmp/lab-admin", "admin", text=f"{names.ADMIN_PASSWORD}\n")
        return self.run("env", "KRB5CCNAME=/tmp/lab-admin", "ipa", *words).stdout

    def api(self, method: str, *args: Any, **options: Any) -> dict[str, Any]:
        """Call a method of FreeIPA's API as its administrator, from here; AssertionError when it has not done all.

        For what ``*_add_host`` and its like could not add, FreeIPA has no error but a list.
        """
        result: dict[str, Any] = self._client._request(method, list(args), options)
        assert not _refused(result.get("failed", {})), (method, args, options, result)
        return result

    def add_service(self, principal: str, *, managed_by: Optional[str] = names.CLIENT) -> None:
        """Add a service (``HTTP/gp.ipa.test``) with its host, and let another host manage it."""
        self.api("host_add", principal.partition("/")[2], force=True)
        self.api("service_add", principal, force=True)
        if managed_by:
            self.api("service_add_host", principal, host=[managed_by])

    def path(self, name: str) -> Path:
        """Return where an absolute path of the server is seen from here."""
        return Path(f"/proc/{self.pid}/root{name}")

    def services(self, action: str, *which: str) -> None:
        """Start or stop daemons: directory, kdc, kadmin, gssproxy, web, dns, or all."""
        self.run(f"{_SCRIPTS}/services", action, *which)

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
        """End every session at the web server, as the end of its ticket does."""
        for ticket in self.path("/run/ipa/ccaches").iterdir():
            ticket.unlink()

    def lock(self, user: str) -> None:
        """Disable an account."""
        self.api("user_disable", user)

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

        client = Client(names.SERVER, verify_ssl=str(self.path("/etc/ipa/ca.crt")))
        client._session.trust_env = False  # else a variable of the environment names other CAs
        client.login("admin", names.ADMIN_PASSWORD)
        return client


def enter_command(pid: int, *, network: bool) -> list[str]:
    """Return the command that runs others in a server's namespaces, given its process 1."""
    spaces = ["--mount", "--pid", "--uts", "--ipc", *(["--net"] if network else [])]
    return ["nsenter", "--target", str(pid), *spaces, "--root", "--wd", "--"]


def gone(pid: int) -> None:
    """Wait until process 1 of a server has ended, and with it all others; who waits for it may still have to learn."""
    until = time.monotonic() + _STOP_SECONDS
    while _state(pid) not in ("", "Z"):
        if time.monotonic() > until:
            raise ServerError(f"process {pid} does not end")
        time.sleep(0.01)


def _state(pid: int) -> str:
    """Return the state of a process as proc(5) calls it, "" for one that is not there."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return ""


def _child(pid: int, said: bytes) -> int:
    """Return the one child of a process, which has said that it is ready."""
    if said != b"ready\n":
        raise ServerError("its system does not start: are namespaces and overlays allowed here?")
    [child] = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return int(child)


def _refused(failed: dict[str, Any]) -> bool:
    """Tell whether anything stands in the lists of what could not be added."""
    return any(_refused(value) if isinstance(value, dict) else bool(value) for value in failed.values())
