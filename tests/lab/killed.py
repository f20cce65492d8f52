"""A command in a process that kills itself: ``python -m tests.lab.killed MODULE POINT NTH WORDS...``.

POINT is ``step`` (after the nth note in the journal), or ``before:TEXT`` or ``after:TEXT`` (the nth request with this
text in its method, path or body; ``soap METHOD``: the nth call of this method by pyvmomi).
"""

from __future__ import annotations

import importlib
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable

from certhooks.http import Connection
from certhooks.journal import Record

if TYPE_CHECKING:
    from collections.abc import Sequence

ROOT = Path(__file__).parents[2]


def run(
    point: str, nth: int, argv: Sequence[str], *, module: str = "certhooks_pan.instcert", timeout: float = 60
) -> int:
    """Run a command's module so, and return its status: -9 when the point was reached."""
    command = [sys.executable, "-m", "tests.lab.killed", module, point, str(nth), *argv]
    return subprocess.run(
        command, cwd=ROOT, env={"PATH": "/usr/bin:/bin"}, stdin=subprocess.DEVNULL, check=False, timeout=timeout
    ).returncode


class _Countdown:
    def __init__(self, nth: int) -> None:
        self.left = nth

    def __call__(self) -> None:
        self.left -= 1
        if self.left == 0:
            os.kill(os.getpid(), signal.SIGKILL)


def _arm(point: str, strike: Callable[[], None]) -> None:
    when, _, text = point.partition(":")
    step, request = Record.step, Connection.request

    def deadly_step(self: Record, *args: Any) -> None:
        step(self, *args)
        strike()

    def deadly_request(self: Connection, *args: Any, **kwargs: Any) -> Any:
        words = " ".join(map(str, args)).encode()
        meant = text.encode() in words + b" " + kwargs.get("body", b"")
        if meant and when == "before":
            strike()
        reply = request(self, *args, **kwargs)
        if meant and when == "after":
            strike()
        return reply

    if text.startswith("soap "):
        from pyVmomi import SoapAdapter

        adapter: Any = SoapAdapter.SoapStubAdapter
        invoke = adapter.InvokeMethod

        def deadly_call(self: Any, mo: Any, info: Any, *args: Any) -> Any:
            meant = info.wsdlName == text.partition(" ")[2]
            if meant and when == "before":
                strike()
            try:
                return invoke(self, mo, info, *args)
            finally:
                if meant and when == "after":
                    strike()

        adapter.InvokeMethod = deadly_call
    elif when == "step":
        Record.step = deadly_step  # type: ignore[method-assign, assignment]
    else:
        Connection.request = deadly_request  # type: ignore[method-assign]


if __name__ == "__main__":
    _arm(sys.argv[2], _Countdown(int(sys.argv[3])))
    sys.exit(importlib.import_module(sys.argv[1]).main(sys.argv[4:]))
