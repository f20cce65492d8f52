"""Everything that people type to install the project works, from the tracked files alone.

The outside packages are fetched once into a folder beside the tools; after that pip has no index here, so that a build
that asked one for the name of a distribution of ours would fail.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import tarfile
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import certhooks

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).resolve().parents[2]
TOOLS = ROOT / ".venv-packaging"
PYTHON = TOOLS / "bin" / "python"
OUTSIDE = [
    *("cryptography", "dnspython", "idna", "jeepney", "pan-python", "python-freeipa", "pyvmomi"),  # to run with
    *("hatchling>=1.27", "editables"),  # to build with
]
MEMBERS = ["lib", *(f"hooks/{path.parent.name}" for path in sorted(ROOT.glob("hooks/*/pyproject.toml")))]
FOLDERS = {".": "certhooks_umbrella", **{folder: folder.replace("hooks/", "certhooks_") for folder in MEMBERS}}
FOLDERS["lib"] = "certhooks"


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Copy the tracked files, so that nothing that lies about in the working tree can help a build."""
    folder = tmp_path_factory.mktemp("checkout")
    for name in run("git", "-C", ROOT, "ls-files", "-z").split("\0"):
        if name and (ROOT / name).exists():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    return folder


@pytest.fixture(scope="module")
def offline(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Return an environment in which pip finds the outside packages and has no index; fetch them if need be."""
    if not PYTHON.exists():
        pytest.skip(f"no {TOOLS.name}: tests/run packaging makes it")
    wheels = TOOLS.resolve() / "wheels"
    with (TOOLS.resolve() / "wheels.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not wheels.exists():
            new = wheels.with_name("wheels-new")
            shutil.rmtree(new, ignore_errors=True)
            run(PYTHON, "-m", "pip", "wheel", "-q", "-w", new, *OUTSIDE)
            new.rename(wheels)
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path_factory.mktemp("home")),
        "PIP_CONFIG_FILE": os.devnull,
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "PIP_NO_INDEX": "1",
        "PIP_FIND_LINKS": str(wheels),
    }


@pytest.fixture
def install(tmp_path: Path, offline: dict[str, str], checkout: Path) -> Callable[..., Path]:
    """Return what installs with pip into a fresh environment and returns the environment."""

    def made(*words: str | Path) -> Path:
        venv = tmp_path / "venv"
        run(PYTHON, "-m", "venv", "--without-pip", venv)
        pip: list[str | Path] = [PYTHON, "-m", "pip", "--python", venv / "bin" / "python", "install", "-q"]
        run(*pip, *words, env=offline, cwd=checkout)
        return venv

    return made


@pytest.fixture(scope="module")
def dist(checkout: Path, offline: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build every distribution: a source archive, and from that, not from the folder, the wheel."""
    folder = tmp_path_factory.mktemp("dist")
    for each in FOLDERS:
        run(PYTHON, "-m", "build", "--outdir", folder, each, env=offline, cwd=checkout)
    return folder


def run(*words: str | Path, **settings: Any) -> str:
    """Return what a command prints, which must succeed."""
    argv = [str(word) for word in words]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL, **settings)
    assert done.returncode == 0, f"{argv}\n{done.stdout}\n{done.stderr}"
    return str(done.stdout)


def listing(folder: Path) -> set[str]:
    """Return the names of all files and folders below a folder."""
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def check_commands(venv: Path) -> None:
    """Hold that the commands start, as certmonger starts them: with next to no environment, anywhere."""
    clean: dict[str, Any] = {"env": {"PATH": "/usr/bin:/bin", "PYTHONDONTWRITEBYTECODE": "1"}, "cwd": "/"}
    assert run(venv / "bin" / "pan_instcert", "--version", **clean).startswith(f"pan_instcert {certhooks.__version__} ")
    assert run(venv / "bin" / "pan_getcert", "--help", **clean).startswith("usage: pan_getcert ")
    for path in (*(venv / "bin").glob("vcenter_*"), *(venv / "bin").glob("esxi_*")):
        assert run(path, "--help", **clean).startswith(f"usage: {path.name} ")
    for path in (venv / "bin").glob("ipa_dns*"):
        assert run(path, "--help", **clean).startswith(f"usage: {path.name} ")


@pytest.mark.parametrize(
    "words", [["."], ["-e", "."], ["./lib", "./hooks/pan", "./hooks/vcenter", "./hooks/freeipa_dns"]], ids=" ".join
)
def test_pip_install(words: list[str], install: Callable[..., Path], checkout: Path) -> None:
    """Pip installs commands that start, and leaves nothing in the checkout."""
    before = listing(checkout)
    venv = install(*words)
    assert listing(checkout) == before
    check_commands(venv)


def test_editable_install_runs_the_checkout(install: Callable[..., Path], checkout: Path) -> None:
    """After ``pip install -e .`` a change of a source file is what runs."""
    venv = install("-e", ".")
    say = "import certhooks, certhooks_pan; print(certhooks.__file__, certhooks_pan.__file__)"
    where = run(venv / "bin" / "python", "-B", "-c", say)
    for path in where.split():
        assert checkout in Path(path).parents


def test_hook_and_library_install_from_their_wheels(install: Callable[..., Path], dist: Path) -> None:
    """A hook's wheel finds the library's beside it, without any index."""
    venv = install("--no-index", "--find-links", dist, "certhooks-pan")
    check_commands(venv)
    packages = {path.name for path in venv.glob("lib/python3*/site-packages/certhooks*")}
    version = certhooks.__version__
    assert packages == {
        "certhooks", "certhooks_pan", f"certhooks-{version}.dist-info", f"certhooks_pan-{version}.dist-info"
    }  # fmt: skip


def test_hook_without_the_library_is_refused(install: Callable[..., Path]) -> None:
    """Without an index nothing of ours comes from elsewhere: the hook alone cannot be installed."""
    with pytest.raises(AssertionError, match="No matching distribution found for certhooks=="):
        install("./hooks/pan")


@pytest.mark.parametrize("folder", FOLDERS)
def test_distribution_is_complete(folder: str, dist: Path, checkout: Path) -> None:
    """Source archive and wheel carry the licence; the wheel holds the sources with their type marker and no more."""
    stem = f"{FOLDERS[folder]}-{certhooks.__version__}"
    licence = (checkout / "LICENSE").read_bytes()
    with tarfile.open(dist / f"{stem}.tar.gz") as archive:
        packed = archive.extractfile(f"{stem}/LICENSE")
        assert packed
        assert packed.read() == licence
    with zipfile.ZipFile(dist / f"{stem}-py3-none-any.whl") as wheel:
        assert wheel.read(f"{stem}.dist-info/licenses/LICENSE") == licence
        modules = {name for name in wheel.namelist() if ".dist-info/" not in name}
    sources = [checkout / each / "src" for each in (MEMBERS if folder == "." else [folder])]
    assert modules == {
        str(path.relative_to(source)) for source in sources for path in source.rglob("*") if path.is_file()
    }
    assert f"{next(iter(modules)).partition('/')[0]}/py.typed" in modules


def test_uv_sync(checkout: Path, tmp_path: Path, offline: dict[str, str]) -> None:
    """``uv sync`` makes an environment with the commands and the developers' tools, in one step."""
    assert offline
    copy = tmp_path / "checkout"
    shutil.copytree(checkout, copy)
    venv = copy / ".venv"
    env = {key: value for key, value in os.environ.items() if key != "VIRTUAL_ENV"}
    env["UV_CACHE_DIR"] = str(TOOLS.resolve() / "uv-cache")
    sync = [str(TOOLS / "bin" / "uv"), "sync", "--quiet", "--extra", "dev", "--python", str(PYTHON.resolve())]
    warm = subprocess.run([*sync, "--offline"], cwd=copy, env=env, capture_output=True, check=False)
    if warm.returncode:  # the first time, or something newer is asked for
        run(*sync, cwd=copy, env=env)
    check_commands(venv)
    assert run(venv / "bin" / "python", "-c", "import mypy, pytest; print('there')") == "there\n"
    assert listing(copy) - listing(checkout) - {"uv.lock"} == {".venv"} | {f".venv/{name}" for name in listing(venv)}
