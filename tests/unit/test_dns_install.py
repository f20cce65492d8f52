"""The install command is never killed in the middle of what it does: it is asked to stop, and its end waited for."""

from __future__ import annotations

import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

if sys.version_info < (3, 10):
    pytest.skip("the DNS hooks need Python 3.10", allow_module_level=True)

from certhooks import cli
from certhooks.errors import DeadlineError
from certhooks_freeipa_dns import install

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    Start = Callable[..., subprocess.Popen[str]]

DEVICE = """#!/bin/sh
trap 'sleep 1; echo back >> {report}; exit 3' TERM
trap 'echo INT >> {report}' INT
echo started
n=0
while [ $n -lt {tenths} ]; do sleep 0.1; n=$((n + 1)); done
echo done >> {report}
"""
DEPLOY = ("deploy_cert", "www.example.test", "/c/key", "/c/cert", "/c/full", "/c/chain", "17")
FILES = {"domain": "www.example.test", "fullchain": "/c/full"}


@pytest.fixture
def report(tmp_path: Path) -> Path:
    """Name the file in which the install command writes how it ended."""
    return tmp_path / "report"


@pytest.fixture
def start(tmp_path: Path, report: Path) -> Iterator[Start]:
    """Return what starts deploy_cert with an install command that takes so many tenths of a second."""
    started = []

    def start(tenths: int, *, timeout: float = 60, options: tuple[str, ...] = ()) -> subprocess.Popen[str]:
        command = tmp_path / "command"
        command.write_text(DEVICE.format(report=report, tenths=tenths))
        command.chmod(0o755)
        config = tmp_path / "ipa_dns.ini"
        config.write_text(f"[dehydrated]\ninstall = {command}\ninstall_timeout = {timeout}\n")
        words = ("--config", str(config), "--log-file", str(tmp_path / "log"), *options)
        process = subprocess.Popen(
            [sys.executable, "-m", "certhooks_freeipa_dns.dehydrated", *words, *DEPLOY],
            stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        assert process.stderr
        assert process.stderr.readline() == "started\n"
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate(timeout=30)


@pytest.mark.parametrize(
    ("signals", "code"),
    [
        ((signal.SIGTERM,), 143),
        ((signal.SIGHUP,), 143),
        ((signal.SIGINT,), 130),
        ((signal.SIGINT, signal.SIGINT, signal.SIGTERM), 130),
    ],
)
def test_an_interruption_is_passed_on(
    signals: tuple[signal.Signals, ...], code: int, start: Start, report: Path
) -> None:
    """The command gets one SIGTERM and goes its way back to the end, whatever else comes meanwhile."""
    process = start(600)
    process.send_signal(signals[0])
    for further in signals[1:]:
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.2)
        process.send_signal(further)
    _, err = process.communicate(timeout=30)
    assert (process.returncode, report.read_text()) == (code, "back\n"), err


def test_its_time_is_its_own(start: Start, report: Path) -> None:
    """--timeout is for challenges; install_timeout ends the command as an interruption does, and the hint names it."""
    process = start(15, options=("--timeout", "0.5"))
    _, err = process.communicate(timeout=30)
    assert (process.returncode, err, report.read_text()) == (0, "", "done\n")
    report.unlink()
    process = start(600, timeout=0.5)
    _, err = process.communicate(timeout=30)
    assert (process.returncode, report.read_text()) == (16, "back\n"), err
    assert "install_timeout" in err


def test_what_never_ends_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A command that ignores SIGTERM has its time for a way back, and no more."""
    monkeypatch.setattr(install, "_WAY_BACK", 0.5)
    command = f"{sys.executable} -c 'import signal, time; signal.signal(15, signal.SIG_IGN); time.sleep(60)'"
    with pytest.raises(DeadlineError):
        install.run(command, FILES, cli.Screen("test"), 1.0)
