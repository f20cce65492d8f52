"""What every ``*_instcert`` does: load the certificate that its options name, push it to the devices, and tell."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Callable, NamedTuple, Optional, Union

from certhooks import address, cli, enrol, rounds
from certhooks.errors import BundleError, CertmongerError, Error, UnreachableError, UsageError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence
    from pathlib import Path

    from certhooks.address import Address
    from certhooks.bundle import Bundle
    from certhooks.deploy import Options
    from certhooks.journal import Journal
    from certhooks.order import Order
    from certhooks.target import AnyTarget
    from certhooks.trust import Contexts

    Prepared = tuple[Union[Bundle, Order], Callable[[Contexts], Sequence[AnyTarget[Any]]]]


class Place(NamedTuple):
    """Where the certificate is to go: an address, the lock's name of the device there, the journal's of the target.

    ``served``: whether the address itself serves the certificate afterwards, as far as that is known without asking.
    ``slots`` of the device are what only one certificate can have at a time, where that is not the whole target.
    """

    address: Address
    device: str
    target: str
    served: bool = False
    slots: tuple[str, ...] = ()


def add_common_name(made: argparse.ArgumentParser) -> None:
    """Add ``-c``, which install commands and ``*_getcert`` share."""
    made.add_argument("-c", dest="common_name", metavar="CERT_CN", help="common name of the certificate (required)")


def add_source_options(made: argparse.ArgumentParser) -> None:
    """Add the options that say where the certificate comes from; the short ones are those of the bash scripts."""
    source = made.add_argument_group("the certificate")
    source.add_argument(
        "-b", "--blind", action="store_true", help="take the files as they are, without asking certmonger"
    )
    source.add_argument(
        "-C", "--cert-dir", type=cli.path, metavar="DIR", help=f"directory or file (default {enrol.CERT_DIR})"
    )
    source.add_argument(
        "-K", "--key-dir", type=cli.path, metavar="DIR", help=f"directory or file (default {enrol.KEY_DIR})"
    )
    source.add_argument(
        "--pkcs12", type=cli.path, metavar="FILE", help="take key, certificate and chain from PKCS#12 (as -b)"
    )
    source.add_argument("--passphrase-file", type=cli.path, metavar="FILE", help="opens an encrypted key or PKCS#12")


def common_name(args: argparse.Namespace) -> str:
    """Return what ``-c`` says.

    Raises:
        UsageError: it is missing; BadNameError: it is no name.
    """
    if not args.common_name:
        raise UsageError("-c is missing: the common name of the certificate", hint=f"{args.prog} --help")
    return address.common_name(args.common_name)


def addresses(given: Sequence[str], example: str) -> list[Address]:
    """Return the addresses that the words name, each once.

    Raises:
        UnreachableError: one is no address, or there is none; ``example`` shows what to type.
    """
    found = list(dict.fromkeys(map(address.parse, given)))
    if not found:
        raise UnreachableError("no device given", hint=example)
    return found


def load(args: argparse.Namespace, screen: cli.Screen) -> Bundle:
    """Load the pair that the options name, checked against the calendar and ``-c``.

    Raises:
        BundleError: the files; CertmongerError: not tracked, or not issued yet.
    """
    from certhooks import sources

    name = common_name(args)
    passphrase = _passphrase(args.passphrase_file)
    if args.pkcs12:
        bundle = sources.from_pkcs12(args.pkcs12, passphrase)
    else:
        cert_dir, key_dir = args.cert_dir or enrol.CERT_DIR, args.key_dir or enrol.KEY_DIR
        if args.blind:
            bundle = sources.from_location(name, cert_dir, key_dir, passphrase=passphrase)
        else:
            bundle = _tracked(name, cert_dir, key_dir, passphrase, screen, given=bool(args.cert_dir))
    bundle.check(names=(name,))
    return bundle


def push(
    args: argparse.Namespace,
    screen: cli.Screen,
    places: Sequence[Place],
    prepare: Callable[[], Prepared],
    *,
    stage_only: bool = False,
) -> int:
    """Push to all places, tell how it ended on each, and return the exit code.

    ``prepare`` returns the bundle or order, and what makes the targets once there is a TLS context for each address.
    What it raises goes into the journal of each place, since nobody may be watching.
    """
    from certhooks import deploy, journal

    trusted = cli.trust(args)
    options = cli.push_options(args, stage_only=stage_only)
    books = journal.Journal(args.state_dir or journal.DEFAULT)
    cli.end_at_last(args.timeout)
    try:
        bundle, targets = prepare()
        rounds.check(books, places, bundle.fingerprint, time.time())
    except Error as e:
        if not args.dry_run:
            _note(books, places, e, options)
        raise
    names = {place.address: place.target for place in places}
    # The intermediates too: a device may serve the new leaf alone.
    contexts = trusted.contexts(
        [*bundle.roots_pem, *([bundle.chain_pem] if bundle.roots and bundle.chain else [])],
        bundle.leaf_pem,
        lambda where: books.record(names.get(where, str(where))).brought(),
    )
    deployment = deploy.Deployment(bundle, books, options, cli.teller(screen), screen.warn)
    try:
        deployment.run(targets(contexts))
    except KeyboardInterrupt:
        ended = [result for result in deployment.results if result.message]
        cli.report(screen, ended, as_json=args.json, verbose=args.verbose)
        raise
    return cli.report(screen, deployment.results, as_json=args.json, verbose=args.verbose)


def _tracked(
    name: str, cert_dir: Path, key_dir: Path, passphrase: Optional[bytes], screen: cli.Screen, *, given: bool
) -> Bundle:
    """Load what certmonger tracks: by the file that -C and -c name, else the one request for this name."""
    from certhooks import sources
    from certhooks.certmonger import Certmonger

    with Certmonger.open() as certmonger:
        try:
            cert, _ = sources.locate(name, cert_dir, key_dir)
            request = certmonger.by_cert_file(str(cert))
        except BundleError:
            request = None
        if request is None and not given:
            request = certmonger.by_common_name(name)
    if request is None:
        raise CertmongerError(
            f"certmonger tracks no certificate for {name} in {cert_dir}",
            hint="getcert list shows what it tracks; -b takes files that it does not track",
        )
    if request.cert is None:
        request.check()
        raise CertmongerError(
            f"the certificate for {name} is not issued yet: {request.describe()}",
            hint=f"wait for it: getcert list -i {request.nickname}",
        )
    if request.ca_error:
        screen.warn(f"certmonger's last renewal failed: {request.ca_error}; installing the certificate that there is")
    return sources.from_request(request, passphrase=passphrase)


def _passphrase(path: Optional[Path]) -> Optional[bytes]:
    from certhooks.secrets import Secret, read_private

    if path is None:
        return None
    lines = read_private(path).splitlines()
    return Secret(lines[0]).reveal().encode() if lines else b""


def _note(books: Journal, places: Sequence[Place], error: Error, options: Options) -> None:
    """Write a failure that happened before any device was asked into each device's journal."""
    from certhooks.deadline import Deadline
    from certhooks.errors import BusyError, StateError
    from certhooks.journal import UNDONE, Attempt
    from certhooks.secrets import redact

    for place in places:
        # A run that holds the device writes this journal itself; and the failure itself is what has to be told.
        with suppress(BusyError, StateError), books.lock(place.device, Deadline(1)):
            record = books.record(place.target)
            command = [redact(word) for word in options.command]
            attempt = record.begin(Attempt(fingerprint="", command=command, cwd=options.cwd))
            record.end(attempt, UNDONE, error.exit_code, str(error))
