"""PEM text into blocks, as certmonger, ACME clients, OpenSSL and people's editors leave it in files (RFC 7468)."""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass, field

from certhooks.errors import BundleError

MAX_BYTES = 1 << 20
"""No certificate, key or chain is larger; what is, is another kind of file."""

_MARK = re.compile(r"-----(BEGIN|END) ([A-Z0-9 ]{1,64})-----")
_SEQUENCE = 0x30
_LONG_FORM = 0x80


@dataclass(frozen=True)
class Block:
    """One PEM block; its body may be a private key and never shows in ``repr``."""

    label: str
    body: str = field(repr=False)

    @property
    def is_certificate(self) -> bool:
        """``CERTIFICATE`` and OpenSSL's two older spellings of it."""
        return self.label in {"CERTIFICATE", "X509 CERTIFICATE", "TRUSTED CERTIFICATE"}

    @property
    def is_key(self) -> bool:
        """PKCS#8, PKCS#1, SEC 1 or OpenSSH private key."""
        return self.label.endswith("PRIVATE KEY")

    @property
    def is_encrypted(self) -> bool:
        """PKCS#8 says so in the label, the older forms in a header (RFC 1421)."""
        return self.label.startswith("ENCRYPTED ") or "Proc-Type: 4,ENCRYPTED" in self.body

    @property
    def pem(self) -> bytes:
        """The block in clean PEM: line feeds only, nothing around it."""
        return f"-----BEGIN {self.label}-----\n{self.body}\n-----END {self.label}-----\n".encode("ascii", "replace")

    def der(self, source: str) -> bytes:
        """Decode the body; ``source`` names the file in the error.

        Raises:
            BundleError: the base64 is broken.
        """
        try:
            data = base64.b64decode("".join(self.body.split()), validate=True)
        except (binascii.Error, ValueError):
            raise BundleError(
                f"{source}: the {self.label} block is not valid base64",
                hint="the file is damaged: copy it again",
            ) from None
        # OpenSSL appends its trust settings behind the certificate proper.
        return data[: _element_length(data)] if self.label == "TRUSTED CERTIFICATE" else data


def split(data: bytes, source: str) -> list[Block]:
    """Return all PEM blocks in the order of the file; text around them is ignored, none at all is an empty list.

    Raises:
        BundleError: too large, or a block without its end.
    """
    limit(data, source)
    # Marks are looked for, not lines: `cat` of files without a last line feed glues END to the next BEGIN.
    text = data.decode("ascii", "replace")
    blocks: list[Block] = []
    begin = None
    for mark in _MARK.finditer(text):
        kind, label = mark.groups()
        if begin is None and kind == "BEGIN":
            begin = mark
        elif begin is not None and kind == "END" and label == begin.group(2):
            blocks.append(Block(label, _tidy(text[begin.end() : mark.start()])))
            begin = None
        elif begin is not None:
            break
    if begin is not None:
        raise BundleError(
            f"{source}: the {begin.group(2)} block has no end",
            hint="the file is cut off: copy or issue it again",
        )
    return blocks


def lacks(what: str, data: bytes, source: str) -> BundleError:
    """Return the error for data without ``what``, which tells what is in it instead."""
    if not data.strip():
        return BundleError(f"{source}: the file is empty", hint="issue or copy it again")
    found = ", ".join(dict.fromkeys(block.label for block in split(data, source)))
    hint = "export certificates with: openssl pkcs7 -print_certs" if "PKCS7" in found else "check the path"
    return BundleError(f"{source}: no {what} in it" + (f", only {found}" if found else ""), hint=hint)


def _tidy(body: str) -> str:
    """Drop blanks and blank lines, but for the one that RFC 1421 asks for between headers and base64."""
    lines = [line.strip() for line in body.splitlines() if line.strip()]
    headers = [line for line in lines if ":" in line]
    return "\n".join([*headers, "", *lines[len(headers) :]] if headers else lines)


def limit(data: bytes, source: str) -> None:
    """Refuse what is too large to be what it should be.

    Raises:
        BundleError: larger than ``MAX_BYTES``.
    """
    if len(data) > MAX_BYTES:
        raise BundleError(
            f"{source}: larger than {MAX_BYTES >> 10} KiB",
            hint="that is not a certificate or key: check the path",
        )


def is_der(data: bytes) -> bool:
    """Whether the data is one DER element and nothing else: binary, not PEM."""
    return data[:1] == bytes([_SEQUENCE]) and _element_length(data) == len(data)


def _element_length(data: bytes) -> int:
    """Length of the first DER element with its header; 0 when there is none."""
    if len(data) < 2 or data[0] != _SEQUENCE:  # noqa: PLR2004 - tag and length
        return 0
    if data[1] < _LONG_FORM:
        return 2 + data[1]
    octets = data[1] - _LONG_FORM
    return 2 + octets + int.from_bytes(data[2 : 2 + octets], "big")
