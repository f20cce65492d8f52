"""A host as an administrator has it: certificate files, a key file, a state folder, and firewalls to push to.

    with Site(tmp_path) as site:
        fw = site.firewall()
        site.certificate("gp.example.test")
        done = site.instcert("-c", "gp.example.test", "-p", "GP_PORTAL", fw)
        assert done.code == 0, done

Commands run in this process unless ``..._process`` starts the installed script.
"""

from __future__ import annotations

import io
import os
import subprocess
import sys
from contextlib import ExitStack, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable, Union

from tests.lab.ca import CA
from tests.lab.panos import Firewall, Panorama

if TYPE_CHECKING:
    from typing_extensions import Self

    from tests.lab.ca import Issued
    from tests.lab.panos import Device

Word = Union[str, Path, "Device"]


@dataclass(frozen=True)
class Done:
    """How a command ended."""

    code: int
    out: str
    err: str

    def __str__(self) -> str:
        return f"exit code {self.code}\n{self.out}\n{self.err}"


class Site:
    """Everything that one test needs on the administrator's side; ``folder`` is empty and the test's own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ca = CA("Site CA")
        self.state = folder / "state"
        self.log = folder / "log"
        self.panrc = folder / "panrc"
        self.trusted = folder / "device-ca.pem"
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def firewall(self, hostname: str = "localhost", **settings: Any) -> Firewall:
        """Start a firewall with our administrator and two profiles on a certificate ``old``."""
        fw: Firewall = self._device(Firewall(hostname, **settings))
        old = self.ca.issue(["gp.example.test"])
        fw.add_certificate("old", old)
        fw.add_profile("GP_PORTAL", certificate="old")
        fw.add_profile("GP_GATEWAY", certificate="old")
        return fw

    def panorama(self, hostname: str = "localhost", **settings: Any) -> Panorama:
        """Start a Panorama with our administrator."""
        pano: Panorama = self._device(Panorama(hostname, **settings))
        return pano

    def certificate(self, name: str = "gp.example.test", **settings: Any) -> Issued:
        """Issue a certificate and write its files, ``NAME.crt`` and ``NAME.key``, over what was there."""
        issued = self.ca.issue([name], **settings)
        (self.folder / f"{name}.crt").write_bytes(issued.cert_pem)
        key = self.folder / f"{name}.key"
        key.touch(mode=0o600)
        key.write_bytes(issued.key_pem)
        return issued

    def instcert(self, *words: Word) -> Done:
        """Run ``pan_instcert -b`` on this site's files, in this process."""
        from certhooks_pan import instcert

        return call(instcert.main, self.argv(*words))

    def instcert_process(self, *words: Word, **run: Any) -> Done:
        """Run the installed ``pan_instcert -b`` on this site's files."""
        return self.process("pan_instcert", *self.argv(*words), **run)

    def process(self, command: str, *argv: str, **run: Any) -> Done:
        """Run an installed command with exactly these words."""
        settings = {"timeout": 60, "stdin": subprocess.DEVNULL, "env": {"PATH": "/usr/bin:/bin"}, **run}
        done = subprocess.run([script(command), *argv], capture_output=True, text=True, check=False, **settings)
        return Done(done.returncode, done.stdout, done.stderr)

    def argv(self, *words: Word) -> list[str]:
        """Return the words with this site's folders and files before them; a device stands for its address."""
        return [
            *("-b", "-k", str(self.panrc), "-C", str(self.folder), "-K", str(self.folder)),
            *("--cafile", str(self.trusted), "--state-dir", str(self.state), "--log-file", str(self.log)),
            *(at(word) for word in words),
        ]

    def _device(self, device: Any) -> Any:
        device = self._stack.enter_context(device)
        device.commit_seconds = 0.05
        admin = device.add_admin("certhooks", key=_key(self.panrc))
        self.panrc.touch(mode=0o600)
        self.panrc.write_text(f"api_key={admin.key}\n")
        with self.trusted.open("ab") as file:
            file.write(device.ca_pem)
        return device


def at(word: Word) -> str:
    """Return a word of a command line: a device as ``localhost:PORT``."""
    return str(word) if isinstance(word, (str, Path)) else f"localhost:{word.port}"


def script(command: str) -> str:
    """Return the path of an installed command of the environment that the tests run in."""
    return os.path.join(os.path.dirname(sys.executable), command)  # noqa: PTH118, PTH120  sys.executable may be a link


def call(main: Callable[[list[str]], int], argv: list[str]) -> Done:
    """Run a command's ``main`` in this process with exactly these words."""
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        code = main(argv)
    return Done(code, out.getvalue(), err.getvalue())


def _key(panrc: Path) -> str:
    """Return the one API key of the site: all its devices accept the same."""
    return panrc.read_text().partition("=")[2].strip() if panrc.exists() else "LUFRPT1TaXRlS2V5" + os.urandom(12).hex()
