"""The getcert command, for the one thing that D-Bus does not do as well: adding and reshaping requests.

getcert checks files, fills in the realm and labels; reading and waiting go over D-Bus (``certhooks.certmonger``).
Never call it without knowing that the bus answers: run as root without a bus it starts a certmonger of its own and
exits 0 whatever happened.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Optional

from certhooks.errors import CertmongerError

if TYPE_CHECKING:
    from collections.abc import Sequence

GETCERT = Path("/usr/bin/getcert")
_KEPT = ("DBUS_SYSTEM_BUS_ADDRESS", "KRB5_CONFIG")
_HINTS = (
    ("default realm", "is this host enrolled in FreeIPA? ipa-client-install writes /etc/krb5.conf"),
    ("already a request", "see what is tracked with: getcert list"),
    ("is already used", "see what is tracked with: getcert list"),
    ("No CA with name", "see the CAs that certmonger knows with: getcert list-cas"),
    ("No such file or directory", "make the folder first"),
    ("ermission denied", "run it as root; where root is refused too, see: ausearch -m avc -ts recent"),
    ("nsufficient access", "run it as root"),
)


def options(
    *,
    common_name: Optional[str] = None,
    dns_names: Sequence[str] = (),
    ip_addresses: Sequence[str] = (),
    principal: Optional[str] = None,
    post_save: Optional[str] = None,
    profile: Optional[str] = None,
    key_type: Optional[str] = None,
    key_bits: Optional[int] = None,
) -> list[str]:
    """Return getcert's options for a request's properties; ``key_*`` only for a new one."""
    given = [("-N", f"CN={common_name}" if common_name else None), ("-K", principal), ("-C", post_save)]
    given += [("-T", profile), ("-G", key_type), ("-g", str(key_bits) if key_bits else None)]
    given += [("-D", name) for name in dns_names] + [("-A", address) for address in ip_addresses]
    return [word for option, value in given if value is not None for word in (option, value)]


def run(arguments: Sequence[str], *, timeout: float) -> None:
    """Run getcert with ``arguments``; CertmongerError with what it said when it fails or takes ``timeout`` seconds."""
    for word in arguments:
        if "\0" in word or not word:
            raise CertmongerError(f"getcert cannot be given the value {word!a}")
    environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C", "LC_ALL": "C"}
    environment.update({name: os.environ[name] for name in _KEPT if name in os.environ})
    try:
        done = subprocess.run(
            [str(GETCERT), *arguments],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            errors="replace",
            timeout=timeout,
            check=False,
        )
    except FileNotFoundError:
        raise CertmongerError(f"{GETCERT} is not here", hint="install certmonger") from None
    except subprocess.TimeoutExpired:
        raise CertmongerError(
            f"getcert {arguments[0]} did not end within {timeout:g} s", hint="see journalctl -u certmonger"
        ) from None
    except (OSError, UnicodeEncodeError) as error:
        raise CertmongerError(f"cannot run {GETCERT}: {error}") from None
    if done.returncode:
        said = _said(done.stdout)
        hint = next((hint for text, hint in _HINTS if text in said), None)
        raise CertmongerError(f"getcert {arguments[0]}: {said or f'exit status {done.returncode}'}", hint=hint)


def _said(output: str) -> str:
    """Return getcert's message in one line, without the usage text that it likes to add."""
    message = output.partition("getcert - client certificate")[0]
    lines = (line.strip().rstrip(".") for line in message.splitlines())
    return "; ".join(line for line in lines if line)[:500]
