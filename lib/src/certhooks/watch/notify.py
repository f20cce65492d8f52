"""``certhooks notify``: queue what is new, hand over what is queued, send a test."""

from __future__ import annotations

import os
import socket
import time
from typing import TYPE_CHECKING, Optional

from certhooks.deadline import Deadline
from certhooks.errors import Error, UsageError
from certhooks.journal import Journal
from certhooks.watch import message as messages
from certhooks.watch import news
from certhooks.watch.spool import Spool

if TYPE_CHECKING:
    from pathlib import Path

    from certhooks.cli import Screen
    from certhooks.watch.message import Message
    from certhooks.watch.model import Overview
    from certhooks.watch.settings import Settings

_LOCK_SECONDS = 60.0


def queue(state: Path, overview: Overview, settings: Settings, *, now: Optional[float] = None) -> list[Message]:
    """Queue what is new in the overview and write down that it was told; return it.

    Without a channel nothing is told to anybody and so nothing is written down: the first run with one tells what is
    wrong then. Messages are queued before that is written: a kill between the two queues them once all the same.

    Raises:
        StateError: the state folder cannot be used. BusyError: another run holds the queue.
    """
    if not settings.channels():
        return []
    with Journal(state).lock("told", Deadline(_LOCK_SECONDS), label="what was told"):
        told = news.load(state)
        new, told = news.changes(overview, told, overview.at if now is None else now, reminder=settings.reminder)
        if new:
            Spool(state).add(new)
        news.save(state, told)
    return new


def deliver(state: Path, settings: Settings, screen: Screen, deadline: Deadline, *, force: bool = False) -> int:
    """Hand what is queued to every channel, show what failed, and return the exit code: the first failure's, or 0.

    ``force``: also to channels that are left alone for a while because they failed.

    Raises:
        StateError: the state folder cannot be used. BusyError: another run delivers until the deadline.
    """
    channels = settings.channels()
    if not channels:
        return 0
    failed = Spool(state).deliver(channels, deadline, force=force)
    return _shown(failed, screen)


def test(settings: Settings, screen: Screen, deadline: Deadline) -> int:
    """Send one test message to every channel now, say how each did, and return the exit code.

    Raises:
        UsageError: there is no channel.
    """
    channels = settings.channels()
    if not channels:
        raise UsageError(
            "there is nobody to tell: no channel is set up",
            hint="install -D -m 0600 contrib/examples/notify.conf /etc/certhooks/notify.conf, and edit it",
        )
    host, now = socket.gethostname(), time.time()
    body = "This is a test of certhooks notify.\nMessages about certificates come the same way."
    message = messages.make(
        f"test.{now:.6f}.{os.getpid()}", messages.TEST, f"certhooks on {host}: test", body, now, host=host, level="ok"
    )
    failed: list[Error] = []
    for channel in channels:
        screen.tell(channel.name, "sending a test")
        try:
            channel.send(message, deadline)
        except Error as e:
            failed.append(e)
        else:
            screen.say(f"{channel.name}: taken")
    return _shown(failed, screen)


def _shown(failed: list[Error], screen: Screen) -> int:
    from certhooks.cli import log_error

    for error in failed:
        log_error(error)
        screen.error(error)
    return failed[0].exit_code if failed else 0
