"""A system that is laid out from layers, and runs in namespaces of its own.

What is written in it goes to memory, or to a folder that becomes a layer itself. Nothing of it is left when the process
ends that started it, even if that is killed.
"""

from __future__ import annotations

import subprocess
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Optional

from tests.lab import machine
from tests.lab.daemons import DIES_WITH_US
from tests.lab.freeipa.names import PREFIX

if TYPE_CHECKING:
    from typing_extensions import Self

    from tests.lab.freeipa.names import Node

_ENTER = Path(__file__).with_name("enter")
_HOLD = "echo ready; exec tini -s -- sleep infinity >/dev/null 2>&1"
_STOP_SECONDS = 10.0


class LabError(Exception):
    """Something in the lab did not do what it should; the message ends with what was printed."""


class System:
    """One system.

    Args:
        node: its name and address, and what its commands are told.
        folders: layers, the topmost first, joined by colons.
        upper: where what is written goes; to memory without it.
        own_network: give it a network of its own, with a loopback device alone, in place of the caller's.
        prefix: length of the network that the loopback device gets with its address, all of which is that device's.
        detached: let it outlive this process.

    Attributes:
        pid: its process 1.
        holder: the process to kill to end all of it.
    """

    def __init__(
        self,
        node: Node,
        folders: str,
        *,
        upper: Optional[Path] = None,
        own_network: bool = True,
        prefix: int = PREFIX,
        detached: bool = False,
    ) -> None:
        self.node, self._folders, self._upper = node, folders, upper
        self._own_network, self._prefix, self._detached = own_network, prefix, detached
        self._process: Optional[subprocess.Popen[bytes]] = None
        self.pid = self.holder = 0

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Lay it out, with nothing running yet.

        Raises:
            LabError: namespaces or overlays are not to be had.
        """
        assert self._own_network or machine.inside(), "its address would stay on this machine's loopback device"
        said = tempfile.TemporaryFile()  # noqa: SIM115  closed below
        address = f"{self.node.address}/{self._prefix}"
        new = ["--mount", "--pid", "--uts", "--ipc", *(["--net"] if self._own_network else [])]
        self._process = subprocess.Popen(
            [
                *([] if self._detached else DIES_WITH_US),
                *("unshare", *new, "--fork", "--kill-child", "--", str(_ENTER)),
                *(self._folders, str(self._upper or ""), self.node.host, address, "/bin/sh", "-c", _HOLD),
            ],
            env=self.node.environment,
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=said,
            start_new_session=self._detached,
        )
        assert self._process.stdout is not None, self._process.args
        with self._process.stdout as told:
            ready = told.readline()
        said.seek(0)
        with said:
            why = said.read().decode(errors="replace").strip() if ready != b"ready\n" else ""
        if ready != b"ready\n":
            self.stop()
            raise LabError(f"its system does not start; are namespaces and overlays allowed here?\n{why}")
        self.holder = self._process.pid
        [child] = Path(f"/proc/{self.holder}/task/{self.holder}/children").read_text().split()
        self.pid = int(child)

    def stop(self) -> None:
        """End it, and all that runs on it; may be called twice."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            if self.pid:
                gone(self.pid)
        self._process, self.pid, self.holder = None, 0, 0

    def run(
        self, *argv: str, text: str = "", check: bool = True, seconds: float = 120
    ) -> subprocess.CompletedProcess[str]:
        """Run a command on it, as root; LabError with what it printed when it fails and ``check`` is set."""
        done = subprocess.run(
            [*enter_command(self.pid, network=self._own_network), *argv],
            env=self.node.environment,
            input=text,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=seconds,
            check=False,
        )
        if check and done.returncode:
            raise LabError(f"{' '.join(argv)}: exit status {done.returncode}\n{_end(done.stdout)}")
        return done

    def path(self, name: str) -> Path:
        """Return where an absolute path of it is seen from here."""
        return Path(f"/proc/{self.pid}/root{name}")


def enter_command(pid: int, *, network: bool) -> list[str]:
    """Return the command that runs others in a system, given its process 1."""
    spaces = ["--mount", "--pid", "--uts", "--ipc", *(["--net"] if network else [])]
    return ["nsenter", "--target", str(pid), *spaces, "--root", "--wd", "--"]


def gone(pid: int) -> None:
    """Wait until process 1 of a system has ended, and with it all others; who waits for it may still have to learn."""
    until = time.monotonic() + _STOP_SECONDS
    while _state(pid) not in ("", "Z"):
        if time.monotonic() > until:
            raise LabError(f"process {pid} does not end")
        time.sleep(0.01)


def run(argv: list[str], *, folder: Optional[Path] = None) -> None:
    """Run a command here, which ends with us; LabError with the end of what it printed when it fails."""
    done = subprocess.run(
        [*DIES_WITH_US, *argv],
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
    )
    if done.returncode:
        raise LabError(f"{' '.join(argv)}: exit status {done.returncode}\n{_end(done.stdout.decode(errors='replace'))}")


def _end(text: str) -> str:
    """Return the last lines of what a command printed."""
    return "\n".join(text.splitlines()[-60:])


def _state(pid: int) -> str:
    """Return the state of a process as proc(5) calls it, "" for one that is not there."""
    return next(iter(stat(pid)), "")


def stat(pid: int) -> list[str]:
    """Return what the kernel tells of a process, from its state on (proc(5), field 3 of stat); nothing of none."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return []
