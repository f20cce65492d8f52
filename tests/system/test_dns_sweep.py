"""What a killed or failed run has left is removed, and what can never be removed does not stay in the list for ever."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest

from certhooks.journal import Journal
from certhooks_freeipa_dns.ledger import Entry, Ledger
from tests.lab.dns01 import NAME, OTHER, VALUE, Scene
from tests.lab.dns_fixtures import needs_bind

if TYPE_CHECKING:
    from pathlib import Path

    from tests.lab.dns_fixtures import Run

pytestmark = needs_bind

GONE = "gone.example.test"


def left(scene: Scene, *zones: str) -> None:
    """Write down a value for each zone, as a killed run would have."""
    Ledger(Journal(scene.folder / "state")).put(
        Entry(f"_acme-challenge.{zone}", f"_acme-challenge.{zone}", zone, VALUE, scene.ipa.where, created=1.0)
        for zone in zones
    )


def test_a_zone_that_is_gone_is_struck_out(scene: Scene, run: Run) -> None:
    """Neither FreeIPA nor DNS has it any more: told once, and over. The values of other zones are removed."""
    left(scene, GONE, "example.test")
    scene.ipa.put("_acme-challenge.example.test", VALUE)
    done = run("sweep")
    assert (done.code, "1 removed" in done.out) == (0, True), done
    assert f"_acme-challenge.{GONE}: {VALUE} is struck out and not removed" in done.err
    assert scene.ipa.txt("_acme-challenge.example.test") == set()
    assert not scene.ours()
    assert run("sweep").err == ""


@pytest.mark.parametrize("hidden", [True, False])
def test_a_zone_that_one_of_both_still_has_is_kept(
    hidden: bool,  # noqa: FBT001  a parameter
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A zone that the account may not see (any more), or may not change: told each time, until --forget."""
    rights: dict[str, Any] = {"hidden": [GONE]} if hidden else {"denied": [GONE]}
    with Scene(tmp_path, zones={"example.test": "", GONE: ""}, **rights) as scene:
        scene.ipa.put(f"_acme-challenge.{GONE}", VALUE)
        scene.ipa.put("_acme-challenge.example.test", VALUE)
        left(scene, GONE, "example.test")
        for removed in (1, 0):
            done = scene.run("ipa_dns", "sweep", capsys=capsys)
            assert (done.code, f"{removed} removed" in done.out) == (2 if hidden else 12, True), done
            assert f"1 value(s) of zone {GONE} stay in the list" in done.err
            assert [entry.zone for entry in scene.ours()] == [GONE]
        assert scene.ipa.txt("_acme-challenge.example.test") == set()
        done = scene.run("ipa_dns", "sweep", "--forget", capsys=capsys)
        assert (done.code, "struck out" in done.err, scene.ours()) == (0, True, []), done
        assert scene.ipa.txt(f"_acme-challenge.{GONE}") == {VALUE}


@pytest.mark.parametrize("operation", ["list", "sweep"])
def test_a_damaged_list_is_told_once(operation: str, scene: Scene, run: Run) -> None:
    """Also where another command has set it aside before: the exit code is one that cron's mail shows, once."""
    assert run("list").code == 0
    (scene.folder / "state" / "dns01.json").write_text("damaged")
    assert run("add", "www.example.test", VALUE).code == 0
    done = run(operation)
    assert (done.code, f"{scene.folder}/state/dns01.damaged.1" in done.err) == (70, True), done
    done = run(operation)
    assert (done.code, done.err) == (0, ""), done
    assert [entry.name for entry in scene.ours()] == [NAME]


def test_dns_that_does_not_answer_proves_nothing(scene: Scene, run: Run) -> None:
    """The zone may still be there: the value stays in the list."""
    left(scene, GONE)
    scene.configure(nameserver="127.0.0.1:1", resolver="127.0.0.1:1")
    assert run("sweep").code == 2
    assert len(scene.ours()) == 1


def test_one_refusal_does_not_keep_the_others_values(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A call's values that could be taken away are struck out, whatever became of one of them."""
    with Scene(tmp_path, zones={"example.test": "", "other.test": ""}) as scene:
        words = ["www.example.test", VALUE, "www.other.test", OTHER]
        assert scene.run("ipa_dns", "add", *words, capsys=capsys).code == 0
        scene.ipa.denied.add("example.test")
        done = scene.run("ipa_dns", "del", *words, capsys=capsys)
        assert (done.code, "does not let this account" in done.err) == (12, True), done
        assert [entry.name for entry in scene.ours()] == [NAME]
        assert scene.ipa.txt("_acme-challenge.www.other.test") == set()


def test_a_server_that_goes_away_while_the_others_are_waited_for(scene: Scene, run: Run) -> None:
    """The name servers have the value: that FreeIPA cannot be asked once more is no failure."""
    real = scene.ipa.call

    def dying(method: str, arguments: list[object], options: dict[str, object]) -> dict[str, object]:
        result = real(method, arguments, options)
        if method == "batch" and "dnsrecord_add" in scene.ipa.methods:
            scene.ipa.faults.status = 503  # from the next request on
        return result

    scene.ipa.call = dying  # type: ignore[method-assign]
    began = time.monotonic()
    done = run("-v", "add", "www.example.test", VALUE)
    assert (done.code, "not looking again" in done.err) == (0, True), done
    assert time.monotonic() - began < 5
    assert VALUE in scene.ipa.txt(NAME)
