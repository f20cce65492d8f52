"""In CI nothing that the system tests need may be missing: there a skipped one is a failure."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import pytest

if TYPE_CHECKING:
    from collections.abc import Generator

pytest_plugins = ["tests.lab.relay"]
Report = TypeVar("Report", pytest.TestReport, pytest.CollectReport)
_SYSTEM = Path(__file__).parent / "system"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Turn the skip of a test into a failure."""
    report = yield
    return report if hasattr(report, "wasxfail") else _strict(report, item.path)


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """Turn the skip of a whole file into a failure."""
    report = yield
    return _strict(report, collector.path)


def _strict(report: Report, path: Path) -> Report:
    if report.skipped and os.environ.get("CI") and _SYSTEM in path.parents:
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
        report.outcome = "failed"
        report.longrepr = f"skipped, which CI does not allow: {reason}"
    return report
