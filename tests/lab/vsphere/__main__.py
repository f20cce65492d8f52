"""``python -m tests.lab.vsphere``: a vCenter with hosts to try the commands on, without having one."""

from __future__ import annotations

import argparse
import os
import sys
from typing import TYPE_CHECKING, Any

from tests.lab import byhand, signer
from tests.lab.ca import CA
from tests.lab.vsphere import Esxi, Phase, Switches, VCenter, restart
from tests.lab.vsphere.switches import PHASES, PUTS

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path
    from typing import Optional

_PASSWORD = "certhooks-lab"
_MOST_HOSTS = 100
_FIRST_HOST = 21  # the last number of its address
_EXAMPLES = """\
examples, as root, in another shell, in the same folder:
  vcenter_instcert -b -c vc01.example.test -a vsphere-lab/vmwrc --cafile vsphere-lab/ca.pem
      --rootfile vsphere-lab/roots.pem -C vsphere-lab/new.pem -K vsphere-lab/new.key 127.0.0.2:PORT
  esxi_instcert --csr --sign $PWD/vsphere-lab/sign -a vsphere-lab/vmwrc --cafile vsphere-lab/ca.pem
      --rootfile vsphere-lab/roots.pem --vcenter 127.0.0.2:PORT esx01.example.test:PORT
      once vsphere-lab/hosts is in /etc/hosts
switches:
  --switch after=restart        8.0U2 and older: the services are away for a second after a replacement
  --switch after=old:5,text503  stages of your own, each with its seconds (old: the former certificate is served)
  --switch put=reset            the connection breaks while the replacement is answered
  --list-switches               all of them
"""


def parser() -> argparse.ArgumentParser:
    """Return the command line."""
    made = argparse.ArgumentParser(
        prog="python -m tests.lab.vsphere",
        description="Emulate a vCenter and ESXi hosts that it manages, on loopback, until SIGTERM or Ctrl-C.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument("--hostname", default="vc01.example.test", help="vCenter's FQDN (default: %(default)s)")
    made.add_argument(
        "--address",
        default="127.0.0.2",
        help="loopback address of vCenter (default: %(default)s); not 127.0.0.1, where pyvmomi does not verify",
    )
    made.add_argument(
        "--port", type=int, default=0, help="of vCenter and of each host, which have addresses of their own (default: "
        "free ones)"
    )  # fmt: skip
    made.add_argument("--version", default="8.0.3", help="of vCenter (default: %(default)s)")
    made.add_argument("--hosts", type=int, default=1, metavar="N", help="ESXi hosts behind it (default: %(default)s)")
    made.add_argument(
        "--host-version", default="8.0.3", metavar="VERSION", help="of the hosts (default: %(default)s); a key can be "
        "brought from 8.0.3 on"
    )  # fmt: skip
    made.add_argument(
        "--user",
        default="certhooks@vsphere.local",
        help="who can log in, with the password in vmwrc (default: %(default)s)",
    )
    byhand.add_options(
        made, "vsphere-lab", "ca.pem (VMCA's), vmwrc, a new pair, its roots.pem and a command that signs", "vCenter"
    )
    return made


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Serve until told to stop; 1 for a command line that makes no sense."""
    args = parser().parse_args(argv)
    if args.list_switches:
        print(Switches.__doc__)
        print(Phase.__doc__)
        return 0
    try:
        vcenter, hosts = _build(args)
        byhand.serve([vcenter, *hosts], lambda: _write(args, vcenter, hosts), args.ready)
    except (ValueError, OSError) as error:
        print(f"vsphere: error: {error}", file=sys.stderr)
        return 1
    return 0


def _build(args: argparse.Namespace) -> tuple[VCenter, list[Esxi]]:
    if args.address in {"127.0.0.1", "::1", "localhost"}:
        raise ValueError(f"pyvmomi does not verify {args.address}; take another: 127.0.0.2")
    if not 0 <= args.hosts <= _MOST_HOSTS:
        raise ValueError(f"0 to {_MOST_HOSTS} hosts")
    switches = byhand.switched(Switches(), args.switch, {"after": _phases, "put": _put})
    vcenter = VCenter(
        args.hostname, address=args.address, port=args.port, version=args.version, switches=switches
    )  # fmt: skip
    vcenter.add_user(args.user, _PASSWORD)
    hosts = []
    for number in range(args.hosts):
        name, address = f"esx{number + 1:02}.example.test", f"127.0.0.{_FIRST_HOST + number}"
        host = Esxi(name, address=address, port=args.port, version=args.host_version, ca=vcenter.ca)
        host.sessions.users = vcenter.sessions.users
        vcenter.add_host(host.host)
        hosts.append(host)
    return vcenter, hosts


def _put(text: str) -> str:
    if text not in PUTS:
        raise ValueError(f"one of {', '.join(PUTS)}")
    return text


def _phases(text: str) -> list[Phase]:
    """Return the stages after a replacement: ``restart``, ``instant``, or ``NAME[:SECONDS],...``."""
    if text in {"restart", "instant"}:
        return restart() if text == "restart" else []
    found = []
    for each in text.split(","):
        what, _, seconds = each.partition(":")
        if what not in {"old", *PHASES}:
            raise ValueError(f"one of restart, instant, old, {', '.join(PHASES)}")
        found.append(Phase("quiet" if what == "old" else what, float(seconds or 1), old=what == "old"))
    return found


def _write(args: argparse.Namespace, vcenter: VCenter, hosts: Sequence[Esxi]) -> dict[str, Any]:
    """Write what a client needs, and return what it has to know."""
    out: Path = args.out
    out.mkdir(mode=0o700, parents=True, exist_ok=True)
    site = CA("certhooks lab site CA")
    made = site.issue([vcenter.hostname, vcenter.address], key_type="rsa")
    known = [(vcenter.address, vcenter.hostname), *((host.address, host.host.name) for host in hosts)]
    (out / "ca.pem").write_bytes(vcenter.ca_pem)
    (out / "roots.pem").write_bytes(site.pem)
    (out / "new.pem").write_bytes(made.fullchain_pem)
    (out / "hosts").write_text("".join(f"{address} {name}\n" for address, name in known))
    byhand.private(out / "new.key", made.key_pem)
    byhand.private(out / "vmwrc", f"username={args.user}\npassword={_PASSWORD}\n".encode())
    return {
        "device": f"vCenter {vcenter.version} {vcenter.hostname}", "address": f"{vcenter.address}:{vcenter.port}",
        "ca": str(out / "ca.pem"), "credentials": str(out / "vmwrc"), "certificate": str(out / "new.pem"),
        "key": str(out / "new.key"), "roots": str(out / "roots.pem"), "sign": str(signer.command(out, site)),
        "hosts": {host.host.name: f"{host.address}:{host.port}" for host in hosts},
        "etc_hosts": str(out / "hosts"), "pid": os.getpid(),
    }  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
