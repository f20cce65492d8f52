"""FreeIPA's certificate authority in the lab: an RA backend of its framework that signs with a key of its own.

It stands where Dogtag would. All that comes before, in ``cert_request``, is FreeIPA's: the checks of the request, CA
ACLs, managed by, the directory's access control. Selected by ``ra_plugin = lab`` in ``/etc/ipa/default.conf``.

``/var/lib/ipa/labca`` holds the key and what was issued, and two files that tests write: ``days``, how long a
certificate lives (also a fraction), and ``refusal``, the text with which every request is refused.
"""

from __future__ import annotations

import base64
import datetime as dt
import json
import secrets
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.serialization import pkcs7
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from ipalib import Backend, SkipPluginModule, api, errors
from ipalib.plugable import Registry
from ipapython import dogtag
from ipaserver.plugins import rabase

if api.env.ra_plugin != "lab" or api.env.context == "installer":
    raise SkipPluginModule(reason="ra_plugin is not lab")

register = Registry()
_FOLDER = Path("/var/lib/ipa/labca")
_DAYS = 731.0  # as FreeIPA's caIPAserviceCert


class _Context(Backend):
    """A backend that cert and ca plugins use in a with statement."""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        return None


def _root():
    return x509.load_pem_x509_certificate((_FOLDER / "ca.crt").read_bytes())


def _told(name, otherwise):
    """Return what a test has written into a file of the folder."""
    try:
        return (_FOLDER / name).read_text().strip()
    except FileNotFoundError:
        return otherwise


def _record(serial):
    return _FOLDER / "certs" / f"{int(str(serial), 0):x}.json"


def _load(serial):
    try:
        return json.loads(_record(serial).read_text())
    except FileNotFoundError:
        raise errors.NotFound(reason=f"Certificate ID 0x{int(str(serial), 0):x} not found") from None


def _numbers(serial):
    return {"serial_number": str(serial), "serial_number_hex": f"0x{serial:X}"}


def _milliseconds(utc):
    """Return a time as Dogtag tells it."""
    return str(int(utc.replace(tzinfo=dt.timezone.utc).timestamp() * 1000))


@register()
class ra(rabase.rabase, _Context):
    """Issues, keeps and revokes."""

    DEFAULT_PROFILE = dogtag.DEFAULT_PROFILE
    KDC_PROFILE = dogtag.KDC_PROFILE

    def request_certificate(self, csr, profile_id, ca_id, request_type="pkcs10"):
        refusal = _told("refusal", None)
        if refusal is not None:
            raise errors.CertificateOperationError(error=refusal)
        certificate = self._sign(x509.load_pem_x509_csr(csr.encode()))
        der = certificate.public_bytes(serialization.Encoding.DER)
        kept = {
            "certificate": base64.b64encode(der).decode(),
            "subject": certificate.subject.rfc4514_string(),
            "issuer": certificate.issuer.rfc4514_string(),
            "valid_not_before": _milliseconds(certificate.not_valid_before),
            "valid_not_after": _milliseconds(certificate.not_valid_after),
            "reason": None,
        }
        _record(certificate.serial_number).write_text(json.dumps(kept))
        issued = self.get_certificate(certificate.serial_number)
        return {**issued, "request_id": issued["serial_number"]}

    def get_certificate(self, serial_number):
        kept = _load(serial_number)
        told = {"certificate": kept["certificate"], **_numbers(int(str(serial_number), 0))}
        return told if kept["reason"] is None else {**told, "revocation_reason": kept["reason"]}

    def check_request_status(self, request_id):
        return {"request_id": request_id, "cert_request_status": "complete"}

    def revoke_certificate(self, serial_number, revocation_reason=0):
        _record(serial_number).write_text(json.dumps({**_load(serial_number), "reason": int(revocation_reason)}))
        return {"revoked": True}

    def take_certificate_off_hold(self, serial_number):
        _record(serial_number).write_text(json.dumps({**_load(serial_number), "reason": None}))
        return {"unrevoked": True}

    def find(self, options):
        """Search as ``cert-find`` does, by status alone: what else it is asked for is refused, not left out."""
        wanted = {key for key, value in options.items() if value is not None}
        if wanted - {"exactly", "raw", "all", "sizelimit", "status", "version"}:
            raise errors.CertificateOperationError(error=f"the lab's CA does not search by {sorted(wanted)}")
        found = []
        for path in sorted((_FOLDER / "certs").glob("*.json")):
            kept = json.loads(path.read_text())
            status = "VALID" if kept["reason"] is None else "REVOKED"
            if options.get("status") in (None, status):
                told = {key: kept[key] for key in ("subject", "issuer", "valid_not_before", "valid_not_after")}
                found.append({**_numbers(int(path.stem, 16)), **told, "status": status})
        return found

    def updateCRL(self, wait="false"):
        return {"crlUpdate": "Success"}

    def _sign(self, request):
        """Return a certificate like those of caIPAserviceCert: the subject is the realm's, the SANs the request's."""
        key = serialization.load_pem_private_key((_FOLDER / "ca.key").read_bytes(), None)
        root = _root()
        name = request.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[-1].value
        subject = [(NameOID.ORGANIZATION_NAME, self.api.env.realm), (NameOID.COMMON_NAME, name)]
        try:
            sans = request.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        except x509.ExtensionNotFound:
            sans = x509.SubjectAlternativeName([x509.DNSName(name)])
        now = dt.datetime.now(dt.timezone.utc)
        usage = dict.fromkeys(("key_agreement", "key_cert_sign", "crl_sign", "encipher_only", "decipher_only"), False)
        signing = dict.fromkeys(
            ("digital_signature", "content_commitment", "key_encipherment", "data_encipherment"), True
        )
        identifier = x509.SubjectKeyIdentifier.from_public_key
        extensions = [
            (x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key()), False),
            (identifier(request.public_key()), False),
            (x509.KeyUsage(**signing, **usage), True),
            (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]), False),
            (sans, False),
        ]
        made = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(*pair) for pair in subject]))
            .issuer_name(root.subject)
            .public_key(request.public_key())
            .serial_number(secrets.randbits(63) | 1)
            .not_valid_before(now - dt.timedelta(hours=1))  # certmonger leaves younger ones than 30 minutes alone
            .not_valid_after(now + dt.timedelta(days=float(_told("days", _DAYS))))
        )
        for extension, critical in extensions:
            made = made.add_extension(extension, critical)
        return made.sign(key, hashes.SHA256())


@register()
class ra_certprofile(_Context):
    """Tells the profiles' settings, of which this authority has none."""

    def read_profile(self, profile_id):
        return f"profileId={profile_id}\n".encode()


@register()
class ra_lightweight_ca(_Context):
    """Tells what the one authority is."""

    def read_ca(self, ca_id):
        root = _root()
        return {
            "id": "host-authority",
            "dn": root.subject.rfc4514_string(),
            "issuerDN": root.issuer.rfc4514_string(),
        }

    def read_ca_cert(self, ca_id):
        return _root().public_bytes(serialization.Encoding.DER)

    def read_ca_chain(self, ca_id):
        return pkcs7.serialize_certificates([_root()], serialization.Encoding.DER)
