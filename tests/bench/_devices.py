"""Emulated firewalls in a process of their own, told what to do by JSON lines: what is measured is not them.

``Devices`` is the caller's side; run as a module it is the other one.
"""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from typing_extensions import Self

ROOT = Path(__file__).resolve().parents[2]
PROFILES = ("GP_PORTAL", "GP_GATEWAY")


class Devices:
    """Starts the process and asks it; ``program`` answers by ``serve``."""

    def __init__(self, python: str, program: Path = Path(__file__)) -> None:
        argv = [python, str(program)]
        self._process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.stdin.close()  # type: ignore[union-attr]  # it is a pipe
        self._process.wait(10)

    def ask(self, what: str, **how: Any) -> Any:
        """Have it done and return the answer."""
        self._process.stdin.write(json.dumps([what, how]) + "\n")  # type: ignore[union-attr]  # they are pipes
        self._process.stdin.flush()  # type: ignore[union-attr]
        line = self._process.stdout.readline()  # type: ignore[union-attr]
        if not line:
            raise SystemExit("bench: the emulator is gone")
        return json.loads(line)


class _Server:
    """What can be asked."""

    def __init__(self) -> None:
        from tests.lab.ca import CA

        self.ca = CA("bench CA")
        self.old = self.ca.issue(["gp.example.test"])
        self.own = self.ca.issue(["localhost", "127.0.0.1"])
        self.firewalls: dict[int, Any] = {}

    def start(self, count: int, commit_seconds: float, key: str) -> list[int]:
        """Start new firewalls, which have never seen our key, and return their ports."""
        from tests.lab.panos import Firewall
        from tests.lab.panos.certificates import checked_key

        checked_key.cache_clear()
        ports = []
        for _ in range(count):
            tls = self.own.fullchain_pem, self.own.key_pem
            serial = f"{7 * 10**12 + len(self.firewalls)}"
            firewall = Firewall("localhost", tls=tls, ca=self.ca, serial=serial, commit_seconds=commit_seconds)
            firewall.add_admin("certhooks", key=key)
            firewall.add_certificate("old", self.old)
            for profile in PROFILES:
                firewall.add_profile(profile, certificate="old")
            firewall.start()
            self.firewalls[firewall.port] = firewall
            ports.append(firewall.port)
        return ports

    def issue(self, folder: str, name: str) -> str:
        """Write a new certificate with an RSA key of 2048 bits, and what to trust; return its fingerprint."""
        issued = self.ca.issue([name], key_type="rsa")
        Path(folder, f"{name}.crt").write_bytes(issued.cert_pem)
        key = Path(folder, f"{name}.key")
        key.touch(mode=0o600)
        key.write_bytes(issued.key_pem)
        Path(folder, "ca.pem").write_bytes(self.ca.root_pem)
        return issued.sha256

    def state(self, port: int, name: str) -> dict[str, Any]:
        """Return what a firewall runs: fingerprint of the certificate, whether with a key, profiles bound to it."""
        from cryptography.hazmat.primitives import hashes

        firewall = self.firewalls[port]
        found = firewall.certificate(name, running=True)
        return {
            "fingerprint": found.fingerprint(hashes.SHA256()).hex() if found else "",
            "key": bool(found and firewall.key_of(name, running=True)),
            "bound": [each for each in PROFILES if firewall.profile_certificate(each) == name],
            "requests": firewall.count(),
        }

    def record(self, port: int, path: str) -> int:
        """Write the requests that a firewall got, a poll of a job once; return how many."""
        requests = [(each.headers.get("Content-Type", ""), each.body) for each in self.firewalls[port].requests]
        once = [request for request, _polls in itertools.groupby(requests)]
        Path(path).write_bytes(b"".join(f"{kind}\n{len(body)}\n".encode() + body for kind, body in once))
        return len(once)

    def stop(self) -> None:
        """Stop all."""
        for firewall in self.firewalls.values():
            firewall.stop()
        self.firewalls.clear()

    def cpu(self) -> float:
        """Return the seconds of CPU that this process has used."""
        return time.process_time()


def serve(server: Any) -> None:
    """Call the methods that the lines on standard input name, until it ends, and then ``stop``."""
    for line in sys.stdin:
        what, how = json.loads(line)
        print(json.dumps(getattr(server, what)(**how)), flush=True)
    server.stop()


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    serve(_Server())
