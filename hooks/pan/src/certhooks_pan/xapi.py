"""The XML API as this hook speaks it: pan-python makes the requests and reads the replies, the wire is ours.

pan-python would follow redirects, obey proxy variables, drop the body of a 403 and read without a bound, and it puts
the key into the URL of an import. So its one transport method is replaced: a verified connection that is kept, the key
in the X-PAN-KEY header (PAN-OS 9.0 and later), POST only, bounded replies without DTDs.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Callable, Optional, cast
from urllib.parse import urlencode
from xml.parsers import expat

import pan.xapi

from certhooks import http
from certhooks.errors import ConnectionLostError, CredentialsError, Error, UnreachableError, UsageError
from certhooks.secrets import Secret, redact

if TYPE_CHECKING:
    import ssl
    from collections.abc import Mapping
    from xml.etree.ElementTree import Element

    from certhooks.address import Address
    from certhooks_pan.panrc import Credentials

_ABSENT = "7"
_ENCODING = "utf-8"
_OVERRIDDEN = ("_PanXapi__api_request", "_PanXapi__set_response", "_PanXapi__clear_response")
_GATEWAY_ERRORS = {502, 503, 504}
_READABLE = {200, 400, 403}  # the statuses whose body is a reply (pan-os-ansible's httpapi plugin)
_ITS_WORDS = "these are the device's own words: mend what they name, then run the same command again"
_RIGHTS = "the role needs the XML API rights Configuration, Operational Requests, Commit and Import"


class RefusedError(Error):
    """The device answered, and its answer is no; ``code`` is PAN-OS's own, or empty.

    The stage that it happens in gives it the exit code that a user sees.
    """

    exit_code = 12

    def __init__(self, message: str, code: str = "", *, hint: Optional[str] = None) -> None:
        super().__init__(message, hint=hint)
        self.code = code

    @property
    def busy(self) -> bool:
        """Whether another commit, a lock or an install is in the way and waiting may help (codes 13 and 14, texts)."""
        text = str(self).lower()
        return self.code == "14" or any(
            words in text
            for words in (
                "is in progress",
                "while an install",
                "currently locked by",
                "holding device wide commit locks",
            )
        )


class RightsError(CredentialsError):
    """The key is known, and its role may not do this: waiting does not help, as it may with an unknown key."""


class Client(http.Client):
    """One device's XML API on one connection."""

    def __init__(self, address: Address, context: Callable[[], ssl.SSLContext], credentials: Credentials) -> None:
        super().__init__(address, context)
        self._credentials = credentials
        self._xapi: Optional[_Xapi] = None

    def op(self, cmd: str, **extra: str) -> Element:
        """Run an operational command (an XML document) and return the whole reply."""
        return self._call(lambda xapi: xapi.op(cmd, extra_qs=extra or None))

    def get(self, xpath: str) -> Optional[Element]:
        """Return the candidate's element at a path, None when there is none."""
        return self._node(lambda xapi: xapi.get(xpath))

    def show(self, xpath: str) -> Optional[Element]:
        """Return the running configuration's element at a path, None when there is none."""
        return self._node(lambda xapi: xapi.show(xpath))

    def set(self, xpath: str, element: str) -> None:
        """Merge an element into the candidate; what the path names is created when it is missing."""
        self._call(lambda xapi: xapi.set(xpath, element))

    def delete(self, xpath: str) -> None:
        """Delete from the candidate; what is not there is fine (success with code 7)."""
        self._call(lambda xapi: xapi.delete(xpath))

    def commit(self, cmd: str, action: Optional[str] = None) -> Element:
        """Ask for a commit, and return the reply: a job, or that there is nothing to commit."""
        return self._call(lambda xapi: xapi.commit(cmd, action=action))

    def import_file(
        self,
        category: str,
        name: str,
        file_format: str,
        data: bytes,
        *,
        passphrase: Optional[Secret] = None,
        **extra: str,
    ) -> None:
        """Import a certificate or a pair of key and certificate into the candidate.

        Every parameter travels in the multipart body, which PAN-OS reads as it reads the query.
        """
        fields = {"type": "import", "category": category, "certificate-name": name, "format": file_format, **extra}
        if passphrase:
            fields["passphrase"] = passphrase.reveal()
        self._call(lambda xapi: xapi.upload(fields, data))

    def forget_trust(self) -> None:
        """Drop connection and TLS context, for a device whose certificate has just changed."""
        self.close()
        self._connection = self._xapi = None

    def _node(self, request: Callable[[_Xapi], None]) -> Optional[Element]:
        try:
            root = self._call(request)
        except RefusedError as e:
            if "no such node" in str(e).lower() or e.code == _ABSENT:
                return None
            raise
        result = root.find("result")
        return next(iter(result), None) if result is not None else None

    def _call(self, request: Callable[[_Xapi], Any]) -> Element:
        xapi = self._open()
        try:
            request(xapi)
        except pan.xapi.PanXapiError as e:
            raise self._refused(xapi, str(e)) from None
        if xapi.element_root is None:
            raise ConnectionLostError(f"{self.address} sent a reply without XML")
        return cast("Element", xapi.element_root)

    def _open(self) -> _Xapi:
        if self._xapi is None:
            self._xapi = _Xapi(self.connection, self._credentials)
            if self._credentials.api_key is None:
                self._generate_key(self._xapi)
        return self._xapi

    def _generate_key(self, xapi: _Xapi) -> None:
        try:
            xapi.keygen()
        except pan.xapi.PanXapiError as e:
            self._xapi = None
            raise self._refused(xapi, str(e)) from None
        xapi.remember_key()

    def _refused(self, xapi: _Xapi, detail: str) -> Error:
        """Return the error for a reply that is not a success, in whichever of the two dialects it came."""
        root, code = xapi.element_root, xapi.status_code or ""
        if root is None:
            return ConnectionLostError(f"{self.address} sent a reply that cannot be read: {_brief(detail)}")
        if root.tag != "response" or not xapi.status:
            return ConnectionLostError(f"{self.address} sent XML that is no reply of PAN-OS: <{_brief(root.tag)}>")
        text = lines(root) or f"{xapi.status} without a reason (code {code or 'none'})"
        if "invalid credential" in text.lower():
            return CredentialsError(
                f"{self.address} does not accept the credentials",
                hint="is the API key expired or revoked, or the password changed? put a new one into the key file (-k)",
            )
        if xapi.status == "unauth" or code == "16" or "not authorized for user role" in text:
            return RightsError(f"{self.address}: {_brief(text)}", hint=_RIGHTS)
        if code == "22":
            return ConnectionLostError(f"{self.address}: {_brief(text)}")
        return RefusedError(f"{self.address}: {_brief(text)}", code, hint=_ITS_WORDS)


class _Xapi(pan.xapi.PanXapi):  # type: ignore[misc]  # pan-python has no type information
    """PanXapi with its transport method replaced; what it reads of ``.panrc`` files by itself is kept out by a tag."""

    def __init__(self, connection: http.Connection, credentials: Credentials) -> None:
        if not all(hasattr(pan.xapi.PanXapi, name) for name in _OVERRIDDEN):
            raise UsageError(
                f"pan-python {pan.__version__} is not one that this command knows", hint="install pan-python 0.26"
            )
        key = credentials.api_key.reveal() if credentials.api_key else None
        password = credentials.password.reveal() if credentials.password else None
        try:
            super().__init__(
                tag=f"certhooks-{os.urandom(16).hex()}",  # a tag that no line has: nothing is taken from files
                hostname=connection.address.host,
                api_key=key,
                api_username=credentials.username if password else None,
                api_password=password,
                ssl_context=connection.context,  # unused, and verifying should a new pan-python not ask us
            )
        except (pan.xapi.PanXapiError, OSError, ValueError) as e:
            raise UsageError(f"pan-python cannot be set up: {redact(str(e))}") from None
        self._connection = connection

    def remember_key(self) -> None:
        """Make a key that keygen returned a known secret."""
        Secret(str(self.api_key))

    def upload(self, fields: Mapping[str, str], data: bytes) -> None:
        """POST fields and one file as multipart; PAN-OS wants the boundary unquoted and a short plain file name."""
        boundary = os.urandom(16).hex()
        parts = [
            f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'.encode()
            for name, value in fields.items()
        ]
        parts.append(
            f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="certificate"\r\n'
            "Content-Type: application/octet-stream\r\n\r\n".encode()
        )
        body = b"".join([*parts, data, f"\r\n--{boundary}--\r\n".encode()])
        self._PanXapi__clear_response()
        reply = self._post(body, f"multipart/form-data; boundary={boundary}")
        if not self._PanXapi__set_response(reply):
            raise pan.xapi.PanXapiError(self.status_detail)

    def _PanXapi__api_request(self, query: dict[str, str], **_: Any) -> _Response:  # noqa: N802  pan-python's own name for it
        form = {name: value for name, value in query.items() if name != "key"}
        return self._post(urlencode(form).encode(), "application/x-www-form-urlencoded")

    def _post(self, body: bytes, content_type: str) -> _Response:
        headers = {"Content-Type": content_type, "Accept": "application/xml"}
        if self.api_key:
            headers["X-PAN-KEY"] = self.api_key
        reply = self._connection.request("POST", "/api/", headers=headers, body=body)
        where = self._connection.address
        if reply.status in _GATEWAY_ERRORS:
            raise ConnectionLostError(f"{where} answers HTTP {reply.status}: its web server is not ready")
        if reply.status not in _READABLE:
            raise UnreachableError(
                f"{where} answers HTTP {reply.status}",
                hint="is it a PAN-OS management address with the XML API enabled?",
            )
        _refuse_odd_xml(reply.body, where)
        return _Response(reply)


class _Response:
    """A reply as pan-python wants to read it from urllib."""

    def __init__(self, reply: http.Reply) -> None:
        self._reply = reply
        self.pan_body = reply.body  # where 0.26 looks; 0.17 calls read()

    def read(self) -> bytes:
        return self._reply.body

    def getheader(self, name: str) -> Optional[str]:
        return self._reply.headers.get(name.lower())

    def info(self) -> Mapping[str, str]:
        return self._reply.headers


def lines(root: Element) -> str:
    """Return a reply's message: PAN-OS puts it under msg, result/msg, nested lines, or result itself."""
    found = [text.strip() for node in root.iter("msg") for text in node.itertext() if text.strip()]
    if not found:
        found = [text.strip() for node in root.iter("result") for text in node.itertext() if text.strip()]
    return "; ".join(dict.fromkeys(found))


def _refuse_odd_xml(body: bytes, where: Address) -> None:
    """No reply of PAN-OS has a document type: one that has is an entity bomb or worse. All of them are UTF-8."""

    def refuse_doctype(*_: object) -> None:
        raise ConnectionLostError(f"{where} sent XML with a document type, which PAN-OS never does")

    def check_encoding(_version: str, encoding: Optional[str], _standalone: int) -> None:
        if encoding and encoding.lower() != _ENCODING:
            raise ConnectionLostError(f"{where} sent XML in {_brief(encoding)}, which PAN-OS never does")

    parser = expat.ParserCreate(_ENCODING)
    parser.StartDoctypeDeclHandler = refuse_doctype
    parser.XmlDeclHandler = check_encoding
    try:
        parser.Parse(body, True)  # noqa: FBT003  expat's own signature
    except expat.ExpatError as e:
        raise ConnectionLostError(f"{where} sent XML that is cut or broken: {expat.ErrorString(e.code)}") from None


def _brief(text: str) -> str:
    limit = 600
    text = redact(" ".join(text.split()))
    return text if len(text) <= limit else text[:limit] + " ..."
