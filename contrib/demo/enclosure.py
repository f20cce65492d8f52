"""A place of one's own: mount, network and process namespaces in which nothing of the machine can be changed.

``enclosed()`` runs a program in new namespaces and ends everything in them with it; the program begins with
``settle()``.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import FrameType

ROOT = Path(__file__).resolve().parents[2]
_NEW_MOUNTS, _NEW_PROCESSES, _NEW_NETWORK = 0x00020000, 0x20000000, 0x40000000  # CLONE_NEWNS, _NEWPID, _NEWNET
_OURS = ("/run", "/tmp", "/var/lib", "/var/log")  # noqa: S108  empty ones of our own lie over these


class NotPermittedError(Exception):
    """Namespaces are not allowed to us here."""


def enclosed(argv: Sequence[str]) -> int:
    """Run a program in new namespaces and return its exit status (128 and the signal's number if one ended it).

    Whatever ends this process or the program ends everything that runs inside: the program is process 1 there.
    The calling process is in the new namespaces too and can start no threads any more.

    Raises:
        NotPermittedError: no namespaces here.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(_NEW_MOUNTS | _NEW_PROCESSES | _NEW_NETWORK):
        raise NotPermittedError(os.strerror(ctypes.get_errno()).lower())
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _leave)
    child = subprocess.Popen(["setpriv", "--pdeathsig", "KILL", "--", *argv], cwd=ROOT)
    try:
        status = child.wait()
    finally:
        child.kill()
        child.wait()  # returns when every process inside is gone
    return status if status >= 0 else 128 - status


def settle() -> None:
    """Give this process, the first one inside, a machine of its own; its working directory is the checkout.

    Everything that was there is read-only, /etc is a copy, and /run, /tmp, /var/lib and /var/log are empty.

    Raises:
        NotPermittedError: a mount is refused.
    """
    os.chdir(ROOT)
    _run("mount", "--make-rprivate", "/")
    _run("mount", "-t", "proc", "proc", "/proc")
    _run("mount", "-t", "tmpfs", "-o", "mode=0755", "tmpfs", "/mnt")
    _run("cp", "-a", "/etc", "/mnt/etc")
    for folder in _OURS:
        mode = "1777" if folder == "/tmp" else "0755"  # noqa: S108  as above
        _run("mount", "-t", "tmpfs", "-o", f"mode={mode}", "tmpfs", folder)
    _run("mount", "--bind", "/mnt/etc", "/etc")
    ROOT.mkdir(parents=True, exist_ok=True)  # where one of ours hides it
    _run("mount", "-c", "--bind", ".", str(ROOT))
    _run("mount", "-o", "remount,bind,ro", str(ROOT))
    _run("mount", "-o", "remount,bind,ro", "/")
    os.chdir(ROOT)
    if Path("/dev/log").is_socket():  # the machine's syslog is not for us
        Path("/run/no-syslog").touch()
        _run("mount", "--bind", "/run/no-syslog", "/dev/log")
    _run("ip", "link", "set", "lo", "up")


def _run(*argv: str) -> None:
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    if done.returncode:
        raise NotPermittedError(f"{' '.join(argv)}: {done.stderr.strip()}")


def _leave(number: int, _frame: FrameType | None) -> NoReturn:
    raise SystemExit(128 + number)
