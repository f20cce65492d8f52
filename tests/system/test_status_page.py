"""The page of ``certhooks status --html`` in a real browser, and the metrics before Prometheus' own eyes."""

from __future__ import annotations

import re
import shutil
from typing import TYPE_CHECKING

import pytest

from certhooks.watch import page, prometheus, words
from certhooks.watch.model import Level
from tests.lab import overviews
from tests.lab.browser import Browser
from tests.lab.daemons import Daemons

if TYPE_CHECKING:
    from collections.abc import Iterator

    from certhooks.watch.model import Overview

browser_needed = pytest.mark.skipif(Browser.missing(), reason="needs chromium")
OVERVIEWS = {
    "none": overviews.overview(0),
    "1": overviews.overview(1),
    "1 in order": overviews.overview(1, faults=0),
    "50": overviews.overview(50),
    "1000": overviews.overview(1000),
    "hostile": overviews.hostile(),
}
LAYOUT = """
const shown = (e) => e.getClientRects().length > 0;
const rows = [...document.querySelectorAll("table.t > tbody > tr")];
done({
  inner: innerWidth, wide: document.documentElement.scrollWidth,
  beyond: [...document.querySelectorAll("body *:not(.h)")].filter((e) => shown(e)
    && (e.getBoundingClientRect().right > innerWidth + 0.5 || e.getBoundingClientRect().left < -0.5))
    .map((e) => e.outerHTML.slice(0, 80)),
  rows: rows.filter(shown).length,
  away: [...document.querySelectorAll("tbody i.x")].filter(shown)
    .map((e) => getComputedStyle(e).backgroundImage),
  height: document.documentElement.scrollHeight,
});
"""
CONTRAST = """
const channels = (colour) => {
  const c = document.createElement("canvas").getContext("2d");
  c.fillStyle = colour; c.fillRect(0, 0, 1, 1);
  return [...c.getImageData(0, 0, 1, 1).data];
};
const light = (rgb) => {
  const [r, g, b] = rgb.map((v) => v / 255).map((v) => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
};
const behind = (e) => {
  for (; e; e = e.parentElement) {
    const found = channels(getComputedStyle(e).backgroundColor);
    if (found[3] === 255) return found;
  }
  return [255, 255, 255, 255];
};
const found = {};
const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
let looked = 0;
while (walk.nextNode()) {
  const e = walk.currentNode.parentElement;
  if (!walk.currentNode.data.trim() || e.tagName === "SCRIPT" || !e.getClientRects().length) continue;
  const [a, b] = [light(channels(getComputedStyle(e).color).slice(0, 3)), light(behind(e).slice(0, 3))];
  const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
  looked += 1;
  if (ratio < 4.5) found[`${e.tagName}.${e.className} ${walk.currentNode.data.trim().slice(0, 20)}`] = ratio;
}
done({looked, low: found, dark: matchMedia("(prefers-color-scheme: dark)").matches});
"""
FILTER = """
const count = (what) => [...document.querySelectorAll(what)].filter((e) => e.getClientRects().length).length;
const rows = () => count("table.t > tbody > tr");
const details = () => count("details");
const all = [rows(), details()];
const found = {};
for (const name of ["f2", "f1", "f0"]) {
  document.getElementById(name).click();
  found[name] = [rows(), details()];
}
document.getElementById("f").click();
const last = [...document.querySelectorAll("details")].at(-1);
const before = last.open;
[...document.querySelectorAll("table.t a")].at(-1).click();
setTimeout(() => done({all, found, again: [rows(), details()], before, after: last.open}), 100);
"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Start nothing yet: each look is a run of its own."""
    with Browser() as made:
        yield made


def away(overview: Overview) -> int:
    """Count the placements that are out of step."""
    return sum(words.in_step(one, each) is False for one in overview.watched for each in one.placements)


@browser_needed
@pytest.mark.parametrize("width", [390, 1000, 1280])
@pytest.mark.parametrize("name", OVERVIEWS)
def test_all_rows_are_there_and_nothing_sticks_out(name: str, width: int, browser: Browser) -> None:
    """A line a certificate, red bars where it is out of step, no sideways scrolling: on phone, half a screen, desk."""
    overview = OVERVIEWS[name]
    found = browser.measured(page.html(overview), LAYOUT, width)
    assert found["inner"] == width
    assert found["wide"] <= width
    assert found["beyond"] == []
    assert found["rows"] == len(overview.watched)
    assert bool(found["away"]) == bool(away(overview))
    assert all("repeating-linear-gradient" in image and "rgb(179, 33, 26)" in image for image in found["away"])


@browser_needed
def test_the_measure_notices_what_sticks_out(browser: Browser) -> None:
    """A page with one element too wide is found out."""
    broken = page.html(OVERVIEWS["1"]).replace("<main>", '<main><p style="width:1300px">x')
    found = browser.measured(broken, LAYOUT, 1280)
    assert found["wide"] > 1280
    assert found["beyond"]


@browser_needed
@pytest.mark.parametrize("name", OVERVIEWS)
def test_the_browser_has_nothing_to_complain_of_and_runs_nothing(name: str, browser: Browser) -> None:
    """No message on the console, nothing loaded, nothing blocked; names that are HTML make no element and no title."""
    text = page.html(OVERVIEWS[name])
    dom, complaints = browser.dom(text)
    assert complaints == []
    title = re.search(r"<title>(.*?)</title>", dom)
    assert title
    assert title[1].startswith(f"{OVERVIEWS[name].level.word}: certificates of ")
    assert "<script" not in dom
    assert "<img" not in dom
    assert dom.count("<style") == 1


@browser_needed
def test_the_console_would_tell(browser: Browser) -> None:
    """Had a name come through unescaped, the policy would stop it and the browser would say so."""
    text = page.html(OVERVIEWS["1"]).replace("<main>", f"<main>{overviews.HOSTILE[0]}<img src=x>")
    dom, complaints = browser.dom(text)
    assert "<title>owned" not in dom
    assert len(complaints) == 2
    assert all("Content Security Policy" in line for line in complaints)


@browser_needed
@pytest.mark.parametrize("dark", [False, True])
def test_every_word_can_be_read(browser: Browser, *, dark: bool) -> None:
    """Text stands out from what is behind it by 4.5 to 1 at least (WCAG 2 AA), in light and in dark."""
    found = browser.measured(page.html(OVERVIEWS["50"]), CONTRAST, dark=dark)
    assert found["dark"] is dark
    assert found["looked"] > 500
    assert found["low"] == {}


@browser_needed
def test_counts_are_filters_and_names_lead_to_details(browser: Browser) -> None:
    """Without a script of ours: a click on a count shows these certificates alone, one on a name opens its details."""
    overview = OVERVIEWS["50"]
    found = browser.measured(page.html(overview), FILTER)
    counted = {level: sum(one.level is level for one in overview.watched) for level in Level}
    assert found["all"] == found["again"] == [50, 50]
    assert found["found"] == {
        f"f{level:d}": [counted[level]] * 2 for level in (Level.CRITICAL, Level.WARNING, Level.OK)
    }
    assert (found["before"], found["after"]) == (False, True)


@pytest.mark.skipif(shutil.which("promtool") is None, reason="needs promtool (Debian: prometheus)")
@pytest.mark.parametrize("name", OVERVIEWS)
def test_prometheus_has_nothing_to_complain_of(name: str) -> None:
    """``promtool check metrics`` reads the metrics and finds neither a fault nor a name against the conventions."""
    with Daemons("promtool-lab") as daemons:
        done = daemons.run(["promtool", "check", "metrics"], input=prometheus.text(OVERVIEWS[name]))
    assert (done.returncode, done.stdout) == (0, "")


@pytest.mark.skipif(shutil.which("promtool") is None, reason="needs promtool (Debian: prometheus)")
@pytest.mark.parametrize("wrong", ['certhooks_x{a="b"c"} 1\n', "# TYPE certhooks_x_total gauge\ncerthooks_x_total 1\n"])
def test_promtool_would_tell(wrong: str) -> None:
    """A label that is not escaped and a name against the conventions are found out."""
    with Daemons("promtool-lab") as daemons:
        done = daemons.run(["promtool", "check", "metrics"], input=prometheus.text(OVERVIEWS["1"]) + wrong)
    assert done.returncode != 0
