"""``pan_instcert``: put a certificate on Palo Alto firewalls and Panoramas, and make sure that it is in use."""

from __future__ import annotations

import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Callable, Optional

from certhooks import address, cli, enrol
from certhooks.errors import BundleError, CertmongerError, Error, UnreachableError, UsageError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence
    from pathlib import Path
    from ssl import SSLContext

    from certhooks.address import Address
    from certhooks.bundle import Bundle
    from certhooks.journal import Journal
    from certhooks_pan.panrc import Credentials
    from certhooks_pan.target import PanTarget
    from certhooks_pan.wanted import Wish

PROG = "pan_instcert"

_EXAMPLES = """\
  pan_instcert -c gp.example.com -Y -p GP_PORTAL -s GP_GATEWAY fw01.example.com
      what certmonger tracks, to a firewall, bound to two SSL/TLS service profiles
  pan_instcert -b -c gp.example.com -C /etc/letsencrypt/live -K /etc/letsencrypt/live -p GP fw01.example.com fw02
      any pair of files, to an HA pair
  pan_instcert -c gp.example.com -p GP --template Branches --push panorama.example.com
      into a Panorama template, and on to the devices behind it
  pan_instcert -c gp.example.com -p GP --dry-run --cafile device-ca.pem fw01.example.com
      say what would be done
"""


def parser() -> argparse.ArgumentParser:
    """Return the parser; its short options are those of the bash script of the same name."""
    made = cli.parser(
        PROG,
        "Installs a certificate on Palo Alto firewalls and Panorama, binds SSL/TLS service profiles to it, commits "
        "that and nothing else, and checks that it is served.",
        usage="pan_instcert [-hv] -c CERT_CN [-n CERT_NAME] [-Y] [-k KEYFILE|EXT] [-C CERT_DIR] [-K KEY_DIR]\n"
        "                    [-p PROFILE] [-s PROFILE] [-b] [options] FQDN[:PORT] ...",
        examples=_EXAMPLES,
    )
    made.add_argument("devices", nargs="*", metavar="FQDN", help="management addresses of firewalls or Panoramas")
    add_names(made)
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
    add_device_options(made)
    cli.add_push_options(made)
    return made


def add_names(made: argparse.ArgumentParser) -> None:
    """Add the short options that ``pan_getcert`` takes too."""
    made.add_argument("-c", dest="common_name", metavar="CERT_CN", help="common name of the certificate (required)")
    made.add_argument("-n", dest="name", metavar="CERT_NAME", help="its name on the device (default: the common name)")
    made.add_argument("-Y", dest="year", action="store_true", help="append _YYYY, the year it was issued, to the name")
    made.add_argument(
        "-k",
        dest="key_file",
        type=cli.word,
        metavar="KEYFILE|EXT",
        help="API key: a .panrc file, a directory with one, or EXT of /etc/ipa/.panrc.EXT (default /etc/ipa/.panrc)",
    )
    made.add_argument("-p", dest="primary", metavar="PROFILE", help="SSL/TLS service profile to bind to it")
    made.add_argument("-s", dest="secondary", metavar="PROFILE", help="a second one")


def add_device_options(made: argparse.ArgumentParser) -> None:
    """Add the options that say where and how on the device."""
    device = made.add_argument_group("on the device")
    device.add_argument("--vsys", metavar="VSYS", help="in this virtual system instead of shared")
    device.add_argument("--template", metavar="NAME", help="in this Panorama template")
    device.add_argument("--template-stack", metavar="NAME", help="in this Panorama template stack")
    device.add_argument("--push", action="store_true", help="push the template's stacks to their devices afterwards")
    device.add_argument(
        "--commit",
        choices=("partial", "full", "none", "force"),
        default="partial",
        help="partial: our changes alone (default); full: everything that is pending; none: leave it in the candidate; "
        "force: our changes, even when the device sees none",
    )
    device.add_argument(
        "--format", choices=("pem", "pkcs12", "pkcs12-modern"), default="pem", help="how the pair travels (default pem)"
    )
    device.add_argument("--trust-root", action="store_true", help="import the chain's root too and mark it as trusted")


def wish(args: argparse.Namespace, prog: str = PROG) -> Wish:
    """Return what the options ask for, checked as far as that is possible without a device.

    Raises:
        UsageError, BadNameError: they cannot be meant so.
    """
    from certhooks_pan import names
    from certhooks_pan.scope import Scope
    from certhooks_pan.wanted import Wish

    if not args.common_name:
        raise UsageError("-c is missing: the common name of the certificate", hint=f"{prog} --help")
    common_name = address.common_name(args.common_name)
    name = args.name if args.name is not None else common_name
    names.certificate(name + "_2000" * args.year)
    profiles = [names.thing(profile, "profile") for profile in (args.primary, args.secondary) if profile is not None]
    where = Scope(vsys=args.vsys, template=args.template, stack=args.template_stack)
    where.check(panorama=where.pushed)
    if args.push and not where.pushed:
        raise UsageError("--push needs --template or --template-stack")
    if args.push and args.commit == "none":
        raise UsageError("--push and --commit none exclude each other")
    return Wish(
        name=name,
        year=args.year,
        profiles=tuple(dict.fromkeys(profiles)),
        where=where,
        commit=args.commit,
        file_format=args.format,
        trust_root=args.trust_root,
        push=args.push,
        lenient=args.force,
    )


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Run the command and return its exit code."""
    return cli.run(PROG, _install, parser, argv)


def entry() -> None:
    """Run as the installed script."""
    cli.entry(main)


def _install(args: argparse.Namespace, screen: cli.Screen) -> int:
    from certhooks import deploy, journal
    from certhooks_pan import panrc
    from certhooks_pan.wanted import journal_name

    wanted = wish(args)
    addresses = list(dict.fromkeys(map(address.parse, args.devices)))
    if not addresses:
        raise UnreachableError("no device given", hint=f"{PROG} -c {args.common_name} fw01.example.com")
    trusted = cli.trust(args)
    options = cli.push_options(args, command=(sys.argv[0], *args.words), stage_only=wanted.commit == "none")
    books = journal.Journal(args.state_dir or journal.DEFAULT)
    try:
        bundle = _bundle(args, screen)
        bundle.check(names=(address.common_name(args.common_name),))
        credentials = panrc.read(panrc.locate(args.key_file))
    except Error as e:
        _note(books, wanted, addresses, e, options.command)
        raise
    contexts = trusted.contexts(
        bundle.roots_pem, bundle.leaf_pem, lambda where: books.record(journal_name(where, wanted)).brought()
    )
    targets = [target(each, wanted, credentials, contexts) for each in addresses]
    deployment = deploy.Deployment(bundle, books, options, cli.teller(screen), screen.warn)
    try:
        deployment.run(targets)
    except KeyboardInterrupt:
        ended = [result for result in deployment.results if result.message]
        cli.report(screen, ended, as_json=args.json, verbose=args.verbose)
        raise
    return cli.report(screen, deployment.results, as_json=args.json, verbose=args.verbose)


def _bundle(args: argparse.Namespace, screen: cli.Screen) -> Bundle:
    """Load the pair that the options name.

    Raises:
        BundleError: the files; CertmongerError: not tracked, or not issued yet.
    """
    from certhooks import sources
    from certhooks.trust import IPA_CA

    common_name = address.common_name(args.common_name)
    passphrase = _passphrase(args.passphrase_file)
    if args.pkcs12:
        bundle = sources.from_pkcs12(args.pkcs12, passphrase)
    else:
        cert_dir, key_dir = args.cert_dir or enrol.CERT_DIR, args.key_dir or enrol.KEY_DIR
        if args.blind:
            bundle = sources.from_location(common_name, cert_dir, key_dir, passphrase=passphrase)
        else:
            bundle = _tracked(common_name, cert_dir, key_dir, passphrase, screen, given=bool(args.cert_dir))
    if args.trust_root and not bundle.roots:
        bundle = sources.with_more(bundle, IPA_CA)
        if not bundle.roots:
            raise BundleError(
                f"no root of this chain in {IPA_CA}", hint="leave --trust-root out, or give the root in the files"
            )
    return bundle


def _tracked(
    common_name: str, cert_dir: Path, key_dir: Path, passphrase: Optional[bytes], screen: cli.Screen, *, given: bool
) -> Bundle:
    """Load what certmonger tracks: by the file that -C and -c name, else the one request for this name."""
    from certhooks import sources
    from certhooks.certmonger import Certmonger

    with Certmonger.open() as certmonger:
        try:
            cert, _ = sources.locate(common_name, cert_dir, key_dir)
            request = certmonger.by_cert_file(str(cert))
        except BundleError:
            request = None
        if request is None and not given:
            request = certmonger.by_common_name(common_name)
    if request is None:
        raise CertmongerError(
            f"certmonger tracks no certificate for {common_name} in {cert_dir}",
            hint="getcert list shows what it tracks; -b takes files that it does not track",
        )
    if request.cert is None:
        request.check()
        raise CertmongerError(
            f"the certificate for {common_name} is not issued yet: {request.describe()}",
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


def target(
    where: Address, wanted: Wish, credentials: Credentials, contexts: Callable[[Address], SSLContext]
) -> PanTarget:
    """Return one device as a target."""
    from certhooks_pan.target import PanTarget
    from certhooks_pan.xapi import Client

    client = Client(where, lambda: contexts(where), credentials)
    made = PanTarget(where, client, wanted, admin=credentials.username)
    client.time_left = lambda: made.run.deadline.remaining()  # noqa: PLW0108  run and deadline are set later
    return made


def _note(books: Journal, wanted: Wish, addresses: list[Address], error: Error, command: Sequence[str]) -> None:
    """Write a failure that happened before any device was asked into each device's journal."""
    from certhooks.deadline import Deadline
    from certhooks.errors import BusyError, StateError
    from certhooks.journal import UNDONE, Attempt
    from certhooks.secrets import redact
    from certhooks_pan.wanted import device_name, journal_name

    for each in addresses:
        # A run that holds the device writes this journal itself; and the failure itself is what has to be told.
        with suppress(BusyError, StateError), books.lock(device_name(each), Deadline(1)):
            record = books.record(journal_name(each, wanted))
            attempt = record.begin(Attempt(fingerprint="", command=[redact(word) for word in command]))
            record.end(attempt, UNDONE, error.exit_code, str(error))


if __name__ == "__main__":
    entry()
