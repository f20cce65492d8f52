"""The list of our values survives other versions, damage and a full disk, or says so."""

from __future__ import annotations

import errno
import json
import sys
from dataclasses import asdict, replace
from typing import TYPE_CHECKING

import pytest

if sys.version_info < (3, 10):
    pytest.skip("the DNS hooks need Python 3.10", allow_module_level=True)

from certhooks.errors import StateError
from certhooks.journal import Journal
from certhooks_freeipa_dns.ledger import Entry, Ledger

if TYPE_CHECKING:
    from pathlib import Path

    from pytest_mock import MockerFixture

ENTRY = Entry("a.test", "b.test", "test", "v", "ipa1.test", run="certbot 1 2", created=5.0, waited=True)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Return the file of the list."""
    return tmp_path / "state" / "dns01.json"


@pytest.fixture
def ledger(file: Path) -> Ledger:
    """Return the list."""
    return Ledger(Journal(file.parent))


def write(file: Path, *values: object) -> None:
    """Write a list as some version would."""
    file.write_text(json.dumps({"version": 1, "values": values}))


def test_entries_come_back_as_they_were(ledger: Ledger, file: Path) -> None:
    """In the order in which they were added; one with the same target and value takes its place; 0600."""
    other = replace(ENTRY, value="w", created=6.0)
    ledger.put([ENTRY, other])
    ledger.put([replace(ENTRY, run="")])
    assert ledger.entries() == [replace(ENTRY, run=""), other]
    ledger.drop([ENTRY])
    assert ledger.entries(lambda entry: entry.created > 5) == [other]
    assert file.stat().st_mode & 0o777 == 0o600


def test_nothing_is_written_where_nothing_changes(ledger: Ledger, file: Path) -> None:
    """A removal of what is not in it costs no write, and makes no file."""
    ledger.drop([ENTRY])
    assert not file.exists()
    ledger.put([ENTRY])
    before = file.stat().st_ino
    ledger.put([ENTRY])
    assert file.stat().st_ino == before


def test_other_versions_entries_are_kept(ledger: Ledger, file: Path) -> None:
    """One with fields that we do not know, and one without some that we have: their values are ours all the same."""
    least = {"name": "a.test", "target": "b.test", "zone": "test", "value": "w"}
    write(file, {**asdict(ENTRY), "colour": "red"}, least)
    assert ledger.entries() == [ENTRY, Entry("a.test", "b.test", "test", "w")]


@pytest.mark.parametrize(
    "stored",
    [None, [], "text", {}, {**asdict(ENTRY), "value": 5}, {**asdict(ENTRY), "waited": "yes"},
     {k: v for k, v in asdict(ENTRY).items() if k != "zone"}, {**asdict(ENTRY), "created": "now"}],
)  # fmt: skip
def test_what_is_no_entry_is_passed_over(stored: object, ledger: Ledger, file: Path) -> None:
    """It does not take the others with it."""
    write(file, stored, asdict(ENTRY))
    assert ledger.entries() == [ENTRY]


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "null", '{"values": 5}', "[" * 100_000, "\0",
     '{"values": []}', '{"version": 2, "values": []}', '{"version": 1}'],
)  # fmt: skip
def test_a_damaged_list_is_set_aside_and_told(
    text: str, ledger: Ledger, file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Somebody may read it then; the next value is written into a new one."""
    file.write_text(text)
    assert ledger.entries() == []
    assert "damaged" in caplog.text
    assert file.with_suffix(".damaged.1").read_text() == text
    ledger.put([ENTRY])
    assert ledger.entries() == [ENTRY]
    assert ledger.untold() == [file.with_suffix(".damaged.1")]
    assert ledger.untold() == []


def test_every_damaged_list_is_kept(ledger: Ledger, file: Path) -> None:
    """None takes another's place, also where the first to notice is a change; what can be read goes on."""
    ledger.drop([])
    file.write_text("one")
    ledger.put([ENTRY])
    assert ledger.entries() == [ENTRY]
    write(file, "odd", asdict(ENTRY))
    two = file.read_text()
    ledger.drop([ENTRY])
    assert ledger.entries() == []
    kept = [file.with_suffix(f".damaged.{number}") for number in (1, 2)]
    assert [path.read_text() for path in kept] == ["one", two]
    assert ledger.untold() == kept


def test_a_damaged_list_that_cannot_be_kept(ledger: Ledger, file: Path, mocker: MockerFixture) -> None:
    """Then nothing is written in its place."""
    file.write_text("one")
    mocker.patch("os.link", side_effect=PermissionError(errno.EPERM, "Operation not permitted"))
    with pytest.raises(StateError, match="not permitted"):
        ledger.put([ENTRY])
    assert file.read_text() == "one"


def test_a_full_disk(ledger: Ledger, file: Path, mocker: MockerFixture) -> None:
    """The error says what to do; the list is as it was."""
    ledger.put([ENTRY])
    mocker.patch("os.fsync", side_effect=OSError(errno.ENOSPC, "No space left on device"))
    with pytest.raises(StateError, match="no space left") as caught:
        ledger.drop([ENTRY])
    assert "make room on the disk" in str(caught.value.hint)
    assert ledger.entries() == [ENTRY]
    assert [path.name for path in file.parent.iterdir() if path.name.startswith(".")] == []
