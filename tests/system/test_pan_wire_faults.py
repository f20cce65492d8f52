"""A network or a web server that fails in the middle of a push, at every single request of it."""

from __future__ import annotations

import time
import tracemalloc
from typing import TYPE_CHECKING, Any

import pytest

from certhooks_pan import jobs
from tests.lab.panos import Fault, Reply, faults
from tests.lab.trial import Trial

if TYPE_CHECKING:
    from tests.lab.panos.requests import Request
    from tests.lab.site import Done, Site

pytestmark = pytest.mark.usefixtures("hurry")
GOOD = {"import": 1, "config set": 2, "commit": 1}
ONCE = (Fault.DROP_BEFORE, Fault.DROP_AFTER, Fault.BAD_GATEWAY, Fault.TRUNCATED, Fault.CONTENT_TYPE)


def requests_of_a_good_run(site: Site) -> list[str]:
    """Return the kinds of the requests of an undisturbed run."""
    trial = Trial(site)
    trial.expect_success_now()
    assert trial.changes() == GOOD
    return trial.fw.kinds()


@pytest.mark.parametrize("kind", ONCE, ids=lambda kind: kind.name)
def test_one_failure_at_any_request_is_survived(site: Site, kind: Fault) -> None:
    """Whichever request it hits, once: the run still succeeds, and no change is carried out twice."""
    kinds = requests_of_a_good_run(site)
    for number, what in enumerate(kinds, 1):
        trial = Trial(site)
        trial.fw.faults.add(kind, nth=number)
        done = trial.run()
        assert done.code == 0, (number, what, done)
        trial.expect_installed()
        assert trial.changes() == GOOD, (number, what)
        assert trial.attempt()["outcome"] == "done"


def raw(body: bytes, status: int = 200, content_type: str = "application/xml") -> tuple[Fault, dict[str, Any]]:
    """Return a fault that replies with this."""
    return Fault.RAW, {"reply": Reply(body, status, content_type)}


def success(inner: str) -> tuple[Fault, dict[str, Any]]:
    """Return a fault that claims success with this inside."""
    return raw(f'<response status="success"><result>{inner}</result></response>'.encode())


ODD: dict[str, tuple[Fault, dict[str, Any]]] = {
    "redirect": (Fault.REDIRECT, {}),
    "error without a word": (Fault.ERROR_CODE_1, {}),
    "list for an object": success("<entry/><entry/>"),
}
ODD_HERE_AND_THERE: dict[str, tuple[Fault, dict[str, Any]]] = {
    "empty": raw(b""),
    "deep": raw(b'<response status="success">' + b"<a>" * 50_000 + b"</a>" * 50_000 + b"</response>"),
    "escapes": raw(
        '<response status="error" code="12"><msg><line>\x9b2J\u202e\x85 \r\n x</line></msg></response>'.encode()
    ),
    "entity bomb": (Fault.ENTITY_BOMB, {}),
    "binary": raw(bytes(range(256)) * 16),
    "page": raw(b"<html>please log in", 200, "text/html"),
    "server error": raw(b"<html/>", 500, "text/html"),
    "another document": raw(b"<list><item/><item/></list>"),
    "success and nothing": raw(b'<response status="success"/>'),
    "job of nothing": success("<job/>"),
    "job without id": success("<job><status>FIN</status></job>"),
    "job that is text": success("<job>seven &amp; a half</job>"),
    "job of another world": success("<job><id>-1</id><status>GONE</status><progress>2026/01/01</progress></job>"),
    "unknown status": raw(b'<response status="perhaps" code="x"><msg>?</msg></response>'),
    "deep error": raw(b'<response status="error"><msg>' + b"<a>" * 9_000 + b"</a>" * 9_000 + b"</msg></response>"),
    "other encoding": raw("<?xml version='1.0' encoding='utf-16'?><response status='success'/>".encode("utf-16")),
    "unknown encoding": raw(b"<?xml version='1.0' encoding='x-none'?><response status='success'/>"),
    "more than allowed": (Fault.OVERSIZED, {"size": 17_000_000}),
    "long words": raw(b'<response status="error"><msg>' + b"long " * 100_000 + b"</msg></response>"),
}


def expect_no_harm(trial: Trial, done: Done) -> None:
    """Make sure that it succeeded, or told in one line why not, left what is served alone, and can be done again."""
    if done.code == 0:
        trial.expect_installed()
        return
    assert done.code in {2, 4, 12, 13, 15}, done
    trial.expect_failure(done, done.code)
    assert len(done.err) < 2000
    if done.code == 15:  # it was active already: the certificate stays on the device, unused
        assert trial.served() == trial.served_before
        assert trial.fw.pending_of("certhooks") == []
        assert trial.fw.pending_of("alice")
    else:
        trial.expect_untouched()
    attempt = trial.attempt()
    assert (attempt["outcome"], attempt["exit_code"]) == ("undone", done.code)
    assert attempt["message"]
    trial.expect_success_now()


@pytest.mark.parametrize("name", ODD)
def test_an_odd_reply_to_any_request_does_no_harm(site: Site, name: str) -> None:
    """Whichever request gets it, once: a success, or one clear line and a device that serves what it served before."""
    kind, what = ODD[name]
    for number, _ in enumerate(requests_of_a_good_run(site), 1):
        trial = Trial(site)
        trial.fw.faults.add(kind, nth=number, **what)
        expect_no_harm(trial, trial.run())


@pytest.mark.parametrize("name", ODD_HERE_AND_THERE)
def test_other_odd_replies_do_no_harm_where_they_hurt_most(site: Site, name: str) -> None:
    """The same for the first request, the import, the commit, the look at its job, and the look afterwards."""
    kind, what = ODD_HERE_AND_THERE[name]
    kinds = requests_of_a_good_run(site)
    commit = kinds.index("commit partial") + 1
    for number in (1, kinds.index("import keypair") + 1, commit, commit + 1, len(kinds)):
        trial = Trial(site)
        trial.fw.faults.add(kind, nth=number, **what)
        expect_no_harm(trial, trial.run())


def test_a_reply_without_an_end_costs_no_memory(site: Site) -> None:
    """Of 60 MB that a device sends in place of an answer no more is kept than the limit says."""
    trial = Trial(site)
    trial.expect_success_now()  # what is imported along the way does not count
    body = faults.oversized(60_000_000)
    trial.fw.faults.add(Fault.RAW, nth=1, times=9, reply=body)
    tracemalloc.start()
    try:
        done = trial.run()
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    trial.expect_failure(done, 4, "more than")
    assert peak < 50_000_000


def test_a_dripping_reply_ends_with_the_run(site: Site) -> None:
    """A device that sends a byte now and then is left when --timeout is over, not when it likes."""
    trial = Trial(site)
    rule = trial.fw.faults.add(Fault.SLOW, type="op", pause=0.1)
    started = time.monotonic()
    done = trial.run("--timeout", "1")
    assert time.monotonic() - started < 10
    trial.expect_failure(done, 16, "within 1 s", "did not answer")
    trial.expect_untouched()
    assert rule.seen
    trial.fw.faults.clear()
    trial.expect_success_now()


@pytest.mark.parametrize("since", ["import", "config set", "commit", "job"])
def test_a_device_that_goes_away_for_good_is_found_again(
    site: Site, since: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing can be taken back then: both are said, the journal keeps it, and the next run puts it right."""
    monkeypatch.setattr(jobs, "_RESTART", 0.1)
    trial = Trial(site)
    match = {"import": {"type": "import"}, "config set": {"action": "set"}, "commit": {"type": "commit"}}
    trial.fw.faults.add(Fault.DROP_AFTER, nth=1, **match.get(since, {"text": "<jobs>"}))
    gone = {"after": False}
    trial.fw.faults.rules[0].times = 0
    original = trial.fw.faults.for_

    def from_then_on(request: Request) -> Any:
        rule = original(request)
        gone["after"] = gone["after"] or rule is not None
        return rule or (faults.Rule(Fault.DROP_BEFORE) if gone["after"] else None)

    trial.fw.faults.for_ = from_then_on  # type: ignore[method-assign]
    done = trial.run()
    trial.expect_failure(done, 4)
    assert "could not be taken back" in done.err
    assert trial.attempt()["outcome"] == "failed"
    trial.fw.faults.for_ = original  # type: ignore[method-assign]
    trial.fw.faults.clear()
    trial.expect_success_now()
    assert trial.attempt()["outcome"] in {"done", "unchanged"}
