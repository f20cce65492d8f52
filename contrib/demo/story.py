"""What the demo shows, step by step; each step checks what it shows, and the first that fails ends it."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Callable

from certhooks.certmonger import Certmonger
from certhooks.deadline import Deadline
from contrib.demo.stage import CERT_FILE, DEVICE, PORTAL, commands
from tests.lab.panos import Outcome

if TYPE_CHECKING:
    from contrib.demo.stage import Served, Stage

GETCERT = f"pan_getcert -v -c {PORTAL} -Y -p GP_PORTAL -s GP_GATEWAY {DEVICE}"
INSTCERT = f"pan_instcert -c {PORTAL} -Y -p GP_PORTAL -s GP_GATEWAY {DEVICE}"
RESUBMIT = f"getcert resubmit -f {CERT_FILE}"
LOG = Path("/var/log/pan_instcert.log")
_COMMAND_SECONDS = 60.0
_COMMIT_FAILED = 13
_CRITICAL = 2


class StepFailedError(Exception):
    """Something did not end as it should."""


class Screen:
    """Headings, commands with their output, and checks; colours on a terminal only."""

    def __init__(self) -> None:
        self._color = sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
        self._steps = 0
        self.checks = 0

    def heading(self, text: str) -> None:
        """Begin the next step."""
        self._steps += 1
        print(f"\n{self._paint('1', f'{self._steps}. {text}')}", flush=True)

    def note(self, text: str) -> None:
        """Say what comes now."""
        print(f"   {text}", flush=True)

    def show(self, line: str) -> None:
        """Show a line of output."""
        print(f"     {line.rstrip()}", flush=True)

    def command(self, line: str) -> None:
        """Show what is typed."""
        print(f"   {self._paint('36', '$ ' + line)}", flush=True)

    def check(self, what: str, holds: bool) -> None:  # noqa: FBT001  what, and whether it holds
        """Say that it holds.

        Raises:
            StepFailedError: it does not.
        """
        if not holds:
            print(f"   {self._paint('31', 'FAILED:')} {what}", flush=True)
            raise StepFailedError(what)
        self.checks += 1
        print(f"   {self._paint('32', 'ok:')} {what}", flush=True)

    def _paint(self, color: str, text: str) -> str:
        return f"\033[{color}m{text}\033[0m" if self._color else text


class Story:
    """The steps, on a stage that is set."""

    def __init__(self, stage: Stage, screen: Screen) -> None:
        self.stage, self.screen = stage, screen
        self._log_shown = 0

    def tell(self) -> None:
        """Show everything.

        Raises:
            StepFailedError: a step did not end as it should.
        """
        before = self._before()
        first = self._first_certificate(before)
        self._nothing_to_do(first)
        second = self._renewal(first)
        self._refused_commit(second)
        self._way_out(second)
        self._others()

    def _before(self) -> Served:
        self.screen.heading(f"What https://{PORTAL} serves before")
        return self._served()

    def _first_certificate(self, before: Served) -> Served:
        screen = self.screen
        screen.heading("One command: certificate from FreeIPA's certmonger, onto the firewall")
        self._run(GETCERT)
        screen.note("certmonger tracks it, and will start pan_instcert at each renewal:")
        self._run("getcert list")
        screen.note(f"pan_instcert was started by certmonger and wrote {LOG}:")
        self._show_log()
        screen.note("The portal serves:")
        after = self._served()
        screen.check(
            "the portal serves the certificate that certmonger keeps", after.serial == self.stage.kept().serial
        )
        screen.check("it is another one than before", after != before)
        both = {self.stage.firewall.profile_certificate(name) for name in ("GP_PORTAL", "GP_GATEWAY")}
        screen.check(f"both profiles use {', '.join(map(str, both))}", len(both) == 1)
        return after

    def _nothing_to_do(self, now: Served) -> None:
        self.screen.heading("The same install again: nothing differs, nothing is sent")
        with self._unchanged("no import, no change, no commit"):
            output = self._run(INSTCERT)
        self.screen.check("it says so", "nothing to do" in output)
        self.screen.check("the portal serves the same certificate", self.stage.served() == now)

    def _renewal(self, old: Served) -> Served:
        screen = self.screen
        screen.heading("A renewal, which installs itself")
        self._renew()
        screen.note("The log of the pan_instcert that certmonger started:")
        self._show_log()
        screen.note("The portal serves:")
        new = self._served()
        screen.check("the renewed certificate is served", new == self.stage.kept() != old)
        return new

    def _refused_commit(self, good: Served) -> None:
        screen = self.screen
        screen.heading("A renewal whose commit the firewall refuses")
        refusal = Outcome(fail=("Validation Error:", " vsys1 -> zone 'guests' is not a valid reference"))
        self.stage.firewall.next_commits += [refusal, refusal]
        self._renew()
        screen.note("certmonger does not look at how its command ended. The log does:")
        log = self._show_log()
        screen.check(f"the log has the error with exit status {_COMMIT_FAILED}", f"status {_COMMIT_FAILED}" in log)
        screen.note("By hand it looks so:")
        output = self._run(INSTCERT, status=_COMMIT_FAILED)
        screen.check("error and hint are there", "error:" in output and "hint:" in output)
        left = self.stage.firewall.pending_of("certhooks")
        screen.check("nothing of ours is left in the firewall's candidate", not left)
        screen.check("the portal still serves the good certificate", self.stage.served() == good)

    def _way_out(self, old: Served) -> None:
        screen = self.screen
        screen.heading("certmonger never repeats it, and says that all is well. certhooks status does not")
        output = self._run("certhooks status", status=_CRITICAL)
        screen.check("it is critical, and says why", "CRITICAL" in output and "not installed" in output)
        screen.heading("The firewall is mended. First a look: --dry-run")
        with self._unchanged("nothing was changed"):
            output = self._run(INSTCERT.replace(" -c", " --dry-run -c"))
        screen.check("it tells what it would do", "would replace" in output)
        screen.heading("Then what a timer does every five minutes")
        output = self._run("certhooks reconcile")
        screen.check("it says what it repaired", "repaired" in output)
        screen.note("The portal serves:")
        new = self._served()
        screen.check("the renewed certificate is served", new == self.stage.kept() != old)

    def _others(self) -> None:
        self.screen.heading("What other administrators were editing")
        pending = self.stage.firewall.pending_of("alice")
        self.screen.show(f"alice: {'; '.join(pending)}")
        still = any("printer" in xpath for xpath in pending)
        self.screen.check("alice's edit is still pending: it was not committed along", still)

    def _renew(self) -> None:
        """Have certmonger renew, and return when it and its post-save command are done."""
        before = self.stage.kept()
        self._run(RESUBMIT)
        with Certmonger.open() as certmonger:
            request = certmonger.by_cert_file(str(CERT_FILE))
            if request is None:
                raise StepFailedError(f"certmonger does not track {CERT_FILE}")
            _wait("certmonger saves a new certificate", lambda: self.stage.kept() != before)
            request = certmonger.wait(request, Deadline(_COMMAND_SECONDS), lambda _: None, monitoring=True)
        self.screen.check(f"certmonger has a new certificate and says {request.status}", request.status == "MONITORING")

    def _served(self) -> Served:
        served = self.stage.served()
        for line in served.lines:
            self.screen.show(line)
        return served

    def _show_log(self) -> str:
        """Show what the log has got since it was last shown."""
        lines = LOG.read_text(encoding="utf-8").splitlines()
        new, self._log_shown = lines[self._log_shown :], len(lines)
        for line in new:
            self.screen.show(line)
        return "\n".join(new)

    def _unchanged(self, what: str) -> _Unchanged:
        return _Unchanged(self, what)

    def _run(self, line: str, *, status: int = 0) -> str:
        """Run a command as an administrator would, show its output as it comes, and check its exit status."""
        self.screen.command(line)
        env = {"PATH": commands(), "LANG": "C.UTF-8", "HOME": "/tmp", "COLUMNS": "100"}  # noqa: S108  ours alone
        with subprocess.Popen(
            shlex.split(line), env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            text=True, cwd="/",
        ) as started:  # fmt: skip
            watchdog = threading.Timer(_COMMAND_SECONDS, started.kill)
            watchdog.start()
            output = []
            for each in started.stdout or ():
                output.append(each)
                self.screen.show(each)
            code = started.wait()
            watchdog.cancel()
        wanted = "" if code == status else f", but should be {status}"
        self.screen.check(f"exit status {code}{wanted}", not wanted)
        return "".join(output)


class _Unchanged:
    """Checks that the firewall was only looked at."""

    def __init__(self, story: Story, what: str) -> None:
        self._story, self._what = story, what

    def __enter__(self) -> None:
        self._before = self._story.stage.firewall.snapshot()

    def __exit__(self, failed: object, *_: object) -> None:
        if not failed:
            self._story.screen.check(self._what, self._story.stage.firewall.snapshot() == self._before)


def _wait(what: str, happened: Callable[[], bool]) -> None:
    end = time.monotonic() + _COMMAND_SECONDS
    while not happened():
        if time.monotonic() > end:
            raise StepFailedError(f"{what}: not within {_COMMAND_SECONDS:g} s")
        time.sleep(0.05)
