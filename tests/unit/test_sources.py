"""Where bundles come from: each place is found and read as people have it, and each failure names the file."""

from __future__ import annotations

import os
import shutil
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Callable, Optional

import pytest

from certhooks import sources
from certhooks.bundle import Bundle, PairError
from certhooks.errors import BadNameError, BundleError
from tests.unit.certs import bundle_of, openssl

if TYPE_CHECKING:
    from tests.lab.ca import CA, Issued


def write(folder: Path, /, mode: int = 0o600, **files: bytes) -> Path:
    """Put files there; ``cert_pem`` becomes ``cert.pem``."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in files.items():
        path = folder / name.replace("_", ".")
        path.write_bytes(data)
        path.chmod(mode)
    return folder


def acme(folder: Path, issued: Issued) -> Path:
    """Lay the four files out as certbot does: links into an archive."""
    archive = folder.parent / "archive"
    write(archive, cert_pem=issued.cert_pem, chain_pem=issued.chain_pem)
    write(archive, fullchain_pem=issued.fullchain_pem, privkey_pem=issued.key_pem)
    folder.mkdir(parents=True)
    for path in archive.iterdir():
        (folder / path.name).symlink_to(path)
    return folder


@dataclass
class Request:
    """What certmonger tells of a request."""

    cert_file: Optional[str]
    key_file: Optional[str]
    chain: tuple[str, ...] = ()
    roots: tuple[str, ...] = ()


def fails(says: str, function: Callable[..., object], *arguments: object, **options: object) -> str:
    """Return the hint of the one-line error that has these words."""
    with pytest.raises(BundleError) as caught:
        function(*arguments, **options)
    assert caught.value.exit_code == 10
    assert says in str(caught.value)
    assert str(caught.value).isprintable()
    assert caught.value.hint
    return caught.value.hint


def test_files(rsa_leaf: Issued, tmp_path: Path) -> None:
    """Certificate, key and chain may be three files, or one that is given three times."""
    write(tmp_path, a_crt=rsa_leaf.cert_pem, a_key=rsa_leaf.key_pem, chain_pem=rsa_leaf.chain_pem, empty=b"")
    write(tmp_path, all_pem=rsa_leaf.key_pem + rsa_leaf.fullchain_pem)
    cert, key, everything = tmp_path / "a.crt", tmp_path / "a.key", str(tmp_path / "all.pem")
    assert sources.from_files(cert, key, tmp_path / "chain.pem") == bundle_of(rsa_leaf)
    assert sources.from_files(everything, everything, everything) == bundle_of(rsa_leaf)
    assert sources.from_files(cert, key).chain == sources.from_files(cert, key, tmp_path / "empty").chain == ()


def test_encrypted_key(rsa_leaf: Issued, tmp_path: Path) -> None:
    """The passphrase gets to the key."""
    key = openssl("pkcs8", "-topk8", "-passout", "pass:sesame", data=rsa_leaf.key_pem)
    write(tmp_path, a_crt=rsa_leaf.fullchain_pem, a_key=key)
    cert, key_file = tmp_path / "a.crt", tmp_path / "a.key"
    assert sources.from_files(cert, key_file, passphrase=b"sesame") == bundle_of(rsa_leaf)
    fails(f"{key_file}: the private key is encrypted", sources.from_files, cert, key_file)


def test_pkcs12_file(rsa_leaf: Issued, tmp_path: Path) -> None:
    """A .p12 file gives key, leaf and chain; its errors name it."""
    everything = rsa_leaf.key_pem + rsa_leaf.fullchain_pem
    path = write(tmp_path, a_p12=openssl("pkcs12", "-export", "-passout", "pass:x", data=everything)) / "a.p12"
    assert sources.from_pkcs12(path, b"x") == bundle_of(rsa_leaf)
    fails(f"{path}: the passphrase does not open it", sources.from_pkcs12, path, b"y")
    fails(f"no such file: {tmp_path / 'b.p12'}", sources.from_pkcs12, tmp_path / "b.p12", b"x")


def test_directory_of_an_acme_client(rsa_leaf: Issued, tmp_path: Path) -> None:
    """The links of certbot are followed, and cert.pem with chain.pem does where fullchain.pem is missing."""
    live = acme(tmp_path / "live", rsa_leaf)
    assert sources.from_directory(live) == bundle_of(rsa_leaf)
    (live / "fullchain.pem").unlink()
    assert sources.from_directory(str(live)) == bundle_of(rsa_leaf)
    (live / "chain.pem").unlink()
    assert sources.from_directory(live).chain == ()
    (live / "cert.pem").unlink()
    fails(f"no such file: {live / 'cert.pem'}", sources.from_directory, live)


def test_certmonger_request(rsa_leaf: Issued, root: CA, tmp_path: Path) -> None:
    """The leaf comes from certmonger's file, which holds nothing else, and chain and roots from the request."""
    write(tmp_path, a_crt=rsa_leaf.cert_pem, a_key=rsa_leaf.key_pem)
    chain = tuple(each.decode() for each in (rsa_leaf.chain_pem, root.pem))
    request = Request(str(tmp_path / "a.crt"), str(tmp_path / "a.key"), chain, (root.pem.decode(),))
    bundle = sources.from_request(request)
    assert bundle == Bundle.from_pem(rsa_leaf.fullchain_pem + root.pem, rsa_leaf.key_pem)
    assert bundle.roots == (root.certificate,)
    assert sources.from_request(Request(request.cert_file, request.key_file)).chain == ()
    assert "-k KEY -f CERT" in fails("in no file", sources.from_request, Request(None, None))


def test_further_certificates(rsa_leaf: Issued, ec_leaf: Issued, root: CA, tmp_path: Path) -> None:
    """A file of CA certificates completes chain and roots, and leaves the pair as it is."""
    write(tmp_path, more_pem=root.pem + rsa_leaf.chain_pem + ec_leaf.cert_pem)
    bare = Bundle.from_pem(rsa_leaf.cert_pem, rsa_leaf.key_pem)
    full = sources.with_more(bare, tmp_path / "more.pem")
    assert (full.leaf, full.chain, full.roots) == (bare.leaf, rsa_leaf.chain, (root.certificate,))
    assert full.key_pem() == rsa_leaf.key_pem
    assert full.roots_pem == (root.pem.decode(),)
    fails(f"no such file: {tmp_path / 'none'}", sources.with_more, bare, tmp_path / "none")


# -c, -C and -K


@pytest.mark.parametrize(
    ("files", "places"),
    [
        ("certs/a.example.com.crt private/a.example.com.key", "certs private"),
        ("certs/a.example.com.pem certs/a.example.com.key", "certs certs"),
        ("live/a.example.com/cert.pem live/a.example.com/privkey.pem", "live/a.example.com live/a.example.com"),
        ("live/a.example.com/cert.pem live/a.example.com/privkey.pem", "live live"),
        ("live/a.example.com/cert.pem private/a.example.com.key", "live private"),
        ("a.example.com/a.example.com.crt a.example.com/a.example.com.key", "a.example.com a.example.com"),
        ("some.crt other.key", "some.crt other.key"),
        ("all.pem all.pem", "all.pem all.pem"),
    ],
)
def test_places(rsa_leaf: Issued, tmp_path: Path, files: str, places: str) -> None:
    """Each way in which -C and -K can be meant leads to the two files, and they are loaded."""
    cert, key = (tmp_path / each for each in files.split())
    cert_dir, key_dir = (tmp_path / each for each in places.split())
    for path in (cert, key):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(rsa_leaf.key_pem + rsa_leaf.cert_pem)
        path.chmod(0o600)
    assert sources.locate("a.example.com", str(cert_dir), key_dir) == (cert, key)
    assert sources.from_location("a.example.com", cert_dir, key_dir).leaf == rsa_leaf.certificate


def test_place_of_a_wildcard(tmp_path: Path) -> None:
    """Certbot names the directory of a wildcard without the asterisk; a file with it goes first."""
    write(tmp_path / "example.com", cert_pem=b"x", privkey_pem=b"x")
    inside = tmp_path / "example.com"
    for place in (tmp_path, inside):
        assert sources.locate("*.example.com", place, place) == (inside / "cert.pem", inside / "privkey.pem")
    write(tmp_path / "*.example.com", cert_pem=b"x", privkey_pem=b"x")
    assert sources.locate("*.example.com", tmp_path, tmp_path)[0] == tmp_path / "*.example.com" / "cert.pem"


def test_chain_is_taken_from_the_place_too(rsa_leaf: Issued, tmp_path: Path) -> None:
    """Where cert.pem lies, the chain beside it comes along."""
    live = acme(tmp_path / "live" / "a.example.com", rsa_leaf)
    assert sources.from_location("a.example.com", live.parent, live.parent) == bundle_of(rsa_leaf)
    (live / "chain.pem").unlink()
    assert sources.from_location("a.example.com", live, live) == bundle_of(rsa_leaf)


def test_nothing_at_the_place(tmp_path: Path) -> None:
    """The error names the place, and the hint everything that was tried."""
    fails(f"no such file or directory: {tmp_path / 'x'}", sources.locate, "a", tmp_path / "x", tmp_path)
    hint = fails(f"no certificate of a in {tmp_path}", sources.locate, "a", tmp_path, tmp_path)
    assert hint == f"looked for {tmp_path / 'a/cert.pem'}, {tmp_path / 'a.crt'}, {tmp_path / 'a.pem'}"
    write(tmp_path, a_crt=b"x")
    hint = fails(f"no private key of a in {tmp_path}", sources.locate, "a", tmp_path, tmp_path)
    assert hint == f"looked for {tmp_path / 'a/privkey.pem'}, {tmp_path / 'a.key'}"


@pytest.mark.parametrize("name", ["", ".", "..", "../a", "a/b", "a\0b"])
def test_names_that_lead_elsewhere(tmp_path: Path, name: str) -> None:
    """A common name cannot point out of the directory."""
    with pytest.raises(BadNameError) as caught:
        sources.locate(name, tmp_path, tmp_path)
    assert caught.value.exit_code == 2


# Files that cannot be read


def test_missing_and_odd_files(rsa_leaf: Issued, tmp_path: Path) -> None:
    """A missing file, a directory, a pipe, a socket and a loop of links are named, at once and without waiting."""
    write(tmp_path, a_crt=rsa_leaf.cert_pem, a_key=rsa_leaf.key_pem)
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    os.mkfifo(tmp_path / "pipe")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "socket"))
        for name, says in (
            ("none", "no such file: {}"),
            (".", "{} is a directory"),
            ("pipe", "{} is not a regular file"),
            ("socket", "cannot read {}: "),
            ("loop", "cannot read {}: too many levels of symbolic links"),
            ("a.crt/x", "cannot read {}: not a directory"),
            ("x" * 300, "cannot read {}: file name too long"),
        ):
            path = tmp_path / name
            fails(says.format(path), sources.from_files, path, tmp_path / "a.key")
            fails(says.format(path), sources.from_files, tmp_path / "a.crt", path)
            fails(says.format(path), sources.from_files, tmp_path / "a.crt", tmp_path / "a.key", path)


def test_not_allowed(rsa_leaf: Issued, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that may not be read says so, whether root runs the tests or not."""
    write(tmp_path, a_crt=rsa_leaf.cert_pem, a_key=rsa_leaf.key_pem)
    original = os.open

    def refuse(path: str, *arguments: int) -> int:
        if str(path).endswith(".key"):
            raise PermissionError(13, "Permission denied", path)
        return original(path, *arguments)

    monkeypatch.setattr(os, "open", refuse)
    hint = fails(f"not allowed to read {tmp_path}/a.key", sources.from_files, tmp_path / "a.crt", tmp_path / "a.key")
    assert "root" in hint


def test_content_errors_name_the_file(rsa_leaf: Issued, tmp_path: Path) -> None:
    """Whichever of the three files is empty, cut off or huge, the error begins with its path."""
    files = {"a.crt": rsa_leaf.cert_pem, "a.key": rsa_leaf.key_pem, "chain.pem": rsa_leaf.chain_pem}
    for name, good in files.items():
        for data, says in (
            (b"", "empty"),
            (good[:-40], "has no end"),
            (b"x" * (1 << 20) + b"x", "larger than 1024 KiB"),
        ):
            if name == "chain.pem" and not data:
                continue  # a CA without intermediates
            for each, text in files.items():
                (tmp_path / each).write_bytes(text)
            (tmp_path / name).write_bytes(data)
            paths = [tmp_path / each for each in files]
            fails(f"{tmp_path / name}: ", sources.from_files, *paths)
            fails(says, sources.from_files, *paths)


def test_large_file_is_not_read_to_its_end(tmp_path: Path) -> None:
    """A file of a terabyte costs no more memory than one mebibyte."""
    path = tmp_path / "huge"
    with path.open("wb") as file:
        file.truncate(1 << 40)
    fails(f"{path}: larger than 1024 KiB", sources.read, path)


@pytest.mark.parametrize(("mode", "warned"), [(0o600, False), (0o640, False), (0o644, True), (0o604, True)])
def test_key_that_everybody_can_read(rsa_leaf: Issued, tmp_path: Path, mode: int, *, warned: bool) -> None:
    """A key open to the world is remarked on; one for a group (certmonger's -o and -m) is not, nor is a certificate."""
    write(tmp_path, 0o644, a_crt=rsa_leaf.cert_pem)
    write(tmp_path, mode, a_key=rsa_leaf.key_pem)
    remarks = sources.from_files(tmp_path / "a.crt", tmp_path / "a.key").check()
    assert [str(tmp_path / "a.key") in remark for remark in remarks if "can read" in remark] == [True] * warned


# A renewal in the middle


def replace_after_certificate(monkeypatch: pytest.MonkeyPatch, new: Path, times: int) -> list[str]:
    """Let the files in ``new`` replace those in place each time a certificate has been read, so many times."""
    reads: list[str] = []
    original = sources.read

    def read(path: Path) -> bytes:
        data = original(path)
        reads.append(Path(path).name)
        if Path(path).name == "a.crt" and reads.count("a.crt") <= times:
            source = new if reads.count("a.crt") % 2 else new.with_name("old")
            for each in source.iterdir():
                shutil.copy(each, Path(path).parent)
        return data

    monkeypatch.setattr(sources, "read", read)
    return reads


def test_pair_that_is_replaced_between_the_reads(
    rsa_leaf: Issued, ec_leaf: Issued, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When a rekey falls between the two reads, the second look gives the new pair; a third look is not taken."""
    live = write(tmp_path / "live", a_crt=rsa_leaf.cert_pem, a_key=rsa_leaf.key_pem)
    write(tmp_path / "old", a_crt=rsa_leaf.cert_pem, a_key=rsa_leaf.key_pem)
    new = write(tmp_path / "new", a_crt=ec_leaf.cert_pem, a_key=ec_leaf.key_pem)
    with monkeypatch.context() as patch:
        reads = replace_after_certificate(patch, new, 1)
        assert sources.from_files(live / "a.crt", live / "a.key").leaf == ec_leaf.certificate
        assert reads == ["a.crt", "a.key"] * 2
    shutil.copytree(tmp_path / "old", live, dirs_exist_ok=True)
    with monkeypatch.context() as patch:
        reads = replace_after_certificate(patch, new, 9)
        with pytest.raises(PairError):
            sources.from_files(live / "a.crt", live / "a.key")
        assert reads == ["a.crt", "a.key"] * 2
