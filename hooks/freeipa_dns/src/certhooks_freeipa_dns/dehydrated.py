"""``ipa_dns_dehydrated``: dehydrated's HOOK, with and without HOOK_CHAIN.

dehydrated calls no clean_challenge when deploy_challenge fails, and takes what generate_csr prints for a request. It
calls operations that nobody knows, to see that a hook leaves them alone: they and all others that need nothing end here
before anything else is loaded.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Optional

from certhooks import cli
from certhooks.errors import Error, UsageError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from certhooks_freeipa_dns.core import Challenge, Core

PROG = "ipa_dns_dehydrated"

_OPERATIONS = ("deploy_challenge", "clean_challenge", "deploy_cert", "exit_hook")
_CERTIFICATE = ("domain", "key", "cert", "fullchain", "chain", "timestamp")
_TRIPLE = 3
_EXAMPLES = """\
  HOOK=/usr/local/bin/ipa_dns_dehydrated
  HOOK_CHAIN=yes
      in dehydrated's config: one call, one login and one wait for all names of a certificate
"""


def parser() -> argparse.ArgumentParser:
    """Return the parser; dehydrated itself passes no options."""
    from certhooks_freeipa_dns import front

    made = front.parser(
        PROG,
        "Answers dehydrated's dns-01 challenges in FreeIPA's DNS, as its HOOK, and hands new certificates to the "
        "install command of the configuration. IPA_SERVER, IPA_DOMAIN, IPA_USER and IPA_PASSWORD are honoured.",
        usage="ipa_dns_dehydrated [options] OPERATION [WORD ...]",
        examples=_EXAMPLES,
    )
    made.add_argument(
        "operation", metavar="OPERATION", nargs="?", help="deploy_challenge, clean_challenge, deploy_cert, exit_hook"
    )
    made.add_argument("words", metavar="WORD", nargs="*", help="what dehydrated passes with it")
    return made


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Run the command and return its exit code; 0 without a word for what dehydrated calls and we do not need."""
    words = sys.argv[1:] if argv is None else argv
    if words and not words[0].startswith("-") and words[0] not in _OPERATIONS:
        return 0
    from certhooks_freeipa_dns import front

    return front.call(PROG, parser, _hook, words, options_follow=False)


def entry() -> None:
    """Run as the installed script."""
    cli.entry(main)


def _hook(args: argparse.Namespace, screen: cli.Screen) -> int:
    if args.operation not in _OPERATIONS:
        if args.operation:
            return 0
        raise UsageError("dehydrated runs this command", hint=f"HOOK={PROG} in its config, or {PROG} --help")
    if args.operation == "deploy_cert":
        return _install(args, screen)
    from certhooks_freeipa_dns import front

    challenges = _challenges(args.words) if args.operation != "exit_hook" else []
    run = front.run_of("dehydrated")
    core = front.core(args, screen, front.settings(args, old_names=True), run=run)
    if args.operation == "clean_challenge":
        core.remove(challenges)
    elif args.operation == "exit_hook":
        _forget(core, run)
    else:
        try:
            core.add(challenges)
        except BaseException:
            core.deadline.extend(30.0)
            _forget(core, run, screen)  # what earlier calls without HOOK_CHAIN added: nobody cleans that either
            raise
    return 0


def _challenges(words: Sequence[str]) -> list[Challenge]:
    from certhooks_freeipa_dns import front

    if not words or len(words) % _TRIPLE:
        raise UsageError("dehydrated passes domain, token and value, three words for each challenge")
    return [front.challenge(words[at], words[at + 2]) for at in range(0, len(words), _TRIPLE)]


def _forget(core: Core, run: str, screen: Optional[cli.Screen] = None) -> None:
    try:
        core.forget(core.ledger.entries(lambda entry: entry.run == run))
    except Error as e:
        if screen is None:
            raise
        screen.warn(f"could not take back everything: {e}; ipa_dns sweep does that later")


def _install(args: argparse.Namespace, screen: cli.Screen) -> int:
    """Run the configured command with dehydrated's words in place of {domain}, {key}, {fullchain} and so on."""
    from certhooks_freeipa_dns import front, install

    if len(args.words) != len(_CERTIFICATE):
        raise UsageError("dehydrated passes domain, key, certificate, fullchain, chain and timestamp")
    made = front.settings(args, old_names=True)
    return install.run(made.install, dict(zip(_CERTIFICATE, args.words)), screen, made.install_timeout)


if __name__ == "__main__":
    entry()
