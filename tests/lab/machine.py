"""Tests on a machine of their own: real paths, port 443, names in ``/etc/hosts``, and nothing of it on this machine.

    @machine_of_its_own("127.0.0.1 fw01.example.test")
    def test_with_the_paths_of_production() -> None:
        Path("/etc/ipa").mkdir()
        ...

    pytestmark = machine_of_its_own("10.77.0.20 client.ipa.test", hostname="client.ipa.test")  # one for a whole file

A test with this mark, or all of a file with it, runs in a pytest of its own, as process 1 of new namespaces: what it
writes below the folders of ``_WRITABLE`` goes to memory, it has a loopback device alone, and whatever it started
ends with it, also when the outer pytest is killed. It needs root, and util-linux. ``tests/lab/relay.py`` is pytest's
side of it.
"""

from __future__ import annotations

import ctypes
import fcntl
import json
import os
import shutil
import socket
import struct
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Optional

import pytest

if TYPE_CHECKING:
    from collections.abc import Sequence

machine_of_its_own = pytest.mark.machine_of_its_own
_REPOSITORY = Path(__file__).parents[2]
_INSIDE = "CERTHOOKS_LAB_MACHINE"
_WRITABLE = ("/etc", "/run", "/usr/local", "/var")
_SCRATCH = "/mnt"
_UNSHARE = ("unshare", "--mount", "--net", "--pid", "--uts", "--fork", "--kill-child", "--mount-proc")
_SIOCGIFFLAGS, _SIOCSIFFLAGS, _IFF_UP = 0x8913, 0x8914, 0x1


def inside() -> bool:
    """Tell whether this process runs on such a machine."""
    return _INSIDE in os.environ


def lacking() -> list[str]:
    """Return what is missing here for a machine of one's own."""
    lacks = [name for name in ("unshare", "setpriv") if not shutil.which(name)]
    return lacks or (["the right to make namespaces"] if _refused() else [])


def start(
    root: Path, tests: Sequence[str], hosts: Sequence[str], hostname: Optional[str], output: Any
) -> subprocess.Popen[bytes]:
    """Start pytest on a new machine; its reports come from ``stdout``, a JSON object a line.

    ``tests`` are node ids below pytest's folder ``root``, ``hosts`` are lines of ``/etc/hosts``; what the tests and
    pytest print goes to the file ``output``.
    """
    return subprocess.Popen(
        _command(tests=[*tests], hosts=[*hosts], hostname=hostname),
        cwd=root,
        env=_environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=output,
    )


def run(command: Sequence[str], hosts: Sequence[str], hostname: str) -> int:
    """Run a command on a new machine, with our output, and return its exit status."""
    words = _command(command=[*command], hosts=[*hosts], hostname=hostname)
    return subprocess.run(words, env=_environment(), stdin=subprocess.DEVNULL, check=False).returncode


def _command(**settings: Any) -> list[str]:
    words = [sys.executable, "-m", "tests.lab.machine", json.dumps(settings)]
    return ["setpriv", "--pdeathsig", "KILL", "--", *_UNSHARE, *words]


def _environment() -> dict[str, str]:
    return {**os.environ, _INSIDE: "yes", "PYTHONPATH": str(_REPOSITORY)}


def _refused() -> bool:
    """Tell whether this user, or the container that we are in, may not make namespaces and mount in them."""
    argv = [*_UNSHARE, "mount", "-t", "tmpfs", "none", _SCRATCH]
    return subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, check=False).returncode != 0


class _Sender:
    """Sends every report of the pytest that runs here to the one outside."""

    def __init__(self, channel: int) -> None:
        self._channel = os.fdopen(channel, "w")

    def pytest_configure(self, config: pytest.Config) -> None:
        self._config = config

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        plain = self._config.hook.pytest_report_to_serializable(config=self._config, report=report)
        self._channel.write(f"{json.dumps(plain, default=str)}\n")
        self._channel.flush()


def _set_up(hosts: Sequence[str], hostname: Optional[str]) -> None:
    """Make the folders writable without touching what is below, bring loopback up, and write the names."""
    _mount("tmpfs", _SCRATCH, "tmpfs", "mode=0755")
    for number, folder in enumerate(_WRITABLE):
        upper, work = Path(_SCRATCH, f"upper{number}"), Path(_SCRATCH, f"work{number}")
        for made in (upper, work):
            made.mkdir()
            shutil.copystat(folder, made)
        _mount("overlay", folder, "overlay", f"lowerdir={folder},upperdir={upper},workdir={work}")
    with socket.socket() as any_socket:
        request = struct.pack("16sh22x", b"lo", 0)
        flags = struct.unpack("16sh22x", fcntl.ioctl(any_socket, _SIOCGIFFLAGS, request))[1]
        fcntl.ioctl(any_socket, _SIOCSIFFLAGS, struct.pack("16sh22x", b"lo", flags | _IFF_UP))
    Path("/etc/hosts").write_text("".join(f"{line}\n" for line in ("127.0.0.1 localhost", *hosts)))
    if hostname:
        socket.sethostname(hostname)


def _mount(source: str, target: str, kind: str, options: str) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mount(source.encode(), target.encode(), kind.encode(), 0, options.encode()):
        raise OSError(ctypes.get_errno(), f"mount {kind} on {target}: {os.strerror(ctypes.get_errno())}")


def _reap_until(child: int) -> int:
    """Reap whatever ends, as process 1 must, until this child has ended; return its exit status."""
    while True:
        pid, status = os.wait()
        if pid == child:
            return os.waitstatus_to_exitcode(status)


def _main(settings: str) -> int:
    wanted = json.loads(settings)
    _set_up(wanted["hosts"], wanted["hostname"])
    child = os.fork()
    if child:
        return _reap_until(child)
    if "command" in wanted:
        os.execvp(wanted["command"][0], wanted["command"])
    channel = os.dup(1)
    os.dup2(2, 1)
    return int(pytest.main(["-q", "-p", "no:cacheprovider", *wanted["tests"]], plugins=[_Sender(channel)]))


if __name__ == "__main__":
    raise SystemExit(_main(sys.argv[1]))
