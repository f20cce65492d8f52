"""Jobs that run by the clock: no thread, a job is where its time says it is whenever somebody looks."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Callable, Optional
from xml.sax.saxutils import escape, quoteattr

from tests.lab.panos import replies

PEND, ACT, FIN = "PEND", "ACT", "FIN"
OK, FAIL = "OK", "FAIL"
_QUEUED_SHARE = 0.1  # of the duration a job waits as PEND
COMMITTED = "Configuration committed successfully"


@dataclass
class Outcome:
    """How a commit ends, when a test wants it otherwise than the configuration says.

    Attributes:
        fail: lines of ``details`` of a job with result FAIL.
        warnings: lines of ``warnings``.
        seconds: how long it takes; the device's ``commit_seconds`` unless told.
        never_ends: it stays ACT at 99 per cent.

    """

    fail: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    seconds: Optional[float] = None
    never_ends: bool = False


@dataclass
class DeviceResult:
    """How a push ends on one device, as it stands in the Panorama's job.

    Attributes:
        serial: the device's serial number.
        name: its host name.
        ok: the push's result there.
        lines: what it says; stands in ``errors`` even when all is well.
        warnings: what it warns of.
        seconds: how long it takes there, counted from the start of the job (it may outlast the job).
        never_ends: it stays PEND.

    """

    serial: str
    name: str
    ok: bool = True
    lines: tuple[str, ...] = (COMMITTED,)
    warnings: tuple[str, ...] = ()
    seconds: float = 0.0
    never_ends: bool = False


@dataclass
class Job:
    """One job; ``at_end`` is run once, when its time has come, and may fail it."""

    number: int
    user: str
    kind: str
    seconds: float
    description: str = ""
    never_ends: bool = False
    result: str = OK
    details: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    at_end: Optional[Callable[[Job], None]] = None
    devices: list[DeviceResult] = field(default_factory=list)
    push_type: str = ""  # template-stack, template or shared-policy
    pushed: str = ""  # the name of the stack, the template or the device group
    ended: bool = False
    started: float = field(default_factory=time.monotonic)
    enqueued: float = field(default_factory=time.time)

    @property
    def elapsed(self) -> float:
        """Seconds since it was enqueued."""
        return time.monotonic() - self.started

    @property
    def due(self) -> bool:
        """Its time is over."""
        return not self.never_ends and self.elapsed >= self.seconds

    @property
    def status(self) -> str:
        """PEND, ACT or FIN."""
        if self.ended:
            return FIN
        return PEND if self.elapsed < self.seconds * _QUEUED_SHARE else ACT

    @property
    def progress(self) -> int:
        """Per cent; 100 only when finished."""
        if self.ended:
            return 100
        return min(99, int(100 * self.elapsed / self.seconds)) if self.seconds else 99

    def end(self) -> None:
        """Finish it, once."""
        if self.ended:
            return
        if self.at_end:
            self.at_end(self)
        self.ended = True

    def xml(self, *, date_as_progress: bool = False) -> str:
        """Return the ``job`` element; warnings come before details while it runs, and after them when it is over."""
        begun, over = self.enqueued, self.enqueued + self.seconds
        details = f"<details>{replies.lines_of(self.details if self.ended else [])}</details>"
        warnings = f"<warnings>{replies.lines_of(self.warnings if self.ended else [])}</warnings>"
        stoppable = "yes" if not self.ended and self.progress < 99 else "no"
        progress = _date(over) if date_as_progress and self.ended else str(self.progress)
        parts = (
            f"<tenq>{_date(begun)}</tenq><tdeq>{_clock(begun)}</tdeq><id>{self.number}</id><user>{escape(self.user)}</user>"
            f"<type>{self.kind}</type><status>{self.status}</status>"
            f"<queued>{'YES' if self.status == PEND else 'NO'}</queued><stoppable>{stoppable}</stoppable>"
            f"<result>{self.result if self.ended else PEND}</result>"
            f"<tfin>{_clock(over) if self.ended else 'Still Active'}</tfin>"
            f"<description>{escape(self.description)}</description><positionInQ>0</positionInQ><progress>{progress}</progress>"
        )
        if self.kind == "CommitAll":
            devices = "".join(map(self._device, self.devices))
            why = details if self.details and self.ended else ""  # the recorded ones, all good, have none
            return f"<job>{parts}{self._push()}{why}{warnings}<devices>{devices}</devices></job>"
        return f"<job>{parts}{details + warnings if self.ended else warnings + details}</job>"

    def _push(self) -> str:
        return f"<push_type>{self.push_type}</push_type><dgname>{escape(self.pushed)}</dgname>"

    def _device(self, device: DeviceResult) -> str:
        over = not device.never_ends and self.elapsed >= device.seconds
        begun, ended = _clock(self.enqueued), _clock(self.enqueued + device.seconds)
        result = (OK if device.ok else FAIL) if over else PEND
        status = "commit succeeded" + (" with warnings" if device.warnings else "") if device.ok else "commit failed"
        details = ""
        if over:
            details = (
                f'<msg cmd="push-data" dname="{device.serial}" dgname={quoteattr(self.pushed)} jobid="{self.number}" '
                f'result="{"success" if device.ok else "failure"}">'
                f"<errors>{replies.lines_of(device.lines)}</errors>"
                f"<warnings>{replies.lines_of(device.warnings)}</warnings></msg>"
            )
        return (
            f"<entry><serial-no>{device.serial}</serial-no><devicename>{escape(device.name)}</devicename>"
            f"<multi-vsys>no</multi-vsys><vsys></vsys><status>{status if over else 'pending'}</status>"
            f"<result>{result}</result><tstart>{begun}</tstart><tfin>{ended if over else ''}</tfin>"
            f"<details>{details}</details></entry>"
        )


FAILED_JOB = (
    "<job><type>Failed-Job</type><details><line>job failed because of configd restart</line></details><warnings/></job>"
)


def _date(moment: float) -> str:
    return time.strftime("%Y/%m/%d %H:%M:%S", time.localtime(moment))


def _clock(moment: float) -> str:
    return time.strftime("%H:%M:%S", time.localtime(moment))
