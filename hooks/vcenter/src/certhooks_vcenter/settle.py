"""How a replacement ended: told by vCenter itself, not by the reply alone.

Before 8.0U3 vCenter restarts its services, which takes minutes: connections are reset or refused, proxies answer 503 in
their own words, the former certificate is still served, the right password is refused for a while. And the request that
replaces the certificate may end in any of that. So nothing is believed but what is seen: the store, by a new session,
and what is served on every address of the name.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Optional

from cryptography.hazmat.primitives import hashes

from certhooks import probe
from certhooks.deadline import growing
from certhooks.errors import (
    ActivationError,
    CredentialsError,
    DeadlineError,
    Error,
    NotServedError,
    UnreachableError,
    UploadRefusedError,
)
from certhooks_vcenter.replies import RefusedError, UnauthenticatedError

if TYPE_CHECKING:
    from cryptography.x509 import Certificate

    from certhooks.bundle import Bundle
    from certhooks.target import Run
    from certhooks_vcenter.rest import Client

_FIRST, _LONGEST = 0.3, 10.0  # seconds between two looks
# SSO locks an account after five failures within three minutes. The password was right a moment ago, and the services
# that know it may not be up; even so it is not offered more often than that.
AFTER_REFUSAL = 45.0
_NOTHING_HAPPENS = 180.0  # seconds after which a replacement that left no trace was not carried out
_LASTS = 20.0  # seconds without a restart after which none is expected any more
_PROBE = 5.0


class _Look(NamedTuple):
    """What was seen: fingerprints that are served and held by the store, empty where that is not to be had."""

    served: frozenset[str]
    stored: str
    told: str

    @property
    def away(self) -> bool:
        return not (self.served and self.stored)


class Settling:
    """The wait after a replacement.

    Args:
        before: what the store held before it.
        unsure: what came in place of a reply that it was carried out: a lost connection, or a refusal.
        restarts: services may restart, so that what is seen at once may not last.
        addresses: those of its name that answered before it, each of which must serve the new one.

    ``taken_back`` tells afterwards whether vCenter has put the former certificate back by itself.
    """

    def __init__(
        self,
        client: Client,
        run: Run,
        bundle: Bundle,
        before: Optional[Certificate],
        *,
        unsure: Optional[Error] = None,
        restarts: bool = False,
        addresses: frozenset[str] = frozenset(),
    ) -> None:
        self._client = client
        self._run = run
        self._new = bundle.fingerprint
        self._old = sha256(before) if before is not None else ""
        self._unsure = unsure
        self._restarts = restarts
        self._addresses = addresses
        self._seen = False  # the new one was served, or in the store
        self._gone = False  # it was away: something happens
        self._good_since: Optional[float] = None
        self._refused_at: Optional[float] = None
        self._began = run.deadline.elapsed()
        self.taken_back = False

    def wait(self) -> None:
        """Return when the store holds the new certificate, a new session works, and it is served on every address.

        Raises:
            UploadRefusedError: it was refused, and vCenter has what it had.
            ActivationError: vCenter has put the former one back, or has not carried the replacement out.
            NotServedError: at the end of the run's time another one is served.
            DeadlineError: at the end of the run's time vCenter is not back.
        """
        self._client.forget()  # a fresh connection and a new session are what proves it
        last = _Look(frozenset(), "", "")
        for pause in growing(_FIRST, _LONGEST):
            try:
                last = self._look()
                if self._is_over(last):
                    return
                self._run.tell(self._state(last))
                self._run.deadline.pause(pause, "the wait for vCenter")
                if self._run.deadline.remaining() <= 0:
                    self._run.deadline.check("the wait for vCenter")
            except DeadlineError as e:
                raise self._late(last, e) from e

    def _is_over(self, look: _Look) -> bool:
        now = self._run.deadline.elapsed()
        if look.served == {self._new} and look.stored == self._new:
            self._seen = True
            if self._good_since is None:
                self._good_since = now
            return self._gone or not self._restarts or now - self._good_since >= _LASTS
        self._good_since = None
        self._seen |= self._new in {*look.served, look.stored}
        self._gone |= look.away
        if look.stored != self._old or look.served != {self._old} or self._old == self._new:
            return False
        if self._seen:
            self.taken_back = True
            raise ActivationError(
                f"{self._client.address} took the new certificate, and then put the former one back by itself",
                hint="/var/log/vmware/certificatemanagement/certificatemanagement-svcs.log on vCenter tells why",
            )
        if isinstance(self._unsure, RefusedError):
            raise UploadRefusedError(str(self._unsure), hint=self._unsure.hint) from self._unsure
        quiet = not self._gone and now - self._began > _NOTHING_HAPPENS
        if quiet:
            how = "the connection broke during the replacement" if self._unsure else "the replacement was told as done"
            raise ActivationError(
                f"{how}, and {self._client.address} has not carried it out", hint="run the same command again"
            )
        return False

    def _look(self) -> _Look:
        address, told = self._client.address, ""
        try:
            answers = probe.every(address, timeout=max(0.1, min(_PROBE, self._run.deadline.remaining())))
            served = frozenset(answer.fingerprint for answer in answers if answer.der)
            told = ", ".join(answer.error for answer in answers if answer.error)
        except UnreachableError as e:
            return _Look(frozenset(), "", str(e))
        if not served or self._addresses - {answer.ip for answer in answers if answer.der}:
            return _Look(served, "", told)
        try:
            stored = self._stored()
        except (UnreachableError, RefusedError, CredentialsError) as e:
            self._client.forget()
            return _Look(served, "", str(e))
        return _Look(served, stored, told)

    def _stored(self) -> str:
        """Return what the store holds, by a session opened since the replacement."""
        now = self._run.deadline.elapsed()
        if not self._client.logged_in:
            if self._refused_at is not None and now - self._refused_at < AFTER_REFUSAL:
                raise UnreachableError(f"{self._client.address} opens no session yet")
            try:
                self._client.login_after_restart()
            except UnauthenticatedError:
                self._refused_at = now
                raise
        return sha256(self._client.machine_certificate(renew=False))

    def _state(self, look: _Look) -> str:
        if look.away:
            return f"waiting for vCenter to be back: {look.told}"
        if look.stored != self._new:
            return "waiting for vCenter to take the new certificate"
        if look.served == {self._new}:
            return "the new certificate is served; waiting for the restart of vCenter's services"
        return "waiting for vCenter to serve the new certificate"

    def _late(self, look: _Look, error: DeadlineError) -> Exception:
        address = self._client.address
        if look.served - {self._new}:
            instead = "the former" if look.served == {self._old} else "another"
            held = "holds the new one" if look.stored == self._new else "does not hold the new one"
            return NotServedError(
                f"{address} still serves {instead} certificate; its store {held if look.stored else 'cannot be read'}",
                hint="see service-control --status on vCenter, then run the same command again",
            )
        what = (
            f"serves the new certificate, but is not back: {look.told}" if look.served else f"is not back: {look.told}"
        )
        return DeadlineError(f"{error}; {address} {what}", hint=error.hint)


def sha256(certificate: Certificate) -> str:
    """Return the fingerprint in the form in which this project compares certificates."""
    return certificate.fingerprint(hashes.SHA256()).hex()
