#!/usr/bin/env python3
"""How fast a push to vCenter is: ours, the least that Python could do, and the shell pipeline that it replaces.

Everything runs on this machine against one emulated vCenter of the instant kind, in turn; ratios of figures from one
call are what counts. Minima tell about the programs, medians about how busy the machine was. Each push brings a new
certificate and a root that vCenter does not have; one that is not served afterwards is the end of the bench.
"""

from __future__ import annotations

import argparse
import base64
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

sys.dont_write_bytecode = True
HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path.insert(0, str(ROOT))
from tests.lab.ca import CA  # noqa: E402  the tests are no installed package
from tests.lab.vsphere.site import NAME, PASSWORD, USER, VSphereSite, served, where  # noqa: E402

OURS, AGAIN, FLOOR, SHELL = (
    "vcenter_instcert",
    "vcenter_instcert, nothing to do",
    "floor (http.client)",
    "curl, awk, base64",
)


class Run(NamedTuple):
    """One run of a command: seconds, seconds, MB."""

    wall: float
    cpu: float
    rss: float


class Bench:
    """One vCenter, and the files that all contestants use."""

    def __init__(self, site: VSphereSite, folder: Path) -> None:
        self.site, self.folder = site, folder
        self.vc = site.vcenter()
        self.before = b""  # the root of what vCenter serves
        (folder / "auth").write_text(f"Basic {base64.b64encode(f'{USER}:{PASSWORD}'.encode()).decode()}")
        (folder / "userpass").write_text(f"{USER}:{PASSWORD}")

    def renew(self) -> None:
        """Issue a certificate of a new root, and forget what vCenter got before."""
        self.site.ca = CA("Site CA")
        self.site.roots.write_bytes(self.site.ca.pem)
        self.new = self.site.certificate()
        self.site.trusted.write_bytes(self.vc.ca_pem + self.before + self.site.ca.pem)
        self.before = self.site.ca.pem

    def measure(self, *command: str, check: bool = True) -> Run:
        """Run a command, and make sure that its certificate is served."""
        output = self.folder / "output"
        measured = [sys.executable, "-I", "-S", str(HERE / "_measure.py"), str(output), *command]
        done = subprocess.run(measured, capture_output=True, text=True, check=True, env={"PATH": "/usr/bin:/bin"})
        *figures, code = done.stdout.split()
        if code != "0" or (check and served(self.vc) != self.new.sha256):
            sys.exit(f"failed: {command[0]}: {output.read_text()}")
        return Run(*map(float, figures))

    def ours(self) -> Run:
        """Push with the installed command."""
        program = str(Path(sys.executable).with_name("vcenter_instcert"))
        return self.measure(program, *self.site.argv("--state-dir", str(self.folder / "state"), self.vc))

    def shell(self) -> Run:
        """Push with the pipeline."""
        files = (self.folder / f"{NAME}.crt", self.folder / f"{NAME}.key", self.site.roots)
        url, userpass = f"https://{where(self.vc)}", self.folder / "userpass"
        words = [url, self.site.trusted, userpass, *files]
        return self.measure(str(HERE / "vcenter.sh"), *map(str, words))

    def floor(self) -> Run:
        """Send what a push of ours sends, with this certificate."""
        base = "/api/vcenter/certificate-management/vcenter"
        root = self.site.ca.pem.decode()
        spec = {"cert": self.new.cert_pem.decode(), "key": self.new.key_pem.decode(), "root_cert": root}
        requests: list[tuple[str, str, Any]] = [("POST", "/api/session", None), ("GET", f"{base}/tls", None)]
        requests += [("GET", f"{base}/trusted-root-chains", None)]
        requests += [("POST", f"{base}/trusted-root-chains", json.dumps({"cert_chain": {"cert_chain": [root]}}))]
        requests += [("PUT", f"{base}/tls", json.dumps(spec)), ("GET", f"{base}/tls", None)]
        requests += [("DELETE", "/api/session", None)]
        file = self.folder / "requests"
        file.write_text(json.dumps(requests))
        words = [self.vc.address, self.vc.port, self.site.trusted, file, self.folder / "auth"]
        return self.measure(sys.executable, "-I", str(HERE / "_vcenter_floor.py"), *map(str, words))


def main() -> None:
    """Run all in turn, and print minima, medians and ratios."""
    arguments = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    arguments.add_argument("--rounds", type=int, default=10)
    rounds = arguments.parse_args().rounds
    runs: dict[str, list[Run]] = {OURS: [], AGAIN: [], FLOOR: [], SHELL: []}
    with tempfile.TemporaryDirectory() as name, VSphereSite(Path(name)) as site:
        os.chmod(name, 0o700)  # noqa: PTH101
        bench = Bench(site, Path(name))
        for number in range(rounds + 1):
            for kind, push in ((OURS, bench.ours), (AGAIN, bench.ours), (FLOOR, bench.floor), (SHELL, bench.shell)):
                if kind != AGAIN:
                    bench.renew()
                run = push()
                if number:  # the first round fills caches
                    runs[kind].append(run)
    floor = runs[FLOOR]
    print(f"{'':34} {'wall ms':>16} {'cpu ms':>16} {'MB':>6}   wall/floor  cpu/floor   (minimum, median)")
    for kind, found in runs.items():
        wall, cpu = [run.wall for run in found], [run.cpu for run in found]
        figures = [f"{1000 * min(v):7.0f} {1000 * median(v):7.0f}" for v in (wall, cpu)]
        ratios = [
            f"{pick([r[i] for r in found]) / pick([r[i] for r in floor]):.2f}" for i in (0, 1) for pick in (min, median)
        ]
        rss = max(run.rss for run in found)
        print(
            f"{kind:34} {figures[0]:>16} {figures[1]:>16} {rss:6.0f}   {' '.join(ratios[:2])}   {' '.join(ratios[2:])}"
        )


if __name__ == "__main__":
    main()
