"""Each front end keeps the contract of its caller, to the letter of what the callers were seen to do."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from base64 import b64encode
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.lab.acme.bind import free_port, name_server
from tests.lab.dns01 import FOREIGN, NAME, OTHER, VALUE, Done, Scene
from tests.lab.dns_fixtures import needs_bind

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from tests.lab.dns_fixtures import Run

pytestmark = needs_bind

SHIM = Path(__file__).resolve().parents[2] / "contrib" / "acme.sh" / "dns_ipa_dns.sh"


def script(scene: Scene, text: str, *, env: Mapping[str, str] | None = None) -> Done:
    """Run a bash script that calls the hooks as an ACME client does, its hooks being in PATH with their settings."""
    path = scene.folder / "client"
    path.write_text(f"#!/bin/bash\n{text}")
    path.chmod(0o755)
    done = subprocess.run(
        [str(path)],
        env={
            "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin",
            "O": " ".join(scene.options),
            "V": VALUE,
            "W": OTHER,
            **(env or {}),
        },
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        stdin=subprocess.DEVNULL,
    )
    return Done(done.returncode, done.stdout, done.stderr)


# certbot


def test_certbot_waits_once_for_all_values_of_its_run(scene: Scene) -> None:
    """Calls with more to come do not wait; the last one waits for all. Standard output stays empty."""
    with name_server(["example.test"]) as secondary:
        scene.configure(nameserver=f"{scene.dns.where} {secondary.where}")
        done = script(
            scene,
            f"""
            export CERTBOT_DOMAIN=www.example.test
            CERTBOT_VALIDATION=$V CERTBOT_REMAINING_CHALLENGES=1 sh -c "ipa_dns_certbot $O auth" || exit 1
            date +%s.%N >&2
            (sleep 1.5; touch {scene.folder}/go) &
            CERTBOT_VALIDATION=$W CERTBOT_REMAINING_CHALLENGES=0 sh -c "ipa_dns_certbot $O --wait 2 auth"
            """,
        )
        assert (done.code, done.out) == (14, "")
        assert f"127.0.0.1:{secondary.port}" in done.err
        assert scene.dns.values(NAME) == {FOREIGN}  # both values are taken back
        assert not scene.ours()
        secondary.add(NAME, "TXT", f'"{VALUE}"')
        secondary.add(NAME, "TXT", f'"{OTHER}"')
        done = script(
            scene,
            """
            export CERTBOT_DOMAIN=www.example.test
            CERTBOT_VALIDATION=$V CERTBOT_REMAINING_CHALLENGES=1 sh -c "ipa_dns_certbot $O auth" &&
            CERTBOT_VALIDATION=$W CERTBOT_REMAINING_CHALLENGES=0 sh -c "ipa_dns_certbot $O auth"
            """,
        )
        assert (done.code, done.out, done.err) == (0, "", "")
        assert scene.dns.values(NAME) == {FOREIGN, VALUE, OTHER}


def test_certbot_verbs_are_never_guessed(scene: Scene, call: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """CERTBOT_AUTH_OUTPUT, which leaks into the next certificate's auth hook, does not make a cleanup of it."""
    monkeypatch.setenv("CERTBOT_DOMAIN", "www.example.test")
    monkeypatch.setenv("CERTBOT_VALIDATION", VALUE)
    monkeypatch.setenv("CERTBOT_AUTH_OUTPUT", "x")
    assert call("ipa_dns_certbot", "auth").code == 0
    assert scene.dns.values(NAME) == {FOREIGN, VALUE}
    monkeypatch.setenv("CERTBOT_REMAINING_CHALLENGES", "nonsense\n")
    assert call("ipa_dns_certbot", "cleanup").code == 0
    assert scene.dns.values(NAME) == {FOREIGN}
    for words in ([], ["deploy"], ["auth", "more"]):
        assert call("ipa_dns_certbot", *words).code == 1


# dehydrated


@pytest.mark.parametrize(
    "words",
    [
        ("this_hookscript_is_broken__dehydrated_is_working_fine__please_ignore_unknown_hooks_in_your_script",),
        ("startup_hook",),
        ("generate_csr", "www.example.test", "/certs", "www.example.test "),
        ("sync_cert", "k", "c", "f", "ch", "csr"),
        ("unchanged_cert", "www.example.test", "k", "c", "f", "ch"),
        ("invalid_challenge", "www.example.test", '["type"]\t"dns-01"\n'),
        ("request_failure", "403", "text", "post", "headers"),
        ("deploy_ocsp", "www.example.test", "file", "1"),
        ("deploy_cert", "www.example.test", "k", "c", "f", "ch", "1"),
        ("exit_hook",),
        ("exit_hook", "an error"),
    ],
)
def test_dehydrated_operations_that_need_nothing(words: tuple[str, ...], scene: Scene, call: Run) -> None:
    """They end with 0, say nothing, and FreeIPA is not asked; generate_csr above all prints nothing."""
    assert call("ipa_dns_dehydrated", *words) == Done(0, "", "")
    assert not scene.ipa.requests


def test_dehydrated_ignores_what_it_does_not_know_whatever_is_broken(tmp_path: Path) -> None:
    """An unknown operation is none of ours even where the configuration cannot be read, and costs no import."""
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "certhooks_freeipa_dns.dehydrated", "some_new_hook", "--x", "-y"],
        env={"IPA_DNS_CONFIG": str(tmp_path / "missing")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "")
    assert not re.search(r"\b(requests|dns|ssl|gssapi)\b", done.stderr)


@pytest.mark.parametrize("module", ["ipa_dns", "certbot_hook", "dehydrated", "lego", "md"])
def test_help_loads_nothing_heavy(module: str) -> None:
    """--help costs no import of what talks to the network."""
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", f"certhooks_freeipa_dns.{module}", "--help"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout.startswith("usage: ipa_dns")) == (0, True)
    assert not re.search(r"\b(requests|dns|ssl|gssapi|cryptography|python_freeipa|idna)\b", done.stderr)


def test_dehydrated_chain(scene: Scene, call: Run) -> None:
    """HOOK_CHAIN passes all names in one call: one login. Tokens and values may begin with a hyphen."""
    triples = [
        *("www.example.test", "-token", VALUE),
        *("www.example.test", "--help", OTHER),
        *("a.example.test", "-x", VALUE),
    ]
    assert call("ipa_dns_dehydrated", "deploy_challenge", *triples) == Done(0, "", "")
    assert scene.ipa.requests.count("/ipa/session/login_password") == 1
    assert scene.dns.values(NAME) == {FOREIGN, VALUE, OTHER}
    assert call("ipa_dns_dehydrated", "clean_challenge", *triples) == Done(0, "", "")
    assert scene.ipa.requests.count("/ipa/session/login_password") == 2
    assert scene.dns.values(NAME) == {FOREIGN}
    assert call("ipa_dns_dehydrated", "deploy_challenge", "www.example.test", "t").code == 1


@pytest.mark.parametrize("chain", [True, False])
def test_dehydrated_cleans_up_after_itself(chain: bool, scene: Scene) -> None:  # noqa: FBT001  a parameter
    """After a failing deploy_challenge nothing is left, also not of earlier calls: nobody calls clean_challenge."""
    if chain:
        calls = "ipa_dns_dehydrated $O deploy_challenge www.example.test t $V www.other.test t $W"
    else:
        calls = (
            "ipa_dns_dehydrated $O deploy_challenge www.example.test t $V || exit 1\n"
            "ipa_dns_dehydrated $O deploy_challenge www.other.test t $W"
        )
    done = script(scene, f"{calls}\nexit $?\n")
    assert done.code in {2, 4}, done
    assert done.out == ""
    assert scene.dns.values(NAME) == {FOREIGN}
    assert not scene.ours()


def test_dehydrated_exit_hook_removes_what_is_left_of_its_own_run(scene: Scene, call: Run) -> None:
    """Values of another run that goes on at the same time stay."""
    assert call("ipa_dns", "add", "www.example.test", OTHER).code == 0
    done = script(
        scene,
        "ipa_dns_dehydrated $O deploy_challenge www.example.test t $V || exit 1\n"
        "(ipa_dns_dehydrated $O exit_hook 'an error')\n",
    )
    assert done == Done(0, "", "")
    assert scene.dns.values(NAME) == {FOREIGN, OTHER}


def test_dehydrated_hands_the_certificate_on(scene: Scene, call: Run) -> None:
    """deploy_cert runs the configured command without a shell, with the files in place; its failure is one."""
    report = scene.folder / "report"
    command = f"{sys.executable} -c 'import sys; open(sys.argv[1], \"w\").write(repr(sys.argv[2:]))' {report}"
    text = scene.config.read_text()
    scene.config.write_text(f"{text}[dehydrated]\ninstall = {command} -c {{domain}} {{key}} {{fullchain}}\n")
    words = ("deploy_cert", "www.example.test", "/c/key; rm", "/c/cert", "/c/full", "/c/chain", "17")
    assert call("ipa_dns_dehydrated", *words) == Done(0, "", "")
    assert report.read_text() == repr(["-c", "www.example.test", "/c/key; rm", "/c/full"])
    for broken, code in (("/bin/false", 13), ("/nowhere/x", 1), ("x {secret}", 1), ("x '", 1)):
        scene.config.write_text(f"{text}[dehydrated]\ninstall = {broken}\n")
        done = call("ipa_dns_dehydrated", *words)
        assert (done.code, done.out) == (code, ""), done


def test_dehydrated_honours_the_old_names(scene: Scene, call: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """IPA_SERVER, IPA_USER and IPA_PASSWORD go before the file; the password is shown nowhere."""
    monkeypatch.setenv("IPA_SERVER", scene.ipa.where)
    monkeypatch.setenv("IPA_USER", "acme")
    monkeypatch.setenv("IPA_PASSWORD", "wrong password")
    done = call("ipa_dns_dehydrated", "-vv", "deploy_challenge", "www.example.test", "t", VALUE)
    assert done.code == 5
    assert "wrong" not in done.err + scene.log()
    monkeypatch.setenv("IPA_PASSWORD", "wrong password")
    assert call("ipa_dns", "add", "www.example.test", VALUE).code == 0  # they are dehydrated's alone


def test_dehydrated_hands_no_password_on(scene: Scene, call: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """The install command does not inherit IPA_PASSWORD."""
    monkeypatch.setenv("IPA_PASSWORD", "wrong password")
    with scene.config.open("a") as file:
        file.write("[dehydrated]\ninstall = /bin/sh -c 'test -z \"$IPA_PASSWORD\"'\n")
    done = call("ipa_dns_dehydrated", "deploy_cert", "www.example.test", "k", "c", "f", "ch", "1")
    assert done == Done(0, "", "")


# lego


def test_lego(scene: Scene, call: Run) -> None:
    """Default and RAW mode; no wait, because lego waits itself; what older versions asked for is answered."""
    scene.configure(nameserver=f"{scene.dns.where} 127.0.0.1:{free_port()}")  # a wait would fail
    for words, value in (
        ([f"{NAME}.", OTHER], OTHER),
        (["--", "www.example.test", "-token", "-token.thumb"], "EK9NmDhiBQuVWjkdsOfHghuBsWtYKDzY6kAmvxfavCE"),
    ):
        assert call("ipa_dns_lego", "present", *words) == Done(0, "", "")
        assert scene.dns.values(NAME) == {FOREIGN, value}
        assert call("ipa_dns_lego", "cleanup", *words) == Done(0, "", "")
        assert scene.dns.values(NAME) == {FOREIGN}
    assert json.loads(call("ipa_dns_lego", "timeout").out) == {"timeout": 120, "interval": 2}
    assert call("ipa_dns_lego", "present", NAME).code == 1
    assert call("ipa_dns_lego").code == 1
    assert call("ipa_dns_lego", "--wait", "1", "present", NAME, VALUE).code == 14


# mod_md


def test_mod_md(scene: Scene, call: Run) -> None:
    """Version 2 tells teardown the value; version 1 does not, and then ours of that domain go, and nobody else's."""
    assert call("ipa_dns", "add", "www.example.test", "byhand").code == 0
    for values in ([VALUE], []):
        assert call("ipa_dns_md", "setup", "www.example.test", VALUE).code == 0
        assert [entry.run.split()[0] for entry in scene.ours() if entry.run != ""] == ["mod_md"]
        assert all(len(entry.run.split()) == 3 for entry in scene.ours() if entry.run)  # of one process of Apache's
        assert scene.dns.values(NAME) == {FOREIGN, "byhand", VALUE}
        assert call("ipa_dns_md", "teardown", "www.example.test", *values).code == 0
        assert scene.dns.values(NAME) == {FOREIGN, "byhand"}
    assert call("ipa_dns_md", "teardown", "www.example.test").code == 0
    for words in ([], ["setup", "www.example.test"], ["teardown"], ["other", "a", "b"]):
        assert call("ipa_dns_md", *words).code == 1


# acme.sh


def test_acme_sh(scene: Scene) -> None:
    """The shim's two functions return 0 and 1 as acme.sh expects them."""
    text = f"""
    _err() {{ echo "$*" >&2; }}
    _debug() {{ :; }}
    _saveaccountconf_mutable() {{ :; }}
    _readaccountconf_mutable() {{ :; }}
    . {SHIM}
    """
    env = {"IPA_DNS_CONFIG": str(scene.config), "IPA_DNS_OPTIONS": " ".join(scene.options[2:])}
    done = script(scene, f"{text} dns_ipa_dns_add {NAME} $W", env=env)
    assert (done.code, scene.dns.values(NAME)) == (0, {FOREIGN, OTHER}), done
    done = script(scene, f"{text} dns_ipa_dns_rm {NAME} $W", env=env)
    assert (done.code, scene.dns.values(NAME)) == (0, {FOREIGN}), done
    assert script(scene, f"{text} dns_ipa_dns_add _acme-challenge.www.other.test $W", env=env).code == 1


# hostile input


@pytest.mark.parametrize(
    ("domain", "value"),
    [
        ("www.example.test", 'a"b'),
        ("www.example.test", "a b"),
        ("www.example.test", "a\nb"),
        ("www.example.test", ""),
        ("www.example.test", "x" * 300),
        ("www.example.test", "ü"),
        ("www..example.test", VALUE),
        ("-www.example.test", VALUE),
        (f"{'a' * 63}." * 4 + "example.test", VALUE),
        ("x" * 300, VALUE),
        ("test", VALUE),
        ("", VALUE),
        (".", VALUE),
        ("*.*.example.test", VALUE),
        ("www.example.test\n", VALUE),
        ("www example.test", VALUE),
        ("\udcff.example.test", VALUE),
        ("www.example.test;rm", VALUE),
    ],
)
def test_hostile_names_and_values(domain: str, value: str, scene: Scene, call: Run) -> None:
    """They end with exit code 2 and one line before anybody is asked, from whatever client they come."""
    calls = [
        ("ipa_dns_dehydrated", "deploy_challenge", domain, "t", value),
        ("ipa_dns_dehydrated", "clean_challenge", domain, "t", value),
        ("ipa_dns_md", "setup", domain, value),
    ]
    for words in calls:
        done = call(*words)
        assert done.code == 2, (words, done)
        assert len(done.err) < 600
        assert done.err.isprintable() or done.err.replace("\n", "").isprintable()
    assert not scene.ipa.requests


def test_names_are_what_they_mean(scene: Scene, call: Run) -> None:
    """Upper case, a final dot, a wildcard and an IDN come to the one name that the CA asks for."""
    triples = [
        word
        for domain in ("WWW.Example.TEST.", "*.www.example.test", "bücher.example.test")
        for word in (domain, "t", VALUE)
    ]
    assert call("ipa_dns_dehydrated", "deploy_challenge", *triples).code == 0
    assert scene.ipa.txt(NAME) == {FOREIGN, VALUE}
    assert scene.ipa.txt("_acme-challenge.xn--bcher-kva.example.test") == {VALUE}
    assert call("ipa_dns_dehydrated", "clean_challenge", *triples).code == 0
    assert set(scene.ipa.zones["example.test"]) == {"@", "_acme-challenge.www"}


# httpreq


class Service:
    """``ipa_dns serve`` as a process."""

    def __init__(self, scene: Scene, listen: str) -> None:
        clients = scene.folder / "clients"
        clients.touch(mode=0o600)
        clients.write_text("[traefik]\npassword = a long enough one\nnames = www.example.test *.sub.example.test\n")
        self.listen = listen
        self.process = scene.start("ipa_dns", "serve", "--listen", listen, "--clients", str(clients))
        assert self.process.stdout
        assert self.process.stdout.readline().startswith("listening")

    def post(self, path: str, body: object, *, user: str = "traefik:a long enough one") -> tuple[int, str]:
        """Return the status and the text of an answer."""
        host, port = self.listen.rsplit(":", 1)
        request = urllib.request.Request(
            f"http://{host}:{port}{path}",
            data=body if isinstance(body, bytes) else json.dumps(body).encode(),
            headers={"Authorization": f"Basic {b64encode(user.encode()).decode()}"},
        )
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310  a loopback address
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as e:
            with e:
                return e.code, e.read().decode()


@pytest.fixture
def service(scene: Scene) -> Iterator[Service]:
    """Start the service on a loopback port."""
    made = Service(scene, f"127.0.0.1:{free_port()}")
    yield made
    made.process.terminate()
    out, err = made.process.communicate(timeout=30)
    assert (made.process.returncode, out, err) == (0, "stopped\n", "")


def test_httpreq(scene: Scene, service: Service) -> None:
    """Default and RAW mode are answered with 200 and an empty body; what it adds is removed again."""
    body = {"fqdn": f"{NAME}.", "value": OTHER}
    assert service.post("/present", body) == (200, "")
    assert scene.dns.values(NAME) == {FOREIGN, OTHER}
    assert [entry.run.split()[:2] for entry in scene.ours()] == [["httpreq", str(service.process.pid)]]
    assert service.post("/cleanup", body) == (200, "")
    raw = {"domain": "www.example.test", "token": "-t", "keyAuth": "-t.k"}
    assert service.post("/present", raw)[0] == 200
    assert len(scene.dns.values(NAME)) == 2
    assert service.post("/cleanup", raw)[0] == 200
    assert scene.dns.values(NAME) == {FOREIGN}


def test_httpreq_removes_only_what_was_added_here(scene: Scene, service: Service) -> None:
    """Somebody else's value under a name that the client may ask for stays; lego is told that all is well."""
    scene.ipa.put(NAME, VALUE)
    assert service.post("/cleanup", {"fqdn": f"{NAME}.", "value": VALUE}) == (200, "")
    assert scene.dns.values(NAME) == {FOREIGN, VALUE}
    assert not scene.ipa.requests


def test_httpreq_lets_only_clients_in(scene: Scene, service: Service) -> None:
    """A wrong user or password is 401, a name that is not the client's 403, and FreeIPA is not asked."""
    body = {"fqdn": f"{NAME}.", "value": OTHER}
    for user in ("traefik:wrong password", "other:a long enough one", "", "traefik"):
        assert service.post("/present", body, user=user)[0] == 401
    for name in ("_acme-challenge.example.test.", "_acme-challenge.sub.example.test.", "www.www.example.test."):
        assert service.post("/present", {"fqdn": name, "value": OTHER})[0] == 403
    assert not scene.ipa.requests
    assert scene.log().count("a request without a known user and password") == 4
    assert "traefik may not ask for _acme-challenge.example.test" in scene.log()
    assert service.post("/present", {"fqdn": "_acme-challenge.a.sub.example.test", "value": OTHER})[0] == 200
    assert "long enough" not in scene.log()


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/other", {"fqdn": f"{NAME}.", "value": OTHER}, 404),
        ("/present", b"nonsense", 400),
        ("/present", b"[" * 50_000, 400),
        ("/present", b"x" * 70_000, 413),
        ("/present", {"fqdn": 5, "value": OTHER}, 400),
        ("/present", {"fqdn": NAME, "value": 'a"b'}, 422),
        ("/present", {"fqdn": "_acme-challenge.www.example.test\n", "value": OTHER}, 422),
    ],
)
def test_httpreq_refuses_what_it_does_not_know(path: str, body: Any, status: int, service: Service) -> None:
    """Each has its status and one line of text."""
    got, text = service.post(path, body)
    assert (got, text.startswith("error: ")) == (status, True), text


def test_httpreq_tells_why_it_failed(scene: Scene, service: Service) -> None:
    """The text has FreeIPA's reason and our hint, in time for lego, and the service goes on."""
    scene.ipa.faults.codes["dnsrecord_add"] = (2100, "Insufficient access: no")
    status, text = service.post("/present", {"fqdn": NAME, "value": OTHER})
    assert status == 403
    assert "Insufficient access" in text
    assert "hint: " in text
    scene.ipa.faults.codes.clear()
    assert service.post("/present", {"fqdn": NAME, "value": OTHER})[0] == 200


def test_httpreq_on_a_unix_socket(scene: Scene) -> None:
    """The socket is for owner and group, and is gone afterwards; one that a killed service left is replaced."""
    path = scene.folder / "socket"
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path))
    service = Service(scene, f"unix:{path}")
    assert path.stat().st_mode & 0o777 == 0o660
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(str(path))
        body = json.dumps({"fqdn": NAME, "value": OTHER})
        basic = b64encode(b"traefik:a long enough one").decode()
        head = f"POST /present HTTP/1.1\r\nHost: x\r\nAuthorization: Basic {basic}\r\nContent-Length: {len(body)}\r\n"
        connection.sendall(f"{head}\r\n{body}".encode())
        connection.settimeout(30)
        assert connection.recv(4096).split(b"\r\n")[0].endswith(b" 200 OK")
    assert scene.dns.values(NAME) == {FOREIGN, OTHER}
    service.process.terminate()
    assert scene.ended(service.process).code == 0
    assert not path.exists()


def test_httpreq_listens_on_loopback_alone(scene: Scene, call: Run) -> None:
    """Passwords do not travel in the clear; a file of clients that others can read is refused."""
    clients = scene.folder / "clients"
    clients.write_text("[a]\npassword = a long enough one\nnames = www.example.test\n")
    clients.chmod(0o644)
    words = ("serve", "--clients", str(clients), "--listen")
    assert call("ipa_dns", *words, "127.0.0.1:1").code == 5
    clients.chmod(0o600)
    for where in ("0.0.0.0:8553", "192.0.2.1:8553", "[::]:8553", "example.test"):
        assert call("ipa_dns", *words, where).code == 1
    for text in ("", "[a]\npassword = short\nnames = a.test\n", "[a]\nnames = a.test\n", "nonsense"):
        clients.write_text(text)
        assert call("ipa_dns", *words, "127.0.0.1:8553").code == 1


def test_httpreq_answers_requests_side_by_side(scene: Scene, service: Service) -> None:
    """Two values for one name at once, as lego sends them, are both there."""
    from concurrent.futures import ThreadPoolExecutor

    began = time.monotonic()
    with ThreadPoolExecutor(8) as pool:
        bodies = [{"fqdn": NAME, "value": f"value{n}"} for n in range(8)]
        assert [status for status, _ in pool.map(lambda body: service.post("/present", body), bodies)] == [200] * 8
    assert time.monotonic() - began < 25
    assert scene.dns.values(NAME) == {FOREIGN, *(f"value{n}" for n in range(8))}
