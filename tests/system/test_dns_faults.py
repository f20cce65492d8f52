"""What FreeIPA may answer instead of yes: each its own line, hint and exit code, and nothing left in the zone."""

from __future__ import annotations

import socket
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest

from tests.lab.acme.bind import free_port
from tests.lab.ca import CA
from tests.lab.dns01 import FOREIGN, NAME, VALUE, Done, Scene
from tests.lab.dns_fixtures import needs_bind
from tests.lab.ipa_stub import PASSWORD, Failed, IpaStub

if TYPE_CHECKING:
    from pathlib import Path

    from tests.lab.dns_fixtures import Run

pytestmark = needs_bind


def failed(done: Done, code: int, *told: str) -> bool:
    """Hold that a command failed so, with one error, one hint at most and all these words; returns True."""
    lines = done.err.splitlines()
    assert done.code == code, done
    assert [line.split(":")[1] for line in lines] in ([" error"], [" error", " hint"]), done
    assert all(len(line) < 600 for line in lines)
    for text in told:
        assert text in done.err, done
    return True


@pytest.mark.parametrize(
    ("code", "text", "status", "told"),
    [
        (2100, "Insufficient access: Insufficient 'add' privilege", 12, ("does not let this account", "setup --print")),
        (3009, "invalid 'cnamerecord': CNAME record is not allowed", 12, ("CNAME", "alias takes no other record")),
        (4001, "example.test.: DNS zone not found", 2, ("zone not found", "may not see it")),
        (903, "an internal error has occurred", 4, ("code 903", "error_log")),
        (907, "cannot connect to 'ldapi://...'", 4, ("code 907",)),
        (4203, "Operations error", 4, ("code 4203",)),
        (3005, "Unknown option: bogus", 13, ("code 3005", "bogus")),
    ],
)
def test_errors_of_an_addition(  # noqa: PLR0917  parameters of the test
    code: int, text: str, status: int, told: tuple[str, ...], scene: Scene, run: Run
) -> None:
    """Each code of a refused addition is told in its own way; what is in the zone stays as it was."""
    scene.ipa.faults.codes["dnsrecord_add"] = (code, text)
    assert failed(run("--timeout", "20", "add", "www.example.test", VALUE), status, *told)
    assert scene.ipa.txt(NAME) == {FOREIGN}
    assert not scene.ours()


@pytest.mark.parametrize(("code", "text"), [(4202, "no modifications to be performed"), (4026, "TXT record does not")])
def test_what_is_no_error(code: int, text: str, scene: Scene, run: Run) -> None:
    """An addition that changes nothing and a removal of what is absent are fine when the look afterwards says so."""
    scene.ipa.put(NAME, VALUE)
    if code == 4202:
        scene.ipa.faults.codes["dnsrecord_add"] = (code, text)
        assert run("add", "www.example.test", VALUE).code == 0
        assert not scene.ours()  # somebody else added it: a failure or sweep would not take it away
    else:
        assert run("del", "www.example.test", VALUE).code == 0
        scene.ipa.faults.codes["dnsrecord_del"] = (code, text)
        assert run("del", "www.example.test", VALUE).code == 0


def test_an_account_that_may_not_change_a_ttl(scene: Scene, run: Run) -> None:
    """Where another made the entry between our look and our addition, it gets the value without the TTL."""
    real = scene.ipa.call

    def racing(method: str, arguments: list[Any], options: dict[str, Any]) -> dict[str, Any]:
        if method == "dnsrecord_add" and "dnsttl" in options:
            raise Failed(2100, "Insufficient access: Insufficient 'write' privilege to the 'dNSTTL' attribute of entry")
        return real(method, arguments, options)

    scene.ipa.call = racing  # type: ignore[method-assign]
    assert run("add", "new.example.test", VALUE).code == 0
    assert scene.ipa.zones["example.test"]["_acme-challenge.new"] == {"txtrecord": [VALUE]}


def test_no_dns_in_freeipa(scene: Scene, run: Run) -> None:
    """A FreeIPA without its own DNS is told apart from one without that zone."""
    scene.ipa.faults.codes["dnszone_show"] = (4001, "DNS is not configured")
    assert failed(run("add", "www.example.test", VALUE), 12, "manages no DNS")


def test_an_account_for_one_zone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It works there; elsewhere it gets the hint, whether it sees the other zone or not."""
    with Scene(tmp_path, zones={"acme.test": "", "example.test": ""}, denied=["example.test"]) as scene:
        assert scene.run("ipa_dns", "add", "www.acme.test", VALUE, capsys=capsys).code == 0
        assert failed(scene.run("ipa_dns", "add", "www.example.test", VALUE, capsys=capsys), 12, "permission")
        scene.ipa.hidden.add("example.test")
        assert failed(scene.run("ipa_dns", "add", "www.example.test", VALUE, capsys=capsys), 2, "may not see it")


def test_unavailable(scene: Scene, run: Run) -> None:
    """HTTP 503 is a fault of the server, not of the account."""
    scene.ipa.faults.status = 503
    assert failed(run("add", "www.example.test", VALUE), 4, "HTTP status 503")


def test_silence(scene: Scene, run: Run) -> None:
    """A server that takes the request and never answers costs no more than the time that was given."""
    scene.ipa.faults.silent = 20
    began = time.monotonic()
    assert failed(run("--timeout", "2", "add", "www.example.test", VALUE), 4, "did not answer within")
    assert time.monotonic() - began < 5


def test_nobody_listens(run: Run) -> None:
    """A server that is down is told by its name."""
    port = free_port()
    assert failed(run("--server", f"localhost:{port}", "add", "www.example.test", VALUE), 4, f"localhost:{port}")


def test_a_wrong_certificate(scene: Scene, run: Run, tmp_path: Path) -> None:
    """A certificate of another CA, or for another name, ends the run: the next server is not tried, nothing is sent."""
    stranger = tmp_path / "stranger.pem"
    stranger.write_bytes(CA("Stranger").pem)
    words = ("--server", f"{scene.ipa.where} localhost:{scene.ipa.port}", "add", "www.example.test", VALUE)
    assert failed(run("--cafile", str(stranger), *words), 4, "is not trusted")
    with IpaStub(["example.test"], names=["other.test"], ca=scene.ipa.ca) as other:
        words = ("--server", f"localhost:{other.port} {scene.ipa.where}", "add", "www.example.test", VALUE)
        assert failed(run(*words), 4, "is not trusted", "mismatch")
        assert not other.requests
    assert not scene.ipa.requests


def test_failover(scene: Scene, run: Run) -> None:
    """A server that is down or has a fault is passed over; the removal asks the one that was written to first."""
    with IpaStub(["example.test"], ca=scene.ipa.ca) as broken:
        broken.faults.status = 500
        servers = f"localhost:{free_port()} {broken.where} {scene.ipa.where}"
        assert run("--server", servers, "add", "www.example.test", VALUE).code == 0
        asked = len(broken.requests)
        assert asked == 1
        assert run("--server", servers, "del", "www.example.test", VALUE).code == 0
        assert len(broken.requests) == asked
    assert scene.ipa.txt(NAME) == {FOREIGN}


def test_an_expired_session(scene: Scene, run: Run) -> None:
    """A session that ends between two requests is begun anew once; one that never lasts is an error."""
    real = scene.ipa.call

    def expiring(method: str, arguments: list[object], options: dict[str, object]) -> dict[str, object]:
        result = real(method, arguments, options)
        if method == "batch" and scene.ipa.methods.count("batch") == 1:
            scene.ipa.faults.expire = 1
        return result

    scene.ipa.call = expiring  # type: ignore[method-assign]
    assert run("add", "www.example.test", VALUE).code == 0
    assert scene.ipa.requests.count("/ipa/session/login_password") == 2
    scene.ipa.faults.expire = 100
    assert failed(run("del", "www.example.test", VALUE), 5, "does not accept acme")


@pytest.mark.parametrize(
    ("reason", "told"),
    [
        ("invalid-password", "invalid password"),
        ("password-expired", "set a new one"),
        ("krbprincipal-expired", "principal-expiration"),
        ("user-locked", "user-unlock"),
    ],
)
def test_a_login_that_fails(reason: str, told: str, scene: Scene, run: Run) -> None:
    """The reason that FreeIPA gives is told, with what helps; the password is nowhere."""
    scene.ipa.faults.reason = reason
    done = run("-vv", "add", "www.example.test", VALUE)
    assert (done.code, told in done.err) == (5, True), done
    assert PASSWORD not in done.out + done.err + scene.log()


def test_an_alias_of_the_server(scene: Scene, run: Run) -> None:
    """FreeIPA refuses requests under another name than its own; the hint says so."""
    scene.ipa.name = "ipa1.example.test"  # so that the Referer does not fit
    where = f"localhost:{scene.ipa.port}"
    assert failed(run("--server", where, "add", "www.example.test", VALUE), 4, "HTTP status 400", "own name")


@pytest.mark.parametrize(
    "garbage",
    [
        b"",
        b"<html>hello</html>",
        b"[]",
        b"null",
        b'{"result": {"results": []}, "error": null}',
        b'{"result": {"results": [[]]}, "error": null}',
        b'{"result": null, "error": {"code": "x"}}',
        b'{"result": 5',
        b"\xff\xfe\x00",
        b"[" * 100_000,
    ],
)
def test_what_is_no_freeipa(garbage: bytes, scene: Scene, run: Run) -> None:
    """Whatever else answers is told in one line."""
    with IpaStub(["example.test"], ca=scene.ipa.ca) as odd:
        normal = odd.log_in

        def log_in(body: bytes) -> str:
            odd.faults.garbage = garbage
            return normal(body)

        odd.log_in = log_in  # type: ignore[method-assign]
        assert failed(run("--server", odd.where, "add", "www.example.test", VALUE), 4)


def test_an_answer_that_is_lost(scene: Scene, run: Run) -> None:
    """After a connection that broke with the change under way, the server is asked what became of it."""
    real = scene.ipa.call

    def breaking(method: str, arguments: list[object], options: dict[str, object]) -> dict[str, object]:
        if method == "dnsrecord_add" and not scene.ipa.methods.count("dnsrecord_add"):
            scene.ipa.faults.drop_after = 1
        return real(method, arguments, options)

    scene.ipa.call = breaking  # type: ignore[method-assign]
    assert run("add", "www.example.test", VALUE).code == 0
    assert scene.ipa.txt(NAME) == scene.dns.values(NAME) == {FOREIGN, VALUE}
    assert len(scene.ours()) == 1


def test_what_cannot_be_taken_back_is_told_and_swept(scene: Scene, run: Run) -> None:
    """When the removal fails too, the warning says so, the list keeps the value, and sweep removes it later."""
    scene.configure(wait=1, nameserver=f"{scene.dns.where} 127.0.0.1:{free_port()}")
    scene.ipa.faults.codes["dnsrecord_del"] = (2100, "Insufficient access")
    done = run("add", "www.example.test", VALUE)
    assert (done.code, "could not take back 1 value(s)" in done.err) == (14, True), done
    assert [entry.value for entry in scene.ours()] == [VALUE]
    assert run("sweep", "--older", "0").code == 12
    scene.ipa.faults.codes.clear()
    assert run("sweep", "--older", "0").code == 0
    assert scene.ipa.txt(NAME) == {FOREIGN}


def test_a_dns_server_that_answers_nonsense(scene: Scene, run: Run) -> None:
    """Datagrams that are no answer, or an answer to another question, do not pass for one."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as odd:
        odd.bind(("127.0.0.1", 0))
        odd.settimeout(0.2)
        port = odd.getsockname()[1]

        over = threading.Event()

        def answer() -> None:
            while not over.is_set():
                with suppress(TimeoutError):
                    data, sender = odd.recvfrom(4096)
                    for nonsense in (data[:2] + b"\x84\x00nonsense", b"", data):
                        odd.sendto(nonsense, sender)

        thread = threading.Thread(target=answer)
        thread.start()
        scene.configure(wait=1, nameserver=f"{scene.dns.where} 127.0.0.1:{port}")
        assert failed(
            run("add", "www.example.test", VALUE), 14, f"127.0.0.1:{port} "
        )  # named, whatever it lacks time for
        over.set()
        thread.join()
    assert scene.ipa.txt(NAME) == {FOREIGN}


def test_the_state_folder_cannot_be_used(scene: Scene, capsys: pytest.CaptureFixture[str]) -> None:
    """Without the list of our values nothing is added."""
    (scene.folder / "state").write_text("a file")
    done = scene.run("ipa_dns", "add", "www.example.test", VALUE, capsys=capsys)
    assert (done.code, scene.ipa.requests) == (70, []), done
