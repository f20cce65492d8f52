"""The man pages say what the commands say, and man has nothing to complain about."""

from __future__ import annotations

import argparse
import importlib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from certhooks import errors

ROOT = Path(__file__).resolve().parents[2]
COMMANDS = {
    "certhooks": "certhooks.watch.tool",
    "esxi_instcert": "certhooks_vcenter.esxi_instcert",
    "ipa_dns": "certhooks_freeipa_dns.ipa_dns",
    "ipa_dns_certbot": "certhooks_freeipa_dns.certbot_hook",
    "ipa_dns_dehydrated": "certhooks_freeipa_dns.dehydrated",
    "ipa_dns_lego": "certhooks_freeipa_dns.lego",
    "ipa_dns_md": "certhooks_freeipa_dns.md",
    "pan_getcert": "certhooks_pan.getcert",
    "pan_instcert": "certhooks_pan.instcert",
    "vcenter_getcert": "certhooks_vcenter.getcert",
    "vcenter_instcert": "certhooks_vcenter.instcert",
}


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the pages once, from the checkout alone: ``-I -S`` hides the environment that the tests run in."""
    folder = tmp_path_factory.mktemp("man")
    script = str(ROOT / "packaging" / "man" / "build")
    done = subprocess.run(
        [sys.executable, "-I", "-S", script, str(folder)], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    return folder


def plain(page: Path) -> str:
    """Return the page's text without roff's fonts and escapes."""
    text = re.sub(r"\\f[BIR]", "", page.read_text(encoding="utf-8"))
    return text.replace(r"\-", "-").replace(r"\&", "").replace(r"\e", "\\")


def test_every_command_has_a_page(pages: Path) -> None:
    """The pages are those of the commands that the umbrella installs."""
    scripts = re.search(
        r"^\[project\.scripts\]\n(.+?)\n\n", (ROOT / "pyproject.toml").read_text(), re.MULTILINE | re.DOTALL
    )
    assert scripts
    assert sorted(line.split()[0] for line in scripts[1].splitlines()) == sorted(COMMANDS)
    assert sorted(page.name for page in pages.iterdir()) == sorted(f"{command}.8" for command in COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_option_stands_in_the_page(command: str, pages: Path) -> None:
    """Each option has an entry with all its forms and its whole help text."""
    entries = [entry.splitlines() for entry in plain(pages / f"{command}.8").split(".TP\n")]
    parser: argparse.ArgumentParser = importlib.import_module(COMMANDS[command]).parser()
    formatter = parser._get_formatter()
    actions = list(parser._actions)
    known = {action.dest for action in actions}
    for choices in [action.choices for action in actions if isinstance(action, argparse._SubParsersAction)]:
        actions += [each for made in choices.values() for each in made._actions if each.dest not in known]
    assert len(actions) > 10
    for action in actions:
        forms = action.option_strings or [str(action.metavar)]
        found = [e for e in entries if [form.split()[0] for form in e[0].split(", ")] == forms]
        assert formatter._expand_help(action) in [entry[1] for entry in found]


@pytest.mark.parametrize("command", COMMANDS)
def test_exit_status_is_that_of_the_errors(command: str, pages: Path) -> None:
    """The page names the exit codes that the help names, all errors' among them, and no other number."""
    section = plain(pages / f"{command}.8").partition(".SH EXIT STATUS\n")[2].partition(".SH ")[0]
    headings = re.findall(r"^\.BR? (.+)$", section, re.MULTILINE)
    told = {int(number) for heading in headings for number in re.findall(r"\d+", heading)}
    epilog = importlib.import_module(COMMANDS[command]).parser().epilog
    assert told == {int(word) for word in re.findall(r"\d+", epilog.partition("exit status:")[2])}
    if command.startswith("pan_"):
        kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.Error)]
        assert {kind.exit_code for kind in kinds} < told


@pytest.mark.parametrize("command", COMMANDS)
def test_page_has_the_usual_sections(command: str, pages: Path) -> None:
    """A reader finds the sections that man pages have, in their order."""
    found = re.findall(r"^\.SH (.+)$", (pages / f"{command}.8").read_text(encoding="utf-8"), re.MULTILINE)
    usual = "NAME SYNOPSIS DESCRIPTION OPTIONS EXIT_STATUS FILES EXAMPLES SEE_ALSO"
    assert found == [name.replace("_", " ") for name in usual.split()]


@pytest.mark.skipif(not shutil.which("man"), reason="man is not here")
@pytest.mark.parametrize("command", COMMANDS)
def test_man_has_no_complaint(command: str, pages: Path) -> None:
    """Man formats the page without a warning."""
    env = {"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8", "MANWIDTH": "80"}
    words = ["man", "--warnings", "-E", "UTF-8", "-l", str(pages / f"{command}.8")]
    done = subprocess.run(words, capture_output=True, text=True, env=env, check=False, stdin=subprocess.DEVNULL)
    assert (done.returncode, done.stderr) == (0, "")
    assert "EXIT STATUS" in done.stdout
