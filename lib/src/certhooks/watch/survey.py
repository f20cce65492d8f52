"""What there is to watch: certmonger's requests with the targets of their post-save commands, and what was pushed else.

Nothing is asked but certmonger and the state folder; no device is connected to, and nothing is judged here.
"""

from __future__ import annotations

import os
import shlex
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Callable, NamedTuple, Optional

from certhooks import installers
from certhooks.errors import Error
from certhooks.journal import FAILED, RUNNING, STAGED, UNDONE, Journal
from certhooks.postsave import split
from certhooks.watch import leaves
from certhooks.watch.model import Finding, Level, Placement, Watched

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from certhooks.install import Place
    from certhooks.installers import Plan
    from certhooks.journal import Attempt, Record
    from certhooks.request import Request

CUT_OFF = "the run was cut off before its end"
_LIVES = 7200.0  # seconds for which a run may go on whose lock we do not know


class _Understood(NamedTuple):
    """What a stored command would do and its words; no plan where it is none of ours, or, told, not clear."""

    plan: Optional[Plan]
    words: tuple[str, ...]
    problem: tuple[Finding, ...] = ()


class Survey:
    """One look at requests and journals.

    Args:
        now: seconds since the epoch.
        state_dir: the journal of commands that name no other.
    """

    def __init__(self, now: float, state_dir: Path) -> None:
        self._now = now
        self._state_dir = state_dir
        self._journals: dict[Path, Journal] = {}
        self._claimed: set[tuple[Path, str]] = set()
        self._plans: dict[tuple[str, tuple[str, ...]], _Understood] = {}

    def watched(self, requests: Sequence[Request]) -> list[Watched]:
        """Return every certificate with its targets: the requests in their order, then what only the journal knows."""
        found = [self._of_request(request) for request in requests]
        by_file = {os.path.realpath(one.file): at for at, one in enumerate(found) if one.file}
        by_name = {one.name.lower(): at for at, one in reversed(list(enumerate(found)))}
        others: dict[tuple[str, str], Watched] = {}
        claimed = [target for folder, target in self._claimed if folder == self._state_dir]
        for record in self._journal(self._state_dir).records(besides=claimed):
            if record.last:
                plan, placement, problem = self._of_record(record)
                at = None
                if plan and plan.tracked:
                    at = by_file.get(os.path.realpath(plan.cert_file or ""), by_name.get(plan.common_name))
                if at is not None:
                    placement = replace(placement, findings=(_unhooked(found[at], placement),))
                    found[at] = replace(found[at], placements=(*found[at].placements, placement))
                else:
                    own = _pushed_once(plan, placement)
                    own = replace(own, findings=problem)
                    same = others.setdefault((own.name, own.source), own)
                    others[own.name, own.source] = replace(same, placements=(*same.placements, placement))
        return [*found, *others.values()]

    def _of_request(self, request: Request) -> Watched:
        made = Watched(
            name=request.common_name or request.nickname,
            source=request.nickname,
            origin="certmonger",
            leaf=leaves.of_request(request),
            file=request.cert_file or "",
            state=request.status,
            stuck=request.failed,
            ca_error=request.ca_error,
            advice=request.advice(),
        )
        plan, words, problem = self._understood(lambda: split(request.post_save or ""))
        if not plan:
            return replace(made, findings=problem)
        saved = _modified(request.cert_file) if request.in_post_save else None
        placements = [
            replace(self._place(plan, place, saved), command=words, uid=request.post_save_uid or "")
            for place in plan.places
        ]
        return replace(made, placements=tuple(placements))

    def _of_record(self, record: Record) -> tuple[Optional[Plan], Placement, tuple[Finding, ...]]:
        """Return the placement that only the journal knows, with the plan of the command that brought it there."""
        last = next((one for one in reversed(record.attempts) if one.command), record.attempts[-1])
        plan, words, problem = self._understood(lambda: last.command, last.cwd or "/")
        place = next((one for one in plan.places if one.target == record.target), None) if plan else None
        if plan and place:
            placement = self._place(plan, place, None, record)
        else:
            placement = _placed(record, Placement(record.target, record.target), held=_may_live(record.last, self._now))
        runnable = not problem and "***" not in words  # a secret was taken out: it cannot be run again
        return plan, replace(placement, command=words if runnable else (), cwd=last.cwd or "/"), problem

    def _place(self, plan: Plan, place: Place, saved: Optional[float], record: Optional[Record] = None) -> Placement:
        """Return what is known of one target; ``saved``: since when its post-save command has been running."""
        folder = plan.state_dir or self._state_dir
        journal = self._journal(folder)
        self._claimed.add((folder, place.target))
        record = record or journal.record(place.target)
        probes = (*([str(place.address)] if place.served else []), *plan.probes)
        made = Placement(place.target, str(place.address), timeout=plan.timeout, endpoints=tuple(dict.fromkeys(probes)))
        made = _placed(record, made, held=journal.is_held(place.device))
        return made if saved is None or made.running else replace(made, running=True, tried_at=saved)

    def _understood(self, stored: Callable[[], Iterable[str]], cwd: str = "/") -> _Understood:
        """Return what a stored command would do; the same one is looked at once, however many targets it has."""
        words: tuple[str, ...] = ()
        try:
            words = tuple(stored())
            if (cwd, words) not in self._plans:
                known = installers.recognise(words)
                plan = installers.plan(*known, cwd) if known else None
                self._plans[cwd, words] = _Understood(plan, words)
        except Error as e:
            text = f"its install command is not understood: {e}"
            hint = e.hint or (f"see {shlex.join(words)}" if words else None)
            return _Understood(None, words, (Finding(Level.CRITICAL, "unknown", text, hint),))
        return self._plans[cwd, words]

    def _journal(self, folder: Path) -> Journal:
        if folder not in self._journals:
            self._journals[folder] = Journal(folder)
        return self._journals[folder]


def _placed(record: Record, bare: Placement, *, held: bool) -> Placement:
    """Return a placement with what the journal tells of it."""
    last, pushed = record.last, record.pushed()
    if last is None:
        return bare
    failed = last.message if last.outcome in {FAILED, UNDONE} else ""
    cut_off = last.outcome == RUNNING and not held
    told = next((one.endpoints for one in reversed(record.attempts) if one.endpoints), [])
    return replace(
        bare,
        pushed=leaves.of_attempt(pushed) if pushed else None,
        pushed_at=(pushed.ended or pushed.started) if pushed else None,
        staged=bool(pushed and pushed.outcome == STAGED),
        tried_at=last.started,
        failure=failed or (CUT_OFF if cut_off else ""),
        failures=record.failures() + cut_off,
        running=last.outcome == RUNNING and held,
        endpoints=tuple(dict.fromkeys((*told, *bare.endpoints))),
    )


def _unhooked(one: Watched, placement: Placement) -> Finding:
    words = ["getcert", "start-tracking", "-i", one.source, "-C", shlex.join(placement.command)]
    return Finding(
        Level.WARNING,
        "unhooked",
        "renewals reach it by certhooks reconcile alone: the request has no post-save command for it",
        shlex.join(words) if placement.command else None,
    )


def _pushed_once(plan: Optional[Plan], placement: Placement) -> Watched:
    """Return the certificate of a placement that no request of certmonger's stands behind."""
    if plan and plan.common_name and not plan.tracked:
        leaf = leaves.of_file(plan.cert_file) if plan.cert_file else None
        file = str(plan.cert_file or "")
        return Watched(plan.common_name, file or "pushed once", "file", leaf, file=file)
    name = (plan and plan.common_name) or (placement.pushed and placement.pushed.name) or placement.label
    return Watched(name, "pushed once", "journal")


def _may_live(attempt: Optional[Attempt], now: float) -> bool:
    return bool(attempt and attempt.outcome == RUNNING and now - attempt.started < _LIVES)


def _modified(path: Optional[str]) -> Optional[float]:
    try:
        return Path(path).stat().st_mtime if path else None
    except OSError:
        return None
