"""Whose changes ``pan_instcert`` commits, and what it makes of every way in which a commit can end."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import TYPE_CHECKING

import pytest

from certhooks import deploy
from tests.lab.panos import Fault, Firewall, Outcome, replies
from tests.lab.pushes import NAME, SHARED_ADDRESS, attempt, brisk, imports

if TYPE_CHECKING:
    from tests.lab.site import Site

pytestmark = pytest.mark.usefixtures("brisk")
YEAR = f"{datetime.now(timezone.utc):%Y}"
PORTAL = ("-c", NAME, "-p", "GP_PORTAL")
FORGOTTEN = replies.error("job 2 not found", code=7)


# -- commits ---------------------------------------------------------------------------------------------------------


def test_partial_leaves_what_others_have_pending(site: Site, fw: Firewall) -> None:
    """The usual commit takes our administrator's changes alone."""
    fw.edit_as("bob", *SHARED_ADDRESS)
    site.certificate()
    assert site.instcert(*PORTAL, fw).code == 0
    assert fw.pending_of("bob")
    assert not fw.pending_of("certhooks")
    assert not fw.config.find_running("/config/shared/address")


def test_full_takes_everything_and_names_whose(site: Site, fw: Firewall) -> None:
    """--commit full commits what others have pending, with a warning that names them; our own strays too."""
    fw.edit_as("bob", *SHARED_ADDRESS)
    fw.edit_as("certhooks", "/config/shared", "<tag><entry name='t'/></tag>")
    site.certificate()
    done = site.instcert(*PORTAL, "--commit", "full", fw)
    assert done.code == 0, done
    assert "pending of bob, certhooks" in done.err
    assert fw.config.find_running("/config/shared/address/entry")
    assert fw.config.find_running("/config/shared/tag/entry")


def test_own_pending_changes_of_something_else_stop_a_partial_commit(site: Site, fw: Firewall) -> None:
    """What the same administrator has pending elsewhere would be committed along: exit code 13, nothing is sent."""
    fw.edit_as("certhooks", *SHARED_ADDRESS)
    site.certificate()
    before = fw.snapshot()
    for words in ((), ("--commit", "force"), ("--dry-run",)):
        done = site.instcert(*PORTAL, *words, fw)
        assert done.code == 13
        assert "/config/shared/address" in done.err
    assert fw.snapshot() == before


def test_a_version_that_refuses_descriptions_gets_none(site: Site, fw: Firewall) -> None:
    """A commit whose description is refused is asked for again without one."""
    fw.switches.commit_description = "refuse"
    site.certificate()
    assert site.instcert(*PORTAL, fw).code == 0
    assert fw.count("commit") == 2
    assert fw.profile_certificate("GP_PORTAL") == NAME


def test_none_stages_and_a_later_partial_run_commits_it(site: Site, fw: Firewall) -> None:
    """--commit none leaves everything in the candidate and says so; the next usual run commits it as it is."""
    site.certificate()
    done = site.instcert(*PORTAL, "--commit", "none", fw)
    assert done.code == 0
    assert "in the candidate, not committed" in done.out
    assert not fw.count("commit")
    assert attempt(site)["outcome"] == "staged"
    assert (fw.profile_certificate("GP_PORTAL"), fw.profile_certificate("GP_PORTAL", running=False)) == ("old", NAME)
    assert site.instcert(*PORTAL, fw).code == 0
    assert imports(fw) == [("keypair", NAME)]
    assert fw.profile_certificate("GP_PORTAL") == NAME


def test_staging_two_certificates_is_fine_and_a_failure_keeps_the_first(site: Site, fw: Firewall) -> None:
    """What another run staged is not foreign to a further --commit none, and a failing one does not revert it."""
    site.certificate()
    site.certificate("vpn.example.test")
    assert site.instcert(*PORTAL, "--commit", "none", fw).code == 0
    fw.switches.key_for_csr_errors = 1
    done = site.instcert("-c", "vpn.example.test", "-p", "GP_GATEWAY", "--commit", "none", fw)
    assert done.code == 12
    assert "stay in the candidate" in done.err
    assert fw.profile_certificate("GP_PORTAL", running=False) == NAME
    assert site.instcert("-c", "vpn.example.test", "-p", "GP_GATEWAY", "--commit", "none", fw).code == 0
    assert fw.profile_certificate("GP_GATEWAY", running=False) == "vpn.example.test"


@pytest.mark.parametrize("dialect", ["19", "13"])
def test_force_commits_when_there_is_nothing_to_commit(site: Site, fw: Firewall, dialect: str) -> None:
    """--force goes through with nothing to do in either dialect, and --commit force starts a job all the same."""
    fw.switches.no_changes, fw.switches.identical_import_is_change = dialect, False
    site.certificate()
    assert site.instcert(*PORTAL, fw).code == 0
    jobs_before = len(fw.jobs)
    done = site.instcert(*PORTAL, "--force", "-v", fw)
    assert done.code == 0, done
    assert "nothing to commit" in done.err
    assert len(fw.jobs) == jobs_before
    assert site.instcert(*PORTAL, "--force", "--commit", "force", fw).code == 0
    assert len(fw.jobs) == jobs_before + 1


def test_nothing_to_commit_is_no_success_when_something_is_missing(site: Site, fw: Firewall) -> None:
    """A device that says there is nothing to commit, while the certificate is not running, is a failure (13)."""
    fw.faults.add(Fault.RAW, type="commit", reply=replies.NO_CHANGES)
    site.certificate()
    done = site.instcert(*PORTAL, fw)
    assert done.code == 13
    assert "would still have to" in done.err
    assert fw.profile_certificate("GP_PORTAL", running=False) == "old"


def test_warnings_of_a_commit_are_shown(site: Site, fw: Firewall) -> None:
    """What the device warns of at a commit that succeeds is told and is no failure."""
    fw.next_commits.append(Outcome(warnings=("Interface loopback.1 has no zone",)))
    site.certificate()
    done = site.instcert(*PORTAL, fw)
    assert done.code == 0
    assert "Interface loopback.1 has no zone" in done.err


def test_a_failed_validation_tells_the_devices_lines_and_reverts(site: Site, fw: Firewall) -> None:
    """FIN with result FAIL is exit code 13 with the device's own lines, and the candidate is as before."""
    lines = ("Validation Error:", " ssl-tls-service-profile -> X  is missing 'protocol-settings'")
    fw.next_commits.append(Outcome(fail=lines))
    fw.edit_as("bob", *SHARED_ADDRESS)
    site.certificate()
    before = fw.snapshot()
    done = site.instcert(*PORTAL, fw)
    assert done.code == 13
    assert "X is missing 'protocol-settings'" in done.err
    assert "complete or delete it" in done.err
    assert fw.snapshot() == before
    assert attempt(site)["outcome"] == "undone"


def test_a_job_that_the_device_forgot_is_judged_by_what_runs(site: Site, fw: Firewall) -> None:
    """Job unknown after a restart: success when the new certificate is running, failure (13) when it is not."""
    fw.commit_seconds = 0
    fw.faults.add(Fault.RAW, type="op", text="<jobs>", reply=FORGOTTEN)
    site.certificate()
    assert site.instcert(*PORTAL, fw).code == 0
    site.certificate()
    fw.commit_outcome = Outcome(fail=("Commit failed",))
    assert site.instcert(*PORTAL, fw).code == 13
    assert not fw.pending_of("certhooks")


def test_a_commit_that_outlives_the_run_is_not_undone_behind_its_back(site: Site, fw: Firewall) -> None:
    """At the deadline a running commit is waited for a while, then left alone: what it will run stays the candidate."""
    fw.next_commits.append(Outcome(never_ends=True))
    site.certificate()
    done = site.instcert(*PORTAL, "--timeout", "1", fw)
    assert done.code == 16
    assert "still at work" in done.err
    assert attempt(site)["outcome"] == "failed"
    fw.finish_jobs()
    assert fw.profile_certificate("GP_PORTAL") == fw.profile_certificate("GP_PORTAL", running=False) == NAME
    assert "nothing to do" in site.instcert(*PORTAL, fw).out


def test_a_key_whose_owner_nobody_tells_needs_a_name(site: Site, fw: Firewall) -> None:
    """Without an administrator's name no partial commit is tried; api_username in the key file or a full one helps."""
    fw.faults.add(Fault.RAW, type="op", text="<admins/>", reply=replies.result("<admins/>"))
    site.certificate()
    before = fw.snapshot()
    done = site.instcert(*PORTAL, fw)
    assert (done.code, "api_username=" in done.err) == (13, True)
    assert fw.snapshot() == before
    assert site.instcert(*PORTAL, "--commit", "full", fw).code == 0
    site.panrc.write_text(site.panrc.read_text() + "api_username=certhooks\n")
    site.certificate()
    assert site.instcert(*PORTAL, fw).code == 0


# -- leftovers -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("by_scope", [False, True])
@pytest.mark.parametrize("killed_at", ["activate", "prune"])
def test_what_a_killed_run_left_does_not_stop_the_next(
    site: Site,
    fw: Firewall,
    monkeypatch: pytest.MonkeyPatch,
    killed_at: str,
    by_scope: bool,  # noqa: FBT001
) -> None:
    """Pending changes of a run that was killed are finished by the next, however coarsely the device lists them."""
    from certhooks_pan.commits import Commits

    fw.switches.changes_by_scope = by_scope
    fw.add_certificate(f"{NAME}_2019", site.ca.issue(NAME))
    site.certificate()
    commit = Commits.commit

    def killed(self: Commits, description: str) -> None:
        if killed_at == "prune" and "remove" not in description:
            commit(self, description)
            return
        raise SystemExit  # past every handler of ours, as a kill is

    monkeypatch.setattr(Commits, "commit", killed)
    monkeypatch.setattr(deploy._Push, "_take_back", lambda *_: (_ for _ in ()).throw(SystemExit))
    with pytest.raises(SystemExit):
        site.instcert(*PORTAL, "-Y", "--prune", fw)
    assert fw.pending_of("certhooks")
    monkeypatch.undo()
    brisk(monkeypatch)
    if killed_at == "prune":
        site.certificate()
    done = site.instcert(*PORTAL, "-Y", "--prune", fw)
    assert done.code == 0, done
    assert not fw.pending_of("certhooks")
    assert fw.profile_certificate("GP_PORTAL") == f"{NAME}_{YEAR}"


def test_coarse_entries_without_a_leftover_are_foreign(site: Site, fw: Firewall) -> None:
    """Where only the scope is named, and no run of ours left anything, a pending change is taken for foreign."""
    fw.switches.changes_by_scope = True
    fw.edit_as("certhooks", *SHARED_ADDRESS)
    site.certificate()
    assert site.instcert(*PORTAL, fw).code == 13
