"""When a stored command is run again: at once, then after pauses, never in a loop, never where it would do harm."""

from __future__ import annotations

import json
import os
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from certhooks.errors import StateError
from certhooks.watch import schedule
from certhooks.watch.model import DAY, Finding, Leaf, Level, Overview, Placement, Sight, Watched
from certhooks.watch.schedule import Task, Tries, goals, key, tasks, with_errors, with_next_tries

if TYPE_CHECKING:
    from pathlib import Path

NOW = 1_800_000_000.0
HOUR = 3600.0
NEW = Leaf("ab" * 32, "gp.example.com", NOW - 10 * DAY, NOW + 80 * DAY)
OLD = Leaf("cd" * 32, "gp.example.com", NOW - 80 * DAY, NOW + 20 * DAY)
COMMAND = ("pan_instcert", "fw1")
WELL = Placement("pan fw1", "fw1", COMMAND, pushed=NEW, pushed_at=NOW - HOUR, timeout=60.0, uid="7")
BEHIND = replace(WELL, pushed=OLD)
NAME = key(COMMAND, "/")
GOALS = NEW.fingerprint


@pytest.fixture
def tries(tmp_path: Path) -> Tries:
    """Begin with nothing tried."""
    return Tries(tmp_path)


def overview(*placements: Placement, now: float = NOW, **facts: Any) -> Overview:
    """Return an overview of one tracked certificate with these placements."""
    usual: dict[str, Any] = {"name": "gp.example.com", "source": "id-1", "origin": "certmonger", "leaf": NEW}
    return Overview(now, "host", (Watched(**{**usual, **facts}, placements=placements),))


def told(found: list[Task]) -> list[tuple[str, float, bool]]:
    """Return why and when each task is due, and whether it is only a look."""
    return [(task.why, task.due - NOW, task.look) for task in found]


LACKS = "it does not have the certificate that it should have"
UNSEEN = "it was not looked at for a day"


@pytest.mark.parametrize(
    ("placement", "found"),
    [
        (WELL, []),
        (BEHIND, [(LACKS, -NOW, False)]),
        (replace(WELL, failure="no connection"), [("no connection", -NOW, False)]),
        (replace(WELL, served=(Sight("vpn", "1", OLD),)), [(LACKS, -NOW, False)]),
        (replace(WELL, staged=True, served=(Sight("vpn", "1", OLD),)), []),
        (replace(BEHIND, staged=True), [(LACKS, -NOW, False)]),
        (replace(BEHIND, running=True), []),
        (replace(BEHIND, command=()), []),
        (replace(WELL, pushed_at=NOW - DAY - 1), [(UNSEEN, -DAY - 1, True)]),
        (replace(WELL, pushed_at=NOW - DAY), []),
        (replace(WELL, pushed_at=NOW - DAY - 1, looks=False), []),
        (replace(WELL, pushed_at=NOW - DAY - 1, running=True), []),
        (replace(WELL, pushed_at=NOW + DAY), [(UNSEEN, -NOW, True)]),  # the clock was wrong then
        (replace(WELL, pushed_at=NOW + 1), []),  # it ended while we looked
    ],
)
def test_there_is_a_reason_or_nothing_is_run(
    tries: Tries, placement: Placement, found: list[tuple[str, float, bool]]
) -> None:
    """A failure, a lack, or that nobody has looked for a day; not what runs, is staged, or has no command."""
    assert told(tasks(overview(placement), tries)) == found


@pytest.mark.parametrize("kind", ["conflict", "unknown", "stuck"])
@pytest.mark.parametrize("placement", [BEHIND, replace(WELL, pushed_at=0.0)])
def test_what_cannot_help_is_not_run(tries: Tries, kind: str, placement: Placement) -> None:
    """Two certificates for one place, or a run that does not end, are for people."""
    assert tasks(overview(placement), tries)
    hopeless = replace(placement, findings=(Finding(Level.CRITICAL, kind, "text"),))
    assert tasks(overview(hopeless), tries) == []


@pytest.mark.parametrize(
    ("facts", "count"),
    [
        ({"leaf": None}, 0),  # not issued yet
        ({"leaf": NEW._replace(not_after=NOW)}, 0),
        ({"leaf": NEW._replace(not_after=NOW + 1)}, 1),
        ({"leaf": NEW._replace(not_after=None)}, 1),
        ({"leaf": None, "origin": "file"}, 1),  # it says what is wrong with the file
        ({"leaf": None, "origin": "journal"}, 1),
    ],
)
def test_nothing_expired_or_missing_is_brought(tries: Tries, facts: dict[str, Any], count: int) -> None:
    """No device should get what is no longer valid, and there is nothing to bring before it is issued."""
    assert len(tasks(overview(replace(BEHIND, failure="no"), **facts), tries)) == count


def test_nothing_to_go_by_is_no_reason(tries: Tries) -> None:
    """Neither a file nor a former push tells what it should have."""
    assert tasks(overview(replace(WELL, pushed=None), leaf=None, origin="journal"), tries) == []


def test_a_task_is_the_command_as_it_was_stored(tries: Tries) -> None:
    """Words, folder, user and deadline; one run for all its targets that are out of step."""
    second = replace(BEHIND, target="pan fw2", label="fw2", failure="no")
    [task] = tasks(overview(WELL, BEHIND, second), tries)
    assert (task.command, task.cwd, task.uid, task.timeout, task.why) == (COMMAND, "/", "7", 60.0, LACKS)
    assert [placement.label for placement in task.placements] == ["fw1", "fw2"]
    assert (task.key, task.where) == (NAME, "fw1, fw2")
    other = replace(BEHIND, cwd="/srv")
    assert len(tasks(overview(BEHIND, other), tries)) == 2


@pytest.mark.parametrize(
    ("times", "pause"),
    [(1, 300), (2, 600), (3, 1200), (8, 38400), (9, 76800), (10, DAY), (1000, DAY), (10**6, DAY)],
)
def test_pauses_grow_from_five_minutes_to_a_day(tries: Tries, times: int, pause: float) -> None:
    """Twice as long after each failure; the try at its end is due, not before."""
    tries._known[NAME] = schedule.Try(GOALS, times, NOW - 10)
    assert told(tasks(overview(BEHIND), tries)) == [(LACKS, pause - 10, False)]
    [placement] = with_next_tries(overview(BEHIND), tries).watched[0].placements
    assert placement.next_try == NOW - 10 + pause


def test_the_next_try_is_never_in_the_past(tries: Tries) -> None:
    """What is due is due now; what is well, or has no command, or is only to be looked at, has no next try."""
    tries._known[NAME] = schedule.Try(GOALS, 1, NOW - HOUR)
    shown = with_next_tries(overview(BEHIND, replace(BEHIND, command=("x",)), replace(BEHIND, command=())), tries)
    assert [each.next_try for each in shown.watched[0].placements] == [NOW, NOW, None]
    shown = with_next_tries(overview(replace(WELL, pushed_at=0.0)), tries)
    assert shown.watched[0].placements[0].next_try is None


def test_another_certificate_is_tried_at_once(tries: Tries) -> None:
    """A renewal begins anew: what was in vain for the former certificate says nothing of this one."""
    for _ in range(3):
        tries.failed(NAME, "no", goals="of before", began=NOW, at=NOW)
    assert tries.get(NAME).times == 3
    assert told(tasks(overview(BEHIND), tries)) == [(LACKS, -NOW, False)]
    tries.failed(NAME, "no", goals=GOALS, began=NOW, at=NOW)
    assert tries.get(NAME).times == 1
    assert told(tasks(overview(BEHIND), tries)) == [(LACKS, 300, False)]


def test_a_clock_that_was_ahead_puts_nothing_off(tries: Tries) -> None:
    """A pause that was begun next year is none; one that began in the last minutes of this clock's error still is."""
    tries._known[NAME] = schedule.Try(GOALS, 1, NOW + 300 * DAY)
    assert told(tasks(overview(BEHIND), tries)) == [(LACKS, -NOW, False)]
    tries._known[NAME] = schedule.Try(GOALS, 1, NOW + 60)
    assert told(tasks(overview(BEHIND), tries)) == [(LACKS, 360, False)]
    tries.ended_well(NAME, NOW + 300 * DAY)
    assert told(tasks(overview(replace(WELL, pushed_at=NOW - 2 * DAY)), tries)) == [(UNSEEN, -2 * DAY, True)]


def test_a_look_that_went_well_is_remembered(tries: Tries) -> None:
    """For a day nobody looks again, whatever the journal of that target says."""
    long_ago = replace(WELL, pushed_at=NOW - 9 * DAY)
    tries.ended_well(NAME, NOW - DAY)
    assert tasks(overview(long_ago), tries) == []
    tries.ended_well(NAME, NOW - DAY - 1)
    assert told(tasks(overview(long_ago), tries)) == [(UNSEEN, -DAY - 1, True)]


@pytest.mark.parametrize(("count", "looks"), [(3, 3), (4, 4), (50, 4), (1000, 10)])
def test_looks_are_spread(tries: Tries, count: int, looks: int) -> None:
    """After an install of a thousand, one in a hundred is looked at a run, those first that were seen longest ago."""
    all_of_them = [
        replace(WELL, command=("pan_instcert", str(number)), pushed_at=NOW - 2 * DAY - number)
        for number in range(count)
    ]
    found = tasks(overview(*all_of_them), tries)
    assert [task.command[1] for task in found] == [str(number) for number in reversed(range(count))][:looks]


def test_the_longest_due_comes_first(tries: Tries) -> None:
    """So that what a run had no time for is first in the next one."""
    second = replace(BEHIND, command=("b",))
    tries._known[NAME] = schedule.Try(GOALS, 1, NOW - HOUR)
    tries._known[key(("b",), "/")] = schedule.Try(GOALS, 1, NOW - 2 * HOUR)
    assert [task.command for task in tasks(overview(BEHIND, second), tries)] == [("b",), COMMAND]


def test_a_command_that_has_to_run_is_not_looked_at_besides(tries: Tries) -> None:
    """One target of it is behind, another was not seen for a day: one run, for the reason that counts."""
    found = tasks(overview(replace(WELL, label="fw2", pushed_at=0.0), BEHIND), tries)
    assert [(task.look, [placement.label for placement in task.placements]) for task in found] == [(False, ["fw1"])]


def test_what_a_command_said_that_wrote_no_journal(tries: Tries) -> None:
    """It is the last failure of its targets until their journal tells of a later try."""
    for _ in range(2):
        tries.failed(NAME, "cannot be started", goals=GOALS, began=NOW - 20, at=NOW - 10)
    [one] = overview(replace(BEHIND, tried_at=NOW - 30), replace(BEHIND, tried_at=NOW - 20)).watched
    before, since = with_errors([one], tries)[0].placements
    assert (before.failure, before.failures, before.tried_at) == ("cannot be started", 2, NOW - 10)
    assert since == one.placements[1]
    tries.ended_well(NAME, NOW)
    assert with_errors([one], tries) == [one]
    bare = replace(one, placements=(replace(BEHIND, command=()),))
    assert with_errors([bare], tries) == [bare]


def test_the_goals_of_a_command_are_the_certificates_that_it_brings() -> None:
    """Each once, in no order that could change; a certificate that is not there is none."""
    one, two, none = (
        Watched(name, name, "certmonger", leaf, placements=(WELL, WELL))
        for name, leaf in (("a", NEW), ("b", OLD), ("c", None))
    )
    assert goals([one, two, none]) == goals([two, none, one]) == {NAME: f"{NEW.fingerprint} {OLD.fingerprint}"}


def test_what_was_tried_is_kept(tmp_path: Path, tries: Tries) -> None:
    """In a private file, in few characters, without what nothing calls for any more after a day."""
    tries.failed(NAME, "e" * 9999, goals=GOALS, began=NOW, at=NOW)
    tries.failed("gone", "no", goals="", began=NOW - DAY, at=NOW - DAY)
    tries.failed("recent", "no", goals="", began=NOW, at=NOW - DAY + 1)
    tries.failed("of a wrong clock", "no", goals="", began=NOW, at=NOW + 2 * DAY)
    tries.save([NAME], NOW)
    [file] = tmp_path.iterdir()
    assert file.stat().st_mode & 0o777 == 0o600
    assert file.stat().st_size < 2000
    again = Tries(tmp_path)
    assert again.get(NAME) == tries.get(NAME) == schedule.Try(GOALS, 1, NOW, "e" * 500, NOW)
    assert [again.get(name).times for name in ("recent", "gone", "of a wrong clock")] == [1, 0, 0]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"tries": []}',
        '{"tries": {"a": 1}}',
        '{"tries": {"a": ["", 1, 2]}}',
        '{"tries": {"a": ["", 1, 2, "", 3, 4]}}',
        '{"tries": {"a": ["", Infinity, 2, "", 3]}}',
        '{"tries": {"a": ["", 1, NaN, "", 3]}}',
        '{"tries": {"a": ["", 1, Infinity, "", 3]}}',
        '{"tries": {"a": ["", 1, 1e300, "", 3]}}',
        '{"tries": {"a": ["", 1, 2, "", -3]}}',
        '{"tries": {"a": ["", -1, 2, "", 3]}}',
        '{"tries": {"a": ["", 1, 1' + "0" * 400 + ', "", 3]}}',
        "[" * 100_000,
        "\ud800",
    ],
    ids=lambda text: text[:40].encode("ascii", "backslashreplace").decode(),
)
def test_a_damaged_file_costs_a_try_at_most(tmp_path: Path, text: str) -> None:
    """Whatever is in it: it counts as nothing tried, and is written anew."""
    (tmp_path / "watch-tries.json").write_text(text, errors="surrogatepass")
    tries = Tries(tmp_path)
    assert tries.get("a") == schedule.Try()
    tries.save([], NOW)
    assert json.loads((tmp_path / "watch-tries.json").read_text())["tries"] == {}


def test_a_pipe_in_its_place_is_not_waited_for(tmp_path: Path) -> None:
    """It is no file of ours, and is replaced by one."""
    os.mkfifo(tmp_path / "watch-tries.json")
    Tries(tmp_path).save([], NOW)
    assert Tries(tmp_path).get("a").times == 0


def test_a_folder_that_cannot_be_used_is_an_error(tmp_path: Path) -> None:
    """Reading and writing it end in one clear line."""
    (tmp_path / "file").touch()
    with pytest.raises(StateError, match="cannot use the state folder"):
        Tries(tmp_path / "file")
    with pytest.raises(StateError, match="cannot use the state folder"):
        Tries(tmp_path / "gone").save([], NOW)


def test_a_command_is_remembered_by_its_words_and_folder() -> None:
    """Few characters, the same in each run, whatever letters are in it."""
    different = [key(("a b",), "/"), key(("a", "b"), "/"), key(("a", "b"), "/c"), key(("a", "\ud800"), "/")]
    assert len(set(different)) == len(different)
    assert {len(each) for each in different} == {32}
    assert key(("pan_instcert", "fw1"), "/") == NAME == "458fcb03c7b6371c98ca56fed23a5f49"


def test_a_thousand_devices_in_one_command_cost_no_time(tries: Tries) -> None:
    """What is asked of a command for each of its targets is found out once."""
    command = ("pan_instcert", *(f"fw{number}.example.com" for number in range(3000)))
    began = time.monotonic()
    everything = overview(*(replace(BEHIND, command=command, target=str(number)) for number in range(3000)))
    [task] = tasks(everything, tries)
    assert len(task.placements) == 3000
    assert task.where == ", ".join(["fw1"] * 10) + " and 2990 more"
    with_next_tries(everything, tries)
    assert time.monotonic() - began < 5
