"""``ipa_dns_lego``: the program for lego's and Traefik's ``exec`` provider, default and RAW mode.

lego asks the name servers itself before it goes on, and follows aliases before it calls in default mode. So this
command does not wait unless it is told to.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Optional

from certhooks import cli
from certhooks.errors import UsageError
from certhooks_freeipa_dns import front

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from certhooks_freeipa_dns.core import Challenge

PROG = "ipa_dns_lego"

_DEFAULT, _RAW = 2, 3
_EXAMPLES = """\
  EXEC_PATH=/usr/local/bin/ipa_dns_lego EXEC_SEQUENCE_INTERVAL=1 lego --dns exec -d www.example.com run
      without EXEC_SEQUENCE_INTERVAL lego pauses for a minute between two names
"""


def parser() -> argparse.ArgumentParser:
    """Return the parser; lego itself passes no options."""
    made = front.parser(
        PROG,
        "Answers dns-01 challenges of lego and Traefik in FreeIPA's DNS, as the program of their exec provider "
        "(EXEC_PATH), with and without EXEC_MODE=RAW. lego waits for the name servers; this command does where --wait "
        "or the configuration says so.",
        usage="ipa_dns_lego [options] present|cleanup FQDN VALUE\n"
        "       ipa_dns_lego [options] present|cleanup -- DOMAIN TOKEN KEYAUTH",
        examples=_EXAMPLES,
    )
    front.add_operation(made, "present|cleanup", "lego")
    return made


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Run the command and return its exit code."""
    return front.call(PROG, parser, _hook, argv, options_follow=False)


def entry() -> None:
    """Run as the installed script."""
    cli.entry(main)


def challenge(words: Sequence[str]) -> Challenge:
    """Return what lego means by FQDN VALUE, or in RAW mode by DOMAIN TOKEN KEYAUTH.

    Raises:
        UsageError: neither. BadNameError: a name or a value that cannot be one.
    """
    from certhooks_freeipa_dns import names
    from certhooks_freeipa_dns.core import Challenge

    if words[:1] == ["--"]:
        words = words[1:]
    if len(words) == _DEFAULT:
        return Challenge(names.name(words[0]), names.value(words[1]))
    if len(words) == _RAW:
        return Challenge(names.challenge(words[0]), names.digest(words[2]))
    raise UsageError("lego passes FQDN and value, or domain, token and key authorization", hint=f"{PROG} --help")


def _hook(args: argparse.Namespace, screen: cli.Screen) -> int:
    if args.operation == "timeout":  # older versions of lego asked for it; theirs are used where nothing is said
        screen.say('{"timeout": 120, "interval": 2}')
        return 0
    if args.operation not in {"present", "cleanup"}:
        raise UsageError("what does lego want, present or cleanup?", hint=f"EXEC_PATH=/usr/local/bin/{PROG}")
    wanted = challenge(args.words)
    core = front.core(args, screen, front.settings(args, wait=0.0), run=front.run_of("lego"))
    if args.operation == "present":
        core.add([wanted])
    else:
        core.remove([wanted])
    return 0


if __name__ == "__main__":
    entry()
