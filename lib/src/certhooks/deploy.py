"""One certificate to many targets: everything that is the same whatever the device is.

Each target is inspected; then, one lock a device and one device of a group at a time, what differs is installed,
activated, verified, and on failure rolled back, with the journal written before each step.
"""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple, Optional, TypeVar, Union

from certhooks import probe
from certhooks.deadline import Deadline
from certhooks.errors import ConnectionLostError, DeadlineError, Error, RolledBackError, StateError, UnreachableError
from certhooks.journal import DONE, FAILED, STAGED, UNCHANGED, UNDONE, Attempt, Journal
from certhooks.order import Order
from certhooks.secrets import redact
from certhooks.target import AnyTarget, Inspection, Run, Undone

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from certhooks.address import Address
    from certhooks.bundle import Bundle
    from certhooks.journal import Record

_T = TypeVar("_T")
# Seconds between the tries of a stage whose connection broke. Once a change is on its way into use, a device may
# restart its web server: that takes minutes on PAN-OS.
_PAUSES = (0.1, 1.0, 4.0)
_PAUSES_IN_USE = (0.1, 0.5, 1.0, 2.0, 4.0, 8.0, *[15.0] * 18)
_GRACE = 300.0  # seconds for taking changes back after the deadline: a commit that runs, and one more
PLANNED = "planned"


@dataclass
class Result:
    """How it ended on one target; ``outcome`` is planned, unchanged, done, staged, failed or undone."""

    target: str
    device: str = ""
    outcome: str = FAILED
    exit_code: int = 0
    message: str = ""
    hint: Optional[str] = None
    changes: tuple[str, ...] = ()
    parts: list[dict[str, str]] = field(default_factory=list)
    pruned: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    seconds: float = 0.0

    def as_dict(self) -> dict[str, Any]:
        """Return it for ``--json``."""
        return asdict(self)


class Options(NamedTuple):
    """What the user wants of a run.

    ``stage_only``: the target does not bring it into use, so there is nothing to verify. ``command`` in the folder
    ``cwd`` is what reconcile runs again.
    """

    timeout: float = 900.0
    jobs: int = 100
    dry_run: bool = False
    force: bool = False
    prune: bool = False
    stage_only: bool = False
    probes: tuple[Address, ...] = ()
    command: tuple[str, ...] = ()
    cwd: str = ""


class Deployment:
    """One bundle on its way to its targets, or an order that each of them has signed for itself.

    Args:
        tell: called with a target's name and a text whenever something is worth showing.
        alert: called with what has to be shown at once.
    """

    def __init__(
        self,
        bundle: Union[Bundle, Order],
        journal: Journal,
        options: Options,
        tell: Callable[[str, str], None] = lambda _who, _what: None,
        alert: Callable[[str], None] = lambda _what: None,
    ) -> None:
        self.bundle = bundle
        self.journal = journal
        self.options = options
        self.deadline = Deadline(options.timeout)
        self.command = [redact(word) for word in options.command]
        self._tell = tell
        self._alert = alert
        self.results: list[Result] = []
        self._turns: dict[str, threading.Lock] = {}
        self._gone: set[str] = set()

    def run(self, targets: Sequence[AnyTarget[Any]]) -> list[Result]:
        """Do all targets, side by side where their groups allow it, and return a result each, in the same order.

        Left by an interrupt, ``results`` tells how far each came; what was begun has been taken back then.
        """
        workers = max(1, min(self.options.jobs, len(targets)))
        pushes = [_Push(self, target) for target in targets]
        self.results = [push.result for push in pushes]
        with ThreadPoolExecutor(workers) as pool:
            try:
                list(pool.map(_Push.look_and_push, pushes))
                # Those that take their configuration from another of the group come when the others have it.
                list(pool.map(_Push.push, [push for push in pushes if push.rank > 0]))
            except BaseException:
                self.deadline.interrupt()
                self._alert("interrupted: taking back what was begun, where that can be; what runs there is waited for")
                raise
        return self.results

    @contextmanager
    def turn(self, group: str) -> Iterator[bool]:
        """Let one device of a group at a time through; yields whether another of it went before."""
        with self._turns.setdefault(group, threading.Lock()):
            yield group in self._gone
            self._gone.add(group)

    def tell(self, who: str, what: str) -> None:
        """Pass on what is worth showing, without secrets."""
        self._tell(who, redact(what))


class _Push:
    """The bundle on its way to one target."""

    def __init__(self, deployment: Deployment, target: AnyTarget[Any]) -> None:
        self.deployment = deployment
        given = deployment.bundle
        self.bundle = given.fresh() if isinstance(given, Order) else given
        self.options = deployment.options
        self.target = target
        self.inspection: Optional[Inspection] = None
        self.looked_at = 0.0
        self.result = Result(target.name, target.label)
        self.failure: Optional[Error] = None
        self.target.run = Run(
            deployment.deadline, lambda text: deployment.tell(target.label, text), parts=self.result.parts
        )

    @property
    def rank(self) -> int:
        """Where in its group the target comes; 0 while that is not known."""
        return self.inspection.rank if self.inspection else 0

    @property
    def endpoints(self) -> tuple[Address, ...]:
        """Where the certificate is to be seen, as far as that is known."""
        return (*(self.inspection.endpoints if self.inspection else ()), *self.options.probes)

    @property
    def group(self) -> str:
        """What the target shares with others that go in turn with it; its device while that is not known."""
        return (self.inspection.group if self.inspection else "") or self.target.device

    def look_and_push(self) -> None:
        """Inspect, and push unless the target has to wait for another of its group."""
        self.look()
        if self.rank == 0:
            self.push()

    def look(self) -> None:
        """Inspect, and check what the target needs; a failure is kept for the result."""
        try:
            self._inspect()
        except Error as e:
            self.failure = e
        except Exception as e:  # noqa: BLE001  one target's fault must not stop the others; it becomes its result
            self.failure = fault(e)

    def push(self) -> None:
        """Bring the certificate to the target, alone in its group, and fill in the result."""
        started = time.monotonic()
        try:
            with self.deployment.turn(self.group) as not_first:
                self._push(look_again=not_first)
        except Error as e:
            self._fail(e)
        except Exception as e:  # noqa: BLE001  as above
            self._fail(fault(e))
        finally:
            self.result.seconds = round(time.monotonic() - started, 3)
            self.result.warnings = [redact(text) for text in self.target.run.warnings]
            self.target.close()

    def _inspect(self) -> Inspection:
        self.deployment.deadline.check("the run")
        self.looked_at = time.time()
        record = self.deployment.journal.record(self.target.name)
        self.target.run.leftover, self.target.run.achieved = tuple(record.unfinished()), _achieved(record)
        self.target.run.tell("looking at what is installed")
        self.inspection = self._persist(lambda: self.target.inspect(self.bundle))
        needs = self.target.needs()
        odd = self.bundle.check(
            names=needs.names,
            key_types=needs.key_types,
            min_rsa_bits=needs.min_rsa_bits,
            common_name=needs.common_name,
        )
        for remark in odd:
            self.target.run.warn(remark)
        return self.inspection

    @contextmanager
    def _locked(self) -> Iterator[float]:
        """Hold the device alone, under what it calls itself and under its address; yields when it was last held."""
        lock, device = self.deployment.journal.lock, self.target.device
        with ExitStack() as held:
            yield max(
                held.enter_context(lock(name, self.deployment.deadline, label=device))
                for name in dict.fromkeys((self.group, device))
            )

    def _push(self, *, look_again: bool) -> None:
        if self.options.dry_run:
            self._plan()
            return
        with self._locked() as last_held:
            record = self.deployment.journal.record(self.target.name)
            try:
                inspection = self._current_inspection(again=look_again or last_held >= self.looked_at)
            except BaseException as e:
                error = e if isinstance(e, Error) else fault(e)
                self._note(lambda: record.end(record.begin(self._attempt()), UNDONE, error.exit_code, str(error)))
                raise
            self.result.changes = inspection.changes
            endpoints = self.endpoints
            if not inspection.changes and not self.options.force and self._is_served(endpoints):
                if self._prunes(inspection):
                    attempt = record.begin(self._attempt(inspection.touches))
                    record.step(attempt, "prune")
                    tidy = self._prune()
                    # Not done: what it touched stays known, since it may have left something in the candidate.
                    self._note(lambda: record.end(attempt, DONE if tidy else UNCHANGED))
                else:
                    self._note(lambda: record.end(record.begin(self._attempt()), UNCHANGED))
                self.result.outcome, self.result.message = UNCHANGED, "nothing to do, it is installed"
                if endpoints and not self.options.stage_only:
                    self.result.message += " and served by " + ", ".join(map(str, endpoints))
                return
            attempt = record.begin(self._attempt(inspection.touches))
            try:
                self._carry_out(lambda name: record.step(self._identify(attempt), name), endpoints)
            except BaseException as e:
                error = e if isinstance(e, Error) else fault(e)
                undone, error = self._take_back(error, lambda: record.step(attempt, "rollback"))
                outcome = UNDONE if undone else FAILED
                self._note(lambda: record.end(self._identify(attempt), outcome, error.exit_code, str(error)))
                self.result.outcome = outcome
                raise error from e
            self._succeed(record_end=lambda outcome: record.end(attempt, outcome), endpoints=endpoints)

    def _current_inspection(self, *, again: bool) -> Inspection:
        """Return what is there now; what was seen without the lock may have been another run's half-done work."""
        if again:
            return self._inspect()
        if self.failure:
            raise self.failure
        return self.inspection or self._inspect()

    def _plan(self) -> None:
        if self.failure:
            raise self.failure
        inspection = self.inspection or self._inspect()
        served = self._is_served(self.endpoints)
        extra: tuple[str, ...] = (
            () if served or inspection.changes else ("bring it into use again, because another certificate is served",)
        )
        if self.options.force and not inspection.changes:
            extra = ("install it again",)
        if self._prunes(inspection):
            extra += tuple(f"remove {name}" for name in inspection.superseded)
        self.result.outcome, self.result.changes = PLANNED, (*inspection.changes, *extra)
        self.result.message = "would " + "; ".join(self.result.changes) if self.result.changes else "nothing to do"

    def _carry_out(self, record_step: Callable[[str], None], endpoints: Sequence[Address]) -> None:
        record_step("install")
        self._persist(lambda: self.target.install(self.bundle))
        record_step("activate")
        self._persist(lambda: self.target.activate(self.bundle), in_use=True)
        if not self.options.stage_only:
            self._note(lambda: record_step("verify"))  # only a look: no reason to take back what is in use
            self._persist(lambda: self.target.verify(self.bundle, tuple(endpoints)), in_use=True)

    def _succeed(self, record_end: Callable[[str], None], endpoints: Sequence[Address]) -> None:
        outcome = STAGED if self.options.stage_only else DONE
        if self.options.prune and not self.options.stage_only:
            self._prune()
        self._note(lambda: record_end(outcome))
        self.result.outcome = outcome
        self.result.message = "in the candidate, not committed" if self.options.stage_only else "installed"
        if endpoints and not self.options.stage_only:
            self.result.message += ", served by " + ", ".join(map(str, endpoints))

    def _prunes(self, inspection: Inspection) -> bool:
        return self.options.prune and not self.options.stage_only and bool(inspection.superseded)

    def _prune(self) -> bool:
        """Tidy up, and tell whether that went well; the certificate is in use, so that what stays is a remark."""
        try:
            self.result.pruned = self._persist(lambda: self.target.prune(self.bundle), in_use=True)
        except Error as e:
            self.target.run.warn(f"could not prune: {e}")
        except Exception as e:  # noqa: BLE001  the install is done, whatever is wrong with the rest
            self.target.run.warn(f"could not prune: {fault(e)}")
        else:
            return True
        return False

    def _take_back(self, error: Error, record_step: Callable[[], None]) -> tuple[bool, Error]:
        """Roll back; return whether nothing is left behind, and the error to report."""
        deadline = self.deployment.deadline
        if deadline.remaining() < _GRACE:
            self.target.run.deadline = Deadline(_GRACE)
        self.target.run.tell(f"failed: {error}; taking our changes back")
        self._note(record_step)
        try:
            left = self._persist(self.target.rollback, in_use=True)
        except Error as e:
            self.target.run.warn(f"our changes could not be taken back: {e}")
            return False, error
        except Exception as e:  # noqa: BLE001  the first failure is the one to report
            self.target.run.warn(f"our changes could not be taken back: {fault(e)}")
            return False, error
        if left is Undone.RESTORED:
            return True, RolledBackError(f"{error}; the previous certificate is back in place", hint=error.hint)
        return left is Undone.CLEAN, error

    def _persist(self, stage: Callable[[], _T], *, in_use: bool = False) -> _T:
        """Do a stage, again when the connection broke in the middle of it: every stage may be repeated.

        With ``in_use`` a device that does not answer at all is waited for as well: it did before.
        """
        lost: Optional[UnreachableError] = None
        for pause in (*(_PAUSES_IN_USE if in_use else _PAUSES), None):
            try:
                return stage()
            except UnreachableError as e:
                if pause is None or not (lost or in_use or isinstance(e, ConnectionLostError)):
                    raise
                lost = e
            run = self.target.run
            run.tell(f"{lost}; trying again")
            try:
                run.deadline.pause(pause, "the wait for the device")
            except DeadlineError as over:
                raise DeadlineError(f"{over}: {lost}", hint=over.hint) from lost
        raise AssertionError("the last try returns or raises")

    def _note(self, write: Callable[[], object]) -> None:
        """Write to the journal what has happened already: a full disk is a remark then, and hides nothing."""
        try:
            write()
        except StateError as e:
            self.target.run.warn(str(e))

    def _is_served(self, endpoints: Iterable[Address]) -> bool:
        return self.options.stage_only or all(
            probe.serves(e, self.bundle.fingerprint, timeout=max(0.1, min(10.0, self.deployment.deadline.remaining())))
            for e in endpoints
        )

    def _attempt(self, touches: tuple[str, ...] = ()) -> Attempt:
        return self._identify(
            Attempt(
                fingerprint="",
                command=self.deployment.command,
                cwd=self.options.cwd,
                touches=list(touches),
                endpoints=[str(each) for each in self.endpoints],
            )
        )

    def _identify(self, attempt: Attempt) -> Attempt:
        """Note which certificate it is about: one that is signed on the way is not known from the start."""
        described = self.bundle.describe()
        attempt.fingerprint = self.bundle.fingerprint
        attempt.subject, attempt.not_after = (str(described.get(name, "")) for name in ("subject", "not_after"))
        return attempt

    def _fail(self, error: Error) -> None:
        self.result.exit_code = error.exit_code
        self.result.message, self.result.hint = redact(str(error)), redact(error.hint) if error.hint else None


def fault(error: BaseException) -> Error:
    """Return the one line for a fault of our own (exit code 70); where it arose goes to the log."""
    import logging
    import traceback

    where = " < ".join(f"{f.name}:{f.lineno}" for f in reversed(traceback.extract_tb(error.__traceback__)[-6:]))
    logging.getLogger("certhooks").error("fault: %s at %s", type(error).__name__, where)
    return Error(
        f"a fault of our own: {type(error).__name__}",
        hint="the log says where; please report it with that line",
    )


def _achieved(record: Record) -> str:
    """Return the fingerprint that the last run left in place, empty where it left something else behind or none ran."""
    for attempt in reversed(record.attempts):
        if attempt.outcome in {DONE, UNCHANGED}:
            return attempt.fingerprint
        if attempt.outcome != UNDONE:
            break
    return ""
