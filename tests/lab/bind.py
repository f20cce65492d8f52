"""A real BIND on loopback: primary for a few zones, changed by updates that a TSIG key signs.

    with Bind({"example.test": "www A 192.0.2.1"}) as dns:
        dns.add("_acme-challenge.www.example.test", "value")

Two of them with the same zone are a primary and a secondary whose transfer the test makes when it wants to.
"""

from __future__ import annotations

import base64
import secrets
import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import dns.exception
import dns.message
import dns.name
import dns.query
import dns.rcode
import dns.rdatatype
import dns.tsig
import dns.tsigkeyring
import dns.update

if TYPE_CHECKING:
    from collections.abc import Mapping

    from typing_extensions import Self

PATH = "/usr/sbin:/usr/bin:/sbin:/bin"
_START_SECONDS = 20.0
_CONFIG = """\
options {{
  directory "{folder}"; pid-file none; session-keyfile none; managed-keys-directory "{folder}"; lock-file none;
  listen-on port {port} {{ {address}; }}; listen-on-v6 {{ none; }};
  recursion {recursion}; dnssec-validation no; notify no; allow-transfer {{ none; }}; check-names primary ignore;
  {options}
}};
controls {{ }};
logging {{ category default {{ null; }}; }};
{key}
"""


def missing() -> list[str]:
    """Return the programs that are not here."""
    return [name for name in ("named", "setpriv") if not shutil.which(name, path=PATH)]


class Bind:
    """One name server; ``key`` is its TSIG key as named.conf and nsupdate have it.

    Args:
        zones: text of each zone beside its SOA and NS records; the server's own name is ``ns.ZONE``.
        recursion: follow aliases from one of its zones into another, as a CA's resolver does.
        policy: update policy instead of the key's, as in named.conf.
    """

    def __init__(
        self,
        zones: Mapping[str, str],
        address: str = "127.0.0.1",
        port: int = 0,
        *,
        policy: str = "grant lab zonesub ANY;",
        options: str = "",
        recursion: bool = False,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.address = address
        self.port = port or free_port(address)
        self._environment = {"PATH": PATH, **(environment or {})}
        self._folder = Path(tempfile.mkdtemp(prefix="bind-lab-", dir="/tmp"))
        secret = secrets.token_bytes(32)
        encoded = base64.b64encode(secret).decode()
        self.key = f'key "lab" {{ algorithm hmac-sha256; secret "{encoded}"; }};\n'
        self._keyring = dns.tsigkeyring.from_text({"lab": encoded})
        text = _CONFIG.format(
            folder=self._folder,
            port=self.port,
            address=address,
            key=self.key,
            recursion="yes" if recursion else "no",
            options=options,
        )
        for zone, records in zones.items():
            file = self._folder / f"{zone}.zone"
            head = f"$TTL 5\n@ SOA ns.{zone}. hostmaster.{zone}. 1 3600 900 1209600 3600\n"
            file.write_text(f"{head}@ NS ns.{zone}.\nns A {address}\n{records}\n")
            text += f'zone "{zone}" {{ type primary; file "{file}"; update-policy {{ {policy} }}; }};\n'
        (self._folder / "named.conf").write_text(text)
        self._daemon: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        shutil.rmtree(self._folder, ignore_errors=True)

    @property
    def where(self) -> str:
        """The server as a setting has it."""
        return f"{self.address}:{self.port}"

    def start(self) -> None:
        """Start it, and return when it answers."""
        command = ["named", "-g", "-n", "1", "-c", str(self._folder / "named.conf")]
        with (self._folder / "log").open("wb") as log:
            self._daemon = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", *command],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=log,
                env=self._environment,
            )
        end = time.monotonic() + _START_SECONDS
        query = dns.message.make_query("version.bind.", "TXT", "CH")
        while time.monotonic() < end and self._daemon.poll() is None:
            try:
                dns.query.udp(query, self.address, 0.2, self.port)
            except (dns.exception.Timeout, OSError):
                time.sleep(0.05)
            else:
                return
        raise RuntimeError((self._folder / "log").read_text()[-2000:])

    def stop(self) -> None:
        """Stop it at once."""
        if self._daemon:
            self._daemon.kill()
            self._daemon.wait()
            self._daemon = None

    def add(self, name: str, value: str, kind: str = "TXT", ttl: int = 5) -> None:
        """Add one record."""
        self._update(name, lambda update: update.add(f"{name}.", ttl, kind, _quoted(value, kind)))

    def delete(self, name: str, value: str | None = None, kind: str = "TXT") -> None:
        """Remove one value, or all of a type."""
        words = [] if value is None else [_quoted(value, kind)]
        self._update(name, lambda update: update.delete(f"{name}.", kind, *words))

    def txt(self, name: str) -> set[str]:
        """Return the TXT values that it serves."""
        answer = self._asked(name)
        rrsets = [rrset for rrset in answer.answer if rrset.rdtype == dns.rdatatype.TXT]
        return {b"".join(rdata.strings).decode() for rrset in rrsets for rdata in rrset}

    def ttl(self, name: str) -> int:
        """Return the TTL of the TXT values that it serves."""
        return next(rrset.ttl for rrset in self._asked(name).answer if rrset.rdtype == dns.rdatatype.TXT)

    def zone_of(self, name: str) -> str:
        """Return the longest of its zones that holds a name."""
        zones = [path.name.removesuffix(".zone") for path in self._folder.glob("*.zone")]
        return max((zone for zone in zones if f".{name}".endswith(f".{zone}")), key=len)

    def _asked(self, name: str) -> dns.message.Message:
        return dns.query.tcp(dns.message.make_query(f"{name}.", "TXT"), self.address, 5, self.port)

    def _update(self, name: str, change: object) -> None:
        update = dns.update.UpdateMessage(
            f"{self.zone_of(name)}.", keyring=self._keyring, keyname=dns.name.from_text("lab.")
        )
        change(update)  # type: ignore[operator]
        answer = dns.query.tcp(update, self.address, 5, self.port)
        assert answer.rcode() == dns.rcode.NOERROR, dns.rcode.to_text(answer.rcode())


def free_port(address: str = "127.0.0.1") -> int:
    """Return a port that is free for UDP and TCP."""
    while True:
        with socket.socket() as tcp, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
            tcp.bind((address, 0))
            port = int(tcp.getsockname()[1])
            try:
                udp.bind((address, port))
            except OSError:
                continue
            return port


def _quoted(value: str, kind: str) -> str:
    return f'"{value}"' if kind == "TXT" else value
