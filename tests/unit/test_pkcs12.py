"""PKCS#12: the algorithms are those that were asked for, as the openssl binary sees them, on every cryptography."""

from __future__ import annotations

import base64
import re
import subprocess
from typing import TYPE_CHECKING, get_args

import pytest
from cryptography.hazmat.primitives import serialization as ser

from certhooks import pkcs12
from certhooks.bundle import Bundle
from certhooks.errors import BundleError, KeyTypeError
from tests.unit.certs import bundle_of, openssl, self_signed

if TYPE_CHECKING:
    from pathlib import Path

    from tests.lab.ca import CA, Issued

WORD = b"Sesame-open_2"
CHOICE = hasattr(ser.PrivateFormat, "PKCS12")  # cryptography 38 and newer
PROFILES = [
    "legacy",
    pytest.param("modern", marks=pytest.mark.skipif(not CHOICE, reason="cryptography before 38 has no choice")),
]


def shows(data: bytes, tmp_path: Path, *options: str) -> str:
    """Return what ``openssl pkcs12`` tells of the file; the algorithms stand on stderr, names are in Latin-1."""
    path = tmp_path / "x.p12"
    path.write_bytes(data)
    command = ["openssl", "pkcs12", "-in", str(path), "-passin", f"pass:{WORD.decode()}", *options]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=True, timeout=60)
    return done.stdout.decode("latin-1")


def blocks(text: str, label: str) -> list[bytes]:
    """Return the DER of all PEM blocks with the label."""
    found = re.findall(f"-----BEGIN {label}-----(.*?)-----END {label}-----", text, re.DOTALL)
    return [base64.b64decode(each) for each in found]


@pytest.mark.parametrize("profile", PROFILES)
def test_algorithms_are_what_is_claimed(rsa_leaf: Issued, tmp_path: Path, profile: pkcs12.Profile) -> None:
    """Legacy is 3DES in both bags with a SHA-1 MAC, modern AES-256 with SHA-256; openssl needs no legacy provider."""
    told = shows(pkcs12.build(bundle_of(rsa_leaf), WORD, name="x", profile=profile), tmp_path, "-info", "-noout")
    bags = [line for line in told.splitlines() if "Keybag" in line or "Encrypted data" in line]
    assert len(bags) == 2
    if profile == "legacy":
        assert "MAC: sha1," in told
        assert all("pbeWithSHA1And3-KeyTripleDES-CBC" in bag for bag in bags)
    else:
        assert "MAC: sha256," in told
        assert all("PBES2, PBKDF2, AES-256-CBC, Iteration 20000, PRF hmacWithSHA256" in bag for bag in bags)


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("with_chain", [False, True])
def test_content(rsa_leaf: Issued, root: CA, tmp_path: Path, profile: pkcs12.Profile, *, with_chain: bool) -> None:
    """Key and leaf are in it, the intermediates only on request, the root never, and the name is the one given."""
    bundle = Bundle.from_pem(rsa_leaf.fullchain_pem + root.pem, rsa_leaf.key_pem)
    told = shows(pkcs12.build(bundle, WORD, name="zürich", profile=profile, with_chain=with_chain), tmp_path, "-nodes")
    certificates = [bundle.leaf, *(bundle.chain if with_chain else ())]
    assert blocks(told, "CERTIFICATE") == [each.public_bytes(ser.Encoding.DER) for each in certificates]
    assert blocks(told, "PRIVATE KEY") == blocks(rsa_leaf.key_pem.decode(), "PRIVATE KEY")
    assert "friendlyName: zürich" in told


@pytest.mark.parametrize("profile", PROFILES)
def test_what_is_built_is_loaded_again(ec_leaf: Issued, profile: pkcs12.Profile) -> None:
    """Key, leaf and chain survive the way through a file."""
    bundle = bundle_of(ec_leaf)
    pieces = pkcs12.load(pkcs12.build(bundle, WORD, name="x", profile=profile, with_chain=True), WORD)
    again = Bundle.from_parts(*pieces)
    assert again == bundle
    assert again.key_pem() == bundle.key_pem()


@pytest.mark.skipif(CHOICE, reason="this cryptography can")
def test_modern_before_38_is_a_clear_error(rsa_leaf: Issued) -> None:
    """A cryptography that has no choice says so and does not quietly build the legacy form."""
    with pytest.raises(BundleError, match="cryptography 38"):
        pkcs12.build(bundle_of(rsa_leaf), WORD, name="x", profile="modern")


@pytest.mark.parametrize("profile", get_args(pkcs12.Profile))
def test_empty_passphrase_is_refused(rsa_leaf: Issued, profile: pkcs12.Profile) -> None:
    """No file without protection is ever built."""
    with pytest.raises(BundleError, match="empty"):
        pkcs12.build(bundle_of(rsa_leaf), b"", name="x", profile=profile)


@pytest.mark.parametrize("options", [(), ("-legacy",), ("-keypbe", "NONE", "-certpbe", "NONE")])
def test_files_that_openssl_wrote(rsa_leaf: Issued, lower: CA, upper: CA, options: tuple[str, ...]) -> None:
    """What openssl exports, today's and the old RC2 form and without encryption, is loaded with its chain."""
    everything = rsa_leaf.key_pem + rsa_leaf.fullchain_pem
    data = openssl("pkcs12", "-export", "-passout", f"pass:{WORD.decode()}", *options, data=everything)
    bundle = Bundle.from_parts(*pkcs12.load(data, WORD))
    assert bundle == bundle_of(rsa_leaf)
    assert bundle.chain == (lower.certificate, upper.certificate)


def test_unusable_files(rsa_leaf: Issued) -> None:
    """Wrong passphrase, truncation, PEM, garbage, no key and no certificate: one error each that quotes no secret."""
    export = ("pkcs12", "-export", "-passout", f"pass:{WORD.decode()}")
    good = openssl(*export, data=rsa_leaf.key_pem + rsa_leaf.cert_pem)
    keyless = openssl(*export, "-nokeys", data=rsa_leaf.cert_pem)
    bare = openssl(*export, "-nocerts", data=rsa_leaf.key_pem)
    for data, word, says in (
        (good, b"open-up", "passphrase does not open"),
        (good, None, "passphrase does not open"),
        (good[:-1], WORD, "not a PKCS#12 file"),
        (good[:40] + bytes(200) + good[240:], WORD, "or it is damaged"),
        (rsa_leaf.cert_pem, WORD, "not a PKCS#12 file"),
        (b"", WORD, "not a PKCS#12 file"),
        (bytes(1 << 21), WORD, "larger than"),
        (openssl("x509", "-outform", "der", data=rsa_leaf.cert_pem), WORD, "or it is damaged"),
        (keyless, WORD, "no private key in it"),
        (bare, WORD, "no certificate in it"),
    ):
        with pytest.raises(BundleError, match=re.escape(says)) as caught:
            pkcs12.load(data, word, "file.p12")
        assert str(caught.value).startswith("file.p12: ")
        assert caught.value.hint
        assert "open-up" not in f"{caught.value}{caught.value.hint}"
        assert WORD.decode() not in f"{caught.value}{caught.value.hint}"


def test_ed25519(tmp_path: Path) -> None:
    """An Ed25519 key is put in where cryptography can do that, and is a KeyTypeError where it cannot."""
    bundle = Bundle.from_pem(*self_signed(tmp_path, new_key="ed25519"))
    if CHOICE:
        assert Bundle.from_parts(*pkcs12.load(pkcs12.build(bundle, WORD, name="x"), WORD)) == bundle
    else:
        with pytest.raises(KeyTypeError, match=r"odd\.example\.com: PKCS#12 cannot hold a key of type ed25519"):
            pkcs12.build(bundle, WORD, name="x")
