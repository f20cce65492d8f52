"""The umbrella, the library and the hooks say the same things about themselves."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import certhooks

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib  # pytest brings it where Python has none

ROOT = Path(__file__).resolve().parents[2]
HOOKS = sorted(path.name for path in (ROOT / "hooks").iterdir() if (path / "pyproject.toml").exists())
MEMBERS = ["lib", *(f"hooks/{name}" for name in HOOKS)]
SCRIPTS_OF_ROOT = ["packaging/man/build", "tests/run", ".ci/run"]


def settings(folder: str = ".") -> dict[str, Any]:
    """Return a folder's pyproject.toml."""
    loaded: dict[str, Any] = tomllib.loads((ROOT / folder / "pyproject.toml").read_text(encoding="utf-8"))
    return loaded


def outside(requirements: list[str]) -> list[str]:
    """Return the requirements without our own distributions."""
    return [text for text in requirements if not text.startswith("certhooks")]


def git(*words: str, given: str = "") -> str:
    """Return what git prints about the checkout."""
    done = subprocess.run(["git", "-C", ROOT, *words], input=given, capture_output=True, text=True, check=False)
    assert not done.stderr, done.stderr
    return done.stdout


def test_one_version_everywhere() -> None:
    """Umbrella, library, every hook, the module and the change log name one version."""
    versions = {folder: settings(folder)["project"]["version"] for folder in [".", *MEMBERS]}
    assert set(versions.values()) == {certhooks.__version__}, versions
    changes = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert re.search(rf"^## .*{re.escape(certhooks.__version__)}", changes, re.MULTILINE)


@pytest.mark.parametrize("name", HOOKS)
def test_hook_pins_the_library_of_its_own_version(name: str) -> None:
    """A hook never meets a library of another version."""
    assert f"certhooks=={certhooks.__version__}" in settings(f"hooks/{name}")["project"]["dependencies"]


@pytest.mark.parametrize("name", HOOKS)
def test_hook_is_called_after_its_folder(name: str) -> None:
    """From a hook's folder follow the names of its distribution and of its package."""
    project = settings(f"hooks/{name}")
    assert project["project"]["name"] == f"certhooks-{name.replace('_', '-')}"
    assert project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"] == [f"src/certhooks_{name}"]
    assert (ROOT / "hooks" / name / "src" / f"certhooks_{name}" / "py.typed").exists()


def test_umbrella_and_tools_know_every_hook() -> None:
    """The root's lists, which no tool derives, are those of the folders."""
    tool = settings()["tool"]
    sources = ["lib/src", *(f"hooks/{name}/src" for name in HOOKS)]
    packages = ["certhooks", *(f"certhooks_{name}" for name in HOOKS)]
    wheel = tool["hatch"]["build"]["targets"]["wheel"]
    assert wheel["dev-mode-dirs"] == sources
    assert wheel["packages"] == [f"{source}/{package}" for source, package in zip(sources, packages)]
    assert tool["ruff"]["src"][:-1] == sources
    assert tool["mypy"]["mypy_path"].split(":") == sources
    assert set(sources) <= set(tool["mypy"]["files"])


def test_umbrella_has_every_command() -> None:
    """The umbrella installs the same commands as its members together."""
    scripts: dict[str, str] = {}
    for folder in MEMBERS:
        scripts.update(settings(folder)["project"].get("scripts", {}))
    assert settings()["project"]["scripts"] == scripts


def test_umbrella_needs_what_its_members_need() -> None:
    """The umbrella's dependencies are those of its members together, floors included, and for their Pythons alone."""
    needed = set()
    for folder in MEMBERS:
        project = settings(folder)["project"]
        oldest = project["requires-python"].partition(">=")[2]
        everywhere = project["requires-python"] == settings()["project"]["requires-python"]
        marker = "" if everywhere else f"; python_version >= '{oldest}'"
        needed |= {text + marker for text in outside(project["dependencies"])}
    assert sorted(settings()["project"]["dependencies"]) == sorted(needed)


def test_umbrella_has_every_extra_and_plugin() -> None:
    """What a member offers beside its commands, the umbrella offers too."""
    for folder in MEMBERS:
        project, root = settings(folder)["project"], settings()["project"]
        for extra, packages in project.get("optional-dependencies", {}).items():
            assert root["optional-dependencies"][extra] == packages
        for group, plugins in project.get("entry-points", {}).items():
            assert plugins.items() <= root["entry-points"][group].items()


def test_oldest_constraints_are_the_floors() -> None:
    """What the unit tests run with as the oldest is what the distributions claim to support."""
    lines = (ROOT / "tests" / "oldest-constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = {line.partition("#")[0].strip() for line in lines if line.partition("#")[0].strip()}
    project = settings()["project"]
    floors = [*project["dependencies"], *project["optional-dependencies"]["rich"]]
    assert pins == {text.partition(";")[0].replace(">=", "==") for text in floors}


@pytest.mark.parametrize("folder", MEMBERS)
def test_members_describe_themselves_as_the_umbrella_does(folder: str) -> None:
    """Licence, authors, the oldest Python and the build backend do not differ; the licence's text is a true copy.

    Only the hooks that need python-freeipa ask for a newer Python, because it does.
    """
    own, root = settings(folder), settings()
    for key in ("license", "license-files", "authors"):
        assert own["project"][key] == root["project"][key]
    newer = any(text.startswith("python-freeipa") for text in own["project"]["dependencies"])
    assert own["project"]["requires-python"] == (">=3.10" if newer else root["project"]["requires-python"])
    assert own["build-system"] == root["build-system"]
    assert (ROOT / folder / "LICENSE").read_bytes() == (ROOT / "LICENSE").read_bytes()


def test_packaging_folder_cannot_be_imported() -> None:
    """No module in packaging/ stands in the way of the real ``packaging`` when Python runs in the root folder."""
    assert not list((ROOT / "packaging").rglob("*.py"))


@pytest.mark.parametrize("script", SCRIPTS_OF_ROOT)
def test_scripts_can_be_started(script: str) -> None:
    """The checkout's own scripts are executable and name their interpreter."""
    path = ROOT / script
    assert path.stat().st_mode & 0o111
    assert path.read_text(encoding="utf-8").startswith("#!/usr/bin/env ")


@pytest.mark.skipif(not (ROOT / ".git").exists() or not shutil.which("git"), reason="not a git checkout")
def test_nothing_of_ours_is_ignored() -> None:
    """No pattern of .gitignore hides a file that is tracked, or a new one beside it."""
    tracked = [Path(line) for line in git("ls-files").splitlines()]
    assert tracked
    beside = {path.with_name(f"new{path.suffix}") for path in tracked}
    wanted = "\n".join(str(path) for path in [*tracked, *sorted(beside)])
    assert git("check-ignore", "--no-index", "--stdin", given=wanted) == ""


def test_log_rotation_knows_every_command() -> None:
    """Each command's log is rotated, and no other file."""
    text = (ROOT / "packaging" / "logrotate" / "certhooks").read_text(encoding="utf-8")
    named = re.findall(r"^(/\S+)$", text, re.MULTILINE)
    assert sorted(named) == sorted(f"/var/log/{command}.log" for command in settings()["project"]["scripts"])
