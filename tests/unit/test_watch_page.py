"""The page for a browser, as far as it shows without one."""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser
from typing import TYPE_CHECKING

import pytest

from certhooks import files
from certhooks.watch import page
from certhooks.watch.model import DAY, Finding, Level, Overview, Placement, Sight, Watched
from tests.lab import overviews

if TYPE_CHECKING:
    from pathlib import Path

NOW = overviews.NOW
HARMLESS = {
    "html", "meta", "title", "style", "header", "svg", "path", "circle", "div", "h1", "h2", "p", "small", "b", "time",
    "fieldset", "legend", "label", "input", "main", "section", "ul", "li", "span", "table", "caption", "thead", "tbody",
    "tr", "th", "td", "a", "bdi", "i", "details", "summary", "dl", "dt", "dd", "code", "br", "footer",
}  # fmt: skip


class Parsed(HTMLParser):
    """The tags of a page, their attributes, and its text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.words.append(data)


@pytest.mark.parametrize("overview", [overviews.overview(0), overviews.overview(50), overviews.hostile()])
def test_the_page_brings_all_that_it_needs_and_nothing_that_acts(overview: Overview) -> None:
    """Only tags that show something, no event, no address but a place within the page; the policy forbids the rest."""
    text = page.html(overview)
    text.encode()
    tags = Parsed(text).tags
    assert {tag for tag, _attributes in tags} <= HARMLESS
    names = {name for _tag, attributes in tags for name in attributes}
    assert not {name for name in names if name.startswith("on")} | (names & {"src", "action", "srcset", "background"})
    assert all(re.fullmatch(r"#c\d+", at["href"] or "") for _tag, at in tags if "href" in at)
    style = text[text.index("<style>") : text.index("</style>")]
    assert "url(" not in style
    assert "@import" not in style
    policy = next(at["content"] for _tag, at in tags if at.get("http-equiv") == "Content-Security-Policy")
    assert policy
    assert policy.startswith("default-src 'none'; style-src 'unsafe-inline'")


@pytest.mark.parametrize("count", [1, 50, 1000])
def test_every_certificate_has_its_line_and_its_details(count: int) -> None:
    """As many lines and details as certificates, most urgent first, each name linked to its details; and under 2 MB."""
    overview = overviews.overview(count)
    text = page.html(overview)
    assert len(text.encode()) < 2_000_000
    tags = Parsed(text).tags
    places = [at["id"] for tag, at in tags if tag == "div" and "id" in at]
    assert [f"#{place}" for place in places] == [at["href"] for tag, at in tags if tag == "a"]
    levels = [int((at["class"] or "l9")[1]) for tag, at in tags if tag == "tr" and "class" in at]
    assert len(levels) == len(places) == count
    ranks = [Level(level).rank for level in levels]
    assert ranks == sorted(ranks, reverse=True)
    for one in overview.watched:
        assert text.count(f"<bdi>{one.name}</bdi></a>") == 1
        for _where, finding in one.told():
            assert finding.text.replace("'", "&#x27;").replace(">", "&gt;") in text


def shown(watched: Watched) -> str:
    """Return the page of one certificate without its style."""
    return page.html(Overview(NOW, "host", (watched,))).partition("</style>")[2]


def test_out_of_step_is_said_and_not_only_coloured() -> None:
    """The bar of another certificate is of its own kind, and words name the target and when that one ends."""
    fine = overviews.overview(1, faults=0).watched[0]
    old = overviews.leaf("old", "w", NOW - 88.5 * DAY, 90)
    placement = replace(fine.placements[0], served=(Sight("fw1:443", "", old),))
    assert "<i class=x style" not in shown(fine)
    assert "<i class=x></i>served, out of step" in shown(fine), "the legend explains it"
    text = shown(replace(fine, placements=(placement,)))
    assert text.count("<i class=x style") == 1
    assert f"out of step: {placement.label} (serves one that ends in 36 hours)" in text
    assert "1 certificate, 1 target, 1 is out of step" in text


def bars(watched: Watched) -> list[tuple[str, float, float]]:
    """Return the bars' classes, lefts and rights in percent."""
    found = re.findall(r'<i(?: class="?([a-z ]+)"?)? style="margin-left:([\d.]+)%;width:([\d.]+)%">', shown(watched))
    return [(kind, float(left), float(left) + float(width)) for kind, left, width in found]


def test_bars_stand_where_their_dates_are() -> None:
    """Today is at its place between the ends of the timeline; what reaches beyond is cut off there and says so."""
    leaf = overviews.leaf("f", "w", NOW - 60 * DAY, 120)
    watched = Watched("w", "s", "certmonger", leaf, placements=(Placement("t", "t", served=(Sight("t", "", leaf),)),))
    text = page.html(Overview(NOW, "host", (watched,)))
    today = float(re.findall(r"\.b::after\{left:([\d.]+)%", text)[0])
    (tracked, served) = bars(watched)
    assert tracked[1:] == served[1:]
    assert tracked[1] == 0
    assert (tracked[1] + tracked[2]) / 2 == pytest.approx(today, abs=0.1)
    (endless,) = bars(Watched("w", "s", "file", overviews.leaf("f", "w", NOW - 5000 * DAY, 9000)))
    assert endless[0] == "c p f"
    assert endless[1:] == pytest.approx((0, 100), abs=0.1)
    (over,) = bars(Watched("w", "s", "file", overviews.leaf("f", "w", NOW - 5000 * DAY, 1000)))
    assert over[0] == "c p"
    assert over[1] == over[2] == 0


def test_texts_from_elsewhere_are_text() -> None:
    """What looks like HTML is shown as it is written, in names, labels, commands, findings, hints and the host."""
    overview = overviews.hostile()
    words = " ".join(Parsed(page.html(overview)).words)
    for text in overviews.HOSTILE:
        if text.isprintable():
            assert words.count(" ".join(text.split())) >= 8, text
    assert "\x1b" not in words
    assert "\u202e" not in words


def test_findings_about_the_host_stand_before_the_rest() -> None:
    """That certmonger does not answer is seen without scrolling."""
    mute = Finding(Level.CRITICAL, "certmonger", "certmonger does not answer", "systemctl start certmonger")
    text = page.html(replace(overviews.overview(1, faults=0), findings=(mute,)))
    assert "<h1>Action needed</h1>" in text
    assert text.index("certmonger does not answer") < text.index("<table")
    assert "what to do: systemctl start certmonger" in text


@pytest.mark.parametrize("umask", [0o077, 0o000])
def test_a_file_has_the_mode_that_was_asked_for(umask: int, tmp_path: Path) -> None:
    """Whatever the umask: 0600 if nothing is said, 0644 for what a web server or node_exporter reads, also over it."""
    import os

    before = os.umask(umask)
    try:
        files.replace(tmp_path / "secret", b"1")
        files.replace(tmp_path / "page", b"1")
        files.replace(tmp_path / "page", b"2", mode=0o644)
    finally:
        os.umask(before)
    assert {path.name: path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {"secret": 0o600, "page": 0o644}
    assert (tmp_path / "page").read_bytes() == b"2"
