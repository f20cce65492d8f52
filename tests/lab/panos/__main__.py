"""``python -m tests.lab.panos``: a firewall or a Panorama to try the commands on, without having one."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Optional

from tests.lab import byhand
from tests.lab.panos import SUPERUSER, Firewall, Outcome, Panorama, Restart, Switches, custom_role

if TYPE_CHECKING:
    from collections.abc import Sequence


def parser() -> argparse.ArgumentParser:
    """Return the command line."""
    made = argparse.ArgumentParser(
        prog="python -m tests.lab.panos",
        description="Emulate a PAN-OS firewall or a Panorama on loopback, until SIGTERM or Ctrl-C.",
    )
    made.add_argument(
        "--panorama", action="store_true", help="a Panorama, with template T and stack S over one firewall"
    )
    made.add_argument("--hostname", help="host name (default: fw01.example.test or panorama.example.test)")
    made.add_argument("--address", default="127.0.0.1", help="loopback address to listen on (default: %(default)s)")
    made.add_argument("--port", type=int, default=0, help="management port (default: a free one)")
    made.add_argument("--cert", type=Path, help="PEM certificate (chain) that the factory put in; made unless given")
    made.add_argument("--key", type=Path, help="its private key")
    made.add_argument("--admin", default="certhooks", help="administrator's name (default: %(default)s)")
    made.add_argument("--superuser", action="store_true", help="the administrator is a superuser, not a custom role")
    made.add_argument(
        "--profile",
        action="append",
        metavar="NAME",
        help="an SSL/TLS service profile; may be repeated (default: GP_PORTAL)",
    )
    made.add_argument("--management-profile", metavar="NAME", help="the profile that the management interface uses")
    made.add_argument(
        "--portal",
        action="append",
        default=[],
        metavar="PROFILE[:PORT]",
        help="a GlobalProtect port that serves a profile's certificate; may be repeated",
    )
    made.add_argument(
        "--commit-seconds", type=float, default=3.0, help="how long a commit takes (default: %(default)s)"
    )
    made.add_argument(
        "--restart-seconds",
        type=float,
        default=3.0,
        help="how long the web server is away after its certificate changed (default: %(default)s)",
    )
    made.add_argument("--commit-fails", metavar="LINE", help="every commit fails with this line")
    made.add_argument("--commit-warns", metavar="LINE", help="every commit ends with this warning")
    made.add_argument("--commit-never-ends", action="store_true", help="commits stay at 99 per cent")
    made.add_argument("--pending", metavar="ADMIN", help="another administrator with a change that is not committed")
    byhand.add_options(made, "panos-lab", "ca.pem, .panrc and a new pair", "PAN-OS")
    return made


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Serve until told to stop; 1 for a command line that makes no sense."""
    made = parser()
    args = made.parse_args(argv)
    if args.list_switches:
        print(Switches.__doc__)
        return 0
    try:
        device, firewall = _build(args)
    except (ValueError, OSError) as error:
        print(f"panos: error: {error}", file=sys.stderr)
        return 1
    both = [device] if firewall is device else [device, firewall]
    byhand.serve(both, lambda: _write(args, device, firewall), args.ready, device.tick)
    return 0


def _build(args: argparse.Namespace) -> tuple[Any, Firewall]:
    more: dict[str, Any] = {"address": args.address, "port": args.port, "commit_seconds": args.commit_seconds}
    more["switches"] = byhand.switched(Switches(), args.switch)
    if bool(args.cert) != bool(args.key):
        raise ValueError("--cert and --key belong together")
    if args.cert:
        more["tls"] = (args.cert.read_bytes(), args.key.read_bytes())
    kind = Panorama if args.panorama else Firewall
    if args.hostname:
        more["hostname"] = args.hostname
    device: Any = kind(**more)
    device.restart = Restart(refuse=args.restart_seconds / 2, bad_gateway=args.restart_seconds / 2)
    fail = ("Validation Error:", " " + args.commit_fails) if args.commit_fails else ()
    warn = (args.commit_warns,) if args.commit_warns else ()
    device.commit_outcome = Outcome(fail=fail, warnings=warn, never_ends=args.commit_never_ends)
    device.add_admin(args.admin, role=SUPERUSER if args.superuser else custom_role())
    profiles = args.profile or ["GP_PORTAL"]
    if args.management_profile and args.management_profile not in profiles:
        profiles.append(args.management_profile)
    for profile in profiles:
        device.add_profile(profile, certificate=f"{profile}_old"[:31])
    if args.management_profile:
        device.use_for_management(args.management_profile)
    firewall = _managed(device, profiles) if isinstance(device, Panorama) else device
    if args.pending:
        half_done = "<entry name='half-done'><fqdn>a.example.test</fqdn></entry>"
        device.add_admin(args.pending)
        device.edit_as(args.pending, "/config/shared/address", half_done)
    for portal in args.portal:
        profile, _, port = portal.partition(":")
        firewall.add_portal(profile, name=f"gp-{profile}", port=int(port or 0))
    return device, firewall


def _managed(panorama: Panorama, profiles: Sequence[str]) -> Firewall:
    """Return a firewall that the Panorama manages through template T and stack S."""
    firewall = Firewall(ca=panorama.ca, address=panorama.address)
    panorama.attach(firewall)
    panorama.add_template("T")
    for profile in profiles:
        panorama.add_profile(profile, certificate=f"{profile}_old"[:31], below=panorama.template_path("T"))
    panorama.add_stack("S", templates=["T"], devices=[firewall.serial])
    return firewall


def _write(args: argparse.Namespace, device: Any, firewall: Firewall) -> dict[str, Any]:
    args.out.mkdir(mode=0o700, parents=True, exist_ok=True)
    ca, panrc = args.out / "ca.pem", args.out / ".panrc"
    ca.write_bytes(device.ca_pem)
    secret = device.admins[args.admin].key
    byhand.private(panrc, f"hostname={args.address}\nport={device.port}\napi_key={secret}\n".encode())
    made = device.ca.issue([device.hostname, "localhost", args.address], key_type="rsa")
    (args.out / "new.pem").write_bytes(made.fullchain_pem)
    byhand.private(args.out / "new.key", made.key_pem)
    facts = {
        "device": f"{device.model} {device.hostname}", "url": f"https://{args.address}:{device.port}/api/",
        "port": device.port, "ca": str(ca), "panrc": str(panrc), "certificate": str(args.out / "new.pem"),
        "key": str(args.out / "new.key"), "pid": os.getpid(),
    }  # fmt: skip
    facts["portals"] = {portal.name: portal.port for portal in firewall.portals}
    if firewall is not device:
        facts["firewall"] = firewall.serial
    return facts


if __name__ == "__main__":
    sys.exit(main())
