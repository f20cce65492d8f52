"""A request as it came over the wire, and its parameters merged from everywhere they may stand."""

from __future__ import annotations

import email.parser
import email.policy
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Optional
from urllib.parse import parse_qsl, urlsplit

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True)
class Request:
    """One request.

    Attributes:
        method: GET or POST.
        target: path with query, as it stood in the request line: what servers and proxies log.
        headers: as they came.
        body: as it came.
        params: query, form and multipart fields merged; the body wins.
        file_name: name of the uploaded file.
        file: its content, None when there was no upload.

    """

    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes = field(repr=False)
    params: Mapping[str, str] = field(repr=False)
    file_name: str = ""
    file: Optional[bytes] = field(default=None, repr=False)

    @property
    def path(self) -> str:
        """The path without the query."""
        return urlsplit(self.target).path

    @property
    def kind(self) -> str:
        """What the request is, in a word or two: ``op``, ``config set``, ``import keypair``, ``commit all``."""
        more = self.params.get("action") or self.params.get("category") or ""
        return f"{self.params.get('type', '?')} {more}".strip()


class Headers(dict[str, str]):
    """Header fields, found under any case of their names: clients write ``X-pan-key`` as well as ``X-PAN-KEY``."""

    def get(self, name: str, default: Any = None) -> Any:
        """Return a field's value."""
        return next((value for key, value in self.items() if key.lower() == name.lower()), default)


def read(method: str, target: str, headers: Mapping[str, str], body: bytes) -> Request:
    """Return the request with its parameters."""
    headers = Headers(headers)
    params = dict(parse_qsl(urlsplit(target).query, keep_blank_values=True))
    file_name, file = "", None
    content_type = headers.get("Content-Type", "")
    if content_type.lower().startswith("multipart/form-data"):
        fields, file_name, file = _multipart(content_type, body)
        params.update(fields)
    elif body:
        params.update(parse_qsl(body.decode("utf-8", "replace"), keep_blank_values=True))
    return Request(method, target, headers, body, params, file_name, file)


def _multipart(content_type: str, body: bytes) -> tuple[dict[str, str], str, Optional[bytes]]:
    match = re.search(r"boundary=([^;,]+)", content_type)  # a quoted boundary is not understood, as on a device
    if not match:
        return {}, "", None
    fields: dict[str, str] = {}
    file_name, file = "", None
    for part in (b"\r\n" + body).split(b"\r\n--" + match[1].strip().encode())[1:]:
        if part.startswith(b"--"):
            break
        head, _, content = part.removeprefix(b"\r\n").partition(b"\r\n\r\n")
        parser = email.parser.BytesHeaderParser(policy=email.policy.HTTP)
        disposition = parser.parsebytes(head + b"\r\n\r\n")["Content-Disposition"]
        name = disposition.params.get("name", "") if disposition else ""
        if disposition and "filename" in disposition.params:
            if name == "file":
                file_name, file = disposition.params["filename"], content
        elif name == "file":
            file = content
        else:
            fields[name] = content.decode("utf-8", "replace")
    return fields, file_name, file
