"""What is told to people: each change of state once, joined, bounded, whatever names and texts are in it."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from certhooks.errors import StateError
from certhooks.secrets import Secret
from certhooks.watch import message as messages
from certhooks.watch import news, told
from certhooks.watch.model import DAY, Finding, Leaf, Level, Overview, Placement, Sight, Watched
from certhooks.watch.news import Told, changes

if TYPE_CHECKING:
    from pathlib import Path

NOW = 1_800_000_000.0
HOUR = 3600.0
BEHIND = Finding(Level.CRITICAL, "behind", "not installed: fw01 does not answer", "certhooks reconcile")
SILENT = Finding(Level.WARNING, "silent", "fw01.example.com:443 does not answer: timed out")
REFUSED = Finding(Level.WARNING, "ca", "not renewed: the CA says no", "ask the CA's people")
DOWN = Finding(Level.CRITICAL, "certmonger", "certmonger does not answer", "systemctl start certmonger")


def leaf(days: float, life: float = 90.0, at: float = NOW) -> Leaf:
    """Make a certificate with that many days left."""
    return Leaf("ab" * 32, "gp.example.com", at + (days - life) * DAY, at + days * DAY)


def target(*findings: Finding, name: str = "fw01.example.com", **more: Any) -> Placement:
    """Make a target with what is wrong with it."""
    command = ("pan_instcert", "-c", "gp.example.com", name, "a b")
    return Placement(f"pan {name}:443", name, command=command, findings=findings, **more)


def overview(*placements: Placement, own: tuple[Finding, ...] = (), host: tuple[Finding, ...] = ()) -> Overview:
    """Make an overview of one certificate."""
    watched = Watched("gp.example.com", "20260101", "certmonger", leaf(60), findings=own, placements=placements)
    return Overview(NOW, "ipa-client.example.com", (watched,), host)


class Story:
    """Overviews one after the other, with what is told of each."""

    def __init__(self) -> None:
        self.told, self.now = Told(), NOW
        self.messages: list[news.Message] = []

    def __call__(self, seen: Overview, hours: float = 0.25, **more: Any) -> list[str]:
        """Show an overview some hours later; returns kinds and subjects without the host."""
        self.now += hours * HOUR
        new, self.told = changes(seen, self.told, self.now, **more)
        self.messages += new
        return [f"{one.kind} {one.subject.partition(': ')[2]}" for one in new]


@pytest.fixture
def story() -> Story:
    """Begin with nothing told."""
    return Story()


def test_what_is_well_is_never_told(story: Story) -> None:
    """A fresh start, and any number of runs after it, give no message where nothing is wrong."""
    assert [story(overview(target())) for _ in range(5)] == [[]] * 5
    assert story.told.things == {}


def test_one_message_a_change_of_state(story: Story) -> None:
    """A failure is told once, whatever its words and however often it is seen; so is that it is over, and how long."""
    assert story(overview(target(SILENT))) == []  # a warning that goes away by itself
    told_now = story(overview(target(BEHIND)))
    assert told_now == ["failure critical: gp.example.com on fw01.example.com: not installed: fw01 does not answer"]
    other = BEHIND._replace(text="not installed: connection refused")
    assert [story(overview(target(one))) for one in (BEHIND, other, other._replace(kind="differs"))] == [[]] * 3
    assert story(overview(target(SILENT))) == []  # not well yet
    assert story(overview(target(running=True))) == []  # nor while a run is under way
    assert story(overview(target())) == [
        "recovery recovered: gp.example.com on fw01.example.com: all is well again after 1 h 30 min"
    ]
    assert "it was:   fw01.example.com:443 does not answer" in story.messages[-1].body
    assert story(overview(target())) == []


def test_a_warning_that_needs_a_person_is_told_and_again_when_it_gets_critical(story: Story) -> None:
    """Warning to critical is news; back and forth within the same trouble without an end is one more at most."""
    assert story(overview(own=(REFUSED,))) == ["failure warning: gp.example.com: not renewed: the CA says no"]
    assert story(overview(own=(REFUSED,))) == []
    worse = REFUSED._replace(level=Level.CRITICAL)
    assert len(story(overview(own=(worse,)))) == 1
    assert story(overview(own=(REFUSED,))) == []
    assert story(overview())[0].startswith("recovery recovered: gp.example.com: all is well")


def test_another_kind_of_trouble_is_news(story: Story) -> None:
    """What has another cause and another remedy is told, though the target was in trouble before."""
    story(overview(target(BEHIND)))
    conflict = Finding(Level.CRITICAL, "conflict", "another certificate is to go to the same place")
    assert story(overview(target(conflict, BEHIND))) == [
        "failure critical: gp.example.com on fw01.example.com: another certificate is to go to the same place"
    ]
    assert "also:     not installed" in story.messages[-1].body


def test_many_at_once_are_one_message_of_bounded_length(story: Story) -> None:
    """A hundred devices of a site are one message: 20 are named, the rest counted; so is their recovery."""
    names = [f"fw{n:03d}.example.com" for n in range(100)]
    assert len(story(overview(*(target(BEHIND, name=name) for name in names)))) == 1
    failed = story.messages[-1]
    assert "100 targets: gp.example.com on fw000.example.com, gp.example.com on fw001.example.com and 98 more" in (
        failed.subject
    )
    assert sum(name in failed.body for name in names) == 20
    assert "... and 80 more." in failed.body
    assert len(failed.about) == 20
    assert len(failed.body) < 10_000
    assert story(overview(*(target(BEHIND, name=name) for name in names))) == []
    assert len(story(overview(*(target(name=name) for name in names)))) == 1


def test_thresholds_of_expiry_are_told_once_each(story: Story) -> None:
    """At the warning, at critical, a day before, and expired; then renewed. Nothing in between."""
    said = []
    for hours in range(30 * 24, -48, -6):
        left = hours / 24
        level = Level.CRITICAL if left <= 7 else Level.WARNING
        kind = "expired" if left <= 0 else "expiring"
        findings = () if left > 14 else (Finding(level, kind, f"the certificate expires in {left:.2f} days"),)
        one = Watched(
            "gp.example.com", "20260101", "certmonger", leaf(left, at=story.now + 6 * HOUR), findings=findings
        )
        said += [(left, text) for text in story(Overview(NOW, "h", (one,)), 6, reminder=0)]
    assert [(left, text.split()[:2]) for left, text in said] == [
        (14.0, ["expiry", "warning:"]),
        (7.0, ["expiry", "critical:"]),
        (1.0, ["expiry", "critical:"]),
        (0.0, ["expiry", "critical:"]),
    ]
    assert [text.split()[0] for text in story(overview())] == ["recovery"]


def test_the_last_day_of_a_short_life_is_shorter(story: Story) -> None:
    """A certificate for 16 hours is in its last eighth from 2 hours before its end on."""
    said = []
    for left in (3.0, 2.1, 1.9, 0.5):
        one = leaf(left / 24, 16 / 24, at=story.now + 0.25 * HOUR)
        finding = Finding(Level.CRITICAL, "expiring", "soon")
        said.append(len(story(Overview(NOW, "h", (Watched("a.test", "1", "file", one, findings=(finding,)),)))))
    assert said == [1, 0, 1, 0]


def test_what_flaps_is_told_to_flap_and_then_left_alone(story: Story) -> None:
    """Four changes within a day are told, the fourth as flapping; then silence until 4 steady hours have passed."""
    said = []
    for _ in range(10):
        said += story(overview(target(BEHIND)), 0.5)
        said += story(overview(target()), 0.5)
    assert [text.split(":")[0] for text in said] == [
        "failure critical",
        "recovery recovered",
        "failure critical",
        "failure warning (flaps)",
    ]
    assert "comes and goes" in said[-1]
    assert [story(overview(target()), 1) for _ in range(3)] == [[]] * 3
    assert story(overview(target()), 1) == [
        "recovery recovered: gp.example.com on fw01.example.com: has been steady for some hours: all is well"
    ]
    assert story(overview(target())) == []
    story(overview(target(BEHIND)))
    assert story.messages[-1].kind == "failure"


def test_what_flaps_and_stays_bad_is_told_so(story: Story) -> None:
    """The message after the steady hours says what is wrong; what gets worse than ever told is not held back."""
    warning = Finding(Level.WARNING, "ca", "not renewed: no")
    for _ in range(3):
        story(overview(own=(warning,)))
        story(overview())
    assert len(story.messages) == 4
    assert story(overview(own=(warning,))) == []
    worse = warning._replace(level=Level.CRITICAL)
    assert story(overview(own=(worse,))) == ["failure critical: gp.example.com: not renewed: no"]
    story(overview())
    assert story(overview(own=(worse,))) == []
    stays = "failure critical: gp.example.com: it came and went, and now has been so for half an hour: not renewed: no"
    assert [story(overview(own=(worse,)), 1) for _ in range(3)] == [[stays], [], []], "who has a pager waits no hours"
    assert story(overview(own=(worse,)), 1) == [
        "failure critical: gp.example.com: has been steady for some hours: not renewed: no"
    ]


def test_a_reminder_a_day_of_what_stays_critical(story: Story) -> None:
    """One message a day for all of it together; none where that is switched off, and none for warnings."""
    seen = overview(target(BEHIND), target(BEHIND, name="fw02.example.com"), own=(REFUSED,))
    said = [text for _ in range(4 * 24 * 3 + 2) for text in story(seen)]
    assert len(said) == 1 + 3
    assert all(text.startswith("failure still critical: 2 targets: ") for text in said[1:])
    other = Story()
    assert sum(len(other(seen, reminder=0)) for _ in range(4 * 24 * 3)) == 1
    weekly = Story()
    assert sum(len(weekly(seen, 12, reminder=7 * DAY)) for _ in range(2 * 15)) == 1 + 2


def test_what_is_not_watched_any_more_ends(story: Story) -> None:
    """Trouble that was told ends with a word that nobody watches it now; what was well ends without one."""
    story(overview(target(BEHIND), target(name="fw02.example.com")))
    assert story(overview()) == [
        "recovery over: gp.example.com on fw01.example.com: is not watched any more after 15 min of trouble"
    ]
    assert story(overview()) == []
    assert story.told.things == {}


def test_what_cannot_be_seen_has_not_ended(story: Story) -> None:
    """With certmonger down one message says that, and troubles that are out of sight are neither over nor new later."""
    story(overview(target(BEHIND)))
    assert story(Overview(NOW, "h", (), (DOWN,))) == ["failure critical: h: certmonger does not answer"]
    assert story(Overview(NOW, "h", (), (DOWN,))) == []
    once = Watched("gp.example.com", "pushed once", "journal", placements=(target(),))
    assert story(Overview(NOW, "h", (once,), (DOWN,))) == []  # as the journal alone has it, the target looks well
    assert story(Overview(NOW, "h", (once,), (DOWN,)), 10) == []
    assert story(replace(overview(target(BEHIND)), host="h")) == [
        "recovery recovered: h: all is well again after 10 h 45 min"
    ]
    assert story(overview(target(BEHIND))) == []
    assert story(overview(target()))[0].startswith("recovery recovered: gp.example.com on fw01")


def test_two_requests_for_one_target_show_the_worse(story: Story) -> None:
    """Of two certificates of one name on one target, one that is well does not hide the other."""
    seen = overview(target(BEHIND))
    twice = replace(seen, watched=(*seen.watched, replace(seen.watched[0], source="2", placements=(target(),))))
    assert len(story(twice)) == 1
    assert story(replace(twice, watched=twice.watched[::-1])) == []
    assert story(seen) == []


def test_a_clock_that_jumps_back_does_no_harm(story: Story) -> None:
    """After a year back there is still one message a change, flapping ends, and reminders come."""
    story(overview(target(BEHIND)))
    for _ in range(2):
        story(overview(target()))
        story(overview(target(BEHIND)))
    assert story(overview(target(BEHIND)), -365 * 24) == []
    assert [story(overview(target(BEHIND)), 1) for _ in range(4)][-1][0].startswith("failure critical")
    assert sum(len(story(overview(target(BEHIND)), 1)) for _ in range(49)) == 2
    assert story(overview(target()))[0].startswith("recovery")


def test_changes_of_a_clock_that_was_ahead_do_not_count_for_ever(story: Story) -> None:
    """What was told in a year that has not come yet counts for a day, not until that year is over."""
    for _ in range(3):
        story(overview(target(BEHIND)))
        story(overview(target()), 30)
    story(overview(target(BEHIND)))
    story(overview(target()))
    story(overview(target()), -365 * 24)
    said = [text for each in (target(BEHIND), target()) * 3 for text in story(overview(each), 72)]
    assert len(said) == 6
    assert not [text for text in said if "flaps" in text]


def test_the_same_state_gives_the_same_keys(story: Story) -> None:
    """A run that was killed before it wrote down what was told makes the same messages again; later ones differ."""
    story(overview())
    before = story.told
    (first,), after = changes(overview(target(BEHIND)), before, NOW)
    assert changes(overview(target(BEHIND)), before, NOW)[0][0].key == first.key
    _, well = changes(overview(target()), after, NOW)
    assert changes(overview(target(BEHIND)), well, NOW)[0][0].key != first.key


def test_a_message_says_all_that_a_person_needs(story: Story) -> None:
    """What, where, since when, what is tracked and served with days left, the error, what to type, the next try."""
    fw = target(
        BEHIND,
        served=(Sight("fw01.example.com:443", "192.0.2.1", leaf(3)._replace(fingerprint="cd" * 32)),),
        failure="fw01 does not answer within 30 s",
        next_try=NOW + HOUR,
    )
    story(overview(fw), 0)
    body = story.messages[0].body
    for part in (
        "CRITICAL: gp.example.com on fw01.example.com: not installed",
        "since:    2027-01-15 08:00 UTC",
        f"tracked:  gp.example.com sha256:{'ab' * 8}..., until 2027-03-16 08:00 UTC, 60.0 days left",
        f"served:   fw01.example.com:443 (192.0.2.1): gp.example.com sha256:{'cd' * 8}..., until ",
        "3.0 days left",
        "error:    fw01 does not answer within 30 s",
        "to do:    certhooks reconcile",
        "command:  pan_instcert -c gp.example.com fw01.example.com 'a b'",
        "next try: 2027-01-15 09:00 UTC, by itself",
        "certhooks status",
    ):
        assert part in body, body


@pytest.mark.parametrize(
    "evil", ["a\r\nBcc: x@example.com", "a\u2028b\x1b[2J", "\u202ebad", "x" * 100_000, "h\u00f6st"]
)
def test_hostile_names_and_texts_stay_in_their_line(evil: str, story: Story) -> None:
    """No name, target, text, hint or error begins a header or a line of its own, commands a terminal or has no end."""
    finding = Finding(Level.CRITICAL, "behind", evil, evil)
    bad = replace(target(finding, name=evil, failure=evil), command=(evil, evil))
    watched = Watched(evil, evil, "file", Leaf("ab" * 32, evil), state=evil, ca_error=evil, placements=(bad,))
    story(Overview(NOW, evil, (watched,)))
    story(Overview(NOW, evil, ()))
    for made in story.messages:
        assert made.subject.isascii()
        assert made.subject.isprintable()
        assert len(made.subject) <= 180
        assert len(made.body) < 25_000
        assert all(line.isprintable() for line in made.body.split("\n"))
        assert not any(line.startswith(("Bcc", "b")) for line in made.body.split("\n"))


def test_no_secret_and_no_key_is_told(story: Story, rsa_leaf: Any, ec_leaf: Any) -> None:
    """A known password, and any block of PEM or DER, whole, cut off or in base64 again, is left out everywhere."""
    import base64

    Secret("correct-horse")
    keys = [rsa_leaf.key_pem.decode(), ec_leaf.key_pem.decode()]
    encoded = [base64.b64encode(key.encode()).decode() for key in keys]
    der = ["".join(key.splitlines()[1:-1]) for key in keys]
    texts = [*keys, *(key[:300] for key in keys), *encoded, *der, "password correct-horse"]
    placements = [
        target(Finding(Level.CRITICAL, "behind", text, text), name=f"fw{n}.test", failure=text)
        for n, text in enumerate(texts)
    ]
    for placement in placements:
        story(overview(placement))
    shown = json.dumps([one.as_dict() for one in story.messages]) + json.dumps(vars(story.told), default=vars)
    assert "correct-horse" not in shown
    for key, again, plain in zip(keys, encoded, der):
        for text in (*key.splitlines()[1:-1], again[30:70], plain[10:60]):
            assert text not in shown


def test_what_was_told_is_kept_and_a_damaged_file_is_begun_anew(story: Story, tmp_path: Path) -> None:
    """It comes back as it was; whatever the file holds there is no crash, no flood, and the file is set aside."""
    story(overview(target(BEHIND)))
    assert news.load(tmp_path) == Told()
    news.save(tmp_path, story.told)
    assert news.load(tmp_path) == story.told
    path = tmp_path / told.FILE
    assert path.stat().st_mode & 0o777 == 0o600
    good = json.loads(path.read_text())
    thing = next(iter(good["things"].values()))
    bad: list[Any] = [
        {},
        [],
        {**good, "things": 1},
        {**good, "serial": "x"},
        {**good, "born": float("inf")},
        {**good, "things": {"a": {**thing, "levels": {"push": "x"}}}},
        {**good, "things": {"a": {**thing, "changes": ["x"]}}},
        {**good, "things": {"a": {**thing, "since": None}}},
        {**good, "more": 1},
    ]
    for text in [*map(json.dumps, bad), "", "[" * 100_000, "\0\xff", json.dumps(good)[:-10]]:
        path.write_text(text)
        assert news.load(tmp_path) == Told(), text[:100]
        assert not path.exists()
        new, _ = changes(overview(target(BEHIND), target(name="fw02.test")), Told(), NOW)
        assert len(new) == 1
    path.mkdir()
    with pytest.raises(StateError):
        news.load(tmp_path)
    with pytest.raises(StateError):
        news.save(tmp_path, story.told)


def test_a_message_made_again_is_the_same(story: Story) -> None:
    """What may stand in a message stands in it: making it again, as the queue does, changes nothing."""
    story(overview(target(BEHIND)))
    (made,) = story.messages
    assert messages.make(**vars(made)) == made
