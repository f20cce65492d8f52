"""Configuration files in INI form: read once, refused where others can read or write too much."""

from __future__ import annotations

from typing import TYPE_CHECKING

from certhooks import secrets
from certhooks.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from pathlib import Path


def read(
    path: Path, known: Mapping[str, Collection[str]], *, secret: Collection[str], example: str
) -> dict[str, dict[str, str]]:
    """Return the settings of each section, of which ``known`` names all that there may be.

    A file with one of the ``secret`` settings may be read by its owner alone; ``example`` is shown in the hint.

    Raises:
        UsageError: it is no INI file, or has a section or setting that is not known, which is named; no value is.
        CredentialsError: it cannot be read, others may write it, or read a secret in it.
    """
    import configparser

    def mentions_secret(text: str) -> bool:
        return any(line.partition("=")[0].partition(":")[0].strip().lower() in secret for line in text.splitlines())

    # No interpolation: passwords and placeholders have signs of their own. No section "DEFAULT" either.
    parser = configparser.ConfigParser(interpolation=None, default_section="")
    text = secrets.read_private(path, holds_secret=mentions_secret)
    try:
        parser.read_string(text, str(path))
    except configparser.Error as e:
        told = " ".join(str(e).splitlines()[:1])  # further lines would quote the file
        raise UsageError(f"{path} is no INI file: {told}{_line(e)}", hint=f"see {example}") from None
    found: dict[str, dict[str, str]] = {}
    for section in parser.sections():
        if section not in known:
            raise UsageError(f"{path} has an unknown section [{section}]", hint=f"known: {', '.join(known)}")
        found[section] = dict(parser.items(section))
        for key in found[section]:
            if key not in known[section]:
                raise UsageError(f"{path} has an unknown setting {key!r}", hint=f"known: {', '.join(known[section])}")
    return found


def _line(error: Exception) -> str:
    """Return where the error is, if the parser says so in lines that are not shown."""
    at = [number for number, _text in getattr(error, "errors", ())] or [getattr(error, "lineno", None)]
    return f" (line {at[0]})" if at[0] and "line" not in str(error).partition("\n")[0] else ""
