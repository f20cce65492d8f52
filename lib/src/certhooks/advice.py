"""What to type next when certmonger or FreeIPA refuses: from the state and the ca-error to one sentence.

The texts that are looked for are those of FreeIPA's server (cert_request, service_add) and of certmonger's ipa-submit.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from typing import Callable, Optional

_HERE = "$(hostname -f)"  # the host whose keytab certmonger uses; typed into a shell
_NAME = r"([\w.*/@-]+)"

# Where the reply says nothing that we know, the state does.
_STATES = {
    "CA_REJECTED": "the CA refused the request; correct what it names",
    "CA_UNREACHABLE": "certmonger did not reach the CA and tries again in 7 days; mend the connection",
    "CA_UNCONFIGURED": "the CA's helper lacks configuration or credentials; see /etc/ipa/default.conf and klist -k",
    "NEED_CA": "certmonger does not know the CA of this request; see getcert list-cas",
    "NEED_GUIDANCE": "the CA's helper crashed or answered nonsense; see journalctl -u certmonger",
    "NEED_KEY_GEN_PERMS": "certmonger may not write the key's file; check its folder and restorecon -Rv on it",
    "NEED_KEY_GEN_PIN": "the key's file has a passphrase that certmonger does not know; give it with getcert's -p",
    "NEED_KEYINFO_READ_PIN": "the key has a passphrase that certmonger does not know; give it with getcert's -p",
    "NEED_CSR_GEN_PIN": "the key has a passphrase that certmonger does not know; give it with getcert's -p",
    "NEED_CERTSAVE_PERMS": "certmonger may not write the certificate's file; check its folder and restorecon -Rv on it",
    "NEED_TO_NOTIFY_ISSUED_SAVE_FAILED": "certmonger cannot write the certificate's file; check folder and disk",
    "NOTIFYING_ISSUED_SAVE_FAILED": "certmonger cannot write the certificate's file; check folder and disk",
    "NEED_TO_NOTIFY_ISSUED_CA_SAVE_FAILED": "certmonger cannot write the file for the CA's certificates (-F, -a)",
    "NOTIFYING_ISSUED_CA_SAVE_FAILED": "certmonger cannot write the file for the CA's certificates (-F, -a)",
}

_Say = Callable[[Sequence[str], Optional[str]], str]  # the groups of the match, the request's principal


def _manage(principal: str) -> str:
    """Say how this host gets the right to request for ``principal`` (service or host)."""
    kind, _, rest = principal.partition("/")
    if kind == "host":
        host = shlex.quote(rest.partition("@")[0])
        return f"let this host manage it, as an admin: ipa host-add-managedby {host} --hosts={_HERE}"
    service = shlex.quote(_short(principal))
    return f"let this host manage it, as an admin: ipa service-add-host {service} --hosts={_HERE}"


def _create(principal: str) -> str:
    host = shlex.quote(principal.partition("/")[2].partition("@")[0])
    service = shlex.quote(_short(principal))
    return (
        f"prepare it, as an admin: ipa host-add {host} --force; ipa service-add {service} --force; "
        f"ipa service-add-host {service} --hosts={_HERE}"
    )


def _short(principal: str) -> str:
    return principal.partition("@")[0]


def _sibling(name: str, principal: Optional[str]) -> str:
    """Return the principal for another name of the same service type."""
    return f"{(principal or 'HTTP/').partition('/')[0]}/{name}"


def _entry(groups: Sequence[str], principal: Optional[str]) -> str:
    attribute, name = groups[0], groups[1]
    named = name if attribute.lower() == "krbprincipalname" else f"host/{name}"
    return _manage(named if "/" in named else principal or named)


def _missing_entry(groups: Sequence[str], principal: Optional[str]) -> str:
    """Say how to make the host or service that the server did not find."""
    name, kind = groups
    if kind == "service":
        return _create(name)
    return _create(principal) if principal else f"add the host, as an admin: ipa host-add {shlex.quote(name)} --force"


def _says(text: str) -> _Say:
    return lambda _groups, _principal: text


_RULES: Sequence[tuple[str, _Say]] = (
    (
        r"not allowed to perform operation: request certificate",
        _says('FreeIPA did not see a host ask; use the host\'s keytab, or grant the permission "Request Certificate"'),
    ),
    (rf"insufficient 'write' privilege to the 'usercertificate[^']*' attribute of entry '(\w+)={_NAME}", _entry),
    (
        rf"insufficient privilege to create a certificate with subject alt name '{_NAME}'",
        lambda groups, principal: _manage(_sibling(groups[0], principal)),
    ),
    (
        rf"principal for subject alt name '?{_NAME}'? in certificate request does not exist",
        lambda groups, principal: (
            f"{_create(_sibling(groups[0], principal))}; or make the name an alias: ipa service-add-principal "
            f"{shlex.quote(_short(principal or 'HTTP/...'))} {shlex.quote(_sibling(groups[0], principal))}"
        ),
    ),
    (
        rf"the host '{_NAME}' does not exist to add a service to",
        lambda groups, principal: _create(principal or f"HTTP/{groups[0]}"),
    ),
    (
        rf"insufficient 'add' privilege to add the entry 'krbprincipalname={_NAME}",
        lambda groups, _principal: f"the service does not exist yet; {_create(groups[0])}",
    ),
    (rf"{_NAME}: (service|host) not found", _missing_entry),
    (
        r"hostname in subject of request '([^']*)' does not match name or aliases of principal '?([^'.)]*)",
        lambda groups, _principal: (
            f"the certificate's name {shlex.quote(groups[0])} and the principal disagree; "
            "resubmit with both the same: getcert resubmit -i ID -N CN=NAME -K SERVICE/NAME"
        ),
    ),
    (
        r"is not permitted to use CA '([^']*)' with profile '([^']*)'",
        lambda groups, _principal: (
            f"no CA ACL allows profile {shlex.quote(groups[1])}; as an admin, for the one that FreeIPA comes with: "
            f"ipa caacl-add-profile hosts_services_caIPAserviceCert --certprofiles={shlex.quote(groups[1])} "
            f"(ipa caacl-find shows all), or take another profile (-T)"
        ),
    ),
    (
        r"IP address in subjectAltName \(([^)]*)\)",
        lambda groups, _principal: (
            f"give {shlex.quote(groups[0])} an address and a PTR record in FreeIPA's DNS, "
            "or leave the IP address out of the request"
        ),
    ),
    (
        r"subject alt name type ([\w ]+?) is forbidden",
        lambda groups, _principal: f"leave names of type {groups[0]} out of the request",
    ),
    (
        r"missing or invalid HTTP referer",
        _says("the server was called by an alias; put its own name into /etc/ipa/default.conf (server, xmlrpc_uri)"),
    ),
    (
        r"failed to authenticate to CA REST API|communicate with CMS|certificate operation cannot be completed",
        _says(
            "the fault is on the CA's side (pki-tomcatd or the RA certificate), not here; on an IPA server "
            "run ipa-healthcheck, other CA servers show with: ipa config-show"
        ),
    ),
    (
        r"clock skew",
        _says("the clocks of this host and the KDC differ; see chronyc tracking"),
    ),
    (
        r"cannot (?:find|contact|resolve) (?:any )?KDC|cannot resolve (?:servers|network address) for KDC",
        _says("no KDC answers; check the realm in /etc/krb5.conf and port 88 of the IPA servers"),
    ),
    (
        r"setting up ccache .*generic error \(see e-text\)",
        _says("the KDC answers, but not its directory; on the IPA server see: ipactl status"),
    ),
    (
        # all that ipa-submit says when no web server answered, or none took the host's ticket; behind a server's own
        # words it is only noise
        r"^unable to (?:contact|determine location of) (?:an )?IPA LDAP server",
        _says(
            "the server in /etc/ipa/default.conf, the only one that certmonger asks, did not take the request; see "
            "ipactl status there, whether this host reaches its port 443, and chronyc tracking on both for the clocks"
        ),
    ),
    (
        r"preauthentication failed|error obtaining initial credentials|keytab|key table|not found in kerberos database",
        _says(
            "the host's keytab does not work; compare klist -k /etc/krb5.keytab with kvno host/$(hostname -f), "
            "renew it with ipa-getkeytab"
        ),
    ),
)


def advice(
    status: str, ca_error: Optional[str], *, principal: Optional[str] = None, nickname: Optional[str] = None
) -> Optional[str]:
    """Return what to do about a request in trouble, with the command to type, or None when nothing is known.

    ``principal`` is the request's first one; ``nickname`` adds the command that tries again.
    """
    text = ca_error or ""
    for pattern, say in _RULES:
        found = re.search(pattern, text, re.IGNORECASE)
        if found:
            return _then_again(say(found.groups(), principal), nickname)
    if status == "CA_UNREACHABLE" and re.search(r"\b(4001|4301)\b", text):
        # ipa-submit counts these as passing faults; waiting does not mend a missing entry
        return _then_again("this does not mend itself: something the request names is missing in FreeIPA", nickname)
    known = _STATES.get(status)
    if known is None and text:
        known = "the CA did not renew the certificate; correct what its message names"
    return _then_again(known, nickname) if known else None


def _then_again(what: str, nickname: Optional[str]) -> str:
    if not nickname:
        return what
    nickname = shlex.quote(nickname)
    return f"{what.replace('-i ID', f'-i {nickname}')}; then: getcert resubmit -i {nickname}"
