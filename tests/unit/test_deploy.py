"""What deploy() does for every kind of device, shown on a target that only remembers what was asked of it."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any, Callable, Optional

import pytest

from certhooks import probe
from certhooks.address import Address
from certhooks.bundle import Bundle
from certhooks.deadline import Deadline
from certhooks.deploy import PLANNED, Deployment, Options, Result
from certhooks.errors import (
    ActivationError,
    BusyError,
    ConnectionLostError,
    Error,
    KeyTypeError,
    NotServedError,
    UnreachableError,
    UploadRefusedError,
)
from certhooks.journal import DONE, FAILED, RUNNING, STAGED, UNCHANGED, UNDONE, Journal
from certhooks.target import Inspection, Needs, Target, Undone

if TYPE_CHECKING:
    from pathlib import Path

    from tests.lab.ca import Issued


class Toy(Target):
    """Holds one fingerprint; ``fail`` maps a method to what it raises, once a list entry."""

    def __init__(self, name: str = "toy", *, holds: str = "old", group: str = "", rank: int = 0) -> None:
        self.name = self.device = self.label = name
        self.holds = holds
        self.calls: list[str] = []
        self.fail: dict[str, list[Exception]] = {}
        self.group, self.rank = group, rank
        self.endpoints: tuple[Address, ...] = ()
        self.undone = Undone.CLEAN
        self.wants = Needs()
        self.superseded: tuple[str, ...] = ()
        self.during: Callable[[str], None] = lambda _: None

    def _called(self, method: str) -> None:
        self.calls.append(method)
        self.during(method)
        if self.fail.get(method):
            raise self.fail[method].pop(0)

    def needs(self) -> Needs:
        return self.wants

    def inspect(self, bundle: Bundle) -> Inspection:
        self._called("inspect")
        changes = () if self.holds == bundle.fingerprint else (f"replace {self.holds}",)
        return Inspection(changes, self.endpoints, ("a thing",), self.group, self.rank, self.superseded)

    def install(self, bundle: Bundle) -> None:  # noqa: ARG002
        self._called("install")

    def activate(self, bundle: Bundle) -> None:
        self._called("activate")
        self.holds = bundle.fingerprint

    def verify(self, bundle: Bundle, endpoints: tuple[Address, ...]) -> None:  # noqa: ARG002
        self._called("verify")

    def rollback(self) -> Undone:
        self._called("rollback")
        return self.undone

    def prune(self, bundle: Bundle) -> list[str]:  # noqa: ARG002
        self._called("prune")
        return ["older"]

    def close(self) -> None:
        self._called("close")


@pytest.fixture
def bundle(ec_leaf: Issued) -> Bundle:
    """Load a good bundle."""
    return Bundle.from_pem(ec_leaf.cert_pem, ec_leaf.key_pem)


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    """Make an empty journal."""
    return Journal(tmp_path / "state")


@pytest.fixture
def push(bundle: Bundle, journal: Journal, monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[Result]]:
    """Deploy to targets without waiting between the tries."""
    monkeypatch.setattr(Deadline, "pause", lambda self, _seconds, what="the run": self.check(what))

    def run(*targets: Toy, **options: Any) -> list[Result]:
        return Deployment(bundle, journal, Options(**options)).run(targets)

    return run


def test_a_good_run_goes_through_every_stage_in_order(push: Any, journal: Journal) -> None:
    """Inspect, install, activate, verify, each once, each written down before it is done."""
    seen: list[list[str]] = []
    toy = Toy()
    toy.during = lambda _: seen.append([s["step"] for a in journal.record("toy").attempts for s in a.steps])
    (result,) = push(toy)
    assert toy.calls == ["inspect", "install", "activate", "verify", "close"]
    assert seen[1:4] == [["install"], ["install", "activate"], ["install", "activate", "verify"]]
    assert (result.outcome, result.exit_code) == (DONE, 0)
    last = journal.record("toy").last
    assert last
    assert last.outcome == DONE
    assert last.ended


def test_nothing_is_sent_when_nothing_differs(push: Any, bundle: Bundle, journal: Journal) -> None:
    """A second run inspects and stops there."""
    toy = Toy(holds=bundle.fingerprint)
    (result,) = push(toy)
    assert toy.calls == ["inspect", "close"]
    assert (result.outcome, result.exit_code) == (UNCHANGED, 0)
    assert "nothing to do" in result.message
    assert [a.outcome for a in journal.record("toy").attempts] == [UNCHANGED]


@pytest.mark.parametrize("ours", [True, False], ids=["the device's own", "--probe"])
@pytest.mark.parametrize(("undone", "code"), [(Undone.CLEAN, 14), (Undone.RESTORED, 15)])
def test_installed_is_not_enough_where_another_is_served(
    push: Any, bundle: Bundle, monkeypatch: pytest.MonkeyPatch, undone: Undone, code: int, *, ours: bool
) -> None:
    """A configuration that is right and an endpoint that serves another certificate: every stage is gone through."""
    asked: list[tuple[Address, str]] = []
    served = [False]

    def serves(address: Address, wanted: str, **_: Any) -> bool:
        asked.append((address, wanted))
        return served[0]

    monkeypatch.setattr(probe, "serves", serves)
    portal = Address("portal.example.com", 443)
    options = {} if ours else {"probes": (portal,)}

    def toy() -> Toy:
        made = Toy(holds=bundle.fingerprint)
        made.endpoints = (portal,) if ours else ()
        made.undone = undone
        made.fail["verify"] = [NotServedError("another is served")]
        return made

    stale = toy()
    (result,) = push(stale, **options)
    assert stale.calls == ["inspect", "install", "activate", "verify", "rollback", "close"]
    assert (result.outcome, result.exit_code) == (UNDONE, code)
    assert asked == [(portal, bundle.fingerprint)]
    served[0] = True
    fine = toy()
    (result,) = push(fine, **options)
    assert fine.calls == ["inspect", "close"]
    assert (result.outcome, result.exit_code) == (UNCHANGED, 0)
    assert "served by portal.example.com" in result.message


def test_force_does_it_all_the_same(push: Any, bundle: Bundle) -> None:
    """--force installs what is installed already."""
    toy = Toy(holds=bundle.fingerprint)
    push(toy, force=True)
    assert "install" in toy.calls


def test_a_dry_run_only_looks(push: Any, journal: Journal) -> None:
    """--dry-run says what would be done, changes nothing and writes no journal."""
    toy = Toy()
    (result,) = push(toy, dry_run=True)
    assert toy.calls == ["inspect", "close"]
    assert (result.outcome, result.message) == (PLANNED, "would replace old")
    assert journal.record("toy").attempts == []


@pytest.mark.parametrize(
    ("stage", "error", "code"),
    [
        ("install", UploadRefusedError("no"), 12),
        ("activate", ActivationError("no"), 13),
        ("verify", NotServedError("no"), 14),
        ("install", ValueError("secret detail"), 70),
    ],
)
def test_a_failing_stage_is_rolled_back_and_named(
    push: Any, journal: Journal, stage: str, error: Exception, code: int
) -> None:
    """Whatever fails after the first change: rollback is called once and the first failure is what is reported."""
    toy = Toy()
    toy.fail[stage] = [error]
    (result,) = push(toy)
    assert toy.calls[-2:] == ["rollback", "close"]
    assert toy.calls.count("rollback") == 1
    assert (result.outcome, result.exit_code) == (UNDONE, code)
    assert "secret detail" not in result.message
    last = journal.record("toy").last
    assert last
    assert (last.outcome, last.exit_code) == (UNDONE, code)


def test_what_was_active_and_is_put_back_is_its_own_exit_code(push: Any) -> None:
    """15 tells that the previous certificate is back, with the reason."""
    toy = Toy()
    toy.fail["verify"] = [NotServedError("another is served")]
    toy.undone = Undone.RESTORED
    (result,) = push(toy)
    assert result.exit_code == 15
    assert "another is served" in result.message
    assert "back in place" in result.message


def test_a_rollback_that_fails_does_not_hide_the_first_failure(push: Any, journal: Journal) -> None:
    """The first error is reported, the second is a warning, and the journal keeps what was touched."""
    toy = Toy()
    toy.fail = {"activate": [ActivationError("commit failed")], "rollback": [UploadRefusedError("locked")]}
    (result,) = push(toy)
    assert (result.outcome, result.exit_code, result.message) == (FAILED, 13, "commit failed")
    assert "could not be taken back: locked" in result.warnings[0]
    assert journal.record("toy").unfinished() == ["a thing"]


def test_a_change_that_is_kept_is_not_called_undone(push: Any, journal: Journal) -> None:
    """Where rolling back would be wrong, the run is failed and what it touched stays known."""
    toy = Toy()
    toy.fail["verify"] = [NotServedError("no")]
    toy.undone = Undone.KEPT
    (result,) = push(toy)
    assert (result.outcome, result.exit_code) == (FAILED, 14)
    assert journal.record("toy").unfinished()


@pytest.mark.parametrize("stage", ["inspect", "install", "activate", "verify", "rollback"])
def test_a_stage_is_repeated_when_its_connection_broke(push: Any, stage: str) -> None:
    """A lost connection tells nothing about the request: the stage goes again, and the run ends well."""
    toy = Toy()
    toy.fail[stage] = [ConnectionLostError("reset"), UnreachableError("refused"), ConnectionLostError("reset")]
    if stage == "rollback":
        toy.fail["verify"] = [NotServedError("no")]
    (result,) = push(toy)
    assert toy.calls.count(stage) == 4
    assert result.exit_code == (14 if stage == "rollback" else 0)


def test_repeating_has_an_end(push: Any) -> None:
    """After four lost connections the run fails as unreachable."""
    toy = Toy()
    toy.fail["install"] = [ConnectionLostError("reset")] * 4
    (result,) = push(toy)
    assert (toy.calls.count("install"), result.exit_code) == (4, 4)


def test_a_device_that_never_answered_is_not_asked_again(push: Any, journal: Journal) -> None:
    """Unreachable at the first look fails at once (certmonger waits), and nothing counts as touched."""
    toy = Toy()
    toy.fail["inspect"] = [UnreachableError("no route")]
    (result,) = push(toy)
    assert toy.calls == ["inspect", "close"]
    assert result.exit_code == 4
    assert journal.record("toy").unfinished() == []


def test_an_early_failure_does_not_make_a_crash_forgotten(push: Any, journal: Journal) -> None:
    """What a killed run touched stays known until a run has ended well or has rolled back."""
    record = journal.record("toy")
    toy = Toy()
    toy.during = lambda method: record.attempts.clear() if method == "never" else None
    push(toy)
    crashed = journal.record("toy")
    crashed.attempts[-1].outcome = RUNNING
    crashed.step(crashed.attempts[-1], "activate")
    broken = Toy()
    broken.fail["inspect"] = [UnreachableError("no route")]
    push(broken)
    assert journal.record("toy").unfinished() == ["a thing"]
    told: list[tuple[str, ...]] = []
    again = Toy()
    again.during = lambda method: told.append(again.run.leftover) if method == "inspect" else None
    push(again)
    assert told[0] == ("a thing",)
    assert journal.record("toy").unfinished() == []


def test_needs_are_checked_before_anything_is_sent(push: Any) -> None:
    """A key of the wrong type ends after the look."""
    toy = Toy()
    toy.wants = Needs(key_types=("rsa",))
    (result,) = push(toy)
    assert toy.calls == ["inspect", "close"]
    assert result.exit_code == KeyTypeError.exit_code


def test_one_failing_target_leaves_the_others_alone(push: Any) -> None:
    """Results come in the order of the targets, each its own."""
    good, bad, odd = Toy("good"), Toy("bad"), Toy("odd")
    bad.fail["inspect"] = [UnreachableError("down")]
    odd.fail["activate"] = [RuntimeError("bug")]
    results = push(good, bad, odd)
    assert [r.exit_code for r in results] == [0, 4, 70]
    assert [r.target for r in results] == ["good", "bad", "odd"]


def test_targets_run_side_by_side(push: Any) -> None:
    """Two targets meet in the same stage, which they could not if one waited for the other."""
    meeting = threading.Barrier(2, timeout=10)
    toys = [Toy("a"), Toy("b")]

    def meet(method: str) -> None:
        if method == "install":
            meeting.wait()

    for toy in toys:
        toy.during = meet
    assert [r.exit_code for r in push(*toys)] == [0, 0]


def test_a_group_is_done_in_turn_by_rank_and_looked_at_again(push: Any, bundle: Bundle) -> None:
    """Of an HA pair the active one goes first, and what it brought to the passive one is seen."""
    order: list[str] = []
    passive, active = Toy("passive", group="pair", rank=1), Toy("active", group="pair")

    def note(toy: Toy) -> Callable[[str], None]:
        def during(method: str) -> None:
            order.append(f"{toy.name} {method}")
            if (toy.name, method) == ("active", "close"):
                passive.holds = bundle.fingerprint

        return during

    active.during, passive.during = note(active), note(passive)
    results = push(passive, active)
    assert [r.outcome for r in results] == [UNCHANGED, DONE]
    assert order.index("active close") < order.index("passive close")
    assert "passive install" not in order


def test_one_device_under_two_names_is_looked_at_again(push: Any, bundle: Bundle) -> None:
    """The second name sees what was done under the first, and does nothing."""
    first, second = Toy("a", group="serial 1"), Toy("b", group="serial 1")
    both = threading.Barrier(2, timeout=10)
    for toy, other in ((first, second), (second, first)):

        def during(method: str, toy: Toy = toy, other: Toy = other) -> None:
            if method == "inspect" and toy.calls == ["inspect"]:
                both.wait()
            if method == "verify":
                other.holds = bundle.fingerprint

        toy.during = during
    results = push(first, second)
    assert sorted(r.outcome for r in results) == [DONE, UNCHANGED]


def test_a_slow_device_does_not_hold_up_the_others(push: Any) -> None:
    """A device that takes long to be looked at is waited for by nobody."""
    slow, quick = Toy("slow"), Toy("quick")
    done = threading.Event()
    seen: list[bool] = []
    quick.during = lambda method: done.set() if method == "close" else None
    slow.during = lambda method: seen.append(done.wait(10)) if method == "inspect" else None
    assert [r.exit_code for r in push(slow, quick)] == [0, 0]
    assert seen == [True]


def test_a_held_device_is_waited_for_and_looked_at_again(
    bundle: Bundle, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was seen while another run held the device does not count."""

    def pause(deadline: Deadline, _seconds: float, what: str = "x") -> None:
        time.sleep(0.01)
        deadline.check(what)

    monkeypatch.setattr(Deadline, "pause", pause)
    looked = threading.Event()
    toy = Toy()
    toy.fail["inspect"] = [ActivationError("another run's edits are pending")]
    toy.during = lambda _: looked.set()
    results: list[Result] = []
    with journal.lock("toy", Deadline(5)):
        thread = threading.Thread(target=lambda: results.extend(Deployment(bundle, journal, Options()).run([toy])))
        thread.start()
        assert looked.wait(10)
    thread.join(10)
    assert [r.outcome for r in results] == [DONE]
    assert toy.calls.count("inspect") == 2


def test_a_device_that_stays_held_is_busy(bundle: Bundle, journal: Journal) -> None:
    """When the deadline passes the run ends with 17 and has changed nothing."""
    toy = Toy()
    with journal.lock("toy", Deadline(5)):
        (result,) = Deployment(bundle, journal, Options(timeout=0.2)).run([toy])
    assert result.exit_code == BusyError.exit_code
    assert toy.calls == ["inspect", "close"]


def test_staging_is_not_verified_and_says_so(push: Any, journal: Journal) -> None:
    """With stage_only nothing is in use yet: no verification, outcome staged, and the next run knows of it."""
    toy = Toy()
    (result,) = push(toy, stage_only=True, prune=True)
    assert toy.calls == ["inspect", "install", "activate", "close"]
    assert result.outcome == STAGED
    assert "not committed" in result.message
    assert journal.record("toy").unfinished() == ["a thing"]


def test_pruning_comes_last_and_its_failure_is_a_remark(push: Any) -> None:
    """The new certificate is in use: what cannot be tidied up does not make it a failure."""
    toy, other = Toy("a"), Toy("b")
    other.fail["prune"] = [UploadRefusedError("referenced")]
    first, second = push(toy, other, prune=True)
    assert toy.calls[-3:] == ["verify", "prune", "close"]
    assert first.pruned == ["older"]
    assert (second.exit_code, second.warnings) == (0, ["could not prune: referenced"])


def test_pruning_alone_is_journaled_and_its_failure_remembered(push: Any, bundle: Bundle, journal: Journal) -> None:
    """Nothing differs but an old certificate is there: it is removed, and what a failure touched stays known."""
    good, bad = Toy("good", holds=bundle.fingerprint), Toy("bad", holds=bundle.fingerprint)
    good.superseded = bad.superseded = ("older",)
    bad.fail["prune"] = [UploadRefusedError("referenced")]
    first, second = push(good, bad, prune=True)
    assert good.calls == ["inspect", "prune", "close"]
    assert (first.outcome, first.pruned, first.exit_code) == (UNCHANGED, ["older"], 0)
    assert (second.outcome, second.exit_code, second.warnings) == (UNCHANGED, 0, ["could not prune: referenced"])
    assert journal.record("good").unfinished() == []
    assert journal.record("bad").unfinished() == ["a thing"]


def test_rolling_back_gets_time_of_its_own(push: Any) -> None:
    """A run that fails because its time is over can still take its changes back."""
    left: list[float] = []
    toy = Toy()

    def during(method: str) -> None:
        if method == "activate":
            toy.run.deadline.interrupt()
            toy.run.deadline.check("the commit")
        if method == "rollback":
            left.append(toy.run.deadline.remaining())

    toy.during = during
    (result,) = push(toy)
    assert result.exit_code == 16
    assert left[0] > 60


def test_ctrl_c_takes_changes_back_and_goes_on_up(bundle: Bundle, journal: Journal) -> None:
    """An interrupt in the main thread wakes the workers, who roll back before the run is left."""
    toy = Toy()
    reached = threading.Event()

    def during(method: str) -> None:
        if method == "activate":
            reached.set()
            while True:
                toy.run.deadline.pause(30)

    toy.during = during
    deployment = Deployment(bundle, journal, Options())

    def interrupt(_who: str, what: str) -> None:
        assert what

    deployment._tell = interrupt
    raised: Optional[BaseException] = None

    def stop() -> None:
        reached.wait(10)
        deployment.deadline.interrupt()

    timer = threading.Thread(target=stop)
    timer.start()
    try:
        (result,) = deployment.run([toy])
    except BaseException as e:  # noqa: BLE001  whatever it is, it is looked at below
        raised = e
    timer.join()
    assert raised is None
    assert "rollback" in toy.calls
    assert (result.exit_code, result.outcome) == (16, UNDONE)


def test_equal_failures_are_counted_not_repeated(push: Any, journal: Journal) -> None:
    """A device that is down for a month fills neither the journal nor the disk."""
    for _ in range(5):
        toy = Toy()
        toy.fail["inspect"] = [UnreachableError("no route")]
        push(toy)
    (attempt,) = journal.record("toy").attempts
    assert attempt.count == 5


def test_a_fault_of_our_own_is_one_line_without_its_values(push: Any, caplog: pytest.LogCaptureFixture) -> None:
    """An unexpected exception ends in exit code 70; its text, which may hold anything, is shown nowhere."""
    toy = Toy()
    toy.fail["inspect"] = [RuntimeError("hunter2")]
    (result,) = push(toy)
    assert (result.exit_code, result.message) == (70, "a fault of our own: RuntimeError")
    assert "hunter2" not in caplog.text


def test_the_journal_keeps_the_command_without_secrets(bundle: Bundle, journal: Journal) -> None:
    """The reconciler needs the command; a secret that slipped into it is not kept."""
    from certhooks.secrets import Secret

    Secret("swordfish")
    toy = Toy()
    Deployment(bundle, journal, Options(command=("pan_instcert", "-k", "swordfish"))).run([toy])
    last = journal.record("toy").last
    assert last
    assert last.command == ["pan_instcert", "-k", "***"]


def test_an_unwritable_journal_stops_the_run_before_a_change(push: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a journal nothing could be repaired after a crash: the device is not touched."""
    toy = Toy()
    monkeypatch.setattr("certhooks.journal.os.fsync", _full)
    (result,) = push(toy)
    assert result.exit_code == 70
    assert "no space left" in result.message.lower()
    assert "install" not in toy.calls


def _full(_fd: int) -> None:
    raise OSError(28, "No space left on device")


def test_every_error_has_a_documented_exit_code() -> None:
    """The numbers of the scripts go on, and no two kinds that a user tells apart share one by accident."""
    from certhooks import cli

    shown = {int(word) for word in cli.EXIT_CODES.split() if word.isdigit()}
    used = {kind.exit_code for kind in _all(Error) if kind.__module__ != "certhooks.watch.tool"}  # a monitor's numbers
    assert used <= shown


def _all(kind: type[Error]) -> set[type[Error]]:
    return {kind}.union(*(_all(each) for each in kind.__subclasses__()))
