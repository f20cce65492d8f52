"""A certificate for a request that a device has made: signed by a command, or by the helper of one of certmonger's CAs.

The helper protocol is certmonger's (doc/helpers.txt; exit codes observed with 0.79.17).
"""

from __future__ import annotations

import json
import os
import shlex
from typing import TYPE_CHECKING, NamedTuple, Optional

from certhooks import child, postsave
from certhooks.errors import CertmongerError, DeadlineError, UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from certhooks.certmonger import Certmonger
    from certhooks.deadline import Deadline

_MAX_REPLY = 1024 * 1024
_ISSUED, _WAIT, _REJECTED, _UNREACHABLE, _UNCONFIGURED, _WAIT_WITH_DELAY = range(6)
_LONGEST = 300.0  # seconds for one signature
_LONGEST_PAUSE = 60.0
_SAYS = {_REJECTED: "refused the request", _UNREACHABLE: "did not sign", _UNCONFIGURED: "is not configured here"}
_KEPT = ("KRB5_CONFIG", "KRB5_KDC_PROFILE")


class Subject(NamedTuple):
    """For whom a certificate is asked."""

    common_name: str
    principal: str
    profile: Optional[str] = None


def words(command: str) -> list[str]:
    """Return the words of a command that is run without a shell.

    Raises:
        UsageError: a quote is not closed.
    """
    try:
        return shlex.split(command)
    except ValueError as e:
        raise UsageError(
            f"cannot read the command {command[:80]!r}: {str(e).lower()}", hint="close the quote"
        ) from None


def by_command(command: str, csr: str, deadline: Deadline) -> bytes:
    """Give the request (PEM) to a command's standard input, and return what it prints: the leaf and perhaps its chain.

    Raises:
        UsageError: it cannot be run, fails, or prints nothing.
    """
    code, out = _run(words(command), csr.encode(), {}, deadline, command)
    if code or not out.strip():
        raise UsageError(
            f"the command that signs gave no certificate (exit status {code})",
            hint="it gets the request on standard input and prints PEM; no shell reads it",
        )
    return out


def by_ca(certmonger: Certmonger, ca: str, csr: str, subject: Subject, deadline: Deadline) -> bytes:
    """Have one of certmonger's CAs sign the request (PEM), and return the leaf and perhaps its chain, in PEM.

    Raises:
        CertmongerError: refused, not reached, or no answer that makes sense; DeadlineError: not in time.
    """
    argv = postsave.split(certmonger.ca_helper(ca))
    given = {
        "CERTMONGER_CSR": csr,
        "CERTMONGER_REQ_SUBJECT": f"CN={subject.common_name}",
        "CERTMONGER_REQ_HOSTNAME": subject.common_name,
        "CERTMONGER_REQ_PRINCIPAL": subject.principal,
        "CERTMONGER_CA_NICKNAME": ca,
        **({"CERTMONGER_CA_PROFILE": subject.profile} if subject.profile else {}),
    }
    operation: dict[str, str] = {"CERTMONGER_OPERATION": "SUBMIT"}
    while True:
        code, out = _run(argv, b"", {**given, **operation}, deadline, f"the helper of {ca}")
        text = out.decode(errors="replace")
        if code == _ISSUED:
            return _issued(text).encode()
        if code not in {_WAIT, _WAIT_WITH_DELAY}:
            said = next(iter(text.split("\n")), "")[:300].rstrip(".")
            what = _SAYS.get(code, f"failed (exit status {code})")
            raise CertmongerError(f"the CA {ca} {what}: {said}" if said else f"the CA {ca} {what}", hint=_hint(text))
        delay, cookie = text.split("\n", 1) if code == _WAIT_WITH_DELAY and "\n" in text else ("", text)
        seconds = float(delay) if delay.strip().isascii() and delay.strip().isdigit() else 5.0
        operation = {"CERTMONGER_OPERATION": "POLL", "CERTMONGER_CA_COOKIE": cookie.strip("\n")}
        deadline.pause(min(seconds, _LONGEST_PAUSE), f"the CA {ca}")


def _issued(text: str) -> str:
    """Return the PEM in a helper's answer, which may be JSON with the chain apart."""
    if not text.lstrip().startswith("{"):
        return text
    try:
        found = json.loads(text)
        return "\n".join([found["certificate"], *(each["certificate"] for each in found.get("chain", []))])
    except (ValueError, KeyError, TypeError):
        raise CertmongerError("the CA's helper answered what is not understood") from None


def _hint(text: str) -> Optional[str]:
    from certhooks.advice import advice

    return advice("CA_REJECTED", text)


def _run(
    argv: Sequence[str], given: bytes, environment: Mapping[str, str], deadline: Deadline, what: str
) -> tuple[int, bytes]:
    """Run without a shell, with little environment, for no longer than the deadline; return status and output."""
    env = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8", **environment}
    env.update({name: os.environ[name] for name in _KEPT if name in os.environ})
    deadline.check(what)
    try:
        return child.run(argv, deadline.within(_LONGEST), given=given, env=env, most=_MAX_REPLY)
    except DeadlineError:
        deadline.check(what[:80])
        raise CertmongerError(f"{what[:80]} did not end within {_LONGEST:g} s", hint="run it by hand") from None
    except (OSError, ValueError, IndexError) as e:
        reason = (getattr(e, "strerror", None) or str(e)).lower()
        raise UsageError(f"cannot run {what[:80]}: {reason}", hint="give its absolute path") from e
