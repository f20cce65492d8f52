"""Which stored command lines are ours, and what they would do: told without a device, whatever they are."""

from __future__ import annotations

import io
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from certhooks import installers
from certhooks.errors import Error, UsageError
from certhooks_pan import instcert

if TYPE_CHECKING:
    from pytest_mock import MockerFixture

NAME = "gp.example.com"
STRANGE = ("/dev/null", "/dev/zero", "/nonexistent", "/etc/passwd/x", "\0", "x" * 10_000)
PAN = ["-c", NAME, "-p", "GP"]


@pytest.mark.parametrize(
    ("line", "known"),
    [
        ("pan_instcert -c a fw1", ("pan_instcert", "-c a fw1")),
        ("/usr/local/bin/pan_instcert -c a fw1", ("pan_instcert", "-c a fw1")),
        ("/usr/bin/env pan_instcert fw1", ("pan_instcert", "fw1")),
        ("/usr/bin/env -i -u HOME A=b _C= pan_instcert fw1", ("pan_instcert", "fw1")),
        ("/opt/v/bin/python3.11 -I /opt/v/bin/pan_instcert fw1", ("pan_instcert", "fw1")),
        ("/usr/bin/python3 -I -m certhooks_pan.instcert fw1", ("pan_instcert", "fw1")),
        ("env A=b python -m certhooks_vcenter.esxi_instcert --csr esx1", ("esxi_instcert", "--csr esx1")),
        ("vmw_instcert -c vc1", ("vmw_instcert", "-c vc1")),
        ("/opt/apic_instcert x", ("apic_instcert", "x")),
        ("/opt/files_instcert", ("files_instcert", "")),
        ("pan_getcert -c a fw1", None),
        ("xpan_instcert fw1", None),
        ("pan_instcert.old fw1", None),
        ("/bin/sh -c pan_instcert", None),
        ("python3 -m certhooks_pan", None),
        ("python3 -m", None),
        ("python3", None),
        ("/usr/bin/env", None),
        ("/usr/bin/env -u", None),
        ("/usr/bin/env A=b", None),
        ("A=b pan_instcert", None),
        ("", None),
    ],
)
def test_a_command_is_known_by_its_name(line: str, known: tuple[str, str] | None) -> None:
    """Wherever it lies, and behind env and an interpreter; nothing else is taken for ours."""
    found = installers.recognise(line.split())
    assert (found and (found[0], " ".join(found[1]))) == known


def test_the_plan_of_a_tracked_certificate(tmp_path: Path) -> None:
    """Name, file, targets, probes, deadline and journal are what the command itself would take them for."""
    file = tmp_path / f"{NAME}.crt"
    file.touch()
    words = ["-c", NAME.upper(), "-C", "certs/..", "-p", "GP", "--probe", "vpn:8443", "--timeout", "60"]
    (tmp_path / "certs").mkdir()
    plan = installers.plan("pan_instcert", [*words, "--state-dir", "state", "fw1", "FW2:8443"], str(tmp_path))
    assert (plan.common_name, plan.tracked, plan.forced) == (NAME, True, False)
    assert plan.file
    assert plan.file.resolve() == file
    assert [str(place.address) for place in plan.places] == ["fw1", "fw2:8443"]
    assert len({place.target for place in plan.places}) == 2
    assert (plan.probes, plan.timeout, plan.state_dir) == (("vpn:8443",), 60.0, tmp_path / "state")


@pytest.mark.parametrize(
    ("words", "tracked", "file"),
    [
        (["-b", *PAN, "-C", "here"], False, "here/gp.example.com.pem"),
        (["-b", *PAN, "-C", "here/gp.example.com.pem"], False, "here/gp.example.com.pem"),
        (["-b", *PAN, "-C", "gone"], False, None),
        ([*PAN, "--pkcs12", "store.p12"], False, "store.p12"),
        ([*PAN, "--pkcs12", "gone.p12"], False, None),
        ([*PAN, "-C", "here"], True, "here/gp.example.com.pem"),
        (["-c", "*.example.com", "-n", "wild", "-C", "here"], True, "here/example.com.pem"),
    ],
)
def test_where_the_certificate_lies(tmp_path: Path, words: list[str], tracked: bool, file: str | None) -> None:  # noqa: FBT001
    """Relative to where the command was started; None for what is not there now."""
    (tmp_path / "here").mkdir()
    for name in ("here/gp.example.com.pem", "here/example.com.pem", "store.p12"):
        (tmp_path / name).touch()
    plan = installers.plan("pan_instcert", [*words, "--force", "fw1"], str(tmp_path))
    assert (plan.tracked, plan.file, plan.forced) == (tracked, file and tmp_path / file, True)
    assert plan.common_name == words[words.index("-c") + 1]
    assert plan.state_dir is None


def test_a_device_that_makes_its_own_key_has_no_file_and_no_name() -> None:
    """``esxi_instcert --csr``: neither certmonger nor a file holds what it will have."""
    plan = installers.plan("esxi_instcert", ["--csr", "--vcenter", "vc1.example.com", "esx1.example.com"])
    assert (plan.common_name, plan.tracked, plan.file) == ("", False, None)
    assert [(place.target, place.served) for place in plan.places] == [(plan.places[0].device, True)]


def test_the_old_name_of_vcenter_s_command_is_the_same_command() -> None:
    """A post-save command written for ``vmw_instcert`` goes to the same target."""
    old, new = (installers.plan(name, ["-c", "vc1.example.com"]) for name in ("vmw_instcert", "vcenter_instcert"))
    assert old == new
    assert [str(place.address) for place in new.places] == ["vc1.example.com"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--help"], "installs nothing"),
        (["--version"], "installs nothing"),
        ([*PAN, "--dry-run", "fw1"], "installs nothing"),
        ([*PAN, "--no-such-option", "fw1"], "unrecognized arguments: --no-such-option"),
        ([*PAN, "--timeout", "nan", "fw1"], "not a number of seconds"),
        ([*PAN, "-C"], "expected one argument"),
        ([*PAN], "no device given"),
        (["-p", "GP", "fw1"], "-c is missing"),
        (["-c", "no-dot", "fw1"], "not a fully qualified common name"),
        ([*PAN, "fw1", "not/a/host"], "not a host name"),
        ([*PAN, "fw1\nfw2"], "not a host name"),
        ([*PAN, "x" * 10_000], "not a host name"),
        ([*PAN, "\ud800"], "not a host name"),
        ([*PAN, "--push", "fw1"], "--push needs"),
        (["-c", "x" * 10_000 + ".example.com", "fw1"], "not a fully qualified common name"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_what_is_not_such_a_command_s_is_an_error(words: list[str], said: str) -> None:
    """One clear error, and nothing on standard output: there ``status --json`` writes."""
    out = io.StringIO()
    with redirect_stdout(out), pytest.raises(Error, match=said):
        installers.plan("pan_instcert", words)
    assert out.getvalue() == ""


@pytest.mark.parametrize(
    "place",
    ["/dev/null", "/nonexistent", "\0", "x" * 10_000, "/etc/passwd/x", "/dev/zero"],
    ids=lambda place: repr(place)[:20],
)
def test_strange_folders_are_no_reason_to_fail(place: str) -> None:
    """What cannot be looked at holds no certificate that is known."""
    plan = installers.plan("pan_instcert", [*PAN, "-C", place, "--state-dir", place, "fw1"])
    assert plan.file in {None, Path("/", place)}
    assert plan.state_dir == Path("/", place)


def test_ten_thousand_devices_in_one_command() -> None:
    """A large fleet in one command is understood."""
    devices = [f"fw{number}.example.com" for number in range(10_000)]
    plan = installers.plan("pan_instcert", [*PAN, *devices])
    assert [str(place.address) for place in plan.places] == devices


def test_a_hook_that_is_not_installed_or_cannot_be_loaded(mocker: MockerFixture) -> None:
    """The error names the package to install, or what is missing in it."""
    with pytest.raises(UsageError, match="apic_instcert is not installed beside") as raised:
        installers.plan("apic_instcert", ["apic1.example.com"])
    assert "certhooks-apic" in str(raised.value.hint)
    mocker.patch.object(installers, "_known", return_value={"pan_instcert": "certhooks_pan.gone"})
    mocker.patch.object(installers, "_parser", installers._parser.__wrapped__)
    mocker.patch.object(installers, "_module", installers._module.__wrapped__)
    with pytest.raises(UsageError, match=r"pan_instcert cannot be loaded: No module named .certhooks_pan\.gone"):
        installers.plan("pan_instcert", ["fw1"])
    with pytest.raises(UsageError, match="is not installed beside") as raised:
        installers.plan("vmw_instcert", ["vc1.example.com"])
    assert "certhooks-vcenter" in str(raised.value.hint)


@pytest.mark.parametrize("dry", [True, False])
def test_a_trial_that_fails_is_nothing_to_repair(tmp_path: Path, dry: bool) -> None:  # noqa: FBT001
    """Without its files a push fails and is remembered, to be repeated; with ``--dry-run`` it leaves no trace."""
    words = ["-b", *PAN, "-C", str(tmp_path), "-K", str(tmp_path), "--state-dir", str(tmp_path / "state")]
    words += ["--log-file", str(tmp_path / "log"), "fw1.example.com"]
    assert instcert.main([*words, *(["--dry-run"] if dry else [])]) == 10
    assert len(list((tmp_path / "state").glob("*.json"))) == (0 if dry else 1)
