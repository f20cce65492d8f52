"""What is read for an overview, and how often; what is looked at side by side."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

from certhooks import installers, probe
from certhooks.deadline import Deadline
from certhooks.journal import DONE, Attempt, Journal
from certhooks.request import Request
from certhooks.watch import judge, sight
from certhooks.watch.model import Leaf, Placement, Watched
from certhooks.watch.survey import Survey

if TYPE_CHECKING:
    from pathlib import Path

    import pytest
    from pytest_mock import MockerFixture

    from certhooks.address import Address


def tracked(state: Path, number: int) -> Request:
    """Return a request whose post-save command brings its certificate to one device."""
    name = f"gp{number}.example.test"
    command = f"/usr/bin/pan_instcert -c {name} -p GP --state-dir {state} fw{number}.example.test"
    return Request(name, f"/Request{number}", "MONITORING", stuck=False, subject=f"CN={name}", post_save=command)


def pushed(state: Path, command: list[str]) -> None:
    """Write the journals of a command that brought a certificate everywhere."""
    plan = installers.plan("pan_instcert", command[1:])
    for place in plan.places:
        record = Journal(state).record(place.target)
        record.end(record.begin(Attempt("ab" * 32, command=command, cwd="/", endpoints=["127.0.0.1:1"])), DONE)


def test_each_journal_is_read_once(tmp_path: Path, mocker: MockerFixture) -> None:
    """What a request's target has in its journal is not read again for the pushes that no request stands behind."""
    requests = [tracked(tmp_path, number) for number in range(20)]
    for one in requests:
        pushed(tmp_path, (one.post_save or "").split())
    pushed(tmp_path, ["pan_instcert", "-b", "-c", "other.example.test", "-p", "GP", "fw99.example.test"])
    read = mocker.spy(Journal, "_read")
    found = Survey(time.time(), tmp_path).watched(requests)
    assert [bool(place.pushed) for one in found for place in one.placements] == [True] * 21
    assert read.call_count == 21


def test_a_command_with_many_targets_is_understood_once(tmp_path: Path, mocker: MockerFixture) -> None:
    """One push to a fleet leaves its whole command in each journal: what it would do is not worked out each time."""
    devices = [f"fw{number}.example.test" for number in range(50)]
    pushed(tmp_path, ["pan_instcert", "-b", "-c", "gp.example.test", "-p", "GP", *devices])
    plan = mocker.spy(installers, "plan")
    [one] = Survey(time.time(), tmp_path).watched([])
    assert sorted(place.label for place in one.placements) == sorted(devices)
    assert plan.call_count == 1
    assert len({id(place.command) for place in one.placements}) == 1, "nor kept each time"


def test_a_command_that_is_not_understood_is_told_at_each_of_its_certificates(tmp_path: Path) -> None:
    """It is no command of ours that is known by now: every certificate that it was to bring says so."""
    requests = [
        Request(f"n{number}", "/R", "MONITORING", stuck=False, post_save="pan_instcert --no-such-option")
        for number in range(2)
    ]
    found = Survey(time.time(), tmp_path).watched(requests)
    assert [[finding.kind for finding in one.findings] for one in found] == [["unknown"], ["unknown"]]


def test_silent_devices_are_waited_for_side_by_side(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two hundred that take all their time cost no more of it than one: none is answered before all are asked."""
    together = threading.Barrier(200)

    def silent(address: Address, *, timeout: float) -> list[probe.Served]:
        assert timeout > 0
        together.wait(30)
        return [probe.Served(address.host, error="timed out")]

    monkeypatch.setattr(probe, "every", silent)
    places = tuple(Placement(f"t{port}", "", endpoints=(f"127.0.0.1:{port}",)) for port in range(1, 201))
    [seen] = sight.look([Watched("name", "source", "file", placements=places)], Deadline(60))
    assert [place.served[0].error for place in seen.placements] == ["timed out"] * 200


def test_what_is_served_is_told_as_well_as_it_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    """Journals keep less of a certificate than certmonger: what is served and tracked has its first day too."""
    der = b"made up"
    known = Leaf(probe.fingerprint(der), "gp.example.test", 1.0, 2.0)
    answer: Any = lambda _address, *, timeout: [probe.Served("192.0.2.1", der)] if timeout else []  # noqa: E731
    monkeypatch.setattr(probe, "every", answer)
    place = Placement("t", "", pushed=known._replace(not_before=None), endpoints=("fw.example.test",))
    [seen] = sight.look([Watched("name", "source", "certmonger", known, placements=(place,))], Deadline(60))
    assert seen.placements[0].served[0].leaf == known


def test_a_conflict_of_many_names_some() -> None:
    """A hundred certificates for one place are told in a hundred short lines."""
    place = Placement("t", "", command=("pan_instcert",))
    watched = [Watched(f"n{number:02}", "s", "certmonger", placements=(place,)) for number in range(100)]
    found = judge.judge(watched, 0.0, judge.Limits())
    [told] = [finding for finding in found[0].placements[0].findings if finding.kind == "conflict"]
    assert "n01 (s), n02 (s), n03 (s) and 96 more; neither" in told.text
