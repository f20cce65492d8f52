"""Writing by dynamic updates that Kerberos signs (GSS-TSIG, RFC 3645): least privilege, and nothing is ever lost.

dnspython signs them where the gssapi module is installed, else ``nsupdate -g`` does. The latter asks for a ticket of
the server that the SOA record names, whichever it sends to; in FreeIPA each server names itself there.
"""

from __future__ import annotations

import os
import subprocess
import time
import uuid
from typing import TYPE_CHECKING, Any, Callable, NamedTuple, Optional

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.query
import dns.rcode
import dns.rdataclass
import dns.rdatatype
import dns.tsig
import dns.update

from certhooks.errors import ActivationError, ConnectionLostError, CredentialsError, Error, UnreachableError
from certhooks_freeipa_dns import errors, kerberos
from certhooks_freeipa_dns.backend import Held, Record, Zone, by_target
from certhooks_freeipa_dns.lookup import GOOD

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from certhooks.address import Address
    from certhooks.deadline import Deadline
    from certhooks_freeipa_dns.settings import Settings
    from certhooks_freeipa_dns.view import View

_SECONDS = 20.0
_AT_ONCE = 100  # changes in one message, which may have 64 KiB
_GSS_NEGOTIATION = 3  # the mode of a TKEY record, RFC 2930 section 2.5
_HINT = (
    "the zone's update policy must allow it: ipa dnszone-mod ZONE --dynamic-update=TRUE --update-policy='grant REALM "
    "krb5-selfsub * TXT;' beside the rules that are there"
)
_OTHER = "is it one of the zone's own servers? server or --server names another"


class _Change(NamedTuple):
    """One value to add with a TTL, or to remove (None)."""

    target: str
    value: str
    ttl: Optional[int] = None


class Update:
    """Dynamic updates to one of FreeIPA's name servers.

    Args:
        view: asks the servers, and knows their addresses.
        preferred: the server that the values were written to.
    """

    kind = "update"

    def __init__(
        self,
        settings: Settings,
        view: View,
        deadline: Deadline,
        *,
        preferred: str = "",
        sign: Optional[Callable[[], bool]] = None,
    ) -> None:
        self._settings = settings
        self._view = view
        self._deadline = deadline
        self._preferred = preferred
        self._sign = sign or kerberos.installed
        self._host = ""
        self._address: Optional[Address] = None
        self._keyring: Any = None
        self._key_name: Any = None

    @property
    def server(self) -> str:
        """See Backend."""
        there = self._address
        return f"{self._host}:{there.port}" if there and there.port != self._settings.port else self._host

    def survey(
        self, candidates: Sequence[str], records: Sequence[Record]
    ) -> tuple[Optional[dict[str, Zone]], Mapping[str, Held]]:
        """See Backend: DNS alone knows the zones."""
        assert candidates is not None  # noqa: S101  the protocol has them; DNS has told the zone already
        return None, self.read(records)

    def add(self, records: Sequence[Record], ttls: Mapping[str, int]) -> Mapping[str, Held]:
        """See Backend: one message a zone."""
        # A value that joins others takes their TTL: an update would change it for all.
        held_ttls = {target: self._ttl(zone, target) for zone, target in by_target(records)}
        ttl = self._settings.ttl
        self._change(records, lambda r: _Change(r.target, r.value, ttls.get(r.target) or held_ttls[r.target] or ttl))
        return self.read(records)

    def remove(self, records: Sequence[Record]) -> Mapping[str, Held]:
        """See Backend: one message a zone, none for what is not there, as when its addition was refused."""
        held = self.read(records)
        there = [record for record in records if record.value in held[record.target].values]
        if not there:
            return held
        self._change(there, lambda r: _Change(r.target, r.value))
        return self.read(records)

    def read(self, records: Sequence[Record]) -> Mapping[str, Held]:
        """See Backend: one question a name."""
        found = {}
        for zone, target in by_target(records):
            answer = self._asked(zone, target)
            rrsets = [rrset for rrset in answer.answer if rrset.rdtype == dns.rdatatype.TXT]
            values = {b"".join(rdata.strings).decode("latin-1") for rrset in rrsets for rdata in rrset}
            alias = any(rrset.rdtype == dns.rdatatype.CNAME for rrset in answer.answer)
            found[target] = Held(frozenset(values), answer.rcode() == dns.rcode.NOERROR, alias=alias)
        return found

    def close(self) -> None:
        """See Backend: every message has a connection of its own."""

    def _ttl(self, zone: str, target: str) -> int:
        answer = self._asked(zone, target)
        return next((rrset.ttl for rrset in answer.answer if rrset.rdtype == dns.rdatatype.TXT), 0)

    def _asked(self, zone: str, target: str) -> dns.message.Message:
        answer = self._view.lookup.ask(self._where(zone), target, dns.rdatatype.TXT)
        if answer is None:
            raise _silent(self._host)
        if answer.rcode() == dns.rcode.SERVFAIL:
            raise _refused(self._host, "SERVFAIL", zone)
        if answer.rcode() not in GOOD or not answer.flags & dns.flags.AA:
            told = dns.rcode.to_text(answer.rcode())
            raise errors.NoZoneError(f"{self._host} does not serve the zone {zone} ({told})", hint=_OTHER)
        return answer

    def _where(self, zone: str) -> Address:
        """Return the address of the server to write to: the first that answers, and that one to the end."""
        if self._address is None:
            failure: Optional[Error] = None
            for given in self._candidates(zone):
                try:
                    found = self._view.lookup.located(given)
                    if self._view.lookup.ask(found.address, zone, dns.rdatatype.SOA) is None:
                        raise _silent(given)
                except UnreachableError as e:
                    failure = failure or e
                else:
                    self._host, self._address = found
                    break
            else:
                raise failure or _silent(zone)
        return self._address

    def _candidates(self, zone: str) -> Iterator[str]:
        """Yield the server that was written to, then those that are set, else the one that the SOA record names."""
        given = [] if self._settings.discover else [str(each) for each in self._settings.servers()]
        yield from dict.fromkeys(each for each in (self._preferred, *given) if each)
        if not given:
            yield self._view.primary(zone)

    def _change(self, records: Sequence[Record], make: Callable[[Record], _Change]) -> None:
        for zone in dict.fromkeys(record.zone for record in records):
            changes = [make(record) for record in dict.fromkeys(records) if record.zone == zone]
            for some in (changes[at : at + _AT_ONCE] for at in range(0, len(changes), _AT_ONCE)):
                self._deadline.check("the update")
                try:
                    self._send(zone, some)
                except CredentialsError:
                    if not self._preferred:
                        raise
                    self._preferred, self._address = "", None  # written to once, it need not let us in any more
                    self._send(zone, some)

    def _send(self, zone: str, changes: Sequence[_Change]) -> None:
        where = self._where(zone)
        if self._sign():
            self._signed(zone, changes, where)
        else:
            self._by_nsupdate(zone, changes, where)

    def _signed(self, zone: str, changes: Sequence[_Change], where: Address) -> None:
        if self._keyring is None:
            self._negotiate(where)
        message = dns.update.UpdateMessage(
            f"{zone}.", keyring=self._keyring, keyname=self._key_name, keyalgorithm=dns.tsig.GSS_TSIG
        )
        for change in changes:
            if change.ttl is None:
                message.delete(f"{change.target}.", "TXT", f'"{change.value}"')
            else:
                message.add(f"{change.target}.", change.ttl, "TXT", f'"{change.value}"')
        try:
            answer = dns.query.tcp(message, where.host, self._timeout(), where.port)
        except (dns.exception.DNSException, OSError, EOFError) as e:
            raise ConnectionLostError(f"{self._host} broke off the update ({type(e).__name__})") from e
        if answer.rcode() != dns.rcode.NOERROR:
            raise _refused(self._host, dns.rcode.to_text(answer.rcode()), zone)

    def _negotiate(self, where: Address) -> None:
        """Agree on a key with the server (RFC 3645 section 3)."""
        import gssapi
        from dns.rdtypes.ANY.TKEY import TKEY
        from gssapi.raw import GSSError

        creds = kerberos.credentials(self._settings)
        name = dns.name.from_text(f"{uuid.uuid4()}.sig-{self._host}.")
        try:
            context = gssapi.SecurityContext(
                name=gssapi.Name(f"DNS@{self._host}", gssapi.NameType.hostbased_service), creds=creds, usage="initiate"
            )
            ring = _keys(name, context)
            token = context.step()
            while not context.complete:
                now = int(time.time())
                query = dns.message.make_query(name, dns.rdatatype.TKEY, dns.rdataclass.ANY)
                query.keyring = ring
                query.find_rrset(query.additional, name, dns.rdataclass.ANY, dns.rdatatype.TKEY, create=True).add(
                    TKEY(  # type: ignore[no-untyped-call]
                        dns.rdataclass.ANY, dns.rdatatype.TKEY, dns.tsig.GSS_TSIG, now, now, _GSS_NEGOTIATION, 0, token
                    )
                )
                answer = dns.query.tcp(query, where.host, self._timeout(), where.port)
                tkey = next((rdata for rrset in answer.answer for rdata in rrset), None)
                if tkey is None or getattr(tkey, "error", False):
                    raise CredentialsError(
                        f"{self._host} does not accept our Kerberos ticket ({dns.rcode.to_text(answer.rcode())})",
                        hint=f"does it have a key for DNS/{self._host}, and are the clocks right?",
                    )
                if not context.complete:
                    token = context.step(tkey.key)
        except GSSError as e:
            raise kerberos.explain(e, f"no Kerberos ticket for DNS/{self._host}") from e
        except (dns.exception.DNSException, OSError, EOFError) as e:
            raise UnreachableError(
                f"{self._host} does not agree on a key ({type(e).__name__})", hint="is TCP port 53 open to it?"
            ) from e
        self._keyring, self._key_name = ring, name

    def _by_nsupdate(self, zone: str, changes: Sequence[_Change], where: Address) -> None:
        lines = [f"server {self._host} {where.port}", f"zone {zone}."]
        for change in changes:
            how = f'delete {change.target}. TXT "{change.value}"'
            lines.append(f"update {how if change.ttl is None else _adding(change)}")
        environment = {key: value for key, value in os.environ.items() if key.startswith("KRB5")}
        environment.update(PATH="/usr/bin:/bin:/usr/sbin:/sbin", LC_ALL="C")
        if self._settings.ccache:
            environment["KRB5CCNAME"] = self._settings.ccache
        else:
            environment.update(KRB5CCNAME="MEMORY:", KRB5_CLIENT_KTNAME=f"FILE:{kerberos.keytab(self._settings)}")
        try:
            done = subprocess.run(  # the values stand on standard input, where nobody reads them as options
                ["nsupdate", "-g"],  # noqa: S607  the PATH is ours
                input="\n".join([*lines, "send", ""]),
                env=environment,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=self._timeout(),
                check=False,
            )
        except FileNotFoundError:
            raise CredentialsError(
                "a dynamic update needs the Python module gssapi or the command nsupdate, and neither is installed",
                hint="install bind-utils (Debian: bind9-dnsutils)",
            ) from None
        except subprocess.TimeoutExpired:
            raise ConnectionLostError(f"nsupdate had no answer from {self._host} in time") from None
        if done.returncode:
            told = " ".join((done.stderr or done.stdout).split())[:300]
            if "tkey" in told or "GSSAPI" in told or "credentials" in told.lower():
                raise CredentialsError(
                    f"{self._host} does not accept our Kerberos ticket: {told}",
                    hint="kinit -k -t KEYTAB PRINCIPAL tries the same",
                )
            raise _refused(self._host, told.rpartition(" ")[2] or "an error", zone)

    def _timeout(self) -> float:
        return max(0.1, min(_SECONDS, self._deadline.remaining()))


def _keys(name: dns.name.Name, context: Any) -> Any:
    key = dns.tsig.Key(name, context, dns.tsig.GSS_TSIG)
    return dns.tsig.GSSTSigAdapter({name: key})  # type: ignore[no-untyped-call]


def _adding(change: _Change) -> str:
    return f'add {change.target}. {change.ttl} TXT "{change.value}"'


def _silent(server: str) -> UnreachableError:
    return UnreachableError(f"{server} does not answer", hint="is it up, and is port 53 open to it?")


def _refused(server: str, reason: str, zone: str) -> Error:
    if reason in {"REFUSED", "NOTAUTH"}:
        return errors.RefusedError(f"{server} refuses the update of zone {zone}: {reason}", hint=_HINT)
    if reason == "NOTZONE":
        return errors.NoZoneError(f"{server} does not have zone {zone}: {reason}", hint=_OTHER)
    if reason == "SERVFAIL":
        return errors.PassingError(f"{server} has a fault: {reason}", hint="look at named's log there, then try again")
    return ActivationError(f"{server} failed at the update of zone {zone}: {reason}")
