"""What certmonger loses is seen by status and repaired by reconcile, under the real certmonger."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING, Any

from certhooks import probe
from certhooks.address import Address
from tests.lab.enrolled import NAME, sha256

if TYPE_CHECKING:
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


def test_a_hook_that_was_killed_with_certmonger_is_made_up_for(enrolled: EnrolledSite) -> None:
    """SIGKILL to certmonger and its hook in mid-push: certmonger forgets the command, reconcile does not."""
    fw, portal = installed(enrolled)
    fw.commit_seconds = 30
    enrolled.lab.getcert("resubmit", "-i", enrolled.request().nickname)
    enrolled.lab.wait_for(lambda: [job for job in fw.jobs.values() if not job.ended])
    enrolled.lab.stop_daemon(signal.SIGKILL)
