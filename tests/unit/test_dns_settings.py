"""Settings come from one file, the environment and options, in that order, and secrets stay where they are."""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path

import pytest

if sys.version_info < (3, 10):
    pytest.skip("the DNS hooks need Python 3.10", allow_module_level=True)

from certhooks.errors import BadNameError, CredentialsError, Error, UsageError
from certhooks.secrets import Secret
from certhooks_freeipa_dns import account, clients, settings
from certhooks_freeipa_dns.settings import Settings

EXAMPLES = Path(__file__).resolve().parents[2] / "contrib" / "examples"


@pytest.fixture(autouse=True)
def ipa_conf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Keep this machine's own files out."""
    monkeypatch.setattr(settings, "DEFAULT", tmp_path / "no.ini")
    monkeypatch.setattr(settings, "IPA_CONF", tmp_path / "default.conf")
    return tmp_path / "default.conf"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Make a private configuration file."""
    path = tmp_path / "ipa_dns.ini"
    path.touch(mode=0o600)
    return path


def test_options_go_before_environment_before_file(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each setting may come from each place; what nobody sets has its default."""
    file.write_text("[ipa]\nserver = a.test\nuser = one\nkeytab = /k\n[dns]\nttl = 30\nwait = 5\n")
    monkeypatch.setenv("IPA_DNS_SERVER", "b.test")
    monkeypatch.setenv("IPA_DNS_TTL", "40")
    monkeypatch.setenv("IPA_DNS_WAIT", "6")
    made = settings.read(file, {"wait": "7", "ttl": None})
    assert (made.server, made.user, made.keytab, made.ttl, made.wait) == ("b.test", "one", "/k", 40, 7.0)
    assert (made.require, made.backend, made.port) == ("all", "api", 53)
    assert settings.read(file, {"keytab": "/other"}).user == ""  # a key that is named goes before a password
    monkeypatch.setenv("IPA_DNS_PRINCIPAL", "ACME/a.test")
    assert settings.read(file).user == ""
    monkeypatch.setenv("IPA_DNS_USER", "two")
    assert settings.read(file).user == "two"  # as near as the key
    monkeypatch.delenv("IPA_DNS_USER")
    monkeypatch.delenv("IPA_DNS_PRINCIPAL")
    assert settings.read(file, {}, {"wait": 0.0, "settle": 3.0}).settle == 3.0
    assert settings.read(file, {}, {"wait": 0.0}).wait == 6.0


@pytest.mark.parametrize(("key", "value"), [("keytab", "/k"), ("principal", "ACME/a.test")])
def test_a_key_goes_before_tickets_of_the_file(
    key: str, value: str, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A key that an option or a variable names is used; where one place names both, nothing is ignored in silence."""
    file.write_text("[ipa]\nccache = FILE:/tickets\n")
    assert settings.read(file).ccache == "FILE:/tickets"
    made = settings.read(file, {key: value})
    assert (made.ccache, getattr(made, key)) == ("", value)
    monkeypatch.setenv(f"IPA_DNS_{key.upper()}", value)
    assert settings.read(file).ccache == ""
    monkeypatch.setenv("IPA_DNS_CCACHE", "FILE:/others")
    with pytest.raises(UsageError, match=f"the environment has both ccache and {key}"):
        settings.read(file)
    monkeypatch.delenv(f"IPA_DNS_{key.upper()}")
    assert settings.read(file, {key: value}).ccache == ""
    file.write_text(f"[ipa]\nccache = FILE:/tickets\n{key} = {value}\n")
    with pytest.raises(UsageError, match=f"ipa_dns.ini has both ccache and {key}"):
        settings.read(file)


def test_the_old_names_are_dehydrateds_alone(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Elsewhere a variable of FreeIPA's installers and scripts changes nothing; the password is inherited by nobody."""
    old = {"IPA_SERVER": "b.test", "IPA_DOMAIN": "d.test", "IPA_USER": "two", "IPA_PASSWORD": "swordfish"}
    for variable, text in old.items():
        monkeypatch.setenv(variable, text)
    file.write_text("[ipa]\nserver = a.test\n")
    made = settings.read(file)
    assert (made.server, made.domain, made.user, made.password) == ("a.test", "", "", None)
    made = settings.read(file, old_names=True)
    assert (made.server, made.domain, made.user, made.secret().reveal()) == ("b.test", "d.test", "two", "swordfish")
    assert "IPA_PASSWORD" not in os.environ


def test_a_password_that_is_missing(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error says where the user comes from, who may not be meant to be there."""
    file.write_text("[ipa]\nuser = one\n")
    with pytest.raises(CredentialsError, match=rf"no password for one \(user in {file}\)"):
        settings.read(file).secret()
    monkeypatch.setenv("IPA_DNS_USER", "two")
    with pytest.raises(CredentialsError, match=r"no password for two \(IPA_DNS_USER\)"):
        settings.read(file).secret()


def test_a_file_may_be_named_in_three_ways(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Option, variable, systemd credential; one that is named must be there."""
    file.write_text("[dns]\nttl = 30\n")
    monkeypatch.setenv("IPA_DNS_CONFIG", str(file))
    assert settings.read().ttl == 30
    monkeypatch.delenv("IPA_DNS_CONFIG")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    file.rename(tmp_path / "ipa_dns")
    assert settings.read().ttl == 30
    with pytest.raises(CredentialsError, match="there is no"):
        settings.read(tmp_path / "missing")


@pytest.mark.parametrize("line", ["password = swordfish", "PassWord: swordfish", " password=swordfish"])
def test_a_password_that_others_can_read(line: str, file: Path) -> None:
    """The file is refused; without a password in it others may read it."""
    file.write_text(f"[ipa]\n{line.strip()}\n")
    file.chmod(0o644)
    with pytest.raises(CredentialsError, match="read by others"):
        settings.read(file)
    file.write_text("[ipa]\npassword_file = /x\n")
    assert settings.read(file).password_file == "/x"
    file.chmod(0o666)
    with pytest.raises(CredentialsError, match="changed by others"):
        settings.read(file)


@pytest.mark.parametrize(
    "text",
    [
        "[other]\n", "[ipa]\nservre = a\n", "server = a\n", "[ipa\n", "[ipa]\nserver\n",
        "[ipa]\nserver = a\nserver = b\n",
        "[dns]\nttl = 0\n", "[dns]\nttl = x\n", "[dns]\nwait = -1\n", "[dns]\nwait = nan\n", "[dns]\nrequire = most\n",
        "[ipa]\nbackend = ldap\n", "[dns]\nport = 70000\n", "[DEFAULT]\nserver = a\n", "[ipa]\ndiscover = yes\n",
    ],
)  # fmt: skip
def test_what_makes_no_sense(text: str, file: Path) -> None:
    """It is told in one line, which does not quote the file."""
    file.write_text(f"{text}# swordfish\n")
    with pytest.raises(UsageError) as refused:
        settings.read(file)
    assert "swordfish" not in str(refused.value)
    assert "\n" not in str(refused.value)


def test_zone_is_a_name(file: Path) -> None:
    """It is taken as names are: lower case, no final dot."""
    assert settings.read(file, {"zone": "ACME.Example.com."}).zone == "acme.example.com"
    with pytest.raises(BadNameError):
        settings.read(file, {"zone": "a b"})


@pytest.mark.parametrize(
    ("text", "server", "domain"),
    [
        ("[global]\nserver = ipa1.x.test\ndomain = x.test\nhost = me.x.test\n", "ipa1.x.test", "x.test"),
        ("[global]\nhost = ipa2.x.test\nxmlrpc_uri = https://ipa2.x.test/ipa/xml\n", "ipa2.x.test", ""),
        ("[global]\ndomain = x.test\n", "", "x.test"),
        ("", "", ""),
    ],
)
def test_an_enrolled_host_needs_no_settings(text: str, server: str, domain: str, ipa_conf: Path) -> None:
    """Server and domain are those of /etc/ipa/default.conf, on clients and on servers; a given one goes before."""
    ipa_conf.write_text(text)
    made = settings.read()
    assert (made.server, made.domain, made.discover) == (server, domain, True)
    given = settings.read(None, {"server": "a.test:8443 b.test"})
    assert (given.discover, [str(each) for each in given.servers()]) == (False, ["a.test:8443", "b.test"])


def test_the_password_comes_from_one_of_three_places(file: Path, tmp_path: Path) -> None:
    """The file's own, a file's first line, or what a command prints; it never shows itself."""
    file.write_text("[ipa]\nuser = acme\npassword = %(sword)s # fish\n")
    made = settings.read(file)
    assert made.secret().reveal() == "%(sword)s # fish"
    assert "fish" not in repr(made)
    secret = tmp_path / "secret"
    secret.touch(mode=0o600)
    secret.write_text("swordfish\nmore\n")
    assert Settings(user="a", password_file=str(secret)).secret().reveal() == "swordfish"
    assert Settings(user="a", password_command="echo swordfish").secret().reveal() == "swordfish"
    secret.write_text("\n")
    for broken in (Settings(user="a"), Settings(user="a", password_file=str(secret))):
        with pytest.raises(CredentialsError):
            broken.secret()


def test_name_servers_have_ports() -> None:
    """Blanks and commas separate them; an IPv6 address with a port stands in brackets."""
    found = Settings(port=5353).addresses("192.0.2.1, ns.test:54 [2001:db8::1]:55 2001:db8::2")
    assert [tuple(each) for each in found] == [
        ("192.0.2.1", 5353), ("ns.test", 54), ("2001:db8::1", 55), ("2001:db8::2", 5353)
    ]  # fmt: skip
    with pytest.raises(Error):
        Settings().addresses("a b:x")


def test_the_examples_are_read(tmp_path: Path) -> None:
    """The example of the settings names every one of them, and both examples are what the commands read."""
    text = (EXAMPLES / "ipa_dns.ini").read_text(encoding="utf-8")
    path = tmp_path / "example.ini"
    path.touch(mode=0o600)
    path.write_text(text)
    settings.read(path)
    everything = "\n".join(line.removeprefix("#").lstrip() if " = " in line else line for line in text.splitlines())
    kept = [line for line in everything.splitlines() if line.startswith("[") or " = " in line]
    path.write_text("\n".join(line for line in kept if not line.startswith("ccache")))  # it stands alone
    settings.read(path)
    assert {line.partition(" = ")[0] for line in kept if " = " in line} == set(settings._keys())
    path.write_text((EXAMPLES / "ipa_dns.clients").read_text(encoding="utf-8"))
    assert clients.read(path)


def test_clients_may_ask_for_their_domains_alone() -> None:
    """An exact name, or with an asterisk what is below one; whole labels count."""
    made = clients.Client("u", Secret("a long password"), ("www.a.test", "*.b.test"))
    assert all(map(made.may, ["_acme-challenge.www.a.test", "www.a.test", "_acme-challenge.x.b.test", "x.y.b.test"]))
    assert not any(map(made.may, ["a.test", "x.www.a.test", "b.test", "_acme-challenge.b.test", "xb.test"]))


def test_setup_commands() -> None:
    """A zone of its own with the permission of that zone alone, or the challenges of a zone that is there."""
    text = account.commands("web.example.com", acme_zone="acme.example.com", settings=Settings())
    assert "ipa dnszone-add-permission acme.example.com\n" in text
    assert "--permissions='Manage DNS zone acme.example.com.'" in text
    assert "--hosts=web.example.com" in text
    before = text[: text.index("--ns-rec=$(hostname -f).")].splitlines()[-2]
    assert before.startswith("# On a FreeIPA server with DNS; ")  # a client's own name would be no name server
    readme = (EXAMPLES.parents[1] / "README.md").read_text(encoding="utf-8")
    assert f"   {before}\n   ipa dnsrecord-add example.com acme --ns-rec=" in readme
    assert "DNS Administrators" not in text
    text = account.commands("", acme_zone="", settings=Settings(zone="example.com", principal="ACME/web.example.com@R"))
    assert "--services=ACME/web.example.com" in text
    assert "ipa-getkeytab" in text
    look, change = (part for part in text.split("ipa permission-add ") if "--right" in part)
    assert "write" not in look.splitlines()[0]  # else every TXT record of the zone could be rewritten
    assert '--target="idnsname=_acme-challenge*,idnsname=example.com.,cn=dns,$SUFFIX"' in change
    with pytest.raises(UsageError):
        account.commands("", acme_zone="", settings=Settings())


@pytest.mark.parametrize(
    "text", ["\ufeff[dns]\r\nttl = 30\r\n", "[dns]\nttl: 30", "# remark\n[dns]\n  ttl=30", "[dns]\nttl = 30\n\n[ipa]"]
)
def test_files_as_editors_write_them(text: str, file: Path) -> None:
    """Marks at the beginning, line ends of Windows, colons."""
    file.write_bytes(text.encode())
    assert settings.read(file).ttl == 30


@pytest.mark.parametrize(
    "data",
    [
        "[dns]\nttl = 30".encode("utf-16"),
        "[dns]\nzone = b\u00fccher".encode("latin-1"),
        b"[dns]\nttl = 3\x000",
        b"\0" * 100,
        b"[dns]\n" + b"#" * 70_000,
        b"ttl = 30",
        b"[dns]\nttl = 30\nttl = 40",
        b"[dns]\nttl",
        b"[DEFAULT]\nttl = 30",
        b"[dns]\nttl = 1e99",
        b"[dns]\nwait = nan",
        b"[dns]\nwait = -1",
    ],
)
def test_files_that_are_no_settings(data: bytes, file: Path) -> None:
    """One error of ours each, of bounded length."""
    file.write_bytes(data)
    with pytest.raises(Error) as caught:
        settings.read(file)
    assert len(str(caught.value)) < 300


def test_what_is_no_file(tmp_path: Path) -> None:
    """A pipe that nobody writes to does not hang us; neither does anything else that is no file; a link may be one."""
    os.mkfifo(tmp_path / "pipe", 0o600)
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "socket"))
        (tmp_path / "loop").symlink_to("loop")
        for name in ("pipe", "socket", "loop", "missing", ".", "x" * 300, "null\0"):
            for read in (settings.read, clients.read, lambda path: Settings(password_file=str(path)).secret()):
                with pytest.raises(CredentialsError):
                    read(tmp_path / name)
    target = tmp_path / "target"
    target.touch(mode=0o600)
    target.write_text("[dns]\nttl = 30\n")
    (tmp_path / "link").symlink_to(target)
    assert settings.read(tmp_path / "link").ttl == 30
