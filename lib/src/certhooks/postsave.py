"""Command lines as certmonger splits them for its pre-save, post-save and CA helper commands: without a shell.

Blank, tab and newline separate words; single and double quotes quote, may join, and leave a backslash alone; outside
quotes a backslash may stand before a quote or a backslash only; an empty word vanishes (certmonger,
cm_subproc_parse_args; observed with 0.79.17).
"""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from certhooks.errors import CertmongerError

if TYPE_CHECKING:
    from collections.abc import Sequence

_BLANKS = " \t\r\n"
_QUOTES = "'\""


def quote(argv: Sequence[str]) -> str:
    """Return the command line that certmonger reads back as exactly ``argv``.

    Raises CertmongerError for what cannot be passed: no word at all, an empty word, a NUL, a newline (certmonger's
    request file does not keep every one), bytes that are not UTF-8.
    """
    if not argv:
        raise CertmongerError("a post-save command needs at least one word")
    for word in argv:
        if not word:
            raise CertmongerError(
                "certmonger drops empty words from a post-save command", hint="leave the empty argument out"
            )
        if "\0" in word or "\n" in word or "\r" in word or any("\ud800" <= sign <= "\udfff" for sign in word):
            raise CertmongerError(f"certmonger cannot pass {word!a} to a post-save command")
    return shlex.join(argv)


def split(text: str) -> list[str]:
    """Return the words that certmonger makes of a stored command; CertmongerError where it would run nothing."""
    words: list[str] = []
    word = ""
    within = ""  # the quote we are in
    signs = iter(text)
    for sign in signs:
        if within:
            if sign == within:
                within = ""
            else:
                word += sign
        elif sign in _QUOTES:
            within = sign
        elif sign == "\\":
            follower = next(signs, "")
            if follower not in {*_QUOTES, "\\"}:
                raise CertmongerError(
                    f"certmonger does not understand the command {text!a}",
                    hint="outside quotes a backslash may stand before a quote or a backslash only",
                )
            word += follower
        elif sign in _BLANKS:
            words += [word] if word else []
            word = ""
        else:
            word += sign
    if within:
        raise CertmongerError(
            f"certmonger does not understand the command {text!a}", hint=f"a closing {within} is missing"
        )
    return words + ([word] if word else [])
