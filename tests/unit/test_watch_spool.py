"""The queue: nothing is lost, nothing is sent for ever, nothing grows without an end."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from certhooks.deadline import Deadline
from certhooks.errors import BusyError, StateError, UnreachableError
from certhooks.watch import message as messages
from certhooks.watch import spool as spool_module
from certhooks.watch.channel import RefusedError
from certhooks.watch.model import Finding, Level, Overview, Placement, Watched
from certhooks.watch.news import Told, changes
from certhooks.watch.spool import MAX_BYTES, MAX_MESSAGES, Spool

if TYPE_CHECKING:
    from certhooks.watch.message import Message

ROOT = Path(__file__).resolve().parents[2]
NOW = 1_800_000_000.0
HOUR, DAY = 3600.0, 86400.0


def message(name: object, body: str = "text") -> Message:
    """Make a message."""
    return messages.make(f"key.{name}", messages.FAILURE, f"subject {name}", body, NOW, host="h.test", about=["a"])


class Post:
    """A channel that takes what it is given, unless it is told to fail."""

    def __init__(self, name: str = "post", *, down: bool = False) -> None:
        self.name, self.down = name, down
        self.refuses: set[str] = set()
        self.tries = 0
        self.got: list[str] = []
        self.bodies: list[str] = []

    def send(self, message: Message, deadline: Deadline) -> None:
        self.tries += 1
        deadline.check("sending")
        if self.down:
            raise UnreachableError(f"{self.name} is down")
        if message.key in self.refuses:
            raise RefusedError("not this one")
        self.got.append(message.key.removeprefix("key."))
        self.bodies.append(message.body)


class Clock:
    """Seconds since the epoch, as the test has them."""

    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    """Make a clock that stands."""
    return Clock()


@pytest.fixture
def spool(tmp_path: Path, clock: Clock) -> Spool:
    """Make an empty queue."""
    return Spool(tmp_path / "state", clock=clock)


def soon() -> Deadline:
    """Return a deadline that nothing here reaches."""
    return Deadline(30)


def files(spool: Spool) -> list[Path]:
    """Return the queue's files."""
    return sorted(spool.folder.glob("*.json"))


def test_a_message_goes_once_every_channel_took_it(spool: Spool) -> None:
    """Oldest first, to each channel once; it leaves the disk when the last channel took it, and files are private."""
    one, two = Post("one"), Post("two", down=True)
    spool.add(message(n) for n in range(3))
    assert (spool.folder.stat().st_mode & 0o777, {path.stat().st_mode & 0o777 for path in files(spool)}) == (
        0o700,
        {0o600},
    )
    (error,) = spool.deliver([one, two], soon())
    assert isinstance(error, UnreachableError)
    assert (one.got, two.got, two.tries) == (["0", "1", "2"], [], 1)
    two.down = False
    assert spool.deliver([one, two], soon(), force=True) == []
    assert (one.got, two.got, spool.queued()) == (["0", "1", "2"], ["0", "1", "2"], [])
    assert files(spool) == []


def test_the_same_message_is_queued_once(spool: Spool) -> None:
    """What a killed run made and queued is not queued again by the next one, which makes the same."""
    spool.add([message(1)])
    spool.add([message(1), message(2), message(2)])
    assert [one.key for one in spool.queued()] == ["key.1", "key.2"]
    assert spool.queued()[0] == message(1)


def test_a_channel_that_fails_is_left_alone_for_longer_and_longer(spool: Spool, clock: Clock) -> None:
    """5 minutes, then twice as long, up to 4 hours; success begins anew; others do not wait for it."""
    post, other = Post(down=True), Post("other")
    spool.add([message(0)])
    tried = []
    for minute in range(24 * 60):
        before = post.tries
        spool.deliver([post, other], soon())
        if post.tries > before:
            tried.append(minute)
        clock.now += 60
    assert [b - a for a, b in zip(tried, tried[1:])] == [5, 10, 20, 40, 80, 160, 240, 240, 240, 240]
    assert other.got == ["0"]
    post.down = False
    clock.now += 4 * HOUR
    assert spool.deliver([post, other], soon()) == []
    spool.add([message(1)])
    post.down = True
    spool.deliver([post, other], soon())
    tries = post.tries
    clock.now += 301
    spool.deliver([post, other], soon())
    assert post.tries == tries + 1


@pytest.mark.parametrize("jump", [-365 * DAY, -HOUR, -5 * HOUR])
def test_a_clock_that_jumps_back_keeps_no_channel_waiting(spool: Spool, clock: Clock, jump: float) -> None:
    """A pause that a wrong clock wrote ends at once: it would last a year."""
    post = Post(down=True)
    spool.add([message(0)])
    for _ in range(8):
        spool.deliver([post], soon(), force=True)
    clock.now += jump
    post.down = False
    assert spool.deliver([post], soon()) == []
    spool.add([message(1)])
    assert spool.deliver([post], soon()) == []
    assert post.got == ["0", "1"]


def test_a_refused_message_is_in_no_others_way_and_given_up_in_time(spool: Spool, clock: Clock) -> None:
    """What a channel refuses for good is tried five times, between pauses, while the others go through."""
    post = Post()
    post.refuses = {"key.0"}
    spool.add([message(0), message(1)])
    for n in range(5):
        assert [type(error) for error in spool.deliver([post], soon())] == [RefusedError], n
        assert spool.deliver([post], soon()) == []
        clock.now += 5 * HOUR
    assert (post.got, post.tries) == (["1"], 6)
    assert spool.deliver([post], soon()) == []
    assert files(spool) == []


def test_what_is_too_much_becomes_one_note(spool: Spool) -> None:
    """The queue holds 200 messages; the oldest become one note that counts them, to be delivered first."""
    for start in range(0, 500, 50):
        spool.add(message(n) for n in range(start, start + 50))
        assert len(files(spool)) <= MAX_MESSAGES
    post = Post()
    assert spool.deliver([post], soon()) == []
    assert len(post.got) == MAX_MESSAGES
    assert post.got[0].endswith(".dropped")
    assert "301 earlier messages were dropped" in post.bodies[0]
    assert post.bodies[0].count("subject") == 20
    assert post.got[1:] == [str(n) for n in range(301, 500)]
    assert files(spool) == []


def test_bytes_are_bounded_too(spool: Spool) -> None:
    """Long messages count by their length."""
    for start in range(0, 300, 20):
        spool.add(message(n, "x" * 100_000) for n in range(start, start + 20))
    assert sum(path.stat().st_size for path in spool.folder.iterdir()) <= MAX_BYTES
    assert len(spool.queued()) > 100


def test_a_note_goes_to_those_who_have_not_taken_all(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    """A channel that took every message is not told that some were dropped."""
    monkeypatch.setattr(spool_module, "MAX_MESSAGES", 3)
    up, down = Post("up"), Post("down", down=True)
    for n in range(6):
        spool.add([message(n)])
        spool.deliver([up, down], soon())
    assert up.got == [str(n) for n in range(6)]
    down.down = False
    spool.deliver([up, down], soon(), force=True)
    assert down.got[0].endswith(".dropped")
    assert down.got[1:] == ["4", "5"]
    assert up.got == [str(n) for n in range(6)]


def test_damaged_files_are_set_aside_and_told(spool: Spool) -> None:
    """Whatever stands in a file, the others are delivered; five damaged ones are kept, and each is told once."""
    spool.add(message(n) for n in range(12))
    paths = files(spool)
    good = json.loads(paths[0].read_text())
    bad: list[Any] = [
        "",
        "[" * 100_000,
        "\0",
        "[]",
        json.dumps({**good, "taken": [1]}),
        json.dumps({**good, "message": {**good["message"], "at": "now"}}),
        json.dumps({**good, "message": {**good["message"], "more": 1}}),
        json.dumps({**good, "refused": {"a": "b"}}),
        "x" * 300_000,
    ]
    for path, text in zip(paths, bad):
        path.write_text(text)
    (spool.folder / "README.json").write_text("not ours")
    post = Post()
    failed = spool.deliver([post], soon())
    assert [type(error) for error in failed] == [StateError] * len(bad)
    assert post.got == ["9", "10", "11"]
    assert len(list(spool.folder.glob("*.damaged"))) == 5
    assert spool.deliver([post], soon()) == []


def test_a_message_in_a_file_is_held_to_what_we_send(spool: Spool) -> None:
    """A changed file cannot begin a header or make a mail without an end."""
    spool.add([message(0)])
    (path,) = files(spool)
    stored = json.loads(path.read_text())
    stored["message"]["subject"] = "a\r\nBcc: x@example.com" + "x" * 10_000
    path.write_text(json.dumps(stored))
    (made,) = spool.queued()
    assert "\n" not in made.subject
    assert len(made.subject) <= 180


def test_damaged_pauses_are_no_pauses(spool: Spool) -> None:
    """The worst that a damaged file of pauses does is a try too early."""
    post = Post()
    for text in ("", "[]", '{"post": 1}', '{"post": [1, 2, "x"]}', '{"post": [1e999, 1, 1]}', "\xff"):
        spool.add([message(text)])
        (spool.folder / "channels.json").write_text(text)
        assert spool.deliver([post], soon()) == []
    assert len(post.got) == 6


def test_the_end_of_the_time_is_no_fault_of_the_channel(spool: Spool) -> None:
    """What is left waits for the next run, which begins at once."""

    class Slow(Post):
        def send(self, message: Message, deadline: Deadline) -> None:
            super().send(message, deadline)
            deadline.interrupt()

    slow = Slow()
    spool.add(message(n) for n in range(3))
    (error,) = spool.deliver([slow], soon())
    assert error.exit_code == 16
    assert slow.got == ["0"]
    spool.deliver([slow], soon())
    assert slow.got == ["0", "1"]


def test_while_one_delivers_another_adds_and_a_second_waits(spool: Spool, tmp_path: Path) -> None:
    """Adding waits for no mail server; a second delivery waits, and says so when its time is over."""
    inside, go_on = threading.Event(), threading.Event()

    class Held(Post):
        def send(self, message: Message, deadline: Deadline) -> None:
            inside.set()
            assert go_on.wait(10)
            super().send(message, deadline)

    held, second = Held(), Spool(tmp_path / "state")
    spool.add([message(0)])
    thread = threading.Thread(target=spool.deliver, args=([held], soon()))
    thread.start()
    try:
        assert inside.wait(10)
        second.add([message(1)])
        with pytest.raises(BusyError):
            second.deliver([Post()], Deadline(0.1))
    finally:
        go_on.set()
        thread.join()
    assert held.got == ["0"]
    assert [one.key for one in second.queued()] == ["key.1"]


def test_what_is_folded_while_it_is_sent_is_not_marked(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    """A note that takes the place of a message that is being sent is sent too: it tells of others."""
    monkeypatch.setattr(spool_module, "MAX_MESSAGES", 2)

    class Crowded(Post):
        def send(self, message: Message, deadline: Deadline) -> None:
            if not self.got:
                spool.add([globals()["message"](n) for n in range(1, 4)])
            super().send(message, deadline)

    crowded = Crowded()
    spool.add([message(0)])
    spool.deliver([crowded], soon())
    spool.deliver([crowded], soon())
    assert crowded.got[0] == "0"
    assert crowded.got[1].endswith(".dropped")
    assert crowded.got[2:] == ["3"]


def test_without_a_channel_nothing_is_deleted(spool: Spool) -> None:
    """Nobody took it."""
    spool.add([message(0)])
    assert spool.deliver([], soon()) == []
    assert len(spool.queued()) == 1


def test_a_queue_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    """A file in the folder's place, or a folder that others can enter, is one clear error."""
    (tmp_path / "spool").write_text("")
    with pytest.raises(StateError):
        Spool(tmp_path)
    other = tmp_path / "other"
    (other / "spool").mkdir(parents=True, mode=0o755)
    with pytest.raises(StateError, match="open to others"):
        Spool(other)


SENDER = """
import sys, time
from pathlib import Path
from certhooks.deadline import Deadline
from certhooks.watch.spool import Spool
class Box:
    name = "box"
    def send(self, message, deadline):
        with open(sys.argv[2], "a") as file:
            file.write(message.key + "\\n")
Spool(Path(sys.argv[1])).deliver([Box()], Deadline(30))
"""


def test_kill_9_loses_nothing(tmp_path: Path) -> None:
    """Killed at any moment of a delivery, over and over: every message arrives, few twice, and the queue ends empty."""
    state, box = tmp_path / "state", tmp_path / "box"
    box.touch()
    spool = Spool(state)
    spool.add(message(n) for n in range(60))
    kills, pause = 0, 0.0
    words = [sys.executable, "-c", SENDER, str(state), str(box)]
    while spool.queued():
        before = box.stat().st_size
        process = subprocess.Popen(words, cwd=ROOT, env={"PYTHONPATH": "lib/src"})
        while box.stat().st_size == before and process.poll() is None:
            time.sleep(0.0005)
        time.sleep(pause % 0.1)
        pause += 0.0137
        process.kill()
        process.wait()
        kills += 1
    got = box.read_text().split()
    assert set(got) == {f"key.{n}" for n in range(60)}
    assert 3 < kills < 60
    assert len(got) <= 60 + kills
    assert files(spool) == []


class Fleet:
    """A day of devices, seen every five minutes, told to channels, with one clock for all."""

    def __init__(self, folder: Path, channels: list[Post], size: int = 120) -> None:
        self.names = [f"fw{n:03d}.test" for n in range(size)]
        self.clock, self.told, self.channels = Clock(), Told(), channels
        self.spool = Spool(folder / "state", clock=self.clock)
        self.made = 0
        self.most = 0

    def see(self, wrong: dict[str, str]) -> None:
        """Show the devices that are in trouble, and deliver."""
        placements = tuple(
            Placement(f"pan {name}", name, findings=(Finding(Level.CRITICAL, "behind", text, "certhooks reconcile"),))
            if (text := wrong.get(name))
            else Placement(f"pan {name}", name)
            for name in self.names
        )
        seen = Overview(self.clock.now, "h.test", (Watched("gp.test", "1", "certmonger", placements=placements),))
        new, self.told = changes(seen, self.told, self.clock.now)
        self.made += len(new)
        self.spool.add(new)
        self.spool.deliver(self.channels, soon())
        self.most = max(self.most, sum(path.stat().st_size for path in self.spool.folder.iterdir()))
        self.clock.now += 300


def test_a_day_of_failures_is_a_handful_of_messages(tmp_path: Path) -> None:
    """One fails all day, one flaps every five minutes, 100 fail together for an hour, the mail is down till evening."""
    mail, pager = Post("mail", down=True), Post("pager")
    fleet = Fleet(tmp_path, [mail, pager])
    for step in range(288):
        wrong = {"fw000.test": f"not installed: attempt {step} failed"}
        if step % 2:
            wrong["fw001.test"] = "not installed: it comes and goes"
        if 100 <= step < 112:
            wrong.update({f"fw{n:03d}.test": "not installed: no route" for n in range(10, 110)})
        mail.down = step < 250
        fleet.see(wrong)
    fleet.see({"fw000.test": "still"})
    for _ in range(60):
        fleet.see({})
    assert len(pager.got) == fleet.made <= 10, pager.bodies
    assert sum(map(len, pager.bodies)) < 20_000
    assert mail.got == pager.got
    assert mail.tries - len(mail.got) <= 12
    assert fleet.most < 64_000
    assert fleet.spool.queued() == []
    assert fleet.told.things == {} or all(not thing.since for thing in fleet.told.things.values())


@pytest.mark.parametrize("period", [1, 2, 5, 13, 40, 47, 50, 61, 97])
def test_whatever_the_beat_of_a_flapping_target_a_week_is_bounded(tmp_path: Path, period: int) -> None:
    """Toggling every 5 minutes to every 8 hours gives at most 8 messages a day, and the last word is the truth."""
    post = Post()
    fleet = Fleet(tmp_path, [post], size=2)
    for step in range(7 * 288):
        fleet.see({"fw000.test": "not installed"} if (step // period) % 2 else {})
    assert fleet.made <= 8 * 7
    for _ in range(60):
        fleet.see({})
    assert "well" in post.bodies[-1]
    before = fleet.made
    for _ in range(60):
        fleet.see({"fw000.test": "not installed"})
    assert fleet.made > before
    assert "not installed" in post.bodies[-1]
