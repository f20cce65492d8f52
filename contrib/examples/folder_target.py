#!/usr/bin/env python3
"""A whole target in one file: a folder whose link ``current`` leads to the certificate in use, and a command to reload.

    folder_target.py -c www.example.com -C /etc/letsencrypt/live -K /etc/letsencrypt/live \
        --reload "nginx -s reload" --probe www.example.com /srv/tls/www

It runs with the Python of an environment that has certhooks. ``contrib/adding-a-target.md`` walks through it.
"""

from __future__ import annotations

import os
import shlex
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Optional

from certhooks import address, cli, deploy, journal, sources
from certhooks.errors import ActivationError, UploadRefusedError, UsageError
from certhooks.target import Inspection, Needs, Target, Undone

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from certhooks.bundle import Bundle

PROG = "folder_target.py"


class FolderTarget(Target):
    """``FOLDER/FINGERPRINT/{fullchain,privkey}.pem``, of which ``FOLDER/current`` names the one in use."""

    def __init__(self, folder: Path, reload: Sequence[str] = ()) -> None:
        self.folder = folder
        self.name = self.device = f"folder {folder}"  # the journal's key and the lock's: the same at each renewal
        self.label = str(folder)
        self._current = folder / "current"
        self._reload = reload
        self._before: Optional[str] = None
        self._activated = False

    def needs(self) -> Needs:
        """Return what certificates the service takes: RSA and EC."""
        return Needs(key_types=("rsa", "ec"))

    def inspect(self, bundle: Bundle) -> Inspection:
        """Look where the link leads."""
        self._before = str(self._current.readlink()) if self._current.is_symlink() else None
        if self._before == bundle.fingerprint:
            return Inspection(changes=())
        return Inspection(changes=(f"lead {self._current} to the certificate {bundle.fingerprint[:16]}",))

    def install(self, bundle: Bundle) -> None:
        """Write the new pair beside the old one; what is in use does not change."""
        place = self.folder / bundle.fingerprint
        try:
            place.mkdir(mode=0o700, parents=True, exist_ok=True)
            _write(place / "fullchain.pem", (bundle.leaf_pem + bundle.chain_pem).encode())
            _write(place / "privkey.pem", bundle.key_pem())
        except OSError as e:
            raise UploadRefusedError(f"cannot write {place}: {e.strerror}", hint="run as root, or make room") from e

    def activate(self, bundle: Bundle) -> None:
        """Turn the link, in one step, and have the service read it."""
        self._activated = True
        self._turn(bundle.fingerprint)

    def rollback(self) -> Undone:
        """Turn the link back to where it led before; without one there is nothing to go back to."""
        if not self._activated:
            return Undone.CLEAN
        if self._before is None:
            return Undone.KEPT
        self._turn(self._before)
        return Undone.RESTORED

    def _turn(self, where: str) -> None:
        new = self.folder / ".current.new"
        new.unlink(missing_ok=True)
        new.symlink_to(where)
        new.replace(self._current)
        if self._reload:
            done = subprocess.run(self._reload, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
            if done.returncode:
                said = (done.stderr or done.stdout).strip()
                raise ActivationError(
                    f"{shlex.join(self._reload)} ended with {done.returncode}: {said}",
                    hint="mend that, then run the same command again",
                )


def parser() -> argparse.ArgumentParser:
    """Return the parser: the options that all commands share, and our own."""
    made = cli.parser(PROG, "Puts a certificate into a folder.", examples=f"  {PROG} -c www.example.com /srv/tls/www\n")
    made.add_argument("folders", nargs="+", type=Path, metavar="FOLDER")
    made.add_argument("-c", dest="common_name", required=True, metavar="CERT_CN")
    made.add_argument("-C", dest="certs", type=Path, default="/etc/ssl/certs", metavar="DIR", help="directory or file")
    made.add_argument("-K", dest="keys", type=Path, default="/etc/ssl/private", metavar="DIR", help="directory or file")
    made.add_argument("--reload", default="", metavar="COMMAND", help="run after the link was turned, without a shell")
    cli.add_push_options(made)
    return made


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Run the command and return its exit code."""
    return cli.run(PROG, _install, parser, argv)


def _install(args: argparse.Namespace, screen: cli.Screen) -> int:
    common_name = address.common_name(args.common_name)
    bundle = sources.from_location(common_name, args.certs, args.keys)
    bundle.check(names=(common_name,))
    try:
        command = shlex.split(args.reload)
    except ValueError as e:
        raise UsageError(f"--reload: {e}".lower()) from e
    targets = [FolderTarget(folder.absolute(), command) for folder in args.folders]
    options = cli.push_options(args)
    books = journal.Journal(args.state_dir or journal.DEFAULT)
    results = deploy.Deployment(bundle, books, options, cli.teller(screen)).run(targets)
    return cli.report(screen, results, as_json=args.json, verbose=args.verbose)


def _write(path: Path, data: bytes) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(data)


if __name__ == "__main__":
    cli.entry(main)
