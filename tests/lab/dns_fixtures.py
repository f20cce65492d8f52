"""pytest's side of the DNS lab."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

from tests.lab.acme.bind import PROGRAMS
from tests.lab.daemons import PATH
from tests.lab.dns01 import FOREIGN, NAME, Done, Scene

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    Run = Callable[..., Done]

_LACKS = [name for name in PROGRAMS if not shutil.which(name, path=PATH)]
needs_bind = pytest.mark.skipif(bool(_LACKS), reason=f"not here: {', '.join(_LACKS)}")


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    """Provide one zone, an account that may change it, and somebody else's value under the name."""
    with Scene(tmp_path) as made:
        made.ipa.put(NAME, FOREIGN)
        yield made


@pytest.fixture
def run(scene: Scene, capsys: pytest.CaptureFixture[str]) -> Run:
    """Return what runs ``ipa_dns`` in this process."""
    return lambda *words: scene.run("ipa_dns", *words, capsys=capsys)


@pytest.fixture
def call(scene: Scene, capsys: pytest.CaptureFixture[str]) -> Run:
    """Return what runs any front end in this process."""
    return lambda command, *words: scene.run(command, *words, capsys=capsys)
