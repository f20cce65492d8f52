"""What needs no vCenter: its recorded replies, the credentials file, and what a certificate must be like."""

from __future__ import annotations

import base64
import datetime as dt
import json
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.x509.oid import SignatureAlgorithmOID

from certhooks.address import Address
from certhooks.bundle import Bundle
from certhooks.errors import BundleError, ConnectionLostError, CredentialsError, Error, KeyTypeError, UsageError
from certhooks.http import Reply
from certhooks_vcenter import fit, replies, vmwrc
from certhooks_vcenter.esxi_instcert import parser as esxi_parser
from certhooks_vcenter.getcert import parser as getcert_parser
from certhooks_vcenter.instcert import parser
from tests.lab.ca import CA, make_key

if TYPE_CHECKING:
    from pathlib import Path

WHERE = Address("vc01.example.test", 443)


def old(kind: str, value: dict[str, Any]) -> dict[str, Any]:
    """Return an error of the old dialect."""
    return {"type": f"com.vmware.vapi.std.errors.{kind}", "value": value}


def message(text: str, id_: str = "x", *args: str) -> dict[str, Any]:
    """Return a localizable message."""
    return {"args": [*args], "default_message": text, "id": id_}


REQUIRED = message("Authentication required.", "com.vmware.vapi.endpoint.method.authentication.required")
SAN = "Invalid input certificate : DNS in Subject Alternative Name is not correct. DNS Name must contain machine FQDN."
UNAVAILABLE = message("Service unavailable.", "com.vmware.vapi.endpoint.cis.ServiceUnavailable")
NOT_FOUND_67 = {
    "localizableMessages": [{"defaultMessage": "Not found.", "id": "com.vmware.vapi.rest.httpNotFound"}],
    "majorErrorCode": 404,
    "name": "com.vmware.vapi.rest.httpNotFound",
}
# Statuses and bodies that others recorded from vCenters, and what this command makes of them.
RECORDED: list[tuple[int, Any, type[Error], str]] = [
    (401, {"error_type": "UNAUTHENTICATED", "messages": [REQUIRED]}, replies.UnauthenticatedError, "does not accept"),
    (401, old("unauthenticated", {"messages": [REQUIRED], "challenge": "Basic"}), replies.UnauthenticatedError, ""),
    (401, old("unauthenticated", {"messages": [message("This method requires...")]}), replies.UnauthenticatedError, ""),
    (403, {"error_type": "UNAUTHORIZED", "messages": []}, CredentialsError, "does not allow it: unauthorized"),
    (404, {"error_type": "NOT_FOUND", "messages": [message("Not found.")]}, replies.RefusedError, "Not found"),
    (404, old("not_found", {"messages": [message("Unable to find")]}), replies.RefusedError, "Unable to find"),
    (404, NOT_FOUND_67, replies.RefusedError, "Not found"),
    (503, {"error_type": "SERVICE_UNAVAILABLE", "messages": [UNAVAILABLE]}, replies.AwayError, "Service unavailable"),
    (400, old("service_unavailable", {"messages": [UNAVAILABLE]}), replies.AwayError, "Service unavailable"),
    (500, {"error_type": "ERROR", "messages": [message(f"Exception found ({SAN})")]}, replies.RefusedError, SAN[:-1]),
    (400, old("error", {"messages": [message("the trustAnchors parameter")]}), replies.RefusedError, "trustAnchors"),
    (503, "503 Service Unavailable (Failed to connect to endpoint: [N7V])", replies.AwayError, "Failed to connect"),
    (503, "no healthy upstream", replies.AwayError, "no healthy upstream"),
    (502, "<html><h1>Bad Gateway</h1></html>", replies.AwayError, "Bad Gateway"),
    (500, "", replies.RefusedError, "HTTP status 500 without a word"),
]


@pytest.mark.parametrize(("status", "body", "kind", "text"), RECORDED, ids=range(len(RECORDED)))
def test_recorded_replies(status: int, body: Any, kind: type[Error], text: str) -> None:
    """Each becomes one error, with vCenter's words in it, and says whether anything was decided."""
    data = body if isinstance(body, str) else json.dumps(body)
    error = replies.error(Reply(status, data.encode()), WHERE, "it")
    assert type(error) is kind
    assert text in str(error)
    assert str(error).isprintable()
    assert error.hint


def issued_by(ca: CA, key: Any, **settings: Any) -> Bundle:
    """Return a bundle of a key that the test chose."""
    made = ca.issue(["vc01.example.test"], key=key, **settings)
    return Bundle.from_pem(made.cert_pem, made.key_pem, [ca.pem])


def test_what_lightwave_cannot_read() -> None:
    """A key of more than 16384 bits, and a leaf that is signed with RSASSA-PSS, are refused before anything is sent."""
    bundle = issued_by(CA("Site CA"), make_key("rsa"))
    fit.check(bundle, "vc01.example.test")
    large = SimpleNamespace(key_type="rsa", key_bits=16385, label="x")
    with pytest.raises(KeyTypeError, match="rsa-16385"):
        fit.check(large, "vc01.example.test")  # type: ignore[arg-type]
    pss = SimpleNamespace(signature_algorithm_oid=SignatureAlgorithmOID.RSASSA_PSS)
    odd = SimpleNamespace(key_type="rsa", key_bits=2048, label="x", leaf=pss)
    with pytest.raises(BundleError, match="RSASSA-PSS"):
        fit.check(odd, "vc01.example.test")  # type: ignore[arg-type]


def test_which_cas_are_good() -> None:
    """Valid now, a CA, and one that may sign: what VMware's own check asks."""
    ca = CA("Site CA")
    assert fit.is_good_ca(ca.certificate)
    assert not fit.is_good_ca(ca.issue(["leaf.example.test"]).certificate)
    soon = dt.datetime.now(dt.timezone.utc) + dt.timedelta(days=1)
    assert not fit.is_good_ca(ca.issue([], common_name="x", ca=True, not_before=soon).certificate)
    assert not fit.is_good_ca(ca_that_may_not_sign())


def ca_that_may_not_sign() -> x509.Certificate:
    """Return a CA certificate whose key usage leaves signing out."""
    key, name = make_key(), x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "x")])
    now = dt.datetime.now(dt.timezone.utc)
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(1).not_valid_before(now - dt.timedelta(1)).not_valid_after(now + dt.timedelta(1))
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    names = ("content_commitment", "key_encipherment", "data_encipherment", "key_agreement", "key_cert_sign")
    usage = dict.fromkeys((*names, "crl_sign", "encipher_only", "decipher_only"), False)
    builder = builder.add_extension(x509.KeyUsage(digital_signature=True, **usage), critical=True)
    return builder.sign(key, hashes.SHA256())


def test_whose_roots_are_added() -> None:
    """CAs of a file count only where it holds the chain's own root too: a file of somebody else's adds nothing."""
    own, next_ca, foreign = CA("Own"), CA("Next"), CA("Foreign")
    bundle = issued_by(own, make_key("rsa"))
    assert fit.anchors(bundle, [own.certificate, next_ca.certificate]) == (own.certificate, next_ca.certificate)
    assert fit.anchors(bundle, [foreign.certificate]) == (own.certificate,)


def test_the_root_that_lasts_longest_is_sent() -> None:
    """Two certificates of one CA key, as around a renewal."""
    key = make_key()
    younger, older = CA("Site CA", key=key), CA("Site CA", key=key)
    older.certificate = older.issue([], common_name="Site CA", ca=True, key=key, days=30).certificate
    bundle = issued_by(younger, make_key("rsa"))
    both = Bundle.from_parts(bundle.key, [bundle.leaf, older.certificate, younger.certificate])
    assert fit.best_root(both, both.roots) == younger.certificate
    assert len(both.roots) == 2


def test_the_root_that_is_sent_has_signed_what_goes_before_it() -> None:
    """A root that another one has cross-signed: after the longer chain comes the root that ends it."""
    other, own = CA("Y"), CA("X")
    cross = CA("X", key=own.key, parent=other)
    leaf = own.issue(["vc01.example.test"], key_type="rsa")
    more = [each.pem for each in (own, cross, other)]
    bundle = Bundle.from_pem(leaf.cert_pem, leaf.key_pem, more)
    assert bundle.chain == (cross.certificate,)
    assert fit.best_root(bundle, bundle.roots) == other.certificate


def test_kinds_are_read_in_both_dialects() -> None:
    """ALREADY_EXISTS and NOT_FOUND, on which the command acts, are known by their names."""
    for body in ({"error_type": "ALREADY_EXISTS", "messages": []}, old("already_exists", {"messages": []})):
        error = replies.error(Reply(400, json.dumps(body).encode()), WHERE, "it")
        assert isinstance(error, replies.RefusedError)
        assert error.kind == "already_exists"
    missing = replies.error(Reply(404, b"<html>"), WHERE, "it")
    assert isinstance(missing, replies.RefusedError)
    assert missing.kind == "not_found"


@pytest.mark.parametrize("body", [b"{", b"<html>", b'{"other": 1}', b"[" * 100_000])
def test_a_result_that_is_none_decides_nothing(body: bytes) -> None:
    """Success with a body that is not the dialect's leaves open what happened."""
    with pytest.raises(ConnectionLostError):
        replies.value(Reply(200, body), WHERE, "it", wrapped=True)


def credentials(path: Path, text: str) -> vmwrc.Credentials:
    """Return what is read of a file with this text."""
    path.touch(mode=0o600)
    path.write_text(text)
    return vmwrc.read(path)


def test_the_header_holds_utf_8_without_line_ends(tmp_path: Path) -> None:
    """A long password and letters beyond ASCII, which base64 would wrap and latin-1 would spoil."""
    password = "pä:ss" + "x" * 80
    found = credentials(tmp_path / "rc", f"username=u@vsphere.local\npassword={password}\n")
    kind, _, text = found.basic().partition(" ")
    assert kind == "Basic"
    assert base64.b64decode(text).decode() == f"u@vsphere.local:{password}"
    assert "\n" not in text
    assert password not in repr(vars(found))


def test_the_first_of_several_values_counts(tmp_path: Path) -> None:
    """As grep in the bash script finds it; what follows another setting is no part of the key."""
    key = base64.b64encode(b"a@b:c").decode()
    assert credentials(tmp_path / "rc", f"key={key}\nusername=x\nQUJD\nkey=other\n").username == "a@b"


def bundle(*names: str, **settings: Any) -> Bundle:
    """Return a bundle for these names."""
    issued = CA("Site CA").issue([*names], **{"key_type": "rsa", **settings})
    return Bundle.from_pem(issued.cert_pem, issued.key_pem)


def test_what_vcenter_needs() -> None:
    """RSA, no wildcard, and the host's own name, in whatever case; an address needs no name."""
    fit.check(bundle("VC01.example.test"), "vc01.example.test")
    fit.check(bundle("other.example.test"), "192.0.2.1")
    with pytest.raises(KeyTypeError, match="takes RSA"):
        fit.check(bundle("vc01.example.test", key_type="ec"), "vc01.example.test")
    with pytest.raises(BundleError, match="wildcard"):
        fit.check(bundle("vc01.example.test", "*.example.test"), "vc01.example.test")
    with pytest.raises(BundleError, match="does not have vc02"):
        fit.check(bundle("vc01.example.test"), "vc02.example.test")


def test_ids_of_trusted_roots() -> None:
    """The SubjectKeyIdentifier where there is one, else SHA-1 of the SubjectPublicKeyInfo; never the fingerprint."""
    root = CA("Site CA").certificate
    identifier = root.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest
    assert fit.chain_id(root) == identifier.hex().upper()
    plain = bundle("vc01.example.test").leaf
    form = (serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    digest = hashes.Hash(hashes.SHA1())  # noqa: S303  VMware's choice
    digest.update(plain.public_key().public_bytes(*form))
    assert fit.chain_id(plain) == digest.finalize().hex().upper()


def test_only_good_cas_are_sent() -> None:
    """A CA that may sign and is valid now; not a leaf, not an expired one."""
    ca = CA("Site CA")
    assert fit.is_good_ca(ca.certificate)
    assert not fit.is_good_ca(ca.issue(["leaf.example.test"]).certificate)
    long_ago = dt.datetime(2020, 1, 1, tzinfo=dt.timezone.utc)
    assert not fit.is_good_ca(ca.issue(["x.example.test"], ca=True, days=10, not_before=long_ago).certificate)


def test_short_options_are_those_of_the_bash_scripts() -> None:
    """Letter by letter, so that stored commands are understood."""
    stored = parser().parse_args(["-v", "-c", "vc.domain.local", "-a", "/etc/ipa/.vmwrc", "vc.domain.local"])
    assert (stored.common_name, stored.devices, str(stored.cred_file)) == (
        "vc.domain.local",
        ["vc.domain.local"],
        "/etc/ipa/.vmwrc",
    )
    words = "-hv -c -a -i -I -S -T -G -b".replace("-hv", "-h -v").split()
    assert set(words) <= set(getcert_parser()._option_string_actions)
    assert "--prune" not in parser()._option_string_actions
    with pytest.raises(UsageError):
        esxi_parser().parse_args(["--renew", "-1"])
