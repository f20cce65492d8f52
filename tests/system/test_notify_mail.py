"""Mail from the command's own parts to mail servers that nobody here wrote, and to ones that misbehave."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from email import message_from_bytes, message_from_string
from email.policy import default
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable, Optional

import pytest

from certhooks import cli
from certhooks.deadline import Deadline
from certhooks.errors import CredentialsError, DeadlineError, Error, UnreachableError
from certhooks.secrets import Secret
from certhooks.watch import mail as mail_module
from certhooks.watch import message as messages
from certhooks.watch import notify, settings
from certhooks.watch.channel import NotTakenError, RefusedError
from certhooks.watch.mail import Mail
from certhooks.watch.model import Finding, Level, Overview
from certhooks.watch.spool import Spool
from tests.lab import exim, smtp
from tests.lab.machine import machine_of_its_own
from tests.lab.smtp import Mailbox

if TYPE_CHECKING:
    import socket
    import ssl
    from collections.abc import Iterator

    from aiosmtpd.smtp import Envelope

    from certhooks.address import Address
    from tests.lab.ca import CA

ROOT = Path(__file__).resolve().parents[2]
TO = "ops@example.com"
MESSAGE = messages.make(
    "k.1", messages.FAILURE, "certhooks: critical", "fw01: höchste Zeit\n.\n" + "x" * 2000, 1.8e9, host="h.example.com"
)


@pytest.fixture(scope="module")
def ca() -> CA:
    """Make the authority that the administrator trusts."""
    from tests.lab.ca import CA

    return CA("Mail CA")


@pytest.fixture
def cafile(ca: CA, tmp_path: Path) -> Path:
    """Write it to a file."""
    path = tmp_path / "ca.pem"
    path.write_bytes(ca.pem)
    return path


@pytest.fixture
def context(ca: CA, tmp_path: Path) -> ssl.SSLContext:
    """Make the mail server's TLS."""
    return smtp.server_context(ca.issue([smtp.HOST, "mail.example.com"]), tmp_path)


def send(server: Address, tls: str, cafile: Optional[Path] = None, **more: Any) -> None:
    """Send the message."""
    Mail(TO, server, tls, cafile=cafile, **more).send(MESSAGE, Deadline(30))


def content_of(envelope: Envelope) -> bytes:
    """Return the mail in an envelope."""
    assert isinstance(envelope.content, bytes)
    return envelope.content


def password(text: str) -> Callable[[], Secret]:
    """Return what gives a password."""
    return lambda: Secret(text)


def test_starttls_with_a_login(cafile: Path, context: ssl.SSLContext) -> None:
    """After STARTTLS and a login with a password beyond ASCII, the whole message arrives as it was, encrypted."""
    box = Mailbox()
    with smtp.serve(box, starttls=context, login=("me", "p%sswörd")) as server:
        send(server, "starttls", cafile, user="me", password=password("p%sswörd"))
    (taken,) = box.taken
    assert box.encrypted == [True]
    assert (taken.mail_from, taken.rcpt_tos) == ("root@h.example.com", [TO])
    read = message_from_bytes(content_of(taken), policy=default)
    assert read.get_content().replace("\r\n", "\n") == MESSAGE.body
    assert (read["Subject"], read["Message-ID"], read["Auto-Submitted"]) == (
        MESSAGE.subject,
        "<k.1@h.example.com>",
        "auto-generated",
    )


def test_a_host_with_a_short_name_sends_under_its_whole_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Others refuse a sender without a domain; what is set as sender is used as it is."""
    monkeypatch.setattr("socket.getfqdn", lambda: "client.example.com")
    box = Mailbox()
    short = messages.make("k.1", messages.FAILURE, "s", "b", 1.8e9, host="client")
    with smtp.serve(box) as server:
        for sender in ("", "certs@example.com"):
            Mail(TO, server, "none", sender).send(short, Deadline(30))
    assert [one.mail_from for one in box.taken] == ["root@client.example.com", "certs@example.com"]
    assert {message_from_bytes(content_of(one))["Message-ID"] for one in box.taken} == {"<k.1@client>"}


def test_tls_from_the_first_byte_on(cafile: Path, context: ssl.SSLContext) -> None:
    """``tls = tls``; and a login that is not PLAIN."""
    box = Mailbox()
    with smtp.serve(box, tls=context, login=("me", "swordfish"), auth_exclude_mechanism=["PLAIN"]) as server:
        send(server, "tls", cafile, user="me", password=password("swordfish"))
    assert len(box.taken) == 1


def test_no_tls_to_a_server_of_this_host() -> None:
    """``tls = none`` asks for nothing, and starts no TLS where it is offered."""
    box = Mailbox()
    with smtp.serve(box) as server:
        send(server, "none")
    assert box.encrypted == [False]


@pytest.mark.parametrize("tls", ["starttls", "tls"])
@pytest.mark.parametrize("why", ["other ca", "other name", "expired"])
def test_a_certificate_that_is_not_trusted_ends_it(tls: str, why: str, ca: CA, cafile: Path, tmp_path: Path) -> None:
    """Another CA, another name, an expired one: nothing is sent, and the hint says what to set."""
    issuer = type(ca)("Other") if why == "other ca" else ca
    issued = issuer.issue(["other.test" if why == "other name" else smtp.HOST], days=0.01 if why == "expired" else 90)
    context, box = smtp.server_context(issued, tmp_path), Mailbox()
    how: dict[str, Any] = {"tls": context} if tls == "tls" else {"starttls": context}
    with smtp.serve(box, **how) as server, pytest.raises(UnreachableError, match="is not trusted") as failed:
        send(server, tls, cafile)
    assert "cafile in [mail]" in (failed.value.hint or "")
    assert box.taken == []


def test_starttls_that_is_not_offered_ends_it(cafile: Path) -> None:
    """Whoever strips STARTTLS from the greeting gets neither the message nor the password."""
    box = Mailbox()
    with smtp.serve(box, login=("me", "swordfish")) as server, pytest.raises(UnreachableError, match="no STARTTLS"):
        send(server, "starttls", cafile, user="me", password=password("swordfish"))
    assert box.taken == []


def test_a_login_that_is_refused_or_not_offered(cafile: Path, context: ssl.SSLContext) -> None:
    """CredentialsError, and neither the password nor its coded form in what is said."""
    with smtp.serve(Mailbox(), starttls=context, login=("me", "right-one")) as server:
        for mechanisms in ("wrong-one", "falsch-ö"):
            with pytest.raises(CredentialsError, match="does not accept the login of me: 535") as failed:
                send(server, "starttls", cafile, user="me", password=password(mechanisms))
            assert mechanisms not in str(failed.value)
    with smtp.serve(Mailbox()) as server, pytest.raises(CredentialsError, match="offers no login"):
        send(server, "none", user="me", password=password("swordfish"))


def test_a_server_that_quotes_the_password_shows_it_to_nobody() -> None:
    """What a server says is shown without what it was sent."""
    coded = "AG1lAHN3b3JkZmlzaA=="
    talk = smtp.says(b"220 hi\r\n", b"250-hi\r\n250 AUTH PLAIN\r\n", f"535 no: {coded} swordfish\r\n".encode())
    with smtp.hostile(talk) as server, pytest.raises(CredentialsError) as failed:
        send(server, "none", user="me", password=password("swordfish"))
    assert str(failed.value).endswith("535 no: *** ***")


@pytest.mark.parametrize(
    ("command", "reply", "kind", "told"),
    [
        ("MAIL", "550 5.7.1 who are you", NotTakenError, "refused the sender: 550 5.7.1 who are you"),
        ("MAIL", "451 4.3.0 later", NotTakenError, "refused the sender: 451"),
        ("RCPT", "550 5.1.1 no such user", NotTakenError, "refused the recipient ops@example.com: 550 5.1.1 no such"),
        ("RCPT", "450 4.2.0 greylisted", NotTakenError, "refused the recipient .*450 4.2.0 greylisted"),
        ("DATA", "554 5.7.1 spam", RefusedError, "refused the message: 554 5.7.1 spam"),
        ("DATA", "452 4.3.1 disk full", NotTakenError, "refused the message: 452"),
    ],
)
def test_every_refusal_is_one_clear_error(command: str, reply: str, kind: type[Error], told: str) -> None:
    """Code and words of the server, at which step; only what is wrong with this message is for good."""
    with smtp.serve(Mailbox(**{command: reply})) as server, pytest.raises(NotTakenError, match=told) as failed:
        send(server, "none")
    assert type(failed.value) is kind
    assert failed.value.exit_code == 12
    assert failed.value.hint


@pytest.mark.parametrize(
    ("behave", "told"),
    [
        (lambda _peer: None, "broke off"),
        (smtp.says(b"554 no service\r\n"), "refused the connection: 554 no service"),
        (smtp.says(b"421 busy\r\n"), "refused the connection: 421 busy"),
        (smtp.says(b"220 hi\r\n"), "broke off"),
        (smtp.says(b"220 hi\r\n", b"500 what\r\n", b"500 what\r\n"), "refused the greeting: 500 what"),
        (smtp.says(b"220 hi\r\n", b"250 hi\r\n", b"250 ok\r\n"), "broke off"),
        (smtp.says(b"220 hi\r\n", b"250 hi\r\n", b"250 ok\r\n", b"250 ok\r\n", b"354 go\r\n"), "broke off"),
        (smtp.says(b"HTTP/1.1 400 Bad Request\r\n\r\n"), "is not understood: "),
        (smtp.says(b"\xff\xfe\x00\r\n"), "is not understood"),
        (smtp.floods(b"220-hi\r\n"), "broke off"),
        (smtp.floods(b"x"), "refused the conversation: 500 Line too long"),
        (smtp.says(b"554 \x1b[2Jevil\xff " + b"y" * 400 + b"\r\n"), r"554 \?\[2Jevil"),
    ],
)
def test_a_server_that_misbehaves_is_one_clear_error(behave: Callable[[socket.socket], object], told: str) -> None:
    """Cut off at each step, another protocol, floods, binary: one line, soon, without what a terminal would obey."""
    began = time.monotonic()
    with smtp.hostile(behave) as server:
        with pytest.raises(Error, match=told) as failed:
            send(server, "none")
        assert time.monotonic() - began < 10
    assert str(failed.value).isprintable()
    assert len(str(failed.value)) < 400
    assert failed.value.hint


def test_starttls_that_is_refused_ends_it() -> None:
    """A server that offers STARTTLS and then has no certificate gets nothing."""
    talk = smtp.says(b"220 hi\r\n", b"250-hi\r\n250 STARTTLS\r\n", b"454 4.7.0 TLS not available\r\n")
    with smtp.hostile(talk) as server, pytest.raises(NotTakenError, match="refused the conversation: 454"):
        send(server, "starttls")


@pytest.mark.parametrize(
    ("tls", "behave"),
    [
        ("none", smtp.hangs),
        ("none", smtp.drips(b"220-hi\r\n")),
        ("none", smtp.drips(b"x")),
        ("starttls", smtp.hangs),
        ("tls", smtp.hangs),
        ("tls", smtp.drips(b"\x16\x03\x03\x3f\xff" + bytes(1000))),
    ],
)
def test_a_server_that_hangs_or_drips_is_left_in_time(
    tls: str, behave: Callable[[socket.socket], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The whole conversation has a minute, shortened here: each byte of a drip does not begin it anew."""
    monkeypatch.setattr(mail_module, "SECONDS", 0.6)
    with smtp.hostile(behave) as server:
        began = time.monotonic()
        with pytest.raises(DeadlineError, match="did not take the message within"):
            send(server, tls)
        assert time.monotonic() - began < 3


def test_a_server_that_hangs_after_the_message_may_have_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """No answer to the end of the message: it counts as not taken; no answer to the farewell: it is taken."""
    monkeypatch.setattr(mail_module, "SECONDS", 1.0)
    monkeypatch.setattr(mail_module, "_FAREWELL", 0.2)

    def until_data(*last: bytes) -> Callable[[socket.socket], object]:
        def behave(peer: socket.socket) -> None:
            for reply in (b"220 hi\r\n", b"250 hi\r\n", b"250 ok\r\n", b"250 ok\r\n", b"354 go\r\n"):
                peer.sendall(reply)
                data = peer.recv(65536)
            while not data.endswith(b"\r\n.\r\n"):
                data += peer.recv(65536)
            for reply in last:
                peer.sendall(reply)
                peer.recv(65536)
            peer.recv(65536)

        return behave

    with smtp.hostile(until_data()) as server, pytest.raises(DeadlineError):
        send(server, "none")
    began = time.monotonic()
    with smtp.hostile(until_data(b"250 taken\r\n")) as server:
        send(server, "none")
        assert time.monotonic() - began < 0.9


def test_nothing_of_a_conversation_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither threads nor descriptors, however it ends."""
    monkeypatch.setattr(mail_module, "SECONDS", 0.1)
    with smtp.hostile(smtp.hangs) as slow, smtp.serve(Mailbox()) as good:
        descriptors, threads = len(os.listdir("/proc/self/fd")), threading.active_count()  # noqa: PTH208
        for _ in range(5):
            with pytest.raises((DeadlineError, UnreachableError)):  # as the end finds it
                send(slow, "none")
        monkeypatch.setattr(mail_module, "SECONDS", 30)
        for _ in range(5):
            send(good, "none")
        end = time.monotonic() + 5
        while threading.active_count() > threads and time.monotonic() < end:
            time.sleep(0.01)
        assert threading.active_count() == threads
        assert len(os.listdir("/proc/self/fd")) <= descriptors + 2  # noqa: PTH208  the server's side may be closing


DELIVER = """
import sys
from pathlib import Path
from certhooks import cli
from certhooks.deadline import Deadline
from certhooks.watch import notify, settings
state, conf = map(Path, sys.argv[1:])
sys.exit(notify.deliver(state, settings.read(conf), cli.Screen("certhooks"), Deadline(60)))
"""


def test_kill_9_while_mail_is_delivered_loses_nothing(tmp_path: Path) -> None:
    """Killed in the middle of a delivery again and again: every message arrives, some twice by the same Message-ID."""
    box, conf, state = Mailbox(), tmp_path / "notify.conf", tmp_path / "state"
    with smtp.serve(box) as server:
        conf.write_text(f"[mail]\nto = {TO}\nserver = {server.host}:{server.port}\n")
        conf.chmod(0o600)
        spool = Spool(state)
        spool.add(messages.make(f"k.{n}", messages.FAILURE, f"s{n}", "b", 1.8e9, host="h.test") for n in range(40))
        kills = 0
        while spool.queued():
            before = len(box.taken)
            words = [sys.executable, "-c", DELIVER, str(state), str(conf)]
            process = subprocess.Popen(words, cwd=ROOT, env={"PATH": "/usr/bin:/bin", "PYTHONPATH": "lib/src"})
            while len(box.taken) == before and process.poll() is None:
                time.sleep(0.001)
            time.sleep(kills * 0.0073 % 0.05)
            process.send_signal(signal.SIGKILL)
            process.wait()
            kills += 1
    ids = [message_from_bytes(content_of(one))["Message-ID"] for one in box.taken]
    assert set(ids) == {f"<k.{n}@h.test>" for n in range(40)}
    assert len(ids) <= 40 + kills
    assert kills > 2


@pytest.fixture
def mta(ca: CA) -> Iterator[exim.Exim]:
    """Run a real mail server on port 25 of this machine of its own."""
    if not exim.LAYER.built:
        pytest.skip("exim is not here: python -m tests.lab.exim gets it")
    exim.user("pager")
    with exim.Exim("client.example.com", ca.issue(["client.example.com", "localhost"])) as server:
        yield server


@machine_of_its_own("127.0.0.1 client.example.com", hostname="client.example.com")
def test_a_real_mail_server_delivers_to_a_local_mailbox(mta: exim.Exim, cafile: Path, tmp_path: Path) -> None:
    """With nothing set but ``to = pager`` it comes into that user's mailbox; a user who is not there is an error."""
    conf, state, screen = tmp_path / "notify.conf", tmp_path / "state", cli.Screen("certhooks")
    conf.touch(mode=0o600)
    conf.write_text("[mail]\nto = pager\n")
    down = Finding(
        Level.CRITICAL, "certmonger", "certmonger antwortet nicht: Gerät fehlt", "systemctl start certmonger"
    )
    read = settings.read(conf)
    assert len(notify.queue(state, Overview(1.8e9, "client.example.com", (), (down,)), read)) == 1
    assert notify.deliver(state, read, screen, Deadline(30)) == 0
    got = message_from_string(mta.mail("pager"), policy=default)
    assert got["Subject"].startswith("certhooks on client.example.com: critical: ")
    assert "Gerät fehlt" in got.get_content()
    assert "to do:    systemctl start certmonger" in got.get_content()
    assert (got["Return-path"], got["Envelope-to"]) == ("<root@client.example.com>", "pager@localhost")
    assert Spool(state).queued() == []
    conf.write_text(f"[mail]\nto = pager\nserver = client.example.com\ntls = starttls\ncafile = {cafile}\n")
    assert notify.test(settings.read(conf), screen, Deadline(30)) == 0
    assert "X=TLS1" in mta.log()
    conf.write_text("[mail]\nto = you@elsewhere.example\n")
    assert notify.test(settings.read(conf), screen, Deadline(30)) == NotTakenError.exit_code


@machine_of_its_own("127.0.0.1 client.example.com", hostname="client.example.com")
def test_what_a_real_mail_server_does_not_want_is_given_up_alone(mta: exim.Exim, tmp_path: Path) -> None:
    """A message that it refuses for good stays behind while the others go through."""
    conf = tmp_path / "notify.conf"
    conf.touch(mode=0o600)
    conf.write_text("[mail]\nto = pager\n")
    spool = Spool(tmp_path / "state")
    subjects = ("first", "unwanted", "third")
    spool.add(messages.make(s, messages.FAILURE, s, "text", 1.8e9, host="client.example.com") for s in subjects)
    (refused,) = spool.deliver(settings.read(conf).channels(), Deadline(30))
    assert "refused the message: 550 this is not wanted here" in str(refused)
    assert [one.subject for one in spool.queued()] == ["unwanted"]
    end = time.monotonic() + 10
    while "third" not in mta.mail("pager"):
        assert time.monotonic() < end
        time.sleep(0.02)
