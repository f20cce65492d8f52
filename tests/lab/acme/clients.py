"""Real ACME clients: ``Certbot``, ``Dehydrated`` and ``Lego``, each with accounts and certificates of its own.

    certbot = Certbot(pebble)
    done = certbot.run(["www.acme.test", "*.www.acme.test"], hook=["/path/of/the/hook"])
    assert done.code == 0, done
    done.names

A hook is the words of a command; each client adds its own verbs and words, as it does for everybody.
"""

from __future__ import annotations

import re
import shlex
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cryptography import x509

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tests.lab.acme.pebble import Pebble

FOREIGN = Path(__file__).parents[3] / ".venv-acme" / "bin"
CERTBOT = FOREIGN / "certbot"
EMAIL = "admin@lab.test"
_SECONDS = 240.0


@dataclass(frozen=True)
class Result:
    """How a client ended: ``seconds`` is the wall time, ``fullchain`` where its certificate is if it got one."""

    code: int
    output: str
    seconds: float
    fullchain: Path

    def __str__(self) -> str:
        return f"exit status {self.code} after {self.seconds:.1f} s\n{self.output}"

    @property
    def chain(self) -> list[x509.Certificate]:
        """The certificates, leaf first."""
        blocks = re.findall(r"-----BEGIN.+?-----END [A-Z ]+-----\n", self.fullchain.read_text(), re.DOTALL)
        return [x509.load_pem_x509_certificate(block.encode()) for block in blocks]

    @property
    def names(self) -> list[str]:
        """The DNS names of the leaf, sorted."""
        found = self.chain[0].extensions.get_extension_for_class(x509.SubjectAlternativeName)
        return sorted(found.value.get_values_for_type(x509.DNSName))


class Client:
    """What the clients have in common: a folder of their own, and how they are run."""

    def __init__(self, pebble: Pebble) -> None:
        self.pebble = pebble
        self.daemons = pebble.daemons
        self.folder = Path(tempfile.mkdtemp(prefix=f"{type(self).__name__.lower()}-", dir=self.daemons.folder))

    def _run(
        self, command: Sequence[str], fullchain: Path, env: Mapping[str, str], timeout: float = _SECONDS
    ) -> Result:
        start = time.monotonic()
        done = self.daemons.run(command, env=env, timeout=timeout, cwd=self.folder)
        return Result(done.returncode, done.stdout, time.monotonic() - start, fullchain)

    def script(self, hook: Sequence[str]) -> str:
        """Return the path of a program that is the hook, for clients that take no words."""
        return self.daemons.script(str(self.folder / "hook"), hook)


class Certbot(Client):
    """certbot, of PyPI; a certificate is called by its first name. Hooks find REQUESTS_CA_BUNDLE in the environment."""

    def run(
        self,
        names: Sequence[str],
        hook: Sequence[str] = (),
        *,
        options: Sequence[str] = (),
        env: Mapping[str, str] | None = None,
        timeout: float = _SECONDS,
    ) -> Result:
        """Ask for a certificate, by manual hooks, or by the plugin that ``options`` name (``--authenticator``)."""
        manual = ["--manual", "--manual-auth-hook", shlex.join([*hook, "auth"])]
        manual += ["--manual-cleanup-hook", shlex.join([*hook, "cleanup"])]
        words = ["certonly", "--agree-tos", "-m", EMAIL, "--no-eff-email", "--force-renewal"]
        words += ["--preferred-challenges", "dns", "--cert-name", _plain(names[0]), *_each("-d", names)]
        words += [*(manual if hook else ()), *options]
        return self._certbot(words, _plain(names[0]), env, timeout)

    def renew(self, *options: str, env: Mapping[str, str] | None = None, timeout: float = _SECONDS) -> Result:
        """Renew every certificate now; ``fullchain(name)`` tells where they are."""
        words = ["renew", "--force-renewal", "--no-random-sleep-on-renew", *options]
        return self._certbot(words, "", env, timeout)

    def fullchain(self, name: str) -> Path:
        """Return where the certificate is whose first name this is."""
        return self.folder / "config" / "live" / _plain(name) / "fullchain.pem"

    def _certbot(self, words: Sequence[str], name: str, env: Mapping[str, str] | None, timeout: float) -> Result:
        places = [f"--{place}-dir={self.folder / place}" for place in ("config", "work", "logs")]
        command = [str(CERTBOT), *places, "--non-interactive", "--server", self.pebble.directory, *words]
        trust = {"REQUESTS_CA_BUNDLE": str(self.pebble.trust)}
        return self._run(command, self.fullchain(name), {**trust, **(env or {})}, timeout)


class Dehydrated(Client):
    """dehydrated, of Debian; ``chain`` is its HOOK_CHAIN."""

    def run(
        self,
        names: Sequence[str],
        hook: Sequence[str],
        *,
        chain: bool = True,
        env: Mapping[str, str] | None = None,
        timeout: float = _SECONDS,
    ) -> Result:
        """Ask for a certificate, after registering an account the first time."""
        settings = {"CA": self.pebble.directory, "BASEDIR": str(self.folder), "CHALLENGETYPE": "dns-01"}
        settings |= {"HOOK": self.script(hook), "HOOK_CHAIN": "yes" if chain else "no", "CONTACT_EMAIL": EMAIL}
        settings |= {"ACCOUNT_KEYSIZE": "2048"}  # of its default, 4096, a slow machine has seconds to do
        config = self.folder / "config"
        config.write_text("".join(f"{key}={shlex.quote(value)}\n" for key, value in settings.items()))
        env = {"CURL_CA_BUNDLE": str(self.pebble.trust), **(env or {})}
        command = ["dehydrated", "--config", str(config)]
        if not (self.folder / "accounts").exists():
            self.daemons.said([*command, "--register", "--accept-terms"], env=env)
        words = ["--cron", "--force", "--domain", " ".join(names), "--alias", _plain(names[0])]
        fullchain = self.folder / "certs" / _plain(names[0]) / "fullchain.pem"
        return self._run([*command, *words], fullchain, env, timeout)


class LegoClient(Client):
    """A client that calls hooks as lego does: by its provider exec, or httpreq if there is an ``endpoint``.

    ``looks``: it waits until every name server of the zone has the value, as it does for everybody. They must be on
    port 53: it knows no other.
    """

    def __init__(self, pebble: Pebble, *, looks: bool = False) -> None:
        super().__init__(pebble)
        self._looks = looks

    def run(
        self,
        names: Sequence[str],
        hook: Sequence[str] = (),
        *,
        endpoint: str = "",
        raw: bool = False,
        env: Mapping[str, str] | None = None,
        timeout: float = _SECONDS,
    ) -> Result:
        """Ask for a certificate; ``raw`` is the providers' mode RAW. It looks for the value often."""
        kind = "httpreq" if endpoint else "exec"
        settings = {"POLLING_INTERVAL": "1", "PROPAGATION_TIMEOUT": "20", **({"MODE": "RAW"} if raw else {})}
        settings |= {"ENDPOINT": endpoint} if endpoint else {"PATH": self.script(hook), "SEQUENCE_INTERVAL": "0"}
        provider = {f"{kind.upper()}_{key}": value for key, value in settings.items()}
        return self._ask(names, kind, {**provider, **(env or {})}, timeout)

    def _ask(self, names: Sequence[str], kind: str, env: Mapping[str, str], timeout: float) -> Result:
        raise NotImplementedError


class Lego(LegoClient):
    """lego, of Debian."""

    def _ask(self, names: Sequence[str], kind: str, env: Mapping[str, str], timeout: float) -> Result:
        dns = "{}:{}".format(*self.pebble.dns)
        words = ["--server", self.pebble.directory, "--accept-tos", "--email", EMAIL, "--path", str(self.folder)]
        words += ["--dns", kind, "--dns.resolvers", dns, *([] if self._looks else ["--dns.disable-cp"])]
        command = ["lego", *words, *_each("--domains", names), "run"]
        fullchain = self.folder / "certificates" / f"{names[0].replace('*', '_')}.crt"
        trust = {"LEGO_CA_CERTIFICATES": str(self.pebble.trust)}
        return self._run(command, fullchain, {**trust, **env}, timeout)


def _plain(name: str) -> str:
    return name.removeprefix("*.")


def _each(option: str, names: Sequence[str]) -> list[str]:
    return [word for name in names for word in (option, name)]
