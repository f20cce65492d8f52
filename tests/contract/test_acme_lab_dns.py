"""The lab's name servers and KDC do what the real ones do: that is what makes a test against them worth something."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from certhooks.deadline import Deadline
from tests.lab.acme import NEVER, AcmeLab, Certbot, Kdc, NameServer
from tests.lab.acme.clients import CERTBOT
from tests.lab.daemons import Daemons
from tests.lab.fixtures import need

if TYPE_CHECKING:
    from collections.abc import Iterator

REPOSITORY = Path(__file__).parents[2]
CHALLENGE = "_acme-challenge.www.acme.test"
LAG = 1.5
PROMPT = 1.5  # seconds from NOTIFY to transfer: 0.03, rarely 1; the rest is for a loaded machine


@pytest.fixture
def daemons() -> Iterator[Daemons]:
    """Hold a folder, and end what runs there."""
    need("named", "knotd", "nsupdate", "dig", "tsig-keygen", "setpriv", "ss")
    with Daemons("acme-lab") as held:
        yield held


@pytest.fixture
def dns(daemons: Daemons) -> NameServer:
    """Start a primary alone."""
    server = NameServer(daemons, ["acme.test", "alias.test"])
    server.start()
    return server


def test_a_value_reaches_each_secondary_when_it_should(daemons: Daemons) -> None:
    """One secondary is told at once, one lags as asked for, also right after another change, and one never has it."""
    dns = NameServer(daemons, ["acme.test"], secondaries=[0, LAG, NEVER])
    dns.start()
    dns.add("other.acme.test", "TXT", '"a change before"')
    time.sleep(LAG / 2)  # so that the lagging one is about to be told of it
    start = time.monotonic()
    dns.add(CHALLENGE, "TXT", '"value"')
    came: dict[str, float] = {}
    while time.monotonic() < start + LAG + PROMPT:
        for address in dns.addresses:
            if address not in came and dns.values(CHALLENGE, server=address):
                came[address] = time.monotonic() - start
    primary, prompt, late, _never = dns.addresses
    assert sorted(came) == [primary, prompt, late]
    assert came[prompt] < PROMPT
    assert LAG <= came[late] < LAG + PROMPT


def test_every_zone_names_its_servers(daemons: Daemons) -> None:
    """Who looks up a zone's name servers finds the addresses that answer, each of them with authority."""
    dns = NameServer(daemons, ["acme.test"], secondaries=[NEVER])
    dns.start()
    names = sorted(dns.values("acme.test", "NS"))
    assert names == ["ns1.lab.test.", "ns2.lab.test."]
    assert [dns.values(name, "A") for name in names] == [{"127.0.0.1"}, {"127.0.0.2"}]
    for address in dns.addresses:
        shown = daemons.said(["dig", f"@{address}", "-p", str(dns.port), "+norecurse", "acme.test", "SOA"])
        assert re.search(r"flags:[^;]* aa", shown), shown


def test_values_are_those_of_the_name_itself(dns: NameServer) -> None:
    """Values of a CNAME's target are not mistaken for the name's own; texts come as they were meant."""
    dns.add(CHALLENGE, "CNAME", "www.alias.test.")
    dns.add("www.alias.test", "TXT", '"v=1; \\"quoted\\" text"')
    dns.add("www.alias.test", "TXT", '"two " "strings"')
    assert dns.values(CHALLENGE) == set()
    assert dns.values(CHALLENGE, "CNAME") == {"www.alias.test."}
    assert dns.values("www.alias.test") == {"two strings", 'v=1; "quoted" text'}
    dns.delete("www.alias.test", "TXT", '"two strings"')
    assert len(dns.values("www.alias.test")) == 2, "another value than the one that is there"
    dns.delete("www.alias.test", "TXT")
    assert dns.values("www.alias.test") == set()


def test_the_primary_is_a_resolver_that_asks_nobody(dns: NameServer) -> None:
    """It follows a CNAME into another zone, and of a name that it has not it says at once that there is none."""
    dns.add(CHALLENGE, "CNAME", "www.alias.test.")
    dns.add("www.alias.test", "TXT", '"value"')
    ask = ["dig", f"@{dns.address}", "-p", str(dns.port), "+time=1", "+tries=1"]
    assert '"value"' in dns.daemons.said([*ask, "+short", CHALLENGE, "TXT"])
    assert "status: NXDOMAIN" in dns.daemons.said([*ask, "www.example.com", "A"])


def test_an_update_needs_the_key_and_a_zone(dns: NameServer) -> None:
    """Without the key nothing is written, nor outside the zones with it."""
    unsigned = f"server {dns.address} {dns.port}\nupdate add {CHALLENGE}. 5 TXT v\nsend\n"
    assert "REFUSED" in dns.daemons.run(["nsupdate"], input=unsigned).stdout
    with pytest.raises(RuntimeError, match="REFUSED"):
        dns.add("www.elsewhere.test", "TXT", '"v"')
    assert dns.values(CHALLENGE) == dns.values("www.elsewhere.test") == set()


def test_a_keytab_writes_what_the_policy_grants(daemons: Daemons) -> None:
    """By GSS-TSIG a host may write its address, as FreeIPA's policy has it, and the challenge that it was granted."""
    need("krb5kdc", "kdb5_util", "kadmin.local")
    kdc = Kdc(daemons)
    kdc.start()
    policy = [
        f"grant {kdc.realm} krb5-self . A;",
        f'grant "host/www.acme.test@{kdc.realm}" name {CHALLENGE} TXT;',
        f'grant "host/sub.acme.test@{kdc.realm}" subdomain sub.acme.test TXT;',
    ]
    dns = NameServer(daemons, ["acme.test"], policy=policy, keytab=kdc.keytab("DNS/ns1.lab.test"), env=kdc.env)
    dns.start()
    www, sub = kdc.keytab("host/www.acme.test"), kdc.keytab("host/sub.acme.test")

    def update(keytab: Path, record: str) -> str:
        script = f"server {dns.address} {dns.port}\nupdate add {record}\nsend\n"
        return daemons.run(["nsupdate", "-g"], input=script, env=kdc.client_env(keytab)).stdout

    assert update(www, f"{CHALLENGE}. 5 TXT value") == ""
    assert update(www, "www.acme.test. 5 A 127.0.0.9") == ""
    assert update(sub, "_acme-challenge.deep.sub.acme.test. 5 TXT value") == ""
    assert "REFUSED" in update(sub, f"{CHALLENGE}. 5 TXT another")
    assert "REFUSED" in update(www, "www.acme.test. 5 TXT another")
    assert dns.values(CHALLENGE) == {"value"}
    assert dns.values("www.acme.test", "A") == {"127.0.0.9"}


def test_it_listens_on_loopback_alone(daemons: Daemons) -> None:
    """Nobody else on the network can reach the lab."""
    need("pebble", "krb5kdc")
    with AcmeLab(secondaries=[LAG], kerberos=True) as lab:
        shown = daemons.said(["ss", "-Hlntup"]).splitlines()
        ours = [line for line in shown if any(f"pid={pid}," in line for pid in lab.daemons.pids)]
        found = [line.split()[4].rpartition(":")[0] for line in ours]
        assert len(found) >= 8, "named, knotd and krb5kdc by TCP and UDP, the relay, pebble's two"
        assert all(address.startswith("127.") for address in found), shown


def test_it_runs_in_a_network_namespace(daemons: Daemons) -> None:
    """With a prefix all of it, clients too, runs where 127.0.0.1 is not the name server's address."""
    need("pebble", "nsenter", "unshare", "ip", str(CERTBOT), root=True)
    marker = daemons.folder / "there"
    script = f"ip link set lo up && ip addr add 10.77.0.10/24 dev lo && touch {marker} && exec sleep 600"
    there = daemons.start(["unshare", "--net", "sh", "-c", script], daemons.folder / "log", marker.exists)
    prefix = ["nsenter", f"--net=/proc/{there.pid}/ns/net"]
    with AcmeLab(prefix=prefix, addresses=["10.77.0.10"], port=53) as lab:
        done = Certbot(lab.pebble).run(["www.acme.test"], lab.hook("certbot"))
        assert done.code == 0, done
        lab.pebble.check(done.fullchain)


START = """
from tests.lab.acme import AcmeLab
with AcmeLab(secondaries=[1], kerberos=True) as lab:
    print(lab.daemons.folder, *lab.daemons.pids, flush=True)
    lab.daemons.run(["sh", "-c", "sleep 600 & sleep 600"], timeout=600)
"""


def test_a_killed_test_process_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Daemons, clients and what these have started end with the process that started them; the next lab sweeps up."""
    need("named", "knotd", "pebble", "krb5kdc", root=True)
    with subprocess.Popen([sys.executable, "-c", START], cwd=REPOSITORY, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            folder, *pids = process.stdout.readline().split()
            assert len(pids) == 5, "named, knotd, its relay, krb5kdc, pebble"
            end = Deadline(10)
            while sum("sleep" in words for words in _alive(folder, pids)) < 2:
                end.pause(0.05, "the start of the client's children")
        finally:
            process.kill()
    while _alive(folder, pids):
        end.pause(0.05, "the end of daemons and clients")
    assert Path(folder).exists()
    monkeypatch.setattr("tests.lab.daemons._SETTLED", -1.0)
    with Daemons("acme-lab"):
        assert not Path(folder).exists()


def _alive(folder: str, pids: list[str]) -> list[list[str]]:
    """Return the command lines of those of these processes that live, and of all that work in this folder."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            words = (process / "cmdline").read_text().split("\0")
            if words[0] and (process.name in pids or (process / "cwd").readlink().is_relative_to(folder)):
                found.append(words)
        except OSError:  # it has ended meanwhile
            continue
    return found
