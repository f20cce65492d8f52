"""A real MIT KDC on loopback with a realm of its own: principals, keytabs, and the environment that finds it.

with Kdc() as kdc:
    keytab = kdc.keytab("host/web.example.test")
"""

from __future__ import annotations

import secrets
import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from tests.lab.bind import PATH, free_port

if TYPE_CHECKING:
    from typing_extensions import Self

REALM = "LAB.TEST"
_START_SECONDS = 20.0


def missing() -> list[str]:
    """Return the programs that are not here."""
    return [name for name in ("krb5kdc", "kdb5_util", "kadmin.local", "setpriv") if not shutil.which(name, path=PATH)]


class Kdc:
    """One realm; everything lies in a folder that goes with it."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="kdc-lab-", dir="/tmp"))
        self.port = free_port()
        where = f"127.0.0.1:{self.port}"
        (self.folder / "krb5.conf").write_text(
            f"[libdefaults]\ndefault_realm = {REALM}\ndns_lookup_kdc = false\ndns_canonicalize_hostname = false\n"
            f"rdns = false\nudp_preference_limit = 0\n[realms]\n{REALM} = {{\n kdc = {where}\n}}\n"
        )
        (self.folder / "kdc.conf").write_text(
            f"[realms]\n{REALM} = {{\n database_name = {self.folder}/db\n key_stash_file = {self.folder}/stash\n"
            f" kdc_listen = {where}\n kdc_tcp_listen = {where}\n}}\n[logging]\nkdc = FILE:{self.folder}/log\n"
        )
        self.environment = {"KRB5_CONFIG": str(self.folder / "krb5.conf")}
        self._full = {"PATH": PATH, "KRB5_KDC_PROFILE": str(self.folder / "kdc.conf"), **self.environment}
        self._daemon: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self._run("kdb5_util", "create", "-s", "-r", REALM, "-P", secrets.token_hex(16))
        self._daemon = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", "krb5kdc", "-n"],
            env=self._full,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        end = time.monotonic() + _START_SECONDS
        while time.monotonic() < end and self._daemon.poll() is None:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return self
            time.sleep(0.05)
        raise RuntimeError("krb5kdc does not start")

    def __exit__(self, *_: object) -> None:
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def stop(self) -> None:
        """Stop it at once."""
        if self._daemon:
            self._daemon.kill()
            self._daemon.wait()
            self._daemon = None

    def keytab(self, *principals: str) -> Path:
        """Make principals, unless they are there already, and return a file with their keys."""
        path = self.folder / f"{'+'.join(principals).replace('/', '_')}.keytab"
        if not path.exists():
            for principal in principals:
                self._run("kadmin.local", "-r", REALM, "addprinc", "-randkey", principal)
                self._run("kadmin.local", "-r", REALM, "ktadd", "-k", str(path), "-norandkey", principal)
        return path

    def _run(self, *words: str) -> None:
        subprocess.run(words, env=self._full, check=True, capture_output=True, stdin=subprocess.DEVNULL, timeout=60)
