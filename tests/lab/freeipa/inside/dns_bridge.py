"""BIND for what FreeIPA holds, both ways, as bind-dyndb-ldap does it: Debian 12 has no package of that.

Zones of the directory are served by Debian's named as dynamic zones, with FreeIPA's keytab and each zone's own update
policy. It is a resolver too, as FreeIPA's is, with a root zone of its own: no question leaves the machine. Ten times
a second what has changed in the directory is sent to named as dynamic updates, and what others have changed in named,
with GSS-TSIG, is written to the directory, value by value.
"""

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

import dns.exception
import dns.name
import dns.query
import dns.rdata
import dns.rdataclass
import dns.rdatatype
import dns.resolver
import dns.tsigkeyring
import dns.update
import dns.zone
import ldap
import ldap.dn
import ldap.filter
import ldap.sasl

ADDRESS = os.environ["LAB_ADDRESS"]
BASE = "cn=dns," + ",".join(f"dc={label}" for label in os.environ["LAB_DOMAIN"].split("."))
LDAPI = f"ldapi://%2Frun%2Fslapd-{os.environ['LAB_REALM'].replace('.', '-')}.socket"
KEYTAB, USER = "/etc/bind/krb5.keytab", "bind"  # whose file it is, and who alone can read it
FOLDER = Path("/var/lib/lab/dns")
KEY_NAME = "lab-bridge."
PERIOD = 0.1  # seconds
SECONDS = 5.0  # for an answer
DEFAULT_TTL = "86400"  # bind-dyndb-ldap's where neither entry nor zone says another
_ROOT = f"@ 60 IN SOA lab. lab. 1 86400 86400 86400 5\n@ 60 IN NS lab.\nlab. 60 IN A {ADDRESS}\n"
_SOA = ("idnssoamname", "idnssoarname", "idnssoarefresh", "idnssoaretry", "idnssoaexpire", "idnssoaminimum")


class Record(NamedTuple):
    """One value: ``name`` is relative to the zone, ``@`` its apex."""

    name: str
    ttl: int
    kind: str
    text: str


class Zone(NamedTuple):
    """A zone as the directory has it."""

    soa: str
    policy: str
    records: frozenset[Record]


def directory() -> ldap.ldapobject.LDAPObject:
    """Return a connection as root, who is the directory's manager."""
    connection = ldap.initialize(LDAPI)
    connection.sasl_interactive_bind_s("", ldap.sasl.external())
    return connection


def read(connection: ldap.ldapobject.LDAPObject) -> dict[str, Zone]:
    """Return the active zones of the directory, by their names with a final dot."""
    zones: dict[str, dict[str, list[str]]] = {}
    records: dict[str, set[Record]] = {}
    for dn, entry in connection.search_s(BASE, ldap.SCOPE_SUBTREE, "(objectClass=idnsRecord)"):
        values = {key.lower(): [value.decode() for value in found] for key, found in entry.items()}
        names = [part.partition("=")[2] for part in ldap.dn.explode_dn(dn) if part.lower().startswith("idnsname=")]
        zone = names[-1].lower()
        if len(names) == 1:
            zones[zone] = values
        records.setdefault(zone, set()).update(_records(names[0] if len(names) > 1 else "@", values))
    return {
        zone: Zone(
            " ".join([*(values[key][0] for key in _SOA[:2]), "{serial}", *(values[key][0] for key in _SOA[2:])]),
            values["idnsupdatepolicy"][0] if _is(values, "idnsallowdynupdate") and "idnsupdatepolicy" in values else "",
            frozenset(records[zone]),
        )
        for zone, values in zones.items()
        if _is(values, "idnszoneactive", otherwise=True)
    }


def _records(name: str, values: dict[str, list[str]]) -> set[Record]:
    ttl = int(values.get("dnsttl", values.get("dnsdefaultttl", [DEFAULT_TTL]))[0])
    found = set()
    for key, texts in values.items():
        if key.endswith("record") and ";" not in key:
            kind = key[: -len("record")].upper()
            found |= {Record(name, ttl, kind, _canonical(kind, text)) for text in texts if _canonical(kind, text)}
    return found


def _canonical(kind: str, text: str) -> str:
    """Return a value as named shows it, "" for one that it cannot read: bind-dyndb-ldap drops that too."""
    try:
        rdata = dns.rdata.from_text(dns.rdataclass.IN, dns.rdatatype.from_text(kind), text, relativize=False)
        rdata.to_wire()
    except (dns.exception.DNSException, ValueError, OverflowError):
        return ""
    return rdata.to_text(relativize=False)


def _is(values: dict[str, list[str]], key: str, *, otherwise: bool = False) -> bool:
    return values[key] == ["TRUE"] if key in values else otherwise


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
        self._key = dns.tsigkeyring.from_text({KEY_NAME: self._key_text.split('secret "')[1].split('"')[0]})
        self._process: subprocess.Popen[bytes] | None = None
        self._policies: dict[str, str] = {}

    def configure(self, zones: dict[str, Zone]) -> set[str]:
        """Serve exactly these zones under their policies; return the names of those that are new."""
        wanted = {name: zone.policy for name, zone in zones.items()}
        if wanted == self._policies:
            return set()
        new = wanted.keys() - self._policies.keys()
        for name in new | (self._policies.keys() - wanted.keys()):
            for path in FOLDER.glob(f"{name}zone*"):
                path.unlink()
        for name in new:
            _write_zone(name, zones[name])
        self._write_configuration(zones)
        if self._process is None:
            self._process = subprocess.Popen(["named", "-g", "-u", USER, "-c", str(FOLDER / "named.conf")])
        else:
            self._process.send_signal(signal.SIGHUP)  # zones that it has already keep what it has of them
        self._policies = wanted
        for name in new:
            self._wait(name)
        return set(new)

    def change(self, zone: str, gone: frozenset[Record], new: frozenset[Record]) -> None:
        """Send named what has changed in the directory."""
        update = dns.update.UpdateMessage(zone, keyring=self._key, keyalgorithm=dns.tsig.HMAC_SHA256)
        for record in gone:
            update.delete(record.name, record.kind, record.text)
        for record in new:
            update.add(record.name, record.ttl, record.kind, record.text)
        answer = dns.query.tcp(update, ADDRESS, SECONDS)
        if answer.rcode():
            print(f"{zone}: named refused {gone} {new}: {dns.rcode.to_text(answer.rcode())}", flush=True)

    def serial(self, zone: str) -> int:
        """Return the serial number that a zone has now."""
        answer = dns.query.tcp(dns.message.make_query(zone, "SOA"), ADDRESS, SECONDS)
        return answer.answer[0][0].serial

    def served(self, zone: str) -> Served:
        """Return all that named has in a zone."""
        signed = {"keyring": self._key, "keyalgorithm": dns.tsig.HMAC_SHA256}
        transfer = dns.query.xfr(ADDRESS, zone, relativize=False, lifetime=SECONDS, **signed)
        found = dns.zone.from_xfr(transfer, relativize=False)
        origin = dns.name.from_text(zone)
        records = {
            Record(name.relativize(origin).to_text(), ttl, dns.rdatatype.to_text(rdata.rdtype), rdata.to_text())
            for name, ttl, rdata in found.iterate_rdatas()
            if rdata.rdtype != dns.rdatatype.SOA
        }
        return Served(found.get_rdataset(origin, "SOA")[0].serial, frozenset(records))

    def _write_configuration(self, zones: dict[str, Zone]) -> None:
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
        for name, zone in zones.items():
            lines.append(f'zone "{name}" {{ type master; file "{name}zone";')
            # FreeIPA's policies say "krb5-self *", which named takes from bind-dyndb-ldap, and not from a file
            policy = re.sub(r" (krb5-self|krb5-selfsub) \* ", r" \1 . ", zone.policy)
            lines.append(f"  update-policy {{ grant {KEY_NAME} zonesub ANY; {policy} }}; }};")
        (FOLDER / "named.conf").write_text("\n".join(lines))
        (FOLDER / "root").write_text(_ROOT)

    def _wait(self, zone: str) -> None:
        while True:
            try:
                self.serial(zone)
            except (OSError, dns.exception.DNSException, IndexError):
                if self._process is None or self._process.poll() is not None:
                    sys.exit("named has ended")
                time.sleep(0.02)
            else:
                return


def _write_zone(name: str, zone: Zone) -> None:
    lines = [f"@ {DEFAULT_TTL} IN SOA {zone.soa.format(serial=int(time.time()))}"]
    lines += sorted(f"{record.name} {record.ttl} IN {record.kind} {record.text}" for record in zone.records)
    (FOLDER / f"{name}zone").write_text("\n".join([*lines, ""]))


def write_back(
    connection: ldap.ldapobject.LDAPObject, zone: str, gone: frozenset[Record], new: frozenset[Record]
) -> None:
    """Write to the directory what others have changed in named; an entry without a record is removed."""
    for name in {record.name for record in gone | new}:
        dn = f"idnsname={zone},{BASE}"
        if name != "@":
            dn = f"idnsname={ldap.dn.escape_dn_chars(name)},{dn}"
        _write_name(connection, dn, [one for one in gone if one.name == name], [one for one in new if one.name == name])


def _write_name(connection: ldap.ldapobject.LDAPObject, dn: str, gone: list[Record], new: list[Record]) -> None:
    try:
        [(_, entry)] = connection.search_s(dn, ldap.SCOPE_BASE)
    except ldap.NO_SUCH_OBJECT:
        if not new:
            return
        entry = {}
        ttl = ("dNSTTL", [str(new[0].ttl).encode()])
        connection.add_s(dn, [("objectClass", [b"top", b"idnsRecord"]), ("idnsName", [new[0].name.encode()]), ttl])
    there = {key.lower(): values for key, values in entry.items()}
    changes = [(ldap.MOD_ADD, f"{one.kind}Record", one.text.encode()) for one in new if not _stored(there, one)]
    changes += [(ldap.MOD_DELETE, f"{one.kind}Record", value) for one in gone for value in _stored(there, one)]
    if changes:
        connection.modify_s(dn, changes)
    if gone and not new and _below_a_zone(dn):
        [(_, entry)] = connection.search_s(dn, ldap.SCOPE_BASE)
        if not any(key.lower().endswith("record") for key in entry):
            connection.delete_s(dn)


def _below_a_zone(dn: str) -> bool:
    """Tell whether an entry is that of a name in a zone, and not that of the zone."""
    return sum(part.lower().startswith("idnsname=") for part in ldap.dn.explode_dn(dn)) > 1


def _stored(entry: dict[str, list[bytes]], record: Record) -> list[bytes]:
    """Return a record's value as the directory has it, which may be written in another way."""
    values = entry.get(f"{record.kind.lower()}record", [])
    return [value for value in values if _canonical(record.kind, value.decode()) == record.text]


class Bridge:
    """Keeps both in step; a change that one side cannot take does not count as a change by the other."""

    def __init__(self) -> None:
        self._connection, self._named = directory(), Named()
        self._sent: dict[str, frozenset[Record]] = {}  # what the directory had when they were last in step
        self._served: dict[str, Served] = {}  # what named had then

    def turn(self) -> None:
        """Look at both sides once, and hand on what has changed."""
        try:
            zones = read(self._connection)
        except ldap.SERVER_DOWN:  # named goes on with what it has
            with contextlib.suppress(ldap.SERVER_DOWN):
                self._connection = directory()
            return
        for name in self._named.configure(zones):
            self._sent[name], self._served[name] = zones[name].records, self._named.served(name)
        for name, zone in zones.items():
            self._step(name, zone.records)

    def _step(self, name: str, records: frozenset[Record]) -> None:
        sent, served = self._sent[name], self._served[name]
        gone, new = sent - records, records - sent
        if not gone and not new and self._named.serial(name) == served.serial:
            return
        if gone or new:
            self._named.change(name, gone, new)
        now = self._named.served(name)
        write_back(self._connection, name, (served.records - gone) - now.records, now.records - served.records - new)
        self._sent[name], self._served[name] = records, now


def main() -> None:
    """Keep both in step until told to end."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    bridge = Bridge()
    while True:
        bridge.turn()
        time.sleep(PERIOD)


if __name__ == "__main__":
    main()
