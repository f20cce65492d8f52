"""What people are told: plain text of bounded size in which no secret, key or control character is left."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from typing import Any

from certhooks.secrets import redact
from certhooks.watch.plain import iso

FAILURE, RECOVERY, EXPIRY, TEST, DROPPED = "failure", "recovery", "expiry", "test", "dropped"
_MAX_SUBJECT = 180
_MAX_BODY = 24 * 1024
_MAX_ABOUT = 20
# A key or certificate as PEM, also where its end was cut off; the same as one line of base64, or PEM in base64 again.
_PEM = re.compile(r"-----BEGIN [^-\n]{0,60}-----.*?(?:-----END [^-\n]{0,60}-----|\Z)", re.DOTALL)
_DER = re.compile(r"(?:MI[A-P]|LS0tLS1CRUdJTi)[A-Za-z0-9+/=_\\-]{60,}")
_LEFT_OUT = "(left out)"


@dataclass(frozen=True)
class Message:
    """One message to people; make it with ``make()``, which sees to what may stand in it.

    Args:
        key: names it, the same when it is made again from the same state: mail systems see a duplicate by it.
        kind: ``failure``, ``recovery``, ``expiry``, ``test`` or ``dropped``.
        subject: one line of ASCII.
        at: seconds since the epoch. host: where it comes from. level: the worst that it tells, as a word.
        about: certificates and targets, as people call them; the first 20.
    """

    key: str
    kind: str
    subject: str
    body: str
    at: float
    host: str = ""
    level: str = ""
    about: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Return it as JSON knows it, the time as ISO 8601 in UTC."""
        return {**asdict(self), "about": list(self.about), "at": iso(self.at)}


def make(
    key: str, kind: str, subject: str, body: str, at: float, *, host: str = "", level: str = "", about: Any = ()
) -> Message:
    """Return a message without secrets, keys, control characters or endless text."""
    return Message(
        key=key,
        kind=kind,
        subject=subject_line(subject),
        body=_cut("".join(f"{line(part, _MAX_BODY)}\n" for part in hidden(body).rstrip("\n").split("\n")), _MAX_BODY),
        at=at,
        host=line(host, 255),
        level=level,
        about=tuple(line(text) for text in list(about)[:_MAX_ABOUT]),
    )


def hidden(text: str) -> str:
    """Return the text without what must never be sent: known secrets, and blocks of PEM or DER whatever they hold."""
    return _DER.sub(_LEFT_OUT, _PEM.sub(_LEFT_OUT, redact(text)))


def line(text: str, longest: int = 300) -> str:
    """Return the text as one line without anything that a terminal or a mail reader would obey."""
    one = " ".join(hidden(text).splitlines())
    return _cut("".join(c if c.isprintable() else "?" for c in one).rstrip(), longest)


def subject_line(text: str) -> str:
    """Return the text as one bounded line of ASCII: nothing in it can begin a header."""
    ascii_text = line(text, 4 * _MAX_SUBJECT).encode("ascii", "backslashreplace").decode("ascii")
    return _cut(ascii_text.replace("=?", "= ?"), _MAX_SUBJECT)  # RFC 2047 would have readers decode what follows


def _cut(text: str, longest: int) -> str:
    return text if len(text) <= longest else text[: longest - 4].rstrip() + " ..."
