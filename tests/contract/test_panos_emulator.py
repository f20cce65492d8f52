"""What the emulator does that foreign clients do not ask for: others' edits, pairs, pushes, lock-outs, faults."""

from __future__ import annotations

import base64
import contextlib
import http.client
import socket
import ssl
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import pytest
from cryptography.hazmat.primitives import serialization

from tests.lab.panos import DeviceResult, Fault, Firewall, Outcome, Panorama, Reply, Restart, Switches, custom_role
from tests.lab.panos import requests as panos_requests

if TYPE_CHECKING:
    from collections.abc import Iterator

REPOSITORY = Path(__file__).parents[2]
PROFILES = "/config/shared/ssl-tls-service-profile"
GP = f"{PROFILES}/entry[@name='GP']"
SHARED = "/config/shared/address"
FULL = "<commit></commit>"


def partial(name: str) -> str:
    """Return a commit of one administrator's changes."""
    return f"<commit><partial><admin><member>{name}</member></admin></partial></commit>"


def ask(device: Any, admin: str = "me", **params: str) -> str:
    """Send a request below the wire and return the reply's text."""
    headers = {"X-PAN-KEY": device.admins[admin].key}
    reply: Reply = device.answer(panos_requests.read("POST", "/api/", headers, urlencode(params).encode()))
    return reply.body.decode()


def upload(device: Any, data: bytes, admin: str = "me", **params: str) -> str:
    """Import a keypair unless told otherwise, parameters in the multipart body, and return the reply's text."""
    fields = {"type": "import", "category": "keypair", "format": "pem", "certificate-name": "new", "passphrase": "x"}
    fields.update({name.replace("_", "-"): value for name, value in params.items()})
    fields["key"] = device.admins[admin].key
    parts = [f'--B\r\nContent-Disposition: form-data; name="{k}"\r\n\r\n{v}\r\n'.encode() for k, v in fields.items()]
    head = b'--B\r\nContent-Disposition: form-data; name="file"; filename="upload"\r\n\r\n'
    body = b"".join(parts) + head + data + b"\r\n--B--\r\n"
    headers = {"Content-Type": "multipart/form-data; boundary=B"}
    reply: Reply = device.answer(panos_requests.read("POST", "/api/", headers, body))
    return reply.body.decode()


def put(device: Any, element: str, path: str = SHARED, admin: str = "me") -> str:
    """Set something."""
    return ask(device, admin, type="config", action="set", xpath=path, element=element)


def commit(device: Any, cmd: str = FULL, admin: str = "me", **more: str) -> str:
    """Commit and return the finished job."""
    started = ask(device, admin, type="commit", cmd=cmd, **more)
    assert "enqueued" in started, started
    return last_job(device)


def last_job(device: Any) -> str:
    """Return the latest job."""
    number = max(device.jobs)
    return ask(device, type="op", cmd=f"<show><jobs><id>{number}</id></jobs></show>")


def prepared(device: Any) -> Any:
    """Give a device that does not listen its people and a profile."""
    device.restart = Restart(0, 0, 0)
    device.add_admin("me", password="mine", role=custom_role())
    device.add_admin("alice")
    device.add_profile("GP", certificate="old")
    return device


@pytest.fixture
def fw() -> Firewall:
    """Return a firewall that does not listen: requests are handed to it, commits take no time."""
    made: Firewall = prepared(Firewall(commit_seconds=0))
    return made


@pytest.fixture
def live() -> Iterator[Firewall]:
    """Return a firewall that listens."""
    with prepared(Firewall(commit_seconds=0)) as firewall:
        yield firewall


def pem(device: Any, **how: Any) -> bytes:
    """Return a new certificate and its key in one PEM."""
    made = device.ca.issue(device.hostname, **how)
    return made.cert_pem + made.key_pem  # type: ignore[no-any-return]


# -- candidate and running


def test_partial_commit_takes_ones_own_changes_only(fw: Firewall) -> None:
    """Creations, changed leaves and deletions of another administrator stay pending, mine are running."""
    for name in ("mine", "hers", "both"):
        fw.config.put(SHARED, _entry(name))
    put(fw, "<entry name='new-mine'><fqdn>a</fqdn></entry>")
    put(fw, "<entry name='new-hers'><fqdn>b</fqdn></entry>", admin="alice")
    put(fw, "<fqdn>changed</fqdn>", f"{SHARED}/entry[@name='both']")
    put(fw, "<port>1</port>", f"{SHARED}/entry[@name='both']", "alice")
    ask(fw, type="config", action="delete", xpath=f"{SHARED}/entry[@name='mine']")
    ask(fw, "alice", type="config", action="delete", xpath=f"{SHARED}/entry[@name='hers']")
    commit(fw, partial("me"), action="partial")
    running = {e.get("name", ""): e for e in fw.config.find_running(f"{SHARED}/entry")}
    assert sorted(running) == ["both", "hers", "new-mine"]
    assert running["both"].findtext("fqdn") == "changed"
    assert running["both"].find("port") is None
    assert not fw.pending_of("me")
    assert len(fw.pending_of("alice")) == 3
    commit(fw, partial("alice"), action="partial", admin="alice")
    assert sorted(e.get("name", "") for e in fw.config.find_running(f"{SHARED}/entry")) == [
        "both",
        "new-hers",
        "new-mine",
    ]
    candidate, now_running, pending = fw.snapshot()
    assert (candidate, pending) == (now_running, ())


def _entry(name: str) -> Any:
    from xml.etree import ElementTree as ET

    return ET.fromstring(f"<entry name='{name}'><fqdn>before</fqdn></entry>")


def test_partial_revert_takes_back_ones_own_changes_only(fw: Firewall) -> None:
    """After an import, a rebinding and a deletion, a revert by administrator restores exactly what was there before."""
    put(fw, "<entry name='hers'/>", admin="alice")
    before = fw.snapshot()
    upload(fw, pem(fw))
    upload(fw, pem(fw), certificate_name="old")
    put(fw, "<certificate>new</certificate>", GP)
    ask(fw, type="config", action="delete", xpath=f"{GP}/protocol-settings/max-version")
    assert fw.snapshot() != before
    command = "<revert><config><partial><admin><member>me</member></admin></partial></config></revert>"
    assert "reverted" in ask(fw, type="op", cmd=command)
    assert fw.snapshot() == before
    assert fw.pending_of("alice")


@pytest.mark.parametrize("cmd", [FULL, partial("me")])
def test_changes_made_after_the_commit_began_are_not_in_it(fw: Firewall, cmd: str) -> None:
    """A commit takes what the candidate was when it was enqueued; later changes stay pending."""
    put(fw, "<entry name='a'/>")
    fw.next_commits.append(Outcome(never_ends=True))
    ask(fw, type="commit", cmd=cmd)
    assert "<status>ACT</status>" in last_job(fw)
    put(fw, "<entry name='b'/>")
    fw.finish_jobs()
    assert "<result>OK</result>" in last_job(fw)
    assert [e.get("name") for e in fw.config.find_running(f"{SHARED}/entry")] == ["a"]
    assert "yes" in ask(fw, type="op", cmd="<check><pending-changes/></check>")


def test_full_commit_fails_for_anothers_mistake(fw: Firewall) -> None:
    """A full commit fails for somebody else's half-done work, the partial one passes."""
    put(fw, "<certificate>old</certificate>", f"{PROFILES}/entry[@name='hers']", "alice")
    put(fw, "<entry name='mine'/>")
    assert "<result>FAIL</result>" in commit(fw)
    assert "<result>OK</result>" in commit(fw, partial("me"), action="partial")


def test_excluding_device_and_network_leaves_the_certificate_out(fw: Firewall) -> None:
    """A partial commit that excludes device-and-network is a success that changes no certificate."""
    upload(fw, pem(fw))
    put(fw, "<entry name='a'/>")
    command = "<commit><partial><device-and-network>excluded</device-and-network></partial></commit>"
    assert "<result>OK</result>" in commit(fw, command, action="partial")
    assert fw.entry("new", running=True) is None
    assert fw.config.find_running(f"{SHARED}/entry[@name='a']")


def test_dangling_reference_fails_the_commit(fw: Firewall) -> None:
    """A profile with a certificate that does not exist is accepted by set and refused by commit, leaf first."""
    put(fw, "<certificate>nowhere</certificate>", GP)
    job = commit(fw)
    assert "ssl-tls-service-profile -> GP -> certificate 'nowhere' is not a valid reference" in job
    assert fw.profile_certificate("GP") == "old"


def test_expired_certificate_in_use_is_a_warning(fw: Firewall) -> None:
    """A commit with an expired certificate in use is OK with a warning."""
    fw.add_certificate("past", fw.ca.issue("a", days=0.01))
    put(fw, "<certificate>past</certificate>", GP)
    job = commit(fw)
    assert "<result>OK</result>" in job
    assert "past is expired" in job


def test_names_with_blanks_and_dots(fw: Firewall) -> None:
    """Names with blanks, dots and slashes are found by the xpath that names them."""
    for name in ("my profile", "www.example.test", "a/b"):
        assert "succeeded" in put(fw, "<certificate>old</certificate>", f"{PROFILES}/entry[@name='{name}']")
        path = f"{PROFILES}/entry[@name='{name}']/certificate"
        assert ">old</certificate>" in ask(fw, type="config", action="get", xpath=path)


def test_progress_grows_with_the_clock(fw: Firewall, monkeypatch: pytest.MonkeyPatch) -> None:
    """A job waits as PEND, then is ACT with growing progress below 100, and FIN with 100 when its time is over."""
    put(fw, "<entry name='a'/>")
    fw.next_commits.append(Outcome(seconds=100))
    began = time.monotonic()
    ask(fw, type="commit", cmd=FULL)
    seen = []
    for later in (1, 50, 99.9, 101):
        monkeypatch.setattr(time, "monotonic", lambda later=later: began + later)
        job = last_job(fw)
        seen.append((job.split("<status>")[1][:4].strip("<"), int(job.split("<progress>")[1].split("<")[0])))
    assert [status for status, _ in seen] == ["PEND", "ACT", "ACT", "FIN"]
    assert [progress for _, progress in seen] == sorted(progress for _, progress in seen)
    assert (seen[2][1], seen[3][1]) == (99, 100)
    put(fw, "<entry name='b'/>")
    fw.next_commits.append(Outcome(seconds=1, never_ends=True))
    ask(fw, type="commit", cmd=FULL)
    monkeypatch.setattr(time, "monotonic", lambda: began + 1000)
    assert "<progress>99</progress>" in last_job(fw)


# What imports do, and what they refuse.


def test_same_name_again_keeps_what_refers_to_it(fw: Firewall) -> None:
    """An import over an existing name replaces it in place; the profile serves the new one after the commit."""
    fresh = pem(fw)
    upload(fw, fresh, certificate_name="old")
    commit(fw)
    stored = fw.certificate("old", running=True)
    assert stored is not None
    assert (fw.key_of("old", running=True) or b"none") in fresh
    assert fw.profile_certificate("GP") == "old"


def test_key_that_does_not_fit_is_refused_as_keypair_and_accepted_in_two_steps(fw: Firewall) -> None:
    """The lock-out of two-step imports: the second half is taken though it does not fit, and the commit passes."""
    one, other = fw.ca.issue("a"), fw.ca.issue("a")
    assert 'status="error"' in upload(fw, one.cert_pem + other.key_pem)
    assert fw.entry("new") is None
    assert "Successfully" in upload(fw, one.cert_pem, category="certificate")
    assert fw.key_of("new") is None
    assert "Successfully" in upload(fw, other.key_pem, category="private-key")
    put(fw, "<certificate>new</certificate>", GP)
    assert "<result>OK</result>" in commit(fw)
    assert fw.key_of("new", running=True) == other.key_pem


def test_private_key_needs_its_certificate_first(fw: Firewall) -> None:
    """A key for a name that is not there is refused and leaves nothing."""
    before = fw.snapshot()
    assert 'status="error"' in upload(fw, fw.ca.issue("a").key_pem, category="private-key", certificate_name="none")
    assert fw.snapshot() == before


@pytest.mark.parametrize("modern", [False, True])
def test_pkcs12_both_ways(fw: Firewall, modern: bool) -> None:  # noqa: FBT001
    """PKCS#12 in the old and the modern encryption is taken; by switch the modern one is not."""
    if modern and not hasattr(serialization.PrivateFormat, "PKCS12"):
        pytest.skip("this cryptography writes no PBES2")
    made = fw.ca.issue("a")
    assert "Successfully" in upload(fw, made.pkcs12("pw", modern=modern), format="pkcs12", passphrase="pw")
    assert fw.key_of("new") == made.key_pem
    fw.switches = Switches(pbes2_in_pkcs12=False)
    answer = upload(fw, made.pkcs12("pw", modern=modern), format="pkcs12", passphrase="pw")
    assert ("Successfully" in answer) is not modern


def test_wrong_passphrase(fw: Firewall) -> None:
    """A PKCS#12 and an encrypted PEM key open with their passphrase only, and one is always needed with a key."""
    from tests.lab.ca import pem_of_key

    made = fw.ca.issue("a")
    locked = made.cert_pem + pem_of_key(made.key, "right")
    assert "Failed to decrypt" in upload(fw, made.pkcs12("right"), format="pkcs12", passphrase="wrong")
    assert "Failed to decrypt" in upload(fw, locked, passphrase="wrong")
    assert "Successfully" in upload(fw, locked, passphrase="right")
    assert "code = '400'" in upload(fw, made.cert_pem + made.key_pem, passphrase="")
    assert 'code="17"' in upload(fw, made.cert_pem + made.key_pem, passphrase="p" * 32)


def test_chain_switches(fw: Firewall) -> None:
    """A chain in PKCS#12 is ignored, refused, or kept as entries; in PEM it stays in the entry or is refused."""
    made = fw.ca.intermediate().issue("a")
    bundle = made.pkcs12("pw", chain=True)
    upload(fw, bundle, format="pkcs12", passphrase="pw")
    names = [e.get("name") for e in fw.config.find("/config/shared/certificate/entry")]
    assert names == ["old", "new"]
    fw.switches = Switches(pkcs12_chain="refuse", pem_chain="refuse")
    assert 'status="error"' in upload(fw, bundle, format="pkcs12", passphrase="pw")
    assert 'status="error"' in upload(fw, made.fullchain_pem + made.key_pem)
    fw.switches = Switches(pkcs12_chain="entries")
    upload(fw, bundle, format="pkcs12", passphrase="pw")
    assert fw.entry("new_ca1") is not None
    upload(fw, made.fullchain_pem + made.key_pem)
    entry = fw.entry("new")
    assert entry is not None
    assert (entry.findtext("public-key") or "").count("BEGIN CERTIFICATE") == 2


@pytest.mark.parametrize(
    "data", [b"", b"\x30\x82\x01", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"]
)
@pytest.mark.parametrize("form", ["pem", "pkcs12"])
@pytest.mark.parametrize("category", ["certificate", "private-key", "keypair"])
def test_garbage_is_refused_and_leaves_nothing(fw: Firewall, data: bytes, form: str, category: str) -> None:
    """Nothing that is no certificate gets into the candidate."""
    before = fw.snapshot()
    assert 'status="error"' in upload(fw, data, format=form, category=category, certificate_name="old")
    assert fw.snapshot() == before


def test_counted_errors_go_away(fw: Firewall) -> None:
    """The transient "begining" error comes as often as it is switched on for, then the same import succeeds."""
    fw.switches = Switches(begin_tag_errors=1)
    assert "begining" in upload(fw, pem(fw))
    assert "Successfully" in upload(fw, pem(fw))


def test_vsys_import(fw: Firewall) -> None:
    """With ``vsys`` the entry lands in that virtual system; an unknown one is refused."""
    upload(fw, pem(fw), vsys="vsys1")
    assert fw.entry("new", vsys="vsys1") is not None
    assert fw.entry("new") is None
    assert 'code="17"' in upload(fw, pem(fw), vsys="vsys9")


@pytest.mark.parametrize(("kind", "maximum"), [(Firewall, 63), (Panorama, 31)])
def test_names_have_a_maximum(kind: Any, maximum: int) -> None:
    """The longest name is taken and one more character is not: 63 on a firewall, 31 on a Panorama."""
    device = prepared(kind(commit_seconds=0))
    assert "Successfully" in upload(device, pem(device), certificate_name="n" * maximum)
    assert f"at most {maximum} characters" in upload(device, pem(device), certificate_name="n" * (maximum + 1))
    path = f"{device.shared_path()}/ssl-tls-service-profile"
    assert "succeeded" in put(device, "<certificate>c</certificate>", f"{path}/entry[@name='{'n' * maximum}']")
    assert 'code="12"' in put(device, f"<entry name='{'n' * (maximum + 1)}'/>", path)


def _two_steps(fw: Firewall) -> str:
    upload(fw, fw.ca.issue("a").cert_pem, category="certificate")
    return upload(fw, fw.ca.issue("b").key_pem, category="private-key")


def _commit_keyless(fw: Firewall) -> str:
    upload(fw, fw.ca.issue("a").cert_pem, category="certificate")
    put(fw, "<certificate>new</certificate>", GP)
    return commit(fw)


def _commit_nameless(fw: Firewall) -> str:
    made = fw.ca.issue("a", common_name="")
    upload(fw, made.cert_pem + made.key_pem)
    return commit(fw)


def _import_again(fw: Firewall) -> str:
    data = pem(fw)
    upload(fw, data)
    commit(fw)
    upload(fw, data)
    return ask(fw, type="op", cmd="<check><pending-changes/></check>")


def _commit_described(fw: Firewall) -> str:
    put(fw, "<entry name='a'/>")
    return ask(fw, type="commit", cmd="<commit><description>why</description></commit>")


def _commit_partial_without_action(fw: Firewall) -> str:
    put(fw, "<entry name='a'/>")
    return ask(fw, type="commit", cmd=partial("me"))


def _poll(fw: Firewall) -> str:
    put(fw, "<entry name='a'/>")
    return commit(fw)


def _delete(fw: Firewall) -> str:
    put(fw, "<entry name='a'/>")
    return ask(fw, type="config", action="delete", xpath=f"{SHARED}/entry[@name='a']")


def _fields(fw: Firewall) -> str:
    upload(fw, pem(fw))
    entry = fw.entry("new")
    return " ".join(child.tag for child in entry) if entry is not None else ""


def _past(fw: Firewall) -> str:
    return upload(fw, fw.ca.issue("a", days=0.01).cert_pem, category="certificate")


def _empty_commit(fw: Firewall) -> str:
    return ask(fw, type="commit", cmd=FULL)


def _locks(fw: Firewall) -> str:
    return ask(fw, type="op", cmd="<show><commit-locks><vsys>all</vsys></commit-locks></show>")


SWITCHES: list[tuple[dict[str, Any], Any, str, str]] = [  # switch, scenario, what it says by default and switched
    ({"private_key_does_not_fit": "refuse"}, _two_steps, "Successfully", "do not match"),
    ({"profile_without_key": "refuse"}, _commit_keyless, ">OK<", "has no private key"),
    ({"common_name_required": False}, _commit_nameless, "missing 'common-name'", ">OK<"),
    ({"identical_import_is_change": False}, _import_again, "yes", "no"),
    ({"commit_description": "refuse"}, _commit_described, "enqueued", "description  is unexpected"),
    ({"description_maximum": 2}, _commit_described, "enqueued", "at most 2 characters"),
    ({"partial_needs_action": True}, _commit_partial_without_action, "enqueued", "partial  is unexpected"),
    ({"session_timeout_errors": 1}, _poll, "FIN", 'code="22"'),
    ({"delete_seven": 1}, _delete, 'code="20"', 'code="7"'),
    ({"field_order": "other"}, _fields, "subject-hash issuer-hash", "algorithm ca common-name"),
    ({"expired_refused": False}, _past, "is expired", "Successfully"),
    ({"no_changes": "19"}, _empty_commit, 'code="13"', 'code="19"'),
    ({"commit_locks_vsys": False}, _locks, "<commit-locks>", "vsys  is unexpected"),
    ({"passphrase_maximum": 0}, lambda fw: upload(fw, pem(fw)), "Successfully", "at most 0 characters"),
    ({"text_before_begin": "accept"}, lambda fw: upload(fw, b"Bag\n" + pem(fw)), "begining", "Successfully"),
]


@pytest.mark.parametrize(
    ("switch", "scenario", "usual", "switched"), SWITCHES, ids=[next(iter(s[0])) for s in SWITCHES]
)
def test_switch(switch: dict[str, Any], scenario: Any, usual: str, switched: str) -> None:
    """Each switch changes what a device says, from the usual answer to the other one."""
    assert usual in scenario(prepared(Firewall(commit_seconds=0)))
    assert switched in scenario(prepared(Firewall(commit_seconds=0, switches=Switches(**switch))))


def test_template_switches() -> None:
    """``target-tpl-vsys`` counts only by switch, and an unknown template is refused by switch."""
    pano = prepared(Panorama(commit_seconds=0, switches=Switches(target_tpl_vsys_ignored=False)))
    upload(pano, pem(pano), target_tpl="T", target_tpl_vsys="vsys1")
    assert pano.entry("new", below=pano.template_path("T", vsys="vsys1")) is not None
    pano.switches = Switches(import_creates_template=False)
    assert 'code="17"' in upload(pano, pem(pano), target_tpl="other")


def test_unauthorized_status_by_switch(fw: Firewall) -> None:
    """The reply with status unauth comes with HTTP 200, by switch with 403."""
    fw.add_admin("you", role=custom_role(hidden=("show jobs",)))
    headers, body = {"X-PAN-KEY": fw.admins["you"].key}, b"type=op&cmd=<show><jobs><all/></jobs></show>"
    request = panos_requests.read("POST", "/api/", headers, body)
    for status in (200, 403):
        fw.switches = Switches(unauth_http_status=status)
        assert fw.answer(request).status == status


def test_config_lock_of_another_stops_writes_and_imports(fw: Firewall) -> None:
    """While another administrator holds the config lock nothing of mine gets in."""
    fw.locks.add("config", "alice")
    assert "currently locked by alice" in put(fw, "<entry name='a'/>")
    assert "currently locked by alice" in upload(fw, pem(fw))
    assert not fw.pending_of("me")


# -- serving


def served(port: int) -> bytes:
    """Return the certificate that a port serves, DER."""
    return ssl.PEM_cert_to_DER_cert(ssl.get_server_certificate(("127.0.0.1", port)))


def test_portal_serves_what_is_committed(live: Firewall) -> None:
    """A portal and a gateway show the running certificate of their profile, with its chain, not the candidate's."""
    portals = [live.add_portal("GP"), live.add_portal("GP", name="gw", gateway=True)]
    made = live.ca.intermediate().issue(live.hostname)
    before = served(portals[0].port)
    upload(live, made.fullchain_pem + made.key_pem)
    put(live, "<certificate>new</certificate>", GP)
    assert [served(p.port) for p in portals] == [before, before]
    commit(live)
    leaf = ssl.PEM_cert_to_DER_cert(made.cert_pem.decode())
    assert [served(p.port) for p in portals] == [leaf, leaf]
    context = ssl.create_default_context(cadata=live.ca_pem.decode())
    with socket.create_connection(("127.0.0.1", portals[0].port), 5) as sock:
        context.wrap_socket(sock, server_hostname=live.hostname).close()  # the chain leads to the root
    assert live.restarts == 0


def test_issuer_imported_as_its_own_entry_is_served_along(live: Firewall) -> None:
    """An intermediate that is an entry of its own completes the chain on the wire."""
    portal = live.add_portal("GP")
    intermediate = live.ca.intermediate()
    made = intermediate.issue(live.hostname)
    upload(live, made.cert_pem + made.key_pem, certificate_name="old")
    upload(live, intermediate.pem, category="certificate", certificate_name="intermediate")
    commit(live)
    context = ssl.create_default_context(cadata=live.ca_pem.decode())
    with socket.create_connection(("127.0.0.1", portal.port), 5) as sock:
        context.wrap_socket(sock, server_hostname=live.hostname).close()


def test_management_with_a_key_that_does_not_fit_is_gone(live: Firewall) -> None:
    """After a commit of a mismatched pair for management, nobody gets in any more: the lock-out of real devices."""
    live.use_for_management("GP")
    assert served(live.port)
    upload(live, live.ca.issue("a").key_pem, category="private-key", certificate_name="old")
    assert "<result>OK</result>" in commit(live)
    with pytest.raises(OSError):  # noqa: PT011 - reset, EOF or broken pipe, as the kernel likes
        served(live.port)


def test_management_certificate_is_served_from_the_running_configuration(live: Firewall) -> None:
    """Choosing another profile for management takes effect with the commit, on the same port."""
    live.add_profile("MGMT", certificate="mgmt")
    before = served(live.port)
    system = "/config/devices/entry[@name='localhost.localdomain']/deviceconfig/system"
    put(live, "<ssl-tls-service-profile>MGMT</ssl-tls-service-profile>", system)
    assert served(live.port) == before
    commit(live)
    assert served(live.port) != before
    assert live.restarts == 1


# -- the front end


def connection(device: Firewall) -> http.client.HTTPSConnection:
    """Return a verified connection."""
    context = ssl.create_default_context(cadata=device.ca_pem.decode())
    return http.client.HTTPSConnection("localhost", device.port, timeout=10, context=context)


VERSION = "type=version"


@pytest.mark.parametrize("path", ["/api", "/api/"])
@pytest.mark.parametrize("way", ["header", "lower header", "query", "form", "multipart", "basic"])
def test_credentials_count_wherever_they_may_stand(live: Firewall, way: str, path: str) -> None:
    """The key counts in the header under any case, the query, the form and the multipart body, and Basic counts."""
    key = live.admins["me"].key
    headers: dict[str, str] = {"Content-Type": "application/x-www-form-urlencoded"}
    body, query = VERSION, ""
    if way.endswith("header"):
        headers["X-PAN-KEY" if way == "header" else "x-pan-key"] = key
    elif way == "query":
        query = "?" + urlencode({"key": key})
    elif way == "form":
        body += "&" + urlencode({"key": key})
    elif way == "multipart":
        headers["Content-Type"] = "multipart/form-data; boundary=B"
        parts = {"type": "version", "key": key}.items()
        body = (
            "".join(f'--B\r\nContent-Disposition: form-data; name="{k}"\r\n\r\n{v}\r\n' for k, v in parts) + "--B--\r\n"
        )
    else:
        headers["Authorization"] = "Basic " + base64.b64encode(b"me:mine").decode()
    conn = connection(live)
    for _ in range(2):  # the second on the same connection
        conn.request("POST", path + query, body, headers)
        answer = conn.getresponse()
        assert (answer.status, answer.headers["Content-Type"]) == (200, "application/xml")
        assert b"<sw-version>" in answer.read()
    conn.close()


def test_without_credentials_or_elsewhere(live: Firewall) -> None:
    """No key is 403 in the front end's dialect; another path is 404."""
    conn = connection(live)
    conn.request("GET", "/api/?type=version")
    answer = conn.getresponse()
    assert (answer.status, b"Invalid Credential<" in answer.read()) == (403, True)
    conn.request("GET", "/restapi/")
    assert conn.getresponse().status == 404
    conn.close()


@contextlib.contextmanager
def faulty(live: Firewall, kind: Fault, **more: Any) -> Iterator[http.client.HTTPResponse]:
    """Give the answer under a fault."""
    live.faults.clear()
    live.faults.add(kind, **more)
    with contextlib.closing(connection(live)) as conn:
        conn.request("GET", "/api/?type=version", headers={"X-PAN-KEY": live.admins["me"].key})
        yield conn.getresponse()


def test_oversized_bomb_slow_and_raw(live: Firewall) -> None:
    """Each of these faults does what its name says."""
    with faulty(live, Fault.OVERSIZED, size=3_000_000) as answer:
        assert len(answer.read()) > 3_000_000
    with faulty(live, Fault.ENTITY_BOMB) as answer:
        assert b"<!ENTITY l9" in answer.read()
    with faulty(live, Fault.RAW, reply=Reply(b"teapot", 418, "text/plain")) as answer:
        assert (answer.status, answer.read()) == (418, b"teapot")
    began = time.monotonic()
    with faulty(live, Fault.SLOW, pause=0.002) as answer:
        length = len(answer.read())
    assert time.monotonic() - began >= 0.002 * length


def test_nth_occurrence(fw: Firewall) -> None:
    """A rule for the second occurrence leaves the first and the third alone."""
    rule = fw.faults.add(Fault.BAD_GATEWAY, type="op", nth=2)
    request = panos_requests.read("POST", "/api/", {}, b"type=op&cmd=x")
    assert [fw.faults.for_(request) for _ in range(3)] == [None, rule, None]


# -- pairs and Panorama


def test_ha_pair_replicates_certificates_and_not_the_choice_for_management() -> None:
    """A commit on the active unit brings certificate and profile to the passive one, whose management stays its own."""
    active, passive = prepared(Firewall(commit_seconds=0)), prepared(Firewall("fw02.example.test", commit_seconds=0))
    passive.add_profile("OWN", certificate="own")
    active.pair_with(passive)
    before = passive.served()
    upload(active, pem(active))
    put(active, "<certificate>new</certificate>", GP)
    system = "/config/devices/entry[@name='localhost.localdomain']/deviceconfig/system"
    put(active, "<ssl-tls-service-profile>GP</ssl-tls-service-profile>", system)
    commit(active)
    assert passive.certificate("new", running=True) == active.certificate("new", running=True)
    assert passive.key_of("new") == active.key_of("new")
    assert passive.profile_certificate("GP") == "new"
    assert passive.served() == before
    assert active.served() == active.certificate("new")


def test_passive_refuses_writes_by_switch() -> None:
    """With the switch a passive unit answers code 15 to set, import and commit; after the fail-over it takes them."""
    active, passive = prepared(Firewall(commit_seconds=0)), prepared(Firewall(commit_seconds=0))
    active.pair_with(passive)
    passive.switches.passive_refuses_writes = True
    for answer in (
        put(passive, "<entry name='a'/>"),
        upload(passive, pem(passive)),
        ask(passive, type="commit", cmd=FULL),
    ):
        assert 'code="15"' in answer
    assert "<state>passive</state>" in ask(
        passive, type="op", cmd="<show><high-availability><state/></high-availability></show>"
    )
    active.fail_over()
    assert "succeeded" in put(passive, "<entry name='a'/>")


@pytest.fixture
def pano(fw: Firewall) -> Panorama:
    """Return a Panorama with a template in a stack over one firewall."""
    made: Panorama = prepared(Panorama(commit_seconds=0))
    made.attach(fw)
    made.add_template("T")
    made.add_stack("S", templates=["T"], devices=[fw.serial, "999"])
    return made


PUSH = "<commit-all><template-stack><name>S</name>{}</template-stack></commit-all>"


def test_push_names_each_device(pano: Panorama, fw: Firewall) -> None:
    """The job on Panorama is OK while one device failed and one is pending; only good devices change."""
    upload(pano, pem(pano), target_tpl="T")
    commit(pano)
    pano.push_results[fw.serial] = DeviceResult("", "", ok=False, lines=("Validation Error:",))
    pano.push_results["999"] = DeviceResult("", "", never_ends=True)
    job = commit(pano, PUSH.format(""), action="all")
    assert job.count("<result>OK</result>") == 1
    assert job.count("<result>FAIL</result>") == 1
    assert job.count("<result>PEND</result>") == 1
    assert fw.entry("new", running=True) is None


@pytest.mark.parametrize("template", ["", "T"])
def test_profiles_of_panorama_and_template_may_name_alike_certificates(pano: Panorama, template: str) -> None:
    """Panorama and each template see their own certificates alone: a scene with both can commit a change of either."""
    pano.add_profile("GP", certificate="old")
    pano.add_profile("GP", certificate="old", below=pano.template_path("T"))
    assert pano.entry("old") is not None
    assert pano.entry("old", below=pano.template_path("T")) is not None
    upload(pano, pem(pano), **({"target_tpl": template} if template else {}))
    assert "<result>OK</result>" in commit(pano)


def test_push_to_one_device_and_validation_there(pano: Panorama, fw: Firewall) -> None:
    """Only the named device is in the job; what its own validation refuses is a FAIL and changes nothing there."""
    place = pano.template_path("T") + "/ssl-tls-service-profile/entry[@name='typo']"
    put(pano, "<certificate>old</certificate>", place)
    pano.config.put(pano.template_path("T"), _entry("x"))
    pano.config.committed(pano.config.with_changes(lambda *_: True), lambda *_: True)
    before = fw.snapshot()
    job = commit(pano, PUSH.format(f"<device><member>{fw.serial}</member></device>"), action="all")
    assert job.count("<serial-no>") == 1
    assert "<result>FAIL</result>" in job
    assert "is missing 'protocol-settings'" in job
    assert fw.snapshot() == before


def test_push_of_an_unknown_stack_or_a_template_in_no_stack(pano: Panorama) -> None:
    """What can reach no device is refused."""
    pano.add_template("alone")
    for cmd in (
        PUSH.replace(">S<", ">X<").format(""),
        "<commit-all><template><name>alone</name></template></commit-all>",
    ):
        assert "is not a valid reference" in ask(pano, type="commit", action="all", cmd=cmd)


def test_local_values_win_over_the_template_unless_forced(pano: Panorama, fw: Firewall) -> None:
    """A local override stays; force-template-values takes the template's value."""
    path = pano.template_path("T") + "/update-schedule"
    pano.config.put(path, _entry("e"))
    push = PUSH.format("")
    commit(pano, push, action="all")
    where = "/config/shared/update-schedule/entry[@name='e']"
    put(fw, "<fqdn>local</fqdn>", where)
    commit(fw)
    commit(pano, push, action="all")
    assert fw.config.find_running(f"{where}/fqdn")[0].text == "local"
    commit(pano, PUSH.format("<force-template-values>yes</force-template-values>"), action="all")
    assert fw.config.find_running(f"{where}/fqdn")[0].text == "before"


# -- the whole


def test_two_hundred_devices_in_one_process() -> None:
    """Two hundred firewalls listen at once, each on its own port, and all answer."""
    first = Firewall()
    many = [Firewall(f"fw{n}.example.test", tls=first.served_pair()) for n in range(200)]
    try:
        for device in many:
            device.add_admin("me")
            device.start()
        for device in many[::40]:
            assert served(device.port)
        assert len({device.port for device in many}) == 200
    finally:
        for device in many:
            device.stop()
