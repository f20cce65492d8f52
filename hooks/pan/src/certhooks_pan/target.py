"""A certificate and its SSL/TLS service profiles on one firewall or Panorama."""

from __future__ import annotations

from typing import TYPE_CHECKING, Optional

from certhooks.deadline import growing
from certhooks.errors import ActivationError, BadNameError, DeadlineError, Error, UploadRefusedError, UsageError
from certhooks.target import Inspection, Needs, Target, Undone
from certhooks_pan import jobs, names, state
from certhooks_pan.candidate import Candidate, aim_nowhere
from certhooks_pan.commits import Commits
from certhooks_pan.wanted import NONE, Wanted, device_name, journal_name, needed

if TYPE_CHECKING:
    from certhooks.address import Address
    from certhooks.bundle import Bundle
    from certhooks_pan.wanted import Wish
    from certhooks_pan.xapi import Client

_NOTHING = state.Config({}, {})
_SYNCHRONIZED = 60.0  # seconds for an HA peer to take over what the active one committed


class PanTarget(Target):
    """One device; ``inspect()`` first, everything else acts on what it found.

    Args:
        admin: whose key it is, where the credentials say so; asked of the device otherwise.
    """

    _wanted: Wanted
    _candidate: Candidate
    _commits: Commits

    def __init__(self, address: Address, client: Client, wish: Wish, *, admin: Optional[str] = None) -> None:
        self.name = journal_name(address, wish)
        self.device = device_name(address)
        self.label = str(address)
        self._address = address
        self._client = client
        self._wish = wish
        self._admin = admin
        self._kind: Optional[state.Kind] = None
        self._base = ""
        self._stacks: tuple[str, ...] = ()
        self._before = self._running = _NOTHING  # candidate and running configuration as inspect() found them
        self._manages = self._committed = False

    def needs(self) -> Needs:
        """Return RSA or EC (RSA alone where a profile forbids ECDHE), a common name, and the name it is managed by."""
        profiles = [self._before.profiles[name] for name in self._wish.profiles if name in self._before.profiles]
        return Needs(
            key_types=("rsa", "ec") if all(profile.ecdhe for profile in profiles) else ("rsa",),
            names=(self._address.host,) if self._manages and not self._wish.lenient else (),
            common_name=True,
        )

    def survey(self) -> state.Kind:
        """Look whether the device is the right kind and has what the wish names; no bundle is needed for that.

        Raises:
            UsageError, BadNameError: what does not fit.
        """
        kind = self._kind = state.kind(self._client)
        wish, where, client = self._wish, self._wish.where, self._client
        where.check(panorama=kind.panorama)
        if wish.push and not kind.panorama:
            raise UsageError(f"{self._address} is a firewall: --push is Panorama's")
        names.certificate(wish.name + "_2000" * wish.year, self._limit)
        self._base = where.base(panorama=kind.panorama)
        if where.pushed and not state.exists(client, where.owner()):
            raise BadNameError(f"no {where} on {self._address}", hint="an import would create it: check the name")
        if where.vsys and not wish.profiles and not state.exists(client, self._base):
            raise BadNameError(f"no {where} on {self._address}", hint="virtual systems are called vsys1, vsys2, ...")
        if wish.push:
            self._stacks = (where.stack,) if where.stack else tuple(state.stacks_with(client, where.template or ""))
            if not self._stacks:
                raise UsageError(f"{where} is in no template stack: it reaches no device", hint="add it to a stack")
        self._before = state.candidate(client, self._base, roots=wish.trust_root)
        self._refuse_missing_profiles()
        return kind

    def inspect(self, bundle: Bundle) -> Inspection:
        """Compare the running configuration with what is wanted, and refuse what cannot work before anything is sent.

        Raises:
            UsageError, BadNameError, ActivationError: see there.
        """
        if self._passive:  # a second look: the peer's commit may have changed the certificate that this one serves
            return jobs.patiently(lambda: self._inspect(bundle), self._client, self.run, "looking again")
        return self._inspect(bundle)

    def _inspect(self, bundle: Bundle) -> Inspection:
        kind = self.survey()
        wish, base, client = self._wish, self._base, self._client
        name = names.certificate(wish.certificate_name(bundle), self._limit)
        self._running = state.running(client, base, roots=wish.trust_root)
        candidates = (self._before, *self._inherited(bundle))
        self._wanted = needed(
            wish, bundle, base=base, name=name, limit=self._limit, candidates=candidates, running=self._running
        )
        self._candidate = Candidate(client, wish.where, base, self.run)
        self._commits = Commits(client, self.run, wish.commit, self._admin)
        self._manages = self._serves_management()
        changes = self._wanted.lacking(self._running)
        if self.run.leftover and not changes:  # an interrupted way back may wait in the candidate
            changes = self._wanted.lacking(self._before)
        if wish.push and (changes or self.run.achieved != bundle.fingerprint):
            changes = (*changes, *(f"push the template stack {stack}" for stack in self._stacks))
        if changes and not kind.passive:
            self._commits.look(self._wanted, self.run.leftover, self._wanted.contested(self._running, self._before))
        return Inspection(
            changes=changes,
            endpoints=(self._address,) if self._manages else (),
            touches=self._wanted.touches(),
            group=kind.group,
            rank=int(kind.passive),
            superseded=() if kind.passive or wish.commit == NONE else self._wanted.superseded,
        )

    def install(self, bundle: Bundle) -> None:
        """Import into the candidate what it lacks, and read the pair back.

        Raises:
            UploadRefusedError: the device refused it, or holds something else afterwards.
        """
        if self._passive:
            self._await_peer()
            return
        has = self._before
        if self._candidate.written:  # a connection broke, and what had been sent may be there
            has = state.candidate(self._client, self._base, roots=self._wish.trust_root)
        else:
            self._commits.look(self._wanted, self.run.leftover, self._wanted.contested(self._running, self._before))
        if self._kind and self._kind.panorama:
            aim_nowhere(self._client)
        for name, ca in self._wanted.lacking_cas(has).items():
            self._candidate.import_ca(name, ca)
        if self._wish.lenient or not has.holds(self._wanted.name, self._wanted.fingerprint):
            self._candidate.import_pair(self._wanted.name, bundle, self._wish.file_format)
        self._candidate.trust(name for name in self._wanted.roots if name not in has.trusted)

    def activate(self, bundle: Bundle) -> None:
        """Bind the profiles, commit as ``Wish.commit`` says, and read the running configuration back.

        Raises:
            ActivationError: commit or push failed, or the running configuration is not what was committed.
        """
        if self._passive:
            return
        for profile in self._wish.profiles:
            self._candidate.bind(profile, self._wanted.name)
        if self._wish.commit == NONE:
            return
        self._commits.commit(f"certhooks: {self._wanted.name} {bundle.fingerprint[:16]}")
        lacking = self._lacking()
        if lacking:
            raise ActivationError(
                f"{self._address} has nothing more to commit, but would still have to {'; '.join(lacking)}",
                hint="run it again with --commit force, and look at show jobs all",
            )
        self._committed = True
        if self._wish.push:
            self._commits.push(self._stacks, f"certhooks: {self._wanted.name}")

    def rollback(self) -> Undone:
        """Take our changes out of the candidate; after a commit bind the former certificates again."""
        if self._passive or not (self._candidate.written or self._committed):
            return Undone.CLEAN
        if self._commits.pushed:
            self.run.warn("the devices whose push succeeded use the new certificate, the others still the old one")
            return Undone.KEPT
        try:
            self._commits.settle()
        except DeadlineError as e:
            self.run.warn(f"the commit is still at work, nothing was taken back: {e}")
            return Undone.KEPT
        if not self._is_active():
            self._commits.look_again()
            if self._commits.mixed:  # reverting takes everything of our administrator, not only what this run changed
                self.run.warn("our changes stay in the candidate, among others of the same administrator")
                return Undone.KEPT
            self._candidate.revert(self._commits.admin)
        # Looking once more: a commit whose answer was lost may have begun before the revert.
        return self._restore() if self._is_active() else Undone.CLEAN

    def prune(self, bundle: Bundle) -> list[str]:  # noqa: ARG002  inspect() has seen it
        """Delete and commit away this certificate's predecessors (``NAME_YYYY``) that nothing refers to."""
        if self._passive or self._wish.commit == NONE:
            return []
        self._commits.look(self._wanted, self.run.leftover, ())
        gone: list[str] = []
        try:
            for name in self._wanted.superseded:
                try:
                    self._candidate.remove(name)
                except UploadRefusedError as e:
                    self.run.warn(f"{name} stays: {e}")
                else:
                    gone.append(name)
            if gone:
                self._commits.commit(f"certhooks: remove {', '.join(gone)}")
        except Error:
            self._commits.look_again()
            if not self._commits.mixed:
                self._candidate.revert(self._commits.admin)
            raise
        left = state.running(self._client, self._base).certificates
        for name in set(gone).intersection(left):
            self.run.warn(f"{name} stays, although its deletion was committed")
        return [name for name in gone if name not in left]

    def close(self) -> None:
        """Close the connection; an API key leaves no session behind."""
        self._client.close()

    @property
    def _limit(self) -> int:
        return names.PANORAMA if self._kind and self._kind.panorama else names.FIREWALL

    @property
    def _passive(self) -> bool:
        return self._kind is not None and self._kind.passive

    def _inherited(self, bundle: Bundle) -> tuple[state.Config, ...]:
        """Read what a vsys sees of shared, where that matters: CA certificates need not be there twice."""
        where = self._wish.where
        if not where.vsys or not (bundle.chain or self._wish.trust_root):
            return ()
        return (state.candidate(self._client, where._replace(vsys=None).base(panorama=False)),)

    def _lacking(self) -> tuple[str, ...]:
        """Look what the running configuration lacks, now that the device may be restarting its web server."""

        def look() -> tuple[str, ...]:
            return self._wanted.lacking(state.running(self._client, self._base, roots=self._wish.trust_root))

        return jobs.patiently(look, self._client, self.run, "reading back")

    def _is_active(self) -> bool:
        """Tell whether the running configuration has anything of what this run is to bring."""
        return self._committed or self._lacking() != self._wanted.lacking(self._running)

    def _refuse_missing_profiles(self) -> None:
        there = self._before.profiles
        for name in self._wish.profiles:
            if name not in there:
                raise BadNameError(
                    f"no SSL/TLS service profile {name!r} in {self._wish.where} on {self._address}",
                    hint=f"there are: {', '.join(sorted(there))}" if there else "make it on the device first",
                )
            if there[name].template:
                self.run.warn(f"profile {name} is pushed from template {there[name].template}: this overrides it")

    def _serves_management(self) -> bool:
        if self._wish.where.pushed or self._wish.where.vsys:
            return False
        chosen = state.management_profile(self._client)
        return bool(chosen) and (chosen in self._wish.profiles or self._bound(chosen) == self._wanted.name)

    def _bound(self, profile: str) -> str:
        """Return the certificate that a profile used when the run began."""
        known = self._running.profiles.get(profile) or self._before.profiles.get(profile)
        return known.certificate if known else ""

    def _restore(self) -> Undone:
        """Bind and commit the former certificates again, where they are still there."""
        name, profiles = self._wanted.name, self._wish.profiles
        former = {profile: self._bound(profile) for profile in profiles}
        changed = {profile: old for profile, old in former.items() if old != name}
        if not all(changed.values()):
            self.run.warn(f"a profile had no certificate before: it keeps {name}")
            return Undone.KEPT
        if changed:
            self._bind_back(changed)
        replaced = name in self._running.certificates and self._running.fingerprint(name) != self._wanted.fingerprint
        if replaced and name in (profile.certificate for profile in self._running.profiles.values()):
            self.run.warn(f"{name} replaced a certificate of the same name: the old one cannot be put back")
            return Undone.KEPT
        return Undone.RESTORED if changed else Undone.CLEAN

    def _bind_back(self, changed: dict[str, str]) -> None:
        name = self._wanted.name
        for profile, certificate in changed.items():
            self._candidate.bind(profile, certificate)
        self._commits.commit(f"certhooks: back from {name}")
        now = jobs.patiently(lambda: state.running(self._client, self._base), self._client, self.run, "reading back")
        if any(now.profiles[profile].certificate != old for profile, old in changed.items() if profile in now.profiles):
            raise ActivationError(f"{self._address} committed, but its profiles still use {name}")

    def _await_peer(self) -> None:
        """Return when a passive unit has taken over from its active peer what is wanted.

        Raises:
            UploadRefusedError: it has not.
        """
        self.run.tell("passive: waiting for the configuration of its active peer")
        patience = self.run.deadline.within(_SYNCHRONIZED)
        for pause in growing(0.2, 3.0):
            lacking = self._lacking()
            if not lacking:
                return
            if patience.remaining() <= pause:
                raise UploadRefusedError(
                    f"{self._address} is passive, its active peer has not brought it: would {'; '.join(lacking)}",
                    hint="give the active unit in the same call; show high-availability state tells which it is",
                )
            patience.pause(pause)
