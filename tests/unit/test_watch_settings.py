"""Whom to tell: what notify.conf may say, and one clear error for everything else."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from email import message_from_bytes
from email.policy import default
from pathlib import Path
from typing import Any

import pytest

from certhooks import cli
from certhooks.address import Address
from certhooks.deadline import Deadline
from certhooks.errors import CredentialsError, DeadlineError, Error, UsageError
from certhooks.watch import channel as channels
from certhooks.watch import message as messages
from certhooks.watch import notify, settings, told
from certhooks.watch.channel import Command, NotTakenError
from certhooks.watch.mail import Mail, compose
from certhooks.watch.model import DAY, Finding, Level, Overview
from certhooks.watch.settings import Settings
from certhooks.watch.spool import Spool

EXAMPLE = Path(__file__).resolve().parents[2] / "contrib" / "examples" / "notify.conf"
NOW = 1_800_000_000.0
TEST = messages.make(
    "k.1", messages.FAILURE, "subject", "body", NOW, host="h.example.com", level="critical", about=["x"]
)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Make a private configuration file."""
    path = tmp_path / "notify.conf"
    path.touch(mode=0o600)
    return path


@pytest.fixture(autouse=True)
def fqdn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give this host a name without asking for it."""
    monkeypatch.setattr(socket, "getfqdn", lambda: "client.example.com")


def test_everything_that_can_be_set(file: Path) -> None:
    """Each setting comes out as it is meant, names of other alphabets in ASCII."""
    file.write_text(
        "[mail]\nto = root, ops@example.com  ops@bücher.example\nfrom = certs@example.com\n"
        "server = mx.example.com:587\n"
        "user = me\npassword = p%wörd\ncafile = /etc/ca.pem\n"
        "[command]\ncommand = /bin/page --team 'a b'\n"
        "[notify]\nwarning_days = 30\ncritical_days = 3.5\nreminders = weekly\n"
    )
    made = settings.read(file)
    assert made.to == ("root@client.example.com", "ops@example.com", "ops@xn--bcher-kva.example")
    assert (made.sender, made.server, made.tls) == ("certs@example.com", Address("mx.example.com", 587), "starttls")
    assert made.password
    assert (made.user, made.password.reveal(), made.cafile) == ("me", "p%wörd", Path("/etc/ca.pem"))
    assert made.command == ("/bin/page", "--team", "a b")
    assert (made.warning_days, made.critical_days, made.reminder) == (30, 3.5, 7 * DAY)
    assert "p%w" not in repr(made)
    assert [channel.name for channel in made.channels()] == [*(f"mail to {to}" for to in made.to), "command"]


@pytest.mark.parametrize(
    ("lines", "server", "tls"),
    [
        ("", Address("localhost", 25), "none"),
        ("server = 127.0.0.1:2525", Address("127.0.0.1", 2525), "none"),
        ("server = [::1]:26", Address("::1", 26), "none"),
        ("server = localhost\ntls = starttls", Address("localhost", 25), "starttls"),
        ("server = mx.example.com", Address("mx.example.com", 25), "starttls"),
        ("server = mx.example.com\ntls = tls", Address("mx.example.com", 465), "tls"),
        ("server = mx.bücher.example\ntls = none", Address("mx.xn--bcher-kva.example", 25), "none"),
    ],
)
def test_only_this_host_is_trusted_without_tls(file: Path, lines: str, server: Address, tls: str) -> None:
    """Elsewhere STARTTLS is required unless the file says otherwise."""
    file.write_text(f"[mail]\nto = root\n{lines}\n")
    made = settings.read(file)
    assert (made.server, made.tls) == (server, tls)


def test_without_a_file_there_is_nobody_to_tell(tmp_path: Path) -> None:
    """A missing or empty file is no error and gives no channel; a file without secret may be read by others."""
    assert settings.read(tmp_path / "none").channels() == []
    path = tmp_path / "open.conf"
    path.write_text("[notify]\nreminders = never\n")
    path.chmod(0o644)
    assert settings.read(path) == Settings(reminder=0)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[mail]\nserver = localhost\n", "to in .mail. of .*notify.conf is missing"),
        ("[mail]\nto = a@b@c\n", "to in .mail. .* no plain mail address: 'a@b@c'"),
        ("[mail]\nto = Bob <bob@example.com>\n", "no plain mail address"),
        ("[mail]\nto = a@-x\n", "no plain mail address"),
        ("[mail]\nto = a..b@example.com\n", "no plain mail address"),
        ("[mail]\nto = jörg@example.com\n", "no plain mail address"),
        (f"[mail]\nto = {'a' * 65}@example.com\n", "no plain mail address"),
        ("[mail]\nto = " + " ".join(f"a{n}@example.com" for n in range(21)), "more than 20"),
        ("[mail]\nto = root\n -oQ/tmp\n", "no plain mail address|to in"),
        ("[mail]\nto = root\nfrom = x y\n", "from in .mail. "),
        ("[mail]\nto = root\nserver = http://x/\n", "server in .mail. .* no HOST"),
        ("[mail]\nto = root\nserver = mx.test:99999\n", "server in .mail. "),
        ("[mail]\nto = root\ntls = yes\n", "tls in .mail. .* none of starttls, tls, none: 'yes'"),
        ("[mail]\nto = root\nuser = me\n", "user in .mail. .* without password"),
        ("[mail]\nto = root\npassword = me\n", "password in .mail. .* without user"),
        ("[mail]\nto = root\nuser = me\npassword = a\npassword_command = b\n", "password_command too"),
        ("[mail]\nto = root\nserver = mx.test\ntls = none\nuser = a\npassword = b\n", "over the wire as it is"),
        ("[mail]\nto = root\ncafile = ca.pem\n", "cafile in .mail. .* no absolute path"),
        ("[command]\ncommand =\n", "command in .command. .* empty"),
        ("[command]\ncommand = 'a\n", "not readable"),
        ("[command]\ncommand = page\n", "no absolute path: 'page'"),
        ("[notify]\nwarning_days = soon\n", "warning_days in .notify. .* not a number of days"),
        ("[notify]\nwarning_days = nan\n", "not a number of days"),
        ("[notify]\nwarning_days = -1\n", "not a number of days"),
        ("[notify]\nwarning_days = 5\ncritical_days = 6\n", "critical_days in .* more than warning_days"),
        ("[notify]\nreminders = hourly\n", "none of daily, weekly, never"),
        ("[mail]\nto = root\nrcpt = x\n", "unknown setting 'rcpt'"),
        ("[mail]\nto = root\ncommand = x\n", "unknown setting 'command'"),
        ("[smtp]\n", r"unknown section \[smtp\]"),
        ("[DEFAULT]\nto = root\n", r"unknown section \[DEFAULT\]"),
        ("to = root\n", r"no INI file: .*\(line 1\)"),
        ("[mail]\nto = root\nhunter2\n", r"no INI file: .*\(line 3\)"),
        ("[mail]\nto = root\nto = you\n", "no INI file: .*line"),
        ("[mail]\n[mail]\n", "no INI file: .*line"),
    ],
)
def test_what_is_wrong_is_named_with_its_place(file: Path, text: str, told: str) -> None:
    """One UsageError in one line with the section and the setting, or the line; never a value that may be secret."""
    file.write_text(text)
    with pytest.raises(UsageError, match=told) as refused:
        settings.read(file)
    assert "\n" not in str(refused.value)
    assert "hunter2" not in str(refused.value)
    assert refused.value.hint


def test_a_file_that_others_can_read_or_change_is_refused(file: Path) -> None:
    """With a password in it nobody else may read it; nobody else may ever write it: it names a command."""
    file.write_text("[mail]\nto = root\nuser = me\npassword = x\n")
    file.chmod(0o640)
    with pytest.raises(CredentialsError, match="read by others"):
        settings.read(file)
    file.write_text("[command]\ncommand = /bin/true\n")
    file.chmod(0o662)
    with pytest.raises(CredentialsError, match="changed by others"):
        settings.read(file)
    file.chmod(0o600)
    file.write_bytes(b"[mail]\nto = \xff\n")
    with pytest.raises(CredentialsError, match="not a text file"):
        settings.read(file)


def test_the_example_is_read_as_it_is_and_with_every_line_switched_on(file: Path) -> None:
    """The example's settings are the ones there are, and each value it shows is one that is taken."""
    made = settings.read(EXAMPLE)
    assert made.to == ("root@client.example.com",)
    lines = EXAMPLE.read_text().splitlines()
    on = [line[1:] if line[:1] == "#" and line[1:2].strip() else line for line in lines]
    text = "\n".join(on).replace("password = secret\n", "", 1)
    file.write_text(text)
    assert settings.read(file).command[0] == "/usr/local/bin/page-somebody"
    named = {line.partition(" =")[0] for line in on if " =" in line and line[:1] != "#"}
    assert named == {key for keys in settings.KNOWN.values() for key in keys}


@pytest.mark.parametrize(
    ("subject", "body"),
    [
        ("plain", "plain\n"),
        ("s" * 500, "x" * 5000 + "\n" + "é" * 3000),
        ("höst \u2028 a\r\nBcc: b@example.com", "a\r\n.\r\nQUIT\r\nb\n.\nc"),
        ("=?utf-8?q?a?=", "From here\n\n\n"),
    ],
)
def test_a_mail_is_one_that_every_server_takes(subject: str, body: str) -> None:
    """Lines of 998 bytes at most, ASCII on the wire, and what is read back is what was to be said."""
    made = messages.make("k.1", messages.FAILURE, subject, body, NOW, host="höst.example.com")
    data = compose(made, "root@a.example", "you@b.example")
    assert max(map(len, data.split(b"\r\n"))) <= 998
    assert data.isascii()
    assert b"\n" not in data.replace(b"\r\n", b"")
    read = message_from_bytes(data, policy=default)
    assert read.get_content().replace("\r\n", "\n") == made.body
    assert read["Subject"] == made.subject
    assert (read["To"], read["From"], read["Bcc"]) == ("you@b.example", "root@a.example", None)
    assert read["Message-ID"] == "<k.1@xn--hst-sna.example.com>"
    assert read["Auto-Submitted"] == "auto-generated"
    assert read["Date"].datetime.timestamp() == NOW


def command(tmp_path: Path, text: str) -> Command:
    """Make a command from a Python program."""
    path = tmp_path / "page"
    path.write_text(f"#!{sys.executable}\nimport json, os, subprocess, sys, time\n{text}\n")
    path.chmod(0o755)
    return Command((str(path), "--team", "a b"))


def test_a_command_gets_the_message_on_standard_input(tmp_path: Path) -> None:
    """As one JSON object, with its own words as arguments; exit status 0 is all that is asked of it."""
    out = tmp_path / "out"
    made = command(tmp_path, f"open({str(out)!r}, 'w').write(json.dumps([json.load(sys.stdin), sys.argv[1:]]))")
    made.send(TEST, Deadline(30))
    got, words = json.loads(out.read_text())
    assert got == {
        "key": "k.1",
        "kind": "failure",
        "level": "critical",
        "subject": "subject",
        "body": "body\n",
        "host": "h.example.com",
        "at": "2027-01-15T08:00:00+00:00",
        "about": ["x"],
    }
    assert words == ["--team", "a b"]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("sys.exit('no route to pager')", r"failed \(exit status 1\): no route to pager"),
        ("sys.stderr.write('\\x1b[2J' * 10**6); sys.exit(3)", r"failed \(exit status 3\): \?\[2J"),
        ("os.kill(os.getpid(), 9)", r"failed \(signal 9\)"),
        ("sys.stdout.write('x' * 10**8); sys.exit(1)", "exit status 1"),
    ],
)
def test_a_command_that_fails_is_quoted_within_bounds(tmp_path: Path, text: str, told: str) -> None:
    """The status, and the first of what it says, without what a terminal would obey."""
    with pytest.raises(NotTakenError, match=told) as failed:
        command(tmp_path, text).send(TEST, Deadline(30))
    assert len(str(failed.value)) < 600
    assert str(failed.value).isprintable()


def test_a_command_that_hangs_is_killed_with_all_that_it_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After 30 seconds, shortened here, nothing of it is left."""
    monkeypatch.setattr(channels, "COMMAND_SECONDS", 0.7)
    pid = tmp_path / "pid"
    text = f"child = subprocess.Popen(['sleep', '60']); open({str(pid)!r}, 'w').write(str(child.pid)); child.wait()"
    began = time.monotonic()
    with pytest.raises(DeadlineError, match="took longer than"):
        command(tmp_path, text).send(TEST, Deadline(30))
    assert time.monotonic() - began < 10
    end = time.monotonic() + 10
    while _runs(int(pid.read_text())):
        assert time.monotonic() < end
        time.sleep(0.01)


def test_a_command_that_leaves_something_behind_holds_nobody_up(tmp_path: Path) -> None:
    """What it started in the background may keep its output open: its own end counts."""
    began = time.monotonic()
    command(tmp_path, "subprocess.Popen(['sleep', '3'])").send(TEST, Deadline(30))
    assert time.monotonic() - began < 2.5


def test_little_is_kept_of_what_a_command_prints() -> None:
    """It may print for half a minute: the memory that this takes is bounded."""
    with subprocess.Popen(["sh", "-c", "yes | head -c 50000000"], stdout=subprocess.PIPE) as process:
        assert process.stdout
        said = channels._Said(process.stdout)
        process.wait()
        assert len(said.text()) <= 300
        assert len(said._kept) == 2000


def test_a_command_that_is_not_there(tmp_path: Path) -> None:
    """Missing, no program, a folder: one clear error."""
    (tmp_path / "text").write_text("x")
    for words in (("/nonexistent/x",), (str(tmp_path / "text"),), (str(tmp_path),), ("/bin/\0",)):
        with pytest.raises(UsageError, match="cannot be run"):
            Command(words).send(TEST, Deadline(30))


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_notify_tells_delivers_and_tests(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What is new is queued once, delivered once; a test goes to everybody at once; failures give an exit code."""
    state, out = tmp_path / "state", tmp_path / "out"
    program = command(tmp_path, f"open({str(out)!r}, 'a').write(json.load(sys.stdin)['subject'] + '\\n')")
    made, screen = Settings(command=program._words), cli.Screen("certhooks")
    seen = Overview(NOW, "h.example.com", (), (Finding(Level.CRITICAL, "certmonger", "certmonger does not answer"),))
    assert len(notify.queue(state, seen, made)) == 1
    assert notify.queue(state, seen, made) == []
    assert notify.deliver(state, made, screen, Deadline(30)) == 0
    assert notify.deliver(state, made, screen, Deadline(30)) == 0
    assert notify.test(made, screen, Deadline(30)) == 0
    assert out.read_text().splitlines() == [
        "certhooks on h.example.com: critical: h.example.com: certmonger does not answer",
        f"certhooks on {socket.gethostname()}: test",
    ]
    assert "command: taken" in capsys.readouterr().out
    broken = Settings(command=("/bin/false",))
    assert notify.test(broken, screen, Deadline(30)) == NotTakenError.exit_code
    assert "certhooks: error: the notify command /bin/false failed (exit status 1)" in capsys.readouterr().err
    with pytest.raises(UsageError, match="nobody to tell"):
        notify.test(Settings(), screen, Deadline(30))


def test_without_a_channel_nothing_is_told_yet(tmp_path: Path) -> None:
    """Trouble that began before anybody could be told is told as soon as somebody can be; no queue grows till then."""
    state = tmp_path / "state"
    seen = Overview(NOW, "h.test", (), (Finding(Level.CRITICAL, "certmonger", "down"),))
    assert notify.queue(state, seen, Settings()) == []
    assert notify.deliver(state, Settings(), cli.Screen("certhooks"), Deadline(1)) == 0
    assert not state.exists()
    assert len(notify.queue(state, seen, Settings(command=("/bin/true",)))) == 1


@pytest.mark.parametrize("when", ["news.save", "notify.Spool.add", "spool.Spool._fold"])
def test_a_kill_between_queue_and_memory_loses_and_repeats_nothing(
    when: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next run makes the same messages again, by the same keys: those that are queued already are known."""
    made = Settings(command=("/bin/true",))

    def killed(*_: Any) -> None:
        raise KeyboardInterrupt

    calm = Overview(NOW, "h.test", (), ())
    seen = Overview(NOW + 1, "h.test", (), (Finding(Level.CRITICAL, "certmonger", "down"),))
    notify.queue(tmp_path, calm, made)
    with monkeypatch.context() as patch:
        patch.setattr(f"certhooks.watch.{when}", killed)
        with pytest.raises(KeyboardInterrupt):
            notify.queue(tmp_path, seen, made)
    notify.queue(tmp_path, seen, made, now=NOW + 300)
    assert len(Spool(tmp_path).queued()) == 1
    assert told.load(tmp_path).serial == 1


def test_mail_needs_a_name_that_resolves() -> None:
    """A server whose name is nowhere, or a port where nobody listens, is one clear error."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
    for server, words in ((Address("nowhere.invalid", 25), "cannot resolve"), (Address("127.0.0.1", port), "refused")):
        with pytest.raises(Error, match=words) as failed:
            Mail("a@b.test", server, "none").send(TEST, Deadline(20))
        assert failed.value.exit_code == 4
        assert failed.value.hint


def test_descriptors_are_not_left_open(tmp_path: Path) -> None:
    """A hundred messages to commands and to closed ports leave no descriptor behind."""
    made = command(tmp_path, "sys.exit(1)")
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208  a count is all
    for _ in range(10):
        with pytest.raises(NotTakenError):
            made.send(TEST, Deadline(10))
        with pytest.raises(Error):
            Mail("a@b.test", Address("127.0.0.1", 1), "none").send(TEST, Deadline(10))
    assert len(os.listdir("/proc/self/fd")) <= before + 1  # noqa: PTH208
