"""Real daemons for the labs: ``Daemons`` starts them in a folder of their own, and no kill leaves one behind."""

from __future__ import annotations

import fcntl
import os
import shlex
import shutil
import signal
import subprocess
import tempfile
import time
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from typing_extensions import Self

PATH = "/usr/sbin:/usr/bin:/sbin:/bin"
START_SECONDS = 20.0  # a start takes 0.05 s; the rest is for a loaded machine
_SETTLED = 10.0  # seconds after which a folder that nobody holds is nobody's
DIES_WITH_US = ("setpriv", "--pdeathsig", "KILL", "--")
_FAMILY = ("unshare", "--pid", "--fork", "--kill-child", "--")  # whatever it starts, dies with it


class Daemons:
    """A folder ``/tmp/KIND-*`` and the processes that live in it; they end with this process, also if it is killed.

    The folder of a killed one is removed by the next. Strictly a daemon ends with the thread that started it.
    ``prefix`` stands before every command, to have it run elsewhere: ``("nsenter", "--net=/proc/PID/ns/net")``.
    """

    def __init__(self, kind: str, prefix: Sequence[str] = ()) -> None:
        _sweep(kind)
        self.folder = Path(tempfile.mkdtemp(prefix=f"{kind}-", dir="/tmp"))
        self.prefix = tuple(prefix)
        self._hold = ExitStack()
        self._hold.enter_context(_held(self.folder))
        self._running: dict[subprocess.Popen[bytes], signal.Signals] = {}  # and how each is stopped

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.stop()

    @property
    def pids(self) -> list[int]:
        """The process numbers of the daemons that run."""
        return [daemon.pid for daemon in self._running]

    def start(
        self,
        command: Sequence[str],
        log: Path,
        ready: Callable[[], object],
        *,
        env: Mapping[str, str] | None = None,
        family: bool = False,
        seconds: float = START_SECONDS,
    ) -> subprocess.Popen[bytes]:
        """Start a daemon that stays in the foreground, and return it when ``ready()`` is true, within ``seconds``.

        ``family``: in a process namespace (needs root), for one whose children change user and would outlive it.

        Raises:
            RuntimeError: it ended, or was not ready in time; says what its log says.

        """
        with log.open("ab") as file:
            daemon = subprocess.Popen(
                self._words(command, family=family),
                env={"PATH": PATH, **(env or {})},
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                start_new_session=True,
                cwd="/",
            )
        self._running[daemon] = signal.SIGKILL if family else signal.SIGTERM  # unshare ignores all but SIGKILL
        end = time.monotonic() + seconds
        while not ready():
            if daemon.poll() is not None or time.monotonic() > end:
                raise RuntimeError(f"{command[0]} did not start:\n{tail(log)}")
            time.sleep(0.005)
        return daemon

    def run(
        self, command: Sequence[str], *, env: Mapping[str, str] | None = None, timeout: float = 60, **run: Any
    ) -> subprocess.CompletedProcess[str]:
        """Run a command to its end where the daemons run; what it started and left behind ends with it.

        Raises:
            subprocess.TimeoutExpired: it took longer than ``timeout`` seconds, and was killed.

        """
        streams = {"stdin": subprocess.DEVNULL} if "input" not in run else {}
        return subprocess.run(
            self._words(command, family=os.getuid() == 0),
            env={"PATH": PATH, "LANG": "C.UTF-8", "HOME": str(self.folder), **(env or {})},
            timeout=timeout,
            text=True,
            check=False,
            **{"cwd": self.folder, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, **streams, **run},
        )

    def said(self, command: Sequence[str], **run: Any) -> str:
        """Return what a command printed; one that fails raises RuntimeError with what it said."""
        done = self.run(command, **run)
        if done.returncode:
            raise RuntimeError(f"{shlex.join(command)}: exit status {done.returncode}\n{done.stdout}")
        return done.stdout

    def listens(self, port: int) -> bool:
        """Tell whether something listens on this TCP port."""
        return bool(self.said(["ss", "-Hlnt", f"sport = :{port}"]).strip())

    def script(self, name: str, words: Sequence[str], env: Mapping[str, str] | None = None) -> str:
        """Write a program that runs ``words`` and its own arguments, for callers that take a single path."""
        path = self.folder / name
        settings = [f"{key}={value}" for key, value in (env or {}).items()]
        path.write_text(f'#!/bin/sh\nexec {shlex.join(["env", *settings, *words])} "$@"\n')
        path.chmod(0o755)
        return str(path)

    def end(self, daemon: subprocess.Popen[bytes], how: signal.Signals | None = None) -> None:
        """Stop one daemon alone; its children live on, unless it is a family."""
        usual = self._running.pop(daemon)
        daemon.send_signal(how or usual)
        daemon.wait(10)

    def stop(self) -> None:
        """End the daemons and what they have started, and remove the folder; may be called twice."""
        for daemon, how in reversed(self._running.items()):
            daemon.send_signal(how)
            with suppress(subprocess.TimeoutExpired):
                daemon.wait(3)
            with suppress(ProcessLookupError):  # what they have started shares the daemon's process group
                os.killpg(daemon.pid, signal.SIGKILL)
            daemon.wait(3)
        self._running.clear()
        shutil.rmtree(self.folder, ignore_errors=True)
        self._hold.close()

    def _words(self, command: Sequence[str], *, family: bool) -> list[str]:
        return [*DIES_WITH_US, *self.prefix, *(_FAMILY if family else ()), *command]


def tail(log: Path, lines: int = 30) -> str:
    """Return the end of a log."""
    return "\n".join(log.read_text(errors="replace").splitlines()[-lines:])


def _sweep(kind: str) -> None:
    """Remove the folders of labs whose process was killed: nobody holds them any more.

    A process number would not tell: labs in process namespaces of their own share this folder.
    """
    for folder in Path("/tmp").glob(f"{kind}-*"):
        with suppress(OSError):
            if time.time() - folder.stat().st_mtime < _SETTLED:
                continue  # it may be about to be held
            with _held(folder):
                shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _held(folder: Path) -> Iterator[None]:
    """Hold a folder alone; BlockingIOError when somebody else does."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(fd)
