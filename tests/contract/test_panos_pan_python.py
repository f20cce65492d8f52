"""pan-python, a client that nobody here wrote, works against the emulator: over TLS that it verifies."""

from __future__ import annotations

import http.client
import ssl
import time
from typing import TYPE_CHECKING, Any, Optional

import pytest

xapi = pytest.importorskip("pan.xapi")

from tests.lab.panos import Fault, Firewall, Outcome, Panorama, Restart, custom_role  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Iterator

PROFILES = "/config/shared/ssl-tls-service-profile"
PARTIAL = "<commit><partial><admin><member>certhooks</member></admin></partial></commit>"


def client(device: Any, **more: Any) -> Any:
    """Return a PanXapi that verifies the emulator's certificate."""
    context = ssl.create_default_context(cadata=device.ca_pem.decode())
    more.setdefault("api_key", device.admins["certhooks"].key)
    return xapi.PanXapi(hostname="localhost", port=device.port, ssl_context=context, timeout=10, **more)


@pytest.fixture
def fw() -> Iterator[Firewall]:
    """Return a firewall with an administrator of a custom role, a superuser, and a profile in use by a portal."""
    with Firewall("fw01.example.test", commit_seconds=0.05) as firewall:
        firewall.add_admin("certhooks", password="s3cret", role=custom_role())
        firewall.add_admin("alice")
        firewall.add_profile("GP_PORTAL", certificate="old")
        yield firewall


def wait(api: Any, number: str) -> Any:
    """Poll a job to its end with pan-python, bounded, and return the ``job`` element."""
    for _ in range(200):
        api.op(f"<show><jobs><id>{number}</id></jobs></show>")
        job = api.element_root.find("result/job")
        if job.findtext("status") == "FIN":
            return job
        time.sleep(0.02)
    raise AssertionError("the job does not end")


def test_keygen_gives_the_key_and_a_wrong_password_does_not(fw: Firewall) -> None:
    """Keygen returns the administrator's key; a wrong password is HTTP 403."""
    api = client(fw, api_key=None, api_username="certhooks", api_password="s3cret")
    api.keygen()
    assert api.api_key == fw.admins["certhooks"].key
    with pytest.raises(xapi.PanXapiError, match="403"):
        client(fw, api_key=None, api_username="certhooks", api_password="wrong").keygen()


def test_tls_is_verified(fw: Firewall) -> None:
    """A client that trusts somebody else gets no further than the handshake."""
    with pytest.raises(xapi.PanXapiError, match="CERTIFICATE_VERIFY_FAILED"):
        xapi.PanXapi(hostname="localhost", port=fw.port, api_key="x", ssl_context=ssl.create_default_context()).op(
            "show system info", cmd_xml=True
        )
    assert fw.count() == 0


def test_config_get_set_edit_delete_show(fw: Firewall) -> None:
    """The candidate changes at once, the running configuration does not; codes are 7, 19 and 20."""
    api = client(fw)
    entry = f"{PROFILES}/entry[@name='GP_PORTAL']"
    api.get(f"{PROFILES}/entry[@name='none']")
    assert (api.status, api.status_code) == ("success", "7")
    api.get(entry)
    assert api.status_code == "19"
    api.set(entry, "<certificate>new</certificate>")
    assert (api.status_code, fw.profile_certificate("GP_PORTAL", running=False)) == ("20", "new")
    assert fw.profile_certificate("GP_PORTAL") == "old"
    api.edit(f"{entry}/certificate", "<certificate>other</certificate>")
    assert fw.profile_certificate("GP_PORTAL", running=False) == "other"
    api.show(f"{entry}/certificate")
    assert api.xml_result() == "<certificate>old</certificate>"
    api.delete(entry)
    assert fw.profile_certificate("GP_PORTAL", running=False) is None
    api.delete(entry)
    assert api.status_code == "7"
    with pytest.raises(xapi.PanXapiError, match="No such node"):
        api.show("/config/shared/nothing")


def test_rename_takes_the_references_along(fw: Firewall) -> None:
    """An entry under its new name is still the one that the profile uses."""
    api = client(fw)
    api.rename("/config/shared/certificate/entry[@name='old']", "older")
    assert fw.profile_certificate("GP_PORTAL", running=False) == "older"


def test_import_commit_and_serve(fw: Firewall) -> None:
    """A keypair as PKCS#12, bound and committed by pan-python's ``sync``, is served; others' edits wait."""
    portal = fw.add_portal("GP_PORTAL")
    fw.edit_as("alice", "/config/shared/address", "<entry name='half-done'/>")
    new = fw.ca.issue("fw01.example.test")
    api = client(fw)
    params = {"format": "pkcs12", "certificate-name": "new", "passphrase": "abc"}
    api.import_file(category="keypair", file=new.pkcs12("abc"), extra_qs=params)
    assert "Successfully imported new into candidate configuration" in api.xml_result()
    api.set(f"{PROFILES}/entry[@name='GP_PORTAL']", "<certificate>new</certificate>")
    api.commit(PARTIAL, action="partial", sync=True, interval=0.02)
    assert api.status_detail == "Configuration committed successfully"
    pem = ssl.get_server_certificate(("127.0.0.1", portal.port))
    assert ssl.PEM_cert_to_DER_cert(pem) == ssl.PEM_cert_to_DER_cert(new.cert_pem.decode())
    assert fw.pending_of("alice")
    assert not fw.pending_of("certhooks")


def test_asynchronous_commit_runs_through_its_states(fw: Firewall) -> None:
    """A commit is a job that a client polls: result PEND until it is FIN; a second one meanwhile is refused."""
    fw.next_commits.append(Outcome(never_ends=True))
    api = client(fw)
    api.set("/config/shared/address", "<entry name='a'/>")
    api.commit("<commit></commit>")
    number = api.element_root.findtext("result/job")
    api.op(f"<show><jobs><id>{number}</id></jobs></show>")
    assert api.element_root.findtext("result/job/result") == "PEND"
    with pytest.raises(xapi.PanXapiError, match="Another commit/validate is in progress"):
        api.commit("<commit></commit>")
    fw.finish_jobs()
    assert wait(api, number).findtext("result") == "OK"
    api.commit("<commit></commit>")
    assert (api.status, api.status_code) == ("success", "13")


def test_failed_commit_is_a_success_with_a_failure_inside(fw: Firewall) -> None:
    """Sync commits of pan-python return although the job failed, and nothing is running that failed."""
    api = client(fw)
    api.set(f"{PROFILES}/entry[@name='typo']", "<certificate>old</certificate>")
    api.commit("<commit></commit>", sync=True, interval=0.02)
    assert api.status == "success"
    assert "typo  is missing 'protocol-settings'" in api.status_detail
    assert fw.profile_certificate("typo") is None
    assert fw.pending_of("certhooks")


def test_op_commands(fw: Firewall) -> None:
    """Words and XML are both understood; what is unknown is named."""
    api = client(fw)
    api.op("show system info", cmd_xml=True)
    assert api.element_root.findtext("result/system/hostname") == "fw01.example.test"
    api.op("<show><admins/></show>")
    assert [e.findtext("admin") for e in api.element_root.iter("entry") if e.find("self") is not None] == ["certhooks"]
    with pytest.raises(xapi.PanXapiError, match="show -> nonsense  is unexpected"):
        api.op("<show><nonsense/></show>")


def test_restart_after_the_management_certificate_changed(fw: Firewall) -> None:
    """The web server drops, refuses, answers 502 and 403, and then serves the new certificate."""
    fw.add_profile("MGMT", certificate="mgmt-old")
    fw.use_for_management("MGMT")
    fw.restart = Restart(refuse=0.7, bad_gateway=0.05, invalid_credentials=1)
    new = fw.ca.issue(["localhost", "fw01.example.test"])
    api = client(fw)
    params = {"format": "pem", "certificate-name": "mgmt-old", "passphrase": "abc"}
    api.import_file(category="keypair", file=new.cert_pem + new.key_pem, extra_qs=params)
    api.commit("<commit></commit>")
    number = api.element_root.findtext("result/job")
    seen = []
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        try:
            job = wait(api, number)
        except (xapi.PanXapiError, OSError, http.client.HTTPException) as error:
            seen.append(str(error))
            time.sleep(0.01)
        else:
            break
    assert job.findtext("result") == "OK"
    text = "\n".join(seen)
    assert "Connection refused" in text
    assert text.index("Connection refused") < text.index("502") < text.index("403")
    assert seen[-1].endswith("Forbidden")
    pem = ssl.get_server_certificate(("127.0.0.1", fw.port))
    assert ssl.PEM_cert_to_DER_cert(pem) == ssl.PEM_cert_to_DER_cert(new.cert_pem.decode())
    assert fw.restarts == 1


def test_raw_log_shows_what_stood_in_the_url(fw: Firewall) -> None:
    """pan-python writes key and passphrase of an import into the URL, and the log of requests shows it."""
    api = client(fw)
    params = {"format": "pem", "certificate-name": "n", "passphrase": "hush"}
    made = fw.ca.issue("a")
    api.import_file(category="keypair", file=made.cert_pem + made.key_pem, extra_qs=params)
    api.op("<show><admins/></show>")
    first, second = fw.requests
    assert "passphrase=hush" in first.target
    assert fw.admins["certhooks"].key in first.target
    assert "?" not in second.target
    assert fw.kinds() == ["import keypair", "op"]


@pytest.mark.parametrize(
    ("kind", "match"),
    [
        (Fault.BAD_GATEWAY, "502"),
        (Fault.CONTENT_TYPE, "no handler for content-type"),
        (Fault.ERROR_CODE_1, "None"),
        (Fault.DROP_BEFORE, None),
    ],
)
def test_faults_reach_the_client(fw: Firewall, kind: Fault, match: Optional[str]) -> None:
    """A fault rule spoils the answers it matches, once, and the next one is good again."""
    fw.faults.add(kind, type="op", text="pending", nth=1)
    api = client(fw)
    with pytest.raises((xapi.PanXapiError, OSError, http.client.HTTPException), match=match):
        api.op("check pending-changes", cmd_xml=True)
    api.op("check pending-changes", cmd_xml=True)
    assert api.status == "success"


def test_dropped_after_means_done(fw: Firewall) -> None:
    """With "drop after" the client cannot know, and the change is made; with "before" it is not."""
    for kind, expected in ((Fault.DROP_BEFORE, "old"), (Fault.DROP_AFTER, "new")):
        fw.faults.clear()
        fw.faults.add(kind, type="config", action="set")
        with pytest.raises((xapi.PanXapiError, OSError, http.client.HTTPException)):
            client(fw).set(f"{PROFILES}/entry[@name='GP_PORTAL']", "<certificate>new</certificate>")
        assert fw.profile_certificate("GP_PORTAL", running=False) == expected


def test_truncated_and_redirected_answers(fw: Firewall) -> None:
    """A truncated answer ends early; a redirect leads a careless client to another request."""
    fw.faults.add(Fault.TRUNCATED, type="op")
    with pytest.raises((http.client.IncompleteRead, OSError)):
        client(fw).op("show system info", cmd_xml=True)
    fw.faults.clear()
    fw.faults.add(Fault.REDIRECT, type="config")
    with pytest.raises(xapi.PanXapiError, match="403"):  # followed as GET and without the key
        client(fw).set("/config/shared/address", "<entry name='a'/>")
    assert fw.requests[-1].method == "GET"
    assert not fw.pending_of("certhooks")


def test_panorama_template_import_commit_and_push(fw: Firewall) -> None:
    """What is imported into a template reaches the firewall by commit and commit-all, and is marked as pushed."""
    with Panorama(commit_seconds=0.02) as pano:
        pano.add_admin("certhooks")
        pano.attach(fw)
        pano.add_template("T")
        pano.add_stack("S", templates=["T"], devices=[fw.serial])
        api = client(pano)
        new = fw.ca.issue("fw01.example.test")
        params = {"format": "pem", "certificate-name": "pushed", "passphrase": "abc", "target-tpl": "T"}
        api.import_file(category="keypair", file=new.cert_pem + new.key_pem, extra_qs=params)
        api.commit(PARTIAL, action="partial", sync=True, interval=0.02)
        api.commit("<commit-all><template-stack><name>S</name></template-stack></commit-all>", action="all")
        job = wait(api, api.element_root.findtext("result/job"))
        assert (job.findtext("type"), job.findtext("devices/entry/result")) == ("CommitAll", "OK")
        entry = fw.entry("pushed", running=True)
        assert entry is not None
        assert (entry.get("ptpl"), entry.get("src")) == ("T", "tpl")
        assert fw.key_of("pushed") == new.key_pem


def test_import_without_template_lands_in_panorama_itself() -> None:
    """Panorama's own certificates are below /config/panorama; an unknown template is made by an import into it."""
    with Panorama() as pano:
        pano.add_admin("certhooks")
        api = client(pano)
        made = pano.ca.issue("p")
        params = {"format": "pem", "certificate-name": "own", "passphrase": "abc"}
        api.import_file(category="keypair", file=made.cert_pem + made.key_pem, extra_qs=params)
        assert pano.config.find("/config/panorama/certificate/entry[@name='own']")
        where = {"target-tpl": "NEW", "target-tpl-vsys": "vsys1"}
        api.import_file(category="keypair", file=made.cert_pem + made.key_pem, extra_qs={**params, **where})
        assert pano.entry("own", below=pano.template_path("NEW")) is not None
        target = "<template><name>NEW</name><vsys>vsys1</vsys></template>"
        api.op(f"<set><system><setting><target>{target}</target></setting></system></set>")
        api.import_file(category="keypair", file=made.cert_pem + made.key_pem, extra_qs=params)
        assert pano.entry("own", below=pano.template_path("NEW", vsys="vsys1")) is not None
        api.op("<set><system><setting><target><none/></target></setting></system></set>")
        api.import_file(
            category="keypair", file=made.cert_pem + made.key_pem, extra_qs={**params, "certificate-name": "o2"}
        )
        assert pano.config.find("/config/panorama/certificate/entry[@name='o2']")
