"""What certmonger loses is seen by status and repaired by reconcile, under the real certmonger."""

from __future__ import annotations

import email
import email.policy
import json
import os
import signal
import socket
import subprocess
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from certhooks import probe
from certhooks.address import Address
from certhooks.deadline import Deadline
from certhooks.journal import UNDONE, Journal
from tests.lab import smtp
from tests.lab.enrolled import NAME, sha256
from tests.lab.site import Done, script
from tests.lab.smtp import Mailbox

if TYPE_CHECKING:
    from collections.abc import Iterator

    from aiosmtpd.smtp import Envelope

    from tests.lab.enrolled import EnrolledSite
    from tests.lab.panos import Firewall, Portal


def installed(enrolled: EnrolledSite) -> tuple[Firewall, Portal]:
    """Return a firewall with a portal that serves what certmonger tracks."""
    fw = enrolled.firewall()
    portal = fw.add_portal("GP_PORTAL")
    done = enrolled.getcert("-c", NAME, "-p", "GP_PORTAL", "--probe", f"localhost:{portal.port}", fw)
    assert done.code == 0, done
    assert served(portal) == sha256(enrolled.issued())
    return fw, portal


def served(portal: Portal) -> str:
    """Return the fingerprint that a client of the portal sees."""
    return probe.first(Address("localhost", portal.port)).fingerprint


def kinds(placement: dict[str, Any]) -> set[str]:
    """Return the kinds of what is wrong with a placement."""
    return {finding["kind"] for finding in placement["findings"]}


def test_all_is_well_after_an_install(enrolled: EnrolledSite) -> None:
    """Status is ok and shows what is tracked, pushed and served; reconcile says nothing and sends nothing."""
    fw, portal = installed(enrolled)
    status = enrolled.status()
    assert status["level"] == "ok"
    [one] = status["watched"]
    [placement] = one["placements"]
    leaf = one["leaf"]["fingerprint"]
    assert leaf == placement["pushed"]["fingerprint"] == sha256(enrolled.issued())
    assert {sight["leaf"]["fingerprint"] for sight in placement["served"] if sight["leaf"]} == {leaf}
    assert placement["endpoints"] == [f"localhost:{portal.port}"]
    asked = fw.count()
    done = enrolled.certhooks("reconcile")
    assert (done.code, done.out, done.err) == (0, "", "")
    assert fw.count() == asked


def test_a_device_that_was_down_during_the_renewal_is_repaired(enrolled: EnrolledSite) -> None:
    """Critical while it is down; a reconcile in vain says when the next comes; once it is back it is repaired."""
    fw, portal = installed(enrolled)
    fw.listener.stop()
    enrolled.resubmit()
    new = sha256(enrolled.issued())
    down = enrolled.placement()
    assert kinds(down) == {"behind"}
    assert "no connection" in down["failure"]
    done = enrolled.certhooks("reconcile")
    assert done.code == 4, done
    assert served(portal) != new
    waiting = enrolled.placement()
    assert waiting["level"] == "critical"
    assert waiting["next_try"] is not None
    fw.listener.start()
    done = enrolled.certhooks("reconcile")
    assert (done.code, done.out) == (0, ""), "the pause is not over"
    done = enrolled.certhooks("reconcile", "--now")
    assert done.code == 0, done
    assert served(portal) == new
    assert enrolled.status()["level"] == "ok"


def test_people_are_told_of_the_failure_and_of_its_end(enrolled: EnrolledSite) -> None:
    """One mail when a renewal does not arrive, none while that lasts, one when it is repaired; no key in any."""
    box = Mailbox()
    with smtp.serve(box) as server:
        config = enrolled.folder / "notify.conf"
        config.write_text(f"[mail]\nto = admin@example.test\nserver = {server.host}:{server.port}\n")
        fw, portal = installed(enrolled)
        assert enrolled.certhooks("reconcile", "--config", str(config)).code == 0
        assert box.taken == [], "what is well is not told"
        fw.listener.stop()
        enrolled.resubmit()
        for _ in range(3):
            enrolled.certhooks("reconcile", "--config", str(config), "--now")
        [failure] = map(text_of, box.taken)
        assert f"{NAME} on localhost:{fw.port}" in failure
        assert "not installed: no connection to" in failure
        fw.listener.start()
        assert enrolled.certhooks("reconcile", "--config", str(config), "--now").code == 0
        assert served(portal) == sha256(enrolled.issued())
        assert enrolled.certhooks("reconcile", "--config", str(config)).out == ""
        _failure, recovery = map(text_of, box.taken)
        assert f"{NAME} on localhost:{fw.port}" in recovery
        for told in (failure, recovery):
            assert "PRIVATE KEY" not in told
            assert enrolled.panrc.read_text().partition("=")[2].strip() not in told
    assert not list((enrolled.state / "spool").glob("*.json"))


def test_mail_that_cannot_be_sent_waits(enrolled: EnrolledSite) -> None:
    """A mail server that is away costs an exit code and nothing else: the message is sent when it is back."""
    fw, _portal = installed(enrolled)
    box = Mailbox(RCPT="451 later")
    with smtp.serve(box) as server:
        config = enrolled.folder / "notify.conf"
        config.write_text(f"[mail]\nto = admin@example.test\nserver = {server.host}:{server.port}\n")
        fw.listener.stop()
        enrolled.resubmit()
        assert enrolled.certhooks("reconcile", "--config", str(config)).code
        assert box.taken == []
        box.says.clear()
        done = enrolled.certhooks("notify", "--config", str(config))
        assert done.code == 0, done
        assert len(box.taken) == 1
        assert enrolled.certhooks("notify", "--config", str(config)).code == 0
        assert len(box.taken) == 1


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_a_hook_that_was_killed_with_certmonger_is_made_up_for(enrolled: EnrolledSite, how: signal.Signals) -> None:
    """Certmonger is stopped or killed and its hook in mid-push with it: it forgets the command, reconcile does not."""
    fw, portal = installed(enrolled)
    fw.commit_seconds = 30
    enrolled.lab.getcert("resubmit", "-i", enrolled.request().nickname)
    enrolled.lab.wait_for(lambda: [job for job in fw.jobs.values() if not job.ended])
    assert enrolled.placement()["running"], "while it runs it is in nobody's way"
    assert enrolled.certhooks("reconcile", "--now").out == ""
    enrolled.lab.stop_daemon(how)
    kill_hook(enrolled)
    fw.finish_jobs()
    fw.commit_seconds = 0.05
    enrolled.lab.start_daemon()
    assert enrolled.settled().monitoring, "certmonger has done all that it will do"
    lost = enrolled.placement()
    assert lost["failure"] == "the run was cut off before its end"
    done = enrolled.certhooks("reconcile")
    assert done.code == 0, done
    assert served(portal) == sha256(enrolled.issued())
    assert enrolled.status()["level"] == "ok"


def test_a_renewal_that_waits_behind_another_s_hook_is_not_late(enrolled: EnrolledSite) -> None:
    """The new certificate is there, and it is saved when the other hook has ended: nothing is wrong meanwhile."""
    fw, portal = installed(enrolled)
    begun, free = enrolled.folder / "begun", enrolled.folder / "free"
    waits = enrolled.lab.hook_command(["/bin/sh", "-c", f"touch {begun}; until test -e {free}; do sleep 0.1; done"])
    enrolled.lab.getcert(*enrolled.lab.request_args("other.example.com", post_save=waits))
    enrolled.lab.wait_for(begun.exists)
    enrolled.lab.getcert("resubmit", "-i", enrolled.request().nickname)
    enrolled.lab.wait_for(lambda: enrolled.request().saving)
    asked = fw.count()
    assert enrolled.placement()["findings"] == []
    assert enrolled.certhooks("reconcile", "--now") == Done(0, "", "")
    assert fw.count() == asked
    free.touch()
    enrolled.lab.wait_for(lambda: served(portal) == sha256(enrolled.issued()) and enrolled.request().monitoring)
    assert enrolled.status()["level"] == "ok"


def test_a_reconcile_that_is_killed_leaves_a_run_that_is_known(enrolled: EnrolledSite) -> None:
    """SIGKILL to it in mid-push: the install command goes on to its end under its lock; nobody interferes."""
    fw, portal = installed(enrolled)
    fw.add_profile("GP_PORTAL", certificate="old")
    fw.commit_seconds = 30
    with started(enrolled) as process:
        enrolled.lab.wait_for(lambda: [job for job in fw.jobs.values() if not job.ended])
        process.kill()
    assert enrolled.placement()["running"]
    assert enrolled.certhooks("reconcile", "--now") == Done(0, "", "")
    fw.finish_jobs()
    enrolled.lab.wait_for(lambda: not enrolled.placement()["running"])
    assert served(portal) == sha256(enrolled.issued())
    assert enrolled.status()["level"] == "ok"


def test_a_reconcile_that_is_asked_to_end_takes_back_what_was_begun(enrolled: EnrolledSite) -> None:
    """SIGTERM in mid-push: the device serves what it did, nothing runs on, and the next reconcile repairs it."""
    fw, portal = installed(enrolled)
    fw.add_profile("GP_PORTAL", certificate="old")
    before = served(portal)
    fw.commit_seconds = 5
    with started(enrolled) as process:
        enrolled.lab.wait_for(lambda: [job for job in fw.jobs.values() if not job.ended])
        process.terminate()
        assert process.wait(60) == 143
    assert served(portal) == before
    assert not enrolled.placement()["running"]
    assert enrolled.attempts()[-1].outcome == UNDONE
    fw.commit_seconds = 0.05
    assert enrolled.certhooks("reconcile").code == 0
    assert served(portal) == sha256(enrolled.issued())


def test_one_command_in_two_requests(enrolled: EnrolledSite) -> None:
    """It installs the certificate that it names, whichever request it stands in: no conflict, repaired once."""
    fw, portal = installed(enrolled)
    stored = enrolled.request().post_save or ""
    enrolled.lab.getcert(*enrolled.lab.request_args("other.example.com", post_save=stored))
    enrolled.settled("other.example.com")
    assert enrolled.status()["level"] == "ok"
    fw.add_profile("GP_PORTAL", certificate="old")
    done = enrolled.certhooks("reconcile")
    assert (done.code, len(done.out.splitlines())) == (0, 1), done
    assert served(portal) == sha256(enrolled.issued())


def test_a_post_save_command_that_installs_nothing(enrolled: EnrolledSite) -> None:
    """Only help, or a dry run: critical, and what status prints is its own alone."""
    installed(enrolled)
    for option in ("--help", "--dry-run"):
        stored = enrolled.lab.hook_command([script("pan_instcert"), "-c", NAME, "-p", "GP_PORTAL", option, "fw1"])
        enrolled.lab.getcert("start-tracking", "-i", enrolled.request().nickname, "-C", stored)
        [one] = enrolled.status()["watched"]
        assert [finding["kind"] for finding in one["findings"]] == ["unknown"]
        assert enrolled.certhooks("reconcile") == Done(0, "", "")


def test_certmonger_that_is_stopped_before_its_hook_starts(enrolled: EnrolledSite) -> None:
    """The certificate is saved and the command never started: nothing tells, but that the device has the former one."""
    _fw, portal = installed(enrolled)
    request = enrolled.request()
    assert request.post_save
    enrolled.lab.getcert("start-tracking", "-i", request.nickname, "-C", "/bin/true")
    enrolled.resubmit()
    enrolled.lab.getcert("start-tracking", "-i", request.nickname, "-C", request.post_save)
    lost = enrolled.placement()
    assert (kinds(lost), lost["failure"]) == ({"behind"}, "")
    done = enrolled.certhooks("reconcile")
    assert done.code == 0, done
    assert served(portal) == sha256(enrolled.issued())


def test_a_device_reset_to_its_factory_state_is_repaired(enrolled: EnrolledSite) -> None:
    """Profile and certificate are as they were before us, though the journal says done: seen, and repaired."""
    fw, portal = installed(enrolled)
    fw.add_profile("GP_PORTAL", certificate="old")
    assert served(portal) != sha256(enrolled.issued())
    assert kinds(enrolled.placement()) == {"differs"}
    done = enrolled.certhooks("reconcile")
    assert done.code == 0, done
    assert served(portal) == sha256(enrolled.issued())
    assert enrolled.status()["level"] == "ok"


def test_a_device_that_is_not_seen_from_here_is_looked_at_once_a_day(enrolled: EnrolledSite) -> None:
    """Without an address to look at, the install command itself is what looks: a day after the last time."""
    fw = enrolled.firewall()
    assert enrolled.getcert("-c", NAME, "-p", "GP_PORTAL", fw).code == 0
    fw.add_profile("GP_PORTAL", certificate="old")
    assert enrolled.certhooks("reconcile").out == ""
    assert fw.profile_certificate("GP_PORTAL") == "old"
    age_the_journal(enrolled, 86_500)
    done = enrolled.certhooks("reconcile")
    assert done.code == 0, done
    assert "it was not looked at for a day" in done.out
    assert fw.profile_certificate("GP_PORTAL") == NAME


def test_a_one_off_push_is_repeated_too(enrolled: EnrolledSite) -> None:
    """What was pushed from files in a relative folder is watched, and repeated from anywhere until it is forgotten."""
    fw = enrolled.firewall()
    portal = fw.add_portal("GP_PORTAL")
    new = enrolled.certificate()
    fw.listener.stop()
    words = ["-b", "-k", str(enrolled.panrc), "-c", NAME, "-C", ".", "-K", ".", "-p", "GP_PORTAL"]
    words += ["--cafile", str(enrolled.trusted), "--state-dir", str(enrolled.state), "--log-file", str(enrolled.log)]
    push = enrolled.process("pan_instcert", *words, f"localhost:{fw.port}", env=enrolled.env(), cwd=enrolled.folder)
    assert push.code == 4, push
    assert enrolled.placement()["level"] == "critical"
    fw.listener.start()
    done = enrolled.certhooks("reconcile")
    assert done.code == 0, done
    assert served(portal) == new.sha256
    assert enrolled.status()["watched"][0]["source"] == str(enrolled.folder / f"{NAME}.crt")
    newer = enrolled.certificate()
    assert kinds(enrolled.placement()) == {"behind"}, "renewed by an ACME client whose hook was lost"
    assert enrolled.certhooks("reconcile").code == 0
    assert served(portal) == newer.sha256
    assert enrolled.certhooks("forget", f"localhost:{fw.port}").code == 0
    assert enrolled.status()["watched"] == []


def test_what_was_put_in_its_place_by_hand_is_not_undone(enrolled: EnrolledSite) -> None:
    """A second one-off push into the same profile makes the first one history: it is neither looked at nor repaired."""
    fw = enrolled.firewall()
    portal = fw.add_portal("GP_PORTAL")
    for name in (NAME, "other.example.test"):
        enrolled.certificate(name)
        push = enrolled.process("pan_instcert", *enrolled.argv("-c", name, "-p", "GP_PORTAL", fw), env=enrolled.env())
        assert push.code == 0, push
    new = served(portal)
    age_the_journal(enrolled, 86_500)
    done = enrolled.certhooks("reconcile")
    assert [line for line in done.out.splitlines() if "looked at" not in line] == [], done
    assert served(portal) == new
    assert [one["name"] for one in enrolled.status()["watched"]] == ["other.example.test"]
    assert len(enrolled.certhooks("forget", f"localhost:{fw.port}").out.splitlines()) == 2
    assert enrolled.status()["watched"] == []


def test_a_command_that_hangs_ends_and_the_others_go_on(enrolled: EnrolledSite) -> None:
    """A device that takes the connection and says nothing costs its own deadline; the others are repaired meanwhile."""
    fw, portal = installed(enrolled)
    fw.add_profile("GP_PORTAL", certificate="old")
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        hung = f"localhost:{deaf.getsockname()[1]}"
        words = enrolled.argv("-c", "other.example.test", "-p", "GP_PORTAL", "--timeout", "2", hung)
        enrolled.certificate("other.example.test")
        assert enrolled.process("pan_instcert", *words, env=enrolled.env()).code in {4, 16}
        began = time.monotonic()
        done = enrolled.certhooks("reconcile")
        assert time.monotonic() - began < 20
    assert done.code in {4, 16}, done
    assert served(portal) == sha256(enrolled.issued())
    assert hung in done.err


def test_a_command_that_does_not_heed_its_own_deadline_is_ended(enrolled: EnrolledSite) -> None:
    """A hook that hangs where no deadline is looked at is asked to end after the time that it may take, and told of."""
    _fw, portal = installed(enrolled)
    hangs = enrolled.folder / "pan_instcert"
    hangs.write_text("#!/bin/sh\nexec sleep 600\n")
    hangs.chmod(0o700)
    stored = (enrolled.request().post_save or "").replace(script("pan_instcert"), str(hangs))
    enrolled.lab.getcert("start-tracking", "-i", enrolled.request().nickname, "-C", "/bin/true")
    enrolled.resubmit()
    enrolled.lab.getcert("start-tracking", "-i", enrolled.request().nickname, "-C", stored)
    done = enrolled.certhooks("reconcile", "--timeout", "2")
    assert done.code == 1, done
    assert "it did not end in time and was stopped" in done.err
    placement = enrolled.placement()
    assert "it did not end in time" in placement["failure"]
    assert placement["next_try"]
    assert served(portal) != sha256(enrolled.issued())


def test_a_hook_that_hangs_under_certmonger_holds_nobody_up_for_long(enrolled: EnrolledSite) -> None:
    """Certmonger saves one at a time: the other renewal comes when the hanging one's own deadline is over."""
    fw, portal = installed(enrolled)
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        hung = f"localhost:{deaf.getsockname()[1]}"
        words = ["-k", str(enrolled.panrc), "-c", "other.example.com", "-C", str(enrolled.lab.folder)]
        words += ["-K", str(enrolled.lab.folder), "-p", "GP_PORTAL", "--timeout", "3", *enrolled.argv()[-6:], hung]
        stored = enrolled.lab.hook_command([script("pan_instcert"), *words])
        enrolled.lab.getcert(*enrolled.lab.request_args("other.example.com", post_save=stored))
        enrolled.lab.getcert("resubmit", "-i", enrolled.request().nickname, "-w", "--wait-timeout", "40")
        enrolled.settled()
        assert served(portal) == sha256(enrolled.issued())
        assert fw.profile_certificate("GP_PORTAL") == NAME
        enrolled.settled("other.example.com")  # whichever of the two was saved first
        [status] = [one for one in enrolled.status()["watched"] if one["name"] == "other.example.com"]
        assert status["level"] == "critical"


def test_a_hook_that_resubmits_its_own_request_is_stopped(enrolled: EnrolledSite) -> None:
    """After a few rounds the command is taken out of the request, and it says so: log, journal and status."""
    fw, _portal = installed(enrolled)
    request = enrolled.request()
    circle = enrolled.folder / "circle"
    circle.write_text(f"#!/bin/sh\n{request.post_save}\n/usr/bin/getcert resubmit -i {request.nickname}\n")
    circle.chmod(0o700)
    stored = enrolled.lab.hook_command(["/bin/sh", str(circle)])
    enrolled.lab.getcert("start-tracking", "-i", request.nickname, "-C", stored)
    enrolled.lab.getcert("resubmit", "-i", request.nickname)
    enrolled.lab.wait_for(lambda: "goes round in a circle" in enrolled.log.read_text(), 60)
    enrolled.lab.wait_for(lambda: enrolled.request().monitoring and not enrolled.request().post_save)
    issued = len(enrolled.lab.ca.calls())
    assert issued <= 9
    assert len({attempt.fingerprint for attempt in enrolled.attempts()}) >= 5, "a few rounds are nothing to stop"
    placement = enrolled.placement()
    assert "goes round in a circle" in placement["failure"]
    assert kinds(placement) == {"unhooked", "behind"}
    done = enrolled.certhooks("reconcile")
    assert done.code == 0, done
    assert fw.certificate(NAME, running=True) == enrolled.issued()
    assert kinds(enrolled.placement()) == {"unhooked"}, "that certmonger has no command any more is still told"
    assert len(enrolled.lab.ca.calls()) <= issued + 1, "the resubmit of the last round"


def test_pan_getcert_as_a_post_save_command_refuses(enrolled: EnrolledSite) -> None:
    """It would have its own request issued again, and wait for itself: one error with the command to store instead."""
    fw, _portal = installed(enrolled)
    nickname = enrolled.request().nickname
    words = enrolled.getcert_argv("-c", NAME, "-p", "GP_PORTAL", fw)
    wrong = enrolled.lab.hook_command([script("pan_getcert"), *words])
    enrolled.lab.getcert("start-tracking", "-i", nickname, "-C", wrong)
    issued = len(enrolled.lab.ca.calls())
    enrolled.resubmit()
    assert len(enrolled.lab.ca.calls()) == issued + 1
    assert "pan_getcert is the post-save command of a request" in enrolled.log.read_text()


def test_a_refused_login_is_offered_to_no_other_device_of_the_run(enrolled: EnrolledSite) -> None:
    """Many devices may share one directory, which locks accounts: after one refusal the others wait."""
    fws = [enrolled.firewall() for _ in range(3)]
    enrolled.certificate()
    good = enrolled.panrc.read_text()
    enrolled.panrc.write_text("api_key=WRONG-KEY-OF-NOBODY\n")
    for fw in fws:
        assert enrolled.process("pan_instcert", *enrolled.argv("-c", NAME, "-p", "GP_PORTAL", fw)).code == 5
    asked = [fw.count() for fw in fws]
    done = enrolled.certhooks("reconcile", "--jobs", "1")
    assert done.code == 5, done
    assert [fw.count() > before for fw, before in zip(fws, asked)].count(True) == 1
    assert done.err.count("it was not run: ") == 2
    enrolled.panrc.write_text(good)
    assert enrolled.certhooks("reconcile", "--now").code == 0
    assert all(fw.certificate(NAME, running=True) for fw in fws)


def test_two_requests_with_one_file_are_both_installed(enrolled: EnrolledSite) -> None:
    """Certmonger runs both post-save commands when either is saved, if they share a file: nothing is done twice."""
    fws = [enrolled.firewall(), enrolled.firewall()]
    names = ("one.example.test", "two.example.test")
    roots = str(enrolled.folder / "roots.pem")
    for name, fw in zip(names, fws):
        assert enrolled.getcert("-c", name, "-p", "GP_PORTAL", fw).code == 0
        enrolled.lab.getcert("start-tracking", "-i", enrolled.request(name).nickname, "-F", roots)
    before = [fw.count("commit") for fw in fws]
    enrolled.resubmit(names[0])
    assert [fw.count("commit") - count for fw, count in zip(fws, before)] == [1, 0]
    assert enrolled.status()["level"] == "ok"
    assert (enrolled.certhooks("reconcile").out, enrolled.certhooks("reconcile").code) == ("", 0)


def test_two_certificates_for_one_place_are_told_and_left_alone(enrolled: EnrolledSite) -> None:
    """Each would undo the other for ever: a conflict is critical, names both, and runs nothing."""
    fw = enrolled.firewall()
    for name in ("one.example.test", "two.example.test"):
        assert enrolled.getcert("-c", name, "-n", "same", "-p", "GP_PORTAL", fw).code == 0
    status = enrolled.status()
    assert [kinds(place) >= {"conflict"} for one in status["watched"] for place in one["placements"]] == [True, True]
    asked = fw.count()
    assert enrolled.certhooks("reconcile", "--now").out == ""
    assert fw.count() == asked


def test_a_command_that_cannot_start_is_told_too(enrolled: EnrolledSite) -> None:
    """A hook that was uninstalled leaves no journal: what was tried is remembered all the same, with its pause."""
    _fw, _portal = installed(enrolled)
    nickname = enrolled.request().nickname
    gone = (enrolled.request().post_save or "").replace(script("pan_instcert"), "/nonexistent/pan_instcert")
    enrolled.lab.getcert("start-tracking", "-i", nickname, "-C", gone)
    enrolled.resubmit()
    done = enrolled.certhooks("reconcile")
    assert done.code == 127, done
    placement = enrolled.placement()
    assert "'/nonexistent/pan_instcert': No such file" in placement["failure"]
    assert enrolled.certhooks("reconcile").out == ""


def test_a_dry_run_tells_and_runs_nothing(enrolled: EnrolledSite) -> None:
    """What would be run, why, and what waits for its pause to end."""
    fw, portal = installed(enrolled)
    fw.add_profile("GP_PORTAL", certificate="old")
    old = served(portal)
    done = enrolled.certhooks("reconcile", "--dry-run")
    assert done.code == 0, done
    assert f"localhost:{fw.port}: would run, now: {enrolled.request().post_save}" in done.out
    assert served(portal) == old


def test_only_one_reconcile_at_a_time(enrolled: EnrolledSite) -> None:
    """A second one, from cron, leaves the first alone and says nothing."""
    _fw, _portal = installed(enrolled)
    with Journal(enrolled.state).lock("certhooks reconcile", Deadline(1)):
        assert enrolled.certhooks("reconcile") == Done(0, "", "")


def test_certmonger_that_does_not_answer_is_critical(enrolled: EnrolledSite) -> None:
    """Nothing can be said of what it tracks: critical, with how to start it; what was pushed is still looked at."""
    fw, _portal = installed(enrolled)
    enrolled.lab.stop_daemon()
    status = enrolled.status()
    assert status["level"] == "critical"
    assert [(each["kind"], each["hint"]) for each in status["findings"]] == [
        ("certmonger", "start it with: systemctl start certmonger")
    ]
    assert status["watched"][0]["placements"][0]["label"] == f"localhost:{fw.port}"


def text_of(envelope: Envelope) -> str:
    """Return subject and text of a mail."""
    message = email.message_from_bytes(bytes(envelope.original_content or b""), policy=email.policy.default)
    body = message.get_body()
    assert body
    return f"{message['Subject']}\n{body.get_content()}"


@contextmanager
def started(enrolled: EnrolledSite) -> Iterator[subprocess.Popen[bytes]]:
    """Start a reconcile and wait for its end; should the test fail, it is killed."""
    words = [script("certhooks"), "reconcile", "--state-dir", str(enrolled.state), "--log-file", str(enrolled.log)]
    with subprocess.Popen(words, env=enrolled.env(), stderr=subprocess.DEVNULL) as process:
        try:
            yield process
        finally:
            process.kill()


def kill_hook(enrolled: EnrolledSite) -> None:
    """Kill the install command that runs for this site."""
    for status in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            line = status.read_bytes().decode(errors="replace")
            if "pan_instcert" in line and str(enrolled.state) in line:
                os.kill(int(status.parent.name), signal.SIGKILL)


def age_the_journal(enrolled: EnrolledSite, seconds: float) -> None:
    """Let every attempt have been made that much earlier."""
    for path in enrolled.state.glob("pan*.json"):
        document = json.loads(path.read_text())
        for attempt in document["attempts"]:
            attempt["started"] -= seconds
            attempt["ended"] -= seconds
        path.write_text(json.dumps(document))
