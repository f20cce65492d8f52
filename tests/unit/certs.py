"""Certificates in forms that the lab's authority does not make, and what else is made of one."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING, Any

from certhooks import certificate
from certhooks.bundle import Bundle
from certhooks.request import Request

if TYPE_CHECKING:
    from pathlib import Path

    from tests.lab.ca import Issued


def openssl(*arguments: str, data: bytes = b"") -> bytes:
    """Run openssl and return what it prints; it fails loudly."""
    done = subprocess.run(["openssl", *arguments], input=data, capture_output=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout


def self_signed(
    folder: Path, *options: str, new_key: str = "rsa:2048", subject: str = "/CN=odd.example.com"
) -> tuple[bytes, bytes]:
    """Return certificate and key of ``openssl req -x509`` with further options."""
    cert, key = folder / "odd.crt", folder / "odd.key"
    where = ["-keyout", str(key), "-out", str(cert)]
    openssl("req", "-x509", "-nodes", "-days", "9", "-newkey", new_key, "-subj", subject, *where, *options)
    return cert.read_bytes(), key.read_bytes()


def bundle_of(issued: Issued) -> Bundle:
    """Return the bundle of a certificate that the lab's authority issued, chain included."""
    return Bundle.from_pem(issued.fullchain_pem, issued.key_pem)


def request_for(issued: Issued, nickname: str, **facts: Any) -> Request:
    """Return what certmonger tells of a request that keeps this certificate."""
    leaf = issued.certificate
    usual: dict[str, Any] = {
        "path": f"/org/fedorahosted/certmonger/requests/{nickname}",
        "status": "MONITORING",
        "stuck": False,
        "cert": issued.cert_pem.decode(),
        "subject": leaf.subject.rfc4514_string(),
        "not_before": certificate.not_before(leaf),
        "not_after": certificate.not_after(leaf),
    }
    return Request(nickname, **{**usual, **facts})
