"""BIND for what FreeIPA holds, both ways, as bind-dyndb-ldap does it: Debian 12 has no package of that.

Zones of the directory are served by Debian's named as dynamic zones, with FreeIPA's keytab and each zone's own update
policy. It is a resolver too, as FreeIPA's is, with a root zone of its own: no question leaves the machine. Ten times
a second what has changed in the directory is sent to named as dynamic updates, and what others have changed in named,
with GSS-TSIG, is written to the directory, value by value. A zone that makes trouble is in no other zone's way.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from typing import NamedTuple

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
import ldap
import ldap.dn
import ldap.sasl
from dns_named import DEFAULT_TTL, Named, Record, Served, Zone, canonical, say

BASE = "cn=dns," + ",".join(f"dc={label}" for label in os.environ["LAB_DOMAIN"].split("."))
LDAPI = f"ldapi://%2Frun%2Fslapd-{os.environ['LAB_REALM'].replace('.', '-')}.socket"
PERIOD = 0.1  # seconds
_SOA = ("idnssoamname", "idnssoarname", "idnssoarefresh", "idnssoaretry", "idnssoaexpire", "idnssoaminimum")


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
            found |= {Record(name, ttl, kind, canonical(kind, text)) for text in texts if canonical(kind, text)}
    return found


def _is(values: dict[str, list[str]], key: str, *, otherwise: bool = False) -> bool:
    return values[key] == ["TRUE"] if key in values else otherwise


class Changes(NamedTuple):
    """What others have changed in named: values, and the TTL that a name has now."""

    gone: frozenset[Record]
    new: frozenset[Record]
    ttls: dict[str, int]

    @classmethod
    def between(cls, before: frozenset[Record], now: frozenset[Record], ours: frozenset[Record]) -> Changes:
        """Compare what named had with what it has; what ``ours``, the directory's own change, names does not count."""
        had, has, told = ({record.key: record for record in some} for some in (before, now, ours))
        gone = frozenset(had[key] for key in had.keys() - has.keys() - told.keys())
        new = frozenset(has[key] for key in has.keys() - had.keys() - told.keys())
        moved = {has[key].name: has[key].ttl for key in has.keys() & had.keys() if has[key].ttl != had[key].ttl}
        return cls(gone, new, {name: ttl for name, ttl in moved.items() if name not in {one.name for one in ours}})

    def applied(self, records: frozenset[Record]) -> frozenset[Record]:
        """Return what the directory has when they are written there: the TTL is that of a whole entry."""
        gone = {record.key for record in self.gone}
        after = {record for record in records if record.key not in gone} | self.new
        return frozenset(record._replace(ttl=self.ttls.get(record.name, record.ttl)) for record in after)


def write_back(connection: ldap.ldapobject.LDAPObject, zone: str, changes: Changes) -> None:
    """Write to the directory what others have changed in named; an entry without a record is removed."""
    names = {record.name for record in changes.gone | changes.new} | changes.ttls.keys()
    for name in names:
        dn = f"idnsname={zone},{BASE}"
        if name != "@":
            dn = f"idnsname={ldap.dn.escape_dn_chars(name)},{dn}"
        gone, new = ([one for one in some if one.name == name] for some in (changes.gone, changes.new))
        _write_name(connection, dn, gone, new, changes.ttls.get(name))
        if gone and not new and name != "@":
            _remove_if_empty(connection, dn)


def _write_name(
    connection: ldap.ldapobject.LDAPObject, dn: str, gone: list[Record], new: list[Record], ttl: int | None
) -> None:
    try:
        [(_, entry)] = connection.search_s(dn, ldap.SCOPE_BASE)
    except ldap.NO_SUCH_OBJECT:
        if not new:
            return
        entry, name = {}, ("idnsName", [new[0].name.encode()])
        connection.add_s(dn, [("objectClass", [b"top", b"idnsRecord"]), name, ("dNSTTL", [str(new[0].ttl).encode()])])
    there = {key.lower(): values for key, values in entry.items()}
    changes = [(ldap.MOD_ADD, f"{one.kind}Record", one.text.encode()) for one in new if not _stored(there, one)]
    changes += [(ldap.MOD_DELETE, f"{one.kind}Record", value) for one in gone for value in _stored(there, one)]
    if ttl is not None:
        changes.append((ldap.MOD_REPLACE, "dNSTTL", str(ttl).encode()))
    if changes:
        connection.modify_s(dn, changes)


def _remove_if_empty(connection: ldap.ldapobject.LDAPObject, dn: str) -> None:
    with contextlib.suppress(ldap.NO_SUCH_OBJECT):
        [(_, entry)] = connection.search_s(dn, ldap.SCOPE_BASE)
        if not any(key.lower().endswith("record") for key in entry):
            connection.delete_s(dn)


def _stored(entry: dict[str, list[bytes]], record: Record) -> list[bytes]:
    """Return a record's value as the directory has it, which may be written in another way."""
    values = entry.get(f"{record.kind.lower()}record", [])
    return [value for value in values if canonical(record.kind, value.decode()) == record.text]


class Bridge:
    """Keeps both in step; a change that one side cannot take does not count as a change by the other."""

    def __init__(self) -> None:
        self._connection, self._named = directory(), Named()
        self._sent: dict[str, Zone] = {}  # what the directory had when they were last in step
        self._served: dict[str, Served] = {}  # what named had then
        self._refused: dict[str, Zone] = {}  # what named did not load
        self._said = ""

    def turn(self) -> None:
        """Look at both sides once, and hand on what has changed; what fails is tried again in the next turn."""
        try:
            zones = read(self._connection)
        except ldap.SERVER_DOWN:  # named goes on with what it has
            with contextlib.suppress(ldap.SERVER_DOWN):
                self._connection = directory()
            return
        self._start({name: zone for name, zone in zones.items() if self._refused.get(name) != zone})
        for name in self._sent.keys() & zones.keys():
            try:
                self._step(name, zones[name])
            except (ldap.LDAPError, dns.exception.DNSException, OSError, LookupError) as error:
                self._say_once(f"{name}: {error!r}")

    def _start(self, zones: dict[str, Zone]) -> None:
        """Serve what is new, and no longer what is gone."""
        new = {name: zone for name, zone in zones.items() if name not in self._sent}
        for name in self._sent.keys() - zones.keys():
            del self._sent[name], self._served[name]
        self._named.configure({name: zone.policy for name, zone in zones.items()}, new)
        for name, zone in new.items():
            if self._named.loaded(name):
                self._sent[name], self._served[name] = zone, self._named.served(name)
                self._refused.pop(name, None)
            else:
                self._refused[name] = zone
                say(f"{name}: named does not load it")

    def _step(self, name: str, zone: Zone) -> None:
        sent, served = self._sent[name], self._served[name]
        gone, new = sent.records - zone.records, zone.records - sent.records
        soa = zone.soa if zone.soa != sent.soa else ""
        if not gone and not new and not soa and self._named.serial(name) == served.serial:
            return
        if gone or new or soa:
            self._named.change(name, gone, new, soa)
        now = self._named.served(name)
        changes = Changes.between(served.records, now.records, gone | new)
        write_back(self._connection, name, changes)
        # what we have just written is no change of the directory's that named would have to be told
        self._sent[name], self._served[name] = zone._replace(records=changes.applied(zone.records)), now

    def _say_once(self, text: str) -> None:
        if text != self._said:
            say(text)
        self._said = text


def main() -> None:
    """Keep both in step until told to end."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    bridge = Bridge()
    while True:
        bridge.turn()
        time.sleep(PERIOD)


if __name__ == "__main__":
    main()
