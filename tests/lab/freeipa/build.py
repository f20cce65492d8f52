"""How the server comes to be: Debian's packages, FreeIPA compiled over them, and a realm installed over that."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from tests.lab.freeipa import names, sources
from tests.lab.freeipa.layers import CACHE, Layer, remove

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_HERE = Path(__file__).parent
_INSIDE = _HERE / "inside"
SCRIPTS = "usr/lib/freeipa-lab"  # where the scripts of ``inside`` are on the server
_SUITE = "bookworm"
_PACKAGES = _INSIDE / "packages.txt"
_DIES_WITH_US = ("setpriv", "--pdeathsig", "KILL", "--")


class BuildError(Exception):
    """A step of the build failed; the message ends with what it printed."""


def enter(
    layer: Layer, argv: Sequence[str], *, upper: str = "", own_network: bool = True, detached: bool = False
) -> list[str]:
    """Return the command that runs another as process 1 of a system laid out from a layer (see the script).

    It ends with the process that starts it, unless ``detached``.
    """
    new = ["--mount", "--pid", "--uts", "--ipc", *(["--net"] if own_network else [])]
    return [
        *([] if detached else _DIES_WITH_US),
        *("unshare", *new, "--fork", "--kill-child", "--", str(_HERE / "enter")),
        *(layer.folders, upper, names.SERVER, f"{names.ADDRESS}/{names.PREFIX}", *argv),
    ]


def _system(folder: Path) -> None:
    """Lay Debian out, with the packages that the server needs and those that it is compiled with."""
    lines = (line.partition("#")[0].strip() for line in _PACKAGES.read_text().splitlines())
    debian, security = sources.mirror("debian"), sources.mirror("debian-security")
    options = ['--aptopt=APT::Install-Recommends "false"', '--aptopt=Acquire::Languages "none"']
    options += [f"--dpkgopt=path-exclude=/usr/share/{name}/*" for name in ("doc", "locale", "man")]
    archives = [f"deb {debian} {_SUITE} main", f"deb {debian} {_SUITE}-updates main"]
    archives += [f"deb {security} {_SUITE}-security main"]
    made = folder / "system"  # mmdebstrap wants to make its folder's owner and mode by itself
    argv = [*_DIES_WITH_US, "unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "--"]
    argv += ["mmdebstrap", "--mode=root", "--variant=minbase", f"--include={','.join(filter(None, lines))}"]
    _run([*argv, *options, _SUITE, str(made), *archives])
    for path in made.iterdir():
        path.rename(folder / path.name)
    made.rmdir()


def _freeipa(folder: Path) -> None:
    """Compile FreeIPA, and prepare the system for its installer."""
    build = folder / "build"
    sources.unpack(sources.tarball(), build / "freeipa")
    (build / "wheels").mkdir()
    sources.wheels(build / "wheels")
    for script in ("compile", "prepare", "systemctl"):
        shutil.copy(_INSIDE / script, build)
    for script in ("compile", "prepare"):
        _run(enter(SYSTEM, ["/bin/bash", f"/build/{script}"], upper=str(folder)), names.ENVIRONMENT)
    remove(build)


def _realm(folder: Path) -> None:
    """Install the server, its DNS and its certificate authority."""
    for path, text in (("etc/hosts", _hosts()), ("etc/hostname", f"{names.SERVER}\n"), ("etc/resolv.conf", _RESOLV)):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)
    sources.copy_in(folder / SCRIPTS)
    command = ["tini", "-s", "-w", "--", "/bin/bash", f"/{SCRIPTS}/install"]
    _run(enter(FREEIPA, command, upper=str(folder)), names.ENVIRONMENT)


def _hosts() -> str:
    return "".join(f"{line}\n" for line in ("127.0.0.1 localhost", *names.HOSTS))


def _run(argv: Sequence[str], env: Mapping[str, str] | None = None) -> None:
    """Run a step, in the given environment alone; its output is shown only when it fails."""
    log = CACHE / "build.log"
    with log.open("wb") as output:
        done = subprocess.run(
            argv, env=env, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, check=False
        )
    if done.returncode:
        tail = "\n".join(log.read_text(errors="replace").splitlines()[-40:])
        raise BuildError(f"exit status {done.returncode} of {' '.join(argv)}\n{tail}\nall of it: {log}")


def build() -> Layer:
    """Make what is missing, with a line for each step on standard error; return the finished server.

    Raises:
        BuildError, SourceError: it cannot be made here.
    """
    if os.getuid():
        raise BuildError("this needs root")
    lacks = [name for name in ("mmdebstrap", "unshare", "setpriv", "tar") if not shutil.which(name)]
    if lacks:
        raise BuildError(f"not here: {', '.join(lacks)}")
    if not SERVER.built:
        print(f"building the FreeIPA lab in {CACHE}, once, for about four minutes", file=sys.stderr)
    SERVER.build(lambda text: print(f"  {text}", file=sys.stderr, flush=True))
    return SERVER


_RESOLV = f"search {names.DOMAIN}\nnameserver {names.ADDRESS}\n"
_STEPS = ("compile", "prepare", "systemctl", "wheels.txt")
SYSTEM = Layer("system", (_PACKAGES, _SUITE), _system)
FREEIPA = Layer("freeipa", (*(_INSIDE / name for name in _STEPS), sources.SHA256), _freeipa, SYSTEM)
SERVER = Layer(
    "server",
    (_INSIDE / "install", _INSIDE / "complete.py", _hosts(), _RESOLV, *sorted(names.ENVIRONMENT.values())),
    _realm,
    FREEIPA,
)
