"""From ``pan_getcert`` to a certificate that a firewall serves and its renewals, under the real certmonger."""

from __future__ import annotations

import json
import os
import re
import shlex
import sys
from typing import TYPE_CHECKING

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from certhooks import probe
from certhooks.address import Address
from certhooks.postsave import split
from tests.lab.enrolled import NAME, sha256
from tests.lab.panos import Outcome
from tests.lab.site import script

if TYPE_CHECKING:
    from pathlib import Path

    from tests.lab.enrolled import EnrolledSite
    from tests.lab.panos import Firewall, Portal

CHANGES = ("config set", "config delete", "import", "commit")


def served_by(portal: Portal) -> str:
    """Return the fingerprint that a client of the portal sees."""
    return probe.first(Address("localhost", portal.port)).fingerprint


def changes_sent_to(fw: Firewall) -> dict[str, int]:
    """Return how many requests that change something have reached the firewall, by kind."""
    return {kind: fw.count(kind) for kind in CHANGES}


def test_one_command_requests_installs_and_serves(enrolled: EnrolledSite) -> None:
    """pan_getcert: issued, installed by the command that certmonger starts, bound twice, served; it says how long."""
    fw = enrolled.firewall()
    portal, gateway = fw.add_portal("GP_PORTAL"), fw.add_portal("GP_GATEWAY", gateway=True)
    probes = [word for each in (portal, gateway) for word in ("--probe", f"localhost:{each.port}")]
    done = enrolled.getcert("-c", NAME, "-Y", "-p", "GP_PORTAL", "-s", "GP_GATEWAY", *probes, fw)
    assert done.code == 0, done
    new = enrolled.issued()
    assert served_by(portal) == served_by(gateway) == sha256(new)
    assert fw.profile_certificate("GP_PORTAL") == f"{NAME}_{new.not_valid_before_utc:%Y}"
    assert re.fullmatch(
        rf"{re.escape(NAME)}: issued by IPA in \d+\.\d s, valid until {new.not_valid_after_utc:%Y-%m-%d}\n"
        rf"localhost:{fw.port}: installed in \d+\.\d s\n",
        done.out,
    ), done.out
    assert done.err == ""
    [asked] = enrolled.lab.ca.calls()
    assert asked["CERTMONGER_REQ_PRINCIPAL"] == f"HTTP/{NAME}@EXAMPLE.TEST"


@pytest.mark.parametrize(
    ("words", "kind"),
    [((), "rsa 2048"), (("-G", "EC"), "secp256r1"), (("-G", "ecdsa", "-b", "512"), "secp521r1")],
)
def test_the_key_is_of_the_kind_that_was_asked_for(enrolled: EnrolledSite, words: tuple[str, ...], kind: str) -> None:
    """RSA by default, EC on P-256 by default (certmonger's own is P-521, which browsers refuse), as on the device."""
    fw = enrolled.firewall()
    argv = [word for word in enrolled.getcert_argv("-c", NAME, "-p", "GP_PORTAL", fw) if word not in {"-G", "EC"}]
    done = enrolled.process("pan_getcert", *words, *argv, env=enrolled.env())
    assert done.code == 0, done
    held = fw.certificate(NAME, running=True)
    assert held is not None
    key = held.public_key()
    assert (key.curve.name if isinstance(key, ec.EllipticCurvePublicKey) else f"rsa {key.key_size}") == kind  # type: ignore[union-attr]


def test_the_log_tells_the_whole_journey(enrolled: EnrolledSite) -> None:
    """What the hook did where nobody looks stands in the log, with time, command, process and level in each line."""
    fw = enrolled.firewall()
    done = enrolled.getcert("-c", NAME, "-p", "GP_PORTAL", fw)
    assert done.code == 0, done
    line = re.compile(r"20\d\d-\d\d-\d\d \d\d:\d\d:\d\d (pan_getcert|pan_instcert)\[(\d+)\] (info|warning): (.+)")
    found = [line.fullmatch(text) for text in enrolled.log_lines()]
    assert all(found), enrolled.log_lines()
    told = {who: [m[4] for m in found if m and m[1] == who] for who in ("pan_getcert", "pan_instcert")}
    where = f"localhost:{fw.port}"
    assert f"{where}: importing {NAME}" in told["pan_instcert"]
    assert f"{where}: binding profile GP_PORTAL to {NAME}" in told["pan_instcert"]
    assert re.fullmatch(rf"{where}: installed(, .*)? \(\d+\.\d s\)", told["pan_instcert"][-1])
    assert len({m[2] for m in found if m}) == 2
    assert any("ready for the certificate" in text for text in told["pan_getcert"])
    assert enrolled.log.stat().st_mode & 0o077 == 0


def test_the_stored_command_runs_from_anywhere(enrolled: EnrolledSite, monkeypatch: pytest.MonkeyPatch) -> None:
    """The stored command is absolute and quoted as certmonger reads it: blanks and dots in paths and profiles hold.

    The key file was given by a relative path with a blank and a quote in it.
    """
    fw = enrolled.firewall()
    fw.add_profile("GP Portal v2.1", certificate="old")
    folder = enrolled.folder / "api key's"
    folder.mkdir()
    enrolled.panrc.rename(folder / "pan rc")
    monkeypatch.chdir(enrolled.folder)
    done = enrolled.getcert("-c", NAME, "-n", "gp-v2.1", "-k", "api key's/pan rc", "-p", "GP Portal v2.1", fw)
    assert done.code == 0, done
    assert fw.profile_certificate("GP Portal v2.1") == "gp-v2.1"
    listed = re.search(r"^\tpost-save command: (.+)$", enrolled.lab.getcert("list").stdout, re.MULTILINE)
    assert listed is not None
    words = split(listed[1])
    assert words[:3] == ["/usr/bin/env", f"DBUS_SYSTEM_BUS_ADDRESS={enrolled.lab.address}", script("pan_instcert")]
    assert words[words.index("-k") + 1] == str(folder / "pan rc")
    assert shlex.split(listed[1]) == words, "a shell, into which people paste it, reads the same"
    monkeypatch.chdir("/")
    again = enrolled.process(words[0], *words[1:], env={})
    assert again.code == 0, again
    assert "nothing to do" in again.out


def test_run_again_it_resubmits_and_changes(enrolled: EnrolledSite) -> None:
    """A second run for the same name is no error: a new certificate, and the new profile in the stored command."""
    fw = enrolled.firewall()
    assert enrolled.getcert("-c", NAME, "-p", "GP_PORTAL", fw).code == 0
    first = enrolled.request()
    fw.commit_seconds = 0.5
    again = enrolled.getcert("-v", "-c", NAME, "-p", "GP_GATEWAY", "-T", "gpProfile", fw)
    assert again.code == 0, again
    assert fw.profile_certificate("GP_GATEWAY") == NAME, "it has waited for this install, not for the first one"
    assert f"is tracked already (request {first.nickname}): resubmitting it" in again.err
    assert f"warning: this replaces the post-save command that was stored: {first.post_save}\n" in again.err
    second = enrolled.settled()
    assert (second.nickname, second.profile) == (first.nickname, "gpProfile")
    assert second.serial != first.serial
    assert "GP_GATEWAY" in split(second.post_save or "")
    assert "GP_PORTAL" not in split(second.post_save or "")
    assert len(enrolled.lab.ca.calls()) == 2
    third = enrolled.resubmit()
    held = fw.certificate(NAME, running=True)
    assert held is not None
    assert third.serial not in (first.serial, second.serial)
    assert sha256(held) == sha256(enrolled.issued())


def test_a_renewal_installs_itself(enrolled: EnrolledSite) -> None:
    """``getcert resubmit`` and nothing else: the new certificate is served; the hook has asked certmonger itself."""
    fw = enrolled.firewall()
    portal = fw.add_portal("GP_PORTAL")
    done = enrolled.getcert("-c", NAME, "-p", "GP_PORTAL", "--probe", f"localhost:{portal.port}", fw)
    assert done.code == 0, done
    before = served_by(portal)
    enrolled.resubmit()
    assert served_by(portal) == sha256(enrolled.issued()) != before
    assert [attempt.outcome for attempt in enrolled.attempts()] == ["done", "done"]


def test_a_renewal_that_nobody_started(enrolled: EnrolledSite) -> None:
    """A certificate near its end is renewed by certmonger and arrives on the firewall; nobody calls anything."""
    fw = enrolled.firewall()
    portal = fw.add_portal("GP_PORTAL")
    enrolled.lab.ca.answer_next("issue", days=5, not_before_hours=2)
    done = enrolled.getcert("-c", NAME, "-p", "GP_PORTAL", fw)
    assert done.code == 0, done
    first = enrolled.issued()
    enrolled.lab.wait_for(lambda: len(enrolled.lab.ca.calls()) == 2)
    enrolled.lab.wait_for(lambda: served_by(portal) != sha256(first))
    assert served_by(portal) == sha256(enrolled.issued())
    enrolled.settled()
    assert [(a.outcome, a.fingerprint) for a in enrolled.attempts()] == [
        ("done", sha256(first)),
        ("done", sha256(enrolled.issued())),
    ]


def test_the_same_certificate_twice_sends_nothing(enrolled: EnrolledSite) -> None:
    """The stored command run again reads, finds nothing to do, says so, and sends no change of any kind."""
    fw = enrolled.firewall()
    portal = fw.add_portal("GP_PORTAL")
    probed = f"localhost:{portal.port}"
    assert enrolled.getcert("-c", NAME, "-p", "GP_PORTAL", "--probe", probed, fw).code == 0
    words = split(enrolled.settled().post_save or "")
    sent, seen, device = changes_sent_to(fw), fw.count(), fw.snapshot()
    assert sent["import"] >= 1
    assert sent["commit"] == 1
    again = enrolled.process(words[0], *words[1:], env={})
    assert again.code == 0, again
    assert again.out == f"localhost:{fw.port}: nothing to do, it is installed and served by {probed}\n"
    assert (changes_sent_to(fw), fw.snapshot()) == (sent, device)
    assert fw.count() > seen, "it has looked"
    assert enrolled.attempts()[-1].outcome == "unchanged"


def test_without_its_script_the_hook_is_started_as_a_module(enrolled: EnrolledSite) -> None:
    """Where no pan_instcert lies beside pan_getcert, certmonger gets this Python and the module, and it works."""
    fw = enrolled.firewall()
    module = ["-I", "-m", "certhooks_pan.getcert", *enrolled.getcert_argv("-c", NAME, "-p", "GP_PORTAL", fw)]
    done = enrolled.process(sys.executable, *module, env=enrolled.env())
    assert done.code == 0, done
    assert split(enrolled.request().post_save or "")[2:6] == [sys.executable, "-I", "-m", "certhooks_pan.instcert"]
    assert fw.profile_certificate("GP_PORTAL") == NAME


def test_json_tells_the_same_to_programs(enrolled: EnrolledSite) -> None:
    """--json prints one object and nothing else: how request and install ended, also when the install fails."""
    fw = enrolled.firewall()
    done = enrolled.getcert("--json", "-c", NAME, "-p", "GP_PORTAL", fw)
    told = json.loads(done.out)
    assert (done.code, told["exit_code"], told["outcome"]) == (0, 0, "done")
    assert told["device"] == f"localhost:{fw.port}"
    assert told["request"] == enrolled.request().nickname
    assert 0 < told["issued_seconds"] < 60 > told["seconds"] > 0
    fw.commit_outcome = Outcome(fail=("made-up refusal",))
    failed = enrolled.getcert("--json", "-c", NAME, "-p", "GP_PORTAL", fw)
    told = json.loads(failed.out)
    assert (failed.code, told["exit_code"], told["outcome"]) == (13, 13, "undone")
    assert "made-up refusal" in told["message"]


def test_a_dry_run_asks_and_changes_nothing(enrolled: EnrolledSite) -> None:
    """--dry-run shows the request and the command that would be stored; neither certmonger nor firewall changes."""
    fw = enrolled.firewall()
    before = fw.snapshot()
    done = enrolled.getcert("--dry-run", "-c", NAME, "-p", "GP_PORTAL", fw)
    assert done.code == 0, done
    assert f"as HTTP/{NAME} from IPA" in done.out
    assert f"{script('pan_instcert')} -c {NAME}" in done.out
    assert not enrolled.lab.ca.calls()
    assert "Number of certificates and requests being tracked: 0" in enrolled.lab.getcert("list").stdout
    assert not enrolled.certs.exists()
    assert not enrolled.keys.exists()
    assert (fw.snapshot(), changes_sent_to(fw)) == (before, dict.fromkeys(CHANGES, 0))


def test_files_and_folders_are_made_private(enrolled: EnrolledSite) -> None:
    """The key, its folder, the journal and the log can be read by their owner alone."""
    fw = enrolled.firewall()
    assert enrolled.getcert("-c", NAME, "-p", "GP_PORTAL", fw).code == 0
    private: list[Path] = [enrolled.keys / f"{NAME}.key", enrolled.keys, enrolled.state, *enrolled.state.iterdir()]
    assert len(private) >= 5
    assert {path.name: oct(path.stat().st_mode & 0o077) for path in private} == {path.name: "0o0" for path in private}
    assert {path.stat().st_uid for path in private} == {os.getuid()}
