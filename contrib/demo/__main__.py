"""``contrib/demo/run`` starts this: it goes into namespaces, and there tells the story."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from contrib.demo import enclosure

if TYPE_CHECKING:
    from contrib.demo.stage import Stage

_INSIDE = "--inside"


def main(argv: list[str]) -> int:
    """Show the demo and return 0 if every step ended as it should."""
    try:
        if _INSIDE in argv:
            return inside(shell=bool({"--shell", "--keep"} & set(argv)))
        return enclosure.enclosed([sys.executable, "-m", "contrib.demo", _INSIDE, *argv])
    except enclosure.NotPermittedError as e:
        print(f"demo: error: no namespaces here: {e}", file=sys.stderr)
        print("demo: hint: run it as root, in a container with --privileged (or CAP_SYS_ADMIN)", file=sys.stderr)
        return 1


def inside(*, shell: bool = False) -> int:
    """Show the demo in the namespaces that this process is the first one in."""
    enclosure.settle()
    from contrib.demo.stage import Stage

    return perform(Stage(), shell=shell)


def perform(stage: Stage, *, shell: bool = False) -> int:
    """Tell the story on a stage."""
    from certhooks.errors import Error
    from contrib.demo.story import Screen, StepFailedError, Story

    screen = Screen()
    started = time.monotonic()
    print("certhooks: the real certmonger, the installed commands, an emulated firewall; all in namespaces of its own")
    status = 1
    with stage:
        try:
            Story(stage, screen).tell()
        except (StepFailedError, Error) as e:
            print(f"\ndemo: failed: {e}", flush=True)
        else:
            status = 0
            print(f"\nAll {screen.checks} checks hold, in {time.monotonic() - started:.0f} s.", flush=True)
        if shell:
            _shell()
    return status


def _shell() -> None:
    from contrib.demo.stage import commands

    rc = Path("/tmp/bashrc")  # noqa: S108  the demo's own /tmp
    rc.write_text("PS1='demo# '\n", encoding="utf-8")
    print(
        "A shell inside the demo: pan_getcert, pan_instcert, getcert, /var/log, /etc/ipa are the demo's own.\n"
        "Leave with exit; then everything here is gone."
    )
    sys.stdout.flush()
    env = {"PATH": commands(), "HOME": "/tmp", "TERM": os.environ.get("TERM", "dumb"), "LANG": "C.UTF-8"}  # noqa: S108  as above
    interactive = ["-i"] if sys.stdin.isatty() else []
    subprocess.run(["bash", "--rcfile", str(rc), *interactive], env=env, cwd="/tmp", check=False)  # noqa: S108  as above


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
