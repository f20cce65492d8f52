"""``ipa_dns_md setup|teardown``: the program for Apache mod_md's MDChallengeDns01, versions 1 and 2.

Version 1 does not tell teardown the value: what the list of our values has for that domain is removed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Optional

from certhooks import cli
from certhooks.errors import UsageError
from certhooks_freeipa_dns import front

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

PROG = "ipa_dns_md"

_CLIENT = "mod_md"
_EXAMPLES = """\
  MDChallengeDns01 "/usr/local/bin/ipa_dns_md --config /etc/certhooks/md.ini --state-dir /var/lib/certhooks-md"
  MDChallengeDns01Version 2
      in Apache's configuration; the second from mod_md 2.4.23 on. It runs as Apache's user, who has to own the folder
      and to be able to read the keytab
"""


def parser() -> argparse.ArgumentParser:
    """Return the parser."""
    made = front.parser(
        PROG,
        "Answers dns-01 challenges of Apache's mod_md in FreeIPA's DNS, as the program of MDChallengeDns01.",
        usage="ipa_dns_md [options] setup DOMAIN VALUE\n       ipa_dns_md [options] teardown DOMAIN [VALUE]",
        examples=_EXAMPLES,
    )
    front.add_operation(made, "setup|teardown", "mod_md")
    return made


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Run the command and return its exit code."""
    # mod_md splits its own command line at blanks: a domain that begins with a hyphen is still a domain.
    return front.call(PROG, parser, _hook, argv, options_follow=False)


def entry() -> None:
    """Run as the installed script."""
    cli.entry(main)


def _hook(args: argparse.Namespace, screen: cli.Screen) -> int:
    from certhooks_freeipa_dns import names

    operation, words = args.operation, args.words
    run = front.run_of(_CLIENT)
    if operation == "setup" and len(words) == 2:  # noqa: PLR2004  domain and value
        challenge = front.challenge(*words)
        front.core(args, screen, front.settings(args), run=run).add([challenge])
        return 0
    if operation == "teardown" and len(words) == 2:  # noqa: PLR2004  version 2
        challenge = front.challenge(*words)
        front.core(args, screen, front.settings(args), run=run).remove([challenge])
        return 0
    if operation == "teardown" and len(words) == 1:
        name = names.challenge(words[0])
        core = front.core(args, screen, front.settings(args), run=run)
        core.forget(core.ledger.entries(lambda entry: entry.name == name and entry.run.split()[:1] == [_CLIENT]))
        return 0
    raise UsageError("mod_md passes setup DOMAIN VALUE, or teardown DOMAIN [VALUE]", hint=f"{PROG} --help")


if __name__ == "__main__":
    entry()
