"""``vcenter_instcert``: make a certificate vCenter's Machine SSL certificate, and make sure that it is served."""

from __future__ import annotations

from typing import TYPE_CHECKING, Optional

from certhooks import cli, install
from certhooks.errors import BundleError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence
    from pathlib import Path

    from cryptography.x509 import Certificate

    from certhooks.address import Address
    from certhooks.bundle import Bundle
    from certhooks.trust import Contexts
    from certhooks_vcenter.target import VCenterTarget
    from certhooks_vcenter.vmwrc import Credentials

PROG = "vcenter_instcert"
PACKAGES = ("cryptography", "pyvmomi", "jeepney")
_EXAMPLES = """\
  vcenter_instcert -c vc01.example.com
      what certmonger tracks, to the vCenter of that name
  vcenter_instcert -b -c vc01.example.com -C /etc/letsencrypt/live -K /etc/letsencrypt/live vc01.example.com
      any pair of files
  vcenter_instcert -c vc01.example.com --dry-run --cafile vmca.pem vc01.example.com
      say what would be done; trust the certificate that VMCA signed for this vCenter
"""


def parser() -> argparse.ArgumentParser:
    """Return the parser; its short options are those of the bash script."""
    made = cli.parser(
        PROG,
        "Installs a certificate as the Machine SSL certificate of vCenter, waits until its services are back, and "
        "checks that it is served.",
        usage="vcenter_instcert [-hv] -c CERT_CN [-a CRED_FILE] [-C CERT_DIR] [-K KEY_DIR] [-b] [options]\n"
        "                        [FQDN[:PORT] ...]",
        examples=_EXAMPLES,
        packages=PACKAGES,
    )
    made.add_argument("devices", nargs="*", metavar="FQDN", help="vCenters, by the FQDN they have (default: CERT_CN)")
    add_names(made)
    install.add_source_options(made)
    add_device_options(made)
    cli.add_push_options(made, prune=False)
    return made


def add_names(made: argparse.ArgumentParser) -> None:
    """Add the short options that ``vcenter_getcert`` takes too."""
    install.add_common_name(made)
    made.add_argument(
        "-a",
        dest="cred_file",
        type=cli.path,
        metavar="CRED_FILE",
        help="key=BASE64, or username= and password= (default /etc/ipa/.vmwrc)",
    )


def add_device_options(made: argparse.ArgumentParser) -> None:
    """Add the options that say how on the device."""
    device = made.add_argument_group("on the device")
    device.add_argument("--fullchain", action="store_true", help="send the intermediate CAs with the leaf")
    device.add_argument("--refresh-ca", action="store_true", help="push vCenter's roots to its hosts too")
    device.add_argument(
        "--rootfile", type=cli.path, metavar="FILE", help="further CAs for the chain (default /etc/ipa/ca.crt)"
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
    from certhooks_vcenter.target import device_name

    devices = install.addresses(args.devices or [install.common_name(args)], "")
    return [install.Place(each, device_name(each), device_name(each), served=True) for each in devices]


def _install(args: argparse.Namespace, screen: cli.Screen) -> int:
    from certhooks_vcenter import vmwrc

    where = places(args)

    def prepare() -> install.Prepared:
        bundle, others = with_roots(install.load(args, screen), args.rootfile)
        credentials = vmwrc.read(vmwrc.locate(args.cred_file), shared=len(where) > 1)

        def targets(contexts: Contexts) -> list[VCenterTarget]:
            return [target(each.address, args, others, credentials, contexts) for each in where]

        return bundle, targets

    return install.push(args, screen, where, prepare)


def with_roots(bundle: Bundle, rootfile: Optional[Path]) -> tuple[Bundle, list[Certificate]]:
    """Return the bundle with the roots that a file adds to it, and all certificates of that file.

    Raises:
        BundleError: the file was named and cannot be used.
    """
    from certhooks import certificate, sources
    from certhooks.trust import IPA_CA

    path = rootfile or (IPA_CA if IPA_CA.is_file() else None)
    if path is None:
        return bundle, []
    try:
        return sources.with_more(bundle, path), certificate.read(sources.read(path), str(path))
    except BundleError:
        if rootfile or not bundle.roots:
            raise
        return bundle, []


def target(
    where: Address,
    args: argparse.Namespace,
    others: Sequence[Certificate],
    credentials: Credentials,
    contexts: Contexts,
) -> VCenterTarget:
    """Return one vCenter as a target."""
    from certhooks_vcenter.rest import Client
    from certhooks_vcenter.target import VCenterTarget

    client = Client(where, lambda: contexts(where), credentials)
    vim = None
    if args.refresh_ca:
        from certhooks_vcenter.vim import Vim

        vim = Vim(where, lambda: contexts(where), credentials)
    made = VCenterTarget(where, client, others=others, fullchain=args.fullchain, force=args.force, vim=vim)
    client.time_left = made.time_left
    if vim:
        vim.time_left = made.time_left
    return made


if __name__ == "__main__":
    entry()
