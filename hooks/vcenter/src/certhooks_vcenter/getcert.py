"""``vcenter_getcert``: have certmonger request a certificate from FreeIPA and keep it installed on a vCenter."""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING, Optional

from certhooks import address, cli, enrol, install
from certhooks.errors import BadNameError, KeyTypeError, UnreachableError
from certhooks_vcenter import instcert

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from certhooks.address import Address
    from certhooks.target import Run
    from certhooks.trust import Contexts

PROG = "vcenter_getcert"
_EXAMPLES = """\
  vcenter_getcert -c vc01.example.com
      request HTTP/vc01.example.com, make it the vCenter's certificate, and so again at each renewal
  vcenter_getcert -c vc01.example.com -i --cafile vmca.pem vc01.example.com
      with the IP address too; for the first time, while VMCA's certificate is still served
"""


def parser() -> argparse.ArgumentParser:
    """Return the parser; its short options are those of the bash script."""
    made = cli.parser(
        PROG,
        "Requests a certificate from FreeIPA through certmonger, waits until it is issued and installed, and "
        "leaves certmonger to renew it and vcenter_instcert to install every renewal.",
        usage="vcenter_getcert [-hv] -c CERT_CN [-a CRED_FILE] [-i] [-I IPV4] [-S SERVICE] [-T CERT_PROFILE]\n"
        "                       [-G TYPE] [-b BITS] [options] [FQDN[:PORT]]",
        examples=_EXAMPLES,
        packages=instcert.PACKAGES,
    )
    made.add_argument("device", nargs="?", metavar="FQDN", help="the vCenter, by its own FQDN (default: CERT_CN)")
    instcert.add_names(made)
    made.add_argument("-i", dest="resolve", action="store_true", help="add the IPv4 addresses of CERT_CN as names")
    made.add_argument("-I", dest="ipv4", metavar="IPV4", help="add this IPv4 address as a name")
    enrol.add_options(made)
    instcert.add_device_options(made)
    cli.add_push_options(made, several=False, prune=False)
    return made


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Run the command and return its exit code."""
    return cli.run(PROG, _enrol, parser, argv)


def entry() -> None:
    """Run as the installed script."""
    cli.entry(main)


def post_save(args: argparse.Namespace, certificate: enrol.Wanted, device: Address) -> str:
    """Return the install command, quoted as certmonger reads it."""
    own = ["-a", str(args.cred_file.absolute())] if args.cred_file else []
    installer = enrol.installer(instcert.PROG, "certhooks_vcenter.instcert")
    options, flags = (("rootfile", None),), ("fullchain", "refresh_ca")
    return enrol.install_command(args, certificate, installer, own, options=options, flags=flags, device=str(device))


def _enrol(args: argparse.Namespace, screen: cli.Screen) -> int:
    from certhooks_vcenter.target import device_name

    name = install.common_name(args)
    device = address.parse(args.device or name)
    certificate = enrol.wanted(args)
    settings = certificate.settings
    if settings["key_type"] == "EC":
        raise KeyTypeError("vCenter takes RSA keys alone", hint="leave -G out, or give -G RSA")
    if name.startswith("*"):
        raise BadNameError(f"vCenter takes no wildcard: {name}", hint="-c with the vCenter's own FQDN")
    if address.is_name(device.host) and device.host not in settings["dns_names"]:
        raise BadNameError(
            f"the certificate would lack the vCenter's own name {device.host}", hint=f"add it: --dns {device.host}"
        )
    settings["ip_addresses"] = _ip_addresses(args, name)
    return enrol.carry_out(
        args,
        screen,
        certificate,
        post_save=post_save(args, certificate, device),
        target=device_name(device),
        device=str(device),
        precheck=lambda contexts, run: _precheck(args, device, contexts, run),
    )


def _ip_addresses(args: argparse.Namespace, name: str) -> tuple[str, ...]:
    """Return what ``-i`` and ``-I`` add.

    Raises:
        BadNameError: not an address; UnreachableError: the name has none.
    """
    found: list[str] = []
    if args.ipv4 is not None:
        try:
            found.append(str(ipaddress.IPv4Address(args.ipv4)))
        except ValueError:
            raise BadNameError(f"not an IPv4 address: {args.ipv4[:60]!r}", hint="-I 192.0.2.10, or -i") from None
    if args.resolve:
        import socket

        try:
            entries = socket.getaddrinfo(name, None, socket.AF_INET, socket.SOCK_STREAM)
        except OSError as e:
            raise UnreachableError(
                f"cannot resolve {name}: {(e.strerror or str(e)).lower()}", hint="-I IPV4 gives the address"
            ) from e
        found += [str(entry[4][0]) for entry in entries]
    return tuple(dict.fromkeys(found))


def _precheck(args: argparse.Namespace, device: Address, contexts: Contexts, run: Run) -> None:
    """Ask vCenter whether the install could work, before a certificate is requested for it."""
    from certhooks import certificate as certs
    from certhooks_vcenter import vmwrc
    from certhooks_vcenter.rest import Client

    client = Client(device, lambda: contexts(device), vmwrc.read(vmwrc.locate(args.cred_file)))
    client.time_left = run.deadline.remaining
    try:
        client.first_login()
        present = client.machine_certificate()
        until = f"{certs.not_after(present):%Y-%m-%d}"
        run.tell(f"has {certs.label(present)}, valid until {until}; ready for another")
    finally:
        client.logout()
        client.close()


if __name__ == "__main__":
    entry()
