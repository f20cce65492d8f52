"""``pan_instcert`` with several devices in one call, HA pairs among them; values from templates and roles."""

from __future__ import annotations

import json
import socket
from typing import TYPE_CHECKING

import pytest

from tests.lab.panos import Firewall, custom_role
from tests.lab.pushes import NAME, imports, managed, write

if TYPE_CHECKING:
    from tests.lab.site import Site

pytestmark = pytest.mark.usefixtures("brisk")
PORTAL = ("-c", NAME, "-p", "GP_PORTAL")


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


# -- high availability -----------------------------------------------------------------------------------------------


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
    """With synchronization off the passive unit is a device like any other, only never at the same time."""
    active, passive = pair(site, sync=False)
    active.commit_seconds = passive.commit_seconds = 0.3
    issued = site.certificate()
    done = site.instcert(*PORTAL, passive, active)
    assert done.code == 0, done
    for fw in (active, passive):
        assert fw.certificate(NAME, running=True) == issued.certificate
        assert fw.count("import") == 1
    attempts = [json.loads(path.read_text())["attempts"][-1] for path in site.state.glob("*.json")]
    first, second = sorted(attempts, key=lambda attempt: attempt["started"])
    assert second["started"] >= first["ended"]


def test_one_device_under_two_names_is_done_once(site: Site, fw: Firewall) -> None:
    """Two names of one device go one after the other, and the second finds nothing to do."""
    site.certificate()
    done = site.instcert(*PORTAL, fw, f"127.0.0.1:{fw.port}")
    assert done.code == 0, done
    assert imports(fw) == [("keypair", NAME)]
    assert "nothing to do" in done.out


# -- several devices, values from a template, roles ------------------------------------------------------------------


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
