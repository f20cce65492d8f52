#!/usr/bin/env python3
"""What the dns-01 hooks cost in a client's whole run: wall, CPU, requests to FreeIPA and logins, beside the floor.

dehydrated (HOOK_CHAIN), certbot with manual hooks and certbot with the plugin get a certificate for many names from
pebble: with our hooks and a real FreeIPA, and as the floor with nsupdate and a TSIG key (for the plugin with certbot's
own dns-rfc2136) straight into a BIND, without any wait. Both by turns in one run; the ratio is what counts, on a
machine that does other things too. CPU is that of client and hooks, not of the servers. The older hook's method (two
logins a record and 25 s of sleep before each validation) is computed from the floor, not slept.

It needs root, and the FreeIPA that tests/run builds.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Callable, NamedTuple

sys.dont_write_bytecode = True
HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[1]))
from tests.lab import machine  # noqa: E402  the tests are no installed package
from tests.lab.acme import AcmeLab, Certbot, Dehydrated, Pebble, Result  # noqa: E402
from tests.lab.daemons import Daemons  # noqa: E402
from tests.lab.freeipa import challenges, client, names  # noqa: E402
from tests.lab.freeipa.server import FreeIPA  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Sequence

_OLD_SLEEP, _OLD_REQUESTS, _OLD_LOGINS = 25.0, 2 * 2, 2  # for each record: login and command, to add and to remove it
_ACCESS, _KDC = "/var/log/apache2/access.log", "/var/log/krb5kdc.log"
Run = Callable[["list[str]"], Result]


class Cost(NamedTuple):
    """Seconds, seconds, requests to FreeIPA's API, logins."""

    wall: float
    cpu: float
    requests: int = 0
    logins: int = 0


def measured(server: FreeIPA, run: Run, wanted: list[str]) -> Cost:
    """Run a client, which must get its certificate."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    before = counted(server)
    done = run(wanted)
    assert done.code == 0, str(done)
    assert done.names == sorted(wanted)
    after, used = counted(server), resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = used.ru_utime + used.ru_stime - usage.ru_utime - usage.ru_stime
    return Cost(done.seconds, cpu, after[0] - before[0], after[1] - before[1])


def counted(server: FreeIPA) -> tuple[int, int]:
    """Return how many requests FreeIPA's web server has had, and how many tickets for it were issued."""
    requests, tickets = (server.path(path).read_text(errors="replace").splitlines() for path in (_ACCESS, _KDC))
    return (
        sum("/ipa/session/" in line for line in requests),
        sum("TGS_REQ" in line and " ISSUE: " in line and f" for HTTP/{server.node.host}@" in line for line in tickets),
    )


def runs(lab: AcmeLab, pebble: Pebble) -> dict[str, tuple[Run, Run]]:
    """Return for each kind of client how it is run with our hooks, and as the floor."""
    plugin = ["--authenticator", "dns-freeipa"]
    chain, hook = [challenges.command("ipa_dns_dehydrated")], [challenges.command("ipa_dns_certbot")]
    return {
        "dehydrated": (
            lambda wanted: Dehydrated(pebble).run(wanted, chain, timeout=900),
            lambda wanted: Dehydrated(lab.pebble).run(wanted, lab.hook("dehydrated"), timeout=900),
        ),
        "certbot hooks": (
            lambda wanted: Certbot(pebble).run(wanted, hook, timeout=900),
            lambda wanted: Certbot(lab.pebble).run(wanted, lab.hook("certbot"), timeout=900),
        ),
        "certbot plugin": (
            lambda wanted: Certbot(pebble).run(wanted, options=plugin, timeout=900),
            lambda wanted: Certbot(lab.pebble).run(wanted, options=lab.rfc2136(), timeout=900),
        ),
    }


def compared(given: argparse.Namespace) -> list[dict[str, object]]:
    """Run everything and return the figures."""
    figures: list[dict[str, object]] = []
    with FreeIPA() as server, Daemons("acme-bench") as daemons, AcmeLab([challenges.ZONE]) as lab:
        client.write(server)
        challenges.run(server, challenges.commands("--zone", challenges.ZONE, "--keytab", "/run/acme.keytab"))
        challenges.configure(server)
        zones = challenges.Zones(server)
        pebble = Pebble(daemons, (names.SERVER.address, 53))
        pebble.start()
        for count in given.names:
            wanted = [f"n{number}.{challenges.ZONE}" for number in range(count)]
            for kind, both in runs(lab, pebble).items():
                if given.client and kind.replace(" ", "-") not in given.client:
                    continue
                tries = [[measured(server, run, wanted) for run in both] for _ in range(given.runs)]
                zones.check()
                ours, floor = (min(each) for each in zip(*tries))
                older = Cost(floor.wall + count * _OLD_SLEEP, 0, count * _OLD_REQUESTS, count * _OLD_LOGINS)
                figures.append({"client": kind, "names": count, "ours": ours, "floor": floor, "older": older})
                if not given.json:
                    print(line(kind, count, ours, floor, older), flush=True)
    return figures


def line(kind: str, count: int, ours: Cost, floor: Cost, older: Cost) -> str:
    """Return a line of the table."""
    return (
        f"{kind:14} {count:3} names  ours {ours.wall:6.1f} s, cpu {ours.cpu:6.1f} s, {ours.requests:3} requests, "
        f"{ours.logins:3} logins   floor {floor.wall:6.1f} s, cpu {floor.cpu:6.1f} s   "
        f"wall x{ours.wall / floor.wall:.2f}, cpu x{ours.cpu / floor.cpu:.2f}   "
        f"older hook {older.wall:4.0f} s, {older.requests} req., {older.logins} logins: x{older.wall / ours.wall:.0f}"
    )


def main(argv: Sequence[str]) -> int:
    """Run the bench, on a machine of its own, and print its figures."""
    arguments = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    arguments.add_argument("--runs", type=int, default=1, help="of each, by turns; the least counts (default 1)")
    arguments.add_argument("--names", type=int, nargs="*", default=[20, 100], help="how many names (default 20 100)")
    arguments.add_argument("--client", nargs="*", help="these alone: dehydrated, certbot-hooks, certbot-plugin")
    arguments.add_argument("--json", action="store_true", help="the figures as JSON")
    given = arguments.parse_args(argv)
    if not machine.inside():
        lacks = machine.lacking()
        if lacks:
            print(f"dns01: error: not here: {', '.join(lacks)}", file=sys.stderr)
            return 1
        return machine.run([sys.executable, __file__, *argv], names.HOSTS, names.CLIENT.host)
    figures = compared(given)
    if given.json:
        print(json.dumps([{k: v._asdict() if isinstance(v, Cost) else v for k, v in f.items()} for f in figures]))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
