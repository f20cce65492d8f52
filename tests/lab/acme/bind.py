"""Real name servers: ``NameServer``, a BIND that takes updates, and secondaries that may lag.

    with Daemons("acme-lab") as daemons:
        dns = NameServer(daemons, ["acme.test", "alias.test"], secondaries=[0, 3, NEVER])
        dns.start()
        dns.add("_acme-challenge.www.acme.test", "TXT", '"somebody else"')
        dns.values("_acme-challenge.www.acme.test", server=dns.addresses[2])

All listen on one port, the primary on the first address of ``addresses`` and the secondaries on the next ones. Each
zone has the name servers ns1.lab.test, ns2.lab.test and so on, whose addresses are in a zone of their own. The
primary is also a resolver, as FreeIPA's are, and follows CNAMEs from zone to zone; it holds a root zone of its own, so
that no question leaves the machine. Where no secondary is wanted, ``name_server`` starts a primary in a line.

The secondaries are Knot DNS: BIND listens only on addresses that an interface has, and of 127.0.0.0/8 that is one.
"""

from __future__ import annotations

import errno
import math
import random
import re
import socket
import sys
from collections.abc import Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from tests.lab.acme import late
from tests.lab.daemons import Daemons

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator, Sequence
    from pathlib import Path

PROGRAMS = ("named", "dig", "nsupdate", "tsig-keygen", "setpriv")  # what a primary needs
NEVER = math.inf  # a secondary that is not told of changes
KEY = "lab-key"  # the name of the TSIG key that may change everything
SERVERS = "lab.test"  # the zone of the name servers' own names, unless another is told
_ROOT = "."
_REFRESH = 86400  # seconds after which a secondary looks by itself: not in a test

_NAMED = """
include "{folder}/key";
options {{
  directory "{folder}"; pid-file "{folder}/pid"; session-keyfile "{folder}/session.key";
  managed-keys-directory "{folder}"; check-names primary ignore;
  listen-on port {port} {{ {address}; }}; listen-on-v6 {{ none; }};
  recursion {recursion}; dnssec-validation no; empty-zones-enable no; allow-transfer {{ any; }};
  notify explicit; notify-delay 0; notify-rate 1000; startup-notify-rate 1000; {options}
}};
controls {{ }};
"""
_ZONE = """
zone "{name}" {{
  type primary; file "{file}"; also-notify {{ {told} }}; update-policy {{ {policy} }};
}};
"""
_KNOT = """
server:
  rundir: {folder}
  listen: {address}@{port}
  udp-workers: 1
  tcp-workers: 1
  background-workers: 1
log:
  - target: stderr
    any: info
database:
  storage: {folder}
remote:
  - id: primary
    address: {primary}@{port}
acl:
  - id: anybody
    action: [notify, transfer]
template:
  - id: default
    storage: {folder}
    master: primary
    acl: anybody
    zonefile-sync: -1
zone:
"""


class NameServer:
    """A primary name server that takes updates, and its secondaries.

    ``zones``: their names, or by these the text of what they hold beside SOA and NS records. ``resolver``: without it,
    the primary answers for its zones alone. ``servers``: the zone of the name servers' own names.
    ``secondaries``: for each, the seconds that it lags behind, 0 (told at once) to ``NEVER``. ``policy``: further
    lines of each zone's update-policy. ``keytab``: that of DNS/ns1.lab.test, for GSS-TSIG; ``env`` must then have
    KRB5_CONFIG.
    """

    def __init__(
        self,
        daemons: Daemons,
        zones: Sequence[str] | Mapping[str, str],
        *,
        resolver: bool = True,
        servers: str = SERVERS,
        secondaries: Sequence[float] = (),
        addresses: Sequence[str] | None = None,
        port: int | None = None,
        policy: Sequence[str] = (),
        keytab: Path | None = None,
        env: Mapping[str, str] | None = None,
    ) -> None:
        self.daemons = daemons
        self._texts = dict(zones) if isinstance(zones, Mapping) else {}
        self._names = servers
        self.zones = tuple(dict.fromkeys((*zones, servers)))
        self._resolver = resolver
        self.lags = tuple(secondaries)
        count = 1 + len(self.lags)
        self.addresses = tuple(addresses or (f"127.0.0.{number}" for number in range(1, count + 1)))[:count]
        self.port = port or free_port(self.addresses)
        self.policy = (f"grant {KEY} zonesub ANY;", *policy)
        self.keytab = keytab
        self.env = env or {}
        self.servers: list[subprocess.Popen[bytes]] = []
        self._folder = daemons.folder / f"bind-{self.port}"
        self.key_file = self._folder / "ns1" / "key"

    @property
    def address(self) -> str:
        """The primary's address."""
        return self.addresses[0]

    @property
    def where(self) -> str:
        """The primary as a setting has it."""
        return f"{self.address}:{self.port}"

    @property
    def _late_port(self) -> int:
        """Where, on its address, a secondary that lags is told of changes."""
        return self.port + 1

    def start(self) -> None:
        """Start all, and return when every server answers for every zone.

        ``daemons.end(dns.servers[1])`` takes a secondary away again.
        """
        self._start_primary()
        for number, lag in enumerate(self.lags, start=2):
            self._start_secondary(number)
            if 0 < lag < NEVER:
                self._start_relay(number, lag)

    def values(self, name: str, rtype: str = "TXT", *, server: str | None = None) -> set[str]:
        """Return the values that a server (the primary unless told) has at exactly this name.

        Raises:
            RuntimeError: it does not answer.

        """
        records = self._records(name, rtype, server or self.address)
        return {_text(words[4]) if rtype == "TXT" else words[4] for words in records}

    def ttl(self, name: str, rtype: str = "TXT") -> int:
        """Return the TTL that the primary has for this name's records of a type, which must be there."""
        return int(self._records(name, rtype, self.address)[0][1])

    def add(self, name: str, rtype: str, value: str, ttl: int = 60) -> None:
        """Add a record; ``value`` as a zone file has it, so a text is in quotes."""
        self.update(f"update add {name}. {ttl} {rtype} {value}")

    def delete(self, name: str, rtype: str, value: str = "") -> None:
        """Delete a record, or all of that type."""
        self.update(f"update delete {name}. {rtype} {value}")

    def update(self, *lines: str) -> None:
        """Have nsupdate send these lines with the TSIG key; a refusal raises RuntimeError."""
        script = "\n".join([f"server {self.address} {self.port}", *lines, "send", ""])
        self.daemons.said(["nsupdate", "-k", str(self.key_file)], input=script)

    def _start_primary(self) -> None:
        folder = self._made(1)
        self.key_file.touch(mode=0o600)
        self.key_file.write_text(self.daemons.said(["tsig-keygen", "-a", "hmac-sha256", KEY]))
        options = f'tkey-gssapi-keytab "{self.keytab}";' if self.keytab else ""
        zones = [self._primary_zone(name, folder) for name in (*self.zones, *([_ROOT] if self._resolver else []))]
        recursion = "yes" if self._resolver else "no"
        place = {"folder": folder, "address": self.address, "port": self.port}
        config = _NAMED.format(**place, recursion=recursion, options=options)
        (folder / "named.conf").write_text(config + "".join(zones))
        self._start(["named", "-g", "-n", "1", "-c", str(folder / "named.conf")], 1)

    def _start_secondary(self, number: int) -> None:
        folder = self._made(number)
        address = self.addresses[number - 1]
        config = _KNOT.format(folder=folder, address=address, port=self.port, primary=self.address)
        (folder / "knot.conf").write_text(config + "".join(f"  - domain: {name}\n" for name in self.zones))
        self._start(["knotd", "-c", str(folder / "knot.conf")], number)

    def _start(self, command: list[str], number: int) -> None:
        def ready() -> bool:
            return all(self._serves(name, self.addresses[number - 1]) for name in self.zones)

        log = self._folder / f"ns{number}" / "log"
        self.servers.append(self.daemons.start(command, log, ready, env=self.env))

    def _made(self, number: int) -> Path:
        folder = self._folder / f"ns{number}"
        folder.mkdir(parents=True)
        return folder

    def _start_relay(self, number: int, lag: float) -> None:
        address, log = self.addresses[number - 1], self._folder / f"ns{number}" / "late.log"
        to = [address, str(self.port)]
        command = [sys.executable, "-I", late.__file__, address, str(self._late_port), str(lag), *to]
        self.daemons.start(command, log, lambda: "listening" in log.read_text())

    def _primary_zone(self, name: str, folder: Path) -> str:
        told = [
            f"{address} port {self.port if lag == 0 else self._late_port};"
            for address, lag in zip(self.addresses[1:], self.lags)
            if lag < NEVER
        ]
        servers = [f"ns{number}.{self._names}." for number in range(1, len(self.addresses) + 1)]
        records = [f"@ IN SOA {servers[0]} admin.{self._names}. 1 {_REFRESH} {_REFRESH} 864000 5"]
        records += [f"@ IN NS {server}" for server in servers]
        if name in (self._names, _ROOT):
            records += [f"{server} IN A {address}" for server, address in zip(servers, self.addresses)]
        records.append(self._texts.get(name, ""))
        file = folder / f"zone-{name}"
        file.write_text("\n".join(["$TTL 60", *records, ""]))
        policy = () if name == _ROOT else self.policy
        return _ZONE.format(name=name, file=file, told=" ".join(told), policy=" ".join(policy))

    def _serves(self, zone: str, address: str) -> bool:
        try:
            return bool(self._dig(zone, "SOA", address))
        except RuntimeError:
            return False

    def _records(self, name: str, rtype: str, address: str) -> list[list[str]]:
        """Return the words of the records of exactly this name: name, TTL, class, type and value."""
        records = [line.split(None, 4) for line in self._dig(name, rtype, address).splitlines()]
        return [words for words in records if _same(words[0], name) and words[3] == rtype]

    def _dig(self, name: str, rtype: str, address: str) -> str:
        options = ["+norecurse", "+noall", "+answer", "+time=2", "+tries=1"]
        return self.daemons.said(["dig", f"@{address}", "-p", str(self.port), *options, name, rtype])


@contextmanager
def name_server(zones: Sequence[str] | Mapping[str, str], **settings: Any) -> Iterator[NameServer]:
    """Run a primary alone, with what else ``NameServer`` takes, in a folder of its own."""
    with Daemons("dns-lab") as daemons:
        server = NameServer(daemons, zones, **settings)
        server.start()
        yield server


def free_port(addresses: Sequence[str] = ("127.0.0.1",)) -> int:
    """Return a port that is free on all these addresses, as the next one is, for TCP and UDP.

    It is below the range from which the kernel takes ports for outgoing connections.
    """
    while True:
        port = random.randrange(10000, 32000, 2)  # noqa: S311 - nothing to guess
        if all(_free(address, number) for address in addresses for number in (port, port + 1)):
            return port


def _free(address: str, port: int) -> bool:
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
        with socket.socket(socket.AF_INET, kind) as probe:
            try:
                probe.bind((address, port))
            except OSError as error:
                if error.errno != errno.EADDRNOTAVAIL:  # an address of a network namespace: we cannot know
                    return False
    return True


def _same(one: str, other: str) -> bool:
    return one.rstrip(".").lower() == other.rstrip(".").lower()


def _text(value: str) -> str:
    """Return what the strings of a TXT record hold, joined."""
    return "".join(re.sub(r"\\(.)", r"\1", part) for part in re.findall(r'"((?:[^"\\]|\\.)*)"', value))
