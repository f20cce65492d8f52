"""The whole way of a value, where FreeIPA's servers and the name servers do not agree."""

from __future__ import annotations

import errno
import sys
import threading
from typing import TYPE_CHECKING

import pytest

if sys.version_info < (3, 10):
    pytest.skip("the DNS hooks need Python 3.10", allow_module_level=True)

from certhooks import files
from certhooks.deadline import Deadline
from certhooks.errors import BusyError, NotServedError, StateError, UnreachableError
from certhooks.journal import Journal
from certhooks.trust import Trust
from certhooks_freeipa_dns import backend, changes, wait
from certhooks_freeipa_dns.backend import Held, Record, Zone
from certhooks_freeipa_dns.core import Challenge, Core
from certhooks_freeipa_dns.errors import NoZoneError, PassingError, RefusedError
from certhooks_freeipa_dns.ledger import Entry, Ledger
from certhooks_freeipa_dns.settings import Settings
from certhooks_freeipa_dns.view import Place

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from pytest_mock import MockerFixture

ZONE = "example.test"
FIRST = 0.01  # seconds: before the second look
ONE, TWO = Challenge(f"_acme-challenge.a.{ZONE}", "one"), Challenge(f"_acme-challenge.b.{ZONE}", "two")


class World:
    """FreeIPA with one zone, and name servers that have what it has; it stands for the backend and for the view."""

    kind, server = "api", "ipa1.test"

    def __init__(self, folder: Path) -> None:
        self.values: set[Challenge] = set()
        self.calls: list[str] = []
        self.refuse: Exception | None = None
        self.lagging: Callable[[], str] = lambda: ""
        self.journal = Journal(folder / "state")
        self.ledger = Ledger(self.journal)
        self.deadline: Deadline | None = None
        self.refused: dict[str, Exception] = {}  # removals, by zone
        self.dns_knows = {ZONE}
        self.pinned: list[tuple[str, str]] = []  # kind and preferred server of each backend that was made
        self.waited: list[set[str]] = []  # the values of each wait
        self.told: list[str] = []
        self.warned: list[str] = []
        self.after_add: Callable[[], None] = lambda: None

    def core(self, run: str = "", **settings: object) -> Core:
        """Return a core in this world."""
        made = Settings(**{"wait": 5.0, **settings})  # type: ignore[arg-type]
        return Core(made, Trust(), self.journal, Deadline(20), run=run, tell=self.told.append, warn=self.warned.append)

    def lose_once(self, seconds: float) -> None:
        """Acknowledge the next addition, and lose it some time after."""

        def lose() -> None:
            self.after_add = lambda: None
            threading.Timer(seconds, self.values.clear).start()

        self.after_add = lose

    def survey(
        self, candidates: Sequence[str], records: Sequence[Record]
    ) -> tuple[dict[str, Zone], Mapping[str, Held]]:
        """See Backend."""
        self.calls.append("survey")
        return {name: Zone(name) for name in candidates if name == ZONE}, self._held(records)

    def add(self, records: Sequence[Record], ttls: Mapping[str, int]) -> Mapping[str, Held]:
        """See Backend."""
        self.calls.append("add")
        assert all(ttl == 60 for ttl in ttls.values())
        if self.refuse:
            raise self.refuse
        self.values |= {Challenge(record.target, record.value) for record in records}
        held = self._held(records)
        self.after_add()
        return held

    def remove(self, records: Sequence[Record]) -> Mapping[str, Held]:
        """See Backend."""
        self.calls.append("remove")
        if self.deadline:
            self.deadline.check("the removal")
        for record in records:
            if record.zone in self.refused:
                raise self.refused[record.zone]
        self.values -= {Challenge(record.target, record.value) for record in records}
        return self._held(records)

    def read(self, records: Sequence[Record]) -> Mapping[str, Held]:
        """See Backend."""
        self.calls.append("read")
        if isinstance(self.refuse, UnreachableError):
            raise self.refuse
        return self._held(records)

    def close(self) -> None:
        """See Backend."""

    def places(self, wanted: Sequence[str]) -> dict[str, Place]:
        """See View."""
        return {name: Place(name, name, ZONE) for name in wanted}

    def place(self, zone: str) -> Place:
        """See View."""
        if not self.dns_knows:
            raise UnreachableError("cannot look up")
        return Place(zone, zone, zone if zone in self.dns_knows else "test")

    def servers(self, zone: str) -> tuple[str, ...]:
        """See View."""
        return (f"ns.{zone}",)

    def made(self, kind: str, *_args: object, preferred: str, **_named: object) -> World:
        """See backend."""
        self.pinned.append((kind, preferred))
        return self

    def _held(self, records: Sequence[Record]) -> dict[str, Held]:
        held = {}
        for record in records:
            there = frozenset(value for name, value in self.values if name == record.target)
            held[record.target] = Held(there, exists=bool(there))
        return held

    def until_served(
        self,
        wanted: Mapping[tuple[str, ...], Sequence[wait.Wanted]],
        deadline: Deadline,
        require: str,
        *,
        tell: Callable[[str], None],
        between: Callable[[], None],
    ) -> list[str]:
        """See wait: the name servers have what FreeIPA has, but for those that lag."""
        assert (require, bool(tell)) == ("all", True)
        self.calls.append("wait")
        self.waited.append({each.value for each in wanted[f"ns.{ZONE}",]})
        while lagging := self.lagging() or any(Challenge(*w) not in self.values for w in wanted[f"ns.{ZONE}",]):
            if not deadline.remaining():
                raise NotServedError(f"not on every name server: {lagging}")
            between()
            deadline.pause(min(0.01, deadline.remaining()) or 0.001)
        return []


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    """Make the world, in which time goes ten times as fast."""
    made = World(tmp_path)
    monkeypatch.setattr(backend, "made", made.made)
    monkeypatch.setattr(Core, "_view", lambda _self: made)
    monkeypatch.setattr(wait, "until_served", made.until_served)
    monkeypatch.setattr(changes, "APART", 0.03)
    monkeypatch.setattr(changes, "_REPAIR", 0.1)
    yield made
    for thread in threading.enumerate():
        if isinstance(thread, threading.Timer):
            thread.join()


def test_a_value_that_replication_has_not_brought_everywhere(world: World) -> None:
    """The wait ends with the laggard's name, and nothing is left."""
    world.lagging = lambda: "ns2"
    with pytest.raises(NotServedError, match="ns2"):
        world.core(wait=0.5).add([ONE])
    assert (world.values, world.ledger.entries()) == (set(), [])


@pytest.mark.parametrize("seconds", [FIRST, 0.2, 0.5])
def test_a_value_that_is_lost_when_replicas_meet(seconds: float, world: World) -> None:
    """Before the second look, or while another name server is waited for: it is added again, and waited for again."""
    world.lose_once(seconds)
    world.lagging = lambda: "" if world.calls.count("add") > 1 or seconds == FIRST else "ns2"
    world.core().add([ONE])
    assert ONE in world.values
    assert world.calls.count("add") == 2
    assert "1 value(s) were lost to somebody else's change: adding again" in world.told
    assert world.calls[-1] == "read" or world.calls[-2:] == ["read", "wait"]  # the last look found all


def test_a_repair_is_waited_for(world: World) -> None:
    """When the second look has added a value again, the name servers are asked again, for they had the old one."""
    world.lose_once(FIRST)
    world.core().add([ONE])
    assert [call for call in world.calls if call != "read"] == ["survey", "add", "wait", "add", "wait"]
    world.calls.clear()
    world.lose_once(FIRST)
    world.core(wait=0.0).add([TWO])
    assert [call for call in world.calls if call != "read"] == ["survey", "add", "add"]


def test_a_second_look_that_cannot_be_had(world: World) -> None:
    """The name servers have the value: that FreeIPA does not answer any more is told and no failure."""
    world.after_add = lambda: setattr(world, "refuse", PassingError("ipa1.test has a fault"))
    world.core().add([ONE])
    assert any("not looking again" in line for line in world.told)
    assert [entry.value for entry in world.ledger.entries()] == ["one"]


def test_what_somebody_else_has_added_stays_theirs(world: World) -> None:
    """It is neither written down nor taken back; what an earlier run added stays in our list."""
    world.values.add(ONE)
    world.core().add([ONE])
    assert world.ledger.entries() == []
    world.lagging = lambda: "ns2"
    for listed in ([], [Entry(*ONE[:1], ONE.name, ZONE, ONE.value, "ipa1.test")]):
        world.ledger.put(listed)
        with pytest.raises(NotServedError):
            world.core(wait=0.2).add([ONE, TWO])
        assert (world.values, world.ledger.entries()) == ({ONE}, listed)


def test_values_with_more_to_come_are_their_own_runs(world: World) -> None:
    """The last call of a run waits for all of it and takes all of it back; those of other runs, and by hand, stay."""
    world.core("certbot 1").add([ONE], more=True)
    assert "wait" not in world.calls
    assert not world.ledger.entries()[0].waited
    world.lagging = lambda: "ns2"
    for run in ("certbot 2", ""):
        with pytest.raises(NotServedError):
            world.core(run, wait=0.1).add([TWO])
        assert world.values == {ONE}
    with pytest.raises(NotServedError):
        world.core("certbot 1", wait=0.1).add([TWO])
    assert (world.values, world.ledger.entries()) == (set(), [])
    world.lagging = lambda: ""
    world.core("certbot 1").add([ONE], more=True)
    world.core("certbot 1").add([TWO])
    assert world.waited[-1] == {"one", "two"}
    assert all(entry.waited for entry in world.ledger.entries())  # the next certificate of this run is not held up


def test_a_refused_addition_takes_back_what_stood_before_it_in_the_call(world: World) -> None:
    """And says so where that fails too; the list keeps it."""
    world.refuse = RefusedError("no")
    with pytest.raises(RefusedError):
        world.core().add([ONE, TWO])
    assert world.calls == ["survey", "add", "remove"]
    assert (world.ledger.entries(), world.warned) == ([], [])


def test_the_deadline_leaves_time_to_take_back(world: World) -> None:
    """What was added when the time ran out is removed beyond it."""
    world.lagging = lambda: "ns2"
    core = world.core()
    core.deadline = world.deadline = Deadline(0.3)
    with pytest.raises(NotServedError):
        core.add([ONE])
    assert (world.values, world.warned) == (set(), [])


@pytest.mark.parametrize("write", [1, 2])
def test_a_full_disk(write: int, world: World, mocker: MockerFixture) -> None:
    """Nothing is added that could not be written down; a removal that could not be struck out is repeated by sweep."""
    real, left = files.replace, [write]

    def full(path: Path, data: bytes) -> None:
        left[0] -= 1
        if left[0] == 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(path, data)

    mocker.patch("certhooks.files.replace", full)
    core = world.core()
    if write == 1:
        with pytest.raises(StateError, match="no space left"):
            core.add([ONE])
        assert "add" not in world.calls
        return
    core.add([ONE])
    with pytest.raises(StateError, match="no space left"):
        core.remove([ONE])
    assert (world.values, len(world.ledger.entries())) == (set(), 1)
    assert world.core().sweep(world.ledger.entries())[1] is None
    assert world.ledger.entries() == []


def test_nothing_is_asked_for_nothing(world: World) -> None:
    """No challenge, no request, no file."""
    assert world.core().add([]) == []
    world.core().remove([])
    world.core().forget([])
    assert world.calls == []


@pytest.mark.parametrize("waiting", [True, False])
def test_a_failure_leaves_what_an_earlier_call_added(
    waiting: bool,  # noqa: FBT001  a parameter
    world: World,
) -> None:
    """A value that two certificates share is still proof for the first of them, and still of its run."""
    world.core("lego 1").add([ONE])
    before = world.ledger.entries()
    if waiting:
        world.lagging = lambda: "ns1 does not have it"
    else:
        world.refuse = RefusedError("no right")
    with pytest.raises(NotServedError if waiting else RefusedError):
        world.core("lego 2", wait=0.1).add([ONE, TWO])
    assert (world.values, world.ledger.entries()) == ({ONE}, before)


def test_what_somebody_else_added_stays(world: World) -> None:
    """A client's cleanup removes what is in our list, and asks nobody about anything else; by hand it may be meant."""
    world.values = {ONE, TWO}
    world.ledger.put([Entry(TWO.name, TWO.name, ZONE, TWO.value, "ipa1.test")])
    world.core("lego 1").remove([ONE])
    assert (world.values, world.calls) == ({ONE, TWO}, [])
    assert any("not in our list" in text for text in world.told)
    world.core("lego 1").remove([ONE, TWO])
    assert world.values == {ONE}
    world.core().remove([ONE], strangers=True)
    assert world.values == set()


def test_one_server_a_run(world: World) -> None:
    """What comes later goes to the server that was written to, in the same way; another run chooses for itself."""
    world.kind = "update"
    world.core("lego 1", backend="update").add([ONE])
    world.kind = "api"
    world.core("lego 1").add([TWO])
    world.core("lego 2").add([Challenge(TWO.name, "three")])
    world.core().remove([ONE])
    assert world.pinned == [("update", ""), ("update", "ipa1.test"), ("api", ""), ("update", "ipa1.test")]


def test_an_option_goes_before_the_runs_server(world: World) -> None:
    """Neither server nor backend of what was left behind can keep an administrator from naming another."""
    world.core("lego 1").add([ONE])
    world.pinned.clear()
    chosen = frozenset({"server", "backend"})
    world.core("lego 1", backend="update", options=chosen).add([TWO])
    world.core("lego 1", server="ipa2.test", options=chosen).add([TWO])
    world.core("lego 1", server="ipa2.test ipa1.test", options=chosen).add([TWO])
    world.core("lego 1", server="ipa2.test", backend="update").add([TWO])  # of the configuration
    world.core("", server="ipa2.test", options=chosen).sweep(world.ledger.entries())
    assert world.pinned == [("update", ""), ("api", ""), ("api", "ipa1.test"), ("api", "ipa1.test"), ("api", "")]


def test_a_name_is_one_runs_at_a_time(world: World) -> None:
    """Whoever does not get it in time says so, and has written nothing down; other names are free."""
    with world.journal.lock(f"dns01 {ONE.name}", Deadline(1)):
        core = world.core()
        core.deadline = Deadline(0.3)
        with pytest.raises(BusyError, match=f"another run holds {ONE.name}"):
            core.add([TWO, ONE])
        assert ("add" in world.calls, world.ledger.entries()) == (False, [])
        world.core().add([TWO])


def stored(zone: str) -> Entry:
    """Return an entry of a zone."""
    return Entry(f"a.{zone}", f"a.{zone}", zone, "v", "ipa1.test")


def test_sweep_strikes_out_what_is_gone_and_keeps_what_may_come_back(world: World) -> None:
    """Only FreeIPA's and DNS's word together prove that a zone is gone."""
    zones = ("gone.test", "hidden.test", "denied.test", "down.test", ZONE)
    entries = [stored(zone) for zone in zones]
    world.ledger.put(entries)
    world.dns_knows = {ZONE, "hidden.test", "down.test"}
    world.refused = {
        "gone.test": NoZoneError("not found"),
        "hidden.test": NoZoneError("not found"),
        "denied.test": RefusedError("no right"),
        "down.test": PassingError("busy"),
    }
    core = world.core()
    core.deadline = Deadline(60, sleep=lambda _seconds: None)
    removed, failure = core.sweep(entries)
    assert (removed, str(failure)) == ([stored(ZONE)], "not found")
    assert {entry.zone for entry in world.ledger.entries()} == {"hidden.test", "denied.test", "down.test"}
    assert [text for text in world.warned if "struck out" in text] == [
        "a.gone.test: v is struck out and not removed: not found"
    ]
    assert sum("stay in the list" in text for text in world.warned) == 3
    world.dns_knows = set()
    assert core.sweep([stored("hidden.test")])[1]  # DNS does not answer
    assert core.sweep(world.ledger.entries(), give_up=True) == ([], None)
    assert world.ledger.entries() == []


def test_one_zones_refusal_keeps_no_other_in_the_list(world: World) -> None:
    """A call's values that could be taken away are struck out; the failure is told."""
    entries = [stored("denied.test"), stored(ZONE), stored("other.test")]
    world.ledger.put(entries)
    world.refused = {"denied.test": RefusedError("no right")}
    with pytest.raises(RefusedError, match="no right"):
        world.core().forget(entries)
    assert [entry.zone for entry in world.ledger.entries()] == ["denied.test"]
