"""The command that a new certificate's files are handed to: no shell reads it, and its end is looked at."""

from __future__ import annotations

import shlex
import subprocess
from typing import TYPE_CHECKING

from certhooks.errors import ActivationError, DeadlineError, UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from certhooks.cli import Screen


_STDERR = 2


def run(command: str, files: Mapping[str, str], screen: Screen, timeout: float) -> int:
    """Run the command with its placeholders filled in; nothing to do where none is set.

    What it prints goes to standard error: dehydrated's standard output is not ours.

    Raises:
        UsageError: it cannot be started, or has an unknown placeholder. ActivationError: it failed. DeadlineError.
    """
    if not command:
        return 0
    try:
        argv = [word.format_map(files) for word in shlex.split(command)]
    except (ValueError, KeyError, IndexError, AttributeError) as e:
        raise UsageError(
            f"the install command cannot be read: {e}",
            hint="placeholders are " + ", ".join(f"{{{name}}}" for name in files),
        ) from None
    if not argv:
        return 0
    screen.tell(files["domain"], f"running {argv[0]}")
    try:
        done = subprocess.run(argv, stdin=subprocess.DEVNULL, stdout=_STDERR, check=False, timeout=timeout)
    except OSError as e:
        raise UsageError(f"the install command {argv[0]} cannot be run: {e.strerror or e}") from None
    except subprocess.TimeoutExpired:
        raise DeadlineError(f"the install command {argv[0]} did not end within {timeout:g} s") from None
    if done.returncode:
        raise ActivationError(
            f"the install command for {files['domain']} failed: {argv[0]} (exit status {done.returncode})",
            hint=f"the certificate is in {files['fullchain']}; run the command again by hand",
        )
    return 0
