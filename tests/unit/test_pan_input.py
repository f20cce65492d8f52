"""pan_instcert and bad input: whatever file, name, number or combination is no good ends in one line and its code."""

from __future__ import annotations

import datetime as dt
import random
from typing import TYPE_CHECKING, Callable

import pytest

from certhooks import deploy
from certhooks.journal import UNDONE, Journal
from certhooks_pan import instcert
from tests.lab.ca import CA, pem_of_key
from tests.lab.site import Site, call

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.lab.ca import Issued
    from tests.lab.panos import Firewall
    from tests.lab.site import Done

NAME = "gp.example.test"
NOBODY = "fw.example.invalid"


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    """Set up an administrator's files; no device."""
    monkeypatch.setattr(deploy, "_PAUSES", (0.0,))
    with Site(tmp_path) as made:
        made.certificate(NAME)
        made.panrc.touch(mode=0o600)
        made.panrc.write_text("api_key=LUFRPT1TaXRlS2V5\n")
        made.trusted.write_bytes(made.ca.pem)
        yield made


@pytest.fixture
def fw(site: Site) -> Firewall:
    """Start a firewall for what works."""
    site.trusted.unlink()
    firewall: Firewall = site.firewall()
    return firewall


def expect(done: Done, code: int, *words: str) -> None:
    """Make sure that it ended with this code, in one line with these words, and a hint where one is due."""
    assert done.code == code, done
    lines = done.err.splitlines()
    errors = [line for line in lines if line.startswith("pan_instcert: error: ")]
    assert len(errors) == 1, done
    assert all(line.startswith(("pan_instcert: error: ", "pan_instcert: hint: ")) for line in lines), done
    assert len(errors[0]) < 500, done
    for word in words:
        assert word in errors[0], done
    assert done.err.replace("\n", "").isprintable()
    assert "Traceback" not in done.err


# -- files ---------------------------------------------------------------------------------------------------------


def files(site: Site, cert: bytes, key: bytes) -> None:
    """Write certificate and key in place of the good ones."""
    (site.folder / f"{NAME}.crt").write_bytes(cert)
    (site.folder / f"{NAME}.key").write_bytes(key)


def der(issued: Issued) -> bytes:
    """Return the certificate in DER."""
    from cryptography.hazmat.primitives.serialization import Encoding

    return issued.certificate.public_bytes(Encoding.DER)


def days_ago(days: float) -> dt.datetime:
    """Return a moment in the past."""
    return dt.datetime.now(dt.timezone.utc) - dt.timedelta(days=days)


BAD_FILES: dict[str, tuple[Callable[[CA, Issued], tuple[bytes, bytes]], int, str]] = {
    "key of another": (lambda ca, one: (one.cert_pem, ca.issue([NAME]).key_pem), 10, "key"),
    "expired": (lambda ca, _: pair(ca.issue([NAME], not_before=days_ago(9), days=2)), 10, "expired"),
    "not yet valid": (lambda ca, _: pair(ca.issue([NAME], not_before=days_ago(-2))), 10, "not valid before"),
    "another name": (lambda ca, _: pair(ca.issue(["other.example.test"])), 10, NAME),
    "empty certificate": (lambda _, one: (b"", one.key_pem), 10, ".crt"),
    "empty key": (lambda _, one: (one.cert_pem, b""), 10, ".key"),
    "binary": (lambda _, one: (bytes(range(256)), one.key_pem), 10, ".crt"),
    "encrypted key": (lambda _, one: (one.cert_pem, pem_of_key(one.key, "secret")), 10, "encrypted"),
    "PKCS#12 for PEM": (lambda _, one: (one.pkcs12("secret"), one.key_pem), 10, ".crt"),
    "half a block": (lambda _, one: (one.cert_pem[: len(one.cert_pem) // 2], one.key_pem), 10, ".crt"),
    "key for certificate": (lambda _, one: (one.key_pem, one.key_pem), 10, ".crt"),
    "huge": (lambda _, one: (one.cert_pem + b"\n" * 20_000_000, one.key_pem), 10, ".crt"),
    "small key": (lambda ca, _: pair(ca.issue([NAME], key_type="rsa", key_size=1024)), 6, "1024"),
}


def pair(issued: Issued) -> tuple[bytes, bytes]:
    """Return certificate and key."""
    return issued.cert_pem, issued.key_pem


@pytest.mark.parametrize("name", BAD_FILES)
def test_bad_files_end_before_the_device_is_asked(site: Site, name: str) -> None:
    """Exit code 10 (6 for the key), naming what is wrong; the device, which is not there, is not even looked for."""
    make, code, said = BAD_FILES[name]
    files(site, *make(site.ca, site.certificate(NAME)))
    expect(site.instcert("-c", NAME, NOBODY), code, said)


def test_missing_files_are_named_with_the_places_that_were_tried(site: Site) -> None:
    """Exit code 10."""
    expect(site.instcert("-c", "other.example.test", NOBODY), 10, "other.example.test")
    expect(site.instcert("-c", NAME, "-C", site.folder / "nowhere", NOBODY), 10, "no such file or directory")


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("-c", "other.example.test"), 10, "other.example.test"),
        (("-c", NAME, "-k", "/dev/null"), 5, "not a regular file"),
    ],
    ids=["no file", "no credentials"],
)
def test_what_fails_before_any_device_is_asked_is_in_every_devices_journal(
    site: Site, words: tuple[str, ...], code: int, said: str
) -> None:
    """Its exit code and line stand there for status and reconcile, and nothing counts as touched; twice is counted."""
    for count in (1, 2):
        assert site.instcert(*words, NOBODY, "fw2.example.invalid").code == code
        records = list(Journal(site.state).records())
        assert sorted(record.target.split()[1].partition(":")[0] for record in records) == [
            NOBODY,
            "fw2.example.invalid",
        ]
        for record in records:
            (noted,) = record.attempts
            assert (noted.outcome, noted.exit_code, noted.count) == (UNDONE, code, count)
            assert said in noted.message
            assert noted.command
            assert record.unfinished() == []


def test_an_encrypted_key_needs_the_right_passphrase_file(site: Site, fw: Firewall) -> None:
    """Without one, with a wrong one and with one that others can read it fails; with the right one it works."""
    issued = site.certificate(NAME)
    files(site, issued.cert_pem, pem_of_key(issued.key, "corr&ct <horse>"))
    word = site.folder / "word"
    word.touch(mode=0o600)
    word.write_text("wrong\n")
    expect(site.instcert("-c", NAME, "--passphrase-file", word, fw), 10)
    word.write_text("corr&ct <horse>\n")
    word.chmod(0o644)
    expect(site.instcert("-c", NAME, "--passphrase-file", word, fw), 5, "can be read by others")
    word.chmod(0o600)
    assert site.instcert("-c", NAME, "--passphrase-file", word, fw).code == 0
    assert fw.certificate(NAME, running=True) == issued.certificate


def test_pkcs12_needs_its_passphrase(site: Site, fw: Firewall) -> None:
    """A file with key, leaf and chain is as good as PEM; a wrong passphrase is exit code 10."""
    issued = site.ca.intermediate().issue([NAME])
    store, word = site.folder / "pair.p12", site.folder / "word"
    store.write_bytes(issued.pkcs12("secret", chain=True))
    word.touch(mode=0o600)
    word.write_text("wrong")
    expect(site.instcert("-c", NAME, "--pkcs12", store, "--passphrase-file", word, fw), 10)
    expect(site.instcert("-c", NAME, "--pkcs12", store, fw), 10)
    word.write_text("secret")
    assert site.instcert("-c", NAME, "--pkcs12", store, "--passphrase-file", word, fw).code == 0
    assert fw.certificate(NAME, running=True) == issued.certificate


def test_an_ec_key_is_refused_where_a_profile_takes_rsa_alone(site: Site, fw: Firewall) -> None:
    """Exit code 6 before anything is sent: with ECDHE forbidden no client could connect."""
    from xml.etree.ElementTree import Element, SubElement

    node = Element("protocol-settings")
    SubElement(node, "keyxchg-algo-ecdhe").text = "no"
    fw.config.put("/config/shared/ssl-tls-service-profile/entry[@name='GP_PORTAL']", node)
    expect(site.instcert("-c", NAME, "-p", "GP_PORTAL", fw), 6)
    assert fw.count("import") == 0
    rsa = site.certificate(NAME, key_type="rsa")
    assert site.instcert("-c", NAME, "-p", "GP_PORTAL", fw).code == 0
    assert fw.certificate(NAME, running=True) == rsa.certificate


@pytest.mark.parametrize("form", ["CRLF", "text between", "chain upside down", "DER"])
def test_unusual_files_that_say_the_same_work(site: Site, fw: Firewall, form: str) -> None:
    """Windows line ends, text between the blocks, a chain in another order, DER: the device gets the same leaf."""
    issued = site.ca.intermediate("Lower").intermediate("Lowest").issue([NAME])
    blocks = [c.strip() + b"\n" for c in issued.fullchain_pem.split(b"-----END CERTIFICATE-----\n") if c.strip()]
    blocks = [block + b"-----END CERTIFICATE-----\n" for block in blocks]
    cert = {
        "CRLF": issued.fullchain_pem.replace(b"\n", b"\r\n"),
        "text between": b"subject=a\n\n".join([b"Bag Attributes\n", *blocks, b"the end"]),
        "chain upside down": b"".join(reversed(blocks)),
        "DER": der(issued),
    }[form]
    files(site, cert, issued.key_pem)
    done = site.instcert("-c", NAME, fw)
    assert done.code == 0, done
    assert fw.certificate(NAME, running=True) == issued.certificate


# -- names ---------------------------------------------------------------------------------------------------------

HOSTILE = {
    "quote": "a'b",
    "double quote": 'a"b',
    "bracket": "a]b",
    "slash": "a/b",
    "newline": "a\nb",
    "escape": "a\x1b[2Jb",
    "ampersand": "a&b",
    "tag": "<a>",
    "long": "a" * 300,
    "empty": "",
    "blank": " ",
    "umlaut": "\u00fcber",
    "other script": "\u0434",
    "surrogate": "a\udcffb",
    "null": "a\0b",
    "right to left": "a\u202eb",
}


@pytest.mark.parametrize("option", ["-n", "-p", "-s", "--vsys", "--template", "--template-stack"])
@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_names_are_bad_names(site: Site, option: str, kind: str) -> None:
    """Exit code 2, the name shown harmless; nothing that could leave an XPath or an XML element reaches a device."""
    expect(site.instcert("-c", NAME, option, HOSTILE[kind], NOBODY), 2, "name")


@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_common_names_are_bad_names(site: Site, kind: str) -> None:
    """Exit code 2 for -c, 1 when it is empty."""
    expect(site.instcert("-c", HOSTILE[kind], NOBODY), 1 if kind == "empty" else 2)


@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_hosts_are_bad_addresses(site: Site, kind: str) -> None:
    """Exit code 4 for a device and for --probe."""
    expect(site.instcert("-c", NAME, HOSTILE[kind]), 4)
    expect(site.instcert("-c", NAME, "--probe", HOSTILE[kind], NOBODY), 4)


@pytest.mark.parametrize("port", ["0", "65536", "-1", "abc", "", "9" * 5000, "\u0662"])
def test_bad_ports_are_bad_addresses(site: Site, port: str) -> None:
    """Exit code 4."""
    expect(site.instcert("-c", NAME, f"localhost:{port}"), 4, "port")


def test_the_year_counts_in_the_length_of_a_name(site: Site) -> None:
    """59 characters and _2026 are 64: exit code 2, and the hint says why; 58 pass."""
    done = site.instcert("-c", NAME, "-n", "a" * 59, "-Y", NOBODY)
    expect(done, 2, "64 characters, 63 are allowed")
    assert "-Y adds five" in done.err
    expect(site.instcert("-c", NAME, "-n", "a" * 58, "-Y", NOBODY), 4, "cannot resolve")


# -- the key file --------------------------------------------------------------------------------------------------

KEY = "LUFRPT1TaXRlS2V5"
BAD_KEY_FILES = {
    "no key": ("hostname=fw\n", "no api_key= line"),
    "empty": ("", "no api_key= line"),
    "tag only": (f"api_key%fw01={KEY}\n", "%fw01"),
    "blanks in the key": ("api_key=a b\n", "characters that no key has"),
    "comment": (f"#api_key={KEY}\n", "no api_key= line"),
    "another name": (f"old_api_key={KEY}\nfoo-api_key={KEY}\n", "no api_key= line"),
    "umlaut": ("api_key=\u00fcber\n", "characters that no key has"),
}


@pytest.mark.parametrize("name", BAD_KEY_FILES)
def test_a_key_file_without_a_usable_key(site: Site, name: str) -> None:
    """Exit code 5 says what is missing, and never shows what is there."""
    text, said = BAD_KEY_FILES[name]
    site.panrc.write_text(text)
    done = site.instcert("-c", NAME, NOBODY)
    expect(done, 5, said)
    assert KEY not in done.err


def test_key_files_that_are_none(site: Site) -> None:
    """Binary, missing, a directory without .panrc, readable by others, a device: exit code 5."""
    site.panrc.write_bytes(b"\xff\xfe\x00")
    expect(site.instcert("-c", NAME, NOBODY), 5, "not a text file")
    expect(site.instcert("-c", NAME, "-k", site.folder / "none", NOBODY), 5, "there is no")
    expect(site.instcert("-c", NAME, "-k", site.folder, NOBODY), 5, "there is no")
    expect(site.instcert("-c", NAME, "-k", "/dev/null", NOBODY), 5, "not a regular file")
    expect(site.instcert("-c", NAME, "-k", "a\x1b/b\0", NOBODY), 5)
    site.panrc.write_text(f"api_key={KEY}\n")
    for mode in (0o640, 0o604, 0o620, 0o644):
        site.panrc.chmod(mode)
        expect(site.instcert("-c", NAME, NOBODY), 5, "can be read by others")


@pytest.mark.parametrize("form", ["plain", "CRLF", "BOM", "blanks", "link", "directory", "tag beside", "twice"])
def test_key_files_as_people_have_them(site: Site, fw: Firewall, form: str) -> None:
    """Windows line ends and mark, blanks, a link, a directory with a .panrc, tagged lines beside: the key is found."""
    key = fw.admins["certhooks"].key
    text = {
        "CRLF": f"hostname=fw\r\napi_key={key}\r\n",
        "BOM": f"\ufeffapi_key={key}\n",
        "blanks": f"  api_key = {key}  \n",
        "tag beside": f"api_key%other=WRONG\napi_key={key}\nfoo-api_key%fw=BAD\n",
        "twice": f"api_key=WRONGWRONG\napi_key={key}\n",
    }.get(form, f"api_key={key}\n")
    site.panrc.write_bytes(text.encode())
    where = site.panrc
    if form == "link":
        where = site.folder / "link"
        where.symlink_to(site.panrc)
    if form == "directory":
        where = site.folder / "keys"
        where.mkdir()
        site.panrc.rename(where / ".panrc")
    done = site.instcert("-c", NAME, "-k", where, fw)
    assert done.code == 0, done


# -- options -------------------------------------------------------------------------------------------------------

CONTRADICTIONS = (
    (["--pin", "sha256:" + "ab" * 32], "exclude each other"),
    (["--push"], "--push needs --template"),
    (["--template", "T", "--push", "--commit", "none"], "exclude each other"),
    (["--template", "T", "--template-stack", "S"], "exclude each other"),
    (["--commit", "some"], "invalid choice"),
    (["--format", "der"], "invalid choice"),
    (["--no-such-option"], "unrecognized arguments"),
    (["--verbos"], "unrecognized arguments"),
    (["--pin=abc"], ""),
    (["--cafile", "/no/such/file"], "cannot use the CA file"),
    (["--cafile", "/"], "cannot use the CA file"),
    (["--cafile", "/etc/passwd"], "cannot use the CA file"),
)


@pytest.mark.parametrize(("words", "said"), CONTRADICTIONS, ids=lambda value: " ".join(value)[:30])
def test_options_that_do_not_go_together(site: Site, words: list[str], said: str) -> None:
    """Exit code 1 names them."""
    expect(site.instcert("-c", NAME, *words, NOBODY), 1, said)


@pytest.mark.parametrize("value", ["0", "-1", "nan", "inf", "-inf", "1e9", "ten", "", "1e-400", "\u0661", "0x10"])
@pytest.mark.parametrize("option", ["--timeout", "--jobs"])
def test_numbers_that_are_none(site: Site, option: str, value: str) -> None:
    """Exit code 1, for whatever no amount of time or devices can be."""
    if (option, value) == ("--timeout", "\u0661"):
        return  # Python reads it as one second, and so may people
    expect(site.instcert("-c", NAME, f"{option}={value}", NOBODY), 1, option)


def test_what_stands_after_two_dashes_is_a_device(site: Site) -> None:
    """An option there is a bad host name, nothing else."""
    expect(site.instcert("-c", NAME, "--", "--force"), 4, "--force")
    expect(site.instcert("-c", NAME, "--"), 4, "no device given")


def test_missing_words(site: Site) -> None:
    """Without -c: 1; without a device: 4; twice -b, or a device twice, is once."""
    expect(site.instcert(NOBODY), 1, "-c is missing")
    expect(site.instcert("-c", NAME), 4, "no device given")
    expect(site.instcert(NOBODY, "-c"), 1, "expected one argument")
    expect(site.instcert("-c", NAME, "-b", "-b", NOBODY, NOBODY), 4, "cannot resolve")


# -- anything ------------------------------------------------------------------------------------------------------


def test_no_words_make_a_fault(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """200 command lines of a seeded generator: an exit code of the table, never 70, never a traceback."""
    monkeypatch.chdir(site.folder)
    dice = random.Random(20)  # noqa: S311  the same words in every run
    flags = [
        "-Y",
        "-b",
        "-v",
        "--push",
        "--trust-root",
        "--dry-run",
        "--force",
        "--prune",
        "--json",
        "--",
        "-x",
        "--\udcff",
    ]
    options = [
        *("-c", "-n", "-k", "-p", "-s", "-C", "-K", "--vsys", "--template", "--template-stack", "--commit", "--format"),
        *("--cafile", "--pin", "--probe", "--timeout", "--jobs", "--pkcs12", "--passphrase-file"),
    ]
    values = [
        *HOSTILE.values(), NAME, NAME, "*.example.test", "none", "full", "pem", "1", "30", str(site.folder), NOBODY,
        str(site.panrc), str(site.folder / f"{NAME}.crt"), "/dev/null", "..", "[::1", "sha256:" + "0" * 64, "%s", "{}",
    ]  # fmt: skip
    for _ in range(200):
        words: list[str] = []
        for _ in range(dice.randrange(5)):
            words += dice.choice(
                [[dice.choice(flags)], [dice.choice(options), dice.choice(values)], [dice.choice(values)]]
            )
        argv = [*site.argv("-c", NAME), *words, NOBODY] if dice.random() < 0.8 else [*site.argv(), *words]
        done = call(instcert.main, argv)
        assert done.code in {0, 1, 2, 4, 5, 6, 10, 11}, (words, done)
        assert "Traceback" not in done.err
        assert done.code == 0 or "pan_instcert: error: " in done.err, (words, done)
        assert done.err.replace("\n", "").isprintable(), words
