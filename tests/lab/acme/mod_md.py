"""Apache's own ACME client: ``ModMd``, the real httpd with one managed domain.

    done = ModMd(pebble).run(["www.acme.test"], hook=["/path/of/the/hook"])

Its hooks run as www-data, in ``/``, without standard input (it is closed), and with PATH alone in the environment.
"""

from __future__ import annotations

import json
import shutil
import time
from typing import TYPE_CHECKING, Any

from tests.lab.acme.bind import free_port
from tests.lab.acme.clients import EMAIL, Client, Result

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

USER = "www-data"
MODULES = "/usr/lib/apache2/modules"
_CONFIG = """
ServerRoot {folder}
{modules}
DefaultRuntimeDir {folder}
Mutex default:{folder}
PidFile {folder}/pid
ErrorLog /dev/stderr
LogLevel warn md:info
User {user}
Group {user}
ServerName localhost
StartServers 1
Listen 127.0.0.1:{port} https
MDStoreDir {folder}/store
MDCertificateAuthority {directory}
MDCACertificateFile {trust}
MDCertificateAgreement accepted
MDContactEmail {email}
MDCAChallenges dns-01
MDChallengeDns01 {program}
MDChallengeDns01Version {version}
MDPrivateKeys P-256
MDomain {names}
<VirtualHost 127.0.0.1:{port}>
  ServerName {name}
  SSLEngine on
</VirtualHost>
"""


class ModMd(Client):
    """Apache with mod_md; each run starts it afresh, waits for the certificate and ends it. It needs root."""

    def run(self, names: Sequence[str], hook: Sequence[str], *, version: int = 2, timeout: float = 60) -> Result:
        """Ask for a certificate; 0 when it came. The lab's folder becomes one that everybody can enter."""
        for folder in (self.daemons.folder, self.folder):
            folder.chmod(0o755)  # its user must reach the hook
        shutil.rmtree(self.folder / "store", ignore_errors=True)
        port = free_port(["127.0.0.1"])
        modules = ("mpm_prefork", "authz_core", "socache_shmcb", "ssl", "md")
        config = self.folder / "httpd.conf"
        config.write_text(
            _CONFIG.format(
                folder=self.folder,
                modules="\n".join(f"LoadModule {name}_module {MODULES}/mod_{name}.so" for name in modules),
                user=USER,
                port=port,
                directory=self.pebble.directory,
                trust=self.pebble.trust,
                email=EMAIL,
                program=self.script(hook),
                version=version,
                names=" ".join(names),
                name=names[0],
            )
        )
        log = self.folder / "log"
        command = ["apache2", "-f", str(config), "-D", "FOREGROUND"]
        start = time.monotonic()
        daemon = self.daemons.start(command, log, lambda: self.daemons.listens(port), family=True)
        staged = self.folder / "store" / "staging" / names[0]
        job: dict[str, Any] = {}
        while not (job.get("finished") or job.get("errors")) and time.monotonic() < start + timeout:
            time.sleep(0.02)
            job = _job(staged / "job.json")
        seconds = time.monotonic() - start
        self.daemons.end(daemon)
        return Result(0 if job.get("finished") else 1, log.read_text(), seconds, staged / "pubcert.p-256.pem")


def _job(file: Path) -> dict[str, Any]:
    """Return what mod_md has noted of its work, nothing before it is there."""
    try:
        noted: dict[str, Any] = json.loads(file.read_text())
    except (FileNotFoundError, ValueError):  # not there yet, or being written
        return {}
    return noted
