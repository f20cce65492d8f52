"""A real FreeIPA server by hand, from the root of the checkout, as root.

    python3 -m tests.lab.freeipa build        make it, once; about eight minutes
    python3 -m tests.lab.freeipa up           start it, as freshly installed
    python3 -m tests.lab.freeipa shell        a shell on it, as root with a ticket of its administrator
    python3 -m tests.lab.freeipa exec ARG...  a command on it, likewise: exec ipa ping
    python3 -m tests.lab.freeipa reset        start it again, as freshly installed
    python3 -m tests.lab.freeipa down         end it
    python3 -m tests.lab.freeipa network ARG...  a command here, in its network

It has a network of its own: server.ipa.test is 10.77.0.10 there, and nowhere else. Every shell ends with it.
"""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Optional

from tests.lab.freeipa import build, layers, names, server, system

if TYPE_CHECKING:
    from collections.abc import Iterator

_USAGE = 2
_UP = layers.CACHE / "up.json"


def main(words: list[str]) -> int:
    """Do what the first word says and return the exit code."""
    action, *more = words or [""]
    if action in ("help", "-h", "--help"):
        print(__doc__)
        return 0
    try:
        code = _do(action, more)
    except (system.LabError, OSError, subprocess.SubprocessError) as error:
        print(f"freeipa: error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    if code == _USAGE:
        print(__doc__, file=sys.stderr)
    return code


def _do(action: str, more: list[str]) -> int:
    actions = {"build": _build, "up": _up, "down": _down, "reset": _reset}
    if action in actions and not more:
        actions[action]()
        return 0
    if action == "shell" and not more:
        return _inside("bash")
    if action == "exec" and more:
        return _inside(*more)
    if action == "network" and more:
        return subprocess.run(["nsenter", "--target", str(_running()), "--net", "--", *more], check=False).returncode
    return _USAGE


def _build() -> None:
    build.build()


def _up() -> None:
    build.build()
    with _alone():
        _start()


def _down() -> None:
    with _alone():
        _end()


def _reset() -> None:
    build.build()
    with _alone():
        _end()
        _start()


@contextmanager
def _alone() -> Iterator[None]:
    """Let no other up, down or reset come between, and clean up after SIGTERM as after Ctrl-C."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    layers.CACHE.mkdir(parents=True, exist_ok=True)
    with _UP.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _start() -> None:
    if _recorded():
        raise system.LabError("it is up already: python3 -m tests.lab.freeipa reset, or down")
    began = time.monotonic()
    lab = server.FreeIPA(own_network=True, detached=True)
    try:
        lab.lay_out()
        recorded = json.dumps({"holder": lab.holder, "pid": lab.pid, "born": _born(lab.pid)})
        new = _UP.with_suffix(".new")
        new.write_text(recorded)
        new.replace(_UP)  # from now on "down" finds it, however this ends
        lab.services("start", "all")
        lab.ipa("ping")  # with that, root has a ticket there
    except BaseException:
        lab.stop()
        _UP.unlink(missing_ok=True)
        raise
    print(f"up in {time.monotonic() - began:.1f} s: admin / {names.ADMIN_PASSWORD}, python3 -m tests.lab.freeipa shell")


def _end() -> None:
    recorded = _recorded()
    if recorded:
        os.kill(recorded["holder"], signal.SIGKILL)
        system.gone(recorded["pid"])
    _UP.unlink(missing_ok=True)


def _inside(*argv: str) -> int:
    command = [*system.enter_command(_running(), network=True), *argv]
    env = {**names.SERVER.environment, "TERM": os.environ.get("TERM", "dumb")}
    return subprocess.run(command, env=env, check=False).returncode


def _running() -> int:
    recorded = _recorded()
    if not recorded:
        raise system.LabError("it is not up: python3 -m tests.lab.freeipa up")
    return recorded["pid"]


def _recorded() -> dict[str, int]:
    """Return what ``up`` has left; nothing when that server has ended, whoever has its process number now."""
    try:
        recorded: dict[str, int] = json.loads(_UP.read_text())
        return recorded if _born(recorded["pid"]) == recorded["born"] else {}
    except (FileNotFoundError, ValueError, LookupError):
        return {}


def _born(pid: int) -> Optional[int]:
    """Return when a process started, in the kernel's ticks (proc(5), field 22 of stat)."""
    told = system.stat(pid)
    return int(told[19]) if told else None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
