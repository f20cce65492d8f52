"""The host that is enrolled in the lab's FreeIPA, as ``ipa-client-install`` leaves one, and its certmonger.

It writes to ``/etc`` and ``/var``: only for a machine of one's own.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from tests.lab import machine
from tests.lab.certmonger import SystemBusCertmonger
from tests.lab.freeipa import names
from tests.lab.site import Done, script

if TYPE_CHECKING:
    from typing_extensions import Self

    from tests.lab.freeipa.server import FreeIPA

KEYTAB = Path("/etc/krb5.keytab")
_KRB5 = f"""[libdefaults]
  default_realm = {names.REALM}
  dns_lookup_realm = false
  rdns = false
  dns_canonicalize_hostname = false
  dns_lookup_kdc = true
  ticket_lifetime = 24h
  forwardable = true
  udp_preference_limit = 0
  default_ccache_name = FILE:/tmp/krb5cc_%{{uid}}

[domain_realm]
  .{names.DOMAIN} = {names.REALM}
  {names.DOMAIN} = {names.REALM}
"""
_DEFAULT_CONF = f"""[global]
basedn = {names.SUFFIX}
realm = {names.REALM}
domain = {names.DOMAIN}
server = {names.SERVER.host}
host = {names.CLIENT.host}
xmlrpc_uri = https://{names.SERVER.host}/ipa/xml
enable_ra = True
"""


class IpaCertmonger(SystemBusCertmonger):
    """certmonger as it comes: its CA "IPA" is ``ipa-submit``, with this host's keytab."""

    def use_ca(self) -> None:  # type: ignore[override]  # there is nothing to choose
        """Leave the CAs as they are."""


class EnrolledHost:
    """The machine that we are on, once enrolled: certmonger runs, and the commands are in /usr/local/bin."""

    def __init__(self, server: FreeIPA) -> None:
        self._server = server
        self.certmonger = IpaCertmonger()

    def __enter__(self) -> Self:
        write(self._server)
        for command in ("pan_getcert", "pan_instcert", "esxi_instcert"):
            shutil.copy(script(command), "/usr/local/bin")
        self.certmonger.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.certmonger.stop()

    def command(self, *words: str) -> Done:
        """Run a command as root does in a shell here."""
        env = {"PATH": "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin", "HOME": "/root", "LANG": "C.UTF-8"}
        done = subprocess.run(
            words, env=env, cwd="/", stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120, check=False
        )
        return Done(done.returncode, done.stdout, done.stderr)


def write(server: FreeIPA) -> None:
    """Write what an enrolled host has: Kerberos, FreeIPA's settings and CA, DNS, the host's keytab."""
    assert machine.inside(), "this would enrol the machine that the tests run on"
    ipa = Path("/etc/ipa")
    ipa.mkdir(exist_ok=True)
    (ipa / "default.conf").write_text(_DEFAULT_CONF)
    (ipa / "ca.crt").write_bytes(server.ca_pem)
    Path("/etc/krb5.conf").write_text(_KRB5)
    resolver = Path("/etc/resolv.conf")
    resolver.unlink(missing_ok=True)  # it may be a link to what is not there
    resolver.write_text(f"search {names.DOMAIN}\nnameserver {names.SERVER.address}\n")
    KEYTAB.unlink(missing_ok=True)
    KEYTAB.touch(mode=0o600)
    KEYTAB.write_bytes(server.path("/var/lib/lab/client.keytab").read_bytes())
