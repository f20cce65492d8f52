"""A request that resubmits itself: its post-save command, or what that starts, has it renewed again, without end.

certmonger runs such a circle as quickly as it can (observed with 0.79.17: 30 certificates in 8 seconds). The only one
who can end it is the install command that is part of it: it takes the post-save command out of the request.
"""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from certhooks.errors import CertmongerError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from certhooks.install import Place
    from certhooks.journal import Attempt, Journal
    from certhooks.request import Request

_MOST = 5  # rounds
_GAP = 10.0  # seconds between the end of one and the start of the next; who types the next command takes longer


def check(books: Journal, places: Sequence[Place], fingerprint: str, now: float) -> None:
    """Return if the certificate is not the next round of a circle; else end the circle.

    Raises:
        CertmongerError: it was one; it says what was taken out of the request, and how to put it back.
    """
    if not fingerprint:  # the device's own request: signed on the way
        return
    counts = [_rounds(books.record(place.target).attempts, fingerprint, now) for place in places]
    if max(counts, default=0) < _MOST:
        return
    from certhooks.certmonger import Certmonger

    try:
        opened = Certmonger.open()
    except CertmongerError:  # somebody else renews here, and quickly
        return
    with opened as certmonger:
        for request in certmonger.requests():
            if request.in_post_save and _has(request, fingerprint):
                certmonger.modify(request, post_save="")
                raise _ended(request, max(counts))


def _rounds(attempts: Sequence[Attempt], fingerprint: str, now: float) -> int:
    """Return how many certificates in succession, each right after the other, came before this one."""
    later, start, count = fingerprint, now, 0
    for attempt in reversed(attempts):
        if not attempt.fingerprint or attempt.fingerprint == later or start - (attempt.ended or attempt.started) > _GAP:
            break
        later, start, count = attempt.fingerprint, attempt.started, count + 1
    return count


def _has(request: Request, fingerprint: str) -> bool:
    from certhooks.watch import leaves

    leaf = leaves.of_request(request)
    return leaf is not None and leaf.fingerprint == fingerprint


def _ended(request: Request, count: int) -> CertmongerError:
    words = ["getcert", "start-tracking", "-i", request.nickname, "-C", request.post_save or ""]
    return CertmongerError(
        f"request {request.nickname} goes round in a circle: {count + 1} certificates, each right after the other; its "
        "post-save command was taken out",
        hint=f"what resubmits it? mend that, then put the command back: {shlex.join(words)}",
    )
