"""pan-os-python, another client that nobody here wrote, works against the emulator.

It pins an old pan-python and so lives in an environment of its own, found through ``CERTHOOKS_FOREIGN_PYTHON`` or at
``.venv-foreign``. It does not verify TLS by itself: on loopback, against our own emulator, that does not matter.
One process does the whole story, because importing it takes long; it prints what it saw as JSON.
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.lab.panos import DeviceResult, Firewall, Outcome, Panorama, custom_role

_REPOSITORY = Path(__file__).parents[2]
_PYTHON = Path(os.environ.get("CERTHOOKS_FOREIGN_PYTHON", _REPOSITORY / ".venv-foreign" / "bin" / "python"))

STORY = r"""
import json, sys
from panos import errors
from panos.firewall import Firewall, FirewallCommit
from panos.panorama import Panorama, PanoramaCommit, PanoramaCommitAll

given = json.loads(sys.stdin.read())
seen = {}

def failing(what, call):
    try:
        call()
    except Exception as error:
        seen[what] = [type(error).__name__, str(error)]
    else:
        seen[what] = None

fw = Firewall("localhost", api_username="certhooks", api_password="s3cret", port=given["fw"], interval=0.02, timeout=20)
seen["system"] = list(fw.refresh_system_info())
seen["pending before"] = fw.pending_changes()
certificate = "/config/shared/ssl-tls-service-profile/entry[@name='GP_PORTAL']"
fw.xapi.set(certificate, "<certificate>new</certificate>")
seen["pending after"] = fw.pending_changes()
fw.add_commit_lock("busy here")
seen["locks"] = [e.get("name") for e in fw.op("show commit-locks").iter("entry")]
fw.remove_commit_lock()
failing("missing", lambda: fw.xapi.show("/config/shared/nothing"))
seen["commit"] = fw.commit(sync=True, exception=True, cmd=FirewallCommit("hello", admins=["certhooks"]))
mine = FirewallCommit("hello", admins=["certhooks"])
failing("commit not needed", lambda: fw.commit(sync=True, exception=True, cmd=mine))
fw.xapi.set("/config/shared/ssl-tls-service-profile/entry[@name='typo']", "<certificate>old</certificate>")
failing("commit fails", lambda: fw.commit(sync=True, exception=True, cmd=mine))
seen["job"] = fw.syncjob("2")["success"]
seen["failed job"] = fw.syncjob("3")
fw.commit(cmd="<commit><force/></commit>")
failing("busy", lambda: fw.commit(sync=True))
failing("bad password", lambda: Firewall("localhost", "certhooks", "wrong", port=given["fw"]).refresh_system_info())
seen["ha"] = fw.op("show high-availability state").findtext("result/enabled")

pano = Panorama("localhost", api_key=given["key"], port=given["pano"], interval=0.02, timeout=20)
pano.refresh_system_info()
pano.xapi.set("/config/panorama/ssl-tls-service-profile/entry[@name='OWN']", "<certificate>own2</certificate>")
seen["pano commit"] = pano.commit(sync=True, exception=True, cmd=PanoramaCommit("hello", admins=["certhooks"]))
push = PanoramaCommitAll(style=PanoramaCommitAll.STYLE_TEMPLATE_STACK, name="S", description="push")
seen["push"] = pano.commit(cmd=push, sync=True, sync_all=True)
json.dump(seen, sys.stdout, default=str)
"""


@pytest.fixture(scope="module")
def seen() -> dict[str, Any]:
    """Run the story once and return what the client saw, and what the devices hold afterwards."""
    if not _PYTHON.exists():
        message = f"no environment with pan-os-python at {_PYTHON} (CERTHOOKS_FOREIGN_PYTHON)"
        if os.environ.get("CI") == "true":
            pytest.fail(message)
        pytest.skip(message)
    with Firewall(commit_seconds=0.03) as fw, Panorama(commit_seconds=0.03) as pano:
        fw.add_admin("certhooks", password="s3cret", role=custom_role())
        fw.add_profile("GP_PORTAL", certificate="old")
        fw.add_certificate("new")
        fw.edit_as("bob", "/config/shared/tag", "<entry name='half-done'/>")
        admin = pano.add_admin("certhooks")
        pano.add_profile("OWN", certificate="own1")
        pano.add_certificate("own2")
        pano.add_template("T")
        pano.add_certificate("pushed", below=pano.template_path("T"))
        pano.add_stack("S", templates=["T"], devices=["111", "222"])
        pano.push_results["222"] = DeviceResult("222", "", ok=False, lines=("Validation Error:", "Commit failed"))
        fw.next_commits += [Outcome(), Outcome(), Outcome(never_ends=True)]
        given = json.dumps({"fw": fw.port, "pano": pano.port, "key": admin.key})
        done = subprocess.run(
            [str(_PYTHON), "-W", "ignore", "-c", STORY],
            input=given, capture_output=True, text=True, timeout=30, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        found: dict[str, Any] = json.loads(done.stdout)
        found["running"] = fw.profile_certificate("GP_PORTAL")
        found["bob"] = fw.pending_of("bob")
        return found


def test_system_info(seen: dict[str, Any]) -> None:
    """Version, model and serial number come out where this client looks for them."""
    assert seen["system"] == ["11.1.4", "PA-VM", "007000000000001"]


def test_pending_changes_and_locks(seen: dict[str, Any]) -> None:
    """Pending changes are seen, a commit lock is taken, listed and given back."""
    assert (seen["pending before"], seen["pending after"]) == (True, True)
    assert seen["locks"] == ["certhooks"]


def test_partial_commit(seen: dict[str, Any]) -> None:
    """A commit by administrator, with a description, ends as this client's success; another's change waits."""
    assert seen["commit"]["success"] is True
    assert seen["commit"]["messages"] == ["Configuration committed successfully"]
    assert seen["running"] == "new"
    assert seen["job"] is True


def test_another_admins_change_was_not_in_the_partial_commit(seen: dict[str, Any]) -> None:
    """The full commits that failed or never ended did not take the other administrator's change either."""
    assert seen["bob"]


def test_exceptions_by_message(seen: dict[str, Any]) -> None:
    """The client tells its exceptions by the text of the message: each text is the right one."""
    assert seen["missing"][0] == "PanNoSuchNode"
    assert seen["commit fails"][0] == "PanCommitFailed"
    assert seen["failed job"]["success"] is False
    assert "protocol-settings" in str(seen["failed job"]["messages"])
    assert seen["busy"][0] == "PanCommitInProgress"
    assert seen["bad password"][0] == "PanURLError"


def test_commit_not_needed(seen: dict[str, Any]) -> None:
    """A partial commit with nothing of one's own to commit is no job, whatever others have pending."""
    assert seen["commit not needed"][0] == "PanCommitNotNeeded"


def test_panorama_commit_and_push(seen: dict[str, Any]) -> None:
    """The Panorama job is OK, one device is, the other is not, and this client sees both."""
    assert seen["pano commit"]["success"] is True
    devices = seen["push"]["devices"]
    assert devices["111"]["success"] is True
    assert devices["222"]["success"] is False
    assert "Commit failed" in str(devices["222"]["messages"])
    assert seen["push"]["success"] is False


def test_ha_state_of_a_single_unit(seen: dict[str, Any]) -> None:
    """A firewall without a peer says that it has none."""
    assert seen["ha"] == "no"
