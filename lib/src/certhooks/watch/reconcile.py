"""Repairs what is out of step: runs the install commands that were lost or failed, each once, after growing pauses."""

from __future__ import annotations

import logging
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING, Callable, NamedTuple, Optional

from certhooks import installers
from certhooks.errors import CredentialsError, NotServedError, StateError
from certhooks.watch import schedule
from certhooks.watch.judge import in_step
from certhooks.watch.observe import assess, look
from certhooks.watch.runner import Ended, Runner

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from certhooks import cli
    from certhooks.watch.judge import Limits
    from certhooks.watch.model import Overview
    from certhooks.watch.observe import Look
    from certhooks.watch.schedule import Task, Tries

_STARTS_WITHIN = 1800.0  # seconds; then people are told, and the next run goes on with what is due for the longest time
GRACE = 330.0  # seconds that a command gets after its own deadline: it may be taking back what it did
_log = logging.getLogger(__name__)


class Outcome(NamedTuple):
    """How it all stands at the end of a run, how each command ended that was run, and why that was not kept."""

    overview: Overview
    ended: tuple[tuple[Task, Ended], ...] = ()
    problem: Optional[StateError] = None

    @property
    def exit_code(self) -> int:
        """The first failed command's exit code, 0 when none failed."""
        return next((ended.code if ended.code > 0 else 1 for _task, ended in self.ended if ended.code), 0)


def _named(task: Task, seen: Look, began: float) -> Task:
    """Return the task as a repair where a look changed something: the device had lost what it had."""
    targets = {placement.target for placement in task.placements}
    found = [each for one in seen.watched for each in one.placements if each.target in targets]
    return replace(task, look=task.look and not any((each.changed_at or 0.0) >= began for each in found))


class Reconcile:
    """One run over everything.

    Args:
        state_dir: journals, and what was tried.
        seconds: how long each command may take; its own deadline and some minutes more where it is None.
        jobs: commands side by side.
        at_once: pauses do not count.
        clock: seconds since the epoch; replaced in tests.
    """

    def __init__(
        self,
        state_dir: Path,
        screen: cli.Screen,
        limits: Limits,
        *,
        seconds: Optional[float] = None,
        jobs: int = 4,
        at_once: bool = False,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._state_dir = state_dir
        self._screen = screen
        self._limits = limits
        self._seconds = seconds
        self._jobs = jobs
        self._at_once = at_once
        self._clock = clock
        self._runner = Runner()
        self._refused: dict[str, str] = {}  # by install command: who refused its login; accounts are locked by the next

    def plan(self) -> tuple[Overview, list[Task]]:
        """Return how everything stands and every command that there is a reason to run, now or later."""
        tries = schedule.Tries(self._state_dir)
        overview = assess(self._look(), tries, self._limits)
        return overview, schedule.tasks(overview, tries)

    def run(self) -> Outcome:
        """Run what is due, and look again where something ran; what failed is remembered, however this ends."""
        tries = schedule.Tries(self._state_dir)
        seen = self._look()
        overview = assess(seen, tries, self._limits)
        due = [task for task in schedule.tasks(overview, tries) if self._at_once or task.due <= overview.at]
        try:
            ended = self._run_all(due, tries, schedule.goals(seen.watched))
            if ended:
                seen = self._look()
            unseen = self._remember(tries, seen, {task.key: how.code for task, how in ended})
            ended = [(_named(task, seen, overview.at), unseen.get(task.key, how)) for task, how in ended]
        finally:
            problem = self._save(tries, seen)
        return Outcome(assess(seen, tries, self._limits), tuple(ended), problem)

    def _look(self) -> Look:
        return look(self._state_dir, clock=self._clock, tell=self._screen.tell)

    def _run_all(self, due: Sequence[Task], tries: Tries, goals: Mapping[str, str]) -> list[tuple[Task, Ended]]:
        """Run commands side by side, the longest due first, and start none after half an hour: the next run does."""
        until = time.monotonic() + _STARTS_WITHIN

        def run_one(task: Task) -> Optional[Ended]:
            return self._run_one(task, tries, goals[task.key]) if time.monotonic() < until else None

        if not due:
            return []
        with ThreadPoolExecutor(max(1, min(self._jobs, len(due)))) as pool:
            try:
                return [(task, ended) for task, ended in zip(due, pool.map(run_one, due)) if ended]
            except BaseException:
                self._screen.warn("interrupted: the commands that run are asked to take back what they began")
                self._runner.end_all()
                raise

    def _run_one(self, task: Task, tries: Tries, goals: str) -> Ended:
        where, installer = task.where, (installers.recognise(task.command) or ("",))[0]
        if installer in self._refused:
            told = f"it was not run: {self._refused[installer]} refused our login"
            return Ended(CredentialsError.exit_code, told=told)
        self._screen.tell(where, f"running its install command: {task.why}")
        _log.info("%s: running %s, because: %s", where, task.typed, task.why)
        seconds = task.timeout + GRACE if self._seconds is None else self._seconds
        began = self._clock()
        ended = self._runner.run(task.command, cwd=task.cwd, uid=task.uid, seconds=seconds)
        if ended.code == CredentialsError.exit_code and installer:
            self._refused.setdefault(installer, where)
        before = tries.get(task.key)
        if ended.code and not self._runner.is_over:
            tries.failed(task.key, ended.error, goals=goals, began=began, at=self._clock())
        if not ended.code:
            _log.info("%s: the install command ended well", where)
        elif before.error == ended.error:
            _log.error("%s: as before, %d times now (exit status %d)", where, before.times + 1, ended.code)
        else:
            _log.error("%s: %s (exit status %d)", where, ended.error, ended.code)
        return ended

    def _remember(self, tries: Tries, seen: Look, codes: Mapping[str, int]) -> dict[str, Ended]:
        """Forget what was in vain where all is in step again; return what ended well and is not: in vain too."""
        unseen: dict[str, Ended] = {}
        goals = schedule.goals(seen.watched)
        for name, places in schedule.by_command(seen.watched).items():
            if any(placement.running for _one, placement in places):
                continue
            wrong = [placement for one, placement in places if placement.failure or not in_step(one, placement)]
            if not wrong and (name in codes or tries.get(name).times):
                tries.ended_well(name, self._clock())
            elif wrong and codes.get(name) == 0:
                error = f"the install command ended well, but {wrong[0].label} does not have the certificate"
                now = self._clock()
                tries.failed(name, error, goals=goals[name], began=now, at=now)
                unseen[name] = Ended(NotServedError.exit_code, told=error)
        return unseen

    def _save(self, tries: Tries, seen: Look) -> Optional[StateError]:
        try:
            tries.save(schedule.by_command(seen.watched), self._clock())
        except StateError as e:  # a full disk: what was repaired is repaired, and people have to be told
            return e
        return None
