"""``ipa_dns``: add, remove, wait for and sweep challenge values by hand or from scripts, and serve httpreq."""

from __future__ import annotations

from typing import TYPE_CHECKING, Callable, Optional

from certhooks import cli
from certhooks.errors import StateError, UsageError
from certhooks_freeipa_dns import front

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from certhooks_freeipa_dns.ledger import Entry, Ledger

PROG = "ipa_dns"

_EXAMPLES = """\
  ipa_dns add www.example.com VALUE
      _acme-challenge.www.example.com gets the value; returns when every name server has it
  ipa_dns del www.example.com VALUE
      removes this value and no other
  ipa_dns sweep
      removes what runs that were killed more than an hour ago left behind
  ipa_dns setup --print-commands --acme-zone acme.example.com web.example.com
      the commands for an account that may edit one small zone and no more
"""


def parser() -> argparse.ArgumentParser:
    """Return the parser; words after the operation are the caller's."""
    made = front.parser(
        PROG,
        "Puts the values of ACME dns-01 challenges into FreeIPA's DNS, waits until the name servers have them, and "
        "takes them away again.",
        usage="ipa_dns [options] add|del|wait NAME VALUE [NAME VALUE ...]\n"
        "       ipa_dns [options] sweep|list|serve\n"
        "       ipa_dns [options] setup --print-commands [HOST]",
        examples=_EXAMPLES,
    )
    made.add_argument("operation", metavar="OPERATION", nargs="?", help="add, del, wait, sweep, list, serve or setup")
    made.add_argument(
        "words",
        metavar="WORD",
        nargs="*",
        help="NAME VALUE ...: a domain or a name that begins _acme-challenge., and its value",
    )
    more = made.add_argument_group("one operation alone")
    more.add_argument(
        "--older",
        type=_seconds,
        default=3600.0,
        metavar="SECONDS",
        help="sweep: only values of that age (default 3600)",
    )
    more.add_argument("--forget", action="store_true", help="sweep: strike out what cannot be removed, and say so")
    more.add_argument("--listen", type=cli.word, metavar="WHERE", help="serve: HOST:PORT or unix:PATH")
    more.add_argument("--clients", type=cli.word, metavar="FILE", help="serve: who may ask for which names")
    more.add_argument("--print-commands", action="store_true", help="setup: show the commands for an account")
    more.add_argument("--acme-zone", type=cli.word, metavar="ZONE", help="setup: the zone for challenges alone")
    return made


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Run the command and return its exit code."""
    return front.call(PROG, parser, _operate, argv)


def entry() -> None:
    """Run as the installed script."""
    cli.entry(main)


def _seconds(text: str) -> float:
    return 0.0 if text == "0" else cli.seconds(text)


def _operate(args: argparse.Namespace, screen: cli.Screen) -> int:
    operations: dict[str, tuple[Callable[[argparse.Namespace, cli.Screen], int], int]] = {
        "add": (_add, 1000),
        "del": (_del, 1000),
        "wait": (_wait, 1000),
        "sweep": (_sweep, 0),
        "list": (_list, 0),
        "serve": (_serve, 0),
        "setup": (_setup, 1),
    }
    if args.operation not in operations:
        raise UsageError(
            f"no such operation: {args.operation[:40]!a}" if args.operation else "what is to be done?",
            hint=f"{PROG} --help; operations: {', '.join(operations)}",
        )
    function, most = operations[args.operation]
    if len(args.words) > most:
        raise UsageError(f"{args.operation} takes no further word: {args.words[most][:40]!a}", hint=f"{PROG} --help")
    return function(args, screen)


def _add(args: argparse.Namespace, screen: cli.Screen) -> int:
    challenges = front.pairs(args.words)
    for entry in front.core(args, screen, front.settings(args)).add(challenges):
        screen.say(f"{entry.name}: {entry.value} is in zone {entry.zone}" + _elsewhere(entry))
    return 0


def _del(args: argparse.Namespace, screen: cli.Screen) -> int:
    challenges = front.pairs(args.words)
    front.core(args, screen, front.settings(args)).remove(challenges, strangers=True)
    for name, value in challenges:
        screen.say(f"{name}: {value} is gone")
    return 0


def _wait(args: argparse.Namespace, screen: cli.Screen) -> int:
    challenges = front.pairs(args.words)
    made = front.settings(args)
    if made.wait <= 0:
        raise UsageError("there is nothing to wait for with --wait 0")
    front.core(args, screen, made).watch(challenges)
    for name, value in challenges:
        screen.say(f"{name}: {value} is on the name servers")
    return 0


def _sweep(args: argparse.Namespace, screen: cli.Screen) -> int:
    from certhooks_freeipa_dns.ledger import now

    core = front.core(args, screen, front.settings(args))
    before = now() - args.older
    old = core.ledger.entries(lambda entry: entry.created <= before)
    removed, failure = core.sweep(old, give_up=args.forget)
    for entry in removed:
        screen.say(f"{entry.target}: {entry.value} is gone")
    newer = len(core.ledger.entries(lambda entry: entry.created > before))
    screen.say(f"{len(removed)} removed" + (f", {newer} newer ones left: --older 0 removes them too" if newer else ""))
    damaged = _damage(core.ledger, screen)
    if failure:
        raise failure
    return damaged


def _list(args: argparse.Namespace, screen: cli.Screen) -> int:
    import time

    from certhooks import journal
    from certhooks_freeipa_dns.ledger import Ledger

    ledger = Ledger(journal.Journal(args.state_dir or journal.DEFAULT))
    for entry in ledger.entries():
        when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(entry.created))
        screen.say(f"{when} {entry.name} {entry.value} zone {entry.zone} server {entry.server}" + _elsewhere(entry))
    return _damage(ledger, screen)


def _damage(ledger: Ledger, screen: cli.Screen) -> int:
    """Tell, once, of a list that was damaged: values of ours may stand in it alone. Return the exit code."""
    damaged = ledger.untold()
    for path in damaged:
        screen.warn(f"the list of our values was damaged, and is now {path}: what it has may still be in the zones")
    if damaged:
        screen.warn("ipa_dns del NAME VALUE removes a value that is in no list")
    return StateError.exit_code if damaged else 0


def _serve(args: argparse.Namespace, screen: cli.Screen) -> int:
    from certhooks_freeipa_dns import serve

    return serve.run(args, screen)


def _setup(args: argparse.Namespace, screen: cli.Screen) -> int:
    from certhooks_freeipa_dns import account

    if not args.print_commands:
        raise UsageError(
            "setup only shows commands, for an administrator to run", hint=f"{PROG} setup --print-commands"
        )
    made = front.settings(args)
    text = account.commands(args.words[0] if args.words else "", acme_zone=args.acme_zone or "", settings=made)
    for line in text.splitlines():
        screen.say(line)
    return 0


def _elsewhere(entry: Entry) -> str:
    return "" if entry.target == entry.name else f", as {entry.target}"


if __name__ == "__main__":
    entry()
