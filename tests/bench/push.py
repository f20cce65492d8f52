#!/usr/bin/env python3
"""How fast a push is: ours, the least that Python could do, and the shell pipeline that it replaces, in turn.

Everything runs on this machine against the same emulated firewalls, in a process of their own; ratios of figures from
one call are what counts. Minima tell about the programs, medians about how busy the machine was. Each push puts a new
certificate onto a new firewall, binds two profiles and commits; one that did not is the end of the bench.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any, Callable, NamedTuple

sys.dont_write_bytecode = True
HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path.insert(0, str(ROOT))
from tests.bench._devices import PROFILES, Devices  # noqa: E402  the tests are no installed package

NAME = "gp.example.test"
PUSHED = f"{NAME}_{time.strftime('%Y', time.gmtime(time.time() - 3600))}"  # the lab's certificates begin an hour ago


class Run(NamedTuple):
    """One run of a command: seconds, seconds, MB."""

    wall: float
    cpu: float
    rss: float


class Site:
    """Files, commands and firewalls of one bench."""

    def __init__(self, folder: Path, devices: Devices, python: str, commit_seconds: float) -> None:
        self.folder, self.devices, self.python, self.commit_seconds = folder, devices, python, commit_seconds
        self.bin = Path(python).parent
        self.key = "LUFRPT1CZW5jaA" + secrets.token_hex(16)
        for name, text in (("panrc", f"api_key={self.key}\n"), ("key", self.key)):
            os.close(os.open(folder / name, os.O_CREAT, 0o600))
            (folder / name).write_text(text)
        self.legacy = "-legacy" if _has_legacy() else ""
        self.fingerprint = ""

    def issue(self) -> None:
        """Write a new certificate."""
        self.fingerprint = self.devices.ask("issue", folder=str(self.folder), name=NAME)

    def firewalls(self, count: int = 1, commit_seconds: float | None = None) -> list[int]:
        """Start new firewalls and return their ports."""
        seconds = self.commit_seconds if commit_seconds is None else commit_seconds
        return self.devices.ask("start", count=count, commit_seconds=seconds, key=self.key)

    def run(self, *argv: object) -> Run:
        """Run a command; a failure is the end of the bench."""
        output = self.folder / "output"
        launcher = [self.python, "-I", "-S", str(HERE / "_measure.py"), str(output), *map(str, argv)]
        done = subprocess.run(launcher, capture_output=True, text=True, check=True, env={"PATH": "/usr/bin:/bin"})
        wall, cpu, rss, code = map(float, done.stdout.split())
        if code:
            raise SystemExit(f"bench: {' '.join(map(str, argv))[:200]} failed ({code:g})\n{output.read_text()}")
        return Run(wall, cpu, rss)

    def ours(self, *ports: int) -> Run:
        """Push as users do."""
        f = self.folder
        files = ("-C", f, "-K", f, "-k", f / "panrc", "--cafile", f / "ca.pem")
        own = ("--state-dir", f / "state", "--log-file", f / "log")
        profiles = ("-p", PROFILES[0], "-s", PROFILES[1])
        devices = (f"127.0.0.1:{port}" for port in ports)
        return self.run(self.bin / "pan_instcert", "-b", "-c", NAME, "-Y", *profiles, *files, *own, *devices)

    def floor(self, port: int, requests: Path) -> Run:
        """Send what ours sent."""
        f = self.folder
        return self.run(self.python, "-I", HERE / "_floor.py", port, f / "ca.pem", f / "key", requests)

    def pipeline(self, port: int) -> Run:
        """Push with openssl, curl and panxapi.py."""
        f = self.folder
        pair = (f / f"{NAME}.crt", f / f"{NAME}.key")
        panxapi = self.bin / "panxapi.py"
        return self.run(
            "/bin/bash", HERE / "pipeline.sh", port, f / "ca.pem", f / "key", PUSHED, *pair, panxapi, self.legacy
        )

    def expect(self, *ports: int) -> int:
        """Leave if a firewall does not run the new certificate; return the requests of the last one."""
        for port in ports:
            state = self.devices.ask("state", port=port, name=PUSHED)
            if (state["fingerprint"], state["key"], len(state["bound"])) != (self.fingerprint, True, len(PROFILES)):
                raise SystemExit(f"bench: firewall {port} does not run the new certificate: {state}")
        return state["requests"]


def main() -> int:
    """Run it all, print figures, ratios and aims; the exit code is 0 whatever they are."""
    args = _arguments()
    _compile(args.python)
    found: dict[str, Any] = {}
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="certhooks-bench-")))
        devices = stack.enter_context(Devices(args.python))
        site = Site(folder, devices, args.python, args.commit_seconds)
        found["single"] = _single(site, args.rounds)
        found["start"] = _start(site, args.rounds)
        if args.fleet:
            found["fleet"] = _fleet(site, args.fleet, 2.0)
    print(json.dumps(found, indent=1) if args.json else _told(found, site.legacy, args))
    return 0


def _arguments() -> argparse.Namespace:
    here = ROOT / ".venv/bin/python"
    made = argparse.ArgumentParser(prog="push", description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    made.add_argument("--rounds", type=int, metavar="N", help="(default 15)")
    made.add_argument("--fleet", type=int, metavar="N", help="devices of the fleet, 0 for none (default 200)")
    made.add_argument("--quick", action="store_true", help="3 rounds and a fleet of 20, unless told")
    made.add_argument("--commit-seconds", type=float, default=0.0, help="of a single push (default %(default)s)")
    made.add_argument("--python", default=str(here if here.exists() else sys.executable), help="of the environment")
    made.add_argument("--json", action="store_true", help="the figures as JSON: seconds and MB")
    args = made.parse_args()
    args.rounds = args.rounds or (3 if args.quick else 15)
    args.fleet = args.fleet if args.fleet is not None else 20 if args.quick else 200
    return args


def _single(site: Site, rounds: int) -> dict[str, Any]:
    """Push with each, in an order that moves on with each round; the first round warms up and does not count."""
    recorded = site.folder / "requests"
    pushes: dict[str, Callable[[int], Run]] = {
        "ours": site.ours,
        "floor": lambda port: site.floor(port, recorded),
        "bash": site.pipeline,
    }
    runs: dict[str, list[Run]] = {**{name: [] for name in pushes}, "nothing to do": []}
    counts: dict[str, int] = {}
    for turn in range(rounds + 1):
        site.issue()
        (port,) = site.firewalls()
        site.ours(port)
        site.devices.ask("record", port=port, path=str(recorded))  # the floor repeats it with this certificate
        names = list(pushes)
        for name in names[turn % 3 :] + names[: turn % 3]:
            (port,) = site.firewalls()
            runs[name].append(pushes[name](port))
            counts[name] = site.expect(port)
            if name == "ours":
                runs["nothing to do"].append(site.ours(port))
                counts["nothing to do"] = site.expect(port) - counts["ours"]
        site.devices.ask("stop")
    return {name: {**_summary(values[1:]), "requests": counts[name]} for name, values in runs.items()}


def _start(site: Site, rounds: int) -> dict[str, Any]:
    commands = {
        "python -I -c pass": (site.python, "-I", "-c", "pass"),
        "pan_instcert --help": (site.bin / "pan_instcert", "--help"),
        "pan_instcert --version": (site.bin / "pan_instcert", "--version"),
        "pan_getcert --help": (site.bin / "pan_getcert", "--help"),
    }
    runs: dict[str, list[Run]] = {name: [] for name in commands}
    for _ in range(rounds + 1):
        for name, argv in commands.items():
            runs[name].append(site.run(*argv))
    return {name: _summary(values[1:]) for name, values in runs.items()}


def _fleet(site: Site, count: int, commit_seconds: float) -> dict[str, Any]:
    site.issue()
    ports = site.firewalls(count, commit_seconds)
    before = site.devices.ask("cpu")
    run = site.ours(*ports)
    emulator = site.devices.ask("cpu") - before
    site.expect(*ports)
    site.devices.ask("stop")
    return {"devices": count, "commit": commit_seconds, "emulator_cpu": emulator, **run._asdict()}


def _summary(runs: list[Run]) -> dict[str, Any]:
    made: dict[str, Any] = {"rounds": len(runs)}
    for field in Run._fields:
        values = [getattr(run, field) for run in runs]
        made[field] = {"min": min(values), "median": median(values)}
    return made


def _told(found: dict[str, Any], legacy: str, args: argparse.Namespace) -> str:
    single, start = found["single"], found["start"]
    lines = [
        f"One push: RSA-2048, two profiles, commit of {args.commit_seconds:g} s; {args.rounds} rounds, min / median",
        f"{'':24}{'wall ms':>14}{'CPU ms':>14}{'peak MB':>9}{'requests':>10}",
    ]
    lines += [_row(name, values) for name, values in single.items()]
    lines.append("bash: openssl pkcs12, curl twice, panxapi.py three times; all verify TLS by a CA file")
    lines.append("      openssl with -legacy" if legacy else "      openssl without -legacy: it has no such provider")
    lines += [
        _ratio("ours / floor, CPU", single["ours"], single["floor"], "cpu"),
        _ratio("ours / bash, CPU", single["ours"], single["bash"], "cpu", 0.5),
        _ratio("ours / bash, wall", single["ours"], single["bash"], "wall", 0.25),
        "",
        f"Start{'':19}{'wall ms':>14}{'CPU ms':>14}{'peak MB':>9}",
    ]
    lines += [_row(name, values) for name, values in start.items()]
    bare = start["python -I -c pass"]
    lines += [
        _ratio(f"{name} / bare", values, bare, "wall", 5.0 if "--help" in name else 0.0)
        for name, values in start.items()
        if values != bare
    ]
    if "fleet" in found:
        fleet = found["fleet"]
        lines += [
            "",
            f"Fleet of {fleet['devices']}, {fleet['commit']:g} s a commit, {os.cpu_count()} cores",
            f"  CPU {fleet['cpu']:.2f} s, {1000 * fleet['cpu'] / fleet['devices']:.0f} ms a device",
            f"  the emulator's CPU, on the same cores, {fleet['emulator_cpu']:.2f} s",
            _aim("wall s", fleet["wall"], 8.0),
            _aim("peak MB", fleet["rss"], 60.0),
        ]
    return "\n".join(lines)


def _row(name: str, values: dict[str, Any]) -> str:
    wall, cpu = (f"{1000 * values[f]['min']:.0f} / {1000 * values[f]['median']:.0f}" for f in ("wall", "cpu"))
    return f"{name:24}{wall:>14}{cpu:>14}{values['rss']['min']:>9.1f}{values.get('requests', ''):>10}"


def _ratio(name: str, one: dict[str, Any], other: dict[str, Any], field: str, aim: float = 0.0) -> str:
    least, middle = (one[field][kind] / other[field][kind] for kind in ("min", "median"))
    return _aim(name, least, aim) + f" (of medians {middle:.2f})"


def _aim(name: str, value: float, aim: float) -> str:
    held = f", aim at most {aim:g}: {'met' if value <= aim else 'MISSED'}" if aim else ""
    return f"  {name:32}{value:.2f}{held}"


def _compile(python: str) -> None:
    """Compile what an installed package has compiled."""
    folders = [ROOT / "lib/src", *ROOT.glob("hooks/*/src")]
    code = "import os, cryptography, pan; print(os.path.dirname(cryptography.__file__), *pan.__path__)"
    found = subprocess.run([python, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    for folder in [*folders, *found]:
        subprocess.run([python, "-m", "compileall", "-q", str(folder)], check=False, stdout=subprocess.DEVNULL)


def _has_legacy() -> bool:
    openssl = shutil.which("openssl")
    if not openssl:
        raise SystemExit("bench: the baseline needs openssl, curl and bash")
    argv = [openssl, "list", "-providers", "-provider", "legacy"]
    return subprocess.run(argv, capture_output=True, check=False).returncode == 0


if __name__ == "__main__":
    sys.exit(main())
