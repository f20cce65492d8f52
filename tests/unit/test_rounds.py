"""A request that resubmits itself: counted by the journal, and ended by the install command that is part of it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from certhooks import rounds
from certhooks.address import Address
from certhooks.certmonger import Certmonger
from certhooks.errors import CertmongerError
from certhooks.install import Place
from certhooks.journal import DONE, RUNNING, UNDONE, Attempt, Journal
from certhooks.watch import leaves
from tests.unit.certs import request_for

if TYPE_CHECKING:
    from pathlib import Path

    from pytest_mock import MockerFixture

    from tests.lab.ca import Issued

NOW = 1_800_000_000.0
PLACES = [Place(Address(name, 443), name, f"pan {name}") for name in ("fw1", "fw2")]


def known(folder: Path, *attempts: Attempt, target: str = "pan fw1") -> Journal:
    """Return a journal with these attempts on one target."""
    journal = Journal(folder / "state")
    record = journal.record(target)
    record.attempts = list(attempts)
    record._write()
    return journal


def circle(count: int, *, gap: float = 1.0, lasts: float = 0.5) -> list[Attempt]:
    """Return that many attempts, each with its own certificate, ``gap`` seconds before the next."""
    ends = [NOW - gap - (gap + lasts) * later for later in reversed(range(count))]
    return [Attempt(f"{at:064x}", started=end - lasts, ended=end, outcome=DONE) for at, end in enumerate(ends)]


@pytest.fixture
def asked(mocker: MockerFixture, ec_leaf: Issued) -> Any:
    """Stand in for certmonger, which runs the post-save command of one of its two requests."""
    running = request_for(ec_leaf, "circle", status="POST_SAVED_CERT", post_save="/usr/bin/pan_instcert 'a b'")
    other = request_for(ec_leaf, "other", post_save="/bin/true")
    certmonger = mocker.MagicMock()
    certmonger.__enter__.return_value = certmonger
    certmonger.requests.return_value = [other, running]
    mocker.patch.object(Certmonger, "open", return_value=certmonger)
    return certmonger


def fingerprint(issued: Issued) -> str:
    """Return what the library knows a certificate by."""
    leaf = leaves.of_request(request_for(issued, "any"))
    assert leaf
    return leaf.fingerprint


@pytest.mark.parametrize("lasts", [0.5, 300.0])
def test_the_sixth_certificate_in_a_row_ends_the_circle(
    tmp_path: Path, asked: Any, ec_leaf: Issued, lasts: float
) -> None:
    """However long each push takes: the command is taken out of its request; the error says how to undo."""
    journal = known(tmp_path, *circle(5, lasts=lasts))
    with pytest.raises(CertmongerError, match="request circle goes round in a circle: 6 certificates") as raised:
        rounds.check(journal, PLACES, fingerprint(ec_leaf), NOW)
    [call] = asked.modify.call_args_list
    assert (call.args[0].nickname, call.kwargs) == ("circle", {"post_save": ""})
    assert "getcert start-tracking -i circle -C '/usr/bin/pan_instcert '\"'\"'a b'\"'\"''" in str(raised.value.hint)


@pytest.mark.parametrize(
    "attempts",
    [
        [],
        circle(4),
        circle(20, gap=61.0),
        [*circle(9), Attempt(f"{99:064x}", started=NOW - 70, ended=NOW - 65, outcome=DONE)],
        [*circle(9, gap=2.0), Attempt("", started=NOW - 1, ended=NOW - 1, outcome=UNDONE)],
        [Attempt("ab" * 32, started=NOW - 1, ended=NOW - 1, outcome=DONE)] * 9,
    ],
    ids=["nothing", "four", "slow", "a pause before this one", "not a certificate", "the same again and again"],
)
def test_what_is_no_circle_goes_on(tmp_path: Path, asked: Any, ec_leaf: Issued, attempts: list[Attempt]) -> None:
    """People, clocks and retries take longer, or bring the same certificate: certmonger is not even asked."""
    rounds.check(known(tmp_path, *attempts), PLACES, fingerprint(ec_leaf), NOW)
    assert not asked.__enter__.called


def test_a_certificate_that_is_pushed_again_begins_no_round(tmp_path: Path, asked: Any, ec_leaf: Issued) -> None:
    """The last attempt brought this very certificate: a repetition, however many came before it."""
    attempts = [*circle(9), Attempt(fingerprint(ec_leaf), started=NOW - 0.1, ended=NOW - 0.1, outcome=DONE)]
    rounds.check(known(tmp_path, *attempts), PLACES, fingerprint(ec_leaf), NOW)
    assert not asked.modify.called


def test_runs_that_were_cut_off_count(tmp_path: Path, asked: Any, ec_leaf: Issued) -> None:
    """A round whose end nobody wrote down is one from its start on; and one target is enough."""
    attempts = [replace(attempt, ended=None, outcome=RUNNING) for attempt in circle(5)]
    journal = known(tmp_path, *attempts, target="pan fw2")
    with pytest.raises(CertmongerError):
        rounds.check(journal, PLACES, fingerprint(ec_leaf), NOW)
    assert asked.modify.called


def test_a_certificate_that_is_signed_on_the_way_is_no_round(tmp_path: Path, asked: Any) -> None:
    """A device's own request has no fingerprint yet, and no request of certmonger's behind it."""
    rounds.check(known(tmp_path, *circle(9)), PLACES, "", NOW)
    assert not asked.__enter__.called


def test_other_people_s_circles_are_none_of_ours(tmp_path: Path, asked: Any, rsa_leaf: Issued, ec_leaf: Issued) -> None:
    """Quick pushes of what certmonger does not have, or does not run a command for just now, are not stopped."""
    journal = known(tmp_path, *circle(9))
    rounds.check(journal, PLACES, fingerprint(rsa_leaf), NOW)
    asked.requests.return_value = [request_for(ec_leaf, "idle")]
    rounds.check(journal, PLACES, fingerprint(ec_leaf), NOW)
    assert not asked.modify.called


def test_without_certmonger_there_is_no_circle_of_it(tmp_path: Path, mocker: MockerFixture) -> None:
    """An ACME client's certificates, renewed one after the other on a host without certmonger, are pushed."""
    mocker.patch.object(Certmonger, "open", side_effect=CertmongerError("certmonger does not answer"))
    rounds.check(known(tmp_path, *circle(9)), PLACES, "ab" * 32, NOW)
