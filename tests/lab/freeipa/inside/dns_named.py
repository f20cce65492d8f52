"""The lab's named: dynamic zones with FreeIPA's keytab, changed by updates with a key of their own."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

import dns.exception
import dns.message
import dns.name
import dns.query
import dns.rcode
import dns.rdata
import dns.rdataclass
import dns.rdatatype
import dns.tsig
import dns.tsigkeyring
import dns.update
import dns.zone

ADDRESS = os.environ["LAB_ADDRESS"]
KEYTAB, USER = "/etc/bind/krb5.keytab", "bind"  # whose file it is, and who alone can read it
FOLDER = Path("/var/lib/lab/dns")
KEY_NAME = "lab-bridge."
SECONDS = 5.0  # for an answer
LOAD_SECONDS = 2.0  # for a new zone to be served
DEFAULT_TTL = "86400"  # bind-dyndb-ldap's where neither entry nor zone says another
_ROOT = f"@ 60 IN SOA lab. lab. 1 86400 86400 86400 5\n@ 60 IN NS lab.\nlab. 60 IN A {ADDRESS}\n"


class Record(NamedTuple):
    """One value: ``name`` is relative to the zone, ``@`` its apex."""

    name: str
    ttl: int
    kind: str
    text: str

    @property
    def key(self) -> tuple[str, str, str]:
        """What makes it the one value that it is: the TTL is that of all values of a kind, and of a whole entry."""
        return (self.name, self.kind, self.text)


class Zone(NamedTuple):
    """A zone as the directory has it; its SOA lacks the serial number."""

    soa: str
    policy: str
    records: frozenset[Record]


def canonical(kind: str, text: str) -> str:
    """Return a value as named shows it, "" for one that it cannot read: bind-dyndb-ldap drops that too."""
    try:
        rdata = dns.rdata.from_text(dns.rdataclass.IN, dns.rdatatype.from_text(kind), text, relativize=False)
        rdata.to_wire()
    except (dns.exception.DNSException, ValueError, OverflowError):
        return ""
    return rdata.to_text(relativize=False)


class Served(NamedTuple):
    """A zone as named has it, without its SOA."""

    serial: int
    records: frozenset[Record]


class Named:
    """Our named."""

    def __init__(self) -> None:
        FOLDER.mkdir(parents=True, exist_ok=True)
        shutil.chown(FOLDER, USER, USER)
        secret = subprocess.run(["tsig-keygen", "-a", "hmac-sha256", KEY_NAME], capture_output=True, check=True).stdout
        self._key_text = secret.decode()
        key = dns.tsigkeyring.from_text({KEY_NAME: self._key_text.split('secret "')[1].split('"')[0]})
        self._signed = {"keyring": key, "keyalgorithm": dns.tsig.HMAC_SHA256}
        self._process: subprocess.Popen[bytes] | None = None
        self._policies: dict[str, str] = {}

    def configure(self, policies: dict[str, str], new: dict[str, Zone]) -> None:
        """Serve the zones that have a policy here; the new ones with these contents, others with what they have."""
        if policies == self._policies and not new:
            return
        for name in new.keys() | (self._policies.keys() - policies.keys()):
            for path in (FOLDER / f"{_file(name)}{ending}" for ending in ("", ".jnl", ".jbk")):
                path.unlink(missing_ok=True)
        for name, zone in new.items():
            _write_zone(name, zone)
        self._write_configuration(policies)
        self._policies = dict(policies)
        if self._process is None:
            self._process = subprocess.Popen(["named", "-g", "-u", USER, "-c", str(FOLDER / "named.conf")])
        else:
            self._process.send_signal(signal.SIGHUP)

    def loaded(self, zone: str) -> bool:
        """Wait a little until a new zone is served, and tell whether it is."""
        until = time.monotonic() + LOAD_SECONDS
        while time.monotonic() < until:
            with contextlib.suppress(OSError, dns.exception.DNSException, LookupError):
                self.serial(zone)
                return True
            if self._process is None or self._process.poll() is not None:
                sys.exit("named has ended")
            time.sleep(0.02)
        return False

    def change(self, zone: str, gone: frozenset[Record], new: frozenset[Record], soa: str = "") -> None:
        """Send named what has changed in the directory."""
        update = dns.update.UpdateMessage(zone, **self._signed)
        for record in gone:
            update.delete(record.name, record.kind, record.text)
        for record in new:
            update.add(record.name, record.ttl, record.kind, record.text)
        if soa:
            update.add("@", int(DEFAULT_TTL), "SOA", soa.format(serial=self.serial(zone) + 1))
        answer = dns.query.tcp(update, ADDRESS, SECONDS)
        if answer.rcode():
            say(f"{zone}: named refused {[*gone]} {[*new]} {soa}: {dns.rcode.to_text(answer.rcode())}")

    def serial(self, zone: str) -> int:
        """Return the serial number that a zone has now; LookupError where it is not served."""
        answer = dns.query.tcp(dns.message.make_query(zone, "SOA"), ADDRESS, SECONDS)
        return answer.answer[0][0].serial

    def served(self, zone: str) -> Served:
        """Return all that named has in a zone."""
        transfer = dns.query.xfr(ADDRESS, zone, relativize=False, lifetime=SECONDS, **self._signed)
        found = dns.zone.from_xfr(transfer, relativize=False)
        origin = dns.name.from_text(zone)
        records = {
            Record(name.relativize(origin).to_text(), ttl, dns.rdatatype.to_text(rdata.rdtype), rdata.to_text())
            for name, ttl, rdata in found.iterate_rdatas()
            if rdata.rdtype != dns.rdatatype.SOA
        }
        return Served(found.get_rdataset(origin, "SOA")[0].serial, frozenset(records))

    def _write_configuration(self, policies: dict[str, str]) -> None:
        lines = [
            self._key_text,
            f'options {{ directory "{FOLDER}"; listen-on {{ {ADDRESS}; }}; listen-on-v6 {{ none; }}; recursion yes;',
            f'  pid-file "{FOLDER}/named.pid"; session-keyfile "{FOLDER}/session.key"; dnssec-validation no;',
            f'  managed-keys-directory "{FOLDER}"; tkey-gssapi-keytab "{KEYTAB}"; minimal-responses yes;',
            f"  allow-transfer {{ key {KEY_NAME}; }}; check-names master ignore; notify no;",
            "  empty-zones-enable no; };",
            "controls { };",
            'zone "." { type master; file "root"; };',
        ]
        for name, policy in policies.items():
            lines.append(f'zone "{name}" {{ type master; file "{_file(name)}";')
            # FreeIPA's policies say "krb5-self *", which named takes from bind-dyndb-ldap, and not from a file
            told = re.sub(r" (krb5-self|krb5-selfsub) \* ", r" \1 . ", policy)
            lines.append(f"  update-policy {{ grant {KEY_NAME} zonesub ANY; {told} }}; }};")
        (FOLDER / "named.conf").write_text("\n".join(lines))
        (FOLDER / "root").write_text(_ROOT)


def _file(zone: str) -> str:
    """Return the name of a zone's file: a zone's own name may have a slash in it."""
    return f"{quote(zone, safe='')}zone"


def _write_zone(name: str, zone: Zone) -> None:
    lines = [f"@ {DEFAULT_TTL} IN SOA {zone.soa.format(serial=int(time.time()))}"]
    lines += sorted(f"{record.name} {record.ttl} IN {record.kind} {record.text}" for record in zone.records)
    (FOLDER / _file(name)).write_text("\n".join([*lines, ""]))


def say(text: str) -> None:
    """Write a line into the log."""
    print(text, flush=True)
