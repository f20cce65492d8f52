"""The bundle: every form of input that files hold, one clear error for what is unusable, and a key that never shows."""

from __future__ import annotations

import base64
import copy
import dataclasses
import datetime as dt
import itertools
import json
import pickle
import subprocess
import sys
import traceback
from typing import TYPE_CHECKING

import cryptography
import pytest
from cryptography.hazmat.primitives import serialization as ser
from cryptography.hazmat.primitives.asymmetric import rsa

from certhooks import certificate, keys, pem
from certhooks.bundle import Bundle, PairError
from certhooks.errors import BundleError, Error, KeyTypeError
from tests.unit.certs import bundle_of, openssl, self_signed

if TYPE_CHECKING:
    from pathlib import Path

    from pytest_mock import MockerFixture

    from tests.lab.ca import CA, Issued

UTC = dt.timezone.utc


def as_pem(label: str, der: bytes) -> bytes:
    """Wrap DER in a PEM block."""
    return pem.Block(label, base64.b64encode(der).decode()).pem


def private(issued: Issued, form: str, *options: str) -> bytes:
    """Convert the issued key with openssl: ``pkey``, ``rsa`` or ``ec`` and options."""
    return openssl(form, *options, data=issued.key_pem)


# What is known about a bundle


def test_facts_are_those_of_the_certificate(rsa_leaf: Issued) -> None:
    """Everything that a bundle tells about itself agrees with what openssl reads from the same certificate."""
    bundle = bundle_of(rsa_leaf)

    def says(*options: str) -> str:
        return openssl("x509", "-noout", *options, data=rsa_leaf.cert_pem).decode().strip().partition("=")[2]

    assert bundle.fingerprint == says("-fingerprint", "-sha256").replace(":", "").lower()
    assert bundle.serial == int(says("-serial"), 16)
    assert f"{bundle.not_before:%b %e %H:%M:%S %Y} GMT" == says("-startdate")
    assert f"{bundle.not_after:%b %e %H:%M:%S %Y} GMT" == says("-enddate")
    assert bundle.not_before.utcoffset() == bundle.not_after.utcoffset() == dt.timedelta(0)
    assert bundle.common_name == bundle.label == "a.example.com"
    assert bundle.dns_names == ("a.example.com", "*.b.example.com")
    assert bundle.ip_addresses == ("192.0.2.7", "2001:db8::7")
    assert (bundle.key_type, bundle.key_bits, bundle.rsa_exponent) == ("rsa", 2048, 65537)
    assert bundle.leaf_pem.encode() == rsa_leaf.cert_pem
    assert bundle.chain_pem.encode() == rsa_leaf.chain_pem


def test_description_is_json(rsa_leaf: Issued) -> None:
    """What logs and --json show survives JSON unchanged and names the chain."""
    described = bundle_of(rsa_leaf).describe()
    assert json.loads(json.dumps(described)) == described
    assert described["chain"] == ["CN=Unit Lower", "CN=Unit Upper"]
    assert described["key"] == "rsa-2048"


@pytest.mark.parametrize(
    ("new_key", "options", "kind", "bits"),
    [
        ("ec", ("-pkeyopt", "ec_paramgen_curve:P-384"), "ec", 384),
        ("ed25519", (), "ed25519", 256),
        ("ed448", (), "ed448", 456),
        ("rsa:3072", ("-sigopt", "rsa_padding_mode:pss"), "rsa", 3072),
    ],
)
def test_kinds_of_keys(tmp_path: Path, new_key: str, options: tuple[str, ...], kind: str, bits: int) -> None:
    """Each kind of key that certmonger or an ACME client can make is loaded and named."""
    bundle = Bundle.from_pem(*self_signed(tmp_path, *options, new_key=new_key))
    assert (bundle.key_type, bundle.key_bits) == (kind, bits)
    assert bundle.chain == bundle.roots == ()


# Forms of input that work


def test_chain_is_sorted_whatever_the_order(rsa_leaf: Issued, root: CA, upper: CA, lower: CA) -> None:
    """In any order of the input the leaf is found, the chain runs upwards from its issuer, the root stays apart."""
    for order in itertools.permutations([rsa_leaf.cert_pem, lower.pem, upper.pem, root.pem, lower.pem]):
        bundle = Bundle.from_pem(b"".join(order), rsa_leaf.key_pem)
        assert bundle.leaf == rsa_leaf.certificate
        assert bundle.chain == (lower.certificate, upper.certificate)
        assert bundle.roots == (root.certificate,)
        assert bundle.notes == ()


def test_superfluous_certificates_are_left_out_with_a_note(rsa_leaf: Issued, ec_leaf: Issued) -> None:
    """A stranger in the file does not get into the chain, and a note says so."""
    bundle = Bundle.from_pem(ec_leaf.cert_pem + rsa_leaf.fullchain_pem, rsa_leaf.key_pem)
    assert bundle.chain == rsa_leaf.chain
    assert bundle.notes == ("left out, not part of the chain: ec.example.com",)


def test_issuer_is_found_by_signature_not_by_name_alone(rsa_leaf: Issued, upper: CA, lower: CA) -> None:
    """Of two authorities with one name only the one whose key signed is taken."""
    impostor = upper.intermediate("Unit Lower")
    bundle = Bundle.from_pem(rsa_leaf.cert_pem + impostor.pem + lower.pem + upper.pem, rsa_leaf.key_pem)
    assert bundle.chain == (lower.certificate, upper.certificate)
    assert len(bundle.notes) == 1


def test_renewed_authority(rsa_leaf: Issued, upper: CA, lower: CA) -> None:
    """Of an issuer that was renewed with its key, the certificate that lasts longest is taken, whatever comes first."""
    renewed = upper.issue([], common_name="Unit Lower", ca=True, key=lower.key, days=5000).certificate
    text = renewed.public_bytes(ser.Encoding.PEM)
    for order in ([text, lower.pem], [lower.pem, text]):
        bundle = Bundle.from_pem(rsa_leaf.cert_pem, rsa_leaf.key_pem, [*order, upper.pem])
        assert bundle.chain == (renewed, upper.certificate)
        assert bundle.notes == ("left out, not part of the chain: Unit Lower",)


def test_depth_is_bounded(root: CA) -> None:
    """A chain longer than any real one is cut, so that a file of thousands of certificates costs no minutes."""
    authority = root
    for number in range(12):
        authority = authority.intermediate(f"Level {number}")
    bundle = bundle_of(authority.issue("deep.example.com"))
    assert [certificate.label(each) for each in bundle.chain] == [f"Level {number}" for number in range(11, 1, -1)]
    assert bundle.notes == ("left out, not part of the chain: Level 1, Level 0",)


def test_cross_signed_issuer_gives_the_longer_chain(tmp_path: Path) -> None:
    """An authority that is there self-signed and signed by another goes into the chain, and both ends are roots."""
    old, old_key = self_signed(tmp_path, subject="/CN=Old Root")
    (tmp_path / "old.crt").write_bytes(old)
    (tmp_path / "old.key").write_bytes(old_key)
    new, new_key = self_signed(tmp_path, subject="/CN=New Root")
    (tmp_path / "new.crt").write_bytes(new)
    (tmp_path / "new.key").write_bytes(new_key)
    old_signs = ["-CA", str(tmp_path / "old.crt"), "-CAkey", str(tmp_path / "old.key"), "-CAcreateserial"]
    new_signs = ["-CA", str(tmp_path / "new.crt"), "-CAkey", str(tmp_path / "new.key"), "-CAcreateserial"]
    request = openssl("x509", "-x509toreq", "-in", str(tmp_path / "new.crt"), "-signkey", str(tmp_path / "new.key"))
    cross = openssl("x509", "-req", "-days", "9", *old_signs, data=request)
    key = openssl("genpkey", "-algorithm", "ed25519")
    (tmp_path / "leaf.key").write_bytes(key)
    request = openssl("req", "-new", "-key", str(tmp_path / "leaf.key"), "-subj", "/CN=leaf")
    leaf = openssl("x509", "-req", "-days", "9", *new_signs, data=request)
    for order in itertools.permutations([new, cross, old]):
        bundle = Bundle.from_pem(leaf, key, order)
        assert [certificate.label(each) for each in bundle.chain] == ["New Root"]
        assert {certificate.label(each) for each in bundle.roots} == {"New Root", "Old Root"}
        assert bundle.notes == ()


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.replace(b"\n", b"\r\n"),
        lambda text: text.replace(b"\n", b"\r"),
        lambda text: b"\xef\xbb\xbf" + text,
        lambda text: b"Bag Attributes\n  friendlyName: \xc3\xbc\nsubject=CN = x\n\n" + text + b"\nthe end\n",
        lambda text: text.replace(b"-----END CERTIFICATE-----\n", b"-----END CERTIFICATE-----"),
        lambda text: b"\n\n".join(b"  " + line + b"\t " for line in text.splitlines()),
        lambda text: text.rstrip(b"\n"),
    ],
    ids=["crlf", "cr", "byte order mark", "text around", "glued", "blanks", "no last line feed"],
)
def test_pem_as_people_leave_it(rsa_leaf: Issued, change: object) -> None:
    """Line ends, blanks, text around the blocks and files glued by cat make no difference."""
    assert callable(change)
    bundle = Bundle.from_pem(change(rsa_leaf.fullchain_pem), change(rsa_leaf.key_pem))
    assert bundle == bundle_of(rsa_leaf)
    assert bundle.leaf_pem.encode() == rsa_leaf.cert_pem


def test_key_and_certificates_in_one_file(rsa_leaf: Issued) -> None:
    """One file that holds everything serves as certificate, as key, or as both."""
    everything = rsa_leaf.key_pem + rsa_leaf.fullchain_pem
    for cert, key in (
        (everything, everything),
        (everything, b""),
        (everything, rsa_leaf.key_pem),
        (rsa_leaf.cert_pem, everything),
        (rsa_leaf.key_pem * 2 + everything, everything),
    ):
        assert Bundle.from_pem(cert, key) == bundle_of(rsa_leaf)


def test_certificate_in_der(rsa_leaf: Issued) -> None:
    """A certificate in DER is recognised."""
    der = openssl("x509", "-outform", "der", data=rsa_leaf.cert_pem)
    assert Bundle.from_pem(der, rsa_leaf.key_pem, [rsa_leaf.chain_pem]) == bundle_of(rsa_leaf)


def test_trusted_certificate(rsa_leaf: Issued) -> None:
    """OpenSSL's TRUSTED CERTIFICATE is the certificate, without the trust settings behind it."""
    trusted = openssl("x509", "-trustout", "-addtrust", "serverAuth", "-setalias", "x", data=rsa_leaf.cert_pem)
    assert b"BEGIN TRUSTED CERTIFICATE" in trusted
    assert Bundle.from_pem(trusted, rsa_leaf.key_pem).leaf_pem.encode() == rsa_leaf.cert_pem


def test_key_formats(rsa_leaf: Issued, ec_leaf: Issued) -> None:
    """PKCS#8, PKCS#1 and SEC 1 (with the curve's parameters before it) all give the same key."""
    for issued, key, label in (
        (rsa_leaf, rsa_leaf.key_pem, b"BEGIN PRIVATE KEY"),
        (rsa_leaf, private(rsa_leaf, "rsa", "-traditional"), b"BEGIN RSA PRIVATE KEY"),
        (ec_leaf, private(ec_leaf, "ec"), b"BEGIN EC PRIVATE KEY"),
        (ec_leaf, openssl("ecparam", "-name", "prime256v1") + private(ec_leaf, "ec"), b"BEGIN EC PARAMETERS"),
    ):
        assert label in key
        assert Bundle.from_pem(issued.fullchain_pem, key).key_pem() == issued.key_pem


def test_encrypted_key_opens_with_its_passphrase(rsa_leaf: Issued) -> None:
    """Both encrypted forms open; a passphrase for a key that is not encrypted does no harm."""
    for key in (
        private(rsa_leaf, "pkcs8", "-topk8", "-passout", "pass:sesame"),
        private(rsa_leaf, "rsa", "-traditional", "-aes256", "-passout", "pass:sesame"),
        private(rsa_leaf, "rsa", "-traditional", "-aes256", "-passout", "pass:sesame").replace(b"\n", b"\r\n"),
        private(rsa_leaf, "rsa", "-traditional", "-aes256", "-passout", "pass:sesame").replace(b"\n", b"\r"),
        rsa_leaf.key_pem,
    ):
        assert Bundle.from_pem(rsa_leaf.cert_pem, key, passphrase=b"sesame").key_pem() == rsa_leaf.key_pem


def test_key_is_written_encrypted(rsa_leaf: Issued) -> None:
    """With a passphrase the key leaves as PKCS#8 under AES-256-CBC, and openssl opens it."""
    written = bundle_of(rsa_leaf).key_pem(b"sesame")
    assert written.startswith(b"-----BEGIN ENCRYPTED PRIVATE KEY-----")
    assert b"aes-256-cbc" in openssl("asn1parse", data=written).lower()
    assert openssl("pkey", "-passin", "pass:sesame", data=written) == rsa_leaf.key_pem
    with pytest.raises(BundleError, match="empty"):
        bundle_of(rsa_leaf).key_pem(b"")


# Input that does not


def fails(kind: type[Error], cert: bytes, key: bytes, *extra: bytes, passphrase: bytes | None = None) -> Error:
    """Return the error of loading; it is one line with a hint, of that very class, and says nothing of the key."""
    with pytest.raises(Error) as caught:
        Bundle.from_pem(cert, key, extra, passphrase)
    error = caught.value
    assert type(error) is kind
    assert error.exit_code == (6 if kind is KeyTypeError else 10)
    assert error.hint
    assert str(error).isprintable()
    assert error.__suppress_context__ or error.__context__ is None
    return error


def test_key_of_another_certificate(rsa_leaf: Issued, ec_leaf: Issued, lower: CA) -> None:
    """A key that belongs elsewhere is refused, of the same kind or not, and the certificate is named."""
    other = lower.issue("other.example.com", key_type="rsa")
    for key in (other.key_pem, ec_leaf.key_pem, lower.issue("p256.example.com").key_pem):
        assert "CN a.example.com" in str(fails(PairError, rsa_leaf.fullchain_pem, key))


def test_encrypted_key(rsa_leaf: Issued) -> None:
    """An encrypted key without passphrase, with an empty or a wrong one is refused with what to do."""
    for options in (("pkcs8", "-topk8"), ("rsa", "-traditional", "-aes256")):
        key = private(rsa_leaf, *options, "-passout", "pass:sesame")
        for passphrase in (None, b""):
            assert "is encrypted" in str(fails(BundleError, rsa_leaf.cert_pem, key, passphrase=passphrase))
        wrong = fails(BundleError, rsa_leaf.cert_pem, key, passphrase=b"open-up")
        assert "does not open" in str(wrong)
        assert "open-up" not in str(wrong) + str(wrong.hint)


def test_nothing_usable(rsa_leaf: Issued) -> None:
    """Empty files, garbage and files of other kinds say what is missing and what was found instead."""
    cert, key = rsa_leaf.cert_pem, rsa_leaf.key_pem
    assert "certificate: the file is empty" in str(fails(BundleError, b"", key))
    assert "private key: the file is empty" in str(fails(BundleError, cert, b" \n"))
    assert "no certificate in it, only PRIVATE KEY" in str(fails(BundleError, key, key))
    assert "no private key in it, only CERTIFICATE" in str(fails(BundleError, cert, cert))
    assert "no certificate in it" in str(fails(BundleError, b"\x00\xff garbage" * 99, key))
    assert "no private key in it" in str(fails(BundleError, cert, b"\x00\xff garbage" * 99))
    pkcs7 = openssl("crl2pkcs7", "-nocrl", "-certfile", "/dev/stdin", data=cert)
    assert "pkcs7 -print_certs" in str(fails(BundleError, pkcs7, key).hint)


def test_der_that_is_no_certificate(rsa_leaf: Issued) -> None:
    """A key in DER is refused with the command that converts it; other DER in place of a certificate too."""
    der = openssl("pkey", "-outform", "der", data=rsa_leaf.key_pem)
    assert "openssl pkey -inform der" in str(fails(BundleError, rsa_leaf.cert_pem, der).hint)
    assert "cannot be read" in str(fails(BundleError, der, rsa_leaf.key_pem))
    p12 = openssl("pkcs12", "-export", "-passout", "pass:x", data=rsa_leaf.key_pem + rsa_leaf.cert_pem)
    assert "PKCS#12" in str(fails(BundleError, p12, rsa_leaf.key_pem).hint)


def test_truncated(rsa_leaf: Issued) -> None:
    """A file that is cut off at any place is an error, never half a certificate, half a key or half a chain."""
    for data, other in ((rsa_leaf.cert_pem, rsa_leaf.key_pem), (rsa_leaf.key_pem, rsa_leaf.cert_pem)):
        for length in range(0, len(data) - 2, 41):
            cert, key = (data[:length], other) if data is rsa_leaf.cert_pem else (other, data[:length])
            fails(BundleError, cert, key)
    assert "has no end" in str(fails(BundleError, rsa_leaf.fullchain_pem[:-40], rsa_leaf.key_pem))
    assert "has no end" in str(fails(BundleError, rsa_leaf.cert_pem[:-40] + rsa_leaf.chain_pem, rsa_leaf.key_pem))


def test_broken_base64(rsa_leaf: Issued) -> None:
    """A stray character or a lost line inside a block is an error of that file."""
    cert, key = rsa_leaf.cert_pem, rsa_leaf.key_pem
    assert "base64" in str(fails(BundleError, cert[:99] + b"*" + cert[100:], key))
    assert "base64" in str(fails(BundleError, cert[:99] + b"*" + cert[99:], key))
    assert "base64" in str(fails(BundleError, cert[:99] + "ü".encode() + cert[101:], key))
    assert "cannot be read" in str(fails(BundleError, cert[:28] + cert[28 + 65 :], key))
    assert "cannot be read" in str(fails(BundleError, cert, key[:99] + b"*" + key[100:]))
    assert "cannot be read" in str(fails(BundleError, cert, key[:28] + key[28 + 65 :]))


def test_damaged_key_is_noticed_without_the_slow_check(lower: CA) -> None:
    """No number of an RSA key can be wrong: neither those that OpenSSL signs with nor those that it falls back to."""
    issued = lower.issue("a.example.com", key_type="rsa")
    assert isinstance(issued.key, rsa.RSAPrivateKey)
    numbers = issued.key.private_numbers()
    der = openssl("rsa", "-outform", "der", "-traditional", data=issued.key_pem)
    assert Bundle.from_pem(issued.cert_pem, as_pem("RSA PRIVATE KEY", der)).leaf == issued.certificate
    for secret in (numbers.p, numbers.q, numbers.d, numbers.dmp1, numbers.dmq1, numbers.iqmp):
        old = secret.to_bytes((secret.bit_length() + 7) // 8, "big")
        assert der.count(old) == 1
        for place in (2, len(old) - 1):
            damaged = old[:place] + bytes([old[place] ^ 2]) + old[place + 1 :]
            fails(BundleError, issued.cert_pem, as_pem("RSA PRIVATE KEY", der.replace(old, damaged)))


def test_several_keys(rsa_leaf: Issued, ec_leaf: Issued) -> None:
    """Two keys in one file are refused, because which one is meant cannot be known."""
    assert "more than one" in str(fails(BundleError, rsa_leaf.cert_pem, rsa_leaf.key_pem + ec_leaf.key_pem))


def test_keys_that_no_certificate_has(rsa_leaf: Issued) -> None:
    """A key for agreement only is a KeyTypeError; OpenSSH's own format is refused with the command that converts it."""
    fails(KeyTypeError, rsa_leaf.cert_pem, openssl("genpkey", "-algorithm", "x25519"))
    openssh = pem.Block("OPENSSH PRIVATE KEY", "b3BlbnNzaC1rZXktdjEA").pem
    assert "ssh-keygen" in str(fails(BundleError, rsa_leaf.cert_pem, openssh).hint)


def test_huge(rsa_leaf: Issued) -> None:
    """More than a mebibyte is refused wherever it stands."""
    padding = b"#" * pem.MAX_BYTES
    for cert, key, *extra in (
        (rsa_leaf.cert_pem + padding, rsa_leaf.key_pem),
        (rsa_leaf.cert_pem, rsa_leaf.key_pem + padding),
        (rsa_leaf.cert_pem, rsa_leaf.key_pem, rsa_leaf.chain_pem + padding),
    ):
        assert "larger than 1024 KiB" in str(fails(BundleError, cert, key, *extra))


@pytest.mark.filterwarnings("ignore")  # cryptography warns of odd forms that it tolerates
def test_damage_anywhere_ends_in_an_error_of_ours(ec_leaf: Issued) -> None:
    """Whatever single byte of certificate or key is wrong: it loads all the same or raises an Error, nothing else."""
    (cert,) = (block.der("x") for block in pem.split(ec_leaf.cert_pem, "x"))
    (key,) = (block.der("x") for block in pem.split(ec_leaf.key_pem, "x"))
    outcomes = set()
    for data, other in ((cert, key), (key, cert)):
        for place, old in enumerate(data):
            damaged = data[:place] + bytes([old ^ (1 << place % 8)]) + data[place + 1 :]
            one, two = (damaged, other) if data is cert else (other, damaged)
            outcomes.add(outcome(as_pem("CERTIFICATE", one), as_pem("PRIVATE KEY", two)))
    assert {Bundle, BundleError, PairError} <= outcomes


def test_odd_string_type_ends_in_an_error_of_ours(ec_leaf: Issued) -> None:
    """String types that cryptography stumbles over inside of its own code do not come through as its exceptions."""
    (cert,) = (block.der("x") for block in pem.split(ec_leaf.cert_pem, "x"))
    assert cert.count(b"\x55\x04\x03\x0c") == 2
    for tag in range(32):
        odd = as_pem("CERTIFICATE", cert.replace(b"\x55\x04\x03\x0c", b"\x55\x04\x03" + bytes([tag])))
        assert outcome(odd, ec_leaf.key_pem) in {Bundle, BundleError}


def outcome(cert: bytes, key: bytes) -> type:
    """Return the kind of what loading and describing ends in; only our own errors count."""
    try:
        bundle = Bundle.from_pem(cert, key)
        bundle.describe()
    except Error as error:
        return type(error)
    return type(bundle)


# What targets need


def refuses(bundle: Bundle, kind: type[Error] = BundleError, **needs: object) -> str:
    """Return the line of a check that fails with that class."""
    with pytest.raises(Error) as caught:
        bundle.check(**needs)  # type: ignore[arg-type]
    assert type(caught.value) is kind
    assert caught.value.exit_code == (6 if kind is KeyTypeError else 10)
    assert caught.value.hint
    return str(caught.value)


def test_dates(lower: CA, rsa_leaf: Issued) -> None:
    """Expired and not yet valid are refused, to the second; within the dates nothing is said."""
    now = dt.datetime.now(UTC)
    expired = lower.issue("a.example.com", days=1, not_before=now - dt.timedelta(days=2))
    future = lower.issue("a.example.com", not_before=now + dt.timedelta(days=1))
    assert "a.example.com expired on " in refuses(bundle_of(expired))
    assert "a.example.com is not valid before " in refuses(bundle_of(future))
    bundle, second = bundle_of(rsa_leaf), dt.timedelta(seconds=1)
    assert bundle.check(now=bundle.not_before) == bundle.check(now=bundle.not_after) == bundle.check() == ()
    refuses(bundle, now=bundle.not_before - second)
    refuses(bundle, now=bundle.not_after + second)


def test_key_types(rsa_leaf: Issued, ec_leaf: Issued) -> None:
    """EC where RSA is needed, and RSA that is too short or too long, are KeyTypeErrors; what fits passes."""
    one, two = bundle_of(rsa_leaf), bundle_of(ec_leaf)
    assert "type ec, the target takes rsa" in refuses(two, KeyTypeError, key_types=("rsa",))
    assert "2048 bits, needed are 3072 or more" in refuses(one, KeyTypeError, min_rsa_bits=3072)
    assert one.check(key_types=("rsa", "ec"), min_rsa_bits=2048) == ()
    assert two.check(key_types=("rsa", "ec"), min_rsa_bits=4096) == ()


def test_names(rsa_leaf: Issued) -> None:
    """Names are compared as TLS clients do it: without case, a wildcard for one label, addresses as addresses."""
    bundle = bundle_of(rsa_leaf)
    for name in ("a.example.com", "A.Example.COM.", "x.b.example.com", "*.b.example.com", "192.0.2.7", "2001:DB8:0::7"):
        assert bundle.check(names=[name]) == ()
    for name in (
        "example.com",
        "b.example.com",
        "x.y.b.example.com",
        "x.a.example.com",
        "192.0.2.8",
        "2001:db8::8",
        "",
    ):
        assert f"does not cover {name} (it has a.example.com, *.b.example.com, 192.0.2.7" in refuses(
            bundle, names=[name]
        )
    assert "does not cover c, d" in refuses(bundle, names=["c", "a.example.com", "d"])


def test_international_name(lower: CA) -> None:
    """A name in its own letters is covered by its A-label."""
    assert bundle_of(lower.issue("xn--bcher-kva.example")).check(names=["bücher.example"]) == ()


def test_common_name_counts_for_names_only_without_alternatives(tmp_path: Path, lower: CA) -> None:
    """An old certificate that has but a CN covers it; next to alternative names the CN covers nothing."""
    bare = Bundle.from_pem(*self_signed(tmp_path))
    assert bare.check(names=["odd.example.com"]) == ()
    assert "it has CN odd.example.com alone" in refuses(bare, names=["b.example.com"])
    refuses(bundle_of(lower.issue("a.example.com", common_name="b.example.com")), names=["b.example.com"])


def test_missing_common_name(lower: CA, rsa_leaf: Issued) -> None:
    """A certificate without CN is fine, unless the target needs one; people still get a name for it."""
    bundle = bundle_of(lower.issue("a.example.com", common_name=""))
    assert bundle.common_name is None
    assert bundle.check() == ()
    assert "a.example.com has no common name" in refuses(bundle, common_name=True)
    assert bundle_of(rsa_leaf).check(common_name=True) == ()


@pytest.mark.parametrize("digest", ["md5", "sha1"])
def test_weak_signature(tmp_path: Path, digest: str) -> None:
    """SHA-1 and MD5 signatures are refused before a device in FIPS mode or a browser does it."""
    bundle = Bundle.from_pem(*self_signed(tmp_path, f"-{digest}"))
    assert f"odd.example.com is signed with {digest}" in refuses(bundle)


def test_odd_exponent_is_told(tmp_path: Path) -> None:
    """An RSA exponent that devices in FIPS-CC mode refuse is no error, but is told."""
    bundle = Bundle.from_pem(*self_signed(tmp_path, "-pkeyopt", "rsa_keygen_pubexp:17"))
    assert bundle.check() == ("RSA exponent 17: devices in FIPS-CC mode take 65537 only",)


def test_expired_intermediate_is_told(lower: CA) -> None:
    """A chain that outlives its leaf by no means is told, because the leaf alone may still be of use."""
    bundle = bundle_of(lower.issue("a.example.com", days=5000))
    later = lower.certificate
    after = certificate.not_after(later) + dt.timedelta(days=1)
    assert bundle.check(now=after) == (
        "Unit Lower of the chain has expired",
        "Unit Upper of the chain has expired",
    )


def test_hostile_names_stay_on_one_line(lower: CA, rsa_leaf: Issued) -> None:
    """Control characters in a CN never reach a log or a terminal."""
    hostile = lower.issue("a.example.com", common_name="a\nfake: ok\x1b[2J")
    assert bundle_of(hostile).label == "a?fake: ok?[2J"
    assert repr(bundle_of(hostile)).isprintable()
    fails(PairError, hostile.cert_pem, rsa_leaf.key_pem)


# The key never shows


def test_key_never_shows(rsa_leaf: Issued) -> None:
    """No repr, str, vars, description, comparison, or traceback with a bundle in it holds any part of the key."""
    bundle = bundle_of(rsa_leaf)
    assert isinstance(rsa_leaf.key, rsa.RSAPrivateKey)
    numbers = rsa_leaf.key.private_numbers()
    secrets = [line for line in rsa_leaf.key_pem.decode().splitlines() if not line.startswith("-----")]
    secrets += [form.format(each) for each in (numbers.d, numbers.p, numbers.q) for form in ("{}", "{:x}")]
    block = next(each for each in pem.split(rsa_leaf.key_pem, "x") if each.is_key)
    texts = [
        repr(bundle),
        str(bundle),
        f"{bundle}",
        f"{bundle!r}",
        str(vars(bundle)),
        str(bundle.describe()),
        repr(block),
    ]
    for function in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match="private key") as caught:
            function(bundle)
        assert caught.value.__traceback__
        below = caught.value.__traceback__.tb_next  # this function's own locals hold the key
        shown = traceback.TracebackException(type(caught.value), caught.value, below, capture_locals=True)
        texts.append("".join(shown.format()))
    damaged = rsa_leaf.key_pem.replace(b"\n", b"\n*", 3)
    with pytest.raises(BundleError) as error:
        Bundle.from_pem(rsa_leaf.cert_pem, damaged)
    texts.append("".join(traceback.format_exception(type(error.value), error.value, error.value.__traceback__)))
    for text in texts:
        assert not [secret for secret in secrets if secret in text]
    with pytest.raises(dataclasses.FrozenInstanceError):
        bundle.key = None  # type: ignore[misc,assignment]


def test_equality_is_that_of_the_certificates(rsa_leaf: Issued, ec_leaf: Issued) -> None:
    """Bundles with the same certificates are equal and hash alike, however the key object came about."""
    assert bundle_of(rsa_leaf) == bundle_of(rsa_leaf)
    assert len({bundle_of(rsa_leaf), bundle_of(rsa_leaf), bundle_of(ec_leaf)}) == 2


# What it costs


def test_rsa_key_is_loaded_without_the_primality_check(rsa_leaf: Issued, mocker: MockerFixture) -> None:
    """Where cryptography offers it, the slow check is left out; the pair is proved in any case."""
    load, prove = mocker.spy(ser, "load_pem_private_key"), mocker.spy(keys, "prove")
    bundle = bundle_of(rsa_leaf)
    new = int(cryptography.__version__.split(".")[0]) >= 39
    assert load.call_args.kwargs == ({"unsafe_skip_rsa_key_validation": True} if new else {})
    assert prove.call_args.args[0] is bundle.key


def test_pem_and_errors_cost_no_cryptography() -> None:
    """What the start of a command imports does not pull cryptography in."""
    code = "import sys, certhooks.pem, certhooks.errors; sys.exit('cryptography' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == 0
