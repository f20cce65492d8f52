"""A host with the DNS hooks, a stub of FreeIPA, and real name servers that have what FreeIPA stores.

``Scene.run`` calls a front end in this process, ``Scene.start`` the installed script.
"""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from certhooks.journal import Journal
from certhooks_freeipa_dns.ledger import Entry, Ledger
from tests.lab.acme.bind import name_server
from tests.lab.ipa_stub import PASSWORD, USER, IpaStub

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pytest
    from typing_extensions import Self

VALUE = "LPsIwTo7o8BoG0-vjCyGQGBWSVIPxI-i_X336eUOQZo"
OTHER = "-dashAtTheBeginning_yWvOZ7nUdLJLL2WKLUqRHc0"
FOREIGN = "v=spf1 -all"
NAME = "_acme-challenge.www.example.test"
MODULES = {
    "ipa_dns": "ipa_dns",
    "ipa_dns_certbot": "certbot_hook",
    "ipa_dns_dehydrated": "dehydrated",
    "ipa_dns_lego": "lego",
    "ipa_dns_md": "md",
}


@dataclass(frozen=True)
class Done:
    """How a command ended."""

    code: int
    out: str
    err: str


class Scene:
    """Everything; ``ipa`` and ``dns`` may be changed while it runs."""

    def __init__(self, folder: Path, *, zones: Mapping[str, str] | None = None, **stub: Any) -> None:
        self.folder = folder
        self.zones = dict(zones) if zones is not None else {"example.test": ""}
        self.stub = stub
        self._hold = ExitStack()

    def __enter__(self) -> Self:
        unserved = {*self.stub.get("forward", ()), *self.stub.get("inactive", ())}
        served = {zone: text for zone, text in self.zones.items() if zone not in unserved}
        self.dns = self._hold.enter_context(name_server(served, resolver=False))
        self.ipa = self._hold.enter_context(IpaStub(self.zones, dns=self.dns, **self.stub))
        password = self.folder / "password"
        password.touch(mode=0o600)
        password.write_text(f"{PASSWORD}\n")
        self.config = self.folder / "ipa_dns.ini"
        self.configure()
        return self

    def __exit__(self, *_: object) -> None:
        self._hold.close()

    def configure(self, **dns: Any) -> None:
        """Write the configuration, with these settings too."""
        dns = {"nameserver": self.dns.where, "resolver": self.dns.where, **dns}
        lines = "".join(f"{key} = {value}\n" for key, value in dns.items())
        self.config.write_text(
            f"[ipa]\nserver = {self.ipa.where}\nuser = {USER}\npassword_file = {self.folder / 'password'}\n"
            f"cafile = {self.ipa.cafile}\n[dns]\n{lines}"
        )

    @property
    def options(self) -> list[str]:
        """The options that every command needs here."""
        return [
            *("--config", str(self.config), "--state-dir", str(self.folder / "state")),
            *("--log-file", str(self.folder / "log")),
        ]

    def run(self, command: str, *words: str, capsys: pytest.CaptureFixture[str]) -> Done:
        """Run a command in this process."""
        capsys.readouterr()
        main = importlib.import_module(f"certhooks_freeipa_dns.{MODULES[command]}").main
        code = main([*self.options, *words])
        said = capsys.readouterr()
        return Done(code, said.out, said.err)

    def start(
        self, command: str, *words: str, env: Mapping[str, str] | None = None, options: Sequence[str] | None = None
    ) -> subprocess.Popen[str]:
        """Start the installed script."""
        script = Path(sys.executable).with_name(command)
        return subprocess.Popen(
            [str(script), *(self.options if options is None else options), *words],
            env={"PATH": "/usr/bin:/bin", **(env or {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def ended(self, process: subprocess.Popen[str]) -> Done:
        """Wait for a started script."""
        out, err = process.communicate(timeout=60)
        return Done(process.returncode, out, err)

    def ours(self) -> list[Entry]:
        """Return what the list of our values has."""
        return Ledger(Journal(self.folder / "state")).entries() if (self.folder / "state").exists() else []

    def log(self) -> str:
        """Return the log."""
        path = self.folder / "log"
        return path.read_text() if path.exists() else ""


def killed(point: str, nth: int, command: str, words: Sequence[str]) -> int:
    """Run a command in a process that kills itself at the nth ``point``: ``ledger``, ``before:M`` or ``after:M``.

    M is a method of FreeIPA's API that stands in the request.
    """
    return subprocess.run(
        [sys.executable, "-m", __name__, point, str(nth), command, *words],
        cwd=Path(__file__).parents[2],
        env={"PATH": "/usr/bin:/bin"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
        timeout=60,
    ).returncode


def _main(argv: Sequence[str]) -> int:
    import signal

    from certhooks import files
    from certhooks.http import Connection

    point, nth, command, *words = argv
    left = int(nth)
    when, _, text = point.partition(":")
    replace, request = files.replace, Connection.request

    def strike() -> None:
        nonlocal left
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    def deadly_replace(path: Path, data: bytes, mode: int = 0o600) -> None:
        replace(path, data, mode)
        if when == "ledger":
            strike()

    def deadly_request(self: Connection, *args: Any, **named: Any) -> Any:
        meant = bool(text) and text.encode() in named.get("body", b"")
        if meant and when == "before":
            strike()
        reply = request(self, *args, **named)
        if meant and when == "after":
            strike()
        return reply

    files.replace = deadly_replace
    Connection.request = deadly_request  # type: ignore[method-assign]  # that is what this process is for
    return int(importlib.import_module(f"certhooks_freeipa_dns.{MODULES[command]}").main(words))


if __name__ == "__main__":
    raise SystemExit(_main(sys.argv[1:]))
