"""``vcenter_instcert`` against every switch of the emulator: what is served is what is told, before and after."""

from __future__ import annotations

import datetime as dt
import json
import time
from typing import TYPE_CHECKING, Any, Optional

import pytest

from tests.lab.ca import CA
from tests.lab.vsphere import Phase, Reply, VCenter, rest, restart, vecs
from tests.lab.vsphere.site import USER, VSphereSite, expect_refusal, served

if TYPE_CHECKING:
    from tests.lab.ca import Issued
    from tests.lab.vsphere import Request

pytestmark = pytest.mark.usefixtures("soon")


class Case:
    """One vCenter and one new certificate for it."""

    def __init__(self, site: VSphereSite, **switches: Any) -> None:
        self.site = site
        self.vc: VCenter = site.vcenter()
        self.set(**switches)
        self.new: Issued = site.certificate()
        self.before = served(self.vc)

    def set(self, **switches: Any) -> None:
        """Set switches of the vCenter."""
        for name, value in switches.items():
            assert hasattr(self.vc.switches, name), name
            setattr(self.vc.switches, name, value)

    def expect_installed(self, *words: Any) -> None:
        """Run it, and make sure that it succeeded and the new certificate is stored and served."""
        done = self.site.instcert("--timeout", "30", *words, self.vc)
        assert done.code == 0, done
        assert "installed, served by" in done.out
        assert served(self.vc) == self.new.sha256
        assert self.vc.machine.leaf == self.new.certificate
        assert self.site.attempts(self.vc)[-1]["outcome"] == "done"

    def expect_failure(self, code: int, *texts: str, seconds: float = 30) -> None:
        """Run it, and make sure that it failed with this code, said so in one line, and the old one is served."""
        done = self.site.instcert("--timeout", seconds, self.vc)
        expect_refusal(done, code, *texts)
        assert served(self.vc) == self.before
        assert self.site.attempts(self.vc)[-1]["exit_code"] == code

    def expect_nothing_to_do(self) -> None:
        """Run it again, and make sure that nothing is sent."""
        changes = list(self.vc.changes)
        done = self.site.instcert(self.vc)
        assert done.code == 0, done
        assert "nothing to do" in done.out
        assert self.vc.changes == changes
        assert self.vc.sessions.open == {}


@pytest.mark.parametrize(
    "switches",
    [
        {},
        {"api": False},
        {"after": restart()},
        {"after": restart(), "put": "reset"},
        {"after": restart(), "put": "unavailable"},
        {"put": "reset"},
        {"put": "unavailable"},
        {"put": "400"},
        {"put": "404", "after": restart()},
        {"put": "404", "api": False},
        {"put": "500"},
        {"put": "500", "after": [Phase("quiet", 0.3, old=True)]},
        {"after": restart(), "sessions_survive": True},
        {"after": [Phase("quiet", 0.5, old=True)]},
        {"after": [Phase("reset", 0.3, hits=2, old=True)], "put": "reset"},
        {"after": [Phase("text503", 0.2, hits=2)]},
        {"after": [Phase("envoy503", 0.2, hits=2, old=True)]},
        {"after": [Phase("json503", 0.2, hits=2)], "api": False},
        {"after": [Phase("unauthenticated", 0.5, hits=2)]},
        {"after": [Phase("refuse", 0.5)], "api": False},
        {"crl_in_chain": True},
        {"challenge": True},
        {"root_already_exists": False},
        {"tls_already_exists": False},
    ],
    ids=lambda switches: " ".join(f"{name}={value}" for name, value in switches.items())[:60] or "instant",
)
def test_the_new_certificate_is_brought_into_use(vsite: VSphereSite, switches: dict[str, Any]) -> None:
    """However the replacement's request ends and whatever follows, it is sent once, and settled by looking.

    A second run sends nothing, and no session is left.
    """
    case = Case(vsite, **switches)
    case.expect_installed()
    assert case.vc.changes == ["root", "tls"]
    puts = [request for request in case.vc.requests if request.method == "PUT"]
    assert len(puts) == 1
    assert case.vc.sessions.open == {}
    assert case.vc.sessions.failed == 0
    case.expect_nothing_to_do()


def test_vcenter_without_an_answer_is_left_and_looked_at(vsite: VSphereSite, monkeypatch: pytest.MonkeyPatch) -> None:
    """A replacement that is carried out and never answered ends in success all the same."""
    monkeypatch.setattr("certhooks_vcenter.rest._PUT_SECONDS", 0.5)
    case = Case(vsite, put="hang", after=[Phase("quiet", 0.2, old=True)])
    done = vsite.instcert("--timeout", "60", case.vc)
    assert done.code == 0, done
    assert case.vc.changes == ["root", "tls"]
    assert served(case.vc) == case.new.sha256


@pytest.mark.parametrize("how", ["lost", "refused503"])
def test_a_replacement_that_was_not_carried_out_is_no_success(vsite: VSphereSite, how: str) -> None:
    """A cut connection, or 503, and nothing happens: not repeated, not called done, and the next run does it."""
    case = Case(vsite, put=how)
    case.expect_failure(13, "has not carried it out")
    assert len([request for request in case.vc.requests if request.method == "PUT"]) == 1
    assert case.vc.sessions.open == {}
    case.set(put="answered")
    case.expect_installed()


def test_a_yes_that_changes_nothing_is_no_success(vsite: VSphereSite) -> None:
    """VCenter answers 204 and does nothing: told long before the time is over, and the next run does it."""
    case = Case(vsite)
    case.vc.spoil = lambda request: Reply(204) if request.method == "PUT" else None
    began = time.monotonic()
    case.expect_failure(13, "was told as done, and", "has not carried it out")
    assert time.monotonic() - began < 15
    case.vc.spoil = lambda _request: None
    case.expect_installed()


def test_a_role_that_may_not_replace(vsite: VSphereSite) -> None:
    """403 at the replacement alone: nothing was carried out, and the journal says that nothing was left behind."""
    case = Case(vsite)
    body = b'{"error_type":"UNAUTHORIZED","messages":[]}'
    case.vc.spoil = lambda request: Reply(403, body) if request.method == "PUT" else None
    case.expect_failure(5, "does not allow the machine certificate")
    assert vsite.attempts(case.vc)[-1]["outcome"] == "undone"


@pytest.mark.parametrize("put", ["answered", "reset"])
def test_vcenter_that_goes_back_by_itself_is_a_rollback(vsite: VSphereSite, put: str) -> None:
    """The new one is served for a while, the services do not come up, the former one returns: exit code 15."""
    case = Case(vsite, put=put, after=[Phase("json503", 0.3, hits=2)], roll_back=True)
    case.expect_failure(15, "put the former one back", "previous certificate is back in place")
    assert case.vc.changes == ["root", "tls"]
    case.set(roll_back=False)
    case.expect_installed()


def test_a_success_that_does_not_last_is_none(vsite: VSphereSite) -> None:
    """Before 8.0U3 the restart begins when all looks well already: it is waited for, and the roll-back is seen."""
    case = Case(vsite, after=[Phase("quiet", 0.8), Phase("json503", 0.5, hits=1)], roll_back=True)
    case.vc.soap.version = "8.0.2"
    case.expect_failure(15, "put the former one back")


@pytest.mark.parametrize(("version", "waits"), [("8.0.2", True), ("8.0.3", False), ("9.0.0", False), ("", True)])
def test_only_what_may_restart_is_waited_for(vsite: VSphereSite, version: str, *, waits: bool) -> None:
    """From 8.0U3 on success is what is seen at once; where no restart comes, an older one is watched for a while."""
    case = Case(vsite)
    case.vc.soap.version = version
    began = time.monotonic()
    case.expect_installed()
    assert (time.monotonic() - began >= 2.0) is waits


def test_a_reply_without_end_is_no_reason_to_repeat(vsite: VSphereSite) -> None:
    """The replacement is carried out and answered with more than anybody reads: sent once, settled by looking."""
    case = Case(vsite)

    def drown(request: Request) -> Optional[Reply]:
        if request.method != "PUT":
            return None
        rest.answer(case.vc, request)
        return Reply(200, b" " * (17 * 1024 * 1024))

    case.vc.spoil = drown
    case.expect_installed()
    assert case.vc.changes == ["root", "tls"]


def test_the_former_certificate_to_the_end_of_time(vsite: VSphereSite) -> None:
    """The store has the new one and the old one is served: exit code 14 at the deadline; the next run only waits."""
    case = Case(vsite, after=[Phase("quiet", 4.0, old=True)])
    case.expect_failure(14, "still serves the former certificate; its store holds the new one", seconds=1.5)
    case.expect_installed()
    assert case.vc.changes == ["root", "tls"]


def test_services_that_do_not_come_back(vsite: VSphereSite) -> None:
    """The new certificate is served and no session is to be had: exit code 16 at the deadline, not success."""
    case = Case(vsite, after=[Phase("json503", 60.0)])
    done = vsite.instcert("--timeout", "1.5", case.vc)
    assert done.code == 16, done
    assert "serves the new certificate, but is not back" in done.err
    assert vsite.attempts(case.vc)[-1]["outcome"] == "failed"


def test_a_restart_does_not_cost_an_account(vsite: VSphereSite, monkeypatch: pytest.MonkeyPatch) -> None:
    """The right password that is refused while services start is offered once in a while, not at every look."""
    monkeypatch.setattr("certhooks_vcenter.settle.AFTER_REFUSAL", 60.0)
    case = Case(vsite, after=[Phase("unauthenticated", 60.0)])
    done = vsite.instcert("--timeout", "2", case.vc)
    assert done.code == 16, done
    logins = [r for r in case.vc.requests if r.method == "POST" and r.path == "/api/session"]
    assert len(logins) == 2, "the first one, and one since the replacement"


def test_renewed_root_of_the_same_key(vsite: VSphereSite) -> None:
    """Another certificate of the CA's key has the id: the new one is put beside it, under an id of its own."""
    case = Case(vsite)
    older = CA("Site CA", key=vsite.ca.key)
    case.vc.roots.add([older.certificate])
    case.expect_installed()
    assert vsite.ca.certificate in case.vc.roots.all()
    assert older.certificate in case.vc.roots.all()
    case.expect_nothing_to_do()


def test_a_root_that_is_said_to_be_added_is_looked_for(vsite: VSphereSite) -> None:
    """VCenter answers 201 and keeps the older certificate of the same key: ours is added under an id of its own."""
    case = Case(vsite, root_already_exists=False)
    case.vc.roots.add([CA("Site CA", key=vsite.ca.key).certificate])
    case.expect_installed()
    assert vsite.ca.certificate in case.vc.roots.all()
    case.expect_nothing_to_do()


@pytest.mark.parametrize("old_401", [True, False])
@pytest.mark.parametrize("api", [True, False])
def test_every_form_of_no(vsite: VSphereSite, *, api: bool, old_401: bool) -> None:
    """A 401 with a challenge, and 6.5's without a type, in both dialects: credentials, tried once."""
    case = Case(vsite, challenge=True, old_401=old_401, api=api)
    case.vc.sessions.users[USER].password = "another"
    case.expect_failure(5, "does not accept user name and password")
    assert case.vc.sessions.failed == 1


def test_a_root_that_is_not_listed_yet_is_waited_for(vsite: VSphereSite) -> None:
    """Vmafd takes a minute to list a new root: it is not sent under another id, and the replacement goes on."""
    case = Case(vsite, root_lag=1.0)
    case.expect_installed()
    case.new = vsite.certificate()
    case.expect_installed()
    assert case.vc.changes == ["root", "tls", "tls"]
    assert len(case.vc.roots.chains) == 2


def test_every_root_of_the_file_and_nothing_else(vsite: VSphereSite) -> None:
    """Old and new CA of a file are added one by one; an expired one, an intermediate and a leaf are not."""
    case = Case(vsite)
    next_ca, below = CA("Site CA 2"), vsite.ca.intermediate()
    leaf = vsite.ca.issue(["leaf.example.test"])
    gone = CA("Gone CA")
    long_ago = dt.datetime(2020, 1, 1, tzinfo=dt.timezone.utc)
    expired = gone.issue([], common_name="Gone CA", key=gone.key, ca=True, days=10, not_before=long_ago)
    vsite.roots.write_bytes(b"text\r\n".join([expired.cert_pem, next_ca.pem, below.pem, leaf.cert_pem, vsite.ca.pem]))
    done = vsite.instcert("--timeout", "30", case.vc)
    assert done.code == 0, done
    added = [each for each in case.vc.roots.all() if each != case.vc.ca.certificate]
    assert set(added) == {vsite.ca.certificate, next_ca.certificate}
    assert case.vc.changes == ["root", "root", "tls"]
    assert {vecs.chain_id(each) for each in added} <= set(case.vc.roots.chains)


@pytest.mark.parametrize("fullchain", [False, True])
def test_intermediates_go_where_they_are_wanted(vsite: VSphereSite, *, fullchain: bool) -> None:
    """By default the leaf alone is ``cert`` and the rest ``root_cert``; --fullchain sends the chain in ``cert``."""
    case = Case(vsite)
    new = vsite.certificate(ca=vsite.ca.intermediate())
    done = vsite.instcert("--timeout", "30", *["--fullchain"] * fullchain, case.vc)
    assert done.code == 0, done
    [put] = [json.loads(request.body) for request in case.vc.requests if request.method == "PUT"]
    assert put["cert"].count("BEGIN CERTIFICATE") == 1 + fullchain
    assert put["root_cert"].count("BEGIN CERTIFICATE") == 2 - fullchain
    assert put["root_cert"].endswith(vsite.ca.pem.decode())
    assert served(case.vc) == new.sha256
    assert ("does not serve the intermediate CAs" in done.err) is not fullchain


@pytest.mark.parametrize("api", [True, False])
def test_vcenter_ha_is_told(vsite: VSphereSite, *, api: bool) -> None:
    """Where it is set up, a warning says so at each replacement; where it is not, or nothing is due, there is none."""
    case = Case(vsite, high_availability="ENABLED", api=api)
    plan = vsite.instcert("--dry-run", case.vc)
    assert "vCenter HA is set up (enabled)" in plan.err, plan
    done = vsite.instcert(case.vc)
    assert (done.code, "warning:" in done.err, "vCenter HA" in done.err) == (0, True, True), done
    assert "vCenter HA" not in vsite.instcert(case.vc).err
    case.set(high_availability="")
    vsite.certificate()
    assert "vCenter HA" not in vsite.instcert(case.vc).err


def test_force_replaces_what_is_there(vsite: VSphereSite) -> None:
    """--force sends it again; vCenter's ALREADY_EXISTS is no failure, since what is served is looked at."""
    case = Case(vsite)
    case.expect_installed()
    case.expect_installed("--force")
    case.set(tls_already_exists=False)
    case.expect_installed("--force")
    assert case.vc.changes == ["root", "tls", "tls"]


def test_a_session_that_ends_meanwhile_is_opened_again(vsite: VSphereSite) -> None:
    """An idle session that vCenter forgot costs one login more, not the run."""
    case = Case(vsite)
    forgotten: list[str] = []

    def forget(request: Request) -> None:
        if request.method == "PUT" and not forgotten:
            forgotten.extend(case.vc.sessions.open)
            case.vc.sessions.open.clear()

    case.vc.spoil = forget
    case.expect_installed()
    assert forgotten
