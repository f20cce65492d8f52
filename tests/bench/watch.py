#!/usr/bin/env python3
"""What ``certhooks status`` and a reconcile with nothing to do cost, by how many requests and targets there are.

Everything is real but the devices: certmonger on a bus of its own, with the file of one request that it made multiplied
(nickname, key, certificate, files and post-save command differ), journals as pushes write them (full: 20 attempts), and
besides one push in 20 that certmonger knows nothing of. Devices are TLS ports of one other process, each with its own
certificate: as long as there is nothing to do, no device's API is called. The floor is ``getcert list`` and a bare
handshake a target with 64 threads. Minima tell about the programs, medians about how busy the machine was.

Then, in trouble: of the devices some serve another certificate, some refuse the connection, some take it and never
answer. Timeouts may cost as much as the longest of them, not as much as all together.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any, NamedTuple

from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from certhooks import installers
from certhooks.certmonger import Certmonger
from certhooks.deadline import Deadline
from certhooks.journal import DONE, Attempt, Journal

sys.dont_write_bytecode = True
HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path.insert(0, str(ROOT))
from tests.bench._devices import Devices  # noqa: E402  the tests are no installed package
from tests.bench._endpoints import DEAF, OTHER, REFUSED  # noqa: E402
from tests.lab.ca import CA  # noqa: E402
from tests.lab.certmonger import CertmongerLab  # noqa: E402

if TYPE_CHECKING:
    from tests.lab.ca import Issued

SECONDS, MEGABYTES = 10.0, 150.0  # the aim, for 1,000 targets
AIM = 1000
ATTEMPTS = 20
ONE_OFF = 20  # one push in so many
PAGES = {
    "status": ("status",),
    "status --json": ("status", "--json"),
    "status --html": ("status", "--html", "page.html"),
    "status --prometheus": ("status", "--prometheus", "metrics.prom"),
}
COMMANDS = {**PAGES, "reconcile": ("reconcile",)}
IN_TROUBLE = {"status": ("status",), "reconcile --dry-run": ("reconcile", "--dry-run")}
FLOOR = "floor"


class Run(NamedTuple):
    """One run of a command: seconds, seconds, MB."""

    wall: float
    cpu: float
    rss: float


class Host:
    """An enrolled host with that many tracked requests, each with one target, and some one-off pushes."""

    def __init__(self, stack: contextlib.ExitStack, count: int) -> None:
        self.count, self.total = count, count + count // ONE_OFF
        self.folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="certhooks-bench-")))
        self.devices = stack.enter_context(Devices(sys.executable, HERE / "_endpoints.py"))
        self.lab = stack.enter_context(CertmongerLab())
        self.bin = Path(sys.executable).parent
        (self.folder / "notify.conf").touch(mode=0o600)
        self.ports: list[int] = self.devices.ask("start", count=self.total)
        (self.folder / "ports").write_text(" ".join(map(str, self.ports)))
        ca = CA("bench CA")
        issued = [ca.issue([self.name(at)]) for at in range(self.total)]
        for at, one in enumerate(issued):
            self._keep(str(at), one)
            self._keep(self.name(at), one)
            self._journal(at, one)
        self.devices.ask("use", folder=str(self.folder))
        self._track(issued[:count])

    @staticmethod
    def name(at: int) -> str:
        """Return the common name of a certificate."""
        return f"gp{at}.example.test"

    def words(self, at: int) -> list[str]:
        """Return the command that installs a certificate: of a request, or from its files."""
        tracked = at < self.count
        where = f"localhost:{self.ports[at]}"
        folders = ["--cert-dir", str(self.folder), "--key-dir", str(self.folder)]
        return [
            str(self.bin / "pan_instcert"),
            *([] if tracked else ["-b"]),
            *("-c", self.name(at), "-k", str(self.folder / "panrc"), "-p", "GP_PORTAL", *folders),
            *("--state-dir", str(self.folder / "state"), "--probe", where, where),
        ]

    def run(self, *argv: object, expect: int = 0) -> Run:
        """Run a command in this host's folder; another exit code than expected is the end of the bench."""
        output = self.folder / "output"
        measured = [sys.executable, "-I", "-S", str(HERE / "_measure.py"), str(output), *map(str, argv)]
        env = {"PATH": "/usr/bin:/bin", "DBUS_SYSTEM_BUS_ADDRESS": self.lab.address}
        done = subprocess.run(measured, capture_output=True, text=True, check=True, env=env, cwd=self.folder)
        *figures, code = map(float, done.stdout.split())
        if code != expect:
            raise SystemExit(
                f"bench: {' '.join(map(str, argv))[:200]} ended with {code:g}\n{output.read_text()[:2000]}"
            )
        return Run(*figures)

    def certhooks(self, *words: str, expect: int = 0) -> Run:
        """Run the installed command."""
        own = ("--state-dir", self.folder / "state", "--config", self.folder / "notify.conf")
        return self.run(self.bin / "certhooks", *words, *own, "--log-file", self.folder / "log", expect=expect)

    def floor(self) -> Run:
        """Run the baseline."""
        return self.run(sys.executable, "-I", HERE / "_watch_floor.py", self.folder / "ports")

    def check(self) -> None:
        """Leave if status does not show every target in step, with its certificate seen."""
        self.certhooks("status", "--json")
        shown = json.loads((self.folder / "output").read_text())
        places = [(one, place) for one in shown["watched"] for place in one["placements"]]
        good = [
            one["leaf"]["fingerprint"] == place["pushed"]["fingerprint"] == place["served"][0]["leaf"]["fingerprint"]
            for one, place in places
        ]
        if shown["level"] != "ok" or good != [True] * self.total:
            raise SystemExit(f"bench: {sum(good)} of {self.total} targets are in step, level {shown['level']}")

    def _keep(self, name: str, one: Issued) -> None:
        (self.folder / f"{name}.crt").write_bytes(one.cert_pem)
        key = self.folder / f"{name}.key"
        key.touch(mode=0o600)
        key.write_bytes(one.key_pem)

    def _journal(self, at: int, one: Issued) -> None:
        """Write what years of renewals leave behind: a full journal, whose last attempt brought this certificate."""
        words, now = self.words(at), time.time()
        plan = installers.plan("pan_instcert", words[1:])
        [place] = plan.places
        made = Attempt(
            one.sha256,
            subject=f"CN={self.name(at)}",
            not_after=one.certificate.not_valid_after_utc.isoformat(),
            command=words,
            touches=[f"/config/shared/{what}" for what in ("certificate/entry[@name='x']", "ssl-tls-service-profile")],
            steps=[{"step": step, "at": now} for step in ("import", "bind", "commit", "verify")],
            endpoints=list(plan.probes),
            cwd="/",
        )
        past = {"started": now - 86400, "ended": now - 86000, "outcome": DONE}
        journal = Journal(self.folder / "state")
        record = journal.record(place.target)
        record.attempts = [
            dataclasses.replace(made, fingerprint=f"{number:064x}", **past) for number in range(ATTEMPTS - 1)
        ]
        with journal.lock(place.device, Deadline(1.0)):
            record.end(record.begin(made), DONE)

    def _track(self, issued: list[Issued]) -> None:
        """Have certmonger track them all, as if it had requested each."""
        self.lab.request(self.name(0))
        self.lab.stop_daemon()
        [file] = (self.lab.folder / "requests").iterdir()
        stored = file.read_text()
        for at, one in enumerate(issued):
            (file.parent / f"{file.name}-{at}").write_text(_multiplied(stored, self._changes(at, one)))
        file.unlink()
        self.lab.start_daemon(600.0)
        os.environ["DBUS_SYSTEM_BUS_ADDRESS"] = self.lab.address
        self.lab.wait_for(self._tracked, 300.0)

    def _tracked(self) -> bool:
        with Certmonger.open(60.0) as certmonger:
            requests = certmonger.requests()
        return len(requests) == self.count and all(one.monitoring for one in requests)

    def _changes(self, at: int, one: Issued) -> dict[str, str]:
        """Return what differs in the file of a request; an empty text where something is left out."""
        cert = one.certificate
        spki = cert.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo).hex().upper()
        names = {what: self.name(at) for what in ("cert_hostname", "template_subject", "template_hostname", "id")}
        return {
            **names,
            **dict.fromkeys(("cert_principal", "template_principal", "csr", "spkac", "scep_tx", "minicert"), ""),
            "key_storage_location": str(self.folder / f"{self.name(at)}.key"),
            "key_pubkey_info": spki,
            "cert_storage_location": str(self.folder / f"{self.name(at)}.crt"),
            "cert_issuer_der": cert.issuer.public_bytes().hex().upper(),
            "cert_issuer": "CN=bench CA",
            "cert_serial": f"{cert.serial_number:040X}",
            "cert_subject_der": cert.subject.public_bytes().hex().upper(),
            "cert_subject": f"CN={self.name(at)}",
            "cert_spki": spki,
            "cert_not_before": f"{cert.not_valid_before_utc:%Y%m%d%H%M%S}",
            "cert_not_after": f"{cert.not_valid_after_utc:%Y%m%d%H%M%S}",
            "cert": "\n ".join(one.cert_pem.decode().splitlines()) + "\n",
            "post_certsave_command": self.lab.hook_command(self.words(at)),
            "post_certsave_uid": str(os.getuid()),
        }


def main() -> int:
    """Measure each size, and then the trouble; the exit code is 0 whatever the figures are."""
    made = argparse.ArgumentParser(prog="watch", description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    made.add_argument("--rounds", type=int, default=5, metavar="N", help="(default %(default)s)")
    made.add_argument("--sizes", default=f"100,{AIM},2000", metavar="N,N", help="requests (default %(default)s)")
    made.add_argument("--json", action="store_true", help="the figures as JSON: seconds and MB")
    args = made.parse_args()
    found: dict[str, Any] = {}
    for count in map(int, args.sizes.split(",")):
        with contextlib.ExitStack() as stack:
            began = time.perf_counter()
            host = Host(stack, count)
            host.check()
            print(f"{host.total} targets are up after {time.perf_counter() - began:.0f} s", file=sys.stderr)
            found[str(host.total)] = _measured(host, args.rounds)
            for name, (share, kinds) in {"5 %": (0.05, (OTHER, REFUSED, DEAF)), "half deaf": (0.5, (DEAF,))}.items():
                found[f"{host.total}, {name}"] = _in_trouble(host, share, kinds, args.rounds)
    print(json.dumps(found, indent=1) if args.json else "\n".join(_told(found, args.rounds)))
    return 0


def _measured(host: Host, rounds: int) -> dict[str, Any]:
    """Run all in turn; the first round fills caches and does not count."""
    runs: dict[str, list[Run]] = {name: [] for name in (FLOOR, *COMMANDS)}
    for _ in range(rounds + 1):
        runs[FLOOR].append(host.floor())
        for name, words in COMMANDS.items():
            runs[name].append(host.certhooks(*words))
    return {name: _summary(values[1:]) for name, values in runs.items()}


def _in_trouble(host: Host, share: float, kinds: tuple[str, ...], rounds: int) -> dict[str, Any]:
    """Have a share of the devices misbehave, spread evenly, and look again."""
    step = max(1, round(1 / share))
    bad = list(range(0, host.total, step))
    host.devices.ask("trouble", places={how: bad[at :: len(kinds)] for at, how in enumerate(kinds)})
    level = 2 if OTHER in kinds else 1
    runs: dict[str, list[Run]] = {name: [] for name in IN_TROUBLE}
    for _ in range(max(1, rounds // 2)):
        for name, words in IN_TROUBLE.items():
            runs[name].append(host.certhooks(*words, expect=level if name == "status" else 0))
    return {name: _summary(values) for name, values in runs.items()}


def _summary(runs: list[Run]) -> dict[str, Any]:
    made: dict[str, Any] = {"rounds": len(runs)}
    for field in Run._fields:
        values = [getattr(run, field) for run in runs]
        made[field] = {"min": min(values), "median": median(values), "max": max(values)}
    return made


def _told(found: dict[str, Any], rounds: int) -> list[str]:
    lines = [f"{rounds} rounds; minimum / median, of memory the maximum; {os.cpu_count()} cores"]
    lines += [f"{'targets':18}{'':22}{'wall s':>14}{'CPU s':>14}{'MB':>6}{'ms a target':>13}{'floors':>8}"]
    for size, runs in found.items():
        targets = int(re.match(r"\d+", size)[0])  # type: ignore[index]
        for name, one in runs.items():
            wall, cpu = (f"{one[what]['min']:.2f} / {one[what]['median']:.2f}" for what in ("wall", "cpu"))
            floors = f"{one['wall']['min'] / runs[FLOOR]['wall']['min']:.2f}" if FLOOR in runs else ""
            each = 1000 * one["wall"]["min"] / targets
            lines += [f"{size:18}{name:22}{wall:>14}{cpu:>14}{one['rss']['max']:>6.0f}{each:>13.2f}{floors:>8}"]
        if AIM <= targets < 2 * AIM and FLOOR in runs:
            ours = [one for name, one in runs.items() if name != FLOOR]
            lines += [_aim("wall s", max(one["wall"]["min"] for one in ours), SECONDS)]
            lines += [_aim("peak MB", max(one["rss"]["max"] for one in ours), MEGABYTES)]
    return lines


def _aim(name: str, value: float, aim: float) -> str:
    return f"  worst {name} {value:.2f}, aim at most {aim:g}: {'met' if value <= aim else 'MISSED'}"


def _multiplied(stored: str, changes: dict[str, str]) -> str:
    """Return a request's file with other values; a value goes on in lines that begin with a blank."""
    entries = dict(entry.split("=", 1) for entry in re.split(r"\n(?! )", stored.rstrip("\n")))
    return "".join(f"{name}={value}\n" for name, value in {**entries, **changes}.items() if value)


if __name__ == "__main__":
    sys.exit(main())
