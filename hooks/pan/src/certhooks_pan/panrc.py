"""The API key of a device, from a ``.panrc`` file as pan-python's tools write it.

Only untagged ``name=value`` lines count, from one file, read once; pan-python itself merges several files and searches
for names anywhere in a line.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple, Optional

from certhooks import secrets
from certhooks.errors import CredentialsError
from certhooks.secrets import Secret

DEFAULT = Path("/etc/ipa/.panrc")
_LINE = re.compile(r"\s*([a-z_]+)(?:%([A-Za-z0-9_-]+))?\s*=\s*(\S.*?)\s*\Z")
_EXTENSION = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*\Z")


class Credentials(NamedTuple):
    """An API key, or a user name and password to ask for one."""

    api_key: Optional[Secret] = None
    username: Optional[str] = None
    password: Optional[Secret] = None


def locate(option: Optional[str]) -> Path:
    """Return the file that ``-k`` names: a path, a directory with a ``.panrc``, or the EXT of ``/etc/ipa/.panrc.EXT``.

    Without the option it is the systemd credential ``panrc`` where there is one, else ``/etc/ipa/.panrc``.
    """
    if option is None:
        return secrets.credential("panrc") or DEFAULT
    path = Path(option)
    if path.is_dir():
        return path / ".panrc"
    if path.is_file() or "/" in option:
        return path
    if not _EXTENSION.match(option):
        raise CredentialsError(f"not a key file or extension: {option[:80]!r}", hint="-k FILE, -k DIR or -k EXT")
    return DEFAULT.with_name(f"{DEFAULT.name}.{option}")


def read(path: Path) -> Credentials:
    """Return the credentials in a file.

    Raises:
        CredentialsError: it cannot be read, others can read it, or there is no key in it.
    """
    found: dict[str, str] = {}
    tags: set[str] = set()
    for line in secrets.read_private(path).splitlines():
        match = None if line.startswith("#") else _LINE.match(line)
        if match and match[2]:
            tags.add(match[2])
        elif match:
            found[match[1]] = match[3]
    if key := found.get("api_key"):
        return Credentials(_header_safe(Secret(key), f"the api_key in {path}"), found.get("api_username"))
    if command := found.get("api_key_command"):
        key_printed = _header_safe(secrets.from_command("api_key_command", command), "what the api_key_command prints")
        return Credentials(key_printed, found.get("api_username"))
    if found.get("api_username") and found.get("api_password"):
        return Credentials(None, found["api_username"], Secret(found["api_password"]))
    if found.get("api_username") and found.get("password_command"):
        return Credentials(
            None, found["api_username"], secrets.from_command("password_command", found["password_command"])
        )
    if tags:
        raise CredentialsError(
            f"{path} has lines with a tag (%{', %'.join(sorted(tags))}) but no plain api_key= line",
            hint="write api_key=KEY, and keep keys for different devices in files of their own (-k EXT)",
        )
    raise CredentialsError(
        f"no api_key= line in {path}",
        hint="write api_key=KEY, or api_username= and api_password=; the readme's First use shows how a key is made",
    )


def _header_safe(key: Secret, what: str) -> Secret:
    text = key.reveal()
    if not (text.isascii() and text.isprintable() and " " not in text):
        raise CredentialsError(f"{what} has characters that no key has", hint="it is one line of letters, digits and =")
    return key
