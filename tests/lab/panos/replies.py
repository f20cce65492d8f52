"""What PAN-OS says, in its two dialects, blank by blank.

The web front end writes blanks round ``=`` and single quotes, and its HTTP status equals the code; the
management daemons write plain XML, and HTTP 200 whatever happened.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Optional
from xml.sax.saxutils import escape

if TYPE_CHECKING:
    from collections.abc import Iterable

XML = "application/xml"


@dataclass(frozen=True)
class Reply:
    """One HTTP reply."""

    body: bytes
    status: int = 200
    content_type: str = XML


class RefusedError(Exception):
    """Raised anywhere below the API to end a request with this reply."""

    def __init__(self, reply: Reply) -> None:
        super().__init__(reply.body.decode())
        self.reply = reply


def xml(text: str, status: int = 200) -> Reply:
    """Return a reply with this XML text."""
    return Reply(text.encode(), status)


def front_end_error(code: int, message: str) -> Reply:
    """Return an error of the web front end: HTTP status and code are the same number."""
    text = escape(message, {'"': "&quot;"})
    return xml(f"<response status = 'error' code = '{code}'><result><msg>{text}</msg></result></response>", code)


def error(*lines: str, code: Optional[int] = None) -> Reply:
    """Return an error of the management daemon, a ``line`` each; lines with a leading blank are CDATA."""
    return xml(f'<response status="error"{_code(code)}><msg>{lines_of(lines)}</msg></response>')


def unauthorized(http_status: int = 200) -> Reply:
    """Return the reply for a role that lacks the node or the command; its status is ``unauth``."""
    return xml(
        '<response status="unauth" code="16"><msg><line>Unauthorized request</line></msg></response>', http_status
    )


def success(message: str, code: Optional[int] = None) -> Reply:
    """Return success with its text directly below ``msg``."""
    return xml(f'<response status="success"{_code(code)}><msg>{escape(message)}</msg></response>')


def result(inner: str, code: Optional[int] = None) -> Reply:
    """Return success with this XML as the result."""
    return xml(f'<response status="success"{_code(code)}><result>{inner}</result></response>')


def enqueued(job: int, what: str = "Commit job") -> Reply:
    """Return the reply to a commit, a validation or a push that became a job."""
    return result(f"<msg><line>{what} enqueued with jobid {job}</line></msg><job>{job}</job>", 19)


def lines_of(lines: Iterable[str]) -> str:
    """Return ``line`` elements; the daemon wraps the lines that begin with a blank into CDATA."""
    return "".join(f"<line>{cdata(line) if line.startswith(' ') else escape(line)}</line>" for line in lines)


def cdata(text: str) -> str:
    """Return the text as CDATA, whatever it holds."""
    return "<![CDATA[" + text.replace("]]>", "]]]]><![CDATA[>") + "]]>"


def _code(code: Optional[int]) -> str:
    return "" if code is None else f' code="{code}"'


SUCCEEDED = success("command succeeded", 20)
NOT_THERE = success("Object doesn't exist", 7)
NO_SUCH_NODE = error("No such node")
NOTHING = xml('<response status="success" code="7"><result/></response>')
INVALID_KEY = front_end_error(403, "Invalid Credential")
INVALID_CREDENTIALS = front_end_error(403, "Invalid credentials.")
NOT_XML = front_end_error(400, "Request is not a valid XML")
MALFORMED = xml("<response status='error' code='18'><msg><line>Malformed Request</line></msg></response>")
NO_CHANGES = success("There are no changes to commit.", 19)
SAME_AS_PREVIOUS = success(
    "The result of this commit would be the same as the previous commit queued/processed. No edits have been made "
    "between these subsequent commits. Please check the previous commit status. If still needed, use commit force "
    "instead. ",
    13,
)
BUSY = error("Another commit/validate is in progress. Please try again later", code=13)
LOCKED = error("Other administrators are holding device wide commit locks.", code=14)
REVERTED = result("<msg><line>All changes were reverted from configuration</line></msg>")
REVERT_FAILED = xml(
    '<response status="error"><result><msg><line>Failed to revert configuration.</line></msg></result></response>'
)
BAD_GATEWAY = Reply(
    b"<html>\r\n<head><title>502 Bad Gateway</title></head>\r\n<body>\r\n<center><h1>502 Bad Gateway</h1></center>\r\n"
    b"<hr><center>nginx</center>\r\n</body>\r\n</html>\r\n",
    502,
    "text/html",
)
