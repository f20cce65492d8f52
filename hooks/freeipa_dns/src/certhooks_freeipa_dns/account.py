"""The commands that give an account just enough rights in FreeIPA; shown, never run: people read them first."""

from __future__ import annotations

import shlex
import socket
from typing import TYPE_CHECKING

from certhooks.errors import UsageError
from certhooks_freeipa_dns import names

if TYPE_CHECKING:
    from certhooks_freeipa_dns.settings import Settings


def commands(host: str, *, acme_zone: str, settings: Settings) -> str:
    """Return the lines to type.

    With ``acme_zone`` the account gets a zone for challenges alone, into which aliases lead; with the setting ``zone``
    it gets the TXT records called _acme-challenge* of a zone that is there. With the backend for dynamic updates every
    host gets the TXT records below its own name in that zone.

    Raises:
        UsageError: neither is given. BadNameError: a zone or host that is none.
    """
    if acme_zone:
        zone = names.name(acme_zone)
        return "\n".join(
            [*_own_zone(zone), "", *_role(zone, host, settings, f"Manage DNS zone {zone}."), "", *_aliases(zone)]
        )
    if settings.zone and settings.backend == "update":
        return "\n".join(_update_policy(settings.zone))
    if settings.zone:
        zone = settings.zone
        look, change = f"ACME read {zone}", f"ACME challenges {zone}"
        return "\n".join([*_records_of(zone, look, change), "", *_role(zone, host, settings, look, change)])
    raise UsageError(
        "for which zone?",
        hint="--acme-zone acme.example.com for a new one that holds challenges alone (best), or --zone example.com for "
        "the challenges of one that is there",
    )


def _own_zone(zone: str) -> list[str]:
    label, _, parent = zone.partition(".")
    return [
        "# As an administrator of FreeIPA: kinit admin. A zone for challenges alone:",
        f"ipa dnszone-add {zone} --admin-email=hostmaster.{parent}.",
        f"ipa dnszone-add-permission {zone}",
        f"# If FreeIPA serves {parent} too, tell the world where the zone is (one line for each of its DNS servers).",
        "# On a FreeIPA server with DNS; elsewhere put the name of one in place of $(hostname -f):",
        f"ipa dnsrecord-add {parent} {label} --ns-rec=$(hostname -f).",
    ]


def _records_of(zone: str, look: str, change: str) -> list[str]:
    base = f"idnsname={zone}.,cn=dns,$SUFFIX"
    return [
        "# As an administrator of FreeIPA: kinit admin. The TXT records of challenges in a zone that is there:",
        "SUFFIX=$(sed -n 's/^basedn *= *//p' /etc/ipa/default.conf)",
        f"ipa permission-add {shlex.quote(look)} --right={{read,search,compare}} \\",
        "    --attrs={objectclass,idnsname,idnszoneactive,txtrecord,cnamerecord} \\",
        f"    --subtree=\"{base}\" --filter='(objectclass=idnsrecord)'",
        f"ipa permission-add {shlex.quote(change)} --right={{write,add,delete}} \\",
        "    --attrs={objectclass,idnsname,txtrecord,dnsttl} \\",
        f'    --subtree="{base}" --target="idnsname={names.PREFIX}*,{base}"',
        "# Whoever may add an entry may add it with any record: a zone of its own (--acme-zone) is tighter.",
    ]


def _update_policy(zone: str) -> list[str]:
    return [
        "# As an administrator of FreeIPA: kinit admin. Each host may change the TXT records below its own name, by",
        "# updates that its key signs, beside what the zone's policy allows already:",
        "REALM=$(sed -n 's/^realm *= *//p' /etc/ipa/default.conf)",
        f"POLICY=$(ipa dnszone-show {zone} --all --raw | sed -n 's/^ *idnsupdatepolicy: *//Ip')",
        f'ipa dnszone-mod {zone} --dynamic-update=TRUE --update-policy="$POLICY grant $REALM krb5-selfsub * TXT;"',
    ]


def _role(zone: str, host: str, settings: Settings, *permissions: str) -> list[str]:
    name = shlex.quote(f"ACME DNS {zone}")
    lines = [
        "# A role with that and nothing else, for the account that the hooks run as:",
        f"ipa privilege-add {name}",
        *(f"ipa privilege-add-permission {name} --permissions={shlex.quote(each)}" for each in permissions),
        f"ipa role-add {name}",
        f"ipa role-add-privilege {name} --privileges={name}",
    ]
    if settings.user:
        return [*lines, f"ipa role-add-member {name} --users={shlex.quote(settings.user)}"]
    service, keytab = settings.principal.partition("@")[0], settings.keytab or "/etc/certhooks/ipa_dns.keytab"
    if service and not service.startswith("host/"):
        return [
            f"ipa service-add {shlex.quote(service)} --force",  # also where its host has no address in DNS
            *lines,
            f"ipa role-add-member {name} --services={shlex.quote(service)}",
            "# Then, on the host that the hooks run on:",
            f"ipa-getkeytab -p {shlex.quote(service)} -k {shlex.quote(keytab)}",
        ]
    return [
        *lines,
        f"ipa role-add-member {name} --hosts={names.name(service.partition('/')[2] or host or socket.getfqdn())}",
    ]


def _aliases(zone: str) -> list[str]:
    parent = zone.partition(".")[2]
    return [
        "# For each name that is to get a certificate, an alias into the zone, wherever its own zone is served:",
        f"ipa dnsrecord-add {parent} {names.PREFIX}.www --cname-rec=www.{zone}.",
    ]
