"""``ipa_dns_certbot auth|cleanup``: certbot's manual hooks, told apart by the verb and never by the environment.

certbot leaves CERTBOT_AUTH_OUTPUT of one certificate's cleanup in the environment of the next one's auth hook
(observed, 5.8.0), so that its presence says nothing. It calls once a challenge: all but the last call only write, the
last one waits for all. What is printed on standard output certbot would pass on: nothing is.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Optional

from certhooks import cli
from certhooks.errors import UsageError
from certhooks_freeipa_dns import front

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from certhooks_freeipa_dns.core import Challenge

PROG = "ipa_dns_certbot"

_EXAMPLES = """\
  certbot certonly --manual --preferred-challenges dns -d www.example.com -d '*.example.com'
      --manual-auth-hook 'ipa_dns_certbot auth' --manual-cleanup-hook 'ipa_dns_certbot cleanup'
"""


def parser() -> argparse.ArgumentParser:
    """Return the parser."""
    made = front.parser(
        PROG,
        "Answers certbot's dns-01 challenges in FreeIPA's DNS, as --manual-auth-hook and --manual-cleanup-hook. The "
        "domain and the value come from certbot's environment variables.",
        usage="ipa_dns_certbot [options] auth|cleanup",
        examples=_EXAMPLES,
    )
    made.add_argument("operation", metavar="auth|cleanup", nargs="?", help="add the value, or remove it")
    return made


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Run the command and return its exit code."""
    return front.call(PROG, parser, _hook, argv)


def entry() -> None:
    """Run as the installed script."""
    cli.entry(main)


def _hook(args: argparse.Namespace, screen: cli.Screen) -> int:
    if args.operation not in {"auth", "cleanup"} or args.words:
        raise UsageError("what does certbot want, auth or cleanup?", hint=f"--manual-auth-hook '{PROG} auth'")
    challenge = _challenge()
    core = front.core(args, screen, front.settings(args), run=front.run_of("certbot"))
    if args.operation == "cleanup":
        core.remove([challenge])
        return 0
    remaining = os.environ.get("CERTBOT_REMAINING_CHALLENGES", "0")
    more = remaining.isascii() and remaining.isdigit() and int(remaining[:9]) > 0
    core.add([challenge], more=more)
    return 0


def _challenge() -> Challenge:
    domain = os.environ.get("CERTBOT_DOMAIN") or os.environ.get("CERTBOT_IDENTIFIER")
    value = os.environ.get("CERTBOT_VALIDATION")
    if not domain or not value:
        raise UsageError(
            "certbot's variables CERTBOT_DOMAIN and CERTBOT_VALIDATION are not there",
            hint="certbot runs this command; by hand use ipa_dns add NAME VALUE",
        )
    return front.challenge(domain, value)


if __name__ == "__main__":
    entry()
