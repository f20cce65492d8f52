"""Trees of files that are made once and kept: each lies over the one below it, and is named by what it is made from.

A layer that was broken off is made anew; one that is there is complete. Two builds wait for each other.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Callable, Optional, Union

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

CACHE = Path(os.environ.get("CERTHOOKS_LAB_CACHE") or "/var/cache/certhooks-lab").absolute()
_KEPT_SECONDS = 3 * 86400  # another checkout may still use the layer that a new one has replaced


@dataclass(frozen=True)
class Layer:
    """A tree to be made.

    Args:
        name: what it is.
        inputs: files, and words, that the result depends on.
        make: fills an empty folder, which then lies over ``below``.
        below: the layer that it lies on.
    """

    name: str
    inputs: Sequence[Union[Path, str]]
    make: Callable[[Path], None]
    below: Optional[Layer] = None

    @property
    def path(self) -> Path:
        """Where it is kept; it changes whenever an input or a layer below changes."""
        parts = [self.below.path.name if self.below else "", *map(_content, self.inputs)]
        key = hashlib.sha256("\0".join(parts).encode()).hexdigest()[:12]
        return CACHE / f"{self.name}-{key}"

    @property
    def stack(self) -> list[Layer]:
        """The layer itself and those below it, the topmost first."""
        return [self, *(self.below.stack if self.below else [])]

    @property
    def folders(self) -> str:
        """What ``enter`` takes as its layers."""
        return ":".join(str(layer.path) for layer in self.stack)

    @property
    def built(self) -> bool:
        """Whether everything is there."""
        return all(layer.path.is_dir() for layer in self.stack)

    def build(self, say: Callable[[str], None]) -> None:
        """Make what is missing, and remove what nobody has used for long; ``say`` tells the progress."""
        with _locked(say):
            for layer in reversed(self.stack):
                if not layer.path.is_dir():
                    layer._make(say)
                os.utime(layer.path)
            self._sweep()

    def _make(self, say: Callable[[str], None]) -> None:
        say(f"{self.name} ...")
        began = time.monotonic()
        part = self.path.with_suffix(".part")
        for left in CACHE.glob("*.part*"):  # of builds that were broken off: we hold the lock
            remove(left)
        part.mkdir(parents=True)
        self.make(part)
        remove(_work(part))
        part.rename(self.path)
        say(f"{self.name}: {time.monotonic() - began:.0f} s")

    def _sweep(self) -> None:
        used = {layer.path for layer in self.stack}
        for layer in self.stack:
            for path in CACHE.glob(f"{layer.name}-{'[0-9a-f]' * 12}"):
                if path not in used and time.time() - path.stat().st_mtime > _KEPT_SECONDS:
                    remove(path.rename(path.with_suffix(".part")))  # broken off, it is no layer


def remove(folder: Path) -> None:
    """Remove a tree, if it is there; what cannot be removed is an error."""
    if folder.exists():
        shutil.rmtree(folder)


def _work(upper: Path) -> Path:
    """Return the folder beside an upper one that an overlay works in."""
    return upper.with_name(f"{upper.name}.work")


def _content(of: Union[Path, str]) -> str:
    return of if isinstance(of, str) else f"{of.name}\0{of.read_text()}"


@contextmanager
def _locked(say: Callable[[str], None]) -> Iterator[None]:
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("another build runs; waiting for it")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield
