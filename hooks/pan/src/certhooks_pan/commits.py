"""Committing what is ours, and pushing it to the devices behind a Panorama."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Optional

from certhooks.errors import ActivationError, CredentialsError
from certhooks_pan import jobs, scope, state
from certhooks_pan.wanted import FORCE, FULL, NONE
from certhooks_pan.xapi import RefusedError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from xml.etree.ElementTree import Element

    from certhooks.target import Run
    from certhooks_pan.wanted import Wanted
    from certhooks_pan.xapi import Client

_SHOWN = 3
_UNKNOWN = "unknown"  # the number of a job whose commit got no answer


class Commits:
    """The commits of one run on one device.

    ``pushed`` tells whether devices behind a Panorama may have the change already, ``mixed`` whether our administrator
    has pending changes of something else too.

    Args:
        mode: whose changes go along: FULL for everybody's, else our own.
        admin: whose key it is, where the credentials say so; asked of the device otherwise.
    """

    def __init__(self, client: Client, run: Run, mode: str, admin: Optional[str]) -> None:
        self.pushed = self.mixed = False
        self._client = client
        self._run = run
        self._mode = mode
        self._admin = admin
        self._unfinished = ""
        self._looked: Optional[tuple[Wanted, tuple[str, ...]]] = None

    @property
    def admin(self) -> str:
        """The name of our administrator.

        Raises:
            ActivationError: nobody tells.
        """
        self._admin = self._admin or state.administrator(self._client)
        if not self._admin:
            raise ActivationError(
                f"{self._client.address} does not tell whose API key this is: only its changes are to be committed",
                hint="write api_username=NAME into the key file, or use --commit full",
            )
        return self._admin

    def look(self, wanted: Wanted, leftover: Sequence[str], contested: Sequence[str]) -> None:
        """Refuse to start where our administrator has pending edits of something else: a commit would take them along.

        A full commit takes everything along, which is a warning, and staging commits nothing. Refuse as well where
        somebody else is changing the same (``contested``, XPaths): ours would overwrite it.

        Raises:
            ActivationError: naming the first few; nothing was sent.
        """
        self._looked = (wanted, tuple(leftover))
        pending = state.pending(self._client)
        if pending is None:
            self.mixed = True
            self._run.warn(
                f"{self._client.address} does not list pending changes: others of our administrator go along"
            )
        if not pending and self._mode == FULL:
            return
        pending = pending or []
        admin, device = self.admin, self._client.address
        for each in pending:
            if each.owner != admin and any(scope.overlap(each.xpath, place) for place in contested):
                raise ActivationError(
                    f"{each.owner} has a pending change on {device} that ours would overwrite: {each.xpath}",
                    hint="have it committed or reverted on the device first",
                )
        foreign = wanted.foreign((each for each in pending if each.owner == admin), leftover)
        self.mixed = self.mixed or bool(foreign)
        if self._mode == FULL:
            others = {each.owner for each in pending if each.owner != admin} | ({admin} if foreign else set())
            if others:
                self._run.warn(f"the full commit takes along what is pending of {', '.join(sorted(others))}")
        elif foreign and self._mode != NONE:
            raise ActivationError(
                f"{admin} has other changes pending on {device}, which our commit would take along: "
                f"{', '.join(foreign[:_SHOWN])}{' ...' if len(foreign) > _SHOWN else ''}",
                hint="commit or revert them on the device, or give certhooks an administrator of its own",
            )

    def commit(self, description: str) -> None:
        """Commit and follow the job; returns too when there was nothing to commit, or the device forgot the job.

        So the caller looks at the running configuration afterwards.

        Raises:
            ActivationError: refused, or failed with the device's lines.
        """
        if self._mode == FULL:
            number = jobs.start_commit(
                self._client, lambda cmd: self._send(cmd, None), jobs.full, description, self._run
            )
        else:
            own = partial(jobs.partial, self.admin, force=self._mode == FORCE)
            number = jobs.start_commit(
                self._client, lambda cmd: self._send(cmd, "partial"), own, description, self._run
            )
        if number is None:
            return
        job = jobs.follow(self._client, number, self._run)
        self._unfinished = ""
        if job is not None:
            jobs.expect_ok(job, self._run, "the commit")

    def settle(self) -> None:
        """Wait for the end of a commit that this run has stopped waiting for, or that it never got the answer to.

        Raises:
            DeadlineError: it has none.
        """
        numbers = [self._unfinished]
        if self._unfinished == _UNKNOWN:
            numbers = jobs.patiently(lambda: jobs.active_commits(self._client), self._client, self._run, "a commit")
        for number in filter(None, numbers):
            jobs.follow(self._client, number, self._run)
        self._unfinished = ""

    def look_again(self) -> None:
        """Find out whether our administrator has got other pending changes since ``look()``.

        What this run has sent is pending by now, so an entry above it tells nothing.
        """
        if self._looked and self._mode != FULL:
            wanted, leftover = self._looked
            pending = state.pending(self._client) or []
            own = (each for each in pending if each.owner == self.admin)
            self.mixed = self.mixed or bool(wanted.foreign(own, (*leftover, *wanted.touches())))

    def _send(self, cmd: str, action: Optional[str]) -> Element:
        """Send a commit, unless it would take along what somebody else does as our administrator meanwhile."""
        mixed = self.mixed
        self.look_again()
        if self.mixed and not mixed:
            raise ActivationError(
                f"{self.admin} has begun other changes on {self._client.address}, which our commit would take along",
                hint="commit or revert them on the device, or give certhooks an administrator of its own",
            )
        before, self._unfinished = self._unfinished, _UNKNOWN
        try:
            reply = self._client.commit(cmd, action)
        except (RefusedError, CredentialsError):
            self._unfinished = before  # "another commit is in progress" may speak of the one that got no answer
            raise
        self._unfinished = (reply.findtext("result/job") or "").strip()
        return reply

    def push(self, stacks: Iterable[str], description: str) -> None:
        """Push template stacks one after the other, and keep one result a device.

        Raises:
            ActivationError: a push was refused, or failed on a device.
        """
        failed: list[str] = []
        self._run.parts.clear()
        for stack in stacks:
            self._run.tell(f"pushing template stack {stack}")
            number = jobs.start_push(self._client, jobs.push_stack(stack, description), self._run)
            self.pushed = True
            job = jobs.follow(self._client, number, self._run)
            failed += self._kept(stack, job) if job else [f"{stack}: Panorama no longer knows its job {number}"]
        if failed:
            raise ActivationError(
                f"the push failed on {', '.join(failed)}", hint="mend it there, then run the same command again"
            )

    def _kept(self, stack: str, job: jobs.Job) -> list[str]:
        """Keep a push's results, and return what failed: Panorama's own result may be OK while a device's is not."""
        failed: list[str] = []
        for device in job.devices:
            told = jobs.told(device.messages)
            self._run.parts.append({"name": device.name, "result": device.result, "message": told})
            if not device.ok:
                failed.append(f"{device.name}: {told or device.result}")
        if job.result != "OK" and (job.details or not failed):
            failed.insert(0, f"{stack}: {jobs.told(job.details) or job.result}")
        if not job.devices and not failed:
            self._run.warn(f"template stack {stack} has no device")
        return failed
