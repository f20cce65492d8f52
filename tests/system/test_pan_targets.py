"""What ``pan_instcert`` does on firewalls, beyond the plain push: against emulated ones, in this process."""

from __future__ import annotations

import json
import socket
from datetime import datetime, timezone
from typing import TYPE_CHECKING

import pytest

from certhooks import deploy
from tests.lab.ca import CA
from tests.lab.panos import Fault, Firewall, Outcome, certificates, custom_role, replies
from tests.lab.pushes import NAME, SHARED_ADDRESS, attempt, brisk, imports, managed, write
from tests.lab.site import Site

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

YEAR = f"{datetime.now(timezone.utc):%Y}"
PORTAL = ("-c", NAME, "-p", "GP_PORTAL")
FORGOTTEN = replies.error("job 2 not found", code=7)


@pytest.fixture(autouse=True)
def _brisk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Poll often and give up soon: an emulator is quick."""
    brisk(monkeypatch)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """Make the administrator's side, which trusts what its own CA issues for devices too."""
    with Site(tmp_path) as made:
        made.trusted.write_bytes(made.ca.pem)
        yield made


@pytest.fixture
def fw(site: Site) -> Firewall:
    """Start a firewall whose profiles use a certificate ``old``."""
    return site.firewall()


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


# -- what travels -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("file_format", ["pem", "pkcs12", "pkcs12-modern"])
def test_a_pair_travels_as_the_leaf_alone_under_a_short_passphrase(site: Site, fw: Firewall, file_format: str) -> None:
    """In every format one import brings key and leaf, no chain, and a passphrase that the strictest device takes."""
    issued = write(site, site.ca.intermediate().issue(NAME))
    assert site.instcert(*PORTAL, "--format", file_format, fw).code == 0
    (request,) = [r for r in fw.requests if r.params.get("category") == "keypair"]
    read = certificates.read_pem if file_format == "pem" else certificates.read_pkcs12
    assert request.file is not None
    material = read(request.file, request.params["passphrase"])
    assert (material.leaf, material.chain) == (issued.certificate, ())
    assert 8 <= len(request.params["passphrase"]) <= 31
    assert request.params["passphrase"].isalnum()
    assert certificates.uses_pbes2(request.file) == (file_format == "pkcs12-modern")
    assert fw.key_of(NAME, running=True) == issued.key_pem
    assert fw.profile_certificate("GP_PORTAL") == NAME


def test_a_refused_format_is_a_clear_error_and_leaves_nothing(site: Site, fw: Firewall) -> None:
    """A device that cannot read modern PKCS#12 gives exit code 12 with its words, and keeps its configuration."""
    fw.switches.pbes2_in_pkcs12 = False
    site.certificate()
    before = fw.snapshot()
    done = site.instcert(*PORTAL, "--format", "pkcs12-modern", fw)
    assert done.code == 12
    assert "Failed to decrypt private key" in done.err
    assert fw.snapshot() == before
    assert site.instcert(*PORTAL, "--format", "pkcs12", fw).code == 0


def test_intermediates_come_as_entries_of_their_own(site: Site, fw: Firewall) -> None:
    """What the device lacks of the chain is imported, the root is not; a second run imports nothing."""
    middle = site.ca.intermediate("Upper CA")
    write(site, middle.intermediate("Lower CA").issue(NAME), site.ca)
    assert site.instcert(*PORTAL, fw).code == 0
    categories = [category for category, _ in imports(fw)]
    assert categories == ["certificate", "certificate", "keypair"]
    assert [name.rpartition("_")[0] for _, name in imports(fw)[:2]] == ["Lower-CA", "Upper-CA"]
    assert fw.certificate(imports(fw)[1][1], running=True) == middle.certificate
    assert "nothing to do" in site.instcert(*PORTAL, fw).out
    assert len(imports(fw)) == 3


def test_an_intermediate_is_recognized_by_certificate_not_by_name(site: Site, fw: Firewall) -> None:
    """The same CA under any name is not imported again; another CA under its name does not count."""
    middle = site.ca.intermediate("Middle CA")
    other = CA("Middle CA")
    for name, ca in (("whatever", middle), ("Middle-CA", other), ("Middle CA", other)):
        fw.config.put("/config/shared/certificate", certificates.entry(name, certificates.fields(ca.certificate)))
    write(site, middle.issue(NAME))
    assert site.instcert(*PORTAL, fw).code == 0
    assert imports(fw) == [("keypair", NAME)]
    write(site, CA("Third Root").intermediate("Middle CA").issue(NAME))
    assert site.instcert(*PORTAL, fw).code == 0
    assert [category for category, _ in imports(fw)] == ["keypair", "certificate", "keypair"]


def test_a_vsys_does_not_get_what_shared_has(site: Site, fw: Firewall) -> None:
    """An intermediate that stands in shared is not imported into a vsys again."""
    middle = site.ca.intermediate("Middle CA")
    fw.config.put("/config/shared/certificate", certificates.entry("mid", certificates.fields(middle.certificate)))
    fw.add_profile("VP", certificate="vold", vsys="vsys1")
    issued = write(site, middle.issue(NAME))
    assert site.instcert("-c", NAME, "-p", "VP", "--vsys", "vsys1", fw).code == 0
    assert imports(fw) == [("keypair", NAME)]
    assert fw.certificate(NAME, running=True, vsys="vsys1") == issued.certificate
    assert fw.certificate(NAME) is None
    assert fw.profile_certificate("VP", vsys="vsys1") == NAME


def test_trust_root_imports_and_trusts_it_once(site: Site, fw: Firewall) -> None:
    """--trust-root brings the root and makes it trusted; again it does nothing, and without the option not at all."""
    write(site, site.ca.issue(NAME), site.ca)
    assert site.instcert(*PORTAL, "--trust-root", fw).code == 0
    (root,) = [name for category, name in imports(fw) if category == "certificate"]
    (listed,) = fw.config.find_running("/config/shared/ssl-decrypt/trusted-root-CA")
    assert [member.text for member in listed] == [root]
    assert fw.certificate(root, running=True) == site.ca.certificate
    sent = len(imports(fw))
    assert "nothing to do" in site.instcert(*PORTAL, "--trust-root", fw).out
    assert len(imports(fw)) == sent


# -- names -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["-n", "x" * 64], "64 characters, 63 are allowed"),
        (["-n", "x" * 59, "-Y"], "64 characters, 63 are allowed"),
        (["-n", "_x"], "not a certificate name"),
        (["-n", "x'or'"], "not a certificate name"),
        (["-p", "GP'] | //*"], "not a profile name"),
        (["-p", "GP_PORTL"], "there are: GP_GATEWAY, GP_PORTAL"),
        (["--vsys", "vsys9"], "no vsys vsys9"),
    ],
)
def test_a_bad_name_is_refused_before_anything_is_sent(site: Site, fw: Firewall, words: list[str], said: str) -> None:
    """A name that the device would refuse, or that it does not have, ends in exit code 2; nothing changes there."""
    site.certificate()
    before = fw.snapshot()
    done = site.instcert("-c", NAME, *words, fw)
    assert done.code == 2, done
    assert said in done.err
    assert fw.snapshot() == before
    assert not fw.count("import")


def test_profiles_may_have_blanks_and_dots(site: Site, fw: Firewall) -> None:
    """A profile called ``Corp. GP (no parentheses)`` or the like is found and bound."""
    fw.add_profile("Corp. GP 1.2", certificate="old")
    site.certificate()
    assert site.instcert("-c", NAME, "-p", "Corp. GP 1.2", fw).code == 0
    assert fw.profile_certificate("Corp. GP 1.2") == NAME


def test_the_year_is_that_of_the_certificate(site: Site, fw: Firewall) -> None:
    """-Y appends the year in which the certificate begins, so that a later run finds the same name."""
    start = datetime(2025, 12, 31, 23, 0, tzinfo=timezone.utc)
    site.certificate(not_before=start, days=3650)
    assert site.instcert(*PORTAL, "-Y", fw).code == 0
    assert fw.profile_certificate("GP_PORTAL") == f"{NAME}_2025"


# -- commits -----------------------------------------------------------------------------------------------------


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


# -- leftovers ---------------------------------------------------------------------------------------------------


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


# -- the management certificate ----------------------------------------------------------------------------------


@pytest.mark.parametrize("after", [0, 1, 2])
def test_the_management_certificate_survives_the_restart_of_its_web_server(
    site: Site, fw: Firewall, after: int
) -> None:
    """Refused connections, 502 and "Invalid credentials." in mid-commit or just after it are waited out."""
    managed(site, fw)
    fw.restart.after = after
    issued = write(site, site.ca.issue([NAME, "localhost"]))
    done = site.instcert("-c", NAME, "-p", "WEB", fw)
    assert done.code == 0, done
    assert fw.restarts == 1
    assert fw.served() == issued.certificate
    assert f"served by localhost:{fw.port}" in done.out


def test_a_management_certificate_must_cover_the_devices_name(site: Site, fw: Firewall) -> None:
    """A leaf without the name that the device is managed by would lock us out: 10, nothing sent, unless --force."""
    managed(site, fw)
    before = fw.snapshot()
    issued = site.certificate()
    done = site.instcert("-c", NAME, "-p", "WEB", fw)
    assert (done.code, "does not cover localhost" in done.err) == (10, True)
    assert fw.snapshot() == before
    fw.restart.refuse = fw.restart.bad_gateway = 0
    fw.restart.invalid_credentials = 0
    site.instcert("-c", NAME, "-p", "WEB", "--force", "--timeout", "2", fw)
    assert fw.served() == issued.certificate


def test_replacing_the_management_certificate_in_place_is_noticed(site: Site, fw: Firewall) -> None:
    """No -p, but the name that the management profile uses: the same care, and the handshake proves it."""
    managed(site, fw, certificate=NAME)
    site.certificate()
    assert site.instcert("-c", NAME, fw).code == 10
    issued = write(site, site.ca.issue([NAME, "localhost"]))
    done = site.instcert("-c", NAME, fw)
    assert done.code == 0, done
    assert "served by" in done.out
    assert fw.served() == issued.certificate


# -- verification and the way back -------------------------------------------------------------------------------


def test_a_portal_that_goes_on_with_the_old_one_gets_the_old_binding_back(site: Site, fw: Firewall) -> None:
    """With -Y the old certificate still exists: bound and committed again, exit code 15, the portal serves it."""
    portal = fw.add_portal("GP_PORTAL")
    portal.stick()
    site.certificate()
    done = site.instcert(*PORTAL, "-Y", "--probe", f"localhost:{portal.port}", fw)
    assert done.code == 15, done
    assert "the previous certificate is back" in done.err
    assert fw.profile_certificate("GP_PORTAL") == fw.profile_certificate("GP_PORTAL", running=False) == "old"
    assert not fw.pending_of("certhooks")
    assert attempt(site)["outcome"] == "undone"


def test_what_replaced_its_predecessor_in_place_stays_and_says_so(site: Site, fw: Firewall) -> None:
    """Without -Y there is nothing to go back to: exit code 14, told why, and the journal keeps it as failed."""
    site.certificate()
    assert site.instcert(*PORTAL, fw).code == 0
    portal = fw.add_portal("GP_PORTAL")
    portal.stick()
    issued = site.certificate()
    done = site.instcert(*PORTAL, "--probe", f"localhost:{portal.port}", fw)
    assert done.code == 14, done
    assert "cannot be put back" in done.err
    assert attempt(site)["outcome"] == "failed"
    assert fw.certificate(NAME, running=True) == issued.certificate


def test_a_way_back_that_fails_is_not_called_one(site: Site, fw: Firewall) -> None:
    """When the commit of the old binding fails too, it is exit code 14 with a warning, never 15."""
    portal = fw.add_portal("GP_PORTAL")
    portal.stick()
    fw.next_commits += [Outcome(), Outcome(fail=("Commit failed",))]
    site.certificate()
    done = site.instcert(*PORTAL, "-Y", "--probe", f"localhost:{portal.port}", fw)
    assert done.code == 14, done
    assert "could not be taken back" in done.err
    assert attempt(site)["outcome"] == "failed"


# -- prune -------------------------------------------------------------------------------------------------------


def test_prune_removes_unused_predecessors_and_nothing_else(site: Site, fw: Firewall) -> None:
    """NAME_YYYY with the same common name goes unless something uses it, which is told; every other one stays."""
    for year in (2021, 2022, 2023):
        fw.add_certificate(f"{NAME}_{year}", site.ca.issue(NAME))
    fw.add_profile("OTHER", certificate=f"{NAME}_2022")
    kept = [f"{NAME}_20233", f"x{NAME}_2021", f"{NAME}_old", NAME, "vpn_2021"]
    for name in kept:
        fw.add_certificate(name, site.ca.issue(NAME))
    fw.add_certificate(f"{NAME}_2020", site.ca.issue("elsewhere.example.test"))
    site.certificate()
    done = site.instcert(*PORTAL, "-Y", "--prune", fw)
    assert done.code == 0, done
    assert f"pruned {NAME}_2021" in done.out
    assert f"{NAME}_2022 stays" in done.err
    for year, there in ((2020, True), (2021, False), (2022, True), (2023, False)):
        assert (fw.entry(f"{NAME}_{year}", running=True) is not None) == there
    assert all(fw.entry(name, running=True) is not None for name in kept)
    assert not fw.pending_of("certhooks")


def test_a_prune_that_fails_leaves_a_success(site: Site, fw: Firewall) -> None:
    """The certificate is in use: a commit of the deletions that fails is a remark, and they are taken back."""
    fw.add_certificate(f"{NAME}_2021", site.ca.issue(NAME))
    fw.next_commits += [Outcome(), Outcome(fail=("Commit failed",))]
    site.certificate()
    done = site.instcert(*PORTAL, "-Y", "--prune", fw)
    assert done.code == 0, done
    assert "could not prune" in done.err
    assert fw.entry(f"{NAME}_2021") is not None
    assert not fw.pending_of("certhooks")


def test_without_prune_predecessors_stay(site: Site, fw: Firewall) -> None:
    """Nothing is deleted that nobody asked to delete."""
    fw.add_certificate(f"{NAME}_2021", site.ca.issue(NAME))
    site.certificate()
    assert site.instcert(*PORTAL, "-Y", fw).code == 0
    assert fw.entry(f"{NAME}_2021", running=True) is not None
    assert not fw.count("config delete")


# -- high availability -------------------------------------------------------------------------------------------


def pair(site: Site, *, sync: bool = True) -> tuple[Firewall, Firewall]:
    """Start an HA pair, active and passive, each managed through its own profile choice."""
    active, passive = site.firewall(serial="0070001"), site.firewall(serial="0070002")
    active.pair_with(passive, sync=sync)
    return active, passive


@pytest.mark.parametrize("order", [1, -1])
def test_an_ha_pair_is_done_in_turn_the_active_one_first(site: Site, order: int) -> None:
    """In either order of the call the active unit is written and the passive one takes it over; both are checked."""
    active, passive = pair(site)
    passive.switches.passive_refuses_writes = True
    issued = site.certificate()
    done = site.instcert(*PORTAL, *(active, passive)[::order])
    assert done.code == 0, done
    assert not any(passive.count(kind) for kind in ("import", "commit", "config set"))
    assert passive.certificate(NAME, running=True) == issued.certificate
    assert "2 of 2 done" in done.out


def test_both_of_an_ha_pair_may_be_managed_by_the_new_certificate(site: Site) -> None:
    """Each peer's own choice counts: both web servers restart, both serve the new certificate in the end."""
    active, passive = pair(site)
    managed(site, active, passive)
    passive.restart.after = 1
    issued = write(site, site.ca.issue([NAME, "localhost"]))
    done = site.instcert("-c", NAME, "-p", "WEB", passive, active)
    assert done.code == 0, done
    assert active.served() == passive.served() == issued.certificate
    assert done.out.count("served by") == 2


def test_a_passive_unit_alone_is_a_clear_error(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the passive unit given: exit code 12 that asks for the active one, and nothing is written."""
    from certhooks_pan import target

    monkeypatch.setattr(target, "_SYNCHRONIZED", 0.5)
    _, passive = pair(site)
    site.certificate()
    before = passive.snapshot()
    done = site.instcert(*PORTAL, passive)
    assert (done.code, "give the active unit" in done.err) == (12, True)
    assert passive.snapshot() == before


def test_units_that_do_not_synchronize_are_both_written(site: Site) -> None:
    """With synchronization off the passive unit is a device like any other."""
    active, passive = pair(site, sync=False)
    issued = site.certificate()
    done = site.instcert(*PORTAL, passive, active)
    assert done.code == 0, done
    for fw in (active, passive):
        assert fw.certificate(NAME, running=True) == issued.certificate
        assert fw.count("import") == 1


def test_one_device_under_two_names_is_done_once(site: Site, fw: Firewall) -> None:
    """Two names of one device go one after the other, and the second finds nothing to do."""
    site.certificate()
    done = site.instcert(*PORTAL, fw, f"127.0.0.1:{fw.port}")
    assert done.code == 0, done
    assert imports(fw) == [("keypair", NAME)]
    assert "nothing to do" in done.out


# -- several devices, values from a template, roles ----------------------------------------------------------------


@pytest.mark.parametrize("workers", ["1", "8"])
def test_devices_do_not_share_their_failures(site: Site, workers: str) -> None:
    """One down, one refusing, two fine: one result each, the two are done, the exit code is the first failure's."""
    fws = [site.firewall(serial=f"00700{n}") for n in range(3)]
    fws[1].switches.key_for_csr_errors = 9
    down = f"localhost:{free_port()}"
    issued = site.certificate()
    done = site.instcert(*PORTAL, "--json", "--jobs", workers, fws[0], down, fws[1], fws[2])
    results = [json.loads(line) for line in done.out.splitlines()]
    assert [result["exit_code"] for result in results] == [0, 4, 12, 0]
    assert done.code == 4
    assert results[1]["device"] == down
    for fw in (fws[0], fws[2]):
        assert fw.certificate(NAME, running=True) == issued.certificate
    assert not fws[1].pending_of("certhooks")


def test_a_profile_from_a_template_is_overridden_with_a_warning(site: Site, fw: Firewall) -> None:
    """Binding a profile that a Panorama pushed makes a local override: done, and told."""
    for root in (fw.config.candidate, fw.config.running):
        for entry in root.iter("entry"):
            if entry.get("name") == "GP_PORTAL":
                entry.attrib.update(src="tpl", ptpl="Branches")
    site.certificate()
    done = site.instcert(*PORTAL, fw)
    assert done.code == 0
    assert "pushed from template Branches" in done.err
    assert fw.profile_certificate("GP_PORTAL") == NAME


@pytest.mark.parametrize("status", [200, 403])
@pytest.mark.parametrize("hidden", ["show config", "show jobs", "/config/shared/certificate"])
def test_a_role_without_a_right_is_told_at_once(site: Site, fw: Firewall, hidden: str, status: int) -> None:
    """A right that is missing is exit code 5 that names the rights, not a wait of minutes, and nothing stays behind."""
    fw.admins["certhooks"].role = custom_role(hidden=(hidden,))
    fw.switches.unauth_http_status = status
    site.certificate()
    done = site.instcert(*PORTAL, "--timeout", "20", fw)
    assert (done.code, "role needs" in done.err) == (5, True), done
