"""What ``vcenter_instcert`` refuses before it sends anything, what it is refused, and kill -9 at every step."""

from __future__ import annotations

import base64
import datetime as dt
import json
import re
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING, Any, Optional

import pytest

from certhooks import probe
from certhooks.address import Address
from certhooks.bundle import Bundle
from certhooks.errors import BundleError
from certhooks_vcenter import fit, instcert
from certhooks_vcenter.target import VCenterTarget
from tests.lab import killed
from tests.lab.ca import CA, make_key, pem_of_key
from tests.lab.site import call
from tests.lab.vsphere import ADMINISTER, EVERYTHING, READ, Phase, Reply, Request, restart
from tests.lab.vsphere.site import NAME, PASSWORD, USER, VSphereSite, expect_refusal, served

if TYPE_CHECKING:
    from tests.lab.vsphere import VCenter

pytestmark = pytest.mark.usefixtures("soon")
MODULE = "certhooks_vcenter.instcert"


def spoil_pair(site: VSphereSite, how: str) -> None:
    """Write files that vCenter would choke on."""
    names = [NAME, *(vc.address for vc in site.vcenters)]
    if how == "elliptic curve":
        site.certificate(key_type="ec")
    elif how == "small":
        site.certificate(key_size=1024)
    elif how == "wildcard":
        site.certificate(names=["*.example.test", *names])
    elif how == "expired":
        site.certificate(days=1, not_before=dt.datetime.now(dt.timezone.utc) - dt.timedelta(days=2))
    elif how == "encrypted key":
        site.write(site.certificate())
        (site.folder / f"{NAME}.key").write_bytes(pem_of_key(make_key("rsa"), "secret"))
    elif how == "other key":
        site.certificate()
        (site.folder / f"{NAME}.key").write_bytes(pem_of_key(make_key("rsa")))
    elif how == "no root":
        site.certificate(ca=CA("Nobody's CA").intermediate())
    else:
        assert how == "root that is no CA"
        site.certificate()
        site.roots.write_bytes(site.ca.issue(["leaf.example.test"]).cert_pem)


@pytest.mark.parametrize(
    ("how", "code", "text"),
    [
        ("elliptic curve", 6, "vCenter takes RSA"),
        ("small", 6, "1024 bits"),
        ("wildcard", 10, "has a wildcard"),
        ("expired", 10, "expired"),
        ("encrypted key", 10, "is encrypted"),
        ("other key", 10, "not the private key"),
        ("no root", 10, "no self-signed root"),
        ("root that is no CA", 10, "no self-signed root"),
    ],
)
def test_what_vcenter_would_choke_on_never_reaches_it(vsite: VSphereSite, how: str, code: int, text: str) -> None:
    """Refused locally, with its exit code, and noted in the journal: vCenter has seen no request at all."""
    vc = vsite.vcenter()
    spoil_pair(vsite, how)
    expect_refusal(vsite.instcert(vc), code, text)
    assert not vc.requests
    assert vsite.attempts(vc)[-1]["exit_code"] == code


def test_the_machines_own_name_must_be_in_it(vsite: VSphereSite) -> None:
    """A certificate that does not have the FQDN by which vCenter is reached is refused, also when a CN says it."""
    issued = vsite.ca.issue(["other.example.test"], key_type="rsa", common_name=NAME)
    bundle = Bundle.from_pem(issued.cert_pem, issued.key_pem)
    with pytest.raises(BundleError, match=f"does not have {NAME} among its DNS names"):
        fit.check(bundle, NAME)
    fit.check(bundle, "other.example.test")


@pytest.mark.parametrize(
    ("text", "mode", "told"),
    [
        (f"username={USER}\n", 0o600, "no password="),
        ("", 0o600, "no key= and no username="),
        ("key=%%%\n", 0o600, "not base64"),
        (f"key={base64.b64encode(b'nocolon').decode()}\n", 0o600, "not USER@DOMAIN:PASSWORD"),
        (f"username={USER}\npassword={PASSWORD}\n", 0o644, "can be read by others"),
        (f"username={USER}\npassword_command=/bin/false\n", 0o600, "password_command"),
        (None, 0o600, "there is no"),
    ],
)
def test_useless_credentials_files(vsite: VSphereSite, text: Optional[str], mode: int, told: str) -> None:
    """Exit code 5 before any connection, and not a word of what the file holds."""
    vc = vsite.vcenter()
    vsite.certificate()
    if text is None:
        vsite.vmwrc.unlink()
    else:
        vsite.vmwrc.write_text(text)
        vsite.vmwrc.chmod(mode)
    done = vsite.instcert(vc)
    expect_refusal(done, 5, told)
    assert PASSWORD not in done.err
    assert not vc.requests


BASE64 = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()


@pytest.mark.parametrize(
    "text",
    [
        f"username={USER}\npassword={PASSWORD}\n",
        f"# comment\npassword={PASSWORD}\r\nusername={USER}\r\n",
        f"key={BASE64}\n",
        f"key={BASE64[:20]}\n{BASE64[20:]}\n",
        f"key={base64.b64encode(f'{USER}:{PASSWORD}'.encode() + bytes([10])).decode()}\nusername=other\n",
        f"username={USER}\npassword={PASSWORD}\n\x0bpassword=other\n",
        f"username={USER}\npassword_command=/usr/bin/printf '%s' '{PASSWORD}'\n",
    ],
    ids=["user and password", "crlf", "key", "wrapped key", "key of echo", "odd blanks", "command"],
)
def test_every_form_of_the_credentials_file(vsite: VSphereSite, text: str) -> None:
    """What the bash script read is read: a password with colon, blank and umlaut, and a key that base64 has wrapped."""
    vc = vsite.vcenter()
    vsite.certificate()
    vsite.vmwrc.write_text(text, newline="")
    done = vsite.instcert("--dry-run", vc)
    assert done.code == 0, done
    assert vc.sessions.opened == 1
    assert (vc.sessions.failed, vc.changes, vc.sessions.open) == (0, [], {})
    assert "would trust the root Site CA; replace the Machine SSL certificate" in done.out


def test_a_wrong_password_is_tried_once(vsite: VSphereSite) -> None:
    """One login at one of three vCenters, which may share one SSO; the others are told of it and not asked."""
    vcenters = [vsite.vcenter() for _ in range(3)]
    vsite.certificate()
    vsite.vmwrc.write_text(f"username={USER}\npassword=wrong\n")
    done = vsite.instcert(*vcenters)
    assert done.code == 5, done
    assert sum(vc.sessions.failed for vc in vcenters) == 1
    assert done.err.count("does not accept user name and password") == 1
    assert done.err.count("was not asked") == 2
    for vc in vcenters:
        assert vsite.attempts(vc)[-1]["exit_code"] == 5


@pytest.mark.parametrize("when", ["before the replacement", "after it"])
def test_a_password_that_ends_meanwhile_locks_no_account(
    vsite: VSphereSite, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    """Six vCenters of one SSO, whose password is changed while the command runs: no five refusals in three minutes."""
    monkeypatch.setattr("certhooks_vcenter.settle.AFTER_REFUSAL", 0.05)
    vcenters = [vsite.vcenter() for _ in range(6)]
    vsite.certificate()
    barrier = threading.Barrier(6)

    def change(vc: VCenter, request: Request) -> None:
        if request.method == "PUT" and not barrier.broken:
            barrier.wait(10)
            vc.sessions.users[USER].password = "changed"
            if when == "before the replacement":
                vc.sessions.open.clear()

    for vc in vcenters:
        vc.spoil = lambda request, vc=vc: change(vc, request)  # type: ignore[misc]
        vc.switches.after = [Phase("quiet", 0.2, old=True)] if when == "after it" else []
    done = vsite.instcert("--timeout", "5", *vcenters)
    assert done.code in {5, 16}, done
    refused = sum(vc.sessions.failed for vc in vcenters)
    assert refused == (1 if when == "before the replacement" else 3)


def test_a_vcenter_that_never_answers_holds_nobody_up(vsite: VSphereSite, monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes the connection and is silent; the others are done long before its time is over, one login each."""
    monkeypatch.setattr("certhooks_vcenter.rest._SECONDS", 5.0)
    vcenters = [vsite.vcenter() for _ in range(3)]
    new = vsite.certificate()
    over = threading.Event()

    def silent(_request: Request) -> Optional[Reply]:
        over.wait(30)
        return None

    vcenters[0].spoil = silent
    began = time.time()
    try:
        done = vsite.instcert("--timeout", "60", *vcenters)
    finally:
        over.set()
    assert done.code == 4, done
    for vc in vcenters[1:]:
        assert served(vc) == new.sha256
        assert vsite.attempts(vc)[-1]["ended"] - began < 4.0
        assert (vc.sessions.failed, vc.sessions.open) == (0, {})


def test_a_wrong_password_is_not_offered_to_the_old_dialect(vsite: VSphereSite) -> None:
    """401 of /api is an answer; /rest is asked only where /api does not exist."""
    vc = vsite.vcenter()
    vsite.certificate()
    vsite.vmwrc.write_text(f"username={USER}\npassword=wrong\n")
    expect_refusal(vsite.instcert(vc), 5, "does not accept")
    assert [request.path for request in vc.requests] == ["/api/session"]


@pytest.mark.parametrize("status", [400, 403, 500, 503])
def test_only_a_missing_dialect_leads_to_the_old_one(vsite: VSphereSite, status: int) -> None:
    """An /api that answers with anything but "not found" is there, and /rest is not asked with the password."""
    vc = vsite.vcenter()
    vsite.certificate()
    body = json.dumps({"error_type": "ERROR", "messages": [{"default_message": "no", "args": [], "id": "x"}]}).encode()
    vc.spoil = lambda request: Reply(status, body) if request.path == "/api/session" else None
    assert vsite.instcert(vc).code in {4, 5, 12}
    assert {request.path for request in vc.requests} == {"/api/session"}


@pytest.mark.parametrize(
    ("privileges", "what"),
    [(EVERYTHING - {READ}, "reading"), (EVERYTHING - {ADMINISTER}, "a trusted root")],
)
def test_a_role_that_may_not(vsite: VSphereSite, privileges: frozenset[str], what: str) -> None:
    """403 names what was not allowed and which privileges it takes; nothing has changed."""
    vc = vsite.vcenter()
    vsite.certificate()
    vc.add_user(USER, PASSWORD, privileges)
    before = served(vc)
    done = vsite.instcert(vc)
    expect_refusal(done, 5, "does not allow", what)
    assert "CertificateManagement.Manage" in done.err
    assert served(vc) == before
    assert vc.sessions.open == {}


def test_an_untrusted_vcenter_gets_no_password(vsite: VSphereSite) -> None:
    """Without its CA the handshake fails, and no request is made; on 127.0.0.2, where nobody makes an exception."""
    vc = vsite.vcenter()
    vsite.certificate()
    vsite.trusted.write_bytes(CA("Another CA").pem)
    expect_refusal(vsite.instcert(vc), 4, "is not trusted")
    assert not vc.requests


def test_a_pin_is_good_before_and_after(vsite: VSphereSite) -> None:
    """A pinned certificate of VMCA is trusted, and so is the new one that replaces it through a whole restart."""
    vc = vsite.vcenter()
    new = vsite.certificate()
    vc.switches.after, vc.switches.put = restart(), "reset"
    words = [word for word in vsite.argv(vc) if word not in {"--cafile", str(vsite.trusted)}]
    pin = f"sha256:{served(vc)}"
    done = call(instcert.main, [*words, "--pin", pin])
    assert done.code == 0, done
    assert served(vc) == new.sha256
    assert call(instcert.main, [*words, "--pin", pin]).code == 0


HOSTILE = [
    (200, b"{}"),
    (200, b"null"),
    (200, b"[1,2"),
    (200, b"<html>login</html>"),
    (200, b'{"cert": 5}'),
    (200, b'{"cert": "-----BEGIN CERTIFICATE-----\\nAAAA\\n-----END CERTIFICATE-----"}'),
    (200, b"[" * 100_000),
    (200, b'"\\u0000\\u001b[31m"'),
    (500, b'{"error_type": null, "messages": [7]}'),
    (500, b'{"value": {"messages": {"a": 1}}}'),
    (404, b'{"localizableMessages":[{"defaultMessage":"Not found.","id":"x"}],"majorErrorCode":404,"name":"x"}'),
    (418, b"\x1b[31mtea\x00pot"),
    (302, b""),
    (201, b""),
]


@pytest.mark.parametrize(("status", "body"), HOSTILE, ids=range(len(HOSTILE)))
@pytest.mark.parametrize("asked", ["POST /api/session", "GET /api/vcenter/certificate-management/vcenter/tls"])
def test_hostile_replies_end_in_one_line(vsite: VSphereSite, asked: str, status: int, body: bytes) -> None:
    """Whatever comes in place of a session or of the certificate: one error, nothing sent, nothing changed."""
    vc = vsite.vcenter()
    vsite.certificate()
    vc.switches.rest = False
    vc.spoil = lambda request: Reply(status, body) if f"{request.method} {request.path}" == asked else None
    done = vsite.instcert("--timeout", "5", vc)
    expect_refusal(done, done.code)
    assert done.code in {4, 12, 16}, done
    assert vc.changes == []
    assert vc.sessions.failed == 0


ROOTS = "/api/vcenter/certificate-management/vcenter/trusted-root-chains"


@pytest.mark.parametrize("body", [b"{}", b"null", b'"x"', b"-1"])
@pytest.mark.parametrize("one", [True, False])
def test_a_list_of_roots_that_is_none(vsite: VSphereSite, body: bytes, *, one: bool) -> None:
    """What is not understood is not taken for an empty store: no root is sent, and nothing is replaced."""
    vc = vsite.vcenter()
    vsite.certificate()

    def answer(request: Request) -> Optional[Reply]:
        meant = request.path.startswith(f"{ROOTS}/") if one else request.path == ROOTS
        return Reply(200, body) if meant and request.method == "GET" else None

    vc.spoil = answer
    done = vsite.instcert("--timeout", "5", vc)
    expect_refusal(done, 4, "shows no")
    assert vc.changes == []


@pytest.mark.parametrize(("count", "code", "text"), [(5000, 12, "lists 5000"), (900, 16, "no time is left")])
def test_a_long_list_of_roots_ends_in_time(vsite: VSphereSite, count: int, code: int, text: str) -> None:
    """More roots than anybody has are refused; fewer are read while there is time."""
    vc = vsite.vcenter()
    vsite.certificate()

    def answer(request: Request) -> Optional[Reply]:
        if request.method == "GET" and request.path == ROOTS:
            return Reply(200, json.dumps([{"chain": f"{n:040X}"} for n in range(count)]).encode())
        if request.path.startswith(f"{ROOTS}/{'0' * 30}"):
            time.sleep(0.02)
        return None

    vc.spoil = answer
    began = time.monotonic()
    expect_refusal(vsite.instcert("--timeout", "2", vc), code, text)
    assert time.monotonic() - began < 5
    assert vc.changes == []


def test_after_a_cut_only_what_mends_itself_is_waited_for(vsite: VSphereSite) -> None:
    """An earlier run did not end well, and now the CA is not trusted: told at once, whatever the time that is left."""
    vc = vsite.vcenter()
    vsite.certificate()
    assert killed.run("before:PUT /api", 1, vsite.argv(vc), module=MODULE) == -9
    vsite.trusted.write_bytes(CA("Another CA").pem)
    began = time.monotonic()
    expect_refusal(vsite.instcert("--timeout", "30", vc), 4, "is not trusted")
    assert time.monotonic() - began < 5


def test_after_a_cut_the_right_password_may_be_refused_once(vsite: VSphereSite) -> None:
    """VCenter is still in the part of its restart in which it knows nobody: the same command waits and goes on."""
    vc = vsite.vcenter()
    new = vsite.certificate()
    vc.switches.after = [Phase("quiet", 0.2, old=True), Phase("unauthenticated", 0.2, hits=1)]
    assert killed.run("after:PUT /api", 1, vsite.argv(vc), module=MODULE) == -9
    time.sleep(0.3)
    done = vsite.instcert("--timeout", "30", vc)
    assert done.code == 0, done
    assert served(vc) == new.sha256
    assert vc.changes == ["root", "tls"]


def test_what_vcenter_itself_refuses_is_told_in_its_words(vsite: VSphereSite) -> None:
    """Its PNID is another name than the one it is reached by, which vCenter alone knows: code 12, nothing changes."""
    vc = vsite.vcenter("pnid.example.test")
    vsite.certificate()
    before = served(vc)
    expect_refusal(vsite.instcert(vc), 12, "DNS Name must contain machine FQDN")
    assert served(vc) == before
    assert vc.changes == ["root"]
    assert vc.sessions.open == {}
    assert vsite.attempts(vc)[-1]["outcome"] == "undone"


def test_lost_names_are_a_warning(vsite: VSphereSite) -> None:
    """A name of the present certificate that the new one lacks may be the one that other products use."""
    vc = vsite.vcenter()
    vsite.certificate()
    assert vsite.instcert(vc).code == 0
    vsite.certificate(names=["vc01.example.test", "alias.example.test", vc.address])
    assert "lacks names" not in vsite.instcert(vc).err
    vsite.certificate()
    assert "the new certificate lacks names of the present one: alias.example.test" in vsite.instcert(vc).err


@pytest.mark.parametrize("status", [400, 500])
def test_a_refused_replacement_quotes_no_key(vsite: VSphereSite, status: int) -> None:
    """VCenter repeats the request in its error, as errors like to: neither screen, log nor journal shows the key."""
    vc = vsite.vcenter()
    new = vsite.certificate()
    before = served(vc)

    def quoting(request: Request) -> Optional[Reply]:
        if request.method != "PUT":
            return None
        text = f"cannot take {request.body.decode()} from {request.headers['vmware-api-session-id']}"
        plain = json.loads(request.body)["key"]
        head, *lines, tail = plain.splitlines()
        whole = "".join(lines)
        wrapped = "\n".join([head, *(whole[at : at + 40] for at in range(0, len(whole), 40)), tail])
        texts = [wrapped, text, plain]
        messages = [{"id": "x", "default_message": each[:1500], "args": []} for each in texts]
        return Reply(status, json.dumps({"error_type": "ERROR", "messages": messages}).encode())

    vc.spoil = quoting
    done = vsite.instcert("-vv", vc)
    expect_refusal(done, 12, "refuses the machine certificate")
    assert served(vc) == before
    kept = "".join(p.read_text() for p in [vsite.log, *vsite.state.glob("*.json")])
    whole = "".join(new.key_pem.decode().splitlines()[1:-1])
    told = done.err + done.out + kept
    assert not [at for at in range(0, len(whole) - 40, 40) if whole[at : at + 40] in told]
    assert not [at for at in range(0, len(whole) - 64, 64) if whole[at : at + 64] in told]
    assert BASE64 not in done.err + kept
    assert PASSWORD not in done.err + kept


POINTS = [
    ("step", 1),
    ("step", 2),
    ("step", 3),
    ("after:POST /api/session", 1),
    ("before:POST /api/vcenter", 1),
    ("after:POST /api/vcenter", 1),
    ("before:PUT /api", 1),
    ("after:PUT /api", 1),
    ("after:POST /api/session", 2),
    ("before:DELETE /api/session", 1),
]


@pytest.mark.parametrize(("point", "nth"), POINTS)
@pytest.mark.parametrize("instant", [True, False])
def test_a_killed_run_is_gone_on_with(vsite: VSphereSite, point: str, nth: int, *, instant: bool) -> None:
    """Wherever kill -9 hits it, also in the middle of a restart, the same command ends well and replaces once."""
    vc = vsite.vcenter()
    new = vsite.certificate()
    before = served(vc)
    if not instant:
        vc.switches.after = [Phase("quiet", 0.2, old=True), Phase("refuse", 0.5), Phase("json503", 0.2, hits=1)]
    status = killed.run(point, nth, vsite.argv("--timeout", "30", vc), module=MODULE)
    assert status == -9
    done = vsite.instcert("--timeout", "30", vc)
    assert done.code == 0, done
    assert served(vc) == new.sha256 != before
    assert vc.changes == ["root", "tls"]


def test_a_run_that_was_killed_before_a_restart_is_gone_on_with(vsite: VSphereSite) -> None:
    """VCenter is away when the same command is run again: since the journal knows of the first, it waits."""
    vc = vsite.vcenter()
    new = vsite.certificate()
    vc.switches.after = [Phase("quiet", 0.3, old=True), Phase("refuse", 2.5)]
    assert killed.run("after:PUT /api", 1, vsite.argv(vc), module=MODULE) == -9
    while probe.every(Address(vc.address, vc.port))[0].der:
        time.sleep(0.02)
    done = vsite.instcert("--timeout", "30", vc)
    assert done.code == 0, done
    assert served(vc) == new.sha256
    assert vc.changes == ["root", "tls"]


def test_a_stage_that_is_repeated_sends_nothing_twice(vsite: VSphereSite) -> None:
    """Each stage may be called again, as after a lost connection: the replacement is sent once a run all the same."""
    vc = vsite.vcenter()
    vc.switches.tls_already_exists = False
    vsite.certificate()
    activate = VCenterTarget.activate

    def twice(self: VCenterTarget, bundle: Bundle) -> None:
        activate(self, bundle)
        activate(self, bundle)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(VCenterTarget, "activate", twice)
        assert vsite.instcert("--force", vc).code == 0
    assert vc.changes == ["root", "tls"]


def test_neither_pyvmomi_nor_requests_on_the_way(vsite: VSphereSite) -> None:
    """A whole push imports neither, nor does --help import TLS or cryptography."""
    vc = vsite.vcenter()
    vsite.certificate()
    command = [sys.executable, "-X", "importtime", "-I", "-m", MODULE]
    done = subprocess.run([*command, *vsite.argv(vc)], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr[-2000:]
    modules = set(re.findall(r"\|\s+([\w.]+)$", done.stderr, re.MULTILINE))
    assert "certhooks_vcenter.rest" in modules
    assert modules.isdisjoint({"pyVim", "pyVmomi", "requests", "pan", "pan.xapi"})
    helped = subprocess.run([*command, "--help"], capture_output=True, text=True, check=True, timeout=60)
    modules = set(re.findall(r"\|\s+([\w.]+)$", helped.stderr, re.MULTILINE))
    assert modules.isdisjoint({"pyVim", "pyVmomi", "requests", "ssl", "cryptography", "jeepney", "logging"})


def test_three_vcenters_one_of_them_down(vsite: VSphereSite) -> None:
    """Two are done, restarts and all, side by side; the third is told as unreachable; exit code 4, a result each."""
    vcenters = [vsite.vcenter() for _ in range(3)]
    new = vsite.certificate()
    for vc in vcenters:
        vc.switches.after = restart()
    vcenters[1].listener.stop()
    done = vsite.instcert("--json", "--timeout", "30", *vcenters)
    assert done.code == 4, done
    results: list[dict[str, Any]] = [json.loads(line) for line in done.out.splitlines()]
    assert [result["exit_code"] for result in results] == [0, 4, 0]
    for vc in (vcenters[0], vcenters[2]):
        assert served(vc) == new.sha256
        assert vc.changes == ["root", "tls"]
    assert vcenters[1].changes == []


def test_two_runs_at_once_replace_once(vsite: VSphereSite, vcenter_process: Any) -> None:
    """The second waits for the first, looks again, and finds nothing to do."""
    vc: VCenter = vsite.vcenter()
    vsite.certificate()
    vc.switches.after = restart()[:-1]  # the last phase would cost the real pause after a refusal
    first, second = (vcenter_process(vsite.argv("--timeout", "30", vc)) for _ in range(2))
    told = [run.communicate(timeout=60)[0] for run in (first, second)]
    assert [first.returncode, second.returncode] == [0, 0], told
    assert vc.changes == ["root", "tls"]
    assert sorted("nothing to do" in text for text in told) == [False, True]


def test_sigterm_during_the_wait(vsite: VSphereSite, vcenter_process: Any) -> None:
    """It ends at once with 143 and says what was seen; the next run waits for the rest and sends nothing."""
    vc: VCenter = vsite.vcenter()
    new = vsite.certificate()
    vc.switches.after = [Phase("json503", 4.0, hits=1)]
    run = vcenter_process(vsite.argv("--timeout", "30", vc))
    while "tls" not in vc.changes:
        assert run.poll() is None
        time.sleep(0.02)
    time.sleep(0.5)  # it waits by now, and would for seconds more
    run.terminate()
    told, _ = run.communicate(timeout=20)
    assert run.returncode == 143, told
    assert "Traceback" not in told
    assert vsite.attempts(vc)[-1]["outcome"] == "failed"
    done = vsite.instcert("--timeout", "30", vc)
    assert done.code == 0, done
    assert served(vc) == new.sha256
    assert vc.changes == ["root", "tls"]


@pytest.fixture
def vcenter_process() -> Any:
    """Return what starts the command as a process of its own."""

    def start(argv: list[str]) -> subprocess.Popen[str]:
        command = [sys.executable, "-I", "-m", MODULE, *argv]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    return start
