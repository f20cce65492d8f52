"""vcsim, govmomi's simulator of a vCenter's SOAP, built from Debian's package of its source.

Built once for each source and compiler, in a folder that may be kept (``CERTHOOKS_LAB_CACHE``, as FreeIPA's server);
it takes half a minute.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Optional

from tests.lab.ca import CA

if TYPE_CHECKING:
    from typing_extensions import Self

SOURCES = Path("/usr/share/gocode")
_MAIN = Path(__file__).with_name("vcsim.go")
_LIBRARY = SOURCES / "src/github.com/vmware/govmomi"
_CACHE = Path(os.environ.get("CERTHOOKS_LAB_CACHE", "/var/cache/certhooks-lab"))


def build() -> Optional[Path]:
    """Return the program, built if need be; None where compiler or source are missing."""
    go = shutil.which("go")
    if go is None or not _LIBRARY.is_dir():
        return None
    version = subprocess.run([go, "version"], capture_output=True, check=True).stdout
    key = hashlib.sha256(version + _MAIN.read_bytes()).hexdigest()[:12]
    folder = _CACHE if os.access(_CACHE, os.W_OK) else Path(tempfile.gettempdir())
    program = folder / f"vcsim-{key}"
    if not program.exists():
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            made = Path(scratch, "vcsim")
            env = {
                **{name: os.environ[name] for name in ("PATH",) if name in os.environ},
                "GOPATH": str(SOURCES),
                "GO111MODULE": "off",
                "GOCACHE": str(Path(scratch, "cache")),
            }
            subprocess.run([go, "build", "-o", str(made), str(_MAIN)], env=env, check=True, capture_output=True)
            made.replace(program)
    return program


class Vcsim:
    """A running vcsim on an address of its own, with the user ``user`` and the password ``pass``."""

    address = "127.0.0.3"

    def __init__(self, program: Path, folder: Path) -> None:
        self._program = program
        ca = CA("vcsim CA")
        self.ca_pem = ca.pem
        issued = ca.issue(["vcsim.example.test", self.address], key_type="rsa")
        self._pair = folder / "pair.pem"
        self._pair.touch(mode=0o600)
        self._pair.write_bytes(issued.cert_pem + issued.key_pem)
        self.port = 0

    def __enter__(self) -> Self:
        command = ["setpriv", "--pdeathsig", "KILL", "--", str(self._program)]
        self._process = subprocess.Popen(
            [*command, f"{self.address}:0", str(self._pair), "user", "pass"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout
        self.port = int(self._process.stdout.readline().rpartition(":")[2])
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        assert self._process.stdout
        self._process.stdout.close()
