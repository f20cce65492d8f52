"""Jobs: how the device's replies are read, and how long one waits for what."""

from __future__ import annotations

from typing import Any, Optional
from xml.etree import ElementTree as ET

import pytest

from certhooks.deadline import Deadline
from certhooks.errors import (
    ActivationError,
    ConnectionLostError,
    CredentialsError,
    DeadlineError,
    Error,
    UnreachableError,
)
from certhooks.target import Run
from certhooks_pan import jobs
from certhooks_pan.xapi import RefusedError, RightsError

DEVICE = (
    "<entry><serial-no>007</serial-no><devicename>fw</devicename><result>{result}</result><details><msg><errors>"
    "<line>{line}</line></errors><warnings><line>w</line></warnings></msg></details></entry>"
)


class Clock:
    """Time that passes only when somebody sleeps."""

    def __init__(self) -> None:
        self.now = 0.0

    def run(self, seconds: float) -> Run:
        """Return a run with this long."""
        return Run(Deadline(seconds, clock=lambda: self.now, sleep=self.sleep))

    def sleep(self, seconds: float) -> None:
        """Let time pass."""
        self.now += seconds


class Device:
    """Answers op and commit with what it was given, the last one for ever."""

    def __init__(self, *answers: object) -> None:
        self.answers = list(answers)
        self.asked: list[str] = []
        self.forgotten = 0

    def op(self, cmd: str) -> ET.Element:
        """Answer."""
        self.asked.append(cmd)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return ET.fromstring(str(answer))

    def commit(self, cmd: str, _action: Optional[str] = None) -> ET.Element:
        """Answer."""
        return self.op(cmd)

    def forget_trust(self) -> None:
        """Count."""
        self.forgotten += 1


def client(*answers: object) -> Any:
    """Return a device that a client of the XML API would be."""
    return Device(*answers)


def job(status: str = "FIN", result: str = "OK", more: str = "", progress: str = "100") -> str:
    """Return a reply to ``show jobs id``."""
    return (
        f"<response status='success'><result><job><id>7</id><status>{status}</status><result>{result}</result>"
        f"<progress>{progress}</progress>{more}</job></result></response>"
    )


def read(text: str) -> jobs.Job:
    """Read a reply."""
    return jobs.read(ET.fromstring(text))


def test_a_date_is_no_progress() -> None:
    """Some finished jobs hold a date where the percentage should be."""
    assert read(job(progress="2026/11/23 02:00:00")).progress == ""
    assert read(job(progress="55")).progress == "55 %"


def test_lines_are_told_once_and_in_order() -> None:
    """Details and warnings come as lines without markup, blank ones and repeats left out."""
    more = (
        "<details><line> a  b</line><line/><line>c</line><line>a b</line></details><warnings><line>w</line></warnings>"
    )
    assert (read(job(more=more)).details, read(job(more=more)).warnings) == (("a b", "c"), ("w",))


@pytest.mark.parametrize(
    ("status", "result", "devices", "finished"),
    [
        ("ACT", "PEND", [], False),
        ("FIN", "OK", [], True),
        ("FIN", "OK", ["OK", "PEND"], False),
        ("FIN", "OK", ["OK", "FAIL"], True),
        ("FIN", "OK", [""], False),
        ("FIN", "FAIL", ["PEND"], True),
    ],
)
def test_a_push_is_over_when_every_device_is(status: str, result: str, devices: list[str], *, finished: bool) -> None:
    """FIN of Panorama's job is not the end while a device is at it, unless the push failed as a whole."""
    entries = "".join(DEVICE.format(result=each, line="x") for each in devices)
    assert read(job(status, result, f"<devices>{entries}</devices>")).finished == finished


def test_the_success_line_in_errors_is_no_failure() -> None:
    """What a device says stands under ``errors`` even when all is well; its result decides."""
    more = f"<devices>{DEVICE.format(result='OK', line='Configuration committed successfully')}</devices>"
    (device,) = read(job(more=more)).devices
    assert device.ok
    assert device.name == "fw (007)"
    assert device.messages == ("Configuration committed successfully",)


@pytest.mark.parametrize(
    "text", ["<response/>", "<response><result/></response>", "<response><result><job/></result></response>"]
)
def test_a_reply_without_a_job_is_an_error(text: str) -> None:
    """A success reply that holds no job does not count as one that is over."""
    with pytest.raises(ActivationError, match="no job"):
        read(text)


def test_only_ok_is_ok() -> None:
    """Any result of a finished job but OK raises, with the device's lines and a hint; warnings are kept."""
    run = Clock().run(1)
    more = "<details><line>x is missing 'common-name'</line></details><warnings><line>w</line></warnings>"
    jobs.expect_ok(read(job(more=more)), run, "the commit")
    assert run.warnings == ["the commit: w"]
    for result in ("FAIL", "PEND", ""):
        with pytest.raises(ActivationError, match="missing 'common-name'") as caught:
            jobs.expect_ok(read(job(result=result, more=more)), run, "the commit")
        assert "common name" in str(caught.value.hint)


@pytest.mark.parametrize(
    "away",
    [
        UnreachableError("refused"),
        ConnectionLostError("HTTP 502"),
        CredentialsError("Invalid credentials."),
    ],
)
def test_following_outlasts_a_restart(away: Error) -> None:
    """While the management server is away a job is followed on, each time on a fresh connection."""
    device = client(job("ACT", "PEND"), *[away] * 20, job())
    found = jobs.follow(device, "7", Clock().run(900))
    assert found is not None
    assert found.result == "OK"
    assert device.forgotten == 20


def test_a_restart_has_an_end() -> None:
    """A device that does not come back within five minutes is an error, before the run's own end."""
    clock = Clock()
    with pytest.raises(UnreachableError):
        jobs.follow(client(job("ACT", "PEND"), UnreachableError("refused")), "7", clock.run(3600))
    assert 300 <= clock.now < 330


def test_a_missing_right_is_not_waited_for() -> None:
    """A key without the right will not get it by waiting."""
    clock = Clock()
    with pytest.raises(RightsError):
        jobs.follow(client(RightsError("no")), "7", clock.run(900))
    assert clock.now == 0


def test_the_deadline_ends_it() -> None:
    """A job that never ends runs into the deadline, which names it."""
    with pytest.raises(DeadlineError, match="job 7"):
        jobs.follow(client(job("ACT", "PEND")), "7", Clock().run(30))


@pytest.mark.parametrize("refusal", [RefusedError("job 7 not found", "7"), RefusedError("job 7 not found")])
def test_an_unknown_job_is_nothing(refusal: RefusedError) -> None:
    """With or without its code: the device forgot the job, and the caller looks at what runs."""
    assert jobs.follow(client(job("ACT", "PEND"), refusal), "7", Clock().run(30)) is None


def test_another_refusal_is_an_error() -> None:
    """A refusal that says something else is passed on."""
    with pytest.raises(ActivationError, match="cannot be followed"):
        jobs.follow(client(RefusedError("show -> jobs is unexpected", "17")), "7", Clock().run(30))


@pytest.mark.parametrize(
    "text",
    [
        "Another commit/validate is in progress. Please try again later",
        "A commit is in progress.",
        "Other administrators are holding device wide commit locks.",
        "Config for scope shared is currently locked by bob",
        "You cannot commit while an install is in progress",
    ],
)
def test_who_is_in_the_way_is_waited_for(text: str) -> None:
    """Another commit, a lock, an install: asked again until it is free, and named when the deadline comes first."""
    clock = Clock()
    device = client(*[RefusedError(text, "13")] * 5, "<response><result><job>7</job></result></response>")
    assert jobs.start_commit(device, device.commit, jobs.full, "d", clock.run(60)) == "7"
    assert clock.now > 1
    stuck = client(RefusedError(text, "13"))
    with pytest.raises(DeadlineError) as caught:
        jobs.start_commit(stuck, stuck.commit, jobs.full, "d", Clock().run(5))
    assert text in str(caught.value)


@pytest.mark.parametrize(
    "reply",
    [
        "<response status='success' code='19'><msg>There are no changes to commit.</msg></response>",
        "<response status='success' code='13'><msg>The result of this commit would be the same</msg></response>",
    ],
)
def test_nothing_to_commit_in_both_dialects(reply: str) -> None:
    """No job is no error, and no job."""
    device = client(reply)
    assert jobs.start_commit(device, device.commit, jobs.full, "d", Clock().run(5)) is None


def test_a_refused_description_is_left_out_once() -> None:
    """Asked again without it, and what is refused then is an error."""
    device = client(RefusedError("commit -> description is unexpected", "17"))
    with pytest.raises(ActivationError, match="refused"):
        jobs.start_commit(device, device.commit, jobs.full, "d", Clock().run(5))
    assert device.asked == ["<commit><description>d</description></commit>", "<commit></commit>"]


def test_commands_are_escaped() -> None:
    """Names of administrators, stacks and certificates cannot break out of the XML."""
    for text in (jobs.partial("a<&>b", "d<&>e", force=True), jobs.push_stack("s<&>t", "d<&>e"), jobs.full("<&>")):
        ET.fromstring(text)
    forced = ET.fromstring(jobs.partial("a<&>b", "d", force=True))
    assert forced.findtext("force/partial/admin/member") == "a<&>b"
    assert ET.fromstring(jobs.partial("me", "d")).findtext("partial/admin/member") == "me"


def test_a_push_that_starts_nothing_is_an_error() -> None:
    """A push always is a job: a success without one reached no device."""
    with pytest.raises(ActivationError, match="started no push"):
        jobs.start_push(client("<response status='success'><msg>nothing</msg></response>"), "", Clock().run(5))
