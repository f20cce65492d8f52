"""A certmonger request as D-Bus shows it, and what its states mean to a hook."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Optional

from certhooks.advice import advice
from certhooks.errors import CertmongerError

# The new certificate is in its file and certmonger has read it back. In POST_SAVED_CERT the post-save command runs.
_SAVED = {
    "MONITORING",
    "POST_SAVED_CERT",
    "NEED_TO_NOTIFY_ISSUED_SAVED",
    "NOTIFYING_ISSUED_SAVED",
    "NEED_TO_NOTIFY_VALIDITY",
    "NOTIFYING_VALIDITY",
}
# The new certificate is there and not in its file, or not read back: the post-save command is still to come.
_SAVING = {
    "NEED_TO_SAVE_CERT",
    "PRE_SAVE_CERT",
    "START_SAVING_CERT",
    "SAVING_CERT",
    "NEED_TO_SAVE_CA_CERTS",
    "START_SAVING_CA_CERTS",
    "SAVING_CA_CERTS",
    "NEED_TO_READ_CERT",
    "START_READING_CERT",
    "READING_CERT",
}
# Nothing more comes without a person. CA_UNREACHABLE is tried again, but only after 7 days.
_FAILED = {
    "CA_REJECTED",
    "CA_UNREACHABLE",
    "CA_UNCONFIGURED",
    "NEED_CA",
    "NEED_GUIDANCE",
    "NEED_TO_NOTIFY_REJECTION",
    "NOTIFYING_REJECTION",
    "NEED_TO_NOTIFY_ISSUED_SAVE_FAILED",
    "NOTIFYING_ISSUED_SAVE_FAILED",
    "NEED_TO_NOTIFY_ISSUED_CA_SAVE_FAILED",
    "NOTIFYING_ISSUED_CA_SAVE_FAILED",
}
_WORDS = {
    "GENERATING_KEY_PAIR": "making the key",
    "GENERATING_CSR": "writing the request",
    "SUBMITTING": "asking the CA",
    "CA_WORKING": "the CA is working on it",
    "NEED_TO_SAVE_CERT": "waiting to save, behind another request's post-save command",
    "SAVING_CERT": "saving the certificate",
    "READING_CERT": "reading the certificate back",
    "POST_SAVED_CERT": "saved, running the post-save command",
    "MONITORING": "done",
}


@dataclass(frozen=True)
class Request:
    """What certmonger knows about one certificate at one moment; PEM texts end lines with a plain newline.

    ``chain`` is as the CA's helper gave it, without leaf and root. ``cert`` is None until issued; subject, hostnames
    and principals are then the certificate's, before that the request's. ``ca_error`` is one line.
    """

    nickname: str
    path: str
    status: str
    stuck: bool
    ca_error: Optional[str] = None
    cert_file: Optional[str] = None
    key_file: Optional[str] = None
    cert: Optional[str] = field(default=None, repr=False)
    chain: tuple[str, ...] = field(default=(), repr=False)
    roots: tuple[str, ...] = field(default=(), repr=False)
    post_save: Optional[str] = None
    subject: Optional[str] = None
    hostnames: tuple[str, ...] = ()
    principals: tuple[str, ...] = ()
    ca: Optional[str] = None
    profile: Optional[str] = None
    serial: Optional[str] = None
    not_before: Optional[datetime] = None
    not_after: Optional[datetime] = None
    post_save_uid: Optional[str] = None

    @classmethod
    def from_properties(cls, path: str, properties: object, *, ca: Optional[str] = None) -> Request:
        """Build one from the answer to GetAll; CertmongerError when that is not a request.

        Only named properties are taken: among the others are passphrases (key-pin, template-challenge-password).
        """
        nickname, status, stuck = (
            _text(properties, "nickname"),
            _text(properties, "status"),
            value_of(properties, "stuck"),
        )
        if not nickname or not status or not isinstance(stuck, bool):
            raise CertmongerError(
                "certmonger's description of a request is not understood",
                hint="restart it with: systemctl restart certmonger",
            )
        cert = _text(properties, "cert")
        now = "" if cert else "template-"
        return cls(
            nickname=nickname,
            path=path,
            status=status,
            stuck=stuck,
            ca_error=_one_line(_text(properties, "ca-error")),
            cert_file=_text(properties, "cert-file"),
            key_file=_text(properties, "key-file"),
            cert=_pem(cert) if cert else None,
            chain=_pems(properties, "cert-chain"),
            roots=_pems(properties, "cert-roots"),
            post_save=_text(properties, "cert-postsave-command"),
            subject=_text(properties, now + "subject"),
            hostnames=_texts(properties, now + "hostname"),
            principals=_texts(properties, now + "principal") or _texts(properties, "template-principal"),
            ca=ca,
            profile=_text(properties, "template-profile"),
            serial=_text(properties, "serial"),
            not_before=_time(value_of(properties, "not-valid-before")),
            not_after=_time(value_of(properties, "not-valid-after")),
            post_save_uid=_text(properties, "cert-postsave-uid"),
        )

    @property
    def common_name(self) -> Optional[str]:
        """The subject's CN; certmonger takes a subject without ``=`` for the CN itself."""
        subject = self.subject or ""
        if "=" not in subject:
            return subject or None
        found = re.search(r"(?:^|,)\s*CN=((?:\\.|[^,\\])*)", subject, re.IGNORECASE)
        return re.sub(r"\\(.)", r"\1", found.group(1)).strip() or None if found else None

    @property
    def in_post_save(self) -> bool:
        """Whether its post-save command runs now (as it does when that command itself asks)."""
        return self.status == "POST_SAVED_CERT"

    @property
    def saving(self) -> bool:
        """Whether a new certificate is on its way into its file, with the post-save command still to come."""
        return self.status in _SAVING

    @property
    def monitoring(self) -> bool:
        """Whether nothing is under way."""
        return self.status == "MONITORING"

    @property
    def settled(self) -> bool:
        """Whether the certificate in its file is the one that ``cert`` shows, ready to be used."""
        return self.status in _SAVED and not self.stuck and self.cert is not None

    @property
    def failed(self) -> bool:
        """Whether it will not get further by itself within the day."""
        return self.stuck or self.status in _FAILED or (self.status == "MONITORING" and self.cert is None)

    @property
    def renewal_failed(self) -> bool:
        """Whether the certificate is there but the CA refused a newer one: the ca-error is the only trace of it."""
        return self.settled and self.ca_error is not None

    def describe(self) -> str:
        """Return the state in words for a progress line."""
        usual = "starting" if self.status.startswith("NEWLY_ADDED") else self.status
        words = _WORDS.get(self.status, usual)
        words = "not renewed" if self.renewal_failed else words
        return f"{words}: {self.ca_error}" if self.ca_error else words

    def advice(self) -> Optional[str]:
        """Return what to do about it, or None when it is not in trouble."""
        if not self.failed and not self.renewal_failed:
            return None
        principal = self.principals[0] if self.principals else None
        return advice(self.status, self.ca_error, principal=principal, nickname=self.nickname)

    def check(self) -> None:
        """Raise CertmongerError, with advice, when it is in trouble or a renewal was refused."""
        if self.failed or self.renewal_failed:
            what = self.ca_error or f"state {self.status}"
            state = "renewal refused" if self.renewal_failed else self.status
            raise CertmongerError(f"request {self.nickname}: {state}: {what}", hint=self.advice())


def value_of(properties: object, name: str) -> object:
    """Return a property's value without its D-Bus variant (signature, value), None where there is none."""
    pair = properties.get(name) if isinstance(properties, dict) else None
    return _second(pair)


def _second(pair: object) -> object:
    return pair[1] if isinstance(pair, tuple) and len(pair) == len(("first", "second")) else None


def _text(properties: object, name: str) -> Optional[str]:
    value = value_of(properties, name)
    return value if isinstance(value, str) and value else None


def _texts(properties: object, name: str) -> tuple[str, ...]:
    value = value_of(properties, name)
    return tuple(each for each in value if isinstance(each, str) and each) if isinstance(value, list) else ()


def _pems(properties: object, name: str) -> tuple[str, ...]:
    """Read an array of (nickname, PEM)."""
    value = value_of(properties, name)
    texts = map(_second, value if isinstance(value, list) else [])
    return tuple(_pem(text) for text in texts if isinstance(text, str) and text)


def _pem(text: str) -> str:
    """Even out the line ends: certmonger mixes CR LF and LF within one certificate."""
    return "".join(f"{line.strip()}\n" for line in text.splitlines() if line.strip())


def _one_line(text: Optional[str]) -> Optional[str]:
    """Make a foreign message fit for a terminal and a log: one line, no control characters, 1000 characters."""
    if text is None:
        return None
    return " ".join("".join(sign if sign.isprintable() else " " for sign in text).split())[:1000] or None


def _time(seconds: object) -> Optional[datetime]:
    if not isinstance(seconds, int) or isinstance(seconds, bool) or seconds <= 0:
        return None
    try:
        return datetime.fromtimestamp(seconds, tz=timezone.utc)
    except (OverflowError, ValueError, OSError):
        return None
