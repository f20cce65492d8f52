"""A real MIT KDC: ``Kdc``, one realm with service keytabs.

with Daemons("acme-lab") as daemons:
    kdc = Kdc(daemons)
    kdc.start()
    host = kdc.keytab("host/web.acme.test")
    daemons.said(["nsupdate", "-g", ...], env=kdc.client_env(host))
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.lab.acme.bind import free_port

if TYPE_CHECKING:
    import subprocess
    from pathlib import Path

    from tests.lab.daemons import Daemons

_KRB5 = """
[libdefaults]
  default_realm = {realm}
  dns_canonicalize_hostname = false
  dns_lookup_kdc = false
  dns_lookup_realm = false
  rdns = false
[realms]
  {realm} = {{
    kdc = {address}:{port}
  }}
[domain_realm]
  .test = {realm}
"""
_KDC = """
[kdcdefaults]
  kdc_listen = {address}:{port}
  kdc_tcp_listen = {address}:{port}
[realms]
  {realm} = {{
    database_name = {folder}/principal
    key_stash_file = {folder}/stash
    acl_file = {folder}/acl
  }}
"""
PROGRAMS = ("krb5kdc", "kdb5_util", "kadmin.local", "setpriv", "ss")


class Kdc:
    """A KDC with a database of its own; every name below .test is in its realm."""

    def __init__(
        self, daemons: Daemons, realm: str = "LAB.TEST", address: str = "127.0.0.1", port: int | None = None
    ) -> None:
        self.daemons = daemons
        self.realm = realm
        self._address = address
        self._port = port or free_port([address])
        self._folder = daemons.folder / f"kdc-{self._port}"
        self.daemon: subprocess.Popen[bytes] | None = None

    @property
    def env(self) -> dict[str, str]:
        """What a Kerberos program needs to find this realm; a server's replay cache is off."""
        return {"KRB5_CONFIG": str(self._folder / "krb5.conf"), "KRB5RCACHENAME": "none:"}

    def client_env(self, keytab: Path) -> dict[str, str]:
        """Return the environment in which a program is what the keytab says, without ``kinit``."""
        return {**self.env, "KRB5_CLIENT_KTNAME": str(keytab), "KRB5CCNAME": "MEMORY:"}

    def start(self) -> None:
        """Make the database and start the KDC."""
        self._folder.mkdir(mode=0o700)
        place = {"realm": self.realm, "address": self._address, "port": self._port, "folder": self._folder}
        for name, text in (("krb5.conf", _KRB5), ("kdc.conf", _KDC)):
            (self._folder / name).write_text(text.format(**place))
        self._said("kdb5_util", "create", "-s", "-P", "the lab's master password")
        log = self._folder / "log"
        self.daemon = self.daemons.start(
            ["krb5kdc", "-n", "-r", self.realm], log, lambda: self.daemons.listens(self._port), env=self._env
        )

    def stop(self) -> None:
        """Take the KDC away."""
        assert self.daemon is not None, "it does not run"
        self.daemons.end(self.daemon)
        self.daemon = None

    def keytab(self, *principals: str) -> Path:
        """Make principals, unless that has been done, and return the path of a keytab with their keys, 0600."""
        path = self._folder / f"{'+'.join(principals).replace('/', '-')}.keytab"
        if not path.exists():
            for principal in principals:
                self.admin("addprinc", "-randkey", principal)
                self.admin("ktadd", "-q", "-k", str(path), "-norandkey", principal)
        return path

    def admin(self, *words: str) -> str:
        """Run kadmin.local with these words, and return what it said; a failure raises RuntimeError."""
        return self._said("kadmin.local", *words)

    @property
    def _env(self) -> dict[str, str]:
        return {**self.env, "KRB5_KDC_PROFILE": str(self._folder / "kdc.conf")}

    def _said(self, *command: str) -> str:
        return self.daemons.said([command[0], "-r", self.realm, *command[1:]], env=self._env)
