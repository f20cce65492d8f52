"""certbot's plugin: one call for all challenges, and a failure that certbot takes for one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from tests.lab.dns01 import FOREIGN, NAME, OTHER, VALUE, Scene
from tests.lab.dns_fixtures import needs_bind

pytest.importorskip("certbot")
from certbot import errors

from certhooks_freeipa_dns.certbot_plugin import Authenticator

if TYPE_CHECKING:
    from collections.abc import Sequence

pytestmark = needs_bind


class Challenge:
    """What certbot passes for one challenge, as far as a DNS plugin looks at it."""

    account_key = None

    def __init__(self, domain: str, value: str) -> None:
        self.domain = domain
        self._value = value

    def validation(self, _key: object) -> str:
        return self._value

    def response(self, _key: object) -> str:
        return f"response to {self._value}"


def authenticator(scene: Scene, **settings: Any) -> Authenticator:
    """Make the plugin as certbot does."""
    options = {"config": str(scene.config), "state_dir": str(scene.folder / "state"), "wait": None, **settings}
    named = {f"dns_freeipa_{key}": value for key, value in options.items()}
    return Authenticator(SimpleNamespace(**named), "dns-freeipa")


def both() -> Sequence[Challenge]:
    """Return the challenges of a name and its wildcard."""
    return [Challenge("www.example.test", VALUE), Challenge("www.example.test", OTHER)]


def test_certbot_finds_the_plugin(tmp_path: Path) -> None:
    """The entry point is there, and its options are shown."""
    certbot = str(Path(sys.executable).with_name("certbot"))
    folders = [f"--{name}-dir={tmp_path / name}" for name in ("config", "work", "logs")]
    env = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path)}
    done = subprocess.run(
        [certbot, *folders, "--help", "dns-freeipa"], env=env, capture_output=True, text=True, check=False
    )
    assert "--dns-freeipa-config" in done.stdout, done


def test_all_are_added_in_one_call(scene: Scene) -> None:
    """One login for all, and one wait; cleanup removes them alone."""
    plugin = authenticator(scene)
    assert plugin.perform(both()) == [f"response to {VALUE}", f"response to {OTHER}"]
    assert scene.ipa.requests.count("/ipa/session/login_password") == 1
    assert scene.dns.values(NAME) == {FOREIGN, VALUE, OTHER}
    plugin.cleanup(both())
    assert scene.dns.values(NAME) == {FOREIGN}


def test_a_failure_stops_certbot(scene: Scene) -> None:
    """It is a PluginError with reason and hint; nothing is left, and the cleanup that certbot calls then is silent."""
    scene.ipa.faults.codes["dnsrecord_add"] = (2100, "Insufficient access: no")
    plugin = authenticator(scene)
    with pytest.raises(errors.PluginError, match=r"Insufficient access: no .*hint: ") as failed:
        plugin.perform(both())
    assert os.linesep not in str(failed.value)
    asked = len(scene.ipa.requests)
    plugin.cleanup(both())
    assert len(scene.ipa.requests) == asked
    assert scene.dns.values(NAME) == {FOREIGN}
    assert not scene.ours()
