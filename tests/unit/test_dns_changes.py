"""Changes that last: what somebody else undoes is done again, and looked at when that can no longer happen."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

if sys.version_info < (3, 10):
    pytest.skip("the DNS hooks need Python 3.10", allow_module_level=True)

from certhooks.deadline import Deadline
from certhooks.errors import ActivationError, ConnectionLostError, DeadlineError
from certhooks_freeipa_dns.backend import Held, Record
from certhooks_freeipa_dns.changes import APART, Changes, Watch
from certhooks_freeipa_dns.errors import PassingError, RefusedError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

ONE, TWO = Record("z.test", "a.z.test", "one"), Record("z.test", "a.z.test", "two")


class Clock:
    """Time that passes where somebody sleeps."""

    def __init__(self) -> None:
        self.now = 0.0
        self.slept: list[float] = []

    def sleep(self, seconds: float) -> None:
        """Let time pass."""
        self.slept.append(seconds)
        self.now += seconds

    def deadline(self, seconds: float = 100.0) -> Deadline:
        """Return a deadline by this clock."""
        return Deadline(seconds, clock=lambda: self.now, sleep=self.sleep)


class Server:
    """A backend that answers what it is told to: held values, or an error."""

    kind, server = "api", "ipa1.test"

    def __init__(self, *answers: set[str] | Exception) -> None:
        self.answers = list(answers)
        self.asked: list[tuple[list[str], Mapping[str, int]]] = []

    def add(self, records: Sequence[Record], ttls: Mapping[str, int]) -> Mapping[str, Held]:
        """Return the next answer."""
        self.asked.append(([record.value for record in records], ttls))
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return {"a.z.test": Held(frozenset(answer), exists=True)}

    def remove(self, records: Sequence[Record]) -> Mapping[str, Held]:
        """Return the next answer."""
        return self.add(records, {})


def changes(server: Server, clock: Clock, told: list[str] | None = None) -> Changes:
    """Return what changes that server."""
    return Changes(server, clock.deadline(), [].append if told is None else told.append)  # type: ignore[arg-type]


def test_only_what_is_missing_is_added_again() -> None:
    """A value that stayed is not sent twice; a TTL goes only where there was no entry; the pauses grow."""
    server, clock = Server({"one"}, {"one"}, {"one", "two"}), Clock()
    told: list[str] = []
    changes(server, clock, told).add([ONE, TWO], {"a.z.test": Held()}, 60)
    assert [values for values, _ in server.asked] == [["one", "two"], ["two"], ["two"]]
    assert [ttls for _, ttls in server.asked] == [{"a.z.test": 60}] * 3
    assert len(clock.slept) == 2
    assert 0.09 <= clock.slept[0] <= 0.3
    assert 0.18 <= clock.slept[1] <= 0.6
    assert told == ["the add at a.z.test did not last: somebody else writes there too"] * 2
    server = Server({"one", "two"})
    changes(server, clock).add([ONE, TWO], {"a.z.test": Held(frozenset({"one"}), exists=True)}, 60)
    assert server.asked == [(["two"], {})]
    server = Server()
    changes(server, clock).add([ONE], {"a.z.test": Held(frozenset({"one"}), exists=True)}, 60)
    assert server.asked == []


def test_a_broken_connection_is_followed_by_a_look() -> None:
    """What was under way may have been done: it is done again, which changes nothing then; the last failure is told."""
    server = Server(ConnectionLostError("broke"), PassingError("busy"), {"one"})
    changes(server, Clock()).add([ONE], {"a.z.test": Held()}, 60)
    assert len(server.asked) == 3
    server = Server(*[PassingError("busy")] * 6)
    with pytest.raises(PassingError):
        changes(server, Clock()).remove([ONE])
    assert len(server.asked) == 6
    server = Server(PassingError("busy"), *[{"one"}] * 5)
    with pytest.raises(ActivationError, match=r"accepts the removal at .* and undoes it again"):
        changes(server, Clock()).remove([ONE])
    server = Server(RefusedError("no"))
    with pytest.raises(RefusedError):
        changes(server, Clock()).remove([ONE])


def test_a_removal_is_over_when_nothing_is_left() -> None:
    """Values that are gone are not removed again."""
    server = Server({"two", "other"}, {"other"})
    changes(server, Clock()).remove([ONE, TWO])
    assert [values for values, _ in server.asked] == [["one", "two"], ["two"]]


def test_the_second_look_costs_nothing_where_the_name_servers_take_as_long() -> None:
    """It comes when others' changes have ended, and only then counts; while servers lag there is one now and then."""
    clock, looks = Clock(), []
    watch = Watch(clock.deadline(), lambda: not looks.append(clock.now))  # type: ignore[func-returns-value]
    for _ in range(100):
        watch.now_and_then()
        assert watch.sure == (clock.now >= APART)
        clock.now += 0.0625  # which floating point holds exactly
    assert looks == [0.3125, 3.3125]
    assert (sum(clock.slept), watch.repaired) == (0, False)


def test_without_a_wait_the_second_look_waits_itself() -> None:
    """It is made no earlier, also when nobody has waited for name servers; not beyond the deadline."""
    clock = Clock()
    watch = Watch(clock.deadline(), lambda: True)
    clock.now += 0.1
    watch.look()
    assert watch.sure
    assert clock.slept == pytest.approx([APART - 0.1])
    watch = Watch(clock.deadline(0.2), lambda: True)
    clock.now += 0.2
    with pytest.raises(DeadlineError):
        watch.look()


def test_a_repaired_value_is_looked_at_again() -> None:
    """After an addition that was lost and made good another's change may be under way once more."""
    clock, found = Clock(), [False, True]
    watch = Watch(clock.deadline(), lambda: found.pop(0))
    watch.look()
    assert (watch.sure, watch.repaired) == (False, True)
    watch.look()
    assert (watch.sure, watch.repaired) == (True, True)
    assert clock.now == pytest.approx(2 * APART)
