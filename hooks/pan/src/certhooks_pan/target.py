"""A certificate and its SSL/TLS service profiles on one firewall or Panorama."""

from __future__ import annotations

import re
import secrets as random
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Callable, Optional
from xml.sax.saxutils import escape

from cryptography.hazmat.primitives import hashes

from certhooks import certificate as certs
from certhooks import pkcs12
from certhooks.deadline import growing
from certhooks.errors import ActivationError, BadNameError, UploadRefusedError, UsageError
from certhooks.secrets import Secret
from certhooks.target import Inspection, Needs, Target, Undone
from certhooks_pan import jobs, names, scope, state
from certhooks_pan.xapi import RefusedError

if TYPE_CHECKING:
    from cryptography.x509 import Certificate

    from certhooks.address import Address
    from certhooks.bundle import Bundle
    from certhooks_pan.xapi import Client

FULL, PARTIAL, NONE, FORCE = "full", "partial", "none", "force"
PEM, PKCS12, PKCS12_MODERN = "pem", "pkcs12", "pkcs12-modern"
_SHARED = scope.Scope()
_PASSIVE = "15"
_SYNCHRONIZED = 60.0  # seconds for an HA peer to take over what the active one committed


@dataclass(frozen=True)
class Wish:
    """What the user wants on every device of a call.

    ``name`` is the base of the certificate's name; ``year`` appends ``_YYYY`` of the leaf's first day of validity, so
    that a second run for the same certificate finds the same name whatever the date.
    """

    name: str
    year: bool = False
    profiles: tuple[str, ...] = ()
    where: scope.Scope = _SHARED
    commit: str = PARTIAL
    file_format: str = PEM
    trust_root: bool = False
    push: bool = False
    lenient: bool = False

    def certificate_name(self, bundle: Bundle) -> str:
        """Return the full name on the device."""
        return f"{self.name}_{bundle.not_before:%Y}" if self.year else self.name


def journal_name(address: Address, wish: Wish) -> str:
    """Return the journal's key for a certificate on a device: the same for every renewal."""
    where = "" if wish.where == _SHARED else f" ({wish.where})"
    return f"pan {address} {wish.name}{where}"


class PanTarget(Target):
    """One device; ``inspect()`` first, everything else acts on what it found.

    Args:
        admin: whose key it is, where the credentials say so; asked of the device otherwise.
    """

    def __init__(self, address: Address, client: Client, wish: Wish, *, admin: Optional[str] = None) -> None:
        self.name = journal_name(address, wish)
        self.device = f"pan {address}"
        self.label = str(address)
        self._address = address
        self._client = client
        self._wish = wish
        self._admin = admin
        self._kind: Optional[state.Kind] = None
        self._base = ""
        self._name = ""
        self._before = state.Config({}, {})
        self._cas: dict[str, Certificate] = {}
        self._roots: tuple[str, ...] = ()
        self._manages = False
        self._bundle: Optional[Bundle] = None
        self._written = self._committed = self._pushed = False

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
        kind = self._kind = self._kind or state.kind(self._client)
        wish = self._wish
        wish.where.check(panorama=kind.panorama)
        if wish.push and not kind.panorama:
            raise UsageError(f"{self._address} is a firewall: --push is Panorama's")
        names.certificate(wish.name + "_2000" * wish.year, self._limit)
        self._base = wish.where.base(panorama=kind.panorama)
        if wish.where.pushed and self._client.get(wish.where.owner()) is None:
            raise BadNameError(f"no {wish.where} on {self._address}", hint="an import would create it: check the name")
        self._before = state.candidate(self._client, self._base, roots=wish.trust_root)
        self._refuse_missing_profiles()
        return kind

    def inspect(self, bundle: Bundle) -> Inspection:
        """Compare the running configuration with what is wanted, and refuse what cannot work before anything is sent.

        Raises:
            UsageError, BadNameError, ActivationError: see there.
        """
        kind = self.survey()
        wish, client = self._wish, self._client
        self._name = names.certificate(wish.certificate_name(bundle), self._limit)
        running = state.running(client, self._base, roots=wish.trust_root)
        self._manages = self._serves_management(running)
        self._cas = self._name_cas(bundle)
        changes = self._changes(bundle, running)
        if changes and not kind.passive:
            self._admin = self._admin or state.administrator(client)
            self._refuse_own_pending()
        return Inspection(
            changes=changes,
            endpoints=(self._address,) if self._manages else (),
            touches=self._touches(),
            group=kind.group,
            rank=int(kind.passive),
        )

    def install(self, bundle: Bundle) -> None:
        """Import what is missing into the candidate, and read the pair back.

        Raises:
            UploadRefusedError: the device refused it, or holds something else afterwards.
        """
        if self._passive:
            self._await_peer(bundle)
            return
        for name, ca in self._cas.items():
            if name not in self._before.certificates:
                self.run.tell(f"importing the CA certificate {name}")
                self._import("certificate", name, PEM, certs.to_pem(ca).encode())
        file_format, data, passphrase = self._material(bundle)
        self.run.tell(f"importing {self._name}")
        self._import("keypair", self._name, file_format, data, passphrase)
        held = state.one_certificate(self._client, self._base, self._name)
        if held is None or held.fingerprint != bundle.fingerprint:
            raise UploadRefusedError(
                f"{self._address} said it imported {self._name}, but does not hold it in {self._base}",
                hint="look for a certificate of that name in another place on the device",
            )
        if not held.has_key:
            raise UploadRefusedError(f"{self._address} imported {self._name} without its private key")
        members = "".join(f"<member>{name}</member>" for name in self._roots if name not in self._before.trusted)
        if members:
            self._write(lambda: self._client.set(scope.trusted_roots(self._base), members))

    def activate(self, bundle: Bundle) -> None:
        """Bind the profiles, commit as ``Wish.commit`` says, and read the running configuration back.

        Raises:
            ActivationError: commit or push failed, or the running configuration is not what was committed.
        """
        if self._passive:
            return
        self._bundle = bundle
        for name in self._wish.profiles:
            self._bind(name, self._name)
        if self._wish.commit == NONE:
            return
        self._commit(f"certhooks: {self._name} {bundle.fingerprint[:16]}")
        lacking = self._lacking(bundle)
        if lacking:
            raise ActivationError(
                f"{self._address} has nothing more to commit, but would still have to {'; '.join(lacking)}",
                hint="run it again with --commit force, and look at show jobs all",
            )
        self._committed = True
        if self._wish.push:
            self._push()

    def rollback(self) -> Undone:
        """Take our changes out of the candidate; after a commit bind the former certificates again.

        Only our administrator's changes are reverted, and ``inspect()`` has made sure that all of those are ours.
        """
        if not self._written:
            return Undone.CLEAN
        if self._pushed:
            self.run.warn("the devices whose push succeeded use the new certificate, the others still the old one")
            return Undone.KEPT
        if not (self._committed or (self._bundle and not self._lacking(self._bundle))):
            self._revert()
            return Undone.CLEAN
        former = {name: self._before.profiles[name].certificate for name in self._wish.profiles}
        if not former or not all(former.values()) or self._name in former.values():
            self.run.warn(f"{self._name} replaced a certificate of the same name: the old one cannot be put back")
            return Undone.KEPT
        for name, certificate in former.items():
            self._bind(name, certificate)
        self._commit(f"certhooks: back from {self._name}")
        return Undone.RESTORED

    def prune(self, bundle: Bundle) -> list[str]:
        """Delete and commit away this certificate's predecessors (``NAME_YYYY``) that nothing refers to."""
        if self._passive:
            return []
        running = state.running(self._client, self._base)
        old = re.compile(re.escape(self._wish.name) + r"_\d{4}\Z")
        gone: list[str] = []
        for held in running.certificates.values():
            if not old.match(held.name) or held.name == self._name or held.common_name != bundle.common_name:
                continue
            try:
                self._write(lambda name=held.name: self._client.delete(scope.certificate(self._base, name)))  # type: ignore[misc]
            except UploadRefusedError as e:
                self.run.warn(f"{held.name} stays: {e}")
            else:
                gone.append(held.name)
        if gone:
            try:
                self._commit(f"certhooks: remove {', '.join(gone)}")
            except ActivationError:
                self._revert()
                raise
        return gone

    def close(self) -> None:
        """Close the connection; an API key leaves no session behind."""
        self._client.close()

    @property
    def _limit(self) -> int:
        return names.PANORAMA if self._kind and self._kind.panorama else names.FIREWALL

    @property
    def _passive(self) -> bool:
        return self._kind is not None and self._kind.passive

    def _changes(self, bundle: Bundle, running: state.Config) -> tuple[str, ...]:
        """Tell what has to be done so that the running configuration is as wanted."""
        changes = [f"import the CA certificate {name}" for name in self._cas if name not in running.certificates]
        if not running.holds(self._name, bundle.fingerprint):
            verb = "replace" if self._name in running.certificates else "import"
            changes.append(f"{verb} the certificate {self._name}")
        changes += [f"trust the root {name}" for name in self._roots if name not in running.trusted]
        for name in self._wish.profiles:
            bound = running.profiles[name].certificate if name in running.profiles else ""
            if bound != self._name:
                changes.append(f"bind the profile {name} to it" + (f" in place of {bound}" if bound else ""))
        return tuple(changes)

    def _lacking(self, bundle: Bundle) -> tuple[str, ...]:
        return self._changes(bundle, state.running(self._client, self._base, roots=self._wish.trust_root))

    def _name_cas(self, bundle: Bundle) -> dict[str, Certificate]:
        """Name the CA certificates that the device is to hold: as it calls them already, or after themselves."""
        held = [self._before]
        if self._wish.where.vsys and (bundle.chain or self._wish.trust_root):  # a vsys sees what is shared
            held.append(state.candidate(self._client, replace(self._wish.where, vsys=None).base(panorama=False)))

        def named(ca: Certificate) -> str:
            fingerprint = ca.fingerprint(hashes.SHA256()).hex()
            known = next((name for config in held if (name := config.name_of(fingerprint))), None)
            return known or names.ca(certs.label(ca), fingerprint, self._limit)

        roots = bundle.roots if self._wish.trust_root else ()
        self._roots = tuple(named(ca) for ca in roots)
        shared = {name for config in held[1:] for name in config.certificates}
        wanted = {named(ca): ca for ca in (*bundle.chain, *roots)}
        return {name: ca for name, ca in wanted.items() if name not in shared}

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

    def _serves_management(self, running: state.Config) -> bool:
        if self._wish.where.pushed or self._wish.where.vsys:
            return False
        chosen = state.management_profile(self._client)
        bound = running.profiles[chosen].certificate if chosen in running.profiles else ""
        return bool(chosen) and (chosen in self._wish.profiles or bound == self._name)

    def _touches(self) -> tuple[str, ...]:
        certificates = (scope.certificate(self._base, name) for name in (self._name, *self._cas))
        profiles = (scope.profile(self._base, name) for name in self._wish.profiles)
        roots = (scope.trusted_roots(self._base),) if self._roots else ()
        return (*certificates, *profiles, *roots)

    def _refuse_own_pending(self) -> None:
        """Refuse to start where our administrator has pending edits of something else: a commit would take them along.

        Raises:
            ActivationError: naming the first few; nothing was sent.
        """
        pending = state.pending(self._client)
        ours = (*self._touches(), *self.run.leftover)

        def known(xpath: str) -> bool:
            path = xpath.replace('"', "'")
            return any(path.startswith(place) or place.startswith(path) for place in ours)

        foreign = [p.xpath for p in pending or () if p.owner == self._admin and not known(p.xpath)]
        if foreign:
            raise ActivationError(
                f"{self._admin} has other changes pending on {self._address}, which our commit would take along: "
                f"{', '.join(foreign[:3])}{' ...' if len(foreign) > 3 else ''}",  # noqa: PLR2004  a few show which
                hint="commit or revert them on the device, or give certhooks an administrator of its own",
            )
        others = sorted({p.owner for p in pending or () if p.owner != self._admin})
        if others and self._wish.commit == FULL:
            self.run.warn(f"the full commit takes along what is pending of {', '.join(others)}")

    def _material(self, bundle: Bundle) -> tuple[str, bytes, Secret]:
        """Return format, bytes and passphrase of the pair: the leaf alone, which every version takes.

        The passphrase is 30 letters and digits: others break the device's XML, and 31 may be the longest it takes.
        """
        passphrase = Secret(random.token_hex(15))
        word = passphrase.reveal().encode()
        if self._wish.file_format == PEM:
            return PEM, bundle.key_pem(word) + bundle.leaf_pem.encode(), passphrase
        profile: pkcs12.Profile = "modern" if self._wish.file_format == PKCS12_MODERN else "legacy"
        return PKCS12, pkcs12.build(bundle, word, name=self._name, profile=profile), passphrase

    def _import(
        self, category: str, name: str, file_format: str, data: bytes, passphrase: Optional[Secret] = None
    ) -> None:
        where, client = self._wish.where, self._client
        extra: dict[str, str] = {}
        aimed = bool(where.pushed and where.vsys)
        if where.pushed and not aimed:
            extra["target-tpl"] = where.template or where.stack or ""
        elif where.vsys and not aimed:
            extra["vsys"] = where.vsys

        def send() -> None:
            client.import_file(category, name, file_format, data, passphrase=passphrase, **extra)

        if aimed:  # target-tpl-vsys is ignored by the device (PAN-257229): its session is pointed at the vsys instead
            client.op(where.aim())
        try:
            self._write(send, again_on="find begin")  # a passing fault, PAN-267847
        finally:
            if aimed:
                client.op(scope.AIM_NOWHERE)

    def _write(self, request: Callable[[], None], *, again_on: str = "") -> None:
        """Send a change to the candidate, once locks allow it.

        Raises:
            UploadRefusedError: with the device's words.
        """
        self._written = True
        for last in (not again_on, True):
            try:
                jobs.when_free(request, self.run)
            except RefusedError as e:
                if not last and again_on in str(e).lower():
                    continue
                hint = "this is the passive unit: give the active one too" if e.code == _PASSIVE else e.hint
                raise UploadRefusedError(str(e), hint=hint) from e
            return

    def _bind(self, profile: str, certificate: str) -> None:
        entry = self._client.get(scope.profile(self._base, profile))
        if entry is not None and (entry.findtext("certificate") or "").strip() == certificate:
            return
        self.run.tell(f"binding profile {profile} to {certificate}")
        element = f"<certificate>{escape(certificate)}</certificate>"
        self._write(lambda: self._client.set(scope.profile(self._base, profile), element))

    def _commit(self, description: str) -> None:
        """Commit our own changes (or with ``--commit full`` all) and follow the job to a good end."""
        if self._wish.commit == FULL:
            job = jobs.commit(self._client, jobs.full, description, None, self.run)
        else:
            own = partial(jobs.partial, self._me(), force=self._wish.commit == FORCE)
            job = jobs.commit(self._client, own, description, "partial", self.run)
        if job is not None:
            jobs.expect_ok(job, self.run, "the commit")

    def _revert(self) -> None:
        me = escape(self._me())
        command = f"<revert><config><partial><admin><member>{me}</member></admin></partial></config></revert>"
        jobs.when_free(lambda: self._client.op(command), self.run)

    def _me(self) -> str:
        if not self._admin:
            raise ActivationError(
                f"{self._address} does not tell whose API key this is, so that only its changes could be committed",
                hint="write api_username=NAME into the key file, or use --commit full",
            )
        return self._admin

    def _push(self) -> None:
        """Push the template stacks, and keep one result a device.

        Raises:
            ActivationError: a push was refused, or failed on a device.
        """
        where = self._wish.where
        stacks = [where.stack] if where.stack else state.stacks_with(self._client, where.template or "")
        if not stacks:
            raise ActivationError(
                f"{where} is in no template stack: it reaches no device", hint="add it to a stack on Panorama"
            )
        failed: list[str] = []
        for stack in stacks:
            self.run.tell(f"pushing template stack {stack}")
            command = jobs.push_stack(stack, f"certhooks: {self._name}")
            job = jobs.push(self._client, command, self.run)
            self._pushed = True
            for device in job.devices:
                told = "; ".join(device.messages)
                self.run.parts.append({"name": device.name, "result": device.result, "message": told})
                if not device.ok:
                    failed.append(f"{device.name}: {told or device.result}")
            if job.result != "OK" and not job.devices:
                failed.append(f"{stack}: {'; '.join(job.details) or job.result}")
            if not job.devices:
                self.run.warn(f"template stack {stack} has no device")
        if failed:
            raise ActivationError(
                f"the push failed on {', '.join(failed)}", hint="mend it there, then run the same command again"
            )

    def _await_peer(self, bundle: Bundle) -> None:
        """Return when a passive unit has taken over from its active peer what is wanted.

        Raises:
            UploadRefusedError: it has not.
        """
        self.run.tell("passive: waiting for the configuration of its active peer")
        patience = self.run.deadline.within(_SYNCHRONIZED)
        for pause in growing(0.2, 3.0):
            lacking = self._lacking(bundle)
            if not lacking:
                return
            if patience.remaining() <= pause:
                raise UploadRefusedError(
                    f"{self._address} is passive, its active peer has not brought it: would {'; '.join(lacking)}",
                    hint="give the active unit in the same call; show high-availability state tells which it is",
                )
            patience.pause(pause)
