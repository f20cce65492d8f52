#!/bin/bash
# The baseline: what a push looks like when it is glued together from openssl, curl and panxapi.py.
#   pipeline.sh PORT CAFILE KEYFILE NAME CERT KEY PANXAPI LEGACY
# Made to be fair: TLS is verified and nothing is retried, checked or logged. Its key and passphrase stand in argv, which
# is how such scripts do it.
set -eu
port=$1 cafile=$2 key=$(<"$3") name=$4 cert=$5 private=$6 panxapi=$7 legacy=$8
url="https://127.0.0.1:$port/api/" passphrase=$RANDOM$RANDOM$RANDOM
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
openssl pkcs12 -export $legacy -inkey "$private" -in "$cert" -name "$name" -passout "pass:$passphrase" -out "$work/pair.p12"
for category in certificate private-key; do
    curl --silent --show-error --fail --cacert "$cafile" --header "X-PAN-KEY: $key" --form "file=@$work/pair.p12" \
        "$url?type=import&category=$category&certificate-name=$name&format=pkcs12&passphrase=$passphrase" >"$work/reply"
    grep -q 'status *= *.success' "$work/reply" || { cat "$work/reply"; exit 1; }
done
device=("$panxapi" --cafile "$cafile" -h 127.0.0.1 -P "$port" -K "$key")
for profile in GP_PORTAL GP_GATEWAY; do
    "${device[@]}" -S "<certificate>$name</certificate>" "/config/shared/ssl-tls-service-profile/entry[@name='$profile']"
done
"${device[@]}" -C '' --sync
