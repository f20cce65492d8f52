"""Kerberos without a password anywhere: a keytab lets into FreeIPA's API, and signs dynamic updates."""

from __future__ import annotations

import base64
import shutil
import time
from contextlib import contextmanager
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import pytest

from certhooks_freeipa_dns import kerberos
from tests.lab.acme import Kdc, NameServer
from tests.lab.acme import kdc as lab_kdc
from tests.lab.acme.bind import PROGRAMS, name_server
from tests.lab.daemons import PATH, Daemons
from tests.lab.dns01 import FOREIGN, NAME, OTHER, VALUE, Scene

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path

_LACKS = [name for name in (*PROGRAMS, *lab_kdc.PROGRAMS) if not shutil.which(name, path=PATH)]
_LACKS += [] if find_spec("gssapi") else ["gssapi"]
pytestmark = pytest.mark.skipif(bool(_LACKS), reason=f"not here: {', '.join(_LACKS)}")

WEB = "host/web.example.test"


@pytest.fixture(scope="module")
def kdc() -> Iterator[Kdc]:
    """Run one realm for the file."""
    with realm_of_its_own() as made:
        yield made


@contextmanager
def realm_of_its_own() -> Iterator[Kdc]:
    """Run a KDC."""
    with Daemons("dns-lab") as daemons:
        made = Kdc(daemons)
        made.start()
        yield made


@pytest.fixture(autouse=True)
def realm(kdc: Kdc, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let this process find the realm."""
    for key, value in kdc.env.items():
        monkeypatch.setenv(key, value)


class Acceptor:
    """Checks Negotiate tokens as FreeIPA's web server does."""

    def __init__(self, kdc: Kdc) -> None:
        self.principals: list[str] = []
        self._keytab = kdc.keytab("HTTP/localhost")

    def __call__(self, header: str) -> bool:
        import gssapi
        from gssapi.raw import GSSError

        creds = gssapi.Credentials(usage="accept", store={"keytab": f"FILE:{self._keytab}"})
        context = gssapi.SecurityContext(creds=creds, usage="accept")
        try:
            context.step(base64.b64decode(header.partition(" ")[2]))
        except GSSError:
            return False
        self.principals.append(str(context.initiator_name))
        return True


@pytest.fixture(scope="module")
def acceptor(kdc: Kdc) -> Acceptor:
    """Make the web server's side."""
    return Acceptor(kdc)


def test_a_keytab_lets_into_the_api(
    kdc: Kdc, acceptor: Acceptor, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The first request carries the ticket and no login comes before it; no ticket cache is written."""
    with Scene(tmp_path, zones={"example.test": ""}, accept=acceptor) as scene:
        words = ("--keytab", str(kdc.keytab(WEB)), "add", "www.example.test", VALUE)
        done = scene.run("ipa_dns", *words, capsys=capsys)
        assert (done.code, done.err) == (0, ""), done
        assert set(scene.ipa.requests) == {"/ipa/session/json"}
        assert len(scene.ipa.requests) == 3
        assert set(acceptor.principals) == {f"{WEB}@{kdc.realm}"}
        assert acceptor.principals.count(f"{WEB}@{kdc.realm}") == 1  # the session lasts for the run
    assert not list(tmp_path.glob("krb5cc*"))


def test_a_server_that_was_decommissioned(
    kdc: Kdc, acceptor: Acceptor, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A server whose principal the KDC knows no more is passed over; where it is the only one, the hint says so."""
    with Scene(tmp_path, accept=acceptor) as scene:
        words = ("--keytab", str(kdc.keytab(WEB)), "add", "www.example.test", VALUE)
        done = scene.run("ipa_dns", "--server", "127.0.0.1", *words, capsys=capsys)
        assert (done.code, "127.0.0.1 is no FreeIPA server (any more)" in done.err) == (4, True), done
        done = scene.run("ipa_dns", "--server", f"127.0.0.1 {scene.ipa.where}", *words, capsys=capsys)
        assert (done.code, scene.ipa.txt(NAME)) == (0, {VALUE}), done


@pytest.mark.parametrize(
    ("options", "code", "told"),
    [
        (("--keytab", "/nowhere/keytab"), 5, "cannot read the keytab"),
        (("--keytab", "@web", "--principal", "host/nobody.example.test"), 5, "has no usable key of host/nobody"),
        (("--keytab", "@config"), 5, "has no usable key"),
    ],
)
def test_keytabs_that_do_not_work(  # noqa: PLR0917  parameters of the test
    options: tuple[str, ...],
    code: int,
    told: str,
    kdc: Kdc,
    acceptor: Acceptor,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The reason is told before anything is sent."""
    with Scene(tmp_path, accept=acceptor) as scene:
        places = {"@web": str(kdc.keytab(WEB)), "@config": str(scene.config)}
        words = [places.get(word, word) for word in options]
        done = scene.run("ipa_dns", *words, "add", "www.example.test", VALUE, capsys=capsys)
        assert (done.code, told in done.err, scene.ipa.requests) == (code, True, []), done


def test_no_kdc(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """A KDC that is down is no matter of credentials."""
    with realm_of_its_own() as gone:
        keytab = gone.keytab(WEB)
        gone.stop()
        monkeypatch.setenv("KRB5_CONFIG", gone.env["KRB5_CONFIG"])
        with Scene(tmp_path) as scene:
            words = ("--keytab", str(keytab), "add", "www.example.test", VALUE)
            done = scene.run("ipa_dns", *words, capsys=capsys)
            assert done.code == 4, done
            assert "ontact any KDC" in done.err


def test_without_gssapi(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """The hint tells how to get it and how to go without it."""
    monkeypatch.setattr(kerberos, "installed", lambda: False)
    with Scene(tmp_path) as scene:
        keytab = tmp_path / "keytab"
        keytab.write_bytes(b"")
        words = ("--keytab", str(keytab), "add", "www.example.test", VALUE)
        done = scene.run("ipa_dns", *words, capsys=capsys)
        assert (done.code, "gssapi" in done.err, "password_file" in done.err) == (5, True, True), done


@pytest.fixture
def updatable(kdc: Kdc) -> Iterator[NameServer]:
    """Run a name server that lets each host change the TXT records below its own name, by its Kerberos key."""
    with by_key(kdc) as made:
        yield made


def by_key(kdc: Kdc) -> AbstractContextManager[NameServer]:
    """Return the name server ns1.example.test of example.test, which has a key in the realm."""
    policy = [f"grant {kdc.realm} krb5-selfsub . TXT;", f"grant {kdc.realm} krb5-self . TXT;"]
    text = "_acme-challenge.other CNAME other\nweb A 192.0.2.1\n"
    keytab = kdc.keytab("DNS/localhost", "DNS/ns1.example.test")
    zones = {"example.test": text}
    return name_server(zones, servers="example.test", resolver=False, policy=policy, keytab=keytab, env=kdc.env)


@pytest.fixture(params=["gssapi", "nsupdate"])
def signed_by(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Have updates signed by either of the two."""
    if request.param == "nsupdate":
        monkeypatch.setattr(kerberos, "installed", lambda: False)
    return str(request.param)


@pytest.fixture
def updates(signed_by: str, updatable: NameServer, tmp_path: Path) -> Iterator[Scene]:
    """Provide a host whose updates go to that name server."""
    assert signed_by
    with Scene(tmp_path) as scene:
        scene.configure(nameserver=updatable.where, resolver=updatable.where, port=updatable.port)
        yield scene


def test_dynamic_updates(updates: Scene, kdc: Kdc, updatable: NameServer, capsys: pytest.CaptureFixture[str]) -> None:
    """A host changes what is its own with nothing but its key, beside others' values and in their TTL, and no more."""
    name = "_acme-challenge.web.example.test"
    updatable.add(name, "TXT", f'"{FOREIGN}"', ttl=33)
    common = ("--backend", "update", "--server", "localhost", "--keytab", str(kdc.keytab(WEB)))
    words = ("web.example.test", VALUE, "web.example.test", OTHER, "x.web.example.test", VALUE)
    began = time.monotonic()
    done = updates.run("ipa_dns", *common, "add", *words, capsys=capsys)
    assert (done.code, done.err, time.monotonic() - began < 5) == (0, "", True), done
    assert updatable.values(name) == {FOREIGN, VALUE, OTHER}
    assert updatable.ttl(name) == 33
    assert updatable.ttl("_acme-challenge.x.web.example.test") == 60
    assert [entry.backend for entry in updates.ours()] == ["update"] * 3
    done = updates.run("ipa_dns", *common, "add", "mail.example.test", VALUE, capsys=capsys)
    assert (done.code, "refuses the update" in done.err, "krb5-selfsub" in done.err) == (12, True, True), done
    for _ in range(2):
        assert updates.run("ipa_dns", *common, "del", *words, capsys=capsys).code == 0
    assert updatable.values(name) == {FOREIGN}
    assert updatable.values("_acme-challenge.x.web.example.test") == set()
    assert not updates.ours()
    assert not updates.ipa.requests


def test_updates_that_nobody_signs(  # noqa: PLR0917  parameters of the test
    signed_by: str, updates: Scene, kdc: Kdc, updatable: NameServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A server whose name has no key in the realm, and a keytab without one, are matters of credentials."""
    common: tuple[Any, ...] = ("--backend", "update", "--keytab", str(kdc.keytab(WEB)))
    words = ("add", "web.example.test", VALUE)
    if signed_by == "gssapi":
        done = updates.run("ipa_dns", *common, "--server", "127.0.0.1", *words, capsys=capsys)
        assert (done.code, "hint: " in done.err) == (5, True), done
    empty = tmp_path / "empty"
    empty.write_bytes(b"")
    done = updates.run(
        "ipa_dns", "--backend", "update", "--server", "localhost", "--keytab", str(empty), *words, capsys=capsys
    )
    assert (done.code, "hint: " in done.err) == (5, True), done
    assert updatable.values("_acme-challenge.web.example.test") == set()
    assert not updates.ours()


def test_the_primary_is_found(kdc: Kdc, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Without a server in the settings, updates go to the one that the zone's SOA record names."""
    with by_key(kdc) as dns, Scene(tmp_path) as scene:
        scene.config.write_text(
            f"[ipa]\nbackend = update\nkeytab = {kdc.keytab(WEB)}\n[dns]\nresolver = {dns.where}\nport = {dns.port}\n"
        )
        done = scene.run("ipa_dns", "add", "web.example.test", VALUE, capsys=capsys)
        assert (done.code, dns.values("_acme-challenge.web.example.test")) == (0, {VALUE}), done
        assert [entry.server for entry in scene.ours()] == ["ns1.example.test"]
        assert scene.run("ipa_dns", "del", "web.example.test", VALUE, capsys=capsys).code == 0
        assert NAME not in scene.log()
