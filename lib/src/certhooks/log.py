"""Where a run that nobody watches says what it did: syslog or the journal, and ``/var/log/<command>.log``."""

from __future__ import annotations

import fcntl
import logging
import os
import sys
import syslog
from contextlib import suppress
from pathlib import Path
from typing import Optional

from certhooks.secrets import redact

FOLDER = Path("/var/log")
_MAX_FILE = 1024 * 1024
_MAX_LINE = 2000
# Not waiting: somebody may have put a pipe there that nobody reads.
_HOW = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
_PRIORITY = {
    logging.DEBUG: syslog.LOG_DEBUG,
    logging.INFO: syslog.LOG_INFO,
    logging.WARNING: syslog.LOG_WARNING,
    logging.ERROR: syslog.LOG_ERR,
}


def start(command: str, file: Optional[Path] = None, *, debug: bool = False) -> None:
    """Send this project's log records to syslog and to the command's file; other libraries' stay where they are.

    A file that cannot be written (not root) leaves syslog alone to tell; no record ever holds a known secret.
    """
    logger = logging.getLogger("certhooks")
    logger.setLevel(logging.DEBUG if debug else logging.INFO)
    logger.propagate = False
    for handler in list(logger.handlers):
        logger.removeHandler(handler)
    logger.addHandler(_Syslog(command))
    path = file or FOLDER / f"{command}.log"
    try:
        logger.addHandler(_File(command, path))
    except OSError as e:
        if file:
            sys.stderr.write(f"{command}: warning: cannot write {file}: {e.strerror}\n")


class _OneLine(logging.Handler):
    """Formats a record as one bounded line in which no control character and no secret is left."""

    def line(self, record: logging.LogRecord) -> str:
        text = redact(record.getMessage())
        return "".join(c if c.isprintable() else "?" if c != "\n" else " | " for c in text)[:_MAX_LINE]


class _Syslog(_OneLine):
    def __init__(self, command: str) -> None:
        super().__init__()
        syslog.openlog(command, syslog.LOG_PID, syslog.LOG_DAEMON)

    def emit(self, record: logging.LogRecord) -> None:
        syslog.syslog(_PRIORITY.get(record.levelno, syslog.LOG_ERR), self.line(record))


class _File(_OneLine):
    """Appends; at 1 MiB the file becomes ``.1`` and begins anew, so that it never holds more than 2 MiB."""

    def __init__(self, command: str, path: Path) -> None:
        super().__init__()
        self._command = command
        self._path = path
        os.close(self._open())

    def emit(self, record: logging.LogRecord) -> None:
        when = logging.Formatter().formatTime(record, "%Y-%m-%d %H:%M:%S")
        line = f"{when} {self._command}[{os.getpid()}] {record.levelname.lower()}: {self.line(record)}\n"
        with suppress(OSError):  # a full disk must not stop a renewal; syslog has the line too
            fd = self._open()
            try:
                fcntl.flock(fd, fcntl.LOCK_EX)
                os.write(fd, line.encode(errors="replace"))
                if os.fstat(fd).st_size > _MAX_FILE:
                    self._path.replace(self._path.with_name(self._path.name + ".1"))
            finally:
                os.close(fd)

    def _open(self) -> int:
        return os.open(self._path, _HOW, 0o600)
