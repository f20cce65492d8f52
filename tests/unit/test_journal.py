"""The journal's files: whole for whoever reads them, at any moment, whatever happens to the one who writes."""

from __future__ import annotations

import json
import os
import resource
import socket
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from certhooks.errors import StateError
from certhooks.journal import DONE, FAILED, RUNNING, Attempt, Journal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
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


def stored(journal: Journal, **facts: Any) -> dict[str, Any]:
    """Return what the one journal file holds, with other facts in its attempt."""
    (file,) = journal.folder.glob("*.json")
    document: dict[str, Any] = json.loads(file.read_text())
    document["attempts"][0].update(facts)
    return document


@pytest.mark.parametrize(
    "facts",
    [
        {"started": "yesterday"},
        {"started": None},
        {"started": float("nan")},
        {"started": float("inf")},
        {"ended": -float("inf")},
        {"started": 10**400},
        {"count": 1e300},
        {"exit_code": []},
        {"fingerprint": None},
        {"command": "pan_instcert"},
        {"command": [1]},
        {"endpoints": [None]},
        {"touches": {"a": 1}},
        {"message": ["a"]},
        {"outcome": 0},
    ],
    ids=str,
)
def test_what_we_have_not_written_is_damaged(journal: Journal, facts: dict[str, Any]) -> None:
    """A value of another kind, or a number beyond the calendar, tells nothing: it is set aside and begun anew."""
    document = stored(journal, **facts)
    (file,) = journal.folder.glob("*.json")
    file.write_text(json.dumps(document))
    assert [record.damaged for record in journal.records()] == [True]
    assert journal.record("pan fw01:443").attempts == []
    assert json.dumps(document) == file.with_suffix(".damaged").read_text()
    assert list(journal.records()) == []


def test_what_a_newer_version_adds_is_ignored(journal: Journal) -> None:
    """After a step back to this version its journal is still known."""
    document = stored(journal, mood="good")
    (file,) = journal.folder.glob("*.json")
    file.write_text(json.dumps(document))
    assert [attempt.outcome for attempt in journal.record("pan fw01:443").attempts] == [DONE]


@pytest.mark.parametrize("kind", ["link", "pipe", "folder", "socket", "text", "list", "deep", "large"])
def test_what_is_no_journal_is_not_read(journal: Journal, tmp_path: Path, kind: str) -> None:
    """Whatever lies where a journal should: nobody waits for it or follows it, and it is known as damaged."""
    (file,) = journal.folder.glob("*.json")
    target = file.rename(tmp_path / "elsewhere")
    with socket.socket(socket.AF_UNIX) as server:
        make: dict[str, Callable[[], object]] = {
            "link": lambda: file.symlink_to(target),
            "pipe": lambda: os.mkfifo(file),
            "folder": file.mkdir,
            "socket": lambda: server.bind(str(file)),
            "text": lambda: file.write_text("not JSON"),
            "list": lambda: file.write_text("[1, 2]"),
            "deep": lambda: file.write_text("[" * 100_000),
            "large": lambda: file.write_text(" " * 2**20 + target.read_text()),
        }
        make[kind]()
        assert [(record.target, record.damaged) for record in journal.records()] == [(file.stem, True)]
        assert journal.record("pan fw01:443").attempts == []


def test_who_only_looks_changes_nothing(journal: Journal, tmp_path: Path) -> None:
    """No folder is made, nothing that was left behind is removed, nothing damaged is set aside."""
    absent = Journal(tmp_path / "absent" / "state", only_look=True)
    assert list(absent.records()) == []
    assert absent.record("pan fw01:443").attempts == []
    assert not absent.is_held("pan fw01:443")
    assert not (tmp_path / "absent").exists()
    (file,) = journal.folder.glob("*.json")
    file.write_text("not JSON")
    left = journal.folder / ".a.new"
    left.touch()
    os.utime(left, (0, 0))
    looking = Journal(journal.folder, only_look=True)
    assert looking.record("pan fw01:443").attempts == []
    assert [record.damaged for record in looking.records()] == [True]
    assert sorted(journal.folder.iterdir()) == [left, file]


def test_long_commands_and_messages_fill_no_disk(journal: Journal) -> None:
    """A thousand devices in one command and endless messages: the journal of each is bounded, and can be read again."""
    command = ["pan_instcert", *(f"fw{number:04d}.example.com" for number in range(10_000))]
    for number in range(30):
        record = journal.record("pan fw01:443")
        attempt = record.begin(Attempt(fingerprint=f"{number:064x}", command=command))
        record.end(attempt, FAILED, 4, f"{number} " * 100_000)
    (file,) = journal.folder.glob("*.json")
    assert file.stat().st_size < 512 * 1024
    attempts = journal.record("pan fw01:443").attempts
    assert attempts[-1].command == command
    assert len(attempts) == 20
    assert journal.record("pan fw01:443").failures() == 20


@pytest.mark.skipif(os.geteuid() != 0, reason="not root")
@pytest.mark.parametrize(("mode", "uid"), [(0o666, 0), (0o620, 0), (0o600, 65534)])
def test_a_journal_that_others_could_have_written_is_none(journal: Journal, mode: int, uid: int) -> None:
    """Its command would be run as root: one that lost owner or mode is told as damaged."""
    (file,) = journal.folder.iterdir()
    file.chmod(mode)
    os.chown(file, uid, 0)
    [record] = Journal(journal.folder, only_look=True).records()
    assert (record.damaged, record.attempts) == (True, [])


@pytest.mark.parametrize(
    ("history", "command"),
    [
        (["done A"], "A"),
        (["done A", "unchanged B"], "A"),
        (["done A", "unchanged B", "unchanged C"], "A"),
        (["unchanged A", "unchanged B"], "A"),
        (["done A", "undone B"], "B"),
        (["done A", "undone B", "unchanged C"], "C"),  # A was given up for B
        (["done A", "unready B"], "A"),
        (["unready A"], "A"),
        (["done A", "failed B", "failed B"], "B"),
        (["done A", "done B"], "B"),
        (["unchanged A", "unready B"], "A"),
    ],
)
def test_the_command_that_is_repeated(tmp_path: Path, history: list[str], command: str) -> None:
    """The newest that changed something or tried to: neither a look nor words that led nowhere take its place."""
    record = Journal(tmp_path / "state").record("pan fw01:443")
    for outcome, word in map(str.split, history):
        fingerprint = "" if outcome == "unready" else "ab" * 32
        attempt = record.begin(Attempt(fingerprint=fingerprint, command=[word], cwd=f"/{word}"))
        record.end(attempt, "undone" if outcome == "unready" else outcome)
    kept = Journal(tmp_path / "state").record("pan fw01:443")
    repeated = kept.repeated()
    assert repeated
    assert (repeated.command, repeated.cwd) == ([command], f"/{command}")
    assert sum(bool(one.command) for one in kept.attempts) == 1
