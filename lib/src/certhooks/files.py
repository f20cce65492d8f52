"""Files that are whole at any moment: a reader or a crash sees the old one or the new one."""

from __future__ import annotations

import errno
import os
import stat
import tempfile
from contextlib import suppress
from pathlib import Path


def replace(path: Path, data: bytes, mode: int = 0o600) -> None:
    """Write a file whole, and on the disk before this returns; nobody but us can open it before it has its mode.

    Raises:
        OSError: it cannot be; the old one is as it was, and nothing lies beside it.
    """
    fd, temporary = tempfile.mkstemp(dir=path.parent, prefix=".", suffix=".new")  # 0600 by itself
    try:
        with os.fdopen(fd, "wb") as file:
            file.write(data)
            file.flush()
            os.fchmod(file.fileno(), mode)  # whatever the umask is
            os.fsync(file.fileno())
        Path(temporary).replace(path)
    except BaseException:
        with suppress(OSError):
            Path(temporary).unlink()
        raise


def read(path: Path, most: int, *, owner: int = 0) -> bytes:
    """Return what one of our own files holds.

    Raises:
        ValueError: we have not written it: no regular file, longer than ``most``, of somebody who is neither ``owner``
            nor root nor us, or open to others' writing. OSError: it cannot be read.
    """
    try:
        with open(path, "rb", opener=_as_it_is) as file:
            info = os.fstat(file.fileno())
            ours = info.st_uid in {0, os.geteuid(), owner} and not info.st_mode & 0o022
            data = file.read(most + 1) if stat.S_ISREG(info.st_mode) and ours else None
    except OSError as e:
        if e.errno not in {errno.ELOOP, errno.ENXIO, errno.EISDIR}:  # a link, a socket, a folder
            raise
        data = None
    if data is None or len(data) > most:
        raise ValueError(path)
    return data


def _as_it_is(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK)  # a pipe would be waited for
