"""A test on a machine of its own: real paths, port 443, names in ``/etc/hosts``, and nothing of it on this machine.

    @machine_of_its_own("127.0.0.1 fw01.example.test")
    def test_with_the_paths_of_production() -> None:
        Path("/etc/ipa").mkdir()
        ...

The test runs once more in a pytest of its own, as process 1 of new mount, network and process namespaces: what it
writes below the folders of ``_WRITABLE`` goes to memory, it has a loopback device alone, and whatever it started
ends with it, also when the outer pytest is killed. It needs root, and util-linux.
"""

from __future__ import annotations

import ctypes
import fcntl
import functools
import os
import shutil
import socket
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any, Callable, TypeVar

import pytest

_F = TypeVar("_F", bound=Callable[..., Any])
_INSIDE = "CERTHOOKS_LAB_MACHINE"
_WRITABLE = ("/etc", "/run", "/usr/local", "/var")
_SCRATCH = "/mnt"
_SECONDS = 120
_UNSHARE = ("unshare", "--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc")
_SIOCGIFFLAGS, _SIOCSIFFLAGS, _IFF_UP = 0x8913, 0x8914, 0x1


def machine_of_its_own(*hosts: str) -> Callable[[_F], _F]:
    """Run a test with these lines in ``/etc/hosts``; skips where that is not allowed, but never in CI."""

    def decorate(test: _F) -> _F:
        @functools.wraps(test)
        def run(*args: Any, **named: Any) -> None:
            if os.environ.get(_INSIDE):
                test(*args, **named)
                return
            lacks = [name for name in ("unshare", "setpriv") if not shutil.which(name)]
            lacks += ["the right to make namespaces"] if not lacks and _refused() else []
            if lacks and not os.environ.get("CI"):
                pytest.skip(f"not here: {', '.join(lacks)}")
            _run_inside(hosts)

        return run  # type: ignore[return-value]  # the same signature, by functools.wraps

    return decorate


def _refused() -> bool:
    """Tell whether this user, or the container that we are in, may not make namespaces and mount in them."""
    argv = [*_UNSHARE, "mount", "-t", "tmpfs", "none", _SCRATCH]
    return subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, check=False).returncode != 0


def _run_inside(hosts: tuple[str, ...]) -> None:
    """Run the current test in namespaces, and fail with its output."""
    this = os.environ["PYTEST_CURRENT_TEST"].rpartition(" ")[0]
    inner = [sys.executable, "-m", __name__, *hosts, "--", "-q", "-p", "no:cacheprovider", this]
    argv = ["setpriv", "--pdeathsig", "KILL", "--", *_UNSHARE, *inner]
    done = subprocess.run(
        argv,
        cwd=Path(__file__).parents[2],
        env={**os.environ, _INSIDE: "yes"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=_SECONDS,
        check=False,
    )
    if done.returncode or "1 passed" not in done.stdout:
        pytest.fail(f"on a machine of its own (exit status {done.returncode}):\n{done.stdout}", pytrace=False)


def _set_up(hosts: list[str]) -> None:
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


def _mount(source: str, target: str, kind: str, options: str) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mount(source.encode(), target.encode(), kind.encode(), 0, options.encode()):
        raise OSError(ctypes.get_errno(), f"mount {kind} on {target}: {os.strerror(ctypes.get_errno())}")


def _main(argv: list[str]) -> int:
    end = argv.index("--")
    _set_up(argv[:end])
    return int(pytest.main(argv[end + 1 :]))


if __name__ == "__main__":
    raise SystemExit(_main(sys.argv[1:]))
