"""Waiting until the name servers have what was written: each is asked for the value itself, for as long as it takes.

No fixed pause, and no judgement by serial numbers or by "the primary": FreeIPA's servers each have their own. Every
address is asked by a thread of its own, without recursion, and only an authoritative answer counts.
"""

from __future__ import annotations

import errno
import select
import socket
import threading
import time
from typing import TYPE_CHECKING, Callable, NamedTuple

import dns.exception
import dns.flags
import dns.message
import dns.query
import dns.rdatatype

from certhooks.deadline import growing
from certhooks.errors import NotServedError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from certhooks.deadline import Deadline
    from certhooks_freeipa_dns.lookup import Server

_FIRST, _LONGEST, _GROWTH = 0.1, 2.0, 1.05  # the pause is a tenth of a second and a twentieth of the time so far
_ANSWER = 1.0  # seconds for the answers to one round of questions
_AT_ONCE = 50  # questions on their way to one server
_BIGGEST = 65535
_SHOWN = 6


class Wanted(NamedTuple):
    """One value that a name has to have."""

    target: str
    value: str


class _Watch:
    """One server address and the values that it has not shown yet."""

    def __init__(self, server: Server, wanted: Sequence[Wanted]) -> None:
        self.server = server
        self.missing = frozenset(wanted)  # replaced and never changed: other threads look at it
        self.answered = False
        self.routed = True
        self.reason = "has not answered yet"

    def look(self, timeout: float) -> None:
        """Ask for what is missing, and keep what is still missing."""
        for values in _batches(sorted(self.missing)):
            if not self._round(values, timeout):
                return  # it is silent: do not wait for it as often as there are names

    def _round(self, values: Sequence[Wanted], timeout: float) -> bool:
        host, port = self.server.address
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        questions = {}
        for target in dict.fromkeys(wanted.target for wanted in values):
            query = dns.message.make_query(f"{target}.", dns.rdatatype.TXT, use_edns=0, payload=1232)
            query.flags &= ~dns.flags.RD
            questions[query.id] = query
        heard = False
        try:
            with socket.socket(family, socket.SOCK_DGRAM) as udp:
                udp.setblocking(False)  # noqa: FBT003  the socket's own way to say it
                udp.connect((host, port))
                for query in questions.values():
                    udp.send(query.to_wire())
                end = time.monotonic() + timeout
                while questions and select.select([udp], [], [], max(0.0, end - time.monotonic()))[0]:
                    heard = self._heard(udp.recv(_BIGGEST), questions, timeout) or heard
        except OSError as e:
            self.reason = (e.strerror or type(e).__name__).lower()
            self.routed = e.errno not in {errno.ENETUNREACH, errno.EHOSTUNREACH, errno.EADDRNOTAVAIL}
            return False
        if not heard and not self.answered:
            self.reason = "does not answer"
        return heard

    def _heard(self, wire: bytes, questions: dict[int, dns.message.QueryMessage], timeout: float) -> bool:
        try:
            answer = dns.message.from_wire(wire, ignore_trailing=True)
            query = questions.get(answer.id)
            if query is None or not query.is_response(answer):
                return False
            if answer.flags & dns.flags.TC:
                answer = dns.query.tcp(query, self.server.address.host, timeout, self.server.address.port)
        except (dns.exception.DNSException, OSError, ValueError, EOFError):
            return False
        del questions[query.id]
        self.answered = True
        if not answer.flags & dns.flags.AA:
            self.reason = "is not authoritative for the zone"
            return True
        self.reason = "does not have the value"
        for rrset in answer.answer:
            if rrset.rdtype == dns.rdatatype.TXT:
                owner = rrset.name.to_text(omit_final_dot=True).lower()
                there = {Wanted(owner, b"".join(rdata.strings).decode("latin-1")) for rdata in rrset}
                self.missing = self.missing - there
        return True


def until_served(
    wanted: Mapping[tuple[Server, ...], Sequence[Wanted]],
    deadline: Deadline,
    require: str = "all",
    *,
    tell: Callable[[str], None] = lambda _text: None,
    between: Callable[[], None] = lambda: None,
) -> list[str]:
    """Return when the servers have the values; what it returns are remarks about servers that never answered.

    Args:
        wanted: the values that each group of server addresses has to have.
        deadline: for this wait.
        require: ``all``, ``majority`` or ``any`` of the addresses of each group.
        tell: is told who lags, whenever that changes.
        between: called now and then, in the caller's thread; what it raises ends the wait.

    Raises:
        NotServedError: exit code 14, naming who lags and why, when the deadline is over.
    """
    groups = [[_Watch(server, values) for server in servers] for servers, values in wanted.items()]
    stop, changed = threading.Event(), threading.Event()
    threads = [
        threading.Thread(target=_watch, args=(watch, deadline, stop, changed), daemon=True)
        for group in groups
        for watch in group
    ]
    for thread in threads:
        thread.start()
    last = ""
    try:
        while not all(_enough(group, require) for group in groups):
            if deadline.remaining() <= 0:
                break
            changed.wait(min(1.0, deadline.remaining()))
            changed.clear()
            lagging = _lagging(groups)
            if lagging and lagging != last:
                tell(f"waiting for {lagging}")
                last = lagging
            between()
    finally:
        stop.set()
    remarks = [f"{watch.server} never answered" for group in groups for watch in group if _dead(watch, group)]
    if all(_enough(group, require, bury=True) for group in groups):
        return remarks
    raise NotServedError(
        f"not on every name server within {deadline.seconds:g} s: {_lagging(groups)}",
        hint="look at the replication or the zone transfer to it; --nameserver names the servers that count, --wait "
        "SECONDS gives them more time, --require majority is content with fewer",
    )


def _watch(watch: _Watch, deadline: Deadline, stop: threading.Event, changed: threading.Event) -> None:
    for pause in growing(_FIRST, _LONGEST, _GROWTH):
        watch.look(max(0.05, min(_ANSWER, deadline.remaining())))
        changed.set()
        if not watch.missing or stop.wait(min(pause, deadline.remaining())) or deadline.remaining() <= 0:
            break
    changed.set()


def _enough(group: Sequence[_Watch], require: str, *, bury: bool = False) -> bool:
    """Tell whether enough of a group's addresses have everything.

    Those without a route from here are left out, ``bury`` leaves out all that are dead.
    """
    counted = [watch for watch in group if not (_dead(watch, group) and (bury or not watch.routed))]
    done = sum(not watch.missing for watch in counted)
    needed = {"any": 1, "majority": len(counted) // 2 + 1}.get(require, len(counted))
    return done >= needed


def _dead(watch: _Watch, group: Sequence[_Watch]) -> bool:
    """Tell whether an address never answered although its server has everything at another: IPv6, mostly."""
    return (
        bool(watch.missing)
        and not watch.answered
        and any(not other.missing for other in group if other.server.name == watch.server.name)
    )


def _lagging(groups: Sequence[Sequence[_Watch]]) -> str:
    lagging = [watch for group in groups for watch in group if watch.missing]
    told = [f"{watch.server} {watch.reason}{_which(watch)}" for watch in lagging[:_SHOWN]]
    return ", ".join(told) + (f", and {len(lagging) - _SHOWN} more" if len(lagging) > _SHOWN else "")


def _which(watch: _Watch) -> str:
    targets = sorted({wanted.target for wanted in watch.missing})
    if not watch.answered:
        return ""
    return f" of {targets[0]}" + (f" and {len(targets) - 1} more" if len(targets) > 1 else "")


def _batches(values: Sequence[Wanted]) -> list[Sequence[Wanted]]:
    return [values[at : at + _AT_ONCE] for at in range(0, len(values), _AT_ONCE)]
