"""The DNS hooks on the host that is enrolled: an account that may do no more than it must, and what is in the zones.

    zones = Zones(freeipa)
    run(freeipa, commands("--acme-zone", ACME_ZONE))
    configure(freeipa)
    zones.put("_acme-challenge.www.ipa.test")
    ...
    zones.check()

Commands are those of the environment of the ACME clients, with the paths of production: only for a machine of one's
own.
"""

from __future__ import annotations

import json
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dns.exception
import dns.flags
import dns.message
import dns.query
import dns.rdatatype

from certhooks.journal import DEFAULT
from certhooks_freeipa_dns import settings
from tests.lab.acme.clients import FOREIGN
from tests.lab.freeipa import names
from tests.lab.site import Done

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tests.lab.freeipa.server import FreeIPA

ZONE, ACME_ZONE = names.DOMAIN, f"acme.{names.DOMAIN}"
SERVICE = f"ACME/{names.CLIENT.host}"
KEYTAB = Path("/etc/certhooks/ipa_dns.keytab")
THEIRS = "somebody-elses"  # a value that stands where ours will be
_HOST = names.CLIENT.host.partition(".")[0]
PREFIX = "_acme-challenge."


def command(name: str) -> str:
    """Return where a command of ours is."""
    return str(FOREIGN / name)


def started(*words: str) -> subprocess.Popen[str]:
    """Start a command of ours as root's shell does."""
    pipe = subprocess.PIPE
    env = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root"}
    line = [command(words[0]), *words[1:]]
    return subprocess.Popen(line, env=env, stdin=subprocess.DEVNULL, stdout=pipe, stderr=pipe, text=True)


def ended(process: subprocess.Popen[str]) -> Done:
    """Wait for a command of ours."""
    out, err = process.communicate(timeout=120)
    return Done(process.returncode, out, err)


def ours(*words: str) -> Done:
    """Run a command of ours to its end."""
    return ended(started(*words))


def commands(*options: str, principal: str = SERVICE) -> list[str]:
    """Return the lines that ``ipa_dns setup --print-commands`` prints, each a whole command."""
    done = ours("ipa_dns", "setup", "--principal", principal, *options, "--print-commands")
    assert done.code == 0, done
    return done.out.replace("\\\n", " ").splitlines()


def run(server: FreeIPA, lines: Sequence[str]) -> None:
    """Have an administrator of FreeIPA type these lines; LabError when one of them fails."""
    if not server.api("dnsrecord_find", f"{ZONE}.", arecord=[names.CLIENT.address])["count"]:
        server.ipa("dnsrecord-add", ZONE, _HOST, f"--a-rec={names.CLIENT.address}")  # as an enrolled host has one
    server.run("kinit", "admin", text=f"{names.ADMIN_PASSWORD}\n")
    server.run("bash", "-euxc", "\n".join(lines))


def configure(server: FreeIPA, principal: str = SERVICE, **more: str) -> None:
    """Write a key of the account and the settings that name it."""
    KEYTAB.parent.mkdir(exist_ok=True)
    KEYTAB.unlink(missing_ok=True)
    server.write_keytab(principal, KEYTAB)
    write_settings(keytab=str(KEYTAB), principal=principal, **more)


def write_settings(*, dns: str = "", **ipa: str) -> None:
    """Write the settings."""
    settings.DEFAULT.parent.mkdir(exist_ok=True)
    settings.DEFAULT.touch(mode=0o600)
    lines = "".join(f"{key} = {value}\n" for key, value in ipa.items())
    settings.DEFAULT.write_text(f"[ipa]\n{lines}[dns]\n{dns}\n")


def served(name: str, address: str = names.SERVER.address) -> set[str]:
    """Return the TXT values that a name server itself has for exactly this name, none while it is silent."""
    query = dns.message.make_query(f"{name}.", "TXT")
    query.flags &= ~dns.flags.RD
    try:
        answer = dns.query.udp(query, address, 1)
    except (dns.exception.DNSException, OSError):
        return set()
    question = answer.question[0]
    rrsets = [rrset for rrset in answer.answer if (rrset.name, rrset.rdtype) == (question.name, question.rdtype)]
    return {b"".join(rdata.strings).decode() for rrset in rrsets for rdata in rrset}


def soon(what: Callable[[], object], seconds: float = 5.0) -> None:
    """Wait until something is so."""
    until = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < until, "it did not happen"
        time.sleep(0.01)


def listed(state: Path = DEFAULT) -> list[dict[str, Any]]:
    """Return what a list of our values has, also one of another user's."""
    try:
        entries: list[dict[str, Any]] = json.loads((state / "dns01.json").read_text())["values"]
    except FileNotFoundError:
        return []
    return entries


class Zones:
    """The challenges' records in FreeIPA's ``zones``: those of somebody else, and that there are no others."""

    def __init__(self, server: FreeIPA, *zones: str) -> None:
        self._server = server
        self._zones = zones or (ZONE,)
        self.theirs: set[str] = set()  # names that have somebody else's value
        self.states = [DEFAULT]  # folders with a list of our values

    def put(self, *wanted: str) -> None:
        """Store somebody else's value under each name."""
        new = [name for name in wanted if name not in self.theirs]
        calls = [{"method": "dnsrecord_add", "params": [_split(name), {"txtrecord": [THEIRS]}]} for name in new]
        for result in self._server.api("batch", calls)["results"]:
            assert not result["error"], result
        self.theirs.update(new)
        for name in new:
            soon(lambda: served(name) == {THEIRS})  # noqa: B023  called at once

    def stored(self) -> dict[str, set[str]]:
        """Return the TXT values of challenges that FreeIPA has, by their full names."""
        found = {}
        for zone in self._zones:
            for entry in self._server.api("dnsrecord_find", f"{zone}.", sizelimit=0)["result"]:
                label = entry["idnsname"][0]
                label = label["__dns_name__"] if isinstance(label, dict) else label
                if "txtrecord" in entry and label != "_kerberos":  # which FreeIPA gives each zone
                    found[f"{label}.{zone}"] = set(entry["txtrecord"])
        return found

    def check(self) -> None:
        """Check that somebody else's values are there and nothing else is, in FreeIPA, in DNS and in our lists."""
        stored = self.stored()
        odd = {name: stored.get(name) for name in self.theirs | set(stored) if stored.get(name) != {THEIRS}}
        assert not odd, odd
        assert set(stored) == self.theirs
        for name in self.theirs:
            soon(lambda: served(name) == {THEIRS})  # noqa: B023  called at once
        for state in self.states:
            assert not listed(state)


def _split(name: str) -> list[str]:
    zone = ACME_ZONE if name.endswith(f".{ACME_ZONE}") else ZONE
    return [f"{zone}.", name[: -len(zone) - 1]]
