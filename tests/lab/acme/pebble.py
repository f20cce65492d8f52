"""The ACME server: ``Pebble``, Let's Encrypt's own test server in strict mode, which asks the name server it is given.

    with Daemons("acme-lab") as daemons:
        pebble = Pebble(daemons, dns=("127.0.0.1", 25353))
        pebble.start()
        pebble.directory, pebble.trust

Every authorization is validated anew and at once. Its memory is all it has: another start is another CA.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from tests.lab.acme.bind import free_port
from tests.lab.ca import CA

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from tests.lab.daemons import Daemons

_ENV = {"PEBBLE_VA_NOSLEEP": "1", "PEBBLE_AUTHZREUSE": "0", "PEBBLE_WFE_NONCEREJECT": "0"}


class Pebble:
    """A certificate authority on an address of its own.

    ``dns``: address and port of the name server that it validates with. ``env``: more of pebble's variables, such as
    PEBBLE_CHAIN_LENGTH. ``days``: how long its certificates are valid.
    """

    def __init__(
        self,
        daemons: Daemons,
        dns: tuple[str, int],
        *,
        address: str = "127.0.0.1",
        port: int | None = None,
        days: int = 90,
        env: Mapping[str, str] | None = None,
    ) -> None:
        self.daemons = daemons
        self.address = address
        self.port = port or free_port([address])
        self.dns = dns
        self._days = days
        self._env = {**_ENV, **(env or {})}
        self._folder = daemons.folder / f"pebble-{self.port}"

    @property
    def directory(self) -> str:
        """The URL that ACME clients are given."""
        return f"https://{self.address}:{self.port}/dir"

    @property
    def trust(self) -> Path:
        """The CA (PEM) of pebble's own HTTPS certificate: what clients have to trust to talk to it."""
        return self._folder / "minica.pem"

    def start(self) -> None:
        """Start it and return when it answers."""
        self._folder.mkdir()
        ca = CA("minica")
        own = ca.issue(["localhost", self.address])
        self.trust.write_bytes(ca.pem)
        (self._folder / "cert.pem").write_bytes(own.cert_pem)
        (self._folder / "key.pem").write_bytes(own.key_pem)
        config = {
            "listenAddress": f"{self.address}:{self.port}",
            "managementListenAddress": f"{self.address}:{self.port + 1}",
            "certificate": str(self._folder / "cert.pem"),
            "privateKey": str(self._folder / "key.pem"),
            "httpPort": 1,  # nobody listens there: dns-01 alone can succeed
            "tlsPort": 1,
            "ocspResponderURL": "",
            "externalAccountBindingRequired": False,
            "certificateValidityPeriod": self._days * 86400,
        }
        (self._folder / "config.json").write_text(json.dumps({"pebble": config}))
        server = f"{self.dns[0]}:{self.dns[1]}"
        command = ["pebble", "-strict", "-config", str(self._folder / "config.json"), "-dnsserver", server]
        self.daemons.start(command, self.log, lambda: self._get(self.directory), env=self._env)

    @property
    def log(self) -> Path:
        """What it says, with the reason of every refusal."""
        return self._folder / "log"

    def root(self) -> str:
        """Return the root (PEM) of the certificates that it issues."""
        return self._get(f"https://{self.address}:{self.port + 1}/roots/0")

    def check(self, fullchain: Path) -> None:
        """Check that this file's first certificate leads through the others to the root, else RuntimeError."""
        root = self._folder / "root.pem"
        root.write_text(self.root())
        paths = ["-CAfile", str(root), "-untrusted", str(fullchain), str(fullchain)]
        self.daemons.said(["openssl", "verify", *paths])

    def _get(self, url: str) -> str:
        """Return what is at an address of pebble's, nothing while it does not listen."""
        done = self.daemons.run(["curl", "--silent", "--show-error", "--cacert", str(self.trust), url])
        return done.stdout if done.returncode == 0 else ""
