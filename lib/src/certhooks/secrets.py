"""Secrets: read from files that only their owner can read, wrapped so that no message, log or journal can show them."""

from __future__ import annotations

import json
import os
import shlex
import stat
import threading
from pathlib import Path
from typing import Callable, NoReturn, Optional, Union
from urllib.parse import quote, quote_plus

from certhooks.errors import CredentialsError, DeadlineError

_MAX_FILE = 64 * 1024
_COMMAND_SECONDS = 30
_SHORTEST = 4  # a shorter value would blot out half of every message, and is no secret
_known: list[str] = []  # the longest first: one may hold another
_lock = threading.Lock()


class Secret:
    """A value that shows itself as ``***`` and is taken out of every text that passes ``redact()``."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value
        conceal(value)

    def reveal(self) -> str:
        """Return the value itself, for the one place that sends it."""
        return self._value

    def __repr__(self) -> str:
        return "***"

    __str__ = __repr__

    def __reduce__(self) -> NoReturn:
        raise TypeError("a secret is not to be pickled")


def conceal(text: str) -> None:
    """Have ``redact()`` take a text out, plain, URL-encoded or as JSON; of a key in PEM each line by itself.

    Whoever quotes a request in an error may have cut it, or escaped its line ends.
    """
    lines = [line for line in text.splitlines() if line and not line.startswith("-----")]
    forms = {form for each in lines for form in (each, quote(each, safe=""), quote_plus(each), json.dumps(each)[1:-1])}
    with _lock:
        _known[:] = sorted({*_known, *(form for form in forms if len(form) >= _SHORTEST)}, key=len, reverse=True)


def redact(text: str) -> str:
    """Return the text with every known secret, plain, URL-encoded or as JSON, replaced by ``***``."""
    with _lock:
        values = tuple(_known)
    for value in values:
        text = text.replace(value, "***")
    return text


def read_private(path: Union[str, Path], *, holds_secret: Callable[[str], bool] = lambda _text: True) -> str:
    """Return the text of a credentials file, read once through one descriptor.

    Others may read a file that ``holds_secret`` finds none in.

    Raises:
        CredentialsError: it is missing, not a regular file, readable or writable by others, owned by
            somebody who is neither root nor the caller, larger than 64 KiB or not UTF-8.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError as e:
        raise CredentialsError(
            f"there is no {path}", hint=f"is the name right? to create it: install -m 0600 /dev/null {path}"
        ) from e
    except PermissionError as e:
        raise CredentialsError(
            f"this user may not read {path}",
            hint=f"run as its owner, or give it to the one that runs this: chown USER {path}",
        ) from e
    except (OSError, ValueError) as e:
        raise CredentialsError(f"cannot read {path}: {getattr(e, 'strerror', None) or e}") from e
    info = os.fstat(fd)
    if not stat.S_ISREG(info.st_mode):
        os.close(fd)
        raise CredentialsError(f"{path} is not a regular file")
    with os.fdopen(fd, "rb") as file:
        if info.st_uid not in {0, os.geteuid()}:
            raise CredentialsError(f"{path} belongs to uid {info.st_uid}", hint=f"chown root:root {path}")
        data = file.read(_MAX_FILE + 1)
    if len(data) > _MAX_FILE:
        raise CredentialsError(f"{path} is larger than {_MAX_FILE} bytes: not a credentials file")
    try:
        text = data.decode("utf-8-sig")  # Windows editors begin a file with a mark
    except UnicodeDecodeError:
        raise CredentialsError(f"{path} is not a text file") from None
    private = holds_secret(text)
    if info.st_mode & (0o077 if private else 0o022):
        raise CredentialsError(
            f"{path} can be {'read' if private else 'changed'} by others (mode {stat.S_IMODE(info.st_mode):04o})",
            hint=f"chmod 0600 {path}, and renew the key if others had access",
        )
    return text


def from_command(setting: str, command: str) -> Secret:
    """Return the first line that a command prints, which a setting names; no shell, 30 s at most.

    Raises:
        CredentialsError: it cannot be started, fails, takes too long, or prints nothing, too much or no text.
    """
    from certhooks import child
    from certhooks.deadline import Deadline

    hint = "run it by hand as the same user; no shell reads it: name /bin/sh -c '...' where one is needed"
    try:
        code, printed = child.run(shlex.split(command), Deadline(_COMMAND_SECONDS), most=_MAX_FILE)
    except (OSError, ValueError, IndexError) as e:
        raise CredentialsError(f"the {setting} cannot be run: {e}", hint=hint) from e
    except DeadlineError:
        raise CredentialsError(f"the {setting} took longer than {_COMMAND_SECONDS} s", hint=hint) from None
    if len(printed) > _MAX_FILE:
        raise CredentialsError(f"the {setting} prints more than {_MAX_FILE} bytes", hint=hint)
    try:
        first = printed.decode().split("\n", 1)[0].rstrip("\r")
    except UnicodeDecodeError:
        raise CredentialsError(f"the {setting} prints no text", hint=hint) from None
    if code != 0 or not first:
        raise CredentialsError(f"the {setting} gave nothing (exit status {code})", hint=hint)
    return Secret(first)


def credential(name: str) -> Optional[Path]:
    """Return the path of a systemd credential of that name (LoadCredential=), where there is one."""
    folder = os.environ.get("CREDENTIALS_DIRECTORY")
    path = Path(folder, name) if folder else None
    return path if path and path.is_file() else None
