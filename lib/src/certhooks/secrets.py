"""Secrets: read from files that only their owner can read, wrapped so that no message, log or journal can show them."""

from __future__ import annotations

import os
import shlex
import stat
import threading
from pathlib import Path
from typing import NoReturn, Optional, Union
from urllib.parse import quote, quote_plus

from certhooks.errors import CredentialsError

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
        if len(value) >= _SHORTEST:
            with _lock:
                _known[:] = sorted({*_known, value, quote(value, safe=""), quote_plus(value)}, key=len, reverse=True)

    def reveal(self) -> str:
        """Return the value itself, for the one place that sends it."""
        return self._value

    def __repr__(self) -> str:
        return "***"

    __str__ = __repr__

    def __reduce__(self) -> NoReturn:
        raise TypeError("a secret is not to be pickled")


def redact(text: str) -> str:
    """Return the text with every known secret, plain or URL-encoded, replaced by ``***``."""
    with _lock:
        values = tuple(_known)
    for value in values:
        text = text.replace(value, "***")
    return text


def read_private(path: Union[str, Path]) -> str:
    """Return the text of a credentials file, read once through one descriptor.

    Raises:
        CredentialsError: it is missing, not a regular file, readable or writable by others, owned by
            somebody who is neither root nor the caller, larger than 64 KiB or not UTF-8.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except (OSError, ValueError) as e:
        raise CredentialsError(
            f"cannot read credentials {path}: {getattr(e, 'strerror', None) or e}",
            hint=f"create it: install -m 0600 /dev/null {path}",
        ) from e
    info = os.fstat(fd)
    if not stat.S_ISREG(info.st_mode):
        os.close(fd)
        raise CredentialsError(f"{path} is not a regular file")
    with os.fdopen(fd, "rb") as file:
        if info.st_mode & 0o077:
            raise CredentialsError(
                f"{path} can be read by others (mode {stat.S_IMODE(info.st_mode):04o})",
                hint=f"chmod 0600 {path}, and renew the key if others had access",
            )
        if info.st_uid not in {0, os.geteuid()}:
            raise CredentialsError(f"{path} belongs to uid {info.st_uid}", hint=f"chown root:root {path}")
        data = file.read(_MAX_FILE + 1)
    if len(data) > _MAX_FILE:
        raise CredentialsError(f"{path} is larger than {_MAX_FILE} bytes: not a credentials file")
    try:
        return data.decode("utf-8-sig")  # Windows editors begin a file with a mark
    except UnicodeDecodeError:
        raise CredentialsError(f"{path} is not a text file") from None


def settings(text: str) -> dict[str, str]:
    """Return the ``name=value`` lines of an rc file; blank lines, comments and anything else are passed over."""
    found: dict[str, str] = {}
    for line in text.splitlines():
        name, equals, value = line.partition("=")
        if equals and not line.lstrip().startswith("#"):
            found[name.strip()] = value.strip()
    return found


def from_command(command: str) -> Secret:
    """Return the first line that a password command prints; no shell, 30 s at most.

    Raises:
        CredentialsError: it cannot be started, fails, prints nothing or takes too long.
    """
    import subprocess

    try:
        argv = shlex.split(command)
        done = subprocess.run(
            argv, stdin=subprocess.DEVNULL, capture_output=True, timeout=_COMMAND_SECONDS, check=False
        )
    except (OSError, ValueError, IndexError) as e:
        raise CredentialsError(f"the password command cannot be run: {e}") from e
    except subprocess.TimeoutExpired:
        raise CredentialsError(f"the password command took longer than {_COMMAND_SECONDS} s") from None
    lines = done.stdout.decode(errors="replace").splitlines()
    if done.returncode != 0 or not lines or not lines[0]:
        raise CredentialsError(
            f"the password command {argv[0]} gave no password (exit status {done.returncode})",
            hint="run it by hand as the same user",
        )
    return Secret(lines[0])


def credential(name: str) -> Optional[Path]:
    """Return the path of a systemd credential of that name (LoadCredential=), where there is one."""
    folder = os.environ.get("CREDENTIALS_DIRECTORY")
    path = Path(folder, name) if folder else None
    return path if path and path.is_file() else None
