"""Mail through an SMTP server: verified TLS, one deadline for a whole conversation, one clear error a refusal."""

from __future__ import annotations

import base64
import smtplib
import socket
import ssl
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime
from typing import IO, TYPE_CHECKING, Any, Callable, Optional

from certhooks import secrets, trust
from certhooks.address import is_name
from certhooks.errors import CredentialsError, DeadlineError, Error, UnreachableError
from certhooks.probe import unresolved
from certhooks.watch.channel import NotTakenError, RefusedError
from certhooks.watch.message import line
from certhooks.watch.plain import iso

if TYPE_CHECKING:
    from pathlib import Path

    from typing_extensions import Self

    from certhooks.address import Address
    from certhooks.deadline import Deadline
    from certhooks.watch.message import Message

SECONDS = 60.0  # for one message, from the look-up of the name to the server's word that it has it
STARTTLS, TLS, NONE = "starttls", "tls", "none"
_FAREWELL = 5.0
_MAX_REPLIES = 64 * 1024  # bytes that a server may say in one conversation
_MAX_LINE = 900  # RFC 5321 4.5.3.1.6: 998 and the line end
_PERMANENT = 500
_REFUSED = {
    smtplib.SMTPSenderRefused: "sender",
    smtplib.SMTPDataError: "message",
    smtplib.SMTPHeloError: "greeting",
    smtplib.SMTPConnectError: "connection",
}
_HINT = "see [mail] in notify.conf; certhooks notify --test sends a test"


@dataclass(frozen=True)
class Mail:
    """Mail to one person.

    Args:
        to: the address, ASCII. sender: likewise; empty for root at the message's host.
        tls: ``starttls``, ``tls`` (from the first byte on) or ``none``; verified, never a fallback.
        password: gives it when it is needed. cafile: further trust anchors.
    """

    to: str
    server: Address
    tls: str = STARTTLS
    sender: str = ""
    user: str = ""
    password: Optional[Callable[[], secrets.Secret]] = None
    cafile: Optional[Path] = None

    @property
    def name(self) -> str:
        """The name that the queue knows it by: to whom."""
        return f"mail to {self.to}"

    def send(self, message: Message, deadline: Deadline) -> None:
        """Return when the server has taken it.

        Raises:
            UnreachableError: no connection, no trust, no STARTTLS, or it broke. CredentialsError: the login failed.
            NotTakenError, RefusedError: what the server said. DeadlineError: not within a minute.
        """
        if deadline.remaining() <= 0:
            deadline.check(self.name)
        # Others take no sender without a domain.
        host = ascii_host(message.host if "." in message.host else socket.getfqdn())
        sender = self.sender or f"root@{host}"
        with _Watch(min(SECONDS, deadline.remaining())) as watch:
            try:
                self._converse(watch, host, sender, compose(message, sender, self.to))
            except Error:
                raise
            except (smtplib.SMTPException, OSError, ValueError) as e:
                if watch.late:
                    raise DeadlineError(
                        f"{self._where} did not take the message within {watch.seconds:.0f} s",
                        hint="is it a mail server, and not overloaded? " + _HINT,
                    ) from None
                raise self._told(e) from None

    def _converse(self, watch: _Watch, host: str, sender: str, text: bytes) -> None:
        context = self._context() if self.tls != NONE else None
        smtp = _Smtp(watch, self.server, context if self.tls == TLS else None, host)
        try:
            code, reply = smtp.connect(self.server.host, self.server.port)
            if code != 220:  # noqa: PLR2004  RFC 5321 4.3.2
                raise smtplib.SMTPConnectError(code, reply)
            smtp.ehlo_or_helo_if_needed()
            if self.tls == STARTTLS and context:
                if not smtp.has_extn("starttls"):
                    raise UnreachableError(
                        f"{self._where} offers no STARTTLS, so nothing was sent",
                        hint="if that is as it should be: tls = tls (port 465), or tls = none on a trusted wire",
                    )
                smtp.starttls(context=context)
                smtp.ehlo_or_helo_if_needed()
            self._login(smtp)
            smtp.sendmail(sender, [self.to], text)
            with suppress(smtplib.SMTPException, OSError):  # it is taken, whatever becomes of the farewell
                if smtp.sock:
                    smtp.sock.settimeout(_FAREWELL)
                smtp.quit()
        finally:
            smtp.close()

    def _login(self, smtp: smtplib.SMTP) -> None:
        if not self.user or self.password is None:
            return
        secret = self.password()
        plain = base64.b64encode(f"\0{self.user}\0{secret.reveal()}".encode()).decode("ascii")
        for form in (plain, base64.b64encode(secret.reveal().encode()).decode("ascii")):
            secrets.conceal(form)  # a server may quote what it was sent
        if not smtp.has_extn("auth"):
            raise CredentialsError(
                f"{self._where} offers no login" + (" without TLS" if self.tls == NONE else ""),
                hint="take user out of [mail] in notify.conf, or set tls = starttls",
            )
        if "PLAIN" in smtp.esmtp_features["auth"].upper().split():
            # RFC 4616 in UTF-8; smtplib's own knows ASCII alone.
            code, reply = smtp.docmd("AUTH", f"PLAIN {plain}")
            if code not in {235, 503}:
                raise smtplib.SMTPAuthenticationError(code, reply)
            return
        try:
            smtp.login(self.user, secret.reveal())
        except UnicodeError:
            raise CredentialsError(
                f"{self._where} offers no login that knows a password with signs beyond ASCII", hint=_HINT
            ) from None

    def _context(self) -> ssl.SSLContext:
        context = trust.Trust(self.cafile).contexts()(self.server)
        if isinstance(context, trust.Context):
            context.widen()
        return context

    @property
    def _where(self) -> str:
        return f"the mail server {self.server.host}:{self.server.port}"

    def _told(self, error: Exception) -> Error:
        """Return the one error that tells what went wrong."""
        if isinstance(error, smtplib.SMTPRecipientsRefused):
            return self._reply("recipient", *next(iter(error.recipients.values())))
        if isinstance(error, smtplib.SMTPAuthenticationError):
            return CredentialsError(
                f"{self._where} does not accept the login of {line(self.user, 80)}: "
                f"{error.smtp_code} {_reply(error.smtp_error)}",
                hint="check user and password in [mail] in notify.conf",
            )
        if isinstance(error, smtplib.SMTPResponseException):
            if error.smtp_code < 0:
                return UnreachableError(f"{self._where} is not understood: {_reply(error.smtp_error)}", hint=_HINT)
            return self._reply(_REFUSED.get(type(error), "conversation"), error.smtp_code, error.smtp_error)
        if isinstance(error, smtplib.SMTPNotSupportedError):
            return CredentialsError(f"{self._where} offers no login that we know: {line(str(error))}", hint=_HINT)
        return self._broken(error)

    def _broken(self, error: Exception) -> UnreachableError:
        if isinstance(error, ssl.SSLError):
            return UnreachableError(
                str(trust.explain(error, self.server, may_pin=False)),
                hint="set cafile in [mail] in notify.conf to its CA, or server to the name that its certificate has; "
                "tls = tls is for port 465, starttls for 25 and 587",
            )
        if isinstance(error, (socket.gaierror, UnicodeError)):
            return unresolved(self.server, error)
        if isinstance(error, smtplib.SMTPServerDisconnected):
            return UnreachableError(
                f"{self._where} broke off the conversation", hint="look at its log; the message stays in the queue"
            )
        if isinstance(error, OSError):
            reason = error.strerror or str(error) or type(error).__name__
            return UnreachableError(
                f"no connection to {self._where}: {reason.lower()}",
                hint="is it up, and does it listen on this port? server is set in [mail] in notify.conf",
            )
        return UnreachableError(f"{self._where} is not understood: {line(str(error))}", hint=_HINT)

    def _reply(self, what: str, code: int, reply: Any) -> Error:
        about = f" {self.to}" if what == "recipient" else ""
        kind = RefusedError if what == "message" and code >= _PERMANENT else NotTakenError
        later = "it is tried again" if code < _PERMANENT else "what it says tells what to change"
        return kind(f"{self._where} refused the {what}{about}: {code} {_reply(reply)}", hint=f"{later}; {_HINT}")


def compose(message: Message, sender: str, to: str) -> bytes:
    """Return the mail: text alone, lines and signs that every server takes, marked as sent by a program (RFC 3834)."""
    mail = EmailMessage(policy=SMTP)
    mail["From"], mail["To"], mail["Subject"] = sender, to, message.subject
    mail["Date"] = format_datetime(datetime.fromisoformat(iso(message.at)))
    mail["Message-ID"] = f"<{message.key}@{ascii_host(message.host)}>"  # the same at every try
    mail["Auto-Submitted"] = "auto-generated"
    mail["X-Auto-Response-Suppress"] = "All"  # Exchange
    short = max(map(len, message.body.split("\n"))) <= _MAX_LINE
    mail.set_content(message.body, cte="7bit" if short and message.body.isascii() else "quoted-printable")
    return mail.as_bytes()


def ascii_host(host: str) -> str:
    """Return a host's name as mail knows it: ASCII (IDNA), ``localhost`` where it is no name at all."""
    try:
        name = host.encode("idna").decode("ascii").lower()
    except UnicodeError:
        return "localhost"
    return name if is_name(name) else "localhost"


class _Watch:
    """Ends a conversation when its time is over, wherever it waits.

    A socket's own timeout begins anew with each byte.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.late = False
        self._end_at = time.monotonic() + seconds
        self._timer = threading.Timer(seconds, self._end)
        self._timer.daemon = True
        self._lock = threading.Lock()
        self._twin: Optional[socket.socket] = None

    def __enter__(self) -> Self:
        self._timer.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        self._timer.cancel()
        with self._lock:
            if self._twin:
                self._twin.close()

    def over(self, sock: socket.socket) -> None:
        """Watch over a socket; by a descriptor of its own, as TLS takes the socket's away."""
        with self._lock:
            self._twin = sock.dup()

    def left(self) -> float:
        """Return the seconds that are left."""
        return self._end_at - time.monotonic()

    def _end(self) -> None:
        with self._lock:
            self.late = True
            if self._twin:
                with suppress(OSError):
                    self._twin.shutdown(socket.SHUT_RDWR)


class _Smtp(smtplib.SMTP):
    """smtplib's, over a watched socket, with TLS from the first byte on when it has a context; replies are bounded."""

    def __init__(self, watch: _Watch, server: Address, context: Optional[ssl.SSLContext], host: str) -> None:
        self._watch = watch
        self._context = context
        self._server = server
        super().__init__(local_hostname=host, timeout=watch.seconds)

    def _get_socket(self, host: str, port: int, timeout: float) -> socket.socket:
        sock = self._connected(host, port)
        sock.settimeout(timeout)
        self._watch.over(sock)
        return self._context.wrap_socket(sock, server_hostname=host) if self._context else sock

    def _connected(self, host: str, port: int) -> socket.socket:
        """Return a connection to the first address that answers; all of them share the time."""
        failed: Optional[OSError] = None
        for *_, address in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM):
            try:
                return socket.create_connection((str(address[0]), port), max(0.1, self._watch.left()))
            except OSError as e:
                failed = e
        raise failed or OSError("no address")

    def connect(self, host: str = "", port: int = 0, source_address: Any = None) -> tuple[int, bytes]:
        self._host = host  # what the certificate must be for
        return super().connect(host, port, source_address)

    def getreply(self) -> tuple[int, bytes]:
        if self.file is None and self.sock:
            self.file = _Bounded(self.sock.makefile("rb"))
        return super().getreply()


class _Bounded:
    """A server's replies, up to as many bytes as any server needs."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._left = _MAX_REPLIES

    def readline(self, size: int) -> bytes:
        got = self._file.readline(size)
        self._left -= len(got)
        if self._left < 0:
            raise OSError("endless replies")
        return got

    def close(self) -> None:
        self._file.close()


def _reply(text: Any) -> str:
    return line(text.decode(errors="replace") if isinstance(text, bytes) else str(text), 200)
