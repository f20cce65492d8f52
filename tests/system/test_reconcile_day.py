"""A day of failures under a clock that runs faster: what it leaves on the disk, and how many people hear of it."""

from __future__ import annotations

import email
import email.policy
import io
import time
from typing import TYPE_CHECKING

import pytest

from certhooks import cli
from certhooks.deadline import Deadline
from certhooks.watch import notify
from certhooks.watch.judge import Limits
from certhooks.watch.reconcile import Reconcile
from certhooks.watch.settings import Settings
from tests.lab import smtp
from tests.lab.pushes import NAME
from tests.lab.smtp import Mailbox

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.lab.panos import Firewall
    from tests.lab.site import Site

EVERY = 300.0  # seconds, as the timer has it
DAY = 86400.0


class FastDay:
    """Reconcile every five minutes for a day, with mail."""

    def __init__(self, site: Site, box: Mailbox, settings: Settings) -> None:
        self.site, self.box, self.settings = site, box, settings
        self.now = time.time() + 1.0
        self.runs = 0
        self.screen = cli.Screen("certhooks", out=io.StringIO(), err=io.StringIO())

    def pass_(self, seconds: float) -> None:
        """Let that much time pass."""
        end = self.now + seconds
        while self.now < end:
            self.now += EVERY
            made = Reconcile(self.site.state, self.screen, Limits(), clock=lambda: self.now)
            outcome = made.run()
            self.runs += len(outcome.ended)
            notify.queue(self.site.state, outcome.overview, self.settings, now=self.now)
            notify.deliver(self.site.state, self.settings, self.screen, Deadline(10))

    def subjects(self) -> list[str]:
        """Return the subjects of the mails, in the order in which they came."""
        contents = [bytes(envelope.original_content or b"") for envelope in self.box.taken]
        return [str(email.message_from_bytes(each, policy=email.policy.default)["Subject"]) for each in contents]

    def bytes_left(self) -> int:
        """Return how many bytes logs, journals and queue hold."""
        files = [path for path in (*self.site.state.rglob("*"), self.site.log) if path.is_file()]
        return sum(path.stat().st_size for path in files)


@pytest.fixture
def day(site: Site, fw: Firewall, monkeypatch: pytest.MonkeyPatch) -> Iterator[FastDay]:
    """Begin a day with a certificate that is in its place, on a host without certmonger."""
    monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", f"unix:path={site.folder}/no-bus")
    site.certificate()
    assert site.instcert_process("-c", NAME, "-p", "GP_PORTAL", fw).code == 0
    box = Mailbox()
    with smtp.serve(box) as server:
        yield FastDay(site, box, Settings(to=("admin@example.test",), server=server, tls="none"))


def test_a_device_that_is_down_all_day(day: FastDay, fw: Firewall) -> None:
    """A renewal that does not arrive all day: some ten tries, one message and one reminder, under 1 MB."""
    fw.listener.stop()
    day.site.certificate()
    day.pass_(DAY)
    assert 8 <= day.runs <= 12
    assert 1 <= len(day.box.taken) <= 2
    assert day.bytes_left() < 1_000_000
    before = day.bytes_left()
    day.pass_(DAY)
    assert day.bytes_left() - before < 20_000, "the second day adds next to nothing"
    assert len(day.box.taken) <= 3
    fw.listener.start()
    runs = day.runs
    day.pass_(DAY)
    assert day.runs - runs <= 3, "repaired, and then looked at once a day"
    assert ": recovered: " in day.subjects()[-1]
    assert [": still critical: " in subject for subject in day.subjects()] == [False, True, True, False]


def test_a_device_that_comes_and_goes(day: FastDay, fw: Firewall) -> None:
    """Down for an hour, up for an hour, a renewal in each: people hear of it, and that it flaps, and then no more."""
    for _ in range(12):
        fw.listener.stop()
        day.site.certificate()
        day.pass_(3600)
        fw.listener.start()
        day.pass_(3600)
    told = [subject.split(": ")[1] for subject in day.subjects()]
    assert told[-2:] == ["warning (flaps)", "critical"], "that it stays down for so long is told once more"
    assert len(day.box.taken) <= 8
    assert day.bytes_left() < 1_000_000
