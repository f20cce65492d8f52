"""A real FreeIPA server by hand, from the root of the checkout, as root.

    python -m tests.lab.freeipa build        make it, once; about eight minutes
    python -m tests.lab.freeipa up           start it, as freshly installed
    python -m tests.lab.freeipa shell        a shell on it, with a ticket of its administrator
    python -m tests.lab.freeipa exec ARG...  a command on it
    python -m tests.lab.freeipa reset        start it again, as freshly installed
    python -m tests.lab.freeipa down         end it
    python -m tests.lab.freeipa network ARG...  a command here, in its network

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
from pathlib import Path
from typing import Optional

from tests.lab.freeipa import build, layers, names, server, system

_UP = layers.CACHE / "up.json"


def main(words: list[str]) -> int:
    """Do what the first word says and return the exit code."""
    action, *more = words or ["help"]
    actions = {"build": _build, "up": _up, "down": _down, "reset": _reset}
    try:
        if action in actions and not more:
            actions[action]()
            return 0
        if action == "shell" and not more:
            ticket = f"echo {names.ADMIN_PASSWORD} | kinit admin >/dev/null; klist; exec bash"
            return _inside("env", "TERM=" + os.environ.get("TERM", "dumb"), "bash", "-c", ticket)
        if action == "exec" and more:
            return _inside(*more)
        if action == "network" and more:
            command = ["nsenter", "--target", str(_running()), "--net", "--", *more]
            return subprocess.run(command, check=False).returncode
    except system.LabError as error:
        print(f"freeipa: error: {error}", file=sys.stderr)
        return 1
    print(__doc__, file=sys.stdout if action in ("help", "-h", "--help") else sys.stderr)
    return 0 if action in ("help", "-h", "--help") else 2


def _build() -> None:
    build.build()


def _up() -> None:
    build.build()
    began = time.monotonic()
    with _UP.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if _recorded():
            raise system.LabError("it is up already: python -m tests.lab.freeipa reset, or down")
        lab = server.FreeIPA(own_network=True, detached=True)
        lab.lay_out()
        _UP.write_text(json.dumps({"holder": lab.holder, "pid": lab.pid, "born": _born(lab.pid)}))  # for down, from now
    try:
        lab.services("start", "all")
    except BaseException:
        _down()
        raise
    print(f"up in {time.monotonic() - began:.1f} s: admin / {names.ADMIN_PASSWORD}, python -m tests.lab.freeipa shell")


def _down() -> None:
    recorded = _recorded()
    if recorded:
        os.kill(recorded["holder"], signal.SIGKILL)
        system.gone(recorded["pid"])
    _UP.unlink(missing_ok=True)


def _reset() -> None:
    _down()
    _up()


def _inside(*argv: str) -> int:
    command = [*system.enter_command(_running(), network=True), *argv]
    return subprocess.run(command, env=names.SERVER.environment, check=False).returncode


def _running() -> int:
    recorded = _recorded()
    if not recorded:
        raise system.LabError("it is not up: python -m tests.lab.freeipa up")
    return recorded["pid"]


def _recorded() -> dict[str, int]:
    """Return what ``up`` has left; nothing when that server has ended, whoever has its process number now."""
    try:
        recorded: dict[str, int] = json.loads(_UP.read_text())
    except FileNotFoundError:
        return {}
    return recorded if _born(recorded["pid"]) == recorded["born"] else {}


def _born(pid: int) -> Optional[int]:
    """Return when a process started, in the kernel's ticks (proc(5), field 22 of stat)."""
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])
    except FileNotFoundError:
        return None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
