"""What a real FreeIPA refuses, breaks and forgets: each told with its reason, and nothing of ours is left."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from python_freeipa import Client

from certhooks_freeipa_dns import ipa_dns
from certhooks_freeipa_dns.api import Api
from tests.lab.dns01 import VALUE, killed
from tests.lab.freeipa import challenges, names
from tests.lab.freeipa.challenges import ACME_ZONE, PREFIX, THEIRS, ZONE, Zones, ours, served, soon
from tests.lab.freeipa.client import KEYTAB
from tests.lab.freeipa.fixtures import enrolled_machine, freeipa

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from certhooks_freeipa_dns.api import Answer, Call
    from tests.lab.freeipa.server import FreeIPA

__all__ = ["freeipa"]
pytestmark = enrolled_machine()

TARGET = f"www.{ACME_ZONE}"  # where the challenge of www.ipa.test leads
WWW = (f"www.{ZONE}", VALUE)
HOST = names.CLIENT.host
OLD, NEW = "First-1-secret", "Second-2-secret"


@pytest.fixture(scope="module")
def zones(freeipa: FreeIPA) -> Zones:
    """Make an account that may change the zone for challenges alone, and somebody else's value there."""
    challenges.run(freeipa, challenges.commands("--acme-zone", ACME_ZONE, "--keytab", "/run/acme.keytab"))
    challenges.configure(freeipa)
    made = Zones(freeipa, ZONE, ACME_ZONE)
    made.put(TARGET)
    return made


@pytest.fixture
def reader(freeipa: FreeIPA, tmp_path: Path) -> Iterator[list[str]]:
    """Make a user who may see all zones and change none; the settings are theirs meanwhile."""
    freeipa.api("user_add", "reader", givenname="Rea", sn="Der", userpassword=OLD)
    Client(names.SERVER.host, verify_ssl="/etc/ipa/ca.crt").change_password("reader", NEW, OLD)
    freeipa.api("privilege_add", "look")
    freeipa.api("privilege_add_permission", "look", permission=["System: Read DNS Entries"])
    freeipa.api("role_add", "looker")
    freeipa.api("role_add_privilege", "looker", privilege=["look"])
    freeipa.api("role_add_member", "looker", user=["reader"])
    password, settings = tmp_path / "password", tmp_path / "ini"
    for path, text in ((password, NEW), (settings, f"[ipa]\nuser = reader\npassword_file = {password}\n")):
        path.touch(mode=0o600)
        path.write_text(f"{text}\n")
    yield ["--config", str(settings)]
    for kind, name in (("user", "reader"), ("role", "looker"), ("privilege", "look")):
        freeipa.api(f"{kind}_del", name)


def test_an_account_for_one_zone(zones: Zones) -> None:
    """It answers what an alias leads into its zone; for a name of another zone it gets the reason and what to do."""
    done = ours("ipa_dns", "add", *WWW, TARGET, "another")
    assert (done.code, done.err) == (0, ""), done
    assert served(TARGET) == {THEIRS, VALUE}
    assert served(f"{PREFIX}{TARGET}") == {"another"}
    assert ours("ipa_dns", "del", *WWW, TARGET, "another").code == 0
    done = ours("ipa_dns", "add", f"other.{ZONE}", VALUE)
    assert done.code == 2, done
    assert f"no zone of FreeIPA holds {PREFIX}other.{ZONE}" in done.err
    assert "hint: FreeIPA does not serve it, or this account may not see it" in done.err
    zones.check()


def test_an_account_that_only_looks(zones: Zones, reader: list[str]) -> None:
    """Access denied by the directory has a code and a hint of its own."""
    done = ours("ipa_dns", *reader, "add", f"other.{ZONE}", VALUE)
    assert done.code == 12, done
    assert f"does not let this account change zone {ZONE}" in done.err
    assert "hint: give the account a role with the permission for this zone: ipa_dns setup" in done.err
    zones.check()


def test_a_disabled_account(freeipa: FreeIPA, zones: Zones, reader: list[str]) -> None:
    """It is a matter of credentials, and the hint says where to look."""
    freeipa.api("user_disable", "reader")
    done = ours("ipa_dns", *reader, "add", *WWW)
    assert done.code == 5, done
    assert "does not accept reader" in done.err
    assert "hint: " in done.err
    zones.check()


@pytest.mark.parametrize(
    ("down", "told", "help_"),
    [
        ("web", f"no connection to {names.SERVER.host}: connection refused", "is "),
        ("kdc", "no Kerberos ticket: Cannot contact any KDC", "is the KDC up"),
        ("directory", "no Kerberos ticket: ", "has the KDC its directory?"),
    ],
)
def test_a_daemon_is_down(freeipa: FreeIPA, zones: Zones, down: str, told: str, help_: str) -> None:
    """With one part of the only server down nothing is written, and one line tells what does not answer."""
    with freeipa.without(down):
        done = ours("ipa_dns", "add", *WWW)
    assert done.code == 4, done
    error, hint = done.err.splitlines()
    assert error.startswith(f"ipa_dns: error: {told}")
    assert hint.startswith(f"ipa_dns: hint: {help_}")
    zones.check()
    assert ours("ipa_dns", "add", *WWW).code == ours("ipa_dns", "del", *WWW).code == 0
    zones.check()


def test_a_session_that_expires(
    freeipa: FreeIPA, zones: Zones, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A session that ends between two requests is renewed, and nobody notices."""
    batch, log_in, asked, logins = Api.batch, Api._log_in, [], []

    def then_expire(self: Api, calls: Sequence[Call]) -> list[Answer]:
        asked.append(self)
        answers = batch(self, calls)
        freeipa.expire_sessions()
        return answers

    def counted(self: Api) -> None:
        logins.append(self)
        log_in(self)

    monkeypatch.setattr(Api, "batch", then_expire)
    monkeypatch.setattr(Api, "_log_in", counted)
    assert ipa_dns.main(["add", *WWW]) == 0
    assert len(asked) > 1
    assert len(logins) == len(asked)  # each found its session at an end
    assert ipa_dns.main(["del", *WWW]) == 0
    assert capsys.readouterr().err == ""
    zones.check()


@pytest.mark.parametrize("down", ["kdc", "directory"])
def test_a_password_while_a_daemon_is_down(freeipa: FreeIPA, zones: Zones, reader: list[str], down: str) -> None:
    """A right password that the server cannot check just now is not called wrong."""
    with freeipa.without(down):
        done = ours("ipa_dns", *reader, "add", *WWW)
    assert (done.code, "has a fault" in done.err, "hint: " in done.err) == (4, True, True), done
    zones.check()


@pytest.mark.parametrize(
    ("command", "point", "stored"),
    [
        ("add", "ledger", {THEIRS}),
        ("add", "before:dnsrecord_add", {THEIRS}),
        ("add", "after:dnsrecord_add", {THEIRS, VALUE}),
        ("del", "before:dnsrecord_del", {THEIRS, VALUE}),
        ("del", "after:dnsrecord_del", {THEIRS}),
        ("del", "ledger", {THEIRS}),
    ],
)
def test_a_killed_run_is_swept(zones: Zones, command: str, point: str, stored: set[str]) -> None:
    """Kill -9 after any step leaves at most what sweep removes, and somebody else's value stays."""
    if command == "del":
        assert ours("ipa_dns", "add", *WWW).code == 0
    assert killed(point, 1, "ipa_dns", [command, *WWW]) == -9
    assert zones.stored()[TARGET] == stored
    assert ours("ipa_dns", "sweep", "--older", "0").code == 0
    zones.check()


def test_dynamic_updates_with_the_hosts_key(freeipa: FreeIPA, zones: Zones) -> None:
    """A host changes what is below its own name with its key alone, as the printed policy lets it, and no more.

    The value is served at once, comes into the directory, and goes from both.
    """
    options = ["--backend", "update", "--keytab", str(KEYTAB), "--principal", f"host/{HOST}"]
    challenges.run(freeipa, challenges.commands("--backend", "update", "--zone", ZONE))
    name = f"{PREFIX}{HOST}"
    zones.put(name)
    soon(lambda: ours("ipa_dns", *options, "add", HOST, VALUE).code == 0)  # named has its new policy by then
    assert served(name) == {THEIRS, VALUE}
    soon(lambda: zones.stored()[name] == {THEIRS, f'"{VALUE}"'})  # as named shows it
    done = ours("ipa_dns", *options, "add", f"other.{ZONE}", VALUE)
    assert (done.code, "refuses the update" in done.err, "krb5-selfsub" in done.err) == (12, True, True), done
    assert ours("ipa_dns", *options, "del", HOST, VALUE).code == 0
    assert served(name) == {THEIRS}
    soon(lambda: zones.stored()[name] == {THEIRS})
    zones.check()
