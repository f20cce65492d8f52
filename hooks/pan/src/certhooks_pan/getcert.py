"""``pan_getcert``: have certmonger request a certificate from FreeIPA and keep it installed on a Palo Alto device."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Optional

from certhooks import cli, enrol, install
from certhooks_pan import instcert

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from certhooks.address import Address
    from certhooks.target import Run
    from certhooks.trust import Contexts
    from certhooks_pan.wanted import Wish

PROG = "pan_getcert"
_EXAMPLES = """\
  pan_getcert -c gp.example.com -Y -p GP_PORTAL -s GP_GATEWAY fw01.example.com
      request HTTP/gp.example.com, install it on fw01, and so again at each renewal
  pan_getcert -v -c fw01.example.com -p MGMT --cafile device-ca.pem fw01.example.com
      the certificate of the management interface itself
  pan_getcert -c gp.example.com -G EC -b 256 -T gpProfile -p GP_PORTAL fw01.example.com
      with another kind of key and another certificate profile of FreeIPA
"""
_PASSED_ON = (("vsys", None), ("template", None), ("template_stack", None), ("commit", "partial"), ("format", "pem"))
_FLAGS_PASSED_ON = ("push", "trust_root", "prune")


def parser() -> argparse.ArgumentParser:
    """Return the parser; its short options are those of the bash script of the same name."""
    made = cli.parser(
        PROG,
        "Requests a certificate from FreeIPA through certmonger, waits until it is issued and installed, and leaves "
        "certmonger to renew it and pan_instcert to install every renewal.",
        usage="pan_getcert [-hv] -c CERT_CN [-n CERT_NAME] [-Y] [-k KEYFILE|EXT] [-S SERVICE] [-T CERT_PROFILE]\n"
        "                   [-G TYPE] [-b BITS] [-p PROFILE] [-s PROFILE] [options] FQDN[:PORT]",
        examples=_EXAMPLES,
    )
    made.add_argument("device", nargs="?", metavar="FQDN", help="management address of the firewall or Panorama")
    instcert.add_names(made)
    enrol.add_options(made)
    instcert.add_device_options(made)
    cli.add_push_options(made, several=False)
    return made


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Run the command and return its exit code."""
    return cli.run(PROG, _enrol, parser, argv)


def entry() -> None:
    """Run as the installed script."""
    cli.entry(main)


def post_save(args: argparse.Namespace, certificate: enrol.Wanted, device: Address) -> str:
    """Return the install command, quoted as certmonger reads it."""
    key_file = args.key_file and str(Path(args.key_file).absolute() if Path(args.key_file).exists() else args.key_file)
    own: list[str] = []
    for option, value in (("-n", args.name), ("-k", key_file), ("-p", args.primary), ("-s", args.secondary)):
        own += [option, value] if value is not None else []
    own += ["-Y"] * args.year
    installer = enrol.installer("pan_instcert", "certhooks_pan.instcert")
    return enrol.install_command(
        args, certificate, installer, own, options=_PASSED_ON, flags=_FLAGS_PASSED_ON, device=str(device)
    )


def _enrol(args: argparse.Namespace, screen: cli.Screen) -> int:
    from certhooks_pan.wanted import journal_name

    wanted = instcert.wish(args)
    certificate = enrol.wanted(args)
    [device] = install.addresses([args.device] * bool(args.device), f"{PROG} -c {args.common_name} fw01.example.com")
    return enrol.carry_out(
        args,
        screen,
        certificate,
        post_save=post_save(args, certificate, device),
        target=journal_name(device, wanted),
        device=str(device),
        precheck=lambda contexts, run: _precheck(args, device, wanted, contexts, run),
    )


def _precheck(args: argparse.Namespace, device: Address, wanted: Wish, contexts: Contexts, run: Run) -> None:
    """Ask the device whether the install could work, before a certificate is requested for it."""
    from certhooks_pan import panrc

    credentials = panrc.read(panrc.locate(args.key_file))
    target = instcert.target(device, wanted, credentials, contexts)
    target.run = run
    try:
        kind = target.survey()
        run.tell(f"{kind.model} with PAN-OS {kind.version}, ready for the certificate")
    finally:
        target.close()


if __name__ == "__main__":
    entry()
