"""What others do meanwhile: a second hand on our administrator, edits of the same, a lost answer, one device twice."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Callable

import pytest

from certhooks.certificate import not_before
from certhooks.deadline import Deadline
from certhooks.journal import Journal
from tests.lab.panos import Fault, Firewall, Outcome
from tests.lab.pushes import NAME
from tests.lab.site import script
from tests.lab.trial import Trial

if TYPE_CHECKING:
    from tests.lab.panos.replies import Reply
    from tests.lab.panos.requests import Request
    from tests.lab.site import Site

pytestmark = pytest.mark.usefixtures("hurry")
PORTAL = ("-c", NAME, "-p", "GP_PORTAL")
PROFILE = "/config/shared/ssl-tls-service-profile/entry[@name='GP_PORTAL']"
ELSEWHERE = ("/config/shared/address", '<entry name="b"><fqdn>y.example.test</fqdn></entry>')


@pytest.fixture
def trial(site: Site) -> Trial:
    """Prepare a push to one firewall on which alice has a pending edit."""
    return Trial(site)


def meanwhile(fw: Firewall, kind: str, act: Callable[[], object]) -> None:
    """Let something happen right after the first request of a kind has been carried out."""
    answer = fw.answer
    done: list[object] = []

    def acting(request: Request) -> Reply:
        reply = answer(request)
        if request.kind.startswith(kind) and not done:
            done.append(act())
        return reply

    fw.answer = acting  # type: ignore[method-assign]


def test_what_our_administrator_does_meanwhile_is_not_committed_along(trial: Trial) -> None:
    """Somebody who works under our name while we import: the commit is refused, his edit stays, and ours is told of."""
    meanwhile(trial.fw, "import", lambda: trial.fw.edit_as("certhooks", *ELSEWHERE))
    done = trial.run()
    trial.expect_failure(done, 13, "has begun other changes")
    assert "our changes stay in the candidate" in done.err
    assert not trial.fw.config.find_running(ELSEWHERE[0])
    assert any("address" in place for place in trial.fw.pending_of("certhooks"))
    assert trial.served() == trial.served_before


def test_what_our_administrator_does_meanwhile_is_not_reverted(trial: Trial) -> None:
    """His edit comes while the commit runs, which fails: nothing is reverted under his hands."""
    trial.fw.next_commits.append(Outcome(fail=("Validation Error:",)))
    meanwhile(trial.fw, "commit", lambda: trial.fw.edit_as("certhooks", *ELSEWHERE))
    trial.expect_failure(trial.run(), 13, "Validation Error")
    assert any("address" in place for place in trial.fw.pending_of("certhooks"))


def test_an_own_edit_below_our_profile_is_somebody_elses_work(trial: Trial) -> None:
    """Only the profile's certificate is ours to change: another setting that is pending is not committed along."""
    settings = "<min-version>tls1-0</min-version>"
    trial.fw.edit_as("certhooks", f"{PROFILE}/protocol-settings", settings)
    before = trial.fw.snapshot()
    trial.expect_failure(trial.run(), 13, "has other changes pending", "min-version")
    assert trial.fw.snapshot() == before


def test_a_profile_that_is_deleted_meanwhile_is_not_made_again(trial: Trial) -> None:
    """A set would create another of that name without settings, and override the deletion."""
    meanwhile(trial.fw, "import", lambda: trial.fw.config.delete(PROFILE, "alice"))
    trial.expect_failure(trial.run(), 12, "has no SSL/TLS service profile 'GP_PORTAL' any more")
    assert trial.fw.config.find(PROFILE) == []
    assert trial.fw.pending_of("certhooks") == []


@pytest.mark.parametrize("what", ["binding", "certificate"])
def test_a_pending_change_of_the_same_is_not_overwritten(trial: Trial, what: str) -> None:
    """Alice binds the profile to another certificate, or deletes the one that we would replace: she is named."""
    if what == "binding":
        trial.fw.edit_as("alice", PROFILE, "<certificate>another</certificate>")
    else:
        trial.fw.add_certificate(NAME, trial.site.ca.issue(NAME))
        trial.fw.config.delete(f"/config/shared/certificate/entry[@name='{NAME}']", "alice")
    before = trial.fw.snapshot()
    trial.expect_failure(trial.run(), 13, "alice has a pending change", "would overwrite")
    assert trial.fw.snapshot() == before


def test_a_commit_whose_answer_is_lost_is_waited_for_before_it_is_undone(trial: Trial) -> None:
    """The run's time ends while a commit that it knows nothing of is at work: nobody reverts underneath it."""
    trial.fw.next_commits.append(Outcome(seconds=1.5))
    trial.fw.faults.add(Fault.DROP_AFTER, type="commit", nth=1)
    done = trial.run("--timeout", "0.6")
    assert done.code in {15, 16}, done
    trial.fw.finish_jobs()
    bound = trial.fw.profile_certificate("GP_PORTAL"), trial.fw.profile_certificate("GP_PORTAL", running=False)
    assert bound == ("old", "old"), done
    assert trial.fw.pending_of("certhooks") == []
    trial.fw.faults.clear()
    trial.expect_success_now()


def test_a_way_back_exists_where_the_name_was_there_but_not_in_use(trial: Trial) -> None:
    """The profile used another certificate than the one that was replaced: it is bound to that again."""
    trial.fw.add_certificate(NAME, trial.site.ca.issue(NAME))
    trial.portal.stick()
    done = trial.run("--probe", f"localhost:{trial.portal.port}", "--timeout", "3")
    trial.expect_failure(done, 15, "back in place")
    assert trial.fw.profile_certificate("GP_PORTAL") == "old"


def test_one_device_under_two_names_is_held_once(trial: Trial) -> None:
    """A run that knows the device by another address waits for the one that holds its serial number."""
    serial = trial.fw.serial
    with Journal(trial.site.state).lock(f"serial {serial}", Deadline(5)):
        done = trial.run("--timeout", "0.5")
    trial.expect_failure(done, 17, "another run holds")
    trial.expect_untouched()


def test_prune_works_alone_and_never_forward(trial: Trial) -> None:
    """--prune removes an earlier year's certificate also when nothing else differs, and a later year's never."""
    year = f"{not_before(trial.new.certificate):%Y}"
    assert trial.run("-Y").code == 0
    for other in ("2001", "2999"):
        trial.fw.add_certificate(f"{NAME}_{other}", trial.site.ca.issue(NAME))
    told = trial.run("-Y", "--prune", "--dry-run")
    assert f"would remove {NAME}_2001" in told.out, told
    done = trial.run("-Y", "--prune")
    assert done.code == 0, done
    assert f"pruned {NAME}_2001" in done.out
    all_names = [f"{NAME}_{each}" for each in ("2001", year, "2999")]
    names = {name for name in all_names if trial.fw.entry(name, running=True) is not None}
    assert names == {f"{NAME}_{year}", f"{NAME}_2999"}
    assert trial.run("-Y", "--prune").out.count("pruned") == 0


def test_prune_alone_takes_nobodys_edits_along(trial: Trial) -> None:
    """Our administrator has other changes pending: nothing is removed, which is a remark, and they stay pending."""
    assert trial.run("-Y").code == 0
    trial.fw.add_certificate(f"{NAME}_2001", trial.site.ca.issue(NAME))
    trial.fw.edit_as("certhooks", *ELSEWHERE)
    before = trial.fw.snapshot()
    done = trial.run("-Y", "--prune")
    assert done.code == 0, done
    assert "could not prune: certhooks has other changes pending" in done.err.replace(
        f"localhost:{trial.fw.port}: ", ""
    )
    assert trial.fw.snapshot() == before


@pytest.mark.parametrize("verbose", [(), ("-v",)])
@pytest.mark.parametrize("refused", [False, True])
@pytest.mark.parametrize("sink", ["closed pipe", "full disk"])
def test_output_that_nobody_takes_changes_nothing(
    trial: Trial, sink: str, *, refused: bool, verbose: tuple[str, ...]
) -> None:
    """``| head -1``, or a full disk behind both outputs: the device and the exit code are what they would be anyway."""
    if refused:
        trial.fw.next_commits.append(Outcome(fail=("Validation Error:",)))
    argv = [script("pan_instcert"), *trial.site.argv(*PORTAL, *verbose, trial.fw)]
    if sink == "full disk":
        with Path("/dev/full").open("w") as full:
            code = subprocess.run(argv, env={}, stdout=full, stderr=full, check=False, timeout=60).returncode
    else:
        reading, writing = os.pipe()
        os.close(reading)
        code = subprocess.run(argv, env={}, stdout=writing, stderr=writing, check=False, timeout=60).returncode
        os.close(writing)
    assert code == (13 if refused else 0)
    assert trial.fw.profile_certificate("GP_PORTAL") == ("old" if refused else NAME)
    assert trial.fw.pending_of("certhooks") == []


def test_a_very_large_vsys_is_no_obstacle(site: Site) -> None:
    """That it is there is all that is asked: a reply too long to be read answers that."""
    fw = site.firewall()
    place = fw.shared_path("vsys1")
    fw.add_certificate("inner", site.ca.issue(NAME), vsys="vsys1")
    fw.faults.add(Fault.OVERSIZED, type="config", action="get", text=place, nth=1)
    site.certificate()
    done = site.instcert("-c", NAME, "--vsys", "vsys1", fw)
    assert done.code == 0, done
    assert fw.certificate(NAME, running=True, vsys="vsys1") is not None
