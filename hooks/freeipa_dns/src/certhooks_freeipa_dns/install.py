"""The command that a new certificate's files are handed to: no shell reads it, and its end is looked at.

It may be in the middle of a device's commit: it is asked to stop and given time for its way back, before it is killed.
"""

from __future__ import annotations

import shlex
import signal
import subprocess
import time
from typing import TYPE_CHECKING

from certhooks.errors import ActivationError, DeadlineError, UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from certhooks.cli import Screen


_STDERR = 2
_SIGNALS = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}
_WAY_BACK = 600.0  # seconds after SIGTERM; pan_instcert takes up to 5 minutes to put back what was there before


def run(command: str, files: Mapping[str, str], screen: Screen, timeout: float) -> int:
    """Run the command with its placeholders filled in; nothing to do where none is set.

    What it prints goes to standard error: dehydrated's standard output is not ours. After ``timeout`` seconds (0:
    never), Ctrl-C, SIGTERM or SIGHUP it gets SIGTERM, and its end is waited for.

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
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)  # until there is somebody to pass them on to
    try:
        # In a session of its own Ctrl-C reaches it once, through us: a second signal might cut its way back short.
        process = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=_STDERR,
            start_new_session=True,
            preexec_fn=lambda: signal.pthread_sigmask(signal.SIG_SETMASK, before),  # noqa: PLW1509  no threads here
        )
    except OSError as e:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        raise UsageError(f"the install command {argv[0]} cannot be run: {e.strerror or e}") from None
    try:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        status = process.wait(timeout or None)
    except subprocess.TimeoutExpired:
        _stop(process)
        raise DeadlineError(
            f"the install command {argv[0]} did not end within {timeout:g} s and was told to stop",
            hint=f"the certificate is in {files['fullchain']}; run it again by hand; install_timeout gives it longer",
        ) from None
    except BaseException:
        screen.tell(files["domain"], f"telling {argv[0]} to stop, and waiting for its end")
        _stop(process)
        raise
    if status:
        raise ActivationError(
            f"the install command for {files['domain']} failed: {argv[0]} (exit status {status})",
            hint=f"the certificate is in {files['fullchain']}; run the command again by hand",
        )
    return 0


def _stop(process: subprocess.Popen[bytes]) -> None:
    """Ask the command to stop and wait for its end, whatever signals come meanwhile; kill it only long after that."""
    process.terminate()
    until = time.monotonic() + _WAY_BACK
    while process.poll() is None:
        try:
            process.wait(max(until - time.monotonic(), 0.0))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        except KeyboardInterrupt:  # Ctrl-C once more: it is stopping already
            continue
