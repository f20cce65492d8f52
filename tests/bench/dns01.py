#!/usr/bin/env python3
"""What the dns-01 hooks cost: API requests, CPU and wall of many names, beside the floor and an older hook.

The hooks are called as dehydrated (HOOK_CHAIN) and certbot call them, on this machine, against a stub of FreeIPA that
keeps its zone in a real BIND. The floor is nsupdate with a TSIG key straight into that BIND, one process a call, and no
wait. The older hook (two logins a record, 25 s of sleep before each validation) is computed, not slept. The clients
themselves are not part of it: what they add is the same for all. Minima of several runs in turn; the stub answers at
once, so that FreeIPA's own time, 20 to 110 ms a command, is not in the figures.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

sys.dont_write_bytecode = True
HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[1]))
from tests.lab.dns01 import Scene  # noqa: E402  the tests are no installed package

if TYPE_CHECKING:
    from collections.abc import Sequence

_OLD_SLEEP, _OLD_REQUESTS = 25.0, 2 * 2  # for each record: login and command, to add it and to remove it
_PATH = "/usr/sbin:/usr/bin:/sbin:/bin"


class Cost(NamedTuple):
    """Seconds, seconds, requests to FreeIPA's API (logins among them)."""

    wall: float
    cpu: float
    requests: int = 0

    def __add__(self, other: object) -> Cost:
        assert isinstance(other, Cost)
        return Cost(self.wall + other.wall, self.cpu + other.cpu, self.requests + other.requests)


def measured(scene: Scene, argv: Sequence[str], env: dict[str, str]) -> Cost:
    """Run a command, which must succeed."""
    before = len(scene.ipa.requests)
    output = scene.folder / "output"
    command = [sys.executable, "-I", "-S", str(HERE / "_measure.py"), str(output), *argv]
    done = subprocess.run(command, env={"PATH": _PATH, **env}, capture_output=True, text=True, check=True)
    wall, cpu, _, code = done.stdout.split()
    assert code == "0", output.read_text()
    return Cost(float(wall), float(cpu), len(scene.ipa.requests) - before)


def hooks(scene: Scene, client: str, names: Sequence[str]) -> Cost:
    """Add and remove a value for each name, as a client has it done."""
    script = str(Path(sys.executable).with_name(f"ipa_dns_{client}"))
    total = Cost(0, 0)
    for verb in ("deploy_challenge", "clean_challenge") if client == "dehydrated" else ("auth", "cleanup"):
        if client == "dehydrated":
            triples = [word for name in names for word in (name, "token", f"value-{name}")]
            total += measured(scene, [script, *scene.options, verb, *triples], {})
            continue
        for left, name in zip(range(len(names) - 1, -1, -1), names):
            env = {
                "CERTBOT_DOMAIN": name,
                "CERTBOT_VALIDATION": f"value-{name}",
                "CERTBOT_REMAINING_CHALLENGES": str(left),
            }
            total += measured(scene, [script, *scene.options, verb], env)
    return total


def floor(scene: Scene, client: str, names: Sequence[str]) -> Cost:
    """Do the same with nsupdate and a key."""
    total = Cost(0, 0)
    for verb in ("add", "delete"):
        for some in [names] if client == "dehydrated" else [[name] for name in names]:
            lines = [f"server {scene.dns.address} {scene.dns.port}", "zone example.test."]
            ttl = "60 " if verb == "add" else ""
            lines += [f"update {verb} _acme-challenge.{name}. {ttl}TXT value-{name}" for name in some]
            script = scene.folder / "script"
            script.write_text("\n".join([*lines, "send", ""]))
            total += measured(scene, ["/usr/bin/nsupdate", "-k", str(scene.dns.key_file), str(script)], {})
    return total


def main() -> int:
    """Run the bench and print its figures."""
    arguments = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    arguments.add_argument("--runs", type=int, default=3, help="of each, in turn (default 3)")
    arguments.add_argument("--names", type=int, nargs="*", default=[20, 100], help="how many names (default 20 100)")
    arguments.add_argument("--json", action="store_true", help="the figures as JSON")
    given = arguments.parse_args()
    figures = []
    with tempfile.TemporaryDirectory() as folder, Scene(Path(folder)) as scene:
        for count in given.names:
            names = [f"n{n}.example.test" for n in range(count)]
            for client in ("dehydrated", "certbot"):
                ours, least = [], []
                for _ in range(given.runs if client == "dehydrated" else 1):
                    ours.append(hooks(scene, client, names))
                    least.append(floor(scene, client, names))
                assert not scene.ours()
                assert scene.ipa.zones["example.test"].keys() == {"@"}
                best, bottom = min(ours), min(least)
                old = Cost(count * _OLD_SLEEP, 0, count * _OLD_REQUESTS)
                figures.append({"client": client, "names": count, "ours": best, "floor": bottom, "older": old})
                if not given.json:
                    print(
                        f"{client:10} {count:4} names  ours {best.wall:6.2f} s wall {best.cpu:6.2f} s cpu "
                        f"{best.requests:4} requests   floor {bottom.wall:6.2f} s {bottom.cpu:6.2f} s   "
                        f"older hook {old.wall:6.0f} s {old.requests:4} requests",
                        flush=True,
                    )
    if given.json:
        print(json.dumps([{k: v._asdict() if isinstance(v, Cost) else v for k, v in f.items()} for f in figures]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
