"""``pan_instcert``: put a certificate on Palo Alto firewalls and Panoramas, and make sure that it is in use."""

from __future__ import annotations

from typing import TYPE_CHECKING, Optional

from certhooks import cli, install
from certhooks.errors import BundleError, UsageError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from certhooks.address import Address
    from certhooks.bundle import Bundle
    from certhooks.trust import Contexts
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
    install.add_source_options(made)
    add_device_options(made)
    cli.add_push_options(made)
    return made


def add_names(made: argparse.ArgumentParser) -> None:
    """Add the short options that ``pan_getcert`` takes too."""
    install.add_common_name(made)
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


def wish(args: argparse.Namespace) -> Wish:
    """Return what the options ask for, checked as far as that is possible without a device.

    Raises:
        UsageError, BadNameError: they cannot be meant so.
    """
    from certhooks_pan import names
    from certhooks_pan.scope import Scope
    from certhooks_pan.wanted import Wish

    common_name = install.common_name(args)
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


def places(args: argparse.Namespace) -> list[install.Place]:
    """Return where the options want the certificate.

    Raises:
        UsageError, BadNameError, UnreachableError: they cannot be meant so.
    """
    from certhooks_pan.wanted import device_name, journal_name

    wanted = wish(args)
    devices = install.addresses(args.devices, f"{PROG} -c {args.common_name} fw01.example.com")
    slots = tuple(f"{profile} ({wanted.where})" for profile in wanted.profiles)
    return [install.Place(each, device_name(each), journal_name(each, wanted), slots=slots) for each in devices]


def _install(args: argparse.Namespace, screen: cli.Screen) -> int:
    from certhooks_pan import panrc

    wanted = wish(args)
    where = places(args)

    def prepare() -> install.Prepared:
        bundle = _bundle(args, screen)
        credentials = panrc.read(panrc.locate(args.key_file))
        return bundle, lambda contexts: [target(each.address, wanted, credentials, contexts) for each in where]

    return install.push(args, screen, where, prepare, stage_only=wanted.commit == "none")


def _bundle(args: argparse.Namespace, screen: cli.Screen) -> Bundle:
    """Load the pair that the options name, with its root where that is wanted.

    Raises:
        BundleError, CertmongerError: see ``install.load``; no root.
    """
    from certhooks import sources
    from certhooks.trust import IPA_CA

    bundle = install.load(args, screen)
    if args.trust_root and not bundle.roots:
        bundle = sources.with_more(bundle, IPA_CA)
        if not bundle.roots:
            raise BundleError(
                f"no root of this chain in {IPA_CA}", hint="leave --trust-root out, or give the root in the files"
            )
    return bundle


def target(where: Address, wanted: Wish, credentials: Credentials, contexts: Contexts) -> PanTarget:
    """Return one device as a target."""
    from certhooks_pan.target import PanTarget
    from certhooks_pan.xapi import Client

    client = Client(where, lambda: contexts(where), credentials)
    made = PanTarget(where, client, wanted, admin=credentials.username)
    client.time_left = made.time_left
    return made


if __name__ == "__main__":
    entry()
