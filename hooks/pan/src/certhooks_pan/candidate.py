"""Our changes to the candidate configuration: imports, bindings, deletions, and taking all of them back."""

from __future__ import annotations

import secrets as random
from contextlib import suppress
from typing import TYPE_CHECKING, Callable, Optional
from xml.sax.saxutils import escape

from certhooks import certificate as certs
from certhooks import pkcs12
from certhooks.errors import UploadRefusedError
from certhooks.secrets import Secret
from certhooks_pan import jobs, scope, state
from certhooks_pan.wanted import PEM, PKCS12, PKCS12_MODERN
from certhooks_pan.xapi import RefusedError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from cryptography.x509 import Certificate

    from certhooks.bundle import Bundle
    from certhooks.target import Run
    from certhooks_pan.scope import Scope
    from certhooks_pan.xapi import Client

_PASSIVE = "15"
_TRIES = 3


class Candidate:
    """The part of the candidate that a scope names; ``written`` tells whether anything was sent.

    Every change may raise UploadRefusedError with the device's words.
    """

    def __init__(self, client: Client, where: Scope, base: str, run: Run) -> None:
        self.written = False
        self._client = client
        self._where = where
        self._base = base
        self._run = run

    def import_ca(self, name: str, certificate: Certificate) -> None:
        """Import a CA certificate as an entry of its own."""
        self._run.tell(f"importing the CA certificate {name}")
        self._import("certificate", name, PEM, certs.to_pem(certificate).encode())

    def import_pair(self, name: str, bundle: Bundle, file_format: str) -> None:
        """Import key and leaf together, and read back that the device holds both."""
        self._run.tell(f"importing {name}")
        self._import("keypair", name, *_material(name, bundle, file_format))
        held = state.one_certificate(self._client, self._base, name)
        if held is None or held.fingerprint != bundle.fingerprint:
            raise UploadRefusedError(
                f"{self._client.address} said it imported {name}, but does not hold it in {self._base}",
                hint="look for a certificate of that name in another place on the device",
            )
        if not held.has_key:
            raise UploadRefusedError(f"{self._client.address} imported {name} without its private key")

    def trust(self, names: Iterable[str]) -> None:
        """Add certificates to the trusted roots."""
        members = "".join(f"<member>{name}</member>" for name in names)
        if members:
            self._write(lambda: self._client.set(scope.trusted_roots(self._base), members))

    def bind(self, profile: str, certificate: str) -> None:
        """Let an SSL/TLS service profile, which must be there, name a certificate."""
        entry = self._client.get(scope.profile(self._base, profile))
        if entry is None:  # a set would make another profile of that name, without settings
            raise UploadRefusedError(
                f"{self._client.address} has no SSL/TLS service profile {profile!r} any more",
                hint="somebody has deleted it meanwhile: make it again, or leave it out",
            )
        if (entry.findtext("certificate") or "").strip() == certificate:
            return
        self._run.tell(f"binding profile {profile} to {certificate}")
        element = f"<certificate>{escape(certificate)}</certificate>"
        self._write(lambda: self._client.set(scope.profile(self._base, profile), element))

    def remove(self, name: str) -> None:
        """Delete a certificate, again when the device says that it is not there and still has it (seen off and on)."""
        for _ in range(_TRIES):
            self._write(lambda: self._client.delete(scope.certificate(self._base, name)))
            if state.one_certificate(self._client, self._base, name) is None:
                return
        raise UploadRefusedError(f"{self._client.address} does not delete {name}")

    def revert(self, admin: str) -> None:
        """Take back everything that one administrator has changed and not committed."""
        member = f"<partial><admin><member>{escape(admin)}</member></admin></partial>"
        jobs.when_free(lambda: self._client.op(f"<revert><config>{member}</config></revert>"), self._run)
        self.written = False

    def _import(
        self, category: str, name: str, file_format: str, data: bytes, passphrase: Optional[Secret] = None
    ) -> None:
        where, client = self._where, self._client
        extra: dict[str, str] = {}
        if where.pushed and not where.vsys:
            extra["target-tpl"] = where.template or where.stack or ""
        elif where.vsys and not where.pushed:
            extra["vsys"] = where.vsys

        def send() -> None:
            client.import_file(category, name, file_format, data, passphrase=passphrase, **extra)

        if not (where.pushed and where.vsys):
            self._write(send, again_on="find begin")  # a passing fault, PAN-267847
            return
        # The device ignores target-tpl-vsys (PAN-257229): what is aimed at the vsys instead is our whole API session.
        try:
            client.op(where.aim())
            self._write(send, again_on="find begin")
        finally:
            client.op(scope.AIM_NOWHERE)

    def _write(self, request: Callable[[], None], *, again_on: str = "") -> None:
        """Send a change, once locks allow it."""
        self.written = True
        for last in (not again_on, True):
            try:
                jobs.when_free(request, self._run)
            except RefusedError as e:
                if not last and again_on in str(e).lower():
                    continue
                hint = "this is the passive unit: give the active one too" if e.code == _PASSIVE else e.hint
                raise UploadRefusedError(str(e), hint=hint) from e
            return


def aim_nowhere(client: Client) -> None:
    """Undo what a run that was killed may have aimed our API session at; versions that do not know it are fine."""
    with suppress(RefusedError):
        client.op(scope.AIM_NOWHERE)


def _material(name: str, bundle: Bundle, file_format: str) -> tuple[str, bytes, Secret]:
    """Return format, bytes and passphrase of the pair: the leaf alone, which every version takes.

    The passphrase is 30 letters and digits: others break the device's XML, and 31 may be the longest it takes.
    """
    passphrase = Secret(random.token_hex(15))
    word = passphrase.reveal().encode()
    if file_format == PEM:
        return PEM, bundle.key_pem(word) + bundle.leaf_pem.encode(), passphrase
    profile: pkcs12.Profile = "modern" if file_format == PKCS12_MODERN else "legacy"
    return PKCS12, pkcs12.build(bundle, word, name=name, profile=profile), passphrase
