"""Files that are whole at any moment: a reader or a crash sees the old one or the new one."""

from __future__ import annotations

import os
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
