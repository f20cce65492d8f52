"""What there is to watch: certmonger's requests with the targets of their post-save commands, and what was pushed else.

Nothing is asked but certmonger and the state folder; no device is connected to, and nothing is judged here.
"""

from __future__ import annotations

import os
import pwd
import shlex
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Callable, NamedTuple, Optional

from certhooks import installers
from certhooks.deploy import fault
from certhooks.errors import Error, StateError
from certhooks.journal import DONE, FAILED, RUNNING, STAGED, UNDONE, Journal, state_error
from certhooks.postsave import split
from certhooks.watch import leaves
from certhooks.watch.model import CUT_OFF, Finding, Level, Placement, Watched

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from certhooks.install import Place
    from certhooks.installers import Plan
    from certhooks.journal import Attempt, Record
    from certhooks.request import Request

_LONGEST = 500  # characters of an error
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

    Raises:
        StateError: that folder cannot be used.
    """

    def __init__(self, now: float, state_dir: Path) -> None:
        self._now = now
        self._journals: dict[tuple[Path, str], Journal] = {}
        self._own = self._opened(state_dir)
        self._claimed: set[Path] = set()
        self._plans: dict[tuple[str, tuple[str, ...]], _Understood] = {}
        self._known: set[tuple[Optional[int], tuple[str, ...]]] = set()
        self._found: list[Watched] = []
        self._others: dict[tuple[str, str], Watched] = {}
        self._by_file: dict[str, int] = {}
        self._by_name: dict[str, int] = {}
        self._scripts: set[int] = set()  # requests whose post-save command is none of ours

    def watched(self, requests: Sequence[Request], *, history: bool = False) -> list[Watched]:
        """Return every certificate with its targets: the requests in their order, then what only the journal knows.

        ``history``: also what something else was put in the place of since: to bring it back would undo that.
        """
        self._found = [_bare(request) for request in requests]
        self._by_file = {os.path.realpath(one.file): at for at, one in enumerate(self._found) if one.file}
        self._by_name = {one.name.lower(): at for at, one in reversed(list(enumerate(self._found)))}
        for at, request in enumerate(requests):
            self._add_request(at, request)
        pushed = []
        for record in self._own.records(besides=self._claimed.copy()):
            if record.damaged:
                self._add_damaged(record)
            elif record.attempts:
                pushed.append(self._of_record(record))
        now_there = [placement for one in (*self._found, *self._others.values()) for placement in one.placements]
        newest = _newest([*now_there, *(placement for _plan, placement, _problem in pushed)])
        for plan, placement, problem in pushed:
            if history or not any(newest[slot] > (placement.tried_at or 0.0) for slot in placement.slots):
                self._add_pushed(plan, placement, problem)
        return [*self._found, *self._others.values()]

    def _add_request(self, at: int, request: Request) -> None:
        """Add the targets of a request's post-save command, to the certificate that it installs."""
        plan, command, problem = self._understood(lambda: split(request.post_save or ""))
        self._found[at] = replace(self._found[at], findings=problem)
        if not plan:
            if request.post_save and not problem:
                self._scripts.add(at)
            return
        runs = request.in_post_save or request.saving
        since = _modified(request.cert_file) if request.in_post_save else None
        owner, uid = self._owner(plan, at), request.post_save_uid or ""
        if (owner, command) in self._known:  # another request has the same one
            return
        self._known.add((owner, command))
        placements = []
        for place in plan.places:
            placement = replace(self._place(plan, place, uid=uid), command=command, uid=uid, looks=not plan.forced)
            if runs and not placement.running:
                placement = replace(placement, running=True, tried_at=since)
            placements.append(placement)
        if owner is None:
            self._add_other(_from_file(plan), *placements)
        else:
            self._found[owner] = _with(self._found[owner], *placements)

    def _add_damaged(self, record: Record) -> None:
        text = "its journal cannot be read: what it should have is not known"
        hint = f"install there again, or: rm {shlex.quote(str(record.path))}"
        finding = Finding(Level.CRITICAL, "unknown", text, hint)
        self._add_other(Watched(record.target, str(record.path), "journal", findings=(finding,)))

    def _add_pushed(self, plan: Optional[Plan], placement: Placement, problem: tuple[Finding, ...]) -> None:
        """Add what only the journal knows."""
        owner = self._owner(plan, None) if plan and plan.tracked else None
        if owner is not None:
            if owner not in self._scripts:  # which may call ours
                placement = replace(placement, findings=(_unhooked(self._found[owner], placement),))
            self._found[owner] = _with(self._found[owner], placement)
        else:
            own = _pushed_once(plan, placement)
            self._add_other(replace(own, findings=(*own.findings, *problem)), placement)

    def _add_other(self, one: Watched, *placements: Placement) -> None:
        same = self._others.setdefault((one.name, one.source), one)
        self._others[one.name, one.source] = _with(same, *placements)

    def _owner(self, plan: Plan, at: Optional[int]) -> Optional[int]:
        """Return which request's certificate a command installs, that of request ``at`` where nothing tells otherwise.

        A command may stand in a request and install another one's certificate, or files that nobody tracks.
        """
        if plan.file:
            known = self._by_file.get(os.path.realpath(plan.file))
            if known is not None or not plan.tracked:
                return known
        if not plan.tracked or (at is not None and self._found[at].name.lower() == plan.common_name):
            return at
        return self._by_name.get(plan.common_name, at)

    def _of_record(self, record: Record) -> tuple[Optional[Plan], Placement, tuple[Finding, ...]]:
        """Return the placement that only the journal knows, with the plan of the command that brought it there."""
        last = record.repeated() or record.attempts[-1]
        cwd = last.cwd or "/"
        plan, words, problem = self._understood(lambda: last.command, cwd)
        place = next((one for one in plan.places if one.target == record.target), None) if plan else None
        if not (plan and place):  # nothing that would bring it there again
            bare = Placement(record.target, record.target)
            return plan, _placed(record, bare, held=_may_live(record.last, self._now)), problem
        brings = bool(plan.file) or not plan.common_name  # the device makes it
        if plan.tracked:
            brings = self._owner(plan, None) is not None
        runnable = "***" not in words  # else a secret was taken out: it cannot be run again
        placement = replace(
            self._place(plan, place, record),
            command=words if runnable else (),
            cwd=cwd,
            looks=brings and not plan.forced,
        )
        return plan, placement, problem

    def _place(self, plan: Plan, place: Place, record: Optional[Record] = None, *, uid: str = "") -> Placement:
        """Return what is known of one target."""
        probes = (*([str(place.address)] if place.served else []), *plan.probes)
        bare = Placement(
            place.target,
            str(place.address),
            slots=tuple(f"{place.device} {slot}" for slot in place.slots),
            timeout=plan.timeout,
            endpoints=tuple(dict.fromkeys(probes)),
        )
        try:
            journal = self._opened(plan.state_dir, uid) if plan.state_dir and not record else self._own
        except StateError as e:
            finding = Finding(Level.CRITICAL, "unknown", f"its journal cannot be read: {_short(str(e))}", e.hint)
            return replace(bare, findings=(finding,))
        record = record or journal.record(place.target)
        self._claimed.add(record.path)
        return _placed(record, bare, held=journal.is_held(place.device))

    def _understood(self, stored: Callable[[], Iterable[str]], cwd: str = "/") -> _Understood:
        """Return what a stored command would do; the same one is looked at once, however many targets it has."""
        words: tuple[str, ...] = ()
        try:
            words = tuple(stored())
            if (cwd, words) not in self._plans:
                known = installers.recognise(words)
                plan = installers.plan(*known, cwd) if known else None
                self._plans[cwd, words] = _Understood(plan, words)
        except Exception as e:  # noqa: BLE001  what is wrong with one command must not hide all the others
            error = e if isinstance(e, Error) else fault(e)
            hint = error.hint or (f"see {shlex.join(words)}" if words else "")
            text = f"its install command is not understood: {_short(str(error))}"
            return _Understood(None, words, (Finding(Level.CRITICAL, "unknown", text, _short(hint) or None),))
        return self._plans[cwd, words]

    def _opened(self, folder: Path, uid: str = "") -> Journal:
        """Return a journal to look into, which the user of a post-save command may own.

        Raises:
            StateError: it cannot be used.
        """
        made = self._journals.get((folder, uid))
        if not made:
            try:
                real, owner = Path(os.path.realpath(folder)), _number(uid)
            except ValueError as e:  # a NUL
                raise state_error(e, folder) from e
            made = self._journals[folder, uid] = Journal(real, only_look=True, owner=owner)
        return made


def _short(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."


def _bare(request: Request) -> Watched:
    return Watched(
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


def _newest(placements: Iterable[Placement]) -> dict[str, float]:
    """Return when something was put into each slot last, or when that was tried."""
    found: dict[str, float] = {}
    for placement in placements:
        for slot in placement.slots:
            found[slot] = max(found.get(slot, 0.0), placement.tried_at or 0.0)
    return found


def _with(one: Watched, *placements: Placement) -> Watched:
    return replace(one, placements=(*one.placements, *placements))


def _placed(record: Record, bare: Placement, *, held: bool) -> Placement:
    """Return a placement with what the journal tells of it."""
    last, pushed = record.last, record.pushed()
    if last is None:
        return bare
    failed = last.message if last.outcome in {FAILED, UNDONE} else ""
    changed = next((one.ended for one in reversed(record.attempts) if one.outcome in {DONE, STAGED}), None)
    cut_off = last.outcome == RUNNING and not held
    told = next((one.endpoints for one in reversed(record.attempts) if one.endpoints), [])
    return replace(
        bare,
        pushed=leaves.of_attempt(pushed) if pushed else None,
        pushed_at=(pushed.ended or pushed.started) if pushed else None,
        staged=bool(pushed and pushed.outcome == STAGED),
        tried_at=last.started,
        changed_at=changed,
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
        return _from_file(plan)
    name = (plan and plan.common_name) or (placement.pushed and placement.pushed.name) or placement.label
    return Watched(name, "pushed once", "journal" if not plan or plan.tracked else "device")


def _from_file(plan: Plan) -> Watched:
    leaf = leaves.of_file(plan.file) if plan.file else None
    file = str(plan.file or "")
    findings: tuple[Finding, ...] = ()
    if plan.file is None:
        text = "its files are not where they were when it was pushed: it cannot be installed again"
        hint = "put them back, or: certhooks forget FQDN; units with ProtectHome= see no /home"
        findings = (Finding(Level.WARNING, "gone", text, hint),)
    return Watched(plan.common_name, file or "pushed once", "file", leaf, file=file, findings=findings)


def _may_live(attempt: Optional[Attempt], now: float) -> bool:
    return bool(attempt and attempt.outcome == RUNNING and abs(now - attempt.started) < _LIVES)


def _modified(path: Optional[str]) -> Optional[float]:
    try:
        return Path(path).stat().st_mtime if path else None
    except OSError:
        return None


def _number(uid: str) -> int:
    """Return the number of a user, 0 where that is not known."""
    try:
        return int(uid) if uid.isdigit() else pwd.getpwnam(uid).pw_uid if uid else 0
    except (KeyError, ValueError):
        return 0
