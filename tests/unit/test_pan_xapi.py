"""The XML API's refusals: which of them waiting may help."""

from __future__ import annotations

import pytest

from certhooks.deadline import Deadline
from certhooks.target import Run
from certhooks_pan import jobs
from certhooks_pan.xapi import RefusedError


@pytest.mark.parametrize(("code", "busy"), [("14", True), ("13", False), ("12", False), ("", False)])
def test_code_14_alone_says_busy(code: str, *, busy: bool) -> None:
    """It is waited for whatever its text says; any other code needs a text that says so, or it is final at once."""
    slept: list[float] = []
    answers: list[object] = [RefusedError("fw: Bitte warten", code), "done"]

    def ask() -> object:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    run = Run(Deadline(60, clock=lambda: 0.0, sleep=slept.append))
    if busy:
        assert jobs.when_free(ask, run) == "done"
        assert slept
    else:
        with pytest.raises(RefusedError, match="Bitte warten"):
            jobs.when_free(ask, run)
        assert not slept
