"""Secrets show nowhere, and files that others can read are refused."""

from __future__ import annotations

import copy
import json
import os
import pickle
import sys
from typing import TYPE_CHECKING

import pytest

from certhooks import secrets
from certhooks.errors import CredentialsError
from certhooks.secrets import Secret, redact

if TYPE_CHECKING:
    from pathlib import Path


def test_a_secret_shows_itself_as_stars() -> None:
    """Neither str, repr, format nor an f-string tells it; only reveal() does."""
    secret = Secret("hunter2hunter2")
    assert {str(secret), repr(secret), f"{secret}", f"{secret!r}", f"{[secret]}"} == {"***", "[***]"}
    assert secret.reveal() == "hunter2hunter2"
    with pytest.raises(TypeError):
        pickle.dumps(secret)
    with pytest.raises(TypeError):
        copy.deepcopy(secret)


def test_known_secrets_are_taken_out_of_texts() -> None:
    """Plain or as it stands in a URL or a form, the value is replaced; a very short one would blot out words."""
    Secret("pa/ss+word =&")
    Secret("abc")
    assert (
        redact("key pa/ss+word =& and pa%2Fss%2Bword%20%3D%26 and pa%2Fss%2Bword+%3D%26") == "key *** and *** and ***"
    )
    assert redact("abc") == "abc"


WHAT = "password_command"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Write a private file."""
    path = tmp_path / "rc"
    path.touch(mode=0o600)
    path.write_text("api_key=abc\n")
    return path


def test_a_key_is_taken_out_however_it_is_quoted() -> None:
    """A key in PEM, whole, as JSON, cut off in the middle, or line by line; and a password as JSON writes it."""
    lines = ["QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVo0", "YWJjZGVmZ2hpamtsbW5vcHFyc3R1dnd4eXo="]
    pem = "\n".join(["-----BEGIN PRIVATE KEY-----", *lines, "-----END PRIVATE KEY-----", ""])
    secrets.conceal(pem)
    secrets.conceal('pass"wörd')
    for text in (pem, json.dumps({"key": pem}), pem[:70], f"unexpected {lines[1]!r}"):
        shown = redact(text)
        assert not [line for line in lines if line in shown], shown
    assert redact(json.dumps({"password": 'pass"wörd'})) == '{"password": "***"}'
    assert redact("-----BEGIN PRIVATE KEY-----") == "-----BEGIN PRIVATE KEY-----"


def test_a_private_file_is_read(file: Path) -> None:
    """0600 and 0400 of one's own are fine, also behind a link."""
    assert secrets.read_private(file) == "api_key=abc\n"
    file.chmod(0o400)
    link = file.with_name("link")
    link.symlink_to(file)
    assert secrets.read_private(link) == "api_key=abc\n"


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o602, 0o644, 0o610, 0o777])
def test_a_file_that_others_can_touch_is_refused(file: Path, mode: int) -> None:
    """Any right of group or others is one too many; the hint is the command that mends it."""
    file.chmod(mode)
    with pytest.raises(CredentialsError, match="by others") as refused:
        secrets.read_private(file)
    assert refused.value.hint
    assert f"chmod 0600 {file}" in refused.value.hint


@pytest.mark.skipif(os.geteuid() != 0 and "CI" not in os.environ, reason="only root can give files away")
def test_a_file_of_somebody_else_is_refused(file: Path) -> None:
    """Who owns the file could change it at any time."""
    os.chown(file, 12345, -1)
    with pytest.raises(CredentialsError, match="belongs to uid 12345"):
        secrets.read_private(file)


def test_what_is_no_text_file_is_refused(file: Path, tmp_path: Path) -> None:
    """Missing, a directory, a pipe (without waiting for a writer), too large, binary."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe, 0o600)
    for path in (tmp_path / "missing", tmp_path, pipe):
        with pytest.raises(CredentialsError):
            secrets.read_private(path)
    file.write_bytes(b"x" * 70_000)
    with pytest.raises(CredentialsError, match="larger than"):
        secrets.read_private(file)
    file.write_bytes(b"\xff\xfe")
    with pytest.raises(CredentialsError, match="not a text file"):
        secrets.read_private(file)


def test_a_password_command_gives_its_first_line() -> None:
    """It runs without a shell; a failure, silence or a missing program is one clear error without its output."""
    assert secrets.from_command(WHAT, f"{sys.executable} -c 'print(\"swordfish\"); print(2)'").reveal() == "swordfish"
    flood, binary = "yes", f"{sys.executable} -c 'import os; os.write(1, bytes([255]))'"
    for command in (
        flood,
        binary,
        "/nonexistent/x",
        "",
        "'",
        f"{sys.executable} -c 'print(\"leaked\"); exit(3)'",
        "/bin/true",
    ):
        with pytest.raises(CredentialsError) as refused:
            secrets.from_command(WHAT, command)
        assert "leaked" not in str(refused.value)


def test_a_password_command_that_hangs_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """It has 30 seconds, shortened here."""
    monkeypatch.setattr(secrets, "_COMMAND_SECONDS", 0.1)
    with pytest.raises(CredentialsError, match="longer than"):
        secrets.from_command(WHAT, "/bin/sleep 5")


def test_a_systemd_credential_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """LoadCredential=panrc:... puts it into $CREDENTIALS_DIRECTORY."""
    assert secrets.credential("panrc") is None
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    assert secrets.credential("panrc") is None
    (tmp_path / "panrc").write_text("api_key=x")
    assert secrets.credential("panrc") == tmp_path / "panrc"


def test_a_file_without_a_secret_may_be_read_by_others(file: Path) -> None:
    """What holds no secret may be 0644, but nobody else may change it; with a secret in it both are too much."""

    def secret(text: str) -> bool:
        return "password" in text

    file.chmod(0o644)
    assert secrets.read_private(file, holds_secret=secret) == "api_key=abc\n"
    file.chmod(0o664)
    with pytest.raises(CredentialsError, match="changed by others"):
        secrets.read_private(file, holds_secret=secret)
    file.write_text("password=abc\n")
    file.chmod(0o644)
    with pytest.raises(CredentialsError, match="read by others"):
        secrets.read_private(file, holds_secret=secret)


def test_a_file_that_is_not_there_and_one_that_may_not_be_read_have_hints_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The command that makes an empty file is shown only where there is none: typed elsewhere it would empty one."""
    with pytest.raises(CredentialsError, match="there is no") as missing:
        secrets.read_private(tmp_path / "none")
    assert "install -m 0600 /dev/null" in (missing.value.hint or "")

    def refuse(*_: object) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("certhooks.secrets.os.open", refuse)
    with pytest.raises(CredentialsError, match="may not read") as refused:
        secrets.read_private(tmp_path / "there")
    assert "/dev/null" not in (refused.value.hint or "")
