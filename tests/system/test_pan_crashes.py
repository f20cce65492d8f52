"""Runs that are killed, a journal that cannot be written or read, and runs at the same time."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from tests.lab import killed
from tests.lab.panos import Outcome
from tests.lab.site import Site, script
from tests.lab.trial import NAME, WORDS, Trial

if TYPE_CHECKING:
    from pytest_mock import MockerFixture

pytestmark = pytest.mark.usefixtures("hurry")
BEFORE_THE_COMMIT = [("step", 1), ("step", 2), ("after:import", 1), ("after:action=set", 1), ("after:action=set", 2)]
SINCE_THE_COMMIT = [("before:type=commit", 1), ("after:type=commit", 1), ("after:%3Cjobs", 1), ("step", 3)]


def kill(trial: Trial, point: str, nth: int, *more: str) -> None:
    """Run the command until it is killed at a point."""
    assert killed.run(point, nth, trial.site.argv(*WORDS, *more, trial.fw)) == -9
    assert trial.attempt()["outcome"] == "running"


def certificates_of_ours(trial: Trial) -> list[str]:
    """Return the names of the running configuration's certificates that are not the old one."""
    found = trial.fw.config.find_running("/config/shared/certificate/entry")
    return [name for entry in found if (name := str(entry.get("name"))) != "old"]


@pytest.mark.parametrize(("point", "nth"), [*BEFORE_THE_COMMIT, *SINCE_THE_COMMIT])
def test_a_killed_run_is_gone_on_with(site: Site, point: str, nth: int) -> None:
    """Wherever kill -9 hits it, the same command ends well: one certificate, nothing of ours pending."""
    trial = Trial(site)
    kill(trial, point, nth)
    assert trial.served() in {trial.served_before, trial.new.sha256}
    trial.expect_success_now()
    assert certificates_of_ours(trial) == [NAME]
    assert trial.changes()["import"] == 1


def test_a_run_that_is_killed_during_its_commit_is_gone_on_with(site: Site) -> None:
    """The commit goes on by itself: the next run waits for it and commits nothing twice."""
    trial = Trial(site)
    trial.fw.commit_seconds = 2.5
    kill(trial, "after:type=commit", 1)
    [job] = trial.fw.jobs.values()
    assert not job.ended
    trial.expect_success_now()
    assert trial.changes() == {"import": 1, "config set": 2, "commit": 1}


@pytest.mark.parametrize(("point", "nth"), [("step", 3), ("before:%3Crevert", 1), ("after:%3Crevert", 1)])
def test_a_rollback_that_is_killed_is_gone_on_with(site: Site, point: str, nth: int) -> None:
    """A failed commit whose undoing was cut short: the next run ends well."""
    trial = Trial(site)
    trial.fw.next_commits = [Outcome(fail=("Validation Error:",))]
    kill(trial, point, nth)
    assert trial.served() == trial.served_before
    trial.expect_success_now()
    assert certificates_of_ours(trial) == [NAME]


@pytest.mark.parametrize(
    ("point", "nth"), [("after:action=set", 3), ("before:type=commit", 2), ("after:type=commit", 2)]
)
def test_a_way_back_that_is_killed_is_gone_on_with(site: Site, point: str, nth: int) -> None:
    """Not served, so the former certificate is bound again, and that is cut short: the next run ends well."""
    trial = Trial(site)
    kill(trial, point, nth, "--probe", "localhost:1", "--timeout", "2")
    trial.expect_success_now()
    assert certificates_of_ours(trial) == [NAME]


def test_leftovers_of_a_killed_run_are_not_foreign_to_another_wish(site: Site) -> None:
    """A run with another profile was killed: what it left in the candidate stops nobody."""
    trial = Trial(site)
    assert killed.run("after:action=set", 1, site.argv("-c", NAME, "-p", "GP_GATEWAY", trial.fw)) == -9
    assert trial.fw.pending_of("certhooks")
    done = site.instcert("-c", NAME, "-p", "GP_PORTAL", trial.fw)
    assert done.code == 0, done
    assert trial.fw.pending_of("certhooks") == []
    assert trial.fw.pending_of("alice")


# -- the journal ---------------------------------------------------------------------------------------------------


def test_a_state_folder_that_cannot_be_made_stops_the_run_first(site: Site) -> None:
    """Nothing is sent without a journal; the hint names --state-dir."""
    trial = Trial(site)
    (site.folder / "file").touch()
    done = trial.run("--state-dir", site.folder / "file" / "state")
    trial.expect_failure(done, 70, "cannot use the state folder")
    assert "--state-dir" in done.err
    assert trial.fw.kinds() == []


def test_a_state_folder_that_others_may_enter_is_refused_and_left_alone(site: Site) -> None:
    """Somebody's own folder, given by mistake, does not get another mode."""
    trial = Trial(site)
    (site.folder / "home").mkdir(mode=0o755)
    trial.expect_failure(trial.run("--state-dir", site.folder / "home"), 70, "open to others")
    assert (site.folder / "home").stat().st_mode & 0o777 == 0o755
    assert trial.fw.kinds() == []


def full_disk(mocker: MockerFixture, nth: int) -> None:
    """Let the nth write of the journal, and all later ones, find the disk full."""
    calls = {"left": nth - 1}
    sync = os.fsync

    def fsync(fd: int) -> None:
        calls["left"] -= 1
        if calls["left"] < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        sync(fd)

    mocker.patch("os.fsync", fsync)


@pytest.mark.parametrize("nth", [1, 2, 3])
def test_a_full_disk_stops_a_run_before_it_matters(site: Site, mocker: MockerFixture, nth: int) -> None:
    """What cannot be written down is not done: the device is as before, and later it works."""
    trial = Trial(site)
    full_disk(mocker, nth)
    trial.expect_failure(trial.run(), 70, "no space left on device")
    trial.expect_untouched()
    mocker.stopall()
    trial.expect_success_now()


@pytest.mark.parametrize("nth", [4, 5])
def test_a_full_disk_is_a_remark_once_the_certificate_is_in_use(site: Site, mocker: MockerFixture, nth: int) -> None:
    """The device is done and stays so; that it could not be noted is said."""
    trial = Trial(site)
    full_disk(mocker, nth)
    done = trial.run()
    assert done.code == 0, done
    assert "warning" in done.err
    assert "no space left" in done.err
    trial.expect_installed()
    mocker.stopall()
    trial.expect_success_now()


def test_a_full_disk_does_not_hide_why_a_run_failed(site: Site, mocker: MockerFixture) -> None:
    """The commit's failure is what is reported, not the journal's."""
    trial = Trial(site)
    trial.fw.next_commits = [Outcome(fail=("Validation Error:",))]
    full_disk(mocker, 4)
    trial.expect_failure(trial.run(), 13, "Validation Error:")
    trial.expect_untouched()


DAMAGED: dict[str, bytes] = {
    "empty": b"",
    "cut": b'{"version": 1, "target": "x", "attempts": [{"finger',
    "binary": bytes(range(256)),
    "another document": b"[1, 2, 3]",
    "no attempts": b'{"version": 1, "target": "x"}',
    "deep": b"[" * 200_000,
    "wrong types": b'{"target": "x", "attempts": [{"fingerprint": "x", "touches": 5, "outcome": []}]}',
    "list for a word": b'{"target": "x", "attempts": [{"fingerprint": "x", "outcome": []}]}',
    "no fingerprint": b'{"target": "x", "attempts": [{"colour": "red"}]}',
    "touches of numbers": b'{"target": "x", "attempts": [{"fingerprint": "x", "touches": [5]}]}',
    "huge": b'"' + b"x" * 2_000_000 + b'"',
}


@pytest.mark.parametrize("name", DAMAGED)
def test_a_damaged_journal_is_set_aside(site: Site, name: str) -> None:
    """The run goes on with a new one, and the old one is kept to be looked at."""
    trial = Trial(site)
    trial.expect_success_now()
    [file] = site.state.glob("*.json")
    file.write_bytes(DAMAGED[name])
    assert "nothing to do" in trial.run().out
    assert file.with_suffix(".damaged").read_bytes() == DAMAGED[name]
    assert json.loads(file.read_text())["attempts"]


def test_the_state_is_for_its_owner_alone(site: Site) -> None:
    """0700 and 0600, whatever the umask is."""
    trial = Trial(site)
    old = os.umask(0)
    try:
        trial.expect_success_now()
    finally:
        os.umask(old)
    assert site.state.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in site.state.iterdir()} == {0o600}
    assert site.log.stat().st_mode & 0o777 == 0o600


# -- at the same time ----------------------------------------------------------------------------------------------


def test_a_device_that_another_run_holds_is_busy(site: Site) -> None:
    """Exit code 17 once the time is over; nothing was sent, and afterwards it works."""
    trial = Trial(site)
    trial.expect_success_now()
    [lock] = [path for path in site.state.glob("*.lock") if str(trial.fw.port) in path.name]
    trial.new = site.certificate(NAME)
    count = trial.changes()
    with lock.open("rb+") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        trial.expect_failure(trial.run("--timeout", "0.5"), 17, "another run holds")
    assert trial.changes() == count
    trial.expect_success_now()


def test_two_runs_on_one_device_do_not_interleave(site: Site) -> None:
    """One does all of its work, then the other; both end well."""
    trial = Trial(site)
    trial.fw.commit_seconds = 0.3
    commands = [site.argv("-c", NAME, "-n", name, "-p", profile, trial.fw) for name, profile in RUNS]
    running = [
        subprocess.Popen([script("pan_instcert"), *argv], env={"PATH": "/usr/bin:/bin"}, stdin=subprocess.DEVNULL)
        for argv in commands
    ]
    try:
        assert [each.wait(60) for each in running] == [0, 0]
    finally:
        for each in running:
            each.kill()
            each.wait()
    owners = [owner for request in trial.carried_out if (owner := whose(dict(request.params)))]
    assert set(owners) == {"one", "two"}
    assert sum(a != b for a, b in zip(owners, owners[1:])) == 1
    assert [trial.fw.profile_certificate(profile) for _, profile in RUNS] == ["one", "two"]
    assert trial.fw.pending_of("certhooks") == []


RUNS = (("one", "GP_PORTAL"), ("two", "GP_GATEWAY"))


def whose(params: dict[str, Any]) -> str:
    """Return which of the two runs a change belongs to; empty for what changes nothing."""
    if params.get("type") not in {"import", "config", "commit"} or params.get("action") in {"get", "show"}:
        return ""
    text = " ".join(params.get(name, "") for name in ("certificate-name", "element", "cmd"))
    return next(name for name, _ in RUNS if name in text)
