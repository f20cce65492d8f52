"""The journal's files: whole for whoever reads them, at any moment, whatever happens to the one who writes."""

from __future__ import annotations

import json
import os
import resource
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from certhooks.errors import StateError
from certhooks.journal import DONE, RUNNING, Attempt, Journal

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@contextmanager
def files_end_at(size: int) -> Iterator[None]:
    """Let no file of this process grow over this many bytes: a write that would stops there, in its middle."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    """Make a journal that knows one target."""
    made = Journal(tmp_path / "state")
    record = made.record("pan fw01:443")
    record.end(record.begin(Attempt(fingerprint="ab" * 32, subject="CN=first")), DONE)
    return made


def test_a_write_that_breaks_off_in_its_middle_leaves_the_old_file_whole(journal: Journal) -> None:
    """Half the bytes are written, then no more: an error, the old text byte for byte, and no litter beside it."""
    (file,) = journal.folder.iterdir()
    before = file.read_bytes()
    record = journal.record("pan fw01:443")
    with files_end_at(len(before) // 2), pytest.raises(StateError, match="cannot use the state folder"):
        record.begin(Attempt(fingerprint="cd" * 32, subject="CN=second"))
    assert file.read_bytes() == before
    assert list(journal.folder.iterdir()) == [file]
    assert [attempt.outcome for attempt in journal.record("pan fw01:443").attempts] == [DONE]


def test_who_reads_while_it_is_written_sees_the_old_text_whole(journal: Journal) -> None:
    """A reader that has begun reads on in what it has begun, and the next one finds all of the new text."""
    (file,) = journal.folder.iterdir()
    before = file.read_bytes()
    with file.open("rb", buffering=0) as reader:
        half = reader.read(len(before) // 2)
        record = journal.record("pan fw01:443")
        record.begin(Attempt(fingerprint="cd" * 32, subject="CN=second"))
        assert half + reader.read() == before
    assert [attempt["outcome"] for attempt in json.loads(file.read_text())["attempts"]] == [DONE, RUNNING]
    assert file.stat().st_mode & 0o777 == 0o600


def test_what_a_killed_write_left_is_removed_in_time(tmp_path: Path) -> None:
    """A half-written file of an hour ago goes; one that may be being written now stays."""
    old, young = tmp_path / "state" / ".a.new", tmp_path / "state" / ".b.new"
    Journal(tmp_path / "state")
    for path in (old, young):
        path.touch()
    os.utime(old, (0, 0))
    Journal(tmp_path / "state")
    assert (old.exists(), young.exists()) == (False, True)
