"""``certhooks status`` on a terminal and in a pipe."""

from __future__ import annotations

import io
import re
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from certhooks import cli
from certhooks.secrets import Secret
from certhooks.watch import table, words
from certhooks.watch.model import DAY, Finding, Leaf, Level, Overview, Placement, Sight, Watched, worst
from tests.lab import overviews

if TYPE_CHECKING:
    from collections.abc import Sequence

NOW = overviews.NOW
COLOURS = re.compile(r"\x1b\[[0-9;]*m")
SIZES = (1, 50, 1000)


class Terminal(io.StringIO):
    """Text that claims to go to a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def usual(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the tests' own terminal decide nothing."""
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)


def piped(overview: Overview, verbose: int = 0) -> list[str]:
    """Return the lines that a pipe gets."""
    out = io.StringIO()
    table.show(overview, cli.Screen("certhooks", out=out), verbose=verbose)
    return out.getvalue().splitlines()


def drawn(overview: Overview, columns: int, monkeypatch: pytest.MonkeyPatch) -> str:
    """Return what a terminal of that width gets, colours included."""
    monkeypatch.setenv("COLUMNS", str(columns))
    out = Terminal()
    table.show(overview, cli.Screen("certhooks", out=out))
    return out.getvalue()


def joined(text: str) -> str:
    """Return a text as its words, however they were laid out."""
    return re.sub(r"\s+", "", COLOURS.sub("", text))


def one(finding: Finding | None = None, **facts: object) -> Overview:
    """Make an overview of one certificate on one target, which is in step if nothing else is said."""
    leaf = overviews.leaf("new", "www.example.org", NOW - 10 * DAY, 90)
    usual = {
        "pushed": leaf,
        "served": (Sight("fw1:443", "192.0.2.1", leaf),),
        "findings": (finding,) if finding else (),
    }
    placement = Placement("pan:fw1", "fw1", **{**usual, **facts})  # type: ignore[arg-type]
    watched = Watched("www.example.org", "2026", "certmonger", leaf, state="MONITORING", placements=(placement,))
    return Overview(NOW, "host", (watched,))


@pytest.mark.parametrize("count", SIZES)
def test_a_monitor_reads_the_first_line_and_finds_the_verdict_and_true_counts(count: int) -> None:
    """``certhooks LEVEL - counts``: the level is the overview's, the counts those of the rows below, and all add up."""
    overview = overviews.overview(count)
    first, head, *lines = piped(overview)
    assert first.startswith(f"certhooks {overview.level.name} - ")
    assert "|" not in first
    assert len(first) <= 200
    assert head.split()[0] == "LEVEL"
    shown = lines[: lines.index("")]
    assert len(shown) == sum(len(each.placements) or 1 for each in overview.watched)
    told = {word: int(number) for number, word in re.findall(r"(\d+) (critical|unknown|warning|ok)\b", first)}
    counted = [line.split()[0].lower() for line in shown]
    assert told == {word: counted.count(word) for word in told}
    assert sum(told.values()) == len(shown)


def test_what_a_pager_shows_names_the_worst() -> None:
    """The first line ends with the worst of the findings; without any, it is short."""
    finding = Finding(Level.CRITICAL, "behind", "not installed: commit failed | x", "certhooks reconcile")
    expected = "certhooks CRITICAL - 1 critical, 0 ok: www.example.org on fw1: not installed: commit failed / x"
    assert piped(one(finding))[0] == expected
    assert piped(one())[0] == "certhooks OK - 1 ok"
    assert piped(Overview(NOW, "host"))[0] == "certhooks OK - nothing is watched"


def test_what_is_not_known_hides_no_fault() -> None:
    """Among unknown and critical the verdict is critical; unknown is worse than a warning."""
    assert worst([Level.UNKNOWN, Level.CRITICAL, Level.OK]) is Level.CRITICAL
    assert worst([Level.UNKNOWN, Level.WARNING]) is Level.UNKNOWN
    assert worst([]) is Level.OK


@pytest.mark.parametrize("count", SIZES)
def test_in_a_pipe_each_row_finding_and_hint_is_one_line_worst_first(count: int) -> None:
    """Whatever its length, so that grep finds it; levels never rise again from one row or finding to the next."""
    overview = overviews.overview(count)
    lines = piped(overview)
    blank = lines.index("")
    rows, told = lines[2:blank], lines[blank + 1 :]
    for found in (rows, [line for line in told if not line.startswith(" ")]):
        ranks = [Level[line.split()[0]].rank for line in found]
        assert ranks == sorted(ranks, reverse=True)
    for watched in overview.watched:
        for placement, finding in watched.told():
            about = f"{watched.name} on {placement.label}" if placement else watched.name
            assert f"{finding.level.name:<8}  {about}: {finding.text}" in told
            assert not finding.hint or f"          hint: {finding.hint}" in told
        for placement in watched.placements:
            assert any(f" {watched.name} " in row and f" {placement.label} " in row for row in rows)


def test_a_row_says_what_is_tracked_pushed_served_and_next() -> None:
    """Fingerprints shortened, days left on both, how long ago it was pushed, certmonger's state, the next retry."""
    old = overviews.leaf("old", "www.example.org", NOW - 88 * DAY, 90)
    overview = one(pushed=old, pushed_at=NOW - 88 * DAY, served=(Sight("fw1:443", "", old),), next_try=NOW + 900)
    leaf = overview.watched[0].leaf
    assert leaf
    row = re.split(r" {2,}", piped(overview)[2])
    new, gone = leaf.fingerprint[:8], old.fingerprint[:8]
    served = f"! {gone} 2 d"
    assert row == [
        "OK", "www.example.org", "fw1", f"{new} 80 d", f"{gone} 88 d ago", served, "MONITORING", "in 15 min",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("sights", "shown"),
    [
        ("nnn", "N 80 d"),
        ("non", "! O 2 d (1 of 3)"),
        ("n-n", "N 80 d (2 of 3)"),
        ("--", "not seen"),
        ("", "-"),
    ],
)
def test_of_several_addresses_the_one_that_is_not_as_it_should_be_is_shown(sights: str, shown: str) -> None:
    """New, old or nothing at each address: the row shows the old one, and at how many addresses it is."""
    leaves = {"n": one().watched[0].leaf, "o": overviews.leaf("old", "w", NOW - 88 * DAY, 90), "-": None}
    served = tuple(Sight("fw1:443", f"192.0.2.{at}", leaves[sight]) for at, sight in enumerate(sights))
    row = re.split(r" {2,}", piped(one(served=served))[2])
    for letter, leaf in (("N", leaves["n"]), ("O", leaves["o"])):
        shown = shown.replace(f"{letter} ", f"{leaf.fingerprint[:8]} " if leaf else "")
    assert row[5] == shown


@pytest.mark.parametrize("columns", [60, 100, 132, 200, 400])
@pytest.mark.parametrize("rich", [True, False])
def test_a_terminal_gets_the_same_words_within_its_width(
    columns: int, monkeypatch: pytest.MonkeyPatch, *, rich: bool
) -> None:
    """With and without rich no line is wider than the terminal, nothing is left out, and the summary is the last."""
    if not rich:
        monkeypatch.setitem(sys.modules, "rich", None)
    overview = overviews.overview(50)
    text = drawn(overview, columns, monkeypatch)
    assert ("\x1b[" in text) is rich
    lines = COLOURS.sub("", text).splitlines()
    assert max(map(len, lines)) <= columns
    said = joined(text)
    assert said.endswith(joined(words.summary(overview)))
    for row in words.rows(overview):
        assert joined(row.watched.name) in said
        assert row.placement is None or joined(row.placement.label) in said or columns >= 132  # folded beside others
    for about, finding in words.told(overview):
        assert joined(f"{about}: {finding.text}" if about else finding.text) in said
        assert joined(finding.hint or "") in said


def test_what_is_out_of_step_is_red_and_marked(monkeypatch: pytest.MonkeyPatch) -> None:
    """In the table of rich the served certificate is red, and an exclamation mark says it without colour."""
    old = overviews.leaf("old", "www.example.org", NOW - 88 * DAY, 90)
    text = drawn(one(served=(Sight("fw1:443", "", old),)), 200, monkeypatch)
    assert re.search(rf"\x1b\[1;31m! {old.fingerprint[:8]} 2 d\s*\x1b\[0m", text)
    assert "\x1b[1;31m" not in drawn(one(), 200, monkeypatch)


@pytest.mark.parametrize(("name", "value"), [("NO_COLOR", "1"), ("TERM", "dumb")])
def test_a_terminal_that_wants_no_colours_gets_none(name: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """NO_COLOR and TERM=dumb give plain lines, within the width."""
    monkeypatch.setenv(name, value)
    text = drawn(overviews.overview(50), 60, monkeypatch)
    assert "\x1b" not in text
    assert max(map(len, text.splitlines())) <= 60


@pytest.mark.parametrize("columns", [0, 60, 400])
def test_names_that_mean_harm_are_only_shown(columns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """No control character, reordering mark or markup of a foreign text reaches the terminal; nor does a secret."""
    Secret("hunter2hunter2")
    overview = overviews.hostile()
    secret = one(Finding(Level.WARNING, "failed", "the password hunter2hunter2 is wrong"))
    overview = Overview(NOW, "h", (*overview.watched, *secret.watched), overview.findings)
    text = drawn(overview, columns, monkeypatch) if columns else "\n".join(piped(overview, verbose=1))
    assert all(letter.isprintable() or letter == "\n" for letter in COLOURS.sub("", text))
    assert "hunter2" not in text
    assert joined("[red]markup[/red] :smile: %s {0}") in joined(text)


def test_verbose_tells_every_address_and_whole_fingerprint() -> None:
    """With -v each endpoint and address stands with what was seen there, or why nothing was."""
    leaf = one().watched[0].leaf
    assert leaf
    lines = piped(one(served=(Sight("fw1:443", "192.0.2.1", leaf), Sight("fw1:443", "::1", None, "timed out"))), 1)
    assert lines[-2:] == [
        f"fw1: fw1:443 (192.0.2.1): {leaf.fingerprint} www.example.org",
        "fw1: fw1:443 (::1): timed out",
    ]


def test_letters_that_the_locale_lacks_are_spelt_out() -> None:
    """In an ISO-8859-1 or ASCII locale a name with other letters does not make its line vanish."""
    raw = io.BytesIO()
    screen = cli.Screen("certhooks", out=io.TextIOWrapper(raw, encoding="ascii"))
    table.show(one(Finding(Level.WARNING, "failed", "Gerät \N{GREEK SMALL LETTER ALPHA}")), screen)
    assert rb"Ger\xe4t \u03b1" in raw.getvalue()


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0, "0 s"),
        (59, "59 s"),
        (60, "1 min"),
        (3599, "59 min"),
        (47.9 * 3600, "47 h"),
        (2 * DAY, "2 d"),
        (800 * DAY, "800 d"),
        (float("inf"), "?"),
        (float("nan"), "?"),
    ],
)
def test_times_are_in_one_unit(seconds: float, shown: str) -> None:
    """From seconds to days, rounded down: never more time than there is; one day is told in hours."""
    assert words.span(seconds) == words.span(-seconds) == shown


def test_left_and_ago_tell_past_from_future() -> None:
    """What has ended says so, and a time to come begins with ``in``."""
    assert words.left(Leaf("f", "n", 0, NOW + 5 * DAY), NOW) == "5 d"
    assert words.left(Leaf("f", "n", 0, NOW - 5 * DAY), NOW) == "ended 5 d ago"
    assert words.left(Leaf("f"), NOW) == ""
    assert (words.ago(None, NOW), words.ago(NOW - 90, NOW), words.ago(NOW + 90, NOW)) == ("", "1 min ago", "in 1 min")


@pytest.mark.parametrize("seconds", [float("inf"), float("-inf"), float("nan"), 1e300, -1e300])
def test_times_beyond_the_calendar_are_no_fault(seconds: float) -> None:
    """A certificate or a journal may say anything."""
    assert words.moment(seconds).year in {1, 9999}


def run(words_: Sequence[str]) -> str:
    """Return what another Python prints."""
    return subprocess.run([sys.executable, "-c", *words_], capture_output=True, text=True, check=True).stdout


def test_rich_is_imported_for_a_terminal_alone() -> None:
    """A cron job or a monitor does not pay for colours that it cannot show."""
    code = (
        "import io, sys; from certhooks import cli; from certhooks.watch import model, table;"
        "table.show(model.Overview(0, 'h'), cli.Screen('c', out=io.StringIO()));"
        "print(sorted(n for n in sys.modules if n.partition('.')[0] in {'rich', 'cryptography', 'ssl'}))"
    )
    assert run([code]) == "[]\n"
