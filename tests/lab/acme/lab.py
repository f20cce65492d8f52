"""Name servers, KDC and ACME server together: ``AcmeLab``."""

from __future__ import annotations

import shutil
import sys
from typing import TYPE_CHECKING, Any

from tests.lab.acme import nsupdate_hook
from tests.lab.acme.bind import NameServer, free_port
from tests.lab.acme.kdc import Kdc
from tests.lab.acme.pebble import Pebble
from tests.lab.daemons import PATH, Daemons

if TYPE_CHECKING:
    from collections.abc import Sequence

    from typing_extensions import Self


class AcmeLab:
    """A primary with its secondaries, a KDC if ``kerberos``, and pebble, which validates with the primary.

    ``zones`` and what else ``NameServer`` takes are the name server's; ``prefix`` is that of ``Daemons``. With
    ``kerberos`` the primary takes GSS-TSIG as FreeIPA's BIND does, from whom ``policy`` says.
    """

    def __init__(
        self,
        zones: Sequence[str] = ("acme.test", "alias.test"),
        *,
        kerberos: bool = False,
        prefix: Sequence[str] = (),
        **name_server: Any,
    ) -> None:
        self.daemons = Daemons("acme-lab", prefix)
        self.kdc = Kdc(self.daemons)
        self._kerberos = kerberos
        self.dns = NameServer(self.daemons, zones, env=self.kdc.env if kerberos else None, **name_server)
        self.pebble = Pebble(self.daemons, (self.dns.address, self.dns.port))

    def __enter__(self) -> Self:
        try:
            if self._kerberos:
                self.kdc.start()
                self.dns.keytab = self.kdc.keytab("DNS/ns1.lab.test")
            self.dns.start()
            self.pebble.start()
        except BaseException:
            self.daemons.stop()
            raise
        return self

    def __exit__(self, *_exc: object) -> None:
        self.daemons.stop()

    def hook(self, client: str) -> list[str]:
        """Return the words of the hook that only calls nsupdate, for certbot, dehydrated, lego or mod_md."""
        server = [self.dns.address, str(self.dns.port), str(self.dns.key_file)]
        copy = self.daemons.folder / "nsupdate_hook.py"  # where mod_md's user can read it
        if not copy.exists():
            shutil.copy(nsupdate_hook.__file__, copy)
        python = shutil.which("python3", path=PATH) or sys.executable
        return [python, "-I", str(copy), *server, client]

    def httpreq(self) -> str:
        """Start such a hook as a server for lego's httpreq, and return its URL."""
        port = free_port(["127.0.0.1"])
        self.daemons.start(
            [*self.hook("httpreq"), str(port)],
            self.daemons.folder / "httpreq.log",
            lambda: self.daemons.listens(port),
        )
        return f"http://127.0.0.1:{port}"

    def rfc2136(self) -> list[str]:
        """Return certbot's options for the plugin that its own makers wrote for dynamic updates, without a pause."""
        secret = self.dns.key_file.read_text().split('"')[3]
        credentials = self.daemons.folder / "rfc2136.ini"
        credentials.touch(mode=0o600)
        settings = {"server": self.dns.address, "port": self.dns.port, "name": "lab-key", "secret": secret}
        settings["algorithm"] = "HMAC-SHA256"
        credentials.write_text("".join(f"dns_rfc2136_{key} = {value}\n" for key, value in settings.items()))
        options = ["--authenticator", "dns-rfc2136", "--dns-rfc2136-credentials", str(credentials)]
        return [*options, "--dns-rfc2136-propagation-seconds", "0"]
