"""``certhooks forget``: a device that is gone, or was a slip of the fingers."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from certhooks.errors import UsageError
from certhooks.journal import Journal
from certhooks.watch.observe import requests
from certhooks.watch.survey import Survey

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from certhooks.cli import Screen


def forget(state: Path, devices: Sequence[str], screen: Screen) -> int:
    """Remove the journals of devices, all or none, so that nothing is repaired or told there; return the exit code.

    Where certmonger still has a command for one, that is an error which says what to type.

    Raises:
        UsageError: nothing is known of one of them.
    """
    journal = Journal(state)
    pushed = [each for one in Survey(0.0, state).watched([], history=True) for each in one.placements]
    wanted = {device: [each.target for each in pushed if device in {each.label, each.target}] for device in devices}
    tracked = _tracked(state)
    for device, targets in wanted.items():
        if not targets and device not in tracked:
            raise UsageError(f"nothing is known of {device[:80]!r}", hint="certhooks status shows what is")
    for device, targets in wanted.items():
        for target in targets:
            journal.forget(target)
            screen.say(f"{device}: forgotten ({target})")
    stay = [(device, tracked[device]) for device in wanted if device in tracked]
    for device, request in stay:
        change = f"getcert start-tracking -i {shlex.quote(request)} -C COMMAND"
        hint = f"store a post-save command without it: {change}"
        screen.error(UsageError(f"certmonger's request {request} goes on bringing it there", hint=hint), who=device)
    return UsageError.exit_code if stay else 0


def _tracked(state: Path) -> dict[str, str]:
    """Return, by the names of devices, the requests whose post-save commands name them."""
    found, _failure = requests()
    hooked = [
        (one.source, placement)
        for one in Survey(0.0, state).watched(found)
        for placement in one.placements
        if one.origin == "certmonger" and not any(finding.kind == "unhooked" for finding in placement.findings)
    ]
    return {name: source for source, placement in hooked for name in (placement.label, placement.target)}
