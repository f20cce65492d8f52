"""Commits and pushes: asked for, waited for when somebody else is in the way, and followed to their real end.

A job that is FIN has not succeeded before its result is OK; a Panorama's push has not before every device's is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Callable, NamedTuple, Optional, TypeVar
from xml.sax.saxutils import escape

from certhooks.deadline import growing
from certhooks.errors import ActivationError, CredentialsError, DeadlineError, UnreachableError
from certhooks_pan.xapi import RefusedError, RightsError, lines

if TYPE_CHECKING:
    from collections.abc import Iterable
    from xml.etree.ElementTree import Element

    from certhooks.target import Run
    from certhooks_pan.xapi import Client

_T = TypeVar("_T")
_RESTART = 300.0  # seconds that the management server may be away while it takes a new certificate
_NOT_THERE = "7"
_LOOK = "show jobs all on the device tells how it ended; then run the same command again"
_FIRST_POLL, _SLOWEST_POLL = 0.1, 4.0  # faster than 2 s may slow a long job down (pango), slower wastes a short one


class Device(NamedTuple):
    """How a push ended on one device behind a Panorama."""

    name: str
    result: str
    messages: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether the device itself says OK."""
        return self.result == "OK"


class Job(NamedTuple):
    """A job as ``show jobs id`` tells it."""

    number: str
    status: str
    result: str
    progress: str = ""
    details: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    devices: tuple[Device, ...] = ()

    @property
    def finished(self) -> bool:
        """Whether it is over: on every device that it went to, unless it has failed as a whole."""
        return self.status == "FIN" and (self.result != "OK" or all(d.result != "PEND" for d in self.devices))


def when_free(ask: Callable[[], _T], run: Run, who: Callable[[], str] = str) -> _T:
    """Ask, again as long as another commit or somebody's lock is in the way; the deadline ends it.

    ``who`` tells whose lock it is, where the device's refusal does not.

    Raises:
        DeadlineError: naming what was in the way.
    """
    for pause in growing(0.5, 10.0):
        try:
            return ask()
        except RefusedError as e:
            if not e.busy:
                raise
            reason = f"{e} {who()}".rstrip()
            run.tell(f"waiting: {reason}")
            try:
                run.deadline.pause(pause)
            except DeadlineError as over:
                raise DeadlineError(
                    f"{over}: {reason}", hint="show jobs all and show commit-locks tell who is at work"
                ) from e
    raise AssertionError("growing() has no end")


def partial(admin: str, description: str, *, force: bool = False) -> str:
    """Return the command that commits one administrator's changes and nobody else's."""
    inner = f"<partial><admin><member>{escape(admin)}</member></admin></partial>"
    return _commit(f"<force>{inner}</force>" if force else inner, description)


def full(description: str) -> str:
    """Return the command that commits everything that is pending, whoever made it."""
    return _commit("", description)


def push_stack(name: str, description: str) -> str:
    """Return the command that pushes a template stack to its devices."""
    return (
        f"<commit-all><template-stack><name>{escape(name)}</name><description>{escape(description)}</description>"
        "</template-stack></commit-all>"
    )


def start_commit(
    client: Client, send: Callable[[str], Element], cmd: Callable[[str], str], description: str, run: Run
) -> Optional[str]:
    """Ask for a commit and return its job's number; None when there is nothing to commit, in either dialect.

    ``send`` takes the command that ``cmd`` makes from a description; some versions refuse one, and get an empty one.

    Raises:
        ActivationError: the device refused it.
    """
    try:
        reply = when_free(lambda: send(cmd(description)), run, lambda: _lock_holders(client))
    except RefusedError as e:
        if description and "description" in str(e):
            return start_commit(client, send, cmd, "", run)
        raise ActivationError(f"the commit was refused: {e}", hint=e.hint) from e
    number = (reply.findtext("result/job") or "").strip()
    if not number:
        run.tell("nothing to commit")
    return number or None


def start_push(client: Client, cmd: str, run: Run) -> str:
    """Ask a Panorama for a push and return its job's number.

    Raises:
        ActivationError: Panorama refused it.
    """
    try:
        reply = when_free(lambda: client.commit(cmd, "all"), run)
    except RefusedError as e:
        raise ActivationError(f"the push was refused: {e}", hint=e.hint) from e
    number = (reply.findtext("result/job") or "").strip()
    if not number:
        raise ActivationError(f"Panorama started no push: {lines(reply)[:200]}")
    return number


def follow(client: Client, number: str, run: Run) -> Optional[Job]:
    """Return a job when it is over, whatever its result; None when the device no longer knows it.

    A device forgets its jobs when its management server restarts, and another administrator can clear them.

    Raises:
        ActivationError: the job cannot be followed.
        DeadlineError: it did not end in time.
        UnreachableError, CredentialsError: the device did not come back within five minutes.
    """
    shown = ""
    for pause in growing(_FIRST_POLL, _SLOWEST_POLL):
        try:
            job = patiently(lambda: _look(client, number), client, run, f"job {number}")
        except RefusedError as e:
            if e.code == _NOT_THERE or "not found" in str(e):
                run.tell(f"job {number} is not known any more: looking at what is running instead")
                return None
            raise ActivationError(f"job {number} cannot be followed: {e}", hint=_LOOK) from e
        if job.finished:
            return job
        now = f"job {number}: {job.status} {job.progress}".rstrip()
        if now != shown:
            run.tell(now)
            shown = now
        run.deadline.pause(pause, f"job {number}")
    raise AssertionError("growing() has no end")


def patiently(ask: Callable[[], _T], client: Client, run: Run, what: str) -> _T:
    """Ask, again while the management server is away because its certificate has just changed.

    Its services start one by one: connections are refused, then there is HTTP 502, then "Invalid credentials.".

    Raises:
        DeadlineError: the run's time is over.
        UnreachableError, CredentialsError: the device did not come back within five minutes.
    """
    patience = run.deadline.within(_RESTART)
    for pause in growing(_FIRST_POLL, _SLOWEST_POLL):
        run.deadline.check(what)
        try:
            return ask()
        except RightsError:
            raise
        except (UnreachableError, CredentialsError) as e:
            client.forget_trust()
            if patience.remaining() <= 0:
                raise
            run.tell(f"{what}: the management server is away ({e})")
        run.deadline.pause(pause, what)
    raise AssertionError("growing() has no end")


def active_commits(client: Client) -> list[str]:
    """Return the numbers of the commits that are queued or at work."""
    return [
        _text(node, "id")
        for node in client.op("<show><jobs><all/></jobs></show>").findall("result/job")
        if _text(node, "type").startswith("Commit") and _text(node, "status") in {"PEND", "ACT"} and _text(node, "id")
    ]


def expect_ok(job: Job, run: Run, what: str) -> None:
    """Show the job's warnings and return if its result is OK.

    Raises:
        ActivationError: with the device's own lines.
    """
    for warning in job.warnings:
        run.warn(f"{what}: {warning}")
    if job.result != "OK":
        raise ActivationError(
            f"{what} failed (job {job.number}): {told(job.details) or 'no reason given'}",
            hint=_advice(job.details),
        )


def told(details: Iterable[str]) -> str:
    """Return a job's lines as one; the first of them is often a heading."""
    return "; ".join(details).replace(":; ", ": ")


def read(reply: Element) -> Job:
    """Read the reply to ``show jobs id``.

    Raises:
        ActivationError: there is no job in it.
    """
    node = reply.find("result/job")
    if node is None or not node.findtext("status"):
        raise ActivationError(f"no job in the device's reply: {lines(reply)[:200] or 'empty'}", hint=_LOOK)
    return Job(
        number=_text(node, "id"),
        status=_text(node, "status"),
        result=_text(node, "result"),
        progress=_percent(_text(node, "progress")),
        details=_lines(node.findall("details/line")),
        warnings=_lines(node.findall("warnings/line")),
        devices=tuple(map(_device, node.findall("devices/entry"))),
    )


def _lock_holders(client: Client) -> str:
    """Tell who holds a commit lock; empty where nobody does or the device does not tell."""
    try:
        reply = client.op("<show><commit-locks/></show>")
    except (RefusedError, RightsError):
        return ""
    names = sorted({name for entry in reply.iter("entry") if (name := entry.get("name"))})
    return f"(commit lock of {', '.join(names)})" if names else ""


def _look(client: Client, number: str) -> Job:
    job = read(client.op(f"<show><jobs><id>{escape(number)}</id></jobs></show>"))
    if job.number != number:
        raise ActivationError(f"the device told of job {job.number[:20]!r} in place of job {number}", hint=_LOOK)
    return job


def _device(entry: Element) -> Device:
    name = _text(entry, "devicename") or _text(entry, "serial-no")
    serial = _text(entry, "serial-no")
    return Device(
        f"{name} ({serial})" if serial and serial != name else name or "unknown",
        _text(entry, "result") or "PEND",
        # the success line stands in <errors> too: these are messages, the result says what they mean
        _lines(entry.findall("details/msg/errors/line") or entry.findall("details//line")),
    )


def _text(node: Element, name: str) -> str:
    return (node.findtext(name) or "").strip()


def _percent(text: str) -> str:
    """Return the progress; for some finished jobs it holds a date."""
    return f"{text} %" if text.isdigit() else ""


def _lines(nodes: Iterable[Element]) -> tuple[str, ...]:
    texts = (" ".join("".join(node.itertext()).split()) for node in nodes)
    return tuple(dict.fromkeys(text for text in texts if text))


def _commit(inner: str, description: str) -> str:
    told = f"<description>{escape(description)}</description>" if description else ""
    return f"<commit>{told}{inner}</commit>"


def _advice(details: tuple[str, ...]) -> str:
    text = " ".join(details)
    if "missing 'protocol-settings'" in text:
        return "a profile without settings was made by hand or by a script: complete or delete it on the device"
    if "missing 'common-name'" in text:
        return "this device needs a certificate with a common name: ask the CA for a profile that keeps it"
    return "mend what the device names, then run the same command again"
