"""The overview on a terminal or in a pipe, in the same words: a table, the findings with their hints, a summary.

A monitor shows the first line alone, so a pipe begins with the summary; on a terminal it stands at the end, where the
eye is. What does not fit beside each other stands below each other.
"""

from __future__ import annotations

import textwrap
from importlib.util import find_spec
from typing import TYPE_CHECKING, NamedTuple

from certhooks.watch import words
from certhooks.watch.model import Level

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Optional

    from rich.console import Console
    from rich.table import Table

    from certhooks.cli import Screen
    from certhooks.watch.model import Leaf, Overview, Placement

_HEAD = ("level", "certificate", "target", "tracked", "pushed", "served", "certmonger", "next try")
_LEVEL, _NAMES, _SERVED = 0, (1, 2), 5  # columns
_GAP = 2
_USUAL = 80  # columns
_NARROWEST = 28  # characters; a name that is folded more is not read
_INDENT = " " * 10
_STYLES = {Level.OK: "green", Level.WARNING: "yellow", Level.CRITICAL: "bold red", Level.UNKNOWN: "magenta"}


class _Line(NamedTuple):
    """A row as it is shown: the words of each column, and whether the target is out of step."""

    level: Level
    cells: tuple[str, ...]
    out_of_step: bool


def show(overview: Overview, screen: Screen, *, verbose: int = 0) -> None:
    """Print the overview as the screen can show it; with ``verbose`` also what is served at each address."""
    lines = [_line(row, overview.at) for row in words.rows(overview)]
    if screen.paints and find_spec("rich"):
        _paint(overview, lines, screen, verbose)
        return
    for text in _plain(overview, lines, screen.columns, verbose):
        screen.say(text)


def _line(row: words.Row, now: float) -> _Line:
    watched, placement = row
    state = watched.state or ("" if watched.origin == "certmonger" else watched.origin)
    cells = [row.level.name, words.title(watched), "", _leaf(watched.leaf, now), "", "", state, ""]
    out_of_step = False
    if placement:
        pushed = words.short(placement.pushed) if placement.pushed else ""
        cells[2] = placement.label
        cells[4] = f"{pushed} {words.ago(placement.pushed_at, now)}".strip()
        out_of_step = words.in_step(watched, placement) is False
        seen = _served(words.wanted(watched, placement), placement, now)
        cells[_SERVED] = f"! {seen}" if seen and out_of_step else seen
        cells[7] = words.next_try(placement, now)
    return _Line(row.level, tuple(words.clean(cell) or "-" for cell in cells), out_of_step)


def _leaf(leaf: Optional[Leaf], now: float) -> str:
    return f"{words.short(leaf)} {words.left(leaf, now)}" if leaf else ""


def _served(want: Optional[Leaf], placement: Placement, now: float) -> str:
    """Say what is seen; of several, what is not as it should be, and at how many addresses."""
    seen = [sight.leaf for sight in placement.served if sight.leaf]
    if not seen:
        return "not seen" if placement.served else ""
    other = [leaf for leaf in seen if not words.same(leaf, want)]
    shown = min(other or seen, key=lambda leaf: leaf.not_after or 0.0)
    alike = sum(words.same(leaf, shown) for leaf in seen)
    return _leaf(shown, now) + (f" ({alike} of {len(placement.served)})" if alike < len(placement.served) else "")


def _plain(overview: Overview, lines: list[_Line], columns: Optional[int], verbose: int) -> Iterator[str]:
    """Yield the lines for a terminal so many columns wide, or for a pipe that takes any length."""
    summary = words.summary(overview)
    if columns is None:
        yield summary
    if lines:
        widths = _widths(lines)
        if columns is None or _together(widths) <= columns:
            for cells in [tuple(name.upper() for name in _HEAD), *(line.cells for line in lines)]:
                yield (" " * _GAP).join(cell.ljust(width) for cell, width in zip(cells, widths)).rstrip()
        else:
            for line in lines:
                yield from _card(line, columns)
    for _level, text in _told(overview, columns, verbose):
        yield text
    if columns is not None:
        yield ""
        yield from _wrapped(summary, columns, "")


def _card(line: _Line, columns: int) -> Iterator[str]:
    """Yield a row as a few short lines."""
    level, name, target, *others = line.cells
    named = f"{name} on {target}" if target != "-" else name
    yield from _wrapped(f"{level:<8}  {named}", columns, _INDENT)
    parts = [f"{head} {cell}" for head, cell in zip(_HEAD[3:], others) if cell != "-"]
    if parts:
        yield from _wrapped(_INDENT + ", ".join(part.replace(" ", "\0") for part in parts), columns, _INDENT)


def _wrapped(text: str, columns: Optional[int], indent: str) -> list[str]:
    """Return the text in lines that fit; a NUL is a blank where no line breaks."""
    if columns is None:
        return [text.replace("\0", " ")]
    made = textwrap.wrap(text, max(columns - 1, 2 * len(indent), 1), subsequent_indent=indent, break_on_hyphens=False)
    return [line.replace("\0", " ") for line in made]


def _told(overview: Overview, columns: Optional[int], verbose: int) -> Iterator[tuple[Level, str]]:
    """Yield the lines below the table, each with the level that it tells of."""
    found = words.told(overview)
    if found:
        yield Level.OK, ""
    for about, finding in found:
        text = words.clean(f"{about}: {finding.text}" if about else finding.text)
        for line in _wrapped(f"{finding.level.name:<8}  {text}", columns, _INDENT):
            yield finding.level, line
        if finding.hint:
            for line in _wrapped(f"{_INDENT}hint: {words.clean(finding.hint)}", columns, _INDENT + "  "):
                yield Level.OK, line
    if verbose:
        yield Level.OK, ""
        for line in _seen(overview):
            for part in _wrapped(line, columns, _INDENT):
                yield Level.OK, part


def _seen(overview: Overview) -> Iterator[str]:
    """Yield what is served at each address, with whole fingerprints."""
    for watched in words.certificates(overview):
        for placement in watched.placements:
            for sight in placement.served:
                what = f"{sight.leaf.fingerprint} {sight.leaf.name}" if sight.leaf else sight.error
                where = f"{sight.endpoint} ({sight.ip})" if sight.ip else sight.endpoint
                yield words.clean(f"{placement.label}: {where}: {what}")


def _paint(overview: Overview, lines: list[_Line], screen: Screen, verbose: int) -> None:
    """Print the same with colours."""
    from rich.console import Console

    columns = screen.columns or _USUAL
    console = Console(
        width=columns, force_terminal=True, color_system="standard", legacy_windows=False, highlight=False
    )
    with console.capture() as captured:
        table = _rich_table(lines, columns)
        if table:
            console.print(table)
        else:
            for line in lines:
                for part in _card(line, columns):
                    _print_line(console, part, line.level)
        for level, part in _told(overview, columns, verbose):
            _print_line(console, part, level)
        console.print()
        for part in _wrapped(words.summary(overview), columns, ""):
            _print_line(console, part, overview.level, f"certhooks {overview.level.name}")
    screen.paint(captured.get())


def _rich_table(lines: list[_Line], columns: int) -> Optional[Table]:
    """Return the rows as a table; None when there are none or it would not fit."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    widths = [min(width, _NARROWEST) if at in _NAMES else width for at, width in enumerate(_widths(lines))]
    if not lines or _together(widths) > columns:
        return None
    table = Table(box=box.SIMPLE_HEAD, padding=(0, _GAP - 1, 0, 0), show_edge=False, pad_edge=False)
    for at, (name, width) in enumerate(zip(_HEAD, widths)):
        table.add_column(name, no_wrap=at not in _NAMES, min_width=width, overflow="fold")
    for line in lines:
        cells = [Text(cell) for cell in line.cells]
        cells[_LEVEL].stylize(_STYLES[line.level])
        if line.out_of_step:
            cells[_SERVED].stylize(_STYLES[Level.CRITICAL])
        table.add_row(*cells)
    return table


def _print_line(console: Console, line: str, level: Level, word: str = "") -> None:
    """Print a line with its level's name in colour."""
    from rich.text import Text

    text, word = Text(line), word or level.name
    if line.startswith(word):
        text.stylize(_STYLES[level], 0, len(word))
    console.print(text, soft_wrap=True)


def _widths(lines: list[_Line]) -> list[int]:
    return [max(map(len, column)) for column in zip(_HEAD, *(line.cells for line in lines))]


def _together(widths: list[int]) -> int:
    return sum(widths) + _GAP * (len(widths) - 1)
