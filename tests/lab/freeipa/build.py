"""How the servers come to be: Debian's packages, FreeIPA compiled over them, a realm, a second server that joins it."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

from tests.lab.freeipa import layers, names, sources
from tests.lab.freeipa.layers import Layer, remove
from tests.lab.freeipa.system import LabError, System, run

_INSIDE = Path(__file__).with_name("inside")
SCRIPTS = "/usr/lib/freeipa-lab"  # where the scripts of ``inside`` are on a server
_SUITE = "bookworm"
_PACKAGES = _INSIDE / "packages.txt"
_OPTIONS = (
    '--aptopt=APT::Install-Recommends "false"',
    '--aptopt=Acquire::Languages "none"',
    *(f"--dpkgopt=path-exclude=/usr/share/{name}/*" for name in ("doc", "locale", "man")),
)
_INSTALL_SECONDS = 1200.0


def _system(folder: Path) -> None:
    """Lay Debian out, with the packages that a server needs and those that it is compiled with."""
    lines = (line.partition("#")[0].strip() for line in _PACKAGES.read_text().splitlines())
    debian, security = sources.mirror("debian"), sources.mirror("debian-security")
    archives = [f"deb {debian} {_SUITE} main", f"deb {debian} {_SUITE}-updates main"]
    archives += [f"deb {security} {_SUITE}-security main"]
    made = folder / "system"  # mmdebstrap wants to make its folder by itself
    argv = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "--", "env", f"TMPDIR={folder}"]
    argv += ["mmdebstrap", "--mode=root", "--variant=minbase", f"--include={','.join(filter(None, lines))}"]
    run([*argv, *_OPTIONS, _SUITE, str(made), *archives])
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
    with System(names.SERVER, SYSTEM.folders, upper=folder, prefix=32) as made:
        for script in ("compile", "prepare"):
            made.run(f"/build/{script}", seconds=_INSTALL_SECONDS)
    remove(build)


def _realm(folder: Path) -> None:
    """Install the first server, with its DNS and its certificate authority."""
    _names(folder, names.SERVER)
    with System(names.SERVER, FREEIPA.folders, upper=folder) as made:
        made.run(f"{SCRIPTS}/install", "server", seconds=_INSTALL_SECONDS)


def _pair(folder: Path) -> None:
    """Install the second server as the first one's replica; both have changed then, each in a folder of its own."""
    there, here = folder / names.SERVER.host, folder / names.REPLICA.host
    for made in (there, here):
        made.mkdir()
    _names(here, names.REPLICA)
    with (
        System(names.SERVER, SERVER.folders, upper=there, prefix=32) as server,
        System(names.REPLICA, FREEIPA.folders, upper=here, prefix=32) as replica,
    ):
        sources.copy_in(server.path(SCRIPTS))
        _join(server, replica)
        server.run(f"{SCRIPTS}/services", "start", "all", "custodia")
        server.run(f"{SCRIPTS}/second", "expect", names.REPLICA.host, names.REPLICA.address)
        pki = "/var/lib/lab/pki"
        replica.path(pki).mkdir(parents=True, mode=0o700)
        for name in ("ca.crt", "ca.key", f"{names.REPLICA.host}.pem"):
            shutil.copy(server.path(f"{pki}/{name}"), replica.path(pki))
        replica.run(f"{SCRIPTS}/install", "replica", seconds=_INSTALL_SECONDS)
        server.run(f"{SCRIPTS}/second", "installed")
        server.run(f"{SCRIPTS}/services", "stop", "all", "custodia")
    for made in (there, here):
        remove(made.with_name(f"{made.name}.work"))


def _join(server: System, replica: System) -> None:
    """Join the networks of two systems: what a loopback device has as /24 is all its own, so a bridge has it."""
    bridge = ("ip", "link", "add", "br0", "type", "bridge"), ("ip", "link", "set", "br0", "up")
    cable = ("ip", "link", "add", "cable", "type", "veth", "peer", "name", "eth0", "netns", str(replica.pid))
    plugged = ("ip", "link", "set", "cable", "master", "br0", "up")
    for system, device, before in ((server, "br0", (*bridge, cable, plugged)), (replica, "eth0", ())):
        address = system.node.address
        alone = ("ip", "address", "delete", f"{address}/32", "dev", "lo")
        given = ("ip", "address", "add", f"{address}/{names.PREFIX}", "dev", device)
        for argv in (*before, alone, given, ("ip", "link", "set", device, "up")):
            run(["nsenter", "--target", str(system.pid), "--net", "--", *argv])


def _names(folder: Path, node: names.Node) -> None:
    """Write who a server is and whom it knows, and the lab's scripts."""
    texts = {"hosts": _hosts(), "hostname": f"{node.host}\n", "resolv.conf": _resolver()}
    (folder / "etc").mkdir()
    for name, text in texts.items():
        (folder / "etc" / name).write_text(text)
    sources.copy_in(folder / SCRIPTS[1:])


def _hosts() -> str:
    return "".join(f"{line}\n" for line in ("127.0.0.1 localhost", *names.HOSTS))


def _resolver() -> str:
    return f"search {names.DOMAIN}\nnameserver {names.SERVER.address}\n"


def build() -> None:
    """Make what is missing, with a line for each step on standard error.

    Raises:
        LabError: it cannot be made here.
    """
    if os.getuid():
        raise LabError("this needs root")
    wanted = ("apt-get", "ip", "mmdebstrap", "nsenter", "setpriv", "tar", "unshare")
    lacks = [name for name in wanted if not shutil.which(name)]
    if lacks:
        raise LabError(f"not here: {', '.join(lacks)}")
    if set(str(layers.CACHE)) & set(":,\\"):
        raise LabError(f"{layers.CACHE}: an overlay cannot be made of folders with such a name")
    os.umask(0o022)  # what is made here is read by daemons of many users
    if not PAIR.built:
        print(f"building the FreeIPA lab in {layers.CACHE}, once, for some minutes", file=sys.stderr)
    PAIR.build(lambda text: print(f"  {text}", file=sys.stderr, flush=True))


def folders(node: names.Node, *, pair: bool) -> str:
    """Return the layers of a server: the first one alone, or one of the two that know each other."""
    if not pair:
        return SERVER.folders
    below = SERVER if node == names.SERVER else FREEIPA
    return f"{PAIR.path / node.host}:{below.folders}"


_STEPS = [_INSIDE / name for name in ("compile", "prepare", "systemctl", "wheels.txt")]
_INSTALL = [_INSIDE / name for name in ("install", "certificate", "complete.py")]
_TOLD = (_hosts(), _resolver(), *sorted(names.SERVER.environment.values()))
SYSTEM = Layer("system", (_PACKAGES, _SUITE, *_OPTIONS), _system)
FREEIPA = Layer("freeipa", (*_STEPS, sources.SHA256), _freeipa, SYSTEM)
SERVER = Layer("server", (*_INSTALL, *_TOLD), _realm, FREEIPA)
PAIR = Layer("pair", (_INSIDE / "second", _INSIDE / "services", *names.REPLICA), _pair, SERVER)
