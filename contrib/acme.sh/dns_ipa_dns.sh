#!/usr/bin/env sh
# acme.sh: dns-01 challenges in FreeIPA's DNS, through ipa_dns of certhooks. Copy this file to ~/.acme.sh/dnsapi/, then:
#
#     acme.sh --issue --dns dns_ipa_dns --dnssleep 1 -d www.example.com
#
# ipa_dns waits until every name server has the value; --dnssleep keeps acme.sh from asking a public resolver as well.
# Settings are those of /etc/certhooks/ipa_dns.ini; IPA_DNS_CONFIG names another file, IPA_DNS_OPTIONS has further options.

# shellcheck disable=SC2034
dns_ipa_dns_info='FreeIPA through certhooks
Site: www.freeipa.org
Options:
 IPA_DNS_CONFIG Settings. Optional, default /etc/certhooks/ipa_dns.ini.
 IPA_DNS_OPTIONS Further options of ipa_dns. Optional.
'

# dns_ipa_dns_add FULLDOMAIN VALUE
dns_ipa_dns_add() {
  _ipa_dns add "$1" "$2"
}

# dns_ipa_dns_rm FULLDOMAIN VALUE
dns_ipa_dns_rm() {
  _ipa_dns del "$1" "$2"
}

_ipa_dns() {
  IPA_DNS_CONFIG="${IPA_DNS_CONFIG:-$(_readaccountconf_mutable IPA_DNS_CONFIG)}"
  if [ -n "$IPA_DNS_CONFIG" ]; then
    _saveaccountconf_mutable IPA_DNS_CONFIG "$IPA_DNS_CONFIG"
    export IPA_DNS_CONFIG
  else
    unset IPA_DNS_CONFIG
  fi
  # shellcheck disable=SC2086  # options are several words
  if ! ipa_dns $IPA_DNS_OPTIONS "$@" >/dev/null; then
    _err "ipa_dns $1 failed for $2"
    return 1
  fi
}
