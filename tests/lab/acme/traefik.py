"""The real Traefik, of PyPI: ``Traefik``, with a router whose certificate its ACME resolver gets by dns-01.

done = Traefik(pebble).run(["www.acme.test"], hook=["/path/of/the/hook"])
"""

from __future__ import annotations

import base64
import json
import time
from typing import TYPE_CHECKING, Any

from tests.lab.acme.bind import free_port
from tests.lab.acme.clients import EMAIL, FOREIGN, LegoClient, Result

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

TRAEFIK = FOREIGN / "traefik"
_FAILED = "Unable to obtain ACME certificate"  # it goes on without


class Traefik(LegoClient):
    """Traefik; each run starts it afresh, waits for the certificate and ends it. It needs root."""

    def _ask(self, names: Sequence[str], kind: str, env: Mapping[str, str], timeout: float) -> Result:
        fullchain = self.folder / "fullchain.pem"
        log, store = self.folder / "log", self.folder / "acme.json"
        for file in (fullchain, store):
            file.unlink(missing_ok=True)
        log.write_text("")
        start = time.monotonic()
        command = self._command(names, store, kind)
        daemon = self.daemons.start(command, log, lambda: True, env=env, family=True)
        found = b""
        while not found and _FAILED not in log.read_text() and time.monotonic() < start + timeout:
            time.sleep(0.02)
            found = _stored(store, names)
        seconds = time.monotonic() - start
        self.daemons.end(daemon)
        if found:
            fullchain.write_bytes(found)
        return Result(0 if found else 1, log.read_text(), seconds, fullchain)

    def _command(self, names: Sequence[str], store: Path, kind: str) -> list[str]:
        domain = {"main": names[0], "sans": list(names[1:])}
        tls = {"certResolver": "lab", "domains": [domain]}
        router = {"rule": "PathPrefix(`/`)", "service": "nothing", "entryPoints": ["web"], "tls": tls}
        services = {"nothing": {"loadBalancer": {"servers": [{"url": "http://127.0.0.1:1"}]}}}
        dynamic = self.folder / "dynamic.yml"
        dynamic.write_text(json.dumps({"http": {"routers": {"all": router}, "services": services}}))
        resolver = {
            "email": EMAIL,
            "storage": store,
            "keytype": "EC256",
            "caserver": self.pebble.directory,
            "cacertificates": self.pebble.trust,
            "dnschallenge.provider": kind,
            "dnschallenge.resolvers": "{}:{}".format(*self.pebble.dns),
            "dnschallenge.propagation.disablechecks": "false" if self._looks else "true",
        }
        return [
            *(str(TRAEFIK), f"--entrypoints.web.address=127.0.0.1:{free_port(['127.0.0.1'])}", "--log.level=INFO"),
            "--log.nocolor=true",
            *("--global.checknewversion=false", f"--providers.file.filename={dynamic}", "--providers.file.watch=false"),
            *(f"--certificatesresolvers.lab.acme.{key}={value}" for key, value in resolver.items()),
        ]


def _stored(store: Path, names: Sequence[str]) -> bytes:
    """Return the certificate and chain (PEM) of these names from Traefik's store, nothing before they are there."""
    try:
        kept: dict[str, Any] = json.loads(store.read_text())
    except (FileNotFoundError, ValueError):  # not there yet, or being written
        return b""
    for entry in kept["lab"]["Certificates"] or []:
        if [entry["domain"]["main"], *entry["domain"].get("sans", [])] == list(names):
            return base64.b64decode(entry["certificate"])
    return b""
