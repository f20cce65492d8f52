"""The readme shows the help that the commands give."""

from __future__ import annotations

import importlib
import re
import sys
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
