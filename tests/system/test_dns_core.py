"""Values come into FreeIPA's zones, onto the name servers, and away again; what others have is never touched."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from tests.lab.acme.bind import free_port, name_server
from tests.lab.dns01 import FOREIGN, NAME, OTHER, VALUE, Scene, killed
from tests.lab.dns_fixtures import needs_bind

if TYPE_CHECKING:
    from pathlib import Path

    from tests.lab.dns_fixtures import Run

pytestmark = needs_bind


def untouched(scene: Scene, name: str = NAME) -> bool:
    """Tell whether only somebody else's value is left, in FreeIPA, in DNS and in our list."""
    return scene.ipa.txt(name) == scene.dns.values(name) == {FOREIGN} and not scene.ours()


def test_a_value_comes_and_goes_alone(scene: Scene, run: Run) -> None:
    """Add returns when it is served beside what was there; del removes it and nothing else; both may be repeated."""
    for _ in range(2):
        done = run("add", "www.example.test", VALUE)
        assert (done.code, done.err) == (0, ""), done
        assert scene.dns.values(NAME) == {FOREIGN, VALUE}
    assert [entry.value for entry in scene.ours()] == [VALUE]
    for _ in range(2):
        assert run("del", "www.example.test", VALUE).code == 0
        assert untouched(scene)


def test_two_values_stand_side_by_side(scene: Scene, run: Run) -> None:
    """Apex and wildcard share a name: one call adds both, one leaves without the other. One begins with a hyphen."""
    assert run("add", "www.example.test", VALUE, "*.WWW.Example.Test.", OTHER).code == 0
    assert scene.dns.values(NAME) == {FOREIGN, VALUE, OTHER}
    assert run("del", "www.example.test", OTHER).code == 0
    assert scene.dns.values(NAME) == {FOREIGN, VALUE}


def test_ttl_is_set_where_the_entry_is_ours_alone(scene: Scene, run: Run) -> None:
    """An entry that others have made keeps its TTL."""
    assert run("--ttl", "77", "add", "www.example.test", VALUE, "new.example.test", VALUE).code == 0
    entries = scene.ipa.zones["example.test"]
    assert "dnsttl" not in entries["_acme-challenge.www"]
    assert entries["_acme-challenge.new"]["dnsttl"] == ["77"]
    assert scene.dns.ttl("_acme-challenge.new.example.test") == 77


def test_a_hundred_names_cost_as_many_requests_as_one(scene: Scene, run: Run) -> None:
    """One login, and a number of requests that does not grow with the names."""
    counts = []
    for many in (1, 100):
        words = [word for n in range(many) for word in (f"n{n}.example.test", VALUE)]
        scene.ipa.requests.clear()
        assert run("add", *words).code == 0
        assert run("del", *words).code == 0
        assert scene.ipa.requests.count("/ipa/session/login_password") == 2
        counts.append(len(scene.ipa.requests))
    assert counts == [6, 6]
    assert scene.ipa.zones["example.test"].keys() == {"@", "_acme-challenge.www"}


def test_aliases_are_followed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The value goes where a CNAME leads, also over two of them and into another zone; del finds it there."""
    zones = {
        "example.test": "_acme-challenge.www CNAME step\nstep CNAME www.acme.test.\n"
        "_acme-challenge.loop CNAME loop\nloop CNAME _acme-challenge.loop\n",
        "acme.test": "",
    }
    with Scene(tmp_path, zones=zones) as scene:
        done = scene.run("ipa_dns", "add", "www.example.test", VALUE, capsys=capsys)
        assert (done.code, scene.dns.values("www.acme.test")) == (0, {VALUE}), done
        assert "zone acme.test, as www.acme.test" in done.out
        assert scene.run("ipa_dns", "del", "www.example.test", VALUE, capsys=capsys).code == 0
        assert scene.dns.values("www.acme.test") == set()
        done = scene.run("ipa_dns", "add", "loop.example.test", VALUE, capsys=capsys)
        assert done.code == 2
        assert "run in a loop" in done.err


def test_zone_is_what_dns_serves(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A zone that the account cannot see does not become a write below a zone cut; both zones are named."""
    with Scene(tmp_path, zones={"example.test": "", "sub.example.test": ""}, hidden=["sub.example.test"]) as scene:
        done = scene.run("ipa_dns", "add", "www.sub.example.test", VALUE, capsys=capsys)
        assert done.code == 2
        assert "zone sub.example.test" in done.err
        assert "is example.test" in done.err
        assert "hint: " in done.err
        assert "dnsrecord_add" not in scene.ipa.methods
        scene.ipa.hidden.clear()
        assert scene.run("ipa_dns", "add", "www.sub.example.test", VALUE, capsys=capsys).code == 0
        assert scene.ipa.txt("_acme-challenge.www.sub.example.test") == {VALUE}


@pytest.mark.parametrize(
    ("zone", "settings", "told"),
    [
        ("other.test", {}, "no zone of FreeIPA holds"),
        ("off.example.test", {"inactive": ["off.example.test"]}, "disabled"),
        ("away.example.test", {"forward": ["away.example.test"]}, "forward zone"),
    ],
)
def test_zones_that_hold_nothing(
    zone: str, settings: dict[str, Any], told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A zone of somebody else, a disabled one and a forward zone end before anything is written."""
    zones = {"example.test": "", **({} if zone == "other.test" else {zone: ""})}
    with Scene(tmp_path, zones=zones, **settings) as scene:
        with name_server(["other.test"], resolver=False) as others:
            scene.configure(nameserver=f"{scene.dns.where} {others.where}")
            done = scene.run("ipa_dns", "add", f"www.{zone}", VALUE, capsys=capsys)
        assert (done.code == 2, told in done.err, "hint: " in done.err) == (True, True, True), done
        assert "dnsrecord_add" not in scene.ipa.methods
        assert not scene.ours()


def test_zone_can_be_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With --zone nothing is compared; a name outside is refused, and so is a zone that FreeIPA lacks."""
    with Scene(tmp_path, zones={"example.test": ""}) as scene:
        scene.ipa.zones["inside.example.test"] = {"@": {}}
        scene.configure(wait=0)
        done = scene.run("ipa_dns", "add", "--zone", "example.test", "www.inside.example.test", VALUE, capsys=capsys)
        assert (done.code, set(scene.ipa.zones["example.test"])) == (0, {"@", "_acme-challenge.www.inside"}), done
        assert scene.run("ipa_dns", "add", "--zone", "other.test", "www.example.test", VALUE, capsys=capsys).code == 2
        done = scene.run("ipa_dns", "add", "--zone", "www.example.test", "www.example.test", VALUE, capsys=capsys)
        assert (done.code, "no zone of FreeIPA" in done.err) == (2, True)


def test_a_lagging_server_is_waited_for_and_no_longer(scene: Scene, run: Run) -> None:
    """The command returns within 0.3 s after the last server has the value."""
    with name_server(["example.test"]) as secondary:
        scene.configure(nameserver=f"{scene.dns.where} {secondary.where}")
        there = 0.0

        def transfer() -> None:
            nonlocal there
            time.sleep(3.0)
            there = time.monotonic()
            secondary.add(NAME, "TXT", f'"{VALUE}"')

        thread = threading.Thread(target=transfer)
        thread.start()
        done = run("-v", "add", "www.example.test", VALUE)
        late = time.monotonic() - there
        thread.join()
        assert done.code == 0, done
        assert 0 <= late < 0.3, late
        assert f"waiting for 127.0.0.1:{secondary.port} does not have the value of {NAME}" in done.err


def test_a_server_that_never_gets_it(scene: Scene, run: Run) -> None:
    """The wait ends in time, names the laggard, and takes the value back; a majority or any one would do."""
    with name_server(["example.test"]) as secondary:
        scene.configure(nameserver=f"{scene.dns.where} {secondary.where}", wait=2)
        began = time.monotonic()
        done = run("add", "www.example.test", VALUE)
        assert (done.code, 2 <= time.monotonic() - began < 4) == (14, True), done
        assert f"127.0.0.1:{secondary.port} does not have the value" in done.err
        assert scene.dns.where not in done.err
        assert untouched(scene)
        assert run("--require", "majority", "add", "www.example.test", VALUE).code == 14
        assert untouched(scene)
        assert run("--require", "any", "add", "www.example.test", VALUE).code == 0
        assert scene.dns.values(NAME) == {FOREIGN, VALUE}


def test_a_silent_or_foreign_server_is_named(scene: Scene, run: Run) -> None:
    """A server that is down, and one that does not have the zone, are told apart."""
    with name_server(["other.test"], resolver=False) as other:
        gone = free_port()
        scene.configure(nameserver=f"{scene.dns.where} {other.where} 127.0.0.1:{gone}", wait=1)
        done = run("add", "www.example.test", VALUE)
        assert done.code == 14
        assert f"127.0.0.1:{other.port} is not authoritative" in done.err
        assert f"127.0.0.1:{gone} connection refused" in done.err
        assert untouched(scene)


@pytest.mark.parametrize("later", [False, True])
def test_lost_updates_are_made_good(later: bool, scene: Scene, run: Run) -> None:  # noqa: FBT001  a parameter
    """A value that FreeIPA acknowledged and another's write undid is added again, also when that came later."""
    if later:
        scene.ipa.faults.lose_later = (1, 0.15)
    else:
        scene.ipa.faults.lose = 3
    assert run("add", "www.example.test", VALUE).code == 0
    time.sleep(0.3)
    assert scene.ipa.txt(NAME) == scene.dns.values(NAME) == {FOREIGN, VALUE}


def test_an_update_that_is_always_lost(scene: Scene, run: Run) -> None:
    """It ends with an error of its own, not with a wait for what is not there."""
    scene.ipa.faults.lose = 1000
    done = run("add", "www.example.test", VALUE)
    assert (done.code, "undoes it again" in done.err) == (13, True), done
    assert untouched(scene)


def test_concurrent_runs_on_one_name_lose_nothing(scene: Scene) -> None:
    """Ten processes add ten values to one name at once, and then remove them, and each finds its own."""
    values = [f"value{n}" for n in range(10)]
    started = [scene.start("ipa_dns", "add", "www.example.test", value) for value in values]
    assert [scene.ended(process).code for process in started] == [0] * 10
    assert scene.dns.values(NAME) == {FOREIGN, *values}
    assert {entry.value for entry in scene.ours()} == set(values)
    started = [scene.start("ipa_dns", "del", "www.example.test", value) for value in values]
    assert [scene.ended(process).code for process in started] == [0] * 10
    assert untouched(scene)


@pytest.mark.parametrize(
    ("point", "nth"),
    [
        ("before:dnszone_show", 1),
        ("after:dnszone_show", 1),
        ("ledger", 1),
        ("before:dnsrecord_add", 1),
        ("after:dnsrecord_add", 1),
        ("after:dnsrecord_show", 3),
    ],
)
def test_a_killed_add_is_swept(point: str, nth: int, scene: Scene, run: Run) -> None:
    """Kill -9 after any step leaves at most what sweep removes; what others have stays."""
    assert killed(point, nth, "ipa_dns", [*scene.options, "add", "www.example.test", VALUE]) == -9
    assert run("sweep").out.startswith("0 removed")
    done = run("sweep", "--older", "0")
    assert done.code == 0, done
    assert untouched(scene)


@pytest.mark.parametrize(("point", "nth"), [("before:dnsrecord_del", 1), ("after:dnsrecord_del", 1), ("ledger", 1)])
def test_a_killed_del_is_swept(point: str, nth: int, scene: Scene, run: Run) -> None:
    """The same for a removal, and the same command again would do too."""
    assert run("add", "www.example.test", VALUE).code == 0
    assert killed(point, nth, "ipa_dns", [*scene.options, "del", "www.example.test", VALUE]) == -9
    assert run("del", "www.example.test", VALUE).code == 0
    assert run("sweep", "--older", "0").code == 0
    assert untouched(scene)


def test_an_interrupted_wait_takes_back(scene: Scene) -> None:
    """SIGTERM while the name servers are waited for removes the value before the end."""
    with name_server(["example.test"]) as secondary:
        scene.configure(nameserver=f"{scene.dns.where} {secondary.where}")
        process = scene.start("ipa_dns", "add", "www.example.test", VALUE)
        while VALUE not in scene.dns.values(NAME):
            time.sleep(0.05)
        process.terminate()
        assert scene.ended(process).code == 143
        assert untouched(scene)
