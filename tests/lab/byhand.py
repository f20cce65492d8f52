"""What the emulators share when they are started by hand: options, switches, files, and serving until told to stop."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable, TypeVar

if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping, Sequence
    from contextlib import AbstractContextManager

_Switches = TypeVar("_Switches")
_TICK = 0.5


def add_options(made: argparse.ArgumentParser, folder: str, what: str, device: str) -> None:
    """Add the options that every emulator has; ``what`` is written to ``folder`` unless told."""
    made.add_argument("--out", type=Path, default=Path(folder), metavar="DIR",
                      help=f"where {what} are written (default: %(default)s)")  # fmt: skip
    made.add_argument(
        "--switch",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help=f"one of the switches for what nobody knows of {device}; may be repeated",
    )
    made.add_argument("--list-switches", action="store_true", help="describe the switches and exit")
    made.add_argument(
        "--ready", type=Path, metavar="FILE", help="write what is served to this file, as JSON, once it is"
    )


def switched(
    switches: _Switches, given: Sequence[str], readers: Mapping[str, Callable[[str], Any]] | None = None
) -> _Switches:
    """Return the switches, set as ``NAME=VALUE`` words say; ``readers`` are for those that are no plain value.

    Raises:
        ValueError: there is no such switch, or the value is none for it.
    """
    for each in given:
        name, _, value = each.partition("=")
        name = name.replace("-", "_")
        old = getattr(switches, name, None)
        if old is None or callable(old):
            raise ValueError(f"no switch is called {name}; see --list-switches")
        read = (readers or {}).get(name) or (_truth if isinstance(old, bool) else type(old))
        try:
            setattr(switches, name, read(value))
        except ValueError as error:
            raise ValueError(f"{each}: {error}; see --list-switches") from None
    return switches


def serve(
    devices: Sequence[AbstractContextManager[Any]],
    facts: Callable[[], dict[str, Any]],
    ready: Path | None,
    tick: Callable[[], object] = lambda: None,
) -> None:
    """Have the devices serve until SIGTERM or Ctrl-C, and tell the facts about them: on the screen, and in a file."""
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    with contextlib.ExitStack() as stack:
        for device in devices:
            stack.enter_context(device)
        told = facts()
        for name, value in told.items():
            print(f"{name}: {value}", flush=True)
        if ready:
            fresh = ready.with_name(ready.name + ".new")
            fresh.write_text(json.dumps(told), encoding="utf-8")
            fresh.replace(ready)
        while not stop.wait(_TICK):
            tick()
    print("stopped", flush=True)


def private(path: Path, data: bytes, mode: int = 0o600) -> None:
    """Write a file that nobody else can read."""
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
        file.write(data)


def _truth(value: str) -> bool:
    words = {"1": True, "yes": True, "true": True, "on": True, "0": False, "no": False, "false": False, "off": False}
    if value.lower() not in words:
        raise ValueError("yes or no")
    return words[value.lower()]
