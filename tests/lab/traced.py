"""A command under strace: every system call by which it could show what it knows."""

from __future__ import annotations

import os
import shutil
import subprocess
from typing import TYPE_CHECKING, NamedTuple

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

# What a process shows of itself, and what it gives away. What goes through TLS is encrypted before it gets here.
CALLS = "execve,openat,open,creat,write,writev,pwrite64,pwritev,sendto,sendmsg,sendmmsg,rename,renameat,renameat2"


class Traced(NamedTuple):
    """How it ended, and all of its system calls as text."""

    done: subprocess.CompletedProcess[str]
    calls: str


def strace(trace: Path) -> list[str]:
    """Return the words that go before a command; its calls are written to files that begin with ``trace``."""
    found = shutil.which("strace")
    if found is None and not os.environ.get("CI"):
        pytest.skip("not here: strace")
    assert found, "apt-get install strace"
    return [found, "-f", "-ff", "-v", "-s", "1000000", "-e", f"trace={CALLS}", "-o", str(trace)]


def run(command: Sequence[str], folder: Path) -> Traced:
    """Run a command with next to no environment; its traces and temporary files go below ``folder``.

    It must leave no temporary file behind.
    """
    traces, temporary = folder / "traces", folder / "tmp"
    traces.mkdir()
    temporary.mkdir()
    done = subprocess.run(
        [*strace(traces / "run"), *command],
        env={"PATH": "/usr/bin:/bin", "TMPDIR": str(temporary)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert not list(temporary.iterdir())
    return Traced(done, "".join(path.read_text(errors="replace") for path in traces.iterdir()))


def shown(secrets: Mapping[str, str], text: str) -> list[str]:
    """Return which secrets a text shows."""
    return [name for name, value in secrets.items() if value in text]


def leaks(secrets: Mapping[str, str], folder: Path, kept: Iterable[Path]) -> dict[str, list[str]]:
    """Return which files below a folder show which secrets; not the files that are there to keep them."""
    files = [path for path in folder.rglob("*") if path.is_file() and path not in set(kept)]
    found = {str(path): shown(secrets, path.read_bytes().decode(errors="replace")) for path in files}
    return {path: names for path, names in found.items() if names}
