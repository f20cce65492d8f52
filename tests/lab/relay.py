"""pytest's side of machines of their own: runs the tests with that mark on one, and hands their reports on.

A plugin (``tests/conftest.py`` names it). The tests of one mark follow each other on one machine, which starts with the
first of them and ends with the last.
"""

from __future__ import annotations

import json
import os
import select
import tempfile
import time
from typing import TYPE_CHECKING, Any, Optional

import pytest

from tests.lab import machine

if TYPE_CHECKING:
    from collections.abc import Iterator

SECONDS = 180.0  # for one test, with the start of what its file needs
_NAME = machine.machine_of_its_own.name
_RUN = pytest.StashKey["_Run"]()


def pytest_configure(config: pytest.Config) -> None:
    """Make the mark known."""
    config.addinivalue_line("markers", f"{_NAME}(*hosts, hostname=None): see tests/lab/machine.py")


def pytest_unconfigure(config: pytest.Config) -> None:
    """End a machine whose tests were broken off."""
    run = config.stash.get(_RUN, None)
    if run is not None:
        run.end()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item, nextitem: Optional[pytest.Item]) -> Optional[bool]:
    """Run a test with the mark elsewhere; every other one is not for us."""
    owner = _owner(item)
    if owner is None or machine.inside():
        return None
    item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
    for report in _reports(item, owner):
        item.ihook.pytest_runtest_logreport(report=report)
    item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
    # what the test before has left set up for this one's file, which is set up elsewhere, is for the next one to need
    item.session._setupstate.teardown_exact(nextitem)
    return True


def _owner(item: pytest.Item) -> Optional[str]:
    """Return the node id of the test or file that has the mark."""
    return next((node.nodeid for node, _ in item.iter_markers_with_node(_NAME)), None)


def _reports(item: pytest.Item, owner: str) -> Iterator[pytest.TestReport]:
    config = item.config
    run = config.stash.get(_RUN, None)
    if run is None or run.owner != owner or run.ended:
        if run is not None:
            run.end()
        lacks = machine.lacking()
        if lacks:
            yield _without(item, lacks)
            return
        rest = [other.nodeid for other in item.session.items if _owner(other) == owner]
        run = config.stash[_RUN] = _Run(owner, item, rest[rest.index(item.nodeid) :])
    try:
        yield from run.reports(item)
    except _BrokenOff as broken:
        yield _failed(item, f"on a machine of its own: {broken}")
    if run.last == item.nodeid:
        run.end()


class _BrokenOff(Exception):  # noqa: N818  it tells a state, not an error of ours
    """The pytest inside did not report what it should."""


class _Run:
    """A pytest on a machine of its own."""

    def __init__(self, owner: str, item: pytest.Item, tests: list[str]) -> None:
        mark = item.get_closest_marker(_NAME)
        assert mark is not None, item
        self.owner, self.last, self.ended = owner, tests[-1], False
        self._output = tempfile.TemporaryFile()  # noqa: SIM115  closed by end()
        root = item.config.rootpath
        self._process = machine.start(root, tests, mark.args, mark.kwargs.get("hostname"), self._output)
        assert self._process.stdout is not None, self
        self._reports = self._process.stdout
        self._rest = b""

    def reports(self, item: pytest.Item) -> Iterator[pytest.TestReport]:
        """Return the reports of one test as they come; _BrokenOff when one is missing."""
        when = ""
        until = time.monotonic() + SECONDS
        while when != "teardown":
            plain = self._next(until)
            if plain["nodeid"] != item.nodeid:
                raise self._broken(f"{plain['nodeid']} was not next")
            report = item.config.hook.pytest_report_from_serializable(config=item.config, data=plain)
            if isinstance(report.longrepr, list):  # JSON knows no tuples
                report.longrepr = tuple(report.longrepr)
            when = report.when
            yield report

    def end(self) -> None:
        """End the machine and everything on it; may be called twice."""
        self.ended = True
        self._process.kill()
        self._process.wait()
        self._reports.close()
        self._output.close()

    def _next(self, until: float) -> dict[str, Any]:
        while b"\n" not in self._rest:
            if not select.select([self._reports], [], [], max(0.0, until - time.monotonic()))[0]:
                raise self._broken(f"no answer within {SECONDS:g} s")
            more = os.read(self._reports.fileno(), 1 << 16)
            if not more:
                raise self._broken(f"pytest ended with {self._process.wait()}")
            self._rest += more
        line, _, self._rest = self._rest.partition(b"\n")
        plain: dict[str, Any] = json.loads(line)
        return plain

    def _broken(self, why: str) -> _BrokenOff:
        self._process.kill()
        self._process.wait()
        self._output.seek(0)
        said = self._output.read().decode(errors="replace")
        self.end()
        return _BrokenOff(f"{why}\n{said[-20_000:]}")


def _failed(item: pytest.Item, why: str) -> pytest.TestReport:
    return pytest.TestReport(item.nodeid, item.location, {}, "failed", why, "call")


def _without(item: pytest.Item, lacks: list[str]) -> pytest.TestReport:
    """Return a skip, which in CI is a failure: there nothing may be missing."""
    why = f"not here: {', '.join(lacks)}"
    if os.environ.get("CI"):
        return _failed(item, why)
    path, line, _ = item.location
    return pytest.TestReport(item.nodeid, item.location, {}, "skipped", (path, line or 0, f"Skipped: {why}"), "setup")
