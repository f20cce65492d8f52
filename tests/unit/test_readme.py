"""The readme shows the help that the commands give."""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
MODULES = {
    "esxi_instcert": "certhooks_vcenter.esxi_instcert",
    "ipa_dns": "certhooks_freeipa_dns.ipa_dns",
    "pan_getcert": "certhooks_pan.getcert",
    "pan_instcert": "certhooks_pan.instcert",
    "vcenter_getcert": "certhooks_vcenter.getcert",
    "vcenter_instcert": "certhooks_vcenter.instcert",
}
BLOCKS = re.findall(
    r"<!-- help: (\w+) -->\s*```\w*\n(.*?)```\s*<!-- end help -->",
    (ROOT / "README.md").read_text(encoding="utf-8"),
    re.DOTALL,
)


def lines(text: str) -> list[str]:
    """Return the lines without blanks at their ends."""
    return [line.rstrip() for line in text.strip().splitlines()]


@pytest.mark.skipif(not (3, 10) <= sys.version_info < (3, 13), reason="argparse of this Python writes help another way")
@pytest.mark.parametrize(("command", "shown"), BLOCKS, ids=[command for command, _ in BLOCKS])
def test_help_in_the_readme_is_the_commands_own(command: str, shown: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each block is what ``COMMAND --help`` prints at 80 columns; a leading prompt line may stand before it."""
    monkeypatch.setenv("COLUMNS", "80")
    said = importlib.import_module(MODULES[command]).parser().format_help()
    shown = re.sub(rf"\A\$ {command} --help\n", "", shown)
    assert lines(shown) == lines(said)


def test_every_marked_block_is_checked() -> None:
    """No marker is misspelt so that its block would drift unseen."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(BLOCKS) == text.count("<!-- help:") == text.count("<!-- end help -->")
    assert {command for command, _ in BLOCKS} <= set(MODULES)


def test_the_plugins_certbot_is_called_for_renewals() -> None:
    """The certbot that has the plugin is one that no timer knows: whoever installs it is told to schedule it."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    recipe = text.partition("*certbot with the plugin*")[2].partition("*dehydrated*")[0]
    (program,) = re.findall(r"(\S+/certbot) certonly", recipe)
    (line,) = re.findall(r"echo '(.+)' > /etc/cron\.d/[\w-]+\n", recipe)
    minute, hours, day, month, weekday, user, *command = line.split()
    assert (user, command) == ("root", [program, "renew", "-q"])
    assert 0 <= int(minute) < 60
    assert [int(hour) < 24 for hour in hours.split(",")] == [True, True]
    assert (day, month, weekday) == ("*", "*", "*")


def test_the_recipe_for_mod_md_works_under_a_tight_umask(tmp_path: Path) -> None:
    """Apache's user can read the settings and not the keytab; the folder is there before the key, made once."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    recipe = text.partition("*Apache's mod_md*")[2].partition("MDCertificateAgreement")[0]
    blocks = [textwrap.dedent(block) for block in re.findall(r"```\n(.*?)```", recipe, re.DOTALL)]
    assert not any(line.startswith("ipa-getkeytab") for block in blocks for line in block.splitlines())
    for path in ("/etc/certhooks", "/var/lib"):
        blocks = [block.replace(path, f"{tmp_path}{path}") for block in blocks]
    (tmp_path / "var/lib").mkdir(parents=True)
    script = (
        'set -e; umask 077; chown() { :; }; install() { command install $(echo "$*" | sed s/-o.www-data//); }\n'
        f"ipa_dns() {{ echo key > {tmp_path}/etc/certhooks/md.keytab; }}\n"
    )
    done = subprocess.run(["/bin/sh", "-c", script + "".join(blocks)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    modes = {path.name: path.stat().st_mode & 0o777 for path in tmp_path.glob("*/*/*")}
    modes |= {path.name: path.stat().st_mode & 0o777 for path in tmp_path.glob("etc/*")}
    assert modes == {"md.ini": 0o644, "md.keytab": 0o600, "certhooks": 0o755, "certhooks-md": 0o700}
    assert (tmp_path / "etc/certhooks/md.ini").read_text() == f"[ipa]\nkeytab = {tmp_path}/etc/certhooks/md.keytab\n"
