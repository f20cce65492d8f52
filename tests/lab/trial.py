"""One push to one firewall under observation: what the device was like before, and whether it is whole afterwards.

Beside our own changes there is always a pending edit of another administrator, which nothing may touch.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Optional

from certhooks import deploy, probe
from certhooks.address import Address
from certhooks_pan import jobs

if TYPE_CHECKING:
    import pytest

    from tests.lab.ca import Issued
    from tests.lab.panos import Reply
    from tests.lab.panos.requests import Request
    from tests.lab.site import Done, Site, Word

NAME = "gp.example.test"
WORDS = ("-c", NAME, "-p", "GP_PORTAL", "-s", "GP_GATEWAY")
CHANGES = ("import", "config set", "config delete", "config edit")


def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the product wait for hundredths of a second where it waits for seconds.

    A restart keeps half a minute, which a busy machine may need; where a device is gone for good, set less.
    """
    monkeypatch.setattr(deploy, "_PAUSES", (0.01, 0.02, 0.03))
    monkeypatch.setattr(deploy, "_PAUSES_IN_USE", (0.01, 0.02, 0.03))
    monkeypatch.setattr(jobs, "_FIRST_POLL", 0.01)
    monkeypatch.setattr(jobs, "_RESTART", 30.0)


class Trial:
    """A site with one firewall, one portal, one certificate to bring there.

    Args:
        firewall: settings of the emulator.
        certificate: settings of the certificate.
    """

    def __init__(self, site: Site, *, certificate: Optional[dict[str, Any]] = None, **firewall: Any) -> None:
        self.site = site
        self.fw = site.firewall(**firewall)
        self.fw.commit_seconds = 0.02
        self.admin = self.fw.admins["certhooks"]
        self.portal = self.fw.add_portal("GP_PORTAL")
        self.new: Issued = site.certificate(NAME, **(certificate or {}))
        self.fw.edit_as("alice", "/config/shared/address", '<entry name="a"><fqdn>x.example.test</fqdn></entry>')
        self.carried_out: list[Request] = []
        self._observe()
        self.before = self.fw.snapshot()
        self.served_before = self.served()

    def run(self, *more: Word) -> Done:
        """Run the command on two profiles, with further words."""
        return self.site.instcert(*WORDS, *more, self.fw)

    def served(self) -> str:
        """Return the fingerprint that a client of the portal sees."""
        return probe.first(Address("localhost", self.portal.port)).fingerprint

    def changes(self) -> dict[str, int]:
        """Return how many changes the device has carried out, by kind; a commit counts when it became a job."""
        kinds = [request.kind for request in self.carried_out]
        found = {change: sum(kind.startswith(change) for kind in kinds) for change in CHANGES}
        found["commit"] = len(self.fw.jobs)
        return {change: count for change, count in found.items() if count}

    def attempt(self) -> dict[str, Any]:
        """Return the newest attempt in the journal."""
        [file] = [path for path in self.site.state.glob("*.json") if f"{self.fw.port}_" in path.name]
        last: dict[str, Any] = json.loads(file.read_text())["attempts"][-1]
        return last

    def expect_untouched(self) -> None:
        """Make sure that the device is as it was, pending edits of others included."""
        assert self.fw.snapshot() == self.before
        assert self.served() == self.served_before

    def expect_installed(self) -> None:
        """Make sure that the new certificate is in use and nothing of ours pending, but everything of others."""
        for profile in ("GP_PORTAL", "GP_GATEWAY"):
            assert self.fw.profile_certificate(profile) == NAME
            assert self.fw.profile_certificate(profile, running=False) == NAME
        assert self.fw.certificate(NAME, running=True) == self.new.certificate
        assert self.served() == self.new.sha256
        assert self.fw.pending_of("certhooks") == []
        assert self.fw.pending_of("alice")
        assert not self.fw.config.find_running("/config/shared/address")

    def expect_failure(self, done: Done, code: int, *words: str, hint: bool = True) -> None:
        """Make sure that it ended with this code and one line that has these words, with a hint, and no traceback."""
        assert done.code == code, done
        lines = done.err.splitlines()
        errors = [line for line in lines if line.startswith("pan_instcert: error: ")]
        assert len(errors) == 1, done
        assert all(
            line.startswith(("pan_instcert: error: ", "pan_instcert: hint: ", "pan_instcert: warning: "))
            for line in lines
        )
        for word in words:
            assert word in errors[0], done
        assert not hint or any(line.startswith("pan_instcert: hint: ") for line in lines), done
        assert "Traceback" not in done.err
        assert done.err.replace("\n", "").isprintable()

    def expect_success_now(self, *more: Word) -> None:
        """Make sure that the same command succeeds, now that nothing is in the way."""
        done = self.run(*more)
        assert done.code == 0, done
        self.expect_installed()

    def _observe(self) -> None:
        """Keep what the device carries out, which is less than what reaches it where a fault comes before."""
        answer = self.fw.answer

        def observed(request: Request) -> Reply:
            reply = answer(request)
            self.carried_out.append(request)
            return reply

        self.fw.answer = observed  # type: ignore[method-assign]
