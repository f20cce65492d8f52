"""What the server is made from, as it comes from Debian's archive and from PyPI, each checked against its SHA-256."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

from tests.lab.freeipa.layers import CACHE, remove
from tests.lab.freeipa.system import LabError, run

VERSION = "4.12.4"
SHA256 = "367ddd1e8680b7af8c67480c1422678978229eae20b8d33c1e30a1ade9fd69d6"
SOURCE_SUITE = "trixie"  # the one whose archive still has this release
GIVEN = "CERTHOOKS_FREEIPA_SOURCE"  # a path of the tarball, for the day when no archive has it
WHEELS = Path(__file__).with_name("inside") / "wheels.txt"


def tarball() -> Path:
    """Return FreeIPA's release tarball, from the environment's path, or by way of apt.

    Raises:
        LabError: it is not to be had, or not the right one.
    """
    given = os.environ.get(GIVEN)
    if given:
        return _checked(Path(given))
    kept = CACHE / f"freeipa_{VERSION}.orig.tar.gz"
    if not kept.exists():
        folder = CACHE / "download"
        remove(folder)
        for made in ("lists/partial", "cache/archives/partial"):
            (folder / made).mkdir(parents=True)
        (folder / "sources.list").write_text(f"deb-src {mirror('debian')} {SOURCE_SUITE} main\n")
        apt = ["apt-get", "-qq", "-o", "APT::Sandbox::User=root", "-o", "Dir::Etc::sourceparts=/dev/null"]
        apt += ["-o", f"Dir::Etc::sourcelist={folder}/sources.list", "-o", f"Dir::State::lists={folder}/lists"]
        apt += ["-o", f"Dir::Cache={folder}/cache"]
        try:
            run([*apt, "update"], folder=folder)
            run([*apt, "source", "--download-only", "--tar-only", "freeipa"], folder=folder)
            _checked(folder / kept.name).rename(kept)
        except LabError as error:
            raise LabError(f"{error}\nwithout the archive: {GIVEN}=/path/to/{kept.name}") from error
        remove(folder)
    return _checked(kept)


def wheels(folder: Path) -> None:
    """Put the wheels of ``inside/wheels.txt`` into a folder."""
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-input", "--no-deps", "--require-hashes"]
    run([*pip, "--dest", str(folder), "--requirement", str(WHEELS)], folder=folder)


def mirror(archive: str) -> str:
    """Return where this machine's own apt finds an archive of Debian (``debian`` or ``debian-security``)."""
    told = subprocess.run(
        ["apt-get", "indextargets", "--format", "$(REPO_URI) $(ORIGIN)", "Created-By: Packages"],
        capture_output=True,
        text=True,
        check=True,
    )
    lines = (line.partition(" ") for line in told.stdout.splitlines())
    found = sorted({uri for uri, _, origin in lines if origin == "Debian" and uri.rstrip("/").endswith(f"/{archive}")})
    if not found:
        raise LabError(f"apt knows no archive {archive!r} here: this wants Debian 12, and apt-get update run once")
    return found[0]


def unpack(archive: Path, folder: Path) -> None:
    """Unpack a tarball without its top folder."""
    folder.mkdir(parents=True)
    run(["tar", "--extract", "--file", str(archive.absolute()), "--strip-components=1"], folder=folder)


def copy_in(folder: Path) -> None:
    """Copy the scripts of ``inside`` into a folder, readable by all, whatever the checkout's modes are."""
    folder.mkdir(parents=True, exist_ok=True)
    for script in Path(__file__).with_name("inside").iterdir():
        if script.is_file():
            copied = Path(shutil.copy(script, folder))
            copied.chmod(0o755)


def _checked(path: Path) -> Path:
    if not path.exists():
        raise LabError(f"{path} is not there")
    if hashlib.sha256(path.read_bytes()).hexdigest() != SHA256:
        raise LabError(f"{path} is not FreeIPA {VERSION}")
    return path
