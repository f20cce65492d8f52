"""The wait ends when enough name servers have every value, and not before; who lags is told in time."""

from __future__ import annotations

import errno
import socket
import sys
import threading
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

if sys.version_info < (3, 10):
    pytest.skip("the DNS hooks need Python 3.10", allow_module_level=True)

import dns.flags
import dns.message
import dns.query
import dns.rrset

from certhooks.address import Address
from certhooks.deadline import Deadline
from certhooks.errors import NotServedError, UnreachableError
from certhooks_freeipa_dns.lookup import Server
from certhooks_freeipa_dns.wait import Wanted, until_served

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Start = Callable[..., "Name"]

NAME = "_acme-challenge.www.example.test"
VALUE = Wanted(NAME, "value")
MUTE, FOREIGN, TRUNCATED = "mute", "foreign", "truncated"


def _one_port() -> tuple[socket.socket, socket.socket]:
    """Return sockets of UDP and TCP on one port: somebody else may have the second half of the first that is tried."""
    while True:
        udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        udp.bind(("127.0.0.1", 0))
        try:
            return udp, socket.create_server(udp.getsockname())
        except OSError as e:
            udp.close()
            if e.errno != errno.EADDRINUSE:
                raise


class Name:
    """A name server on UDP (and TCP), which has ``values``; ``asked`` counts its questions."""

    def __init__(self, name: str, values: set[Wanted], kind: str) -> None:
        self.values = set(values)
        self.asked = 0
        self._kind = kind
        self._udp, self._tcp = _one_port()
        for each in (self._udp, self._tcp):
            each.settimeout(0.02)
        self.server = Server(name, Address(*self._udp.getsockname()))
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._answer_udp), threading.Thread(target=self._answer_tcp)]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Let go of the port."""
        self._over.set()
        for thread in self._threads:
            thread.join()
        self._udp.close()
        self._tcp.close()

    def _answer_udp(self) -> None:
        while not self._over.is_set():
            try:
                wire, sender = self._udp.recvfrom(65535)
            except TimeoutError:
                continue
            self.asked += 1
            if self._kind != MUTE:
                self._udp.sendto(self._answer(wire, truncated=self._kind == TRUNCATED), sender)

    def _answer_tcp(self) -> None:
        while not self._over.is_set():
            try:
                connection, _ = self._tcp.accept()
            except TimeoutError:
                continue
            with connection:
                connection.settimeout(1)
                wire = self._answer(dns.query.receive_tcp(connection)[0].to_wire())
                connection.sendall(len(wire).to_bytes(2, "big") + wire)

    def _answer(self, wire: bytes, *, truncated: bool = False) -> bytes:
        query = dns.message.from_wire(wire)
        assert not query.flags & dns.flags.RD
        answer = dns.message.make_response(query)
        if self._kind != FOREIGN:
            answer.flags |= dns.flags.AA
        asked = query.question[0].name.to_text(omit_final_dot=True)
        if truncated:
            answer.flags |= dns.flags.TC
        else:
            answer.answer += [
                dns.rrset.from_text(f"{value.target}.", 60, "IN", "TXT", f'"{value.value}"')
                for value in self.values
                if value.target == asked or value.target.startswith("beside.")
            ]
        return answer.to_wire(max_size=65535)


@pytest.fixture
def start() -> Iterator[Start]:
    """Return what starts name servers."""
    with ExitStack() as hold:

        def make(name: str = "ns.test", values: set[Wanted] | None = None, kind: str = "") -> Name:
            made = Name(name, {VALUE} if values is None else values, kind)
            hold.callback(made.stop)
            return made

        yield make


def wait(*servers: Server | Name, seconds: float = 1.5, require: str = "all", **more: Callable[..., None]) -> list[str]:
    """Wait for one group of servers."""
    group = tuple(each.server if isinstance(each, Name) else each for each in servers)
    return until_served({group: [VALUE]}, Deadline(seconds), require, **more)


def test_a_silent_server_is_told_at_once_and_named_at_the_end(start: Start) -> None:
    """All means all: the others having it does not end the wait, which is no longer than it may be."""
    told: list[str] = []
    began = time.monotonic()
    silent = start("ns2.test", kind=MUTE)
    with pytest.raises(NotServedError, match=r"within 1.5 s: ns2.test \(127.0.0.1:\d+\) does not answer$") as caught:
        wait(start("ns1.test"), silent, tell=told.append)
    assert 1.4 <= time.monotonic() - began < 2.5
    assert any("ns2.test" in line and "does not answer" in line for line in told)
    assert not any("does not answer" in line for line in told[:1])  # not before it had the time to
    assert "--require majority" in str(caught.value.hint)
    assert "replication" in str(caught.value.hint)


@pytest.mark.parametrize(
    ("require", "having", "of", "enough"),
    [("any", 1, 3, True), ("any", 0, 2, False), ("majority", 2, 3, True), ("majority", 1, 3, False),
     ("majority", 1, 2, False), ("majority", 2, 4, False), ("all", 2, 3, False), ("all", 2, 2, True)],
)  # fmt: skip
def test_how_many_are_enough(require: str, having: int, of: int, enough: bool, start: Start) -> None:  # noqa: FBT001
    """Any is one, a majority more than half, all is all."""
    servers = [start(f"ns{n}.test", {VALUE} if n < having else set()) for n in range(of)]
    if enough:
        assert wait(*servers, require=require) == []
    else:
        with pytest.raises(NotServedError, match="does not have the value of _acme-challenge"):
            wait(*servers, require=require, seconds=0.5)


class Unrouted(socket.socket):
    """A socket of a host that has IPv4 alone."""

    def connect(self, address: tuple[str, int]) -> None:  # type: ignore[override]
        """Connect, over IPv4."""
        if ":" in address[0]:
            raise OSError(errno.ENETUNREACH, "Network is unreachable")
        super().connect(address)


def test_an_address_without_a_route_does_not_count_where_its_server_has_it(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That is IPv6, mostly: no wait for it, and a remark; where a server has no other address it does count."""
    monkeypatch.setattr(socket, "socket", Unrouted)
    nowhere = Address("2001:db8::53", 53)
    began = time.monotonic()
    assert wait(start("ns1.test"), Server("ns1.test", nowhere), seconds=5) == [
        "ns1.test ([2001:db8::53]) never answered"
    ]
    assert time.monotonic() - began < 1
    with pytest.raises(NotServedError, match=r"ns2\.test .* network is unreachable"):
        wait(start("ns1.test"), Server("ns2.test", nowhere), seconds=0.5)


def test_a_mute_address_of_a_server_that_has_it(start: Start) -> None:
    """It gets its time, and is then left out with a remark."""
    began = time.monotonic()
    remarks = wait(start("ns1.test"), start("ns1.test", kind=MUTE), seconds=1.2)
    assert time.monotonic() - began >= 1.1
    assert [remark.split(" (")[0] for remark in remarks] == ["ns1.test"]


def test_only_an_authoritative_answer_about_the_name_counts(start: Start) -> None:
    """Not a resolver's, and not a record of another name in the answer."""
    with pytest.raises(NotServedError, match="is not authoritative for the zone"):
        wait(start(kind=FOREIGN), seconds=0.3)
    with pytest.raises(NotServedError, match="does not have the value"):
        wait(start(values={Wanted("beside.test", "value"), Wanted(NAME, "other")}), seconds=0.3)


def test_a_truncated_answer_is_asked_for_again_over_tcp(start: Start) -> None:
    """A name may have many values."""
    values = {Wanted(NAME, f"value-{n}") for n in range(100)} | {VALUE}
    assert wait(start(values=values, kind=TRUNCATED)) == []


def test_a_hundred_and_twenty_names_at_once(start: Start) -> None:
    """They are asked for side by side, each once where it is there; groups of servers have each their own values."""
    many = [Wanted(f"n{n}.test", "v") for n in range(120)]
    one, other = start(values=set(many)), start()
    began = time.monotonic()
    assert until_served({(one.server,): many, (other.server,): [VALUE]}, Deadline(5)) == []
    assert time.monotonic() - began < 3
    assert (one.asked, other.asked) == (120, 1)


def test_the_wait_ends_soon_after_the_last_one_has_it(start: Start) -> None:
    """The pauses grow slowly: after a second the next question is soon."""
    late = start(values=set())
    there = []

    def transfer() -> None:
        there.append(time.monotonic())
        late.values = {VALUE}

    timer = threading.Timer(1.0, transfer)
    timer.start()
    assert wait(start(), late, seconds=5) == []
    assert time.monotonic() - there[0] < 0.6
    timer.join()


def test_what_is_done_in_between_may_end_the_wait(start: Start) -> None:
    """It is done again and again while somebody lags; its failure is the wait's."""
    calls: list[float] = []

    def between() -> None:
        calls.append(time.monotonic())
        if len(calls) == 3:
            raise UnreachableError("gone")

    lagging = start(values=set())
    with pytest.raises(UnreachableError, match="gone"):
        wait(lagging, between=between, seconds=5)
    time.sleep(0.5)
    asked = lagging.asked
    time.sleep(0.5)
    assert lagging.asked == asked  # its thread has ended
