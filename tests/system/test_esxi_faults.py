"""What goes wrong on hosts: replies that never come, notices that are lost, names that are not theirs."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any, Optional

import pytest

from certhooks_vcenter import hosts as roots
from certhooks_vcenter import instcert, vim
from tests.lab.machine import machine_of_its_own
from tests.lab.site import call
from tests.lab.vsphere import Reply, Request, soap
from tests.lab.vsphere.estate import HOSTS, NAMES, USER, VC, served
from tests.lab.vsphere.faults import Fault
from tests.lab.vsphere.operations import CutError

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.lab.vsphere import Esxi
    from tests.lab.vsphere.estate import Estate

pytestmark = [
    machine_of_its_own(*HOSTS),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


def spoil(estate: Estate, method: str, answer: Callable[[Request], Optional[Reply]]) -> list[Request]:
    """Have a function answer a method of vCenter's SOAP first, and return the requests that it gets."""
    seen: list[Request] = []

    def meddle(request: Request) -> Optional[Reply]:
        if request.path.startswith("/sdk") and f"<{method} ".encode() in request.body:
            seen.append(request)
            return answer(request)
        return None

    estate.vc.spoil = meddle
    return seen


@pytest.mark.parametrize("version", ["8.0.2", "8.0.3"])
def test_an_install_without_an_answer_is_looked_at(
    estate: Estate, monkeypatch: pytest.MonkeyPatch, version: str
) -> None:
    """The certificate is taken and the answer never comes: not told as refused; a modern host is still notified."""
    monkeypatch.setattr(vim, "_SECONDS", 1.0)
    [host] = estate.esxi(version=version)
    install = host.host.install

    def slowly(cert: str) -> None:
        install(cert)
        time.sleep(2.0)

    monkeypatch.setattr(host.host, "install", slowly)
    words = estate.csr() if version == "8.0.2" else estate.pair(NAMES[0])
    done = estate.push(*words, "--vcenter", VC, NAMES[0])
    assert done.code == 0, done
    assert estate.signed(host)
    assert host.host.changes.count("certificate") == 1


@pytest.mark.parametrize("version", ["8.0.2", "8.0.3"])
def test_an_install_that_is_cut_is_gone_on_with(estate: Estate, version: str) -> None:
    """A connection that breaks while the certificate is taken costs no second one; the notice is sent."""
    [host] = estate.esxi(version=version)
    host.host.cut_after_install = True
    words = estate.csr() if version == "8.0.2" else estate.pair(NAMES[0])
    done = estate.push(*words, "--vcenter", VC, NAMES[0])
    assert done.code == 0, done
    assert estate.signed(host)
    assert host.host.changes == [
        "cas",
        *["key"] * (version == "8.0.3"),
        "certificate",
        *["notify"] * (version == "8.0.3"),
    ]


@pytest.mark.parametrize("how", ["later", "never known"])
def test_connected_must_last_and_mean_the_new_certificate(
    estate: Estate, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """VCenter misses a host only after a while, and may know it by the former certificate: exit code 14."""
    [host] = estate.esxi()
    if how == "later":
        began: list[float] = []

        def state() -> str:
            if "notify" in host.host.changes:
                began.append(time.monotonic())
            return "disconnected" if began and time.monotonic() - began[0] > 0.3 else "connected"

        monkeypatch.setattr(host.host, "connection_state", state)
    else:
        former = host.host.certificate_info()
        monkeypatch.setattr(host.host, "certificate_info", lambda: former)
    done = estate.push(*estate.pair(NAMES[0], days=80), "--vcenter", VC, NAMES[0])
    assert done.code == 14, done
    assert ("is disconnected in" if how == "later" else "still known by another certificate") in done.err


@pytest.mark.parametrize("direct", [True, False])
def test_a_login_that_is_cut_is_not_repeated(estate: Estate, *, direct: bool) -> None:
    """A wrong password whose refusal is lost on the way has been offered once, and is not offered again."""
    [host] = estate.esxi()
    device: Any = host if direct else estate.vc
    login = device.sessions.login

    def cut(name: str, password: str) -> str:
        try:
            return str(login(name, password))
        except Fault:
            raise CutError from None

    device.sessions.login = cut
    estate.vmwrc.write_text(f"username={USER}\npassword=wrong\n")
    done = estate.push(*estate.pair(NAMES[0]), *([] if direct else ["--vcenter", VC]), NAMES[0])
    assert done.code == 4, done
    assert device.sessions.failed == 1


def test_a_host_that_never_answers_holds_nobody_up(estate: Estate, monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes the connection and says nothing: the other hosts are done long before its time is over."""
    monkeypatch.setattr(vim, "_SECONDS", 4.0)
    hosts = estate.esxi(3)
    ended: list[float] = []
    for host in hosts[1:]:
        notify = host.host.notify

        def noted(notify: Callable[[], None] = notify) -> None:
            ended.append(time.monotonic())
            notify()

        monkeypatch.setattr(host.host, "notify", noted)
    over = threading.Event()

    def silent(_request: Request) -> Reply:
        over.wait(30)
        raise CutError

    monkeypatch.setattr(hosts[0].soap, "answer", silent)
    began = time.monotonic()
    try:
        done = estate.push(*estate.pair(*NAMES[:3]), *NAMES[:3])
    finally:
        over.set()
    assert done.code == 4, done
    assert [estate.signed(host) for host in hosts] == [False, True, True]
    assert max(ended) - began < 3.0


@pytest.mark.parametrize(
    "request_", ["", "nonsense", "-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----"]
)
def test_a_request_that_is_none(estate: Estate, monkeypatch: pytest.MonkeyPatch, request_: str) -> None:
    """Told in one line, and nobody is asked to sign it."""
    [host] = estate.esxi(version="8.0.2")
    monkeypatch.setattr(host.host, "csr", lambda: request_)
    expect_untouched(estate, host, 10, "cannot be read")


def test_a_request_for_the_name_of_another(estate: Estate, monkeypatch: pytest.MonkeyPatch) -> None:
    """A host that asks for vCenter's name too gets nothing: its request is not signed."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization

    from tests.lab.ca import make_key

    [host] = estate.esxi(version="8.0.2")
    names = x509.SubjectAlternativeName([x509.DNSName(NAMES[0]), x509.DNSName(VC)])
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, NAMES[0])])
    builder = x509.CertificateSigningRequestBuilder().subject_name(subject).add_extension(names, critical=False)
    asked = builder.sign(make_key("rsa"), hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()
    monkeypatch.setattr(host.host, "csr", lambda: asked)
    expect_untouched(estate, host, 10, f"names that are not its own: {VC}")


def expect_untouched(estate: Estate, host: Esxi, code: int, text: str) -> None:
    """Make sure that the push fails so, in one line, with nothing signed and nothing installed."""
    before, mark = served(host), estate.folder / "signed"
    sign = estate.folder / "sign"
    estate.csr()
    sign.write_text(f"#!/bin/sh\ntouch {mark}\n")
    done = estate.push("--csr", "--sign", str(sign), "--vcenter", VC, NAMES[0])
    assert done.code == code, done
    assert text in done.err
    assert done.err.count("esxi_instcert: error:") == 1
    assert not mark.exists()
    assert served(host) == before


@pytest.mark.parametrize("sends_chain", [True, False])
def test_intermediates_cost_no_second_certificate(estate: Estate, *, sends_chain: bool) -> None:
    """A CA below the root of the file: by the file's or the signer's intermediate it leads there, once and for all."""
    from tests.lab import signer

    [host] = estate.esxi(version="8.0.2")
    middle = estate.ca.intermediate()
    sign = signer.command(estate.folder, middle)
    if sends_chain:
        (estate.folder / "middle.pem").write_bytes(middle.pem)
        with sign.open("a") as script:
            script.write(f'\ncat "{estate.folder}/middle.pem"\n')
        sign.write_text(sign.read_text().replace("exec ", ""))
    else:
        (estate.folder / "roots.pem").write_bytes(estate.ca.pem + middle.pem)
    words = ["--csr", "--sign", str(sign), "--vcenter", VC, NAMES[0]]
    done = estate.push(*words)
    assert done.code == 0, done
    assert len(host.host.served.certificates) == 2
    again = estate.push(*words)
    assert "nothing to do" in again.out, again
    assert host.host.changes == ["cas", "certificate"]
    assert estate.ca.certificate in host.host.trusted
    assert middle.certificate not in host.host.trusted


def test_a_command_with_an_open_quote_is_refused_first(estate: Estate) -> None:
    """Before anything is asked of a host."""
    [host] = estate.esxi(version="8.0.2")
    done = estate.push("--csr", "--sign", "/bin/cat 'x", NAMES[0])
    assert done.code == 1, done
    assert "cannot read the command" in done.err
    assert host.soap.calls == host.host.changes == []


def test_a_user_who_sees_no_host(estate: Estate, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty list is a matter of privileges, not a fault of ours."""
    [host] = estate.esxi()
    monkeypatch.setattr(host.soap, "_view", lambda: _empty(host))
    done = estate.push(*estate.pair(NAMES[0]), NAMES[0])
    assert done.code == 5, done
    assert "shows no host" in done.err


def _empty(host: Esxi) -> str:
    host.soap._views["none"] = []
    return soap._ref("ContainerView", "none", "returnval")


HOSTILE = [
    (200, b""),
    (500, b""),
    (200, b"<html>login</html>"),
    (200, b"<a>" * 2000),
    (200, b"\x00\xff"),
    (200, b'<?xml version="1.0"?><!DOCTYPE x [<!ENTITY a "b">]><x>&a;</x>'),
    (200, soap._ENVELOPE.format("<LoginResponse xmlns='urn:vim25'></LoginResponse>").encode()),
    (200, soap._ENVELOPE.format("<XResponse xmlns='urn:vim25'><returnval xsi:type='Nonsense'/></XResponse>").encode()),
    (200, soap._ENVELOPE.format("<X><returnval xsi:type='HostSystem'>1</returnval></X>").encode()),
    (500, soap._fault("NoSuchFault", "\x1b[31mno", "")),
]


@pytest.mark.parametrize(("status", "body"), HOSTILE, ids=range(len(HOSTILE)))
@pytest.mark.parametrize("method", ["RetrieveServiceContent", "Login", "Fetch", "FindByDnsName", "ListCACertificates"])
def test_hostile_soap_ends_in_one_line(estate: Estate, method: str, status: int, body: bytes) -> None:
    """Whatever comes in place of an envelope: one error of a known kind, nothing changed, and one login at most."""
    [host] = estate.esxi()
    seen = spoil(estate, method, lambda _request: Reply(status, body, "text/xml"))
    done = estate.push(*estate.pair(NAMES[0]), "--vcenter", VC, NAMES[0])
    assert seen
    assert done.code in {1, 4, 5, 12}, done
    assert done.err.count("esxi_instcert: error:") == 1
    assert done.err.replace("\n", "").isprintable()
    assert set(host.host.changes) <= {"cas"}, "a list without CAs is one too"
    if method == "Login":
        assert len(seen) == 1


def renew_vcenter(estate: Estate) -> list[str]:
    """Write a new pair for vCenter, and return the words that install it and push the roots to hosts."""
    return [*estate.pair(VC), "--refresh-ca"]


@pytest.mark.parametrize("how", ["refuses", "never ends"])
def test_a_host_that_does_not_take_the_roots(estate: Estate, monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    """The others get them, vCenter gets its certificate, and it is no success: exit code 13 names the host."""
    monkeypatch.setattr(roots, "_PUSHED", 1.0)
    three = estate.esxi(3)
    refresh, task = estate.vc.soap._refresh, estate.vc.soap._task
    moid = list(estate.vc.hosts)[1]

    def refreshed(moids: list[str]) -> str:
        if moids == [moid]:
            estate.vc.soap.tasks["stuck"] = "no" if how == "refuses" else ""
            return soap._ref("Task", "stuck", "returnval")
        return refresh(moids)

    def told(name: str) -> str:
        said = task(name)
        return said.replace("<state>success", "<state>running") if name == "stuck" else said

    monkeypatch.setattr(estate.vc.soap, "_refresh", refreshed)
    monkeypatch.setattr(estate.vc.soap, "_task", told)
    done = call(instcert.main, estate.common(*renew_vcenter(estate)))
    assert done.code == 13, done
    assert f"hosts did not get its roots: {NAMES[1]}" in done.err
    assert [estate.ca.certificate in host.host.trusted for host in three] == [True, False, True]
    assert estate.vc.machine.leaf == estate.new.certificate


def test_what_a_host_trusts_and_revokes_stays(estate: Estate) -> None:
    """A host by itself is given the root beside its CAs, and its revocation lists are put back with them."""
    [host] = estate.esxi()
    host.host.crls = ["-----BEGIN X509 CRL-----\nMIIC\n-----END X509 CRL-----"]
    before = list(host.host.crls)
    done = estate.push(*estate.pair(NAMES[0]), NAMES[0])
    assert done.code == 0, done
    assert host.host.crls == before


def test_a_host_that_has_a_vcenter_is_told(estate: Estate) -> None:
    """Changed behind its vCenter's back it may be lost there: a warning says how it is done."""
    [host] = estate.esxi()
    host.host.managed_by = "192.0.2.7"
    done = estate.push(*estate.pair(NAMES[0]), NAMES[0])
    assert done.code == 0, done
    assert "is managed by the vCenter 192.0.2.7, which may lose it: give --vcenter" in done.err


def test_a_mode_that_is_not_shown_is_told(estate: Estate) -> None:
    """Without the setting nobody knows whether vCenter will replace the certificate: a warning."""
    estate.esxi()
    estate.vc.soap.mode = ""
    done = estate.push(*estate.pair(NAMES[0]), "--vcenter", VC, NAMES[0])
    assert done.code == 0, done
    assert "does not show vpxd.certmgmt.mode" in done.err


@pytest.mark.parametrize("how", ["drips", "without end"])
def test_a_reply_that_never_ends(estate: Estate, how: str) -> None:
    """It drips for ever, or is longer than anything is: the run ends when its time is over, or at once."""
    [host] = estate.esxi()
    whole = soap._ENVELOPE.format("<X>" + "y" * (40_000_000 if how == "without end" else 2000) + "</X>").encode()
    spoil(estate, "FindByDnsName", lambda _request: Reply(200, whole, "text/xml", pause=0.1 * (how == "drips")))
    began = time.monotonic()
    done = estate.push(*estate.pair(NAMES[0]), "--vcenter", VC, "--timeout", "3", NAMES[0])
    assert done.code in {4, 16}, done
    assert time.monotonic() - began < 10
    assert host.host.changes == []
