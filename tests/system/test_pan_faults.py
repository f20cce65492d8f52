"""What goes wrong with credentials, trust, the device's answers and its commits: a line, a hint, nothing half done."""

from __future__ import annotations

import datetime as dt
import threading
from typing import TYPE_CHECKING, Callable

import pytest

from certhooks import deploy, probe
from certhooks.address import Address
from certhooks_pan import instcert
from tests.lab.ca import CA, lab_ca
from tests.lab.panos import Outcome, Reply, Restart, custom_role
from tests.lab.site import Site, call
from tests.lab.trial import NAME, WORDS, Trial

if TYPE_CHECKING:
    from tests.lab.ca import Issued
    from tests.lab.panos.requests import Request
    from tests.lab.site import Done

pytestmark = pytest.mark.usefixtures("hurry")
OWN_EDIT = '<entry name="b"><fqdn>y.example.test</fqdn></entry>'


@pytest.fixture
def trial(site: Site) -> Trial:
    """Prepare a push to one firewall."""
    return Trial(site)


def sent(trial: Trial) -> list[str]:
    """Return the kinds of all requests that would change something, also of those that were refused."""
    return [kind for kind in trial.fw.kinds() if kind.startswith(("import", "config set", "config delete", "commit"))]


# -- credentials -----------------------------------------------------------------------------------------------------


def test_a_wrong_key_is_named_and_nothing_is_sent(site: Site, trial: Trial) -> None:
    """Exit code 5, the device is as before; with the right key it works."""
    good = site.panrc.read_text()
    site.panrc.write_text("api_key=LUFRPT1XcmktZ2VuZXItc2NobHVlc3NlbA==\n")
    trial.expect_failure(trial.run(), 5, "does not accept the credentials")
    trial.expect_untouched()
    assert sent(trial) == []
    site.panrc.write_text(good)
    trial.expect_success_now()


@pytest.mark.parametrize("lacking", ["import", "commit", "config", "op"])
def test_a_role_without_a_right_leaves_nothing_behind(trial: Trial, lacking: str) -> None:
    """Exit code 5 names the right; what had been imported before is out of the candidate again."""
    trial.admin.role = custom_role(*({"import", "commit", "config", "op"} - {lacking}))
    done = trial.run()
    trial.expect_failure(done, 5, f"Type [{lacking}] not authorized")
    assert "Commit and Import" in done.err
    trial.expect_untouched()
    assert trial.attempt()["outcome"] == "undone"
    trial.admin.role = custom_role()
    trial.expect_success_now()


def test_a_role_that_may_not_see_a_place_is_named(trial: Trial) -> None:
    """Code 16 comes with status unauth, not error: exit code 5 all the same."""
    trial.admin.role = custom_role(hidden=("/config/shared/certificate",))
    trial.expect_failure(trial.run(), 5, "Unauthorized request")
    trial.expect_untouched()


# -- reaching and trusting -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("where", "said"),
    [("localhost:1", "no connection to localhost:1"), ("fw.example.invalid", "cannot resolve fw.example.invalid")],
)
def test_a_device_that_is_not_there_is_unreachable(site: Site, trial: Trial, where: str, said: str) -> None:
    """Exit code 4 within a second or two, and the other device of the call is served."""
    done = site.instcert(*WORDS, where, trial.fw)
    trial.expect_failure(done, 4, said)
    assert "1 of 2 done, 1 failed" in done.out
    trial.expect_installed()


def test_an_untrusted_device_gets_nothing(site: Site, trial: Trial) -> None:
    """Exit code 4, the hint tells how to trust it, no request reaches it."""
    other = site.folder / "other.pem"
    other.write_bytes(CA("Other").pem)
    done = trial.run("--cafile", other)
    trial.expect_failure(done, 4, "is not trusted")
    assert "--pin sha256:" in done.err
    assert trial.fw.kinds() == []
    trial.expect_success_now()


def test_a_device_with_another_name_gets_nothing(site: Site) -> None:
    """A certificate for another host is refused, though its CA is trusted."""
    issued = lab_ca().issue(["other.example.test"])
    trial = Trial(site, tls=(issued.fullchain_pem, issued.key_pem))
    trial.expect_failure(trial.run(), 4, "is not trusted", "localhost")
    assert trial.fw.kinds() == []


def expired() -> Issued:
    """Return a device's certificate that ended last year."""
    start = dt.datetime.now(dt.timezone.utc) - dt.timedelta(days=400)
    return lab_ca().issue(["localhost"], not_before=start, days=30)


def test_an_expired_device_certificate_needs_a_pin(site: Site) -> None:
    """By CA it is refused; pinned, it is what the administrator has seen with his own eyes."""
    issued = expired()
    trial = Trial(site, tls=(issued.fullchain_pem, issued.key_pem))
    trial.expect_failure(trial.run(), 4, "expired")
    assert trial.fw.kinds() == []
    done = run_pinned(trial, issued.sha256)
    assert done.code == 0, done
    trial.expect_installed()


def run_pinned(trial: Trial, pin: str, *more: str) -> Done:
    """Run with a pin in place of the CA file."""
    argv = trial.site.argv(*WORDS, *more, "--pin", f"sha256:{pin}", trial.fw)
    at = argv.index("--cafile")
    return call(instcert.main, argv[:at] + argv[at + 2 :])


def test_a_wrong_pin_shows_what_is_served_and_sends_nothing(trial: Trial) -> None:
    """Exit code 4 with the fingerprint that the device serves, to be compared with its console."""
    trial.expect_failure(run_pinned(trial, "ab" * 32), 4, "another certificate than the pinned one: sha256:")
    assert trial.fw.kinds() == []


def new_management_certificate(site: Site) -> Issued:
    """Issue a certificate that covers the device's own name too."""
    issued = site.ca.issue([NAME, "localhost"])
    (site.folder / f"{NAME}.crt").write_bytes(issued.cert_pem)
    (site.folder / f"{NAME}.key").write_bytes(issued.key_pem)
    return issued


def test_a_pin_lives_through_the_change_that_it_makes_and_through_renewals(site: Site) -> None:
    """The pinned certificate is replaced by the run itself; later runs with the stored pin trust what we brought."""
    trial = Trial(site)
    trial.fw.restart = Restart(refuse=0.02, bad_gateway=0.02)
    trial.fw.use_for_management("GP_PORTAL")
    stored = probe.first(Address("localhost", trial.fw.port)).fingerprint
    for _ in range(3):
        trial.new = new_management_certificate(site)
        done = run_pinned(trial, stored)
        assert done.code == 0, done
        trial.expect_installed()
        assert trial.fw.served() == trial.new.certificate
    assert "nothing to do" in run_pinned(trial, stored).out
    trial.fw.add_profile("ELSE", certificate="another")
    trial.fw.use_for_management("ELSE")
    count = trial.fw.count()
    trial.expect_failure(run_pinned(trial, stored), 4, "another certificate than the pinned one")
    assert trial.fw.count() == count


# -- refusals of the device ------------------------------------------------------------------------------------------


def test_a_refused_import_is_told_in_the_devices_words(trial: Trial) -> None:
    """Exit code 12, nothing stays in the candidate."""
    trial.fw.switches.passphrase_maximum = 8
    trial.expect_failure(trial.run(), 12, "passphrase can be at most 8 characters")
    trial.expect_untouched()
    trial.fw.switches.passphrase_maximum = 31
    trial.expect_success_now()


def test_a_refused_key_is_told_in_the_devices_words(trial: Trial) -> None:
    """An encryption that the device cannot open: exit code 12; the other format works."""
    trial.fw.switches.pbes2_in_pkcs12 = False
    trial.expect_failure(trial.run("--format", "pkcs12-modern"), 12, "Failed to decrypt private key")
    trial.expect_untouched()
    trial.expect_success_now("--format", "pkcs12")


def test_a_pair_that_the_device_finds_unfit_is_refused(trial: Trial) -> None:
    """Exit code 12 where the device says that key and certificate do not match."""
    trial.fw.switches.pkcs12_chain = trial.fw.switches.pem_chain = "refuse"
    with_import_reply(trial, lambda _: error("Public key and private key do not match"))
    trial.expect_failure(trial.run(), 12, "do not match")
    trial.expect_untouched()


def test_a_missing_profile_is_found_before_anything_is_sent(trial: Trial) -> None:
    """Exit code 2, the hint lists those that there are."""
    done = trial.site.instcert("-c", NAME, "-p", "GP_PORTAL", "-s", "GP_TYPO", trial.fw)
    trial.expect_failure(done, 2, "GP_TYPO")
    assert "GP_GATEWAY, GP_PORTAL" in done.err
    trial.expect_untouched()
    assert sent(trial) == []


def error(text: str) -> Reply:
    """Return a refusal with a text."""
    return Reply(f'<response status="error"><msg><line><![CDATA[{text}]]></line></msg></response>'.encode())


def with_import_reply(trial: Trial, reply: Callable[[Request], Reply]) -> None:
    """Let the device answer imports with this, and do nothing."""
    answer = trial.fw.answer
    trial.fw.answer = lambda request: reply(request) if request.kind.startswith("import") else answer(request)  # type: ignore[method-assign]


def test_what_the_device_echoes_shows_no_secret_and_no_escape(site: Site, trial: Trial) -> None:
    """A device repeats values in its errors: passphrase and key are blotted out in output, log and journal."""
    seen: list[str] = []

    def echo(request: Request) -> Reply:
        seen.extend([request.params["passphrase"], str(request.headers.get("X-PAN-KEY"))])
        return error(f"upload -> passphrase value: {seen[0]} key {seen[1]} \x9b31m\u202eevil")

    with_import_reply(trial, echo)
    done = trial.run("-v", "-v")
    assert done.code == 12
    assert "value: ***" in done.err
    kept = "".join(path.read_text() for path in site.state.iterdir() if path.is_file()) + site.log.read_text()
    assert "value: ***" in kept
    for secret in seen:
        assert secret not in done.err + done.out + kept
    assert done.err.replace("\n", "").isprintable()


# -- commits ---------------------------------------------------------------------------------------------------------


def test_a_failed_commit_is_taken_back(trial: Trial) -> None:
    """Exit code 13 with the device's lines; our changes are gone, another administrator's edit stays pending."""
    trial.fw.next_commits = [Outcome(fail=("Validation Error:", " ssl-tls-service-profile -> GP is invalid"))]
    trial.expect_failure(trial.run(), 13, "Validation Error:", "GP is invalid")
    trial.expect_untouched()
    assert trial.attempt()["outcome"] == "undone"
    trial.expect_success_now()


def test_a_commit_without_an_end_is_left_and_told(trial: Trial, monkeypatch: pytest.MonkeyPatch) -> None:
    """Exit code 16; nothing is reverted under a commit that is at work, that is said, and the next run goes on."""
    monkeypatch.setattr(deploy, "_GRACE", 0.2)
    trial.fw.next_commits = [Outcome(never_ends=True)]
    done = trial.run("--timeout", "1")
    trial.expect_failure(done, 16, "job 2 did not end within 1 s")
    assert "the commit is still at work, nothing was taken back" in done.err
    assert trial.attempt()["outcome"] == "failed"
    assert trial.served() == trial.served_before
    trial.fw.jobs[2].never_ends = False
    trial.expect_success_now()


def test_another_commit_is_waited_for(trial: Trial) -> None:
    """Busy is no failure."""
    trial.fw.enqueue("bob", "Commit", 0.4)
    trial.expect_success_now()


@pytest.mark.parametrize("kind", ["commit", "config"])
def test_a_lock_is_waited_for(trial: Trial, kind: str) -> None:
    """Another administrator's lock is waited out."""
    trial.fw.locks.add(kind, "bob", "lunch")
    timer = threading.Timer(0.3, lambda: trial.fw.locks.remove(kind, "bob"))
    timer.start()
    try:
        trial.expect_success_now()
    finally:
        timer.join()


@pytest.mark.parametrize("kind", ["commit", "config"])
def test_a_lock_that_stays_is_named_with_its_holder(trial: Trial, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Exit code 16 names who is in the way, and nothing of ours stays."""
    monkeypatch.setattr(deploy, "_GRACE", 0.2)
    trial.fw.locks.add(kind, "bob", "lunch")
    done = trial.run("--timeout", "1")
    trial.expect_failure(done, 16, "bob")
    trial.expect_untouched()
    trial.fw.locks.remove(kind, "bob")
    trial.expect_success_now()


# -- edits of our own administrator ----------------------------------------------------------------------------------


@pytest.mark.parametrize("more", [(), ("--force",), ("--dry-run",)], ids=str)
def test_foreign_edits_of_our_own_administrator_stop_the_run(trial: Trial, more: tuple[str, ...]) -> None:
    """A commit of our administrator would take them along: exit code 13, naming the place, before anything is sent."""
    trial.fw.edit_as("certhooks", "/config/shared/address", OWN_EDIT)
    trial.before = trial.fw.snapshot()
    trial.expect_failure(trial.run(*more), 13, "other changes pending", "/config/shared/address")
    trial.expect_untouched()
    assert sent(trial) == []


def test_foreign_edits_stop_a_forced_run_on_an_installed_certificate_too(trial: Trial) -> None:
    """Nothing differs, --force would commit again: the same refusal."""
    trial.expect_success_now()
    trial.fw.edit_as("certhooks", "/config/shared/address", OWN_EDIT)
    before, count = trial.fw.snapshot(), len(sent(trial))
    trial.expect_failure(trial.run("--force"), 13, "other changes pending")
    assert trial.fw.snapshot() == before
    assert len(sent(trial)) == count
