"""The lab's FreeIPA is one: its own commands, certmonger, Kerberos and others' clients find what they find anywhere.

And the lab keeps its promises: its knobs turn what they say, it listens on loopback alone, and leaves nothing.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from tests.lab.freeipa import build, names
from tests.lab.freeipa.client import KEYTAB
from tests.lab.freeipa.fixtures import enrolled_host, enrolled_machine, freeipa, fresh_freeipa
from tests.lab.freeipa.looks import ZONE, quickest, served, soon
from tests.lab.freeipa.server import FreeIPA
from tests.lab.freeipa.system import LabError

if TYPE_CHECKING:
    from tests.lab.freeipa.client import EnrolledHost

__all__ = ["enrolled_host", "freeipa", "fresh_freeipa"]
pytestmark = enrolled_machine()
python_freeipa = pytest.importorskip("python_freeipa", reason="python-freeipa needs Python 3.10")
Client, exceptions = python_freeipa.Client, python_freeipa.exceptions
_REPOSITORY = Path(__file__).parents[2]
_FOREIGN = Path(os.environ.get("CERTHOOKS_FOREIGN_PYTHON", _REPOSITORY / ".venv-foreign" / "bin" / "python"))
DOMAIN = names.DOMAIN
CA_FILE = "/etc/ipa/ca.crt"
TICKET = "FILE:/run/nsupdate.ticket"


def login(user: str = "admin", password: str = names.ADMIN_PASSWORD) -> Any:
    """Return python-freeipa's client, logged in with a password."""
    client = Client(names.SERVER.host, verify_ssl=CA_FILE)
    client.login(user, password)
    return client


# -- what a FreeIPA can ------------------------------------------------------------------------------------------------


def test_its_own_command_answers(freeipa: FreeIPA) -> None:
    """``ipa ping`` tells FreeIPA's version, with a ticket of its own KDC."""
    assert "IPA server version 4.12.4" in freeipa.ipa("ping")


def test_a_record_is_served(freeipa: FreeIPA) -> None:
    """What ``ipa dnsrecord-add`` writes, BIND serves within a second: a first value, a second one, and none after."""
    freeipa.ipa("dnsrecord-add", DOMAIN, "_acme-challenge.a", "--txt-rec=one")
    assert soon(lambda: served(f"_acme-challenge.a.{DOMAIN}") == ["one"]) < 1
    freeipa.ipa("dnsrecord-add", DOMAIN, "_acme-challenge.a", "--txt-rec=two")
    soon(lambda: served(f"_acme-challenge.a.{DOMAIN}") == ["one", "two"])
    freeipa.ipa("dnsrecord-del", DOMAIN, "_acme-challenge.a", "--del-all")
    soon(lambda: served(f"_acme-challenge.a.{DOMAIN}") == [])


def test_a_new_zone_is_served_and_a_deleted_one_is_not(freeipa: FreeIPA) -> None:
    """A zone that is added is served, others go on meanwhile, and a deleted one is refused."""
    freeipa.api("dnszone_add", "acme.test.", idnssoarname="hostmaster.acme.test.")
    freeipa.api("dnsrecord_add", "acme.test.", "w", txtrecord=["there"])
    soon(lambda: served("w.acme.test") == ["there"])
    assert served(names.SERVER.host, "A") == [names.SERVER.address]
    freeipa.api("dnszone_del", "acme.test.")
    soon(lambda: served("w.acme.test") == [])


def test_a_dynamic_update_reaches_the_directory(freeipa: FreeIPA) -> None:
    """GSS-TSIG: what the zone's update policy grants a host reaches BIND and FreeIPA, what it does not is refused."""
    policy = f"grant host\\047{names.CLIENT.host}@{names.REALM} name _acme-challenge.u.{DOMAIN}. TXT;"
    freeipa.api("dnszone_mod", ZONE, idnsallowdynupdate=True, idnsupdatepolicy=policy)
    allowed, refused = (f"_acme-challenge.{label}.{DOMAIN}." for label in ("u", "v"))
    soon(lambda: nsupdate(f"update add {allowed} 30 TXT mine") == 0)
    assert nsupdate(f"update add {refused} 30 TXT mine") != 0
    assert served(allowed[:-1]) == ["mine"]
    soon(lambda: "mine" in freeipa.ipa("dnsrecord-find", DOMAIN))
    entry = freeipa.api("dnsrecord_show", ZONE, "_acme-challenge.u", all=True)["result"]
    assert (entry["txtrecord"], entry["dnsttl"]) == (['"mine"'], ["30"])  # as named shows it
    freeipa.api("dnsrecord_add", ZONE, "_acme-challenge.u", txtrecord=["theirs"])
    soon(lambda: served(allowed[:-1]) == ["mine", "theirs"])
    assert nsupdate(f"update delete {allowed} TXT") == 0
    soon(lambda: "_acme-challenge.u" not in freeipa.ipa("dnsrecord-find", DOMAIN))


@pytest.fixture
def updatable(freeipa: FreeIPA) -> FreeIPA:
    """Let this host write TXT records of any name of the zone by dynamic updates."""
    ticket = {**os.environ, "KRB5_CLIENT_KTNAME": str(KEYTAB), "KRB5CCNAME": TICKET}
    subprocess.run(["kinit", "-k"], env=ticket, check=True, stdin=subprocess.DEVNULL)
    policy = f"grant host\\047{names.CLIENT.host}@{names.REALM} zonesub TXT;"
    with suppress(exceptions.FreeIPAError):  # 4202: it is so already
        freeipa.api("dnszone_mod", ZONE, idnsallowdynupdate=True, idnsupdatepolicy=policy)
    soon(lambda: nsupdate(f"update add probe.{ZONE} 30 TXT x") == 0)
    return freeipa


def nsupdate(line: str) -> int:
    """Send an update with this host's ticket, and return nsupdate's exit status."""
    ticket = {**os.environ, "KRB5_CLIENT_KTNAME": str(KEYTAB), "KRB5CCNAME": TICKET}
    text = f"server {names.SERVER.address}\nzone {ZONE}\n{line}\nsend\n"
    return subprocess.run(["nsupdate", "-g"], input=text, env=ticket, text=True, check=False).returncode


def in_directory(server: FreeIPA, name: str) -> tuple[list[str], str]:
    """Return the TXT values of a name and its TTL, as FreeIPA has them; quotes are BIND's way to write."""
    try:
        entry = server.api("dnsrecord_show", ZONE, name, all=True)["result"]
    except exceptions.NotFound:
        return [], ""
    return sorted(value.strip('"') for value in entry.get("txtrecord", [])), entry.get("dnsttl", [""])[0]


def test_a_ttl_that_changes_takes_no_value_along(updatable: FreeIPA) -> None:
    """A second value with another TTL gives both that TTL, as DNS has it, and both are in BIND and in FreeIPA."""
    updatable.api("dnsrecord_add", ZONE, "ttl", txtrecord=["first"])
    soon(lambda: served(f"ttl.{DOMAIN}") == ["first"])
    for ttl in ("30", "60"):
        assert nsupdate(f"update add ttl.{ZONE} {ttl} TXT second") == 0
        soon(lambda wanted=ttl: in_directory(updatable, "ttl") == (["first", "second"], wanted))  # type: ignore[misc]
        assert served(f"ttl.{DOMAIN}") == ["first", "second"]


def test_a_zone_that_cannot_be_served_is_in_no_other_ones_way(freeipa: FreeIPA) -> None:
    """One whose name is no file name is served; one that BIND refuses is not, until it is mended; others go on."""
    freeipa.api("dnszone_add", "0/25.2.0.192.in-addr.arpa.", idnssoarname="hostmaster.ipa.test.")
    freeipa.api("dnsrecord_add", "0/25.2.0.192.in-addr.arpa.", "1", ptrrecord=["one.ipa.test."])
    soon(lambda: served("1.0/25.2.0.192.in-addr.arpa", "PTR") == ["one.ipa.test."])
    freeipa.api("dnszone_add", "broken.test.", idnssoarname="hostmaster.ipa.test.")
    freeipa.api("dnsrecord_add", "broken.test.", "w", txtrecord=["there"])
    soon(lambda: served("w.broken.test") == ["there"])
    freeipa.api("dnsrecord_add", "broken.test.", "@", nsrecord=["ns.broken.test."], force=True)
    freeipa.api("dnszone_disable", "broken.test.")
    soon(lambda: served("w.broken.test") == [])
    freeipa.api("dnszone_enable", "broken.test.")
    freeipa.api("dnsrecord_add", ZONE, "others", txtrecord=["on"])
    soon(lambda: served(f"others.{DOMAIN}") == ["on"], 15)
    assert served("w.broken.test") == []
    freeipa.api("dnsrecord_add", "broken.test.", "ns", arecord=[names.SERVER.address])
    soon(lambda: served("w.broken.test") == ["there"], 15)


def test_the_soa_record_follows(freeipa: FreeIPA) -> None:
    """A change of a zone's SOA values reaches BIND."""
    freeipa.api("dnszone_mod", ZONE, idnssoarefresh=7777)
    soon(lambda: " 7777 " in "".join(served(DOMAIN, "SOA")))


def test_updates_while_the_directory_is_down_arrive_later(updatable: FreeIPA) -> None:
    """BIND goes on and takes updates without the directory, and they are in FreeIPA when that is back."""
    with updatable.without("directory"):
        assert served(names.SERVER.host, "A") == [names.SERVER.address]
        for number in range(5):
            nsupdate(f"update add down{number}.{ZONE} 30 TXT v")
        there = [number for number in range(5) if served(f"down{number}.{DOMAIN}")]
    for number in there:
        soon(lambda name=f"down{number}": in_directory(updatable, name)[0] == ["v"], 15)  # type: ignore[misc]
    updatable.api("dnsrecord_add", ZONE, "afterwards", txtrecord=["v"])
    soon(lambda: served(f"afterwards.{DOMAIN}") == ["v"])


def test_a_certificate_through_certmonger(freeipa: FreeIPA, enrolled_host: EnrolledHost) -> None:
    """``ipa-getcert`` gets a certificate that this host may have, and FreeIPA knows it, also when it is revoked."""
    freeipa.add_service("HTTP/web.ipa.test")
    file, key = Path("/etc/ssl/certs/web.crt"), Path("/etc/ssl/private/web.key")
    request = ["ipa-getcert", "request", "-w", "-f", str(file), "-k", str(key), "-N", "CN=web.ipa.test"]
    done = enrolled_host.command(*request, "-D", "web.ipa.test", "-K", "HTTP/web.ipa.test")
    assert done.code == 0, done
    certificate = x509.load_pem_x509_certificate(file.read_bytes())
    usage = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert ExtendedKeyUsageOID.SERVER_AUTH in usage
    assert freeipa.api("cert_find", status="VALID")["count"] >= 1
    assert freeipa.api("cert_show", certificate.serial_number)["result"]["revoked"] is False
    freeipa.api("cert_revoke", certificate.serial_number, revocation_reason=1)
    assert freeipa.api("cert_show", certificate.serial_number)["result"]["revoked"] is True


def test_python_freeipa_with_a_password(freeipa: FreeIPA) -> None:
    """A client that nobody here wrote logs in, and is refused with FreeIPA's own errors."""
    assert freeipa.pid
    client = login()
    assert client._request("ping", [], {})["summary"].startswith("IPA server version 4.12.4")
    with pytest.raises(exceptions.Unauthorized):
        login(password="wrong")
    with pytest.raises(exceptions.NotFound):
        client._request("host_show", ["nobody.ipa.test"], {})


KEYTAB_STORY = """
import json, sys
from python_freeipa import ClientMeta
client = ClientMeta("server.ipa.test", verify_ssl="/etc/ipa/ca.crt")
client.login_kerberos()
print(json.dumps(client.whoami()["arguments"]))
"""


def test_python_freeipa_with_a_keytab(freeipa: FreeIPA) -> None:
    """The same client with the host's keytab is the host."""
    assert freeipa.pid
    env = {**os.environ, "KRB5_CLIENT_KTNAME": str(KEYTAB), "KRB5CCNAME": "MEMORY:"}
    done = subprocess.run([_FOREIGN, "-c", KEYTAB_STORY], env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [names.CLIENT.host]


def test_access_control_is_the_directorys(freeipa: FreeIPA) -> None:
    """A user without rights cannot write a record (2100, or a zone that does not exist for it), and the admin can."""
    freeipa.api("user_add", "nobody", givenname="No", sn="Body", userpassword="First-1-secret")
    password = "Second-2-secret"
    Client(names.SERVER.host, verify_ssl=CA_FILE).change_password("nobody", password, "First-1-secret")
    with pytest.raises((exceptions.Denied, exceptions.NotFound)):
        login("nobody", password)._request("dnsrecord_add", [ZONE, "x"], {"txtrecord": ["v"]})


def test_values_are_lost_between_two_who_add(fresh_freeipa: FreeIPA) -> None:
    """FreeIPA's add is not atomic: of values added to one new name at once, some that were acknowledged are not there.

    That is why a hook reads back. With one process of the web server it could not happen.
    """
    story = """
import sys, threading
from python_freeipa import Client
clients = []
for _ in range(4):
    client = Client("server.ipa.test", verify_ssl="/etc/ipa/ca.crt")
    client.login("admin", sys.argv[1])
    clients.append(client)
lost = 0
for turn in range(12):
    name, kept, gate = f"race{turn}", [], threading.Barrier(4)
    def add(client, value):
        gate.wait()
        try:
            client._request("dnsrecord_add", ["ipa.test.", name], {"txtrecord": [value]})
        except Exception:
            return
        kept.append(value)
    threads = [threading.Thread(target=add, args=(c, f"v{n}")) for n, c in enumerate(clients)]
    for thread in threads: thread.start()
    for thread in threads: thread.join()
    there = clients[0]._request("dnsrecord_show", ["ipa.test.", name], {})["result"]["txtrecord"]
    lost += len(set(kept) - set(there))
print(lost)
"""
    assert fresh_freeipa.pid
    words = [str(_FOREIGN), "-c", story, names.ADMIN_PASSWORD]
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 0


# -- what the lab promises ---------------------------------------------------------------------------------------------


def test_it_is_up_within_twenty_seconds(freeipa: FreeIPA) -> None:
    """A server that is built answers within twenty seconds, also beside another."""
    assert freeipa.pid
    beside = FreeIPA(own_network=True)
    try:
        assert quickest(beside.reset, 20) < 20
    finally:
        beside.stop()


def test_reset_is_quick_and_complete(freeipa: FreeIPA) -> None:
    """After a reset, within ten seconds, no entry, record or certificate of a test is left, and all of it answers."""
    freeipa.add_service("HTTP/gone.ipa.test")
    freeipa.api("dnsrecord_add", ZONE, "gone", txtrecord=["x"])
    soon(lambda: served(f"gone.{DOMAIN}") == ["x"])
    assert quickest(freeipa.reset, 10) < 10
    assert served(f"gone.{DOMAIN}") == []
    with pytest.raises(exceptions.NotFound):
        freeipa.api("host_show", "gone.ipa.test")
    assert freeipa.api("cert_find")["count"] == 0


def test_it_listens_on_loopback_alone(freeipa: FreeIPA) -> None:
    """Every socket is bound to the server's own address, which is the loopback device's, the only one there is."""
    assert freeipa.pid
    links = subprocess.run(["ip", "-json", "address"], capture_output=True, check=True).stdout
    [loopback] = json.loads(links)
    assert loopback["ifname"] == "lo"
    sockets = freeipa.run("ss", "-Hltun").stdout.splitlines()
    listening = {line.split()[4].rpartition(":")[0] for line in sockets}
    assert listening == {names.SERVER.address}
    ports = {int(line.split()[4].rpartition(":")[2]) for line in sockets}
    assert {53, 88, 389, 443, 464, 636} <= ports


@pytest.mark.parametrize(
    ("daemon", "port"), [("directory", 389), ("kdc", 88), ("web", 443), ("dns", 53), ("kadmin", 464)]
)
def test_each_daemon_can_be_down(freeipa: FreeIPA, daemon: str, port: int) -> None:
    """A daemon that is taken away refuses connections, and answers afterwards."""
    with pytest.raises(LabError, match="no such daemon"), freeipa.without(daemon[::-1]):
        pytest.fail("it was never there")
    with freeipa.without(daemon), pytest.raises(ConnectionRefusedError):
        socket.create_connection((names.SERVER.address, port), 5)
    socket.create_connection((names.SERVER.address, port), 5).close()
    assert "IPA server version" in freeipa.ipa("ping")


def test_a_session_can_expire(freeipa: FreeIPA) -> None:
    """After the end of its session a client is unauthorized (401), and may log in again."""
    client = login()
    client._request("ping", [], {})
    freeipa.expire_sessions()
    with pytest.raises(exceptions.Unauthorized):
        client._request("ping", [], {})
    client.login("admin", names.ADMIN_PASSWORD)
    client._request("ping", [], {})


def test_an_account_can_be_locked(fresh_freeipa: FreeIPA) -> None:
    """After too many wrong passwords the right one is refused too, until an administrator unlocks the account."""
    fresh_freeipa.api("user_add", "locked", givenname="Lo", sn="Cked", userpassword="First-1-secret")
    Client(names.SERVER.host, verify_ssl=CA_FILE).change_password("locked", "Second-2-secret", "First-1-secret")
    login("locked", "Second-2-secret")
    fresh_freeipa.lock("locked")
    with pytest.raises(exceptions.Unauthorized):
        login("locked", "Second-2-secret")
    fresh_freeipa.api("user_unlock", "locked")
    login("locked", "Second-2-secret")
    fresh_freeipa.api("user_disable", "locked")
    with pytest.raises(exceptions.Unauthorized):
        login("locked", "Second-2-secret")


# -- the small command -------------------------------------------------------------------------------------------------


def lab(*words: str) -> subprocess.CompletedProcess[str]:
    """Run ``python -m tests.lab.freeipa``."""
    return subprocess.run(
        [sys.executable, "-m", "tests.lab.freeipa", *words],
        cwd=_REPOSITORY,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_by_hand(freeipa: FreeIPA) -> None:
    """up, exec, network and down do what they say; up starts in a network of its own, beside any other server."""
    assert freeipa.pid
    assert "it is not up" in lab("exec", "true").stderr
    up = lab("up")
    assert up.returncode == 0, up.stderr
    try:
        assert "it is up already" in lab("up").stderr
        assert lab("exec", "hostname").stdout == f"{names.SERVER.host}\n"
        assert "IPA server version" in lab("exec", "ipa", "ping").stdout
        shown = lab("network", "ip", "-o", "-4", "address").stdout
        assert [line.split()[1] for line in shown.splitlines()] == ["lo", "lo"]
        freeipa.api("host_add", "beside.ipa.test", force=True)
        assert "not found" in lab("exec", "ipa", "host-show", "beside.ipa.test").stderr
        lab("exec", "ipa", "host-add", "--force", "before.ipa.test")
        assert lab("reset").returncode == 0
        assert "not found" in lab("exec", "ipa", "host-show", "before.ipa.test").stderr
    finally:
        down = lab("down")
    assert down.returncode == 0, down.stderr
    assert lab("down").returncode == 0
    assert "it is not up" in lab("exec", "true").stderr
    assert lab("nonsense").returncode == 2
    assert "python3 -m tests.lab.freeipa up" in lab("help").stdout


def test_up_that_is_broken_off_leaves_nothing_unknown(freeipa: FreeIPA) -> None:
    """Kill -9, or SIGTERM, in mid-up: down ends what there is, and nothing runs on."""
    assert freeipa.pid
    before = processes()
    for how in (signal.SIGKILL, signal.SIGTERM):
        with subprocess.Popen([sys.executable, "-m", "tests.lab.freeipa", "up"], cwd=_REPOSITORY) as up:
            soon(lambda: "ns-slapd" in [name for pid, name in processes().items() if pid not in before], 20)
            up.send_signal(how)
        assert lab("down").returncode == 0
        soon(lambda: set(processes()) <= set(before), 10)


STARTER = """
import sys
from tests.lab.freeipa.server import FreeIPA
server = FreeIPA(own_network=True)
server.start()
print(server.pid, flush=True)
sys.stdin.read()
"""


def test_nothing_outlives_a_killed_process(freeipa: FreeIPA) -> None:
    """Kill -9 of what has started a server: every process of it and every mount is gone at once."""
    assert freeipa.pid
    mounts, before = Path("/proc/self/mountinfo").read_text(), processes()
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "cwd": _REPOSITORY}
    with subprocess.Popen([sys.executable, "-c", STARTER], **pipes) as starter:  # type: ignore[call-overload]
        assert int(starter.stdout.readline())
        assert "ns-slapd" in {name for pid, name in processes().items() if pid not in before}
        starter.send_signal(signal.SIGKILL)
    soon(lambda: set(processes()) <= set(before), 10)
    assert Path("/proc/self/mountinfo").read_text() == mounts


def processes() -> dict[int, str]:
    """Return the names of all processes that run here."""
    found = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            text = path.read_text()
        except (FileNotFoundError, ProcessLookupError):
            continue  # it has ended meanwhile
        if text.rpartition(")")[2].split()[0] != "Z":
            found[int(path.parent.name)] = text.partition("(")[2].rpartition(")")[0]
    return found


def test_a_second_build_has_nothing_to_do(freeipa: FreeIPA) -> None:
    """What is built is found again by what it was made from, within seconds."""
    assert freeipa.pid
    began = time.monotonic()
    assert lab("build").returncode == 0
    assert time.monotonic() - began < 5
    assert build.PAIR.built
