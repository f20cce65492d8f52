#!/bin/bash
# The baseline: a push to vCenter as scripts glue it together from base64, awk and curl.
#   vcenter.sh URL CAFILE USERPASS_FILE CERT KEY ROOT
# Made to be fair: TLS is verified, and nothing is compared, waited for, looked at or logged. Its session and the key stand in
# argv, which is how such scripts do it.
set -eu
url=$1 cafile=$2 auth=$(base64 --wrap=0 <"$3") cert=$4 key=$5 root=$6
api() { curl --silent --show-error --fail --cacert "$cafile" --header "Content-Type: application/json" "$@"; }
session=$(api --request POST --header "Authorization: Basic $auth" "$url/api/session" | tr -d '"')
text() { awk -v ORS='\\n' 1 "$1"; }
base=$url/api/vcenter/certificate-management/vcenter
api --header "vmware-api-session-id: $session" --data "{\"cert_chain\":{\"cert_chain\":[\"$(text "$root")\"]}}" \
    "$base/trusted-root-chains" >/dev/null
api --request PUT --header "vmware-api-session-id: $session" "$base/tls" \
    --data "{\"cert\":\"$(text "$cert")\",\"key\":\"$(text "$key")\",\"root_cert\":\"$(text "$root")\"}"
