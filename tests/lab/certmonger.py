"""The real certmonger for tests: ``CertmongerLab`` (a private bus) and ``SystemBusCertmonger``.

Both work without systemd. The daemons are children of the test process and die with it, even if it is killed.
"""

from __future__ import annotations

import fcntl
import json
import os
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Callable, Optional

from jeepney import DBusAddress, new_method_call
from jeepney.io.blocking import open_dbus_connection

from tests.lab import ca_helper
from tests.lab.ca_helper import HelperCa
from tests.lab.daemons import START_SECONDS, Daemons, tail

if TYPE_CHECKING:
    from collections.abc import Sequence

    from typing_extensions import Self

NAME = "org.fedorahosted.certmonger"
SYSTEM_SOCKET = Path("/run/dbus/system_bus_socket")
STATE = Path("/var/lib/certmonger")

_BUS_CONFIG = """<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-BUS Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig><type>system</type><listen>unix:path={socket}</listen><auth>EXTERNAL</auth>
<policy context="default"><allow user="*"/><allow own="*"/><allow send_destination="*"/>
<allow receive_sender="*"/></policy></busconfig>
"""

# Reports what a post-save command finds. Descriptors come first: with 0-2 closed, any open() takes 0.
_SURROUNDINGS = """
import os
def there(fd):
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True
fds = [fd for fd in range(64) if there(fd)]
import json, sys
mask = os.umask(0o077)
report = dict(fds=fds, environ=dict(os.environ), cwd=os.getcwd(), umask=mask, uid=os.getuid(),
              argv=sys.argv[2:], no_std=[sys.stdin is None, sys.stdout is None, sys.stderr is None])
with open(sys.argv[1] + ".new", "w") as file:
    json.dump(report, file)
os.rename(sys.argv[1] + ".new", sys.argv[1])
"""


class CertmongerLab:
    """certmonger on a bus of its own; the CA called "IPA" is the lab's CA helper.

    Everything is under ``folder``. ``ca`` says what is issued. Children need ``env()``, post-save commands
    that talk to certmonger need ``hook_command()``, because certmonger passes no bus address on.
    """

    def __init__(self, **policy: Any) -> None:
        self._daemons = Daemons("certmonger-lab")
        self.folder = self._daemons.folder
        self.ca = HelperCa.create(self.folder / "ca", **policy)
        self.log = self.folder / "log"
        self._daemon: Optional[subprocess.Popen[bytes]] = None
        self._socket = self.folder / "bus"

    def start(self) -> None:
        """Start bus and daemon, and make the helper the CA "IPA"."""
        try:
            self._start_bus()
            self.start_daemon()
            self.use_ca()
        except BaseException:
            self.stop()
            raise

    def start_daemon(self, seconds: float = START_SECONDS) -> None:
        """Start certmonger alone (after ``stop_daemon``); it answers when it has read its requests, 30 a second."""
        self._daemon = self._spawn(["certmonger", "-S", "-n", "-d", "3"], self._answers, seconds)

    def stop_daemon(self, how: signal.Signals = signal.SIGTERM) -> None:
        """Stop certmonger and leave bus and state; its running hooks live on, as they do with SIGTERM."""
        assert self._daemon, "it is not running"
        self._daemons.end(self._daemon, how)
        self._daemon = None

    def stop(self) -> None:
        """End the daemons and what they have started, and remove the folder; may be called twice."""
        self._daemons.stop()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        self.stop()

    @property
    def pids(self) -> list[int]:
        """The process numbers of bus and daemon."""
        return self._daemons.pids

    @property
    def address(self) -> str:
        """What belongs into DBUS_SYSTEM_BUS_ADDRESS."""
        return f"unix:path={self._socket}"

    def env(self) -> dict[str, str]:
        """Return the environment for a child that is to talk to this certmonger."""
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("CERTMONGER_", "DBUS_", "LC_"))}
        return {**kept, "LANG": "C", "DBUS_SYSTEM_BUS_ADDRESS": self.address}

    def getcert(self, *args: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run getcert with ``args``; with ``check`` a failure raises and shows what it said."""
        command = ["/usr/bin/getcert", *args]
        done = subprocess.run(command, env=self.env(), capture_output=True, text=True, timeout=60, check=False)
        if check and done.returncode:
            raise AssertionError(f"{shlex.join(command)}: {done.returncode}\n{done.stdout}{done.stderr}")
        return done

    def request(self, name: str = "fw01.example.com", *more: str, post_save: Optional[str] = None) -> Path:
        """Request ``name`` from the helper, wait for it, and return the certificate's file."""
        self.getcert(*self.request_args(name, post_save=post_save), "-w", "--wait-timeout", "30", *more)
        return self.cert_file(name)

    def request_args(self, name: str, *, post_save: Optional[str] = None) -> list[str]:
        """Return getcert's arguments for such a request, without waiting."""
        args = ["request", "-c", "IPA", "-f", str(self.cert_file(name)), "-k", str(self.key_file(name))]
        args += [
            "-N",
            name,
            "-D",
            name,
            "-K",
            f"HTTP/{name}@EXAMPLE.COM",
            "-G",
            "EC",
            "-g",
            "256",
            "-I",
            name,
        ]
        return args + (["-C", post_save] if post_save else [])

    def cert_file(self, name: str) -> Path:
        """Return where ``request`` puts the certificate of ``name``."""
        return self.folder / f"{name}.crt"

    def key_file(self, name: str) -> Path:
        """Return where ``request`` puts the key of ``name``."""
        return self.folder / f"{name}.key"

    @property
    def roots(self) -> str:
        """The CA's root, PEM."""
        return self.ca.root

    def use_ca(self, name: str = "IPA", **policy: Any) -> None:
        """Point certmonger's CA ``name`` at the helper; ``policy`` as for ``HelperCa.answer``."""
        self.ca.answer(**policy)
        helper = [sys.executable, "-I", ca_helper.__file__, str(self.ca.folder)]
        self.getcert("modify-ca", "-c", name, "-e", shlex.join(helper))

    def hook_command(self, argv: Sequence[str], **environ: str) -> str:
        """Return ``argv`` as a post-save command that finds this bus, with more variables if need be."""
        variables = {"DBUS_SYSTEM_BUS_ADDRESS": self.address, **environ}
        return shlex.join(["/usr/bin/env", *(f"{k}={v}" for k, v in variables.items()), *argv])

    def python_hook(self, code: str, *args: str) -> str:
        """Return a post-save command that runs ``code`` with this Python and ``args``."""
        handle, script = tempfile.mkstemp(suffix=".py", dir=self.folder)
        with os.fdopen(handle, "w") as file:
            file.write(code)
        return shlex.join([sys.executable, "-I", script, *args])

    def hook_surroundings(self, name: str = "surroundings.example.com", *args: str) -> dict[str, Any]:
        """Return what a post-save command finds: fds, std, environ, cwd, umask, uid, argv."""
        report = self.folder / f"{name}.json"
        self.request(name, post_save=self.python_hook(_SURROUNDINGS, str(report), *args))
        found: dict[str, Any] = json.loads(report.read_text())
        return found

    def wait_for(self, what: Callable[[], object], seconds: float = 20.0) -> None:
        """Wait until ``what()`` is true; else fail and show the end of the daemon's log."""
        end = time.monotonic() + seconds
        while not what():
            if time.monotonic() > end:
                raise AssertionError(f"did not happen within {seconds:g} s; certmonger's log:\n{self.log_tail()}")
            time.sleep(0.02)

    def log_tail(self, lines: int = 30) -> str:
        """Return the end of the daemons' log."""
        return tail(self.log, lines)

    def _start_bus(self) -> None:
        config = self.folder / "bus.conf"
        config.write_text(_BUS_CONFIG.format(socket=self._socket))
        command = ["dbus-daemon", f"--config-file={config}", "--nofork", "--nopidfile", "--nosyslog"]
        self._spawn(command, lambda: _connects(self._socket))  # the socket is there before it listens

    def _daemon_env(self) -> dict[str, str]:
        places = {"CONFIG_DIR": "etc", "REQUESTS_DIR": "requests", "CAS_DIR": "cas", "LOCAL_CA_DIR": "local"}
        places |= {"TMPDIR": "tmp", "SYSTEM_LOCK_FILE": "lock"}
        found = {f"CERTMONGER_{name}": self.folder / place for name, place in places.items()}
        for name, path in found.items():
            if name.endswith("DIR"):
                path.mkdir(exist_ok=True)
        return {name: str(path) for name, path in found.items()}

    def _spawn(
        self, command: list[str], ready: Callable[[], object], seconds: float = START_SECONDS
    ) -> subprocess.Popen[bytes]:
        env = {"DBUS_SYSTEM_BUS_ADDRESS": self.address, **self._daemon_env()}
        return self._daemons.start(command, self.log, ready, env=env, seconds=seconds)

    def _answers(self) -> bool:
        bus = DBusAddress("/org/freedesktop/DBus", "org.freedesktop.DBus", "org.freedesktop.DBus")
        with open_dbus_connection(self.address) as connection:
            question = new_method_call(bus, "NameHasOwner", "s", (NAME,))
            return bool(connection.send_and_get_reply(question, timeout=START_SECONDS).body[0])


class SystemBusCertmonger(CertmongerLab):
    """certmonger with the paths and the bus of production, for a machine where none runs.

    It needs root; a second one waits for its turn. What stood under /var/lib/certmonger before is there
    again afterwards.
    """

    def __init__(self, **policy: Any) -> None:
        super().__init__(**policy)
        self._socket = SYSTEM_SOCKET
        self._turn: Optional[IO[str]] = None
        self._before: Optional[dict[Path, bytes]] = None

    def start(self) -> None:
        """Start both; RuntimeError when this machine has a system bus or requests of its own."""
        try:
            self._turn = Path("/run/certhooks-lab.lock").open("w")  # noqa: SIM115 - held until stop()
            self._wait_turn(self._turn)
            _refuse_a_real_one()
            self._before = {path: path.read_bytes() for path in STATE.rglob("*") if path.is_file()}
        except BaseException:
            self.stop()
            raise
        super().start()

    def stop(self) -> None:
        """End both and put certmonger's state back."""
        super().stop()
        if self._before is not None:
            for path in STATE.rglob("*"):
                if path.is_file() and path not in self._before:
                    path.unlink()
            for path, content in self._before.items():
                if not path.exists() or path.read_bytes() != content:
                    path.write_bytes(content)
            SYSTEM_SOCKET.unlink(missing_ok=True)
        self._before = None
        if self._turn is not None:
            self._turn.close()

    def hook_command(self, argv: Sequence[str], **environ: str) -> str:
        """Return ``argv`` as a post-save command: on the system bus nothing needs to be added."""
        more = ["/usr/bin/env", *(f"{k}={v}" for k, v in environ.items())] if environ else []
        return shlex.join([*more, *argv])

    def env(self) -> dict[str, str]:
        """Return the environment of a child: no address, as in production."""
        return {k: v for k, v in super().env().items() if k != "DBUS_SYSTEM_BUS_ADDRESS"}

    def _start_bus(self) -> None:
        SYSTEM_SOCKET.parent.mkdir(exist_ok=True)
        SYSTEM_SOCKET.unlink(missing_ok=True)  # nobody listens there: start() has looked
        command = ["dbus-daemon", "--system", "--nofork", "--nopidfile", "--nosyslog"]
        self._spawn(command, lambda: _connects(SYSTEM_SOCKET))

    def _daemon_env(self) -> dict[str, str]:
        return {}

    def _wait_turn(self, turn: IO[str]) -> None:
        end = time.monotonic() + START_SECONDS * 3
        while not _locked(turn):
            if time.monotonic() > end:
                raise RuntimeError("another test holds this machine's system bus")
            time.sleep(0.1)


def _locked(file: IO[str]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _refuse_a_real_one() -> None:
    if _connects(SYSTEM_SOCKET):
        raise RuntimeError("this machine has a system bus: its certmonger is not ours to play with")
    if any((STATE / "requests").iterdir()):
        raise RuntimeError(f"{STATE}/requests holds requests that are not ours")


def _connects(path: Path) -> bool:
    import socket

    with socket.socket(socket.AF_UNIX) as probe:
        return probe.connect_ex(str(path)) == 0
