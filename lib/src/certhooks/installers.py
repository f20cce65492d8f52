"""Which install command a stored command line is, and what it would do: told without asking any device.

Each hook names its commands under the entry point group ``certhooks.installers``, as modules with ``parser()`` and
``places(args)``. A command counts as ours by its file name, wherever it lies: the bash scripts had the same names.
"""

from __future__ import annotations

import re
from contextlib import redirect_stdout
from functools import cache
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Optional

from certhooks.errors import BadNameError, BundleError, UsageError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from certhooks.install import Place

GROUP = "certhooks.installers"
_USUAL = re.compile(r"(apic|esxi|files|pan|vcenter|vmw)_instcert\Z")
_ASSIGNMENT = re.compile(r"[A-Za-z_][A-Za-z0-9_]*=")


class Plan(NamedTuple):
    """What an install command would do.

    Args:
        common_name: of the certificate; empty where the device makes key and request itself.
        tracked: whether the certificate is taken from certmonger, else from files.
        file: where the certificate lies; None where it is not there, or the device makes it.
        places: the targets.
        probes: where it has to be served too, as the user wrote it.
        forced: whether it installs again what is installed.
        timeout: the command's own deadline in seconds.
        state_dir: the journal that it writes, if it is not the default one.
    """

    common_name: str
    tracked: bool
    file: Optional[Path]
    places: tuple[Place, ...]
    probes: tuple[str, ...]
    forced: bool
    timeout: float
    state_dir: Optional[Path]


def recognise(command: Sequence[str]) -> Optional[tuple[str, list[str]]]:
    """Return the name of the install command and its own words, None where the command is none.

    What may stand before it: ``env`` with ``-i``, ``-u`` and variables, and an interpreter with ``-m`` or the script.
    """
    words = list(command)
    while words and Path(words[0]).name == "env":
        words = words[1:]
        while words and (words[0].startswith("-") or _ASSIGNMENT.match(words[0])):
            words = words[2 if words[0] in {"-u", "--unset"} else 1 :]
    if words and re.match(r"python[0-9.]*\Z", Path(words[0]).name):
        words = words[1:]
        while words and words[0].startswith("-") and words[0] != "-m":
            words = words[1:]
        if words[:1] == ["-m"]:
            module = words[1] if len(words) > 1 else ""
            names = [name for name, value in _known().items() if value == module]
            return (names[0], words[2:]) if names else None
    name = Path(words[0]).name if words else ""
    return (name, words[1:]) if name in _known() or _USUAL.match(name) else None


def plan(name: str, words: Sequence[str], cwd: str = "/") -> Plan:
    """Return what the install command ``name`` would do with these words, started in ``cwd``.

    Raises:
        UsageError: its hook is not installed here or cannot be loaded, or the words are not such a command's.
    """
    module = _module(name)
    parser: argparse.ArgumentParser = _parser(name)
    try:
        with redirect_stdout(StringIO()):
            args = parser.parse_args(list(words))
        idle = bool(args.dry_run)
    except SystemExit:  # --help and --version
        idle = True
    if idle:
        raise UsageError(f"{name} {' '.join(words)[:80]} installs nothing")
    args.prog = name
    places = tuple(module.places(args))
    blind = bool(args.blind or args.pkcs12)
    return Plan(
        common_name=(args.common_name or "").lower(),
        tracked=bool(args.common_name) and not blind,
        file=_file(args, cwd) if args.common_name else None,
        places=places,
        probes=tuple(args.probe),
        forced=args.force,
        timeout=args.timeout,
        state_dir=Path(cwd, args.state_dir) if args.state_dir else None,
    )


def _file(args: argparse.Namespace, cwd: str) -> Optional[Path]:
    """Return where the certificate lies now, if it is there."""
    from certhooks import enrol, sources

    place = Path(cwd, args.pkcs12 or args.cert_dir or enrol.CERT_DIR)
    try:
        return sources.locate_certificate(args.common_name.lower(), place)
    except (BadNameError, BundleError):  # it is not there now: nothing to compare with
        return None


@cache
def _known() -> dict[str, str]:
    """Return the install commands that are installed here, and their modules."""
    from importlib.metadata import entry_points

    found: Any = entry_points()
    ours = found.select(group=GROUP) if hasattr(found, "select") else found.get(GROUP, ())
    return {each.name: each.value for each in ours}


@cache
def _module(name: str) -> Any:
    import importlib

    if name not in _known():
        package = {"vmw": "vcenter", "esxi": "vcenter"}.get(name.partition("_")[0], name.partition("_")[0])
        raise UsageError(
            f"{name} is not installed beside certhooks, so its targets are not known",
            hint=f"install certhooks-{package} into the same environment",
        )
    try:
        return importlib.import_module(_known()[name])
    except ImportError as e:
        raise UsageError(f"{name} cannot be loaded: {e}", hint=f"see: {name} --version") from e


@cache
def _parser(name: str) -> Any:
    return _module(name).parser()
