"""The examples under contrib/ do what their first lines say; they are shown to people who copy them."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from certhooks import journal

if TYPE_CHECKING:
    from types import ModuleType

    from tests.lab.ca import CA, Issued

EXAMPLES = Path(__file__).resolve().parents[2] / "contrib" / "examples"
NAME = "gp.example.com"
UNITS = sorted(path.name for path in EXAMPLES.iterdir() if path.suffix in {".service", ".timer"})


@pytest.fixture
def example() -> ModuleType:
    """Load ``folder_target.py`` from its file."""
    spec = importlib.util.spec_from_file_location("folder_target", EXAMPLES / "folder_target.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def run(example: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Any:
    """Run the example's command on a folder of its own; returns exit code and what it said."""

    def run(*words: str) -> tuple[int, str]:
        state, log = str(tmp_path / "state"), str(tmp_path / "log")
        files = ["-c", NAME, "-C", str(tmp_path), "-K", str(tmp_path), "--state-dir", state, "--log-file", log]
        code = example.main([*files, *words, str(tmp_path / "tls")])
        said = capsys.readouterr()
        return code, said.out + said.err

    return run


def keep(issued: Issued, folder: Path) -> str:
    """Write the pair where the command looks for it, and return its fingerprint."""
    (folder / f"{NAME}.crt").write_bytes(issued.fullchain_pem)
    key = folder / f"{NAME}.key"
    key.touch(mode=0o600)
    key.write_bytes(issued.key_pem)
    return issued.sha256


def test_the_target_installs_renews_and_does_nothing_twice(run: Any, lower: CA, tmp_path: Path) -> None:
    """The first run installs, the second finds nothing to do, a renewal is installed beside the old pair."""
    current = tmp_path / "tls" / "current"
    first = keep(lower.issue([NAME]), tmp_path)
    code, said = run("--dry-run")
    assert (code, current.exists()) == (0, False), said
    assert "would lead" in said
    code, said = run()
    assert (code, os.readlink(current)) == (0, first), said  # noqa: PTH115  Path.readlink would do no more
    assert (current / "privkey.pem").stat().st_mode & 0o777 == 0o600
    code, said = run()
    assert code == 0
    assert "nothing to do" in said
    second = keep(lower.issue([NAME]), tmp_path)
    code, said = run()
    assert (code, os.readlink(current)) == (0, second), said  # noqa: PTH115  as above
    assert (tmp_path / "tls" / first / "privkey.pem").exists()


def test_the_target_goes_back_when_the_reload_fails(run: Any, lower: CA, tmp_path: Path) -> None:
    """A reload that fails for the new pair ends with the old one in use again, an error and exit code 15."""
    current = tmp_path / "tls" / "current"
    first = keep(lower.issue([NAME]), tmp_path)
    script = tmp_path / "reload"
    script.write_text(f"#!/bin/sh\n[ $(readlink {current}) = {first} ] || {{ echo bad pair >&2; exit 1; }}\n")
    script.chmod(0o755)
    assert run("--reload", str(script))[0] == 0
    keep(lower.issue([NAME]), tmp_path)
    code, said = run("--reload", str(script))
    assert code == 15, said
    assert "bad pair" in said
    assert "previous certificate is back" in said
    assert os.readlink(current) == first  # noqa: PTH115  as above
    record = next(journal.Journal(tmp_path / "state").records())
    assert record.last is not None
    assert record.last.outcome == journal.UNDONE


def test_the_target_refuses_what_does_not_fit(run: Any, lower: CA, tmp_path: Path) -> None:
    """A key of another certificate ends with exit code 10 before anything is written."""
    keep(lower.issue([NAME]), tmp_path)
    (tmp_path / f"{NAME}.key").write_bytes(lower.issue([NAME]).key_pem)
    code, said = run()
    assert code == 10, said
    assert not (tmp_path / "tls").exists()


@pytest.mark.parametrize(
    ("hook", "words", "environment", "wanted"),
    [
        (
            "certbot-deploy-hook",
            (),
            {"RENEWED_LINEAGE": f"/live/{NAME}"},
            ["-C", f"/live/{NAME}", "-K", f"/live/{NAME}"],
        ),
        ("certbot-deploy-hook", (), {"RENEWED_LINEAGE": "/live/www.example.com"}, None),
        (
            "dehydrated-hook",
            ("deploy_cert", NAME, "/c/privkey.pem", "/c/cert.pem", "/c/fullchain.pem", "/c/chain.pem", "1"),
            {},
            ["-C", "/c/fullchain.pem", "-K", "/c/privkey.pem"],
        ),
        ("dehydrated-hook", ("deploy_cert", "www.example.com", "k", "c", "f", "ch", "1"), {}, None),
        ("dehydrated-hook", ("startup_hook",), {}, None),
        ("dehydrated-hook", ("this_hookscript_is_broken__please_ignore",), {}, None),
    ],
)
def test_hooks_pass_on_what_their_caller_gives(
    hook: str, words: tuple[str, ...], environment: dict[str, str], wanted: list[str] | None, tmp_path: Path
) -> None:
    """A hook starts pan_instcert for its own certificate with the files it was given, and passes silently otherwise."""
    report = tmp_path / "argv"
    text = (EXAMPLES / hook).read_text().replace("PATH=/usr/local/bin:/opt/certhooks/bin", f"PATH={tmp_path}")
    script = tmp_path / hook
    script.write_text(text)
    script.chmod(0o755)
    command = tmp_path / "pan_instcert"
    command.write_text(
        f"#!{sys.executable}\nimport json, sys\nopen({str(report)!r}, 'w').write(json.dumps(sys.argv[1:]))\n"
    )
    command.chmod(0o755)
    env = {"PATH": "/usr/bin:/bin", **environment}
    done = subprocess.run([str(script), *words], env=env, capture_output=True, text=True, timeout=30, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    if wanted is None:
        assert not report.exists()
    else:
        profiles = ["-p", "GP_PORTAL", "-s", "GP_GATEWAY", "fw01.example.com"]
        assert json.loads(report.read_text()) == ["-b", "-c", NAME, *wanted, *profiles]


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd is not here")
@pytest.mark.parametrize("unit", UNITS)
def test_systemd_has_no_complaint(unit: str, tmp_path: Path) -> None:
    """Every setting of the units is one that systemd knows, and the timer finds its service."""
    for path in EXAMPLES.iterdir():
        if path.name in UNITS:
            text = re.sub(
                r"^ExecStart=\S+", "ExecStart=/bin/true", path.read_text(encoding="utf-8"), flags=re.MULTILINE
            )
            (tmp_path / path.name).write_text(re.sub(r"^Documentation=.*\n", "", text, flags=re.MULTILINE))
    words = ["systemd-analyze", "verify", str(tmp_path / unit)]
    done = subprocess.run(words, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")
