"""Layers of trees: what is there is complete, and is made anew only when something that it is made of changes."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest

from tests.lab.freeipa import layers
from tests.lab.freeipa.layers import Layer

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Keep layers in a folder of the test's own."""
    monkeypatch.setattr(layers, "CACHE", tmp_path / "cache")
    return layers.CACHE


class Maker:
    """Makes a layer with one file, and counts how often."""

    def __init__(self, name: str, *, breaks: bool = False) -> None:
        self.name, self.breaks, self.count = name, breaks, 0

    def __call__(self, folder: Path) -> None:
        self.count += 1
        (folder / self.name).write_text("half")
        if self.breaks:
            raise KeyboardInterrupt
        (folder / self.name).write_text("whole")


def quiet(_text: str) -> None:
    """Say nothing."""


def test_what_is_there_is_not_made_again() -> None:
    """A second build makes nothing."""
    maker = Maker("file")
    layer = Layer("base", ("one",), maker)
    layer.build(quiet)
    layer.build(quiet)
    assert (layer.path / "file").read_text() == "whole"
    assert maker.count == 1


def test_a_changed_file_makes_its_layer_and_those_above_anew(tmp_path: Path) -> None:
    """What lies below a change stays, what lies above is made anew."""
    settings = tmp_path / "settings"
    settings.write_text("old")
    makers = [Maker(name) for name in ("base", "middle", "top")]

    def top() -> Layer:
        base = Layer("base", ("fixed",), makers[0])
        return Layer("top", (), makers[2], Layer("middle", (settings,), makers[1], base))

    top().build(quiet)
    assert [layer.name for layer in top().stack] == ["top", "middle", "base"]
    settings.write_text("new")
    assert not top().built
    top().build(quiet)
    assert [maker.count for maker in makers] == [1, 2, 2]
    assert top().built


def test_a_build_that_was_broken_off_is_no_layer(cache: Path) -> None:
    """What was left half done is not taken for a layer; the next build removes it and makes the whole."""
    with pytest.raises(KeyboardInterrupt):
        Layer("base", ("one",), Maker("file", breaks=True)).build(quiet)
    layer = Layer("base", ("one",), Maker("file"))
    assert not layer.built
    assert list(cache.glob("*.part"))
    other = Layer("other", (), Maker("file"))
    other.build(quiet)
    assert not list(cache.glob("*.part"))
    layer.build(quiet)
    assert (layer.path / "file").read_text() == "whole"


def test_two_builds_make_it_once() -> None:
    """The second one waits for the first, and finds what it has made."""
    maker, started, go_on = Maker("file"), threading.Event(), threading.Event()

    def slowly(folder: Path) -> None:
        started.set()
        assert go_on.wait(10)
        maker(folder)

    def build(make: Callable[[Path], None]) -> threading.Thread:
        thread = threading.Thread(target=Layer("base", ("one",), make).build, args=(quiet,))
        thread.start()
        return thread

    first = build(slowly)
    assert started.wait(10)
    second = build(maker)
    go_on.set()
    for thread in (first, second):
        thread.join(10)
    assert maker.count == 1


def test_long_unused_layers_are_removed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A layer that a new one has replaced stays for a while, for other checkouts, and is then removed."""
    old, new = (Layer("base", (word,), Maker("file")) for word in ("old", "new"))
    old.build(quiet)
    new.build(quiet)
    assert old.built
    monkeypatch.setattr(layers, "_KEPT_SECONDS", -1)
    new.build(quiet)
    assert not old.built
    assert new.built
