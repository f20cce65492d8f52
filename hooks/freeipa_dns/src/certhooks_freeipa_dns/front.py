"""What every front end shares: its options, and the way from them to a Core."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable, Optional

from certhooks import cli
from certhooks.errors import UsageError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from certhooks_freeipa_dns.core import Challenge, Core
    from certhooks_freeipa_dns.settings import Settings

TIMEOUT = 300.0  # seconds for one call; the wait for the name servers is a part of it
LOG = "certhooks.dns"  # below the name that lib/log.py sends to syslog and the command's file
_PACKAGES = ("python-freeipa", "dnspython", "gssapi")
_SHELLS = {"sh", "bash", "dash", "ash", "busybox"}
EXIT_CODES = """\
exit status:
  0 done or nothing to do       12 refused by FreeIPA
  1 usage or configuration      13 FreeIPA says yes, but the value is not there
  2 bad name, or no zone        14 not on the name servers in time
  4 unreachable or not trusted  16 deadline
  5 credentials                 17 another run holds the name
  70 a fault of our own         130 interrupted, 143 terminated
"""


def parser(prog: str, description: str, *, examples: str, usage: Optional[str] = None) -> argparse.ArgumentParser:
    """Return a parser with the options that every front end has."""
    made = cli.parser(prog, description, examples=examples, usage=usage, exit_codes=EXIT_CODES, packages=_PACKAGES)
    made.add_argument("--config", type=cli.path, metavar="FILE", help="settings (default /etc/certhooks/ipa_dns.ini)")
    ipa = made.add_argument_group("FreeIPA")
    ipa.add_argument("--server", type=cli.word, metavar="HOST", help="FreeIPA servers to try (blank between them)")
    ipa.add_argument("--backend", choices=("api", "update"), help="FreeIPA's API (default), or GSS-TSIG updates")
    ipa.add_argument("--keytab", type=cli.word, metavar="FILE", help="key to log in with (default /etc/krb5.keytab)")
    ipa.add_argument("--principal", type=cli.word, metavar="NAME", help="whose key in it (default: the first)")
    ipa.add_argument("--cafile", type=cli.word, metavar="FILE", help="trust these CAs too (PEM), beside the system's")
    dns = made.add_argument_group("DNS")
    dns.add_argument("--zone", type=cli.word, metavar="ZONE", help="the zone of the record: do not search")
    dns.add_argument("--ttl", type=cli.word, metavar="SECONDS", help="of an entry that is ours alone (default 60)")
    dns.add_argument("--nameserver", type=cli.word, metavar="HOST[:PORT]", help="wait for these, not the NS records'")
    dns.add_argument("--resolver", type=cli.word, metavar="HOST[:PORT]", help="ask these, not /etc/resolv.conf's")
    dns.add_argument(
        "--require", choices=("all", "majority", "any"), help="how many of the servers' addresses (default all)"
    )
    dns.add_argument("--wait", type=cli.word, metavar="SECONDS", help="longest wait for them (default 120; 0: none)")
    dns.add_argument("--settle", type=cli.word, metavar="SECONDS", help="pause after they all have it (default 0)")
    made.add_argument(
        "--timeout",
        type=cli.seconds,
        default=TIMEOUT,
        metavar="SECONDS",
        help=f"for the whole call (default {TIMEOUT:g})",
    )
    return made


_SETTINGS = (
    "server", "backend", "keytab", "principal", "cafile",
    "zone", "ttl", "nameserver", "resolver", "require", "wait", "settle",
)  # fmt: skip


def add_operation(made: argparse.ArgumentParser, operations: str, client: str) -> None:
    """Add what such a program is called with: one of two operations, and the client's words."""
    made.add_argument("operation", metavar=operations, nargs="?", help="add the value, or remove it")
    made.add_argument("words", metavar="WORD", nargs="*", help=f"what {client} passes with it")


def settings(args: argparse.Namespace, *, old_names: bool = False, **usual: Any) -> Settings:
    """Return the settings of file, environment and options; ``usual`` ones count where nobody has set them.

    With ``old_names`` the variables of an older dehydrated hook count.

    Raises:
        UsageError, BadNameError, CredentialsError.
    """
    from certhooks_freeipa_dns import settings as module

    return module.read(args.config, {key: getattr(args, key) for key in _SETTINGS}, usual, old_names=old_names)


def core(args: argparse.Namespace, screen: cli.Screen, made: Settings, *, run: str = "") -> Core:
    """Return the core for one call of a command; see ``build``."""
    tell = cli.teller(screen)

    def warn(text: str) -> None:
        import logging

        logging.getLogger(LOG).warning("%s", text)
        screen.warn(text)

    return build(made, args.state_dir, run=run, timeout=args.timeout, tell=lambda text: tell("", text), warn=warn)


def build(
    made: Settings,
    state: Optional[Path],
    *,
    run: str,
    timeout: float = TIMEOUT,
    tell: Callable[[str], None],
    warn: Callable[[str], None],
) -> Core:
    """Return the core for one call.

    Raises:
        StateError: the state folder cannot be used. UsageError: this Python lacks what is needed.
    """
    from importlib.util import find_spec

    missing = [name for name in ("dns", "python_freeipa") if find_spec(name) is None]
    if missing:  # as where the umbrella was installed for an older Python
        raise UsageError(
            f"this Python ({sys.version.split()[0]}) lacks the module {missing[0]}",
            hint="the DNS hooks need Python 3.10, and pip install ./lib ./hooks/freeipa_dns with it",
        )
    from certhooks import journal
    from certhooks.deadline import Deadline
    from certhooks.trust import Trust
    from certhooks_freeipa_dns.core import Core

    return Core(
        made,
        Trust(Path(made.cafile) if made.cafile else None),
        journal.Journal(state or journal.DEFAULT),
        Deadline(timeout),
        run=run,
        tell=tell,
        warn=warn,
    )


def challenge(domain: str, value: str) -> Challenge:
    """Return the challenge of a domain.

    Raises:
        BadNameError: the domain or the value cannot be one.
    """
    from certhooks_freeipa_dns import names
    from certhooks_freeipa_dns.core import Challenge

    return Challenge(names.challenge(domain), names.value(value))


def call(
    prog: str,
    make: Callable[[], argparse.ArgumentParser],
    function: Callable[[argparse.Namespace, cli.Screen], int],
    argv: Optional[Sequence[str]],
    *,
    options_follow: bool = True,
) -> int:
    """Run a front end; ``args.operation`` is what its caller wants, ``args.words`` what it passes.

    Options stand before the operation and, where ``options_follow``, right behind it. From the first other word on
    nothing is an option: tokens may begin with a hyphen.
    """
    given = sys.argv[1:] if argv is None else argv
    options, words = cli.leading_options(make(), given)
    operation, words = words[:1], words[1:]
    if options_follow:
        more, words = cli.leading_options(make(), words)
        options += more

    def with_words(args: argparse.Namespace, screen: cli.Screen) -> int:
        args.operation, args.words = "".join(operation), words
        return function(args, screen)

    return cli.run(prog, with_words, make, options)


def pairs(words: Sequence[str]) -> list[Challenge]:
    """Return challenges from NAME VALUE NAME VALUE...

    Raises:
        UsageError: a value is missing. BadNameError: a name or a value cannot be one.
    """
    from certhooks_freeipa_dns import names
    from certhooks_freeipa_dns.core import Challenge

    if not words or len(words) % 2:
        raise UsageError("each name needs a value", hint="NAME VALUE [NAME VALUE ...]")
    return [Challenge(names.record(name), names.value(value)) for name, value in zip(words[::2], words[1::2])]


def run_of(client: str) -> str:
    """Return what names this run of a client: the process that started us, shells in between left out.

    Two runs at once never have the same name, and all calls of one run do.
    """
    pid = os.getppid()
    words = _words(pid)
    if _is_command(words):
        pid = _parent(pid)
        words = _words(pid)
    while words and _words(_parent(pid)) == words:  # a subshell of a script
        pid = _parent(pid)
    return f"{client} {pid} {_started(pid)}"


def run_of_service(service: str) -> str:
    """Return what names the run of a service that is this process itself."""
    return f"{service} {os.getpid()} {_started(os.getpid())}"


def _is_command(words: Sequence[str]) -> bool:
    """Tell whether a process is a shell with a command (``sh -c``), and not one with a script (``dehydrated -c``)."""
    if not words or Path(words[0]).name not in _SHELLS:
        return False
    for word in words[1:]:
        if word.startswith("-") and "c" in word and not word.startswith("--"):
            return True
        if not word.startswith("-") and word not in _SHELLS:  # busybox sh -c
            return False
    return False


def _words(pid: int) -> list[str]:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
    except OSError:
        return []


def _stat(pid: int) -> list[str]:
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    except OSError:
        return []


def _parent(pid: int) -> int:
    fields = _stat(pid)
    return int(fields[1]) if fields else 0


def _started(pid: int) -> str:
    fields = _stat(pid)
    return fields[19] if fields else "0"  # proc(5): starttime, the 22nd; pid and name are cut off
