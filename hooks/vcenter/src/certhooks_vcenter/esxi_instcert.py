"""``esxi_instcert``: put a certificate on ESXi hosts, by themselves or through their vCenter."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, Callable, Optional, Union

from certhooks import address, cli, install
from certhooks.errors import BundleError, UsageError
from certhooks_vcenter import instcert

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from certhooks.address import Address
    from certhooks.bundle import Bundle
    from certhooks.deadline import Deadline
    from certhooks.order import Order
    from certhooks.trust import Contexts
    from certhooks_vcenter.esxi import EsxiTarget

PROG = "esxi_instcert"
_LOOK = 0.5  # seconds
_EXAMPLES = """\
  esxi_instcert --csr --vcenter vc01.example.com esx01.example.com esx02.example.com
      hosts make their keys and requests, FreeIPA signs them; done again when less than 28 days are left
  esxi_instcert -c esx01.example.com --vcenter vc01.example.com esx01.example.com
      what certmonger tracks, with its key, to a host of 8.0U3 or newer
  esxi_instcert --csr --sign /usr/local/sbin/sign-request -a /etc/ipa/.esxrc esx01.example.com
      without vCenter, signed by a command that reads the request and prints PEM
"""


def parser() -> argparse.ArgumentParser:
    """Return the parser."""
    made = cli.parser(
        PROG,
        "Installs a certificate on ESXi hosts: from 8.0U3 on with its key, or signed for the request that a host makes "
        "itself; makes host and vCenter trust its root first, and checks that it is served and the host connected.",
        usage="esxi_instcert [-hv] -c CERT_CN|--csr [-a CRED_FILE] [--vcenter FQDN] [options] FQDN[:PORT] ...",
        examples=_EXAMPLES,
        packages=instcert.PACKAGES,
    )
    made.add_argument("devices", nargs="*", metavar="FQDN", help="hosts, by the names that vCenter knows them by")
    instcert.add_names(made)
    install.add_source_options(made)
    signing = made.add_argument_group("signing")
    signing.add_argument("--csr", action="store_true", help="have the request signed that each host makes itself")
    signing.add_argument("--ca", default="IPA", metavar="NAME", help="certmonger's CA that signs (default IPA)")
    signing.add_argument("--sign", type=cli.word, metavar="COMMAND", help="sign by a command instead, without a shell")
    signing.add_argument("--service", default="HTTP", metavar="SERVICE", help="of the principal (default HTTP)")
    signing.add_argument("--cert-profile", metavar="NAME", help="FreeIPA's certificate profile")
    signing.add_argument(
        "--renew", type=_days, default=28, metavar="DAYS", help="leave what is valid for longer (default 28)"
    )
    device = made.add_argument_group("on the device")
    device.add_argument("--vcenter", type=cli.word, metavar="FQDN[:PORT]", help="through the vCenter of these hosts")
    device.add_argument(
        "--rootfile", type=cli.path, metavar="FILE", help="further CAs for the chain (default /etc/ipa/ca.crt)"
    )
    cli.add_push_options(made, prune=False)
    return made


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Run the command and return its exit code."""
    return cli.run(PROG, _install, parser, argv)


def entry() -> None:
    """Run as the installed script."""
    cli.entry(main)


def places(args: argparse.Namespace) -> list[install.Place]:
    """Return where the options want the certificate.

    Raises:
        UsageError, UnreachableError: they cannot be meant so.
    """
    from certhooks_vcenter.esxi import device_name

    if bool(args.common_name) == args.csr:
        raise UsageError("give either -c CERT_CN or --csr", hint=f"{PROG} --help")
    devices = install.addresses(args.devices, f"{PROG} --csr --vcenter vc01.example.com esx01.example.com")
    return [install.Place(each, device_name(each), device_name(each), served=True) for each in devices]


def _install(args: argparse.Namespace, screen: cli.Screen) -> int:
    from certhooks_vcenter import fit, vmwrc
    from certhooks_vcenter.esxi import WithKey, WithRequest
    from certhooks_vcenter.rest import Client
    from certhooks_vcenter.vim import Vim

    where = places(args)
    vcenter = address.parse(args.vcenter) if args.vcenter else None

    def prepare() -> install.Prepared:
        kind: type[EsxiTarget[Any]] = WithRequest if args.csr else WithKey
        if args.csr:
            given: Union[Bundle, Order] = _order(args)
            roots = given.roots
        else:
            given, others = instcert.with_roots(install.load(args, screen), args.rootfile)
            roots = fit.anchors(given, others)
        credentials = vmwrc.read(vmwrc.locate(args.cred_file), shared=len(where) > 1)

        def targets(contexts: Contexts) -> list[EsxiTarget[Any]]:
            def target(where: Address) -> EsxiTarget[Any]:
                asked = vcenter or where
                vim = Vim(asked, lambda: contexts(asked), credentials)
                rest = Client(asked, lambda: contexts(asked), credentials) if vcenter else None
                made = kind(where, vim, rest, roots, force=args.force)
                vim.time_left = made.time_left
                if rest:
                    rest.time_left = made.time_left
                return made

            return [target(each.address) for each in where]

        return given, targets

    return install.push(args, screen, where, prepare)


def _order(args: argparse.Namespace) -> Order:
    """Return the order for what each host will have signed.

    Raises:
        BundleError: no root is known. UsageError: the command that signs cannot be read.
    """
    from datetime import timedelta

    from certhooks import certificate, signing, sources
    from certhooks.order import Order
    from certhooks.trust import IPA_CA
    from certhooks_vcenter import fit

    path = args.rootfile or IPA_CA
    known = [each for each in certificate.read(sources.read(path), str(path)) if fit.is_good_ca(each)]
    roots = [each for each in known if certificate.is_self_signed(each)]
    if not roots:
        raise BundleError(f"no valid self-signed CA in {path}", hint="--rootfile FILE names the root that signs")
    if args.sign:
        signing.words(args.sign)
    return Order(roots, _signer(args), timedelta(days=args.renew), known)


def _signer(args: argparse.Namespace) -> Callable[[str, str, Deadline], bytes]:
    """Return what signs a host's request, one at a time."""
    from certhooks import enrol, signing

    lock = threading.Lock()

    def sign(csr: str, host: str, deadline: Deadline) -> bytes:
        while not lock.acquire(timeout=_LOOK):
            deadline.check("the wait for another host's request to be signed")
        try:
            if args.sign:
                return signing.by_command(args.sign, csr, deadline)
            from certhooks.certmonger import Certmonger

            subject = signing.Subject(host, enrol.principal(args.service, host), args.cert_profile)
            with Certmonger.open() as certmonger:
                return signing.by_ca(certmonger, args.ca, csr, subject, deadline)
        finally:
            lock.release()

    return sign


def _days(text: str) -> int:
    import argparse

    if not (text.isascii() and text.isdigit() and len(text) <= len("9999")):
        raise argparse.ArgumentTypeError(f"not a number of days: {text!r}")
    return int(text)


if __name__ == "__main__":
    entry()
