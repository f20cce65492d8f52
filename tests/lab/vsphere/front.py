"""The web server of a vCenter or a host: HTTP outside, requests and replies inside."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING

from tests.lab.https import Handler, Server
from tests.lab.vsphere import rest

if TYPE_CHECKING:
    import ssl

    from tests.lab.https import Identity


class Front(Server):
    """What listens and answers; a subclass makes its ``listeners`` with ``_identity`` and ``_serve``."""

    software = "envoy"

    @abstractmethod
    def answer(self, request: rest.Request) -> rest.Reply:
        """Answer one request."""

    @abstractmethod
    def _identity(self) -> Identity:
        """Return what is served now."""

    def _serve(self, sock: ssl.SSLSocket) -> None:
        _Handler(sock, sock.getpeername(), self)  # type: ignore[arg-type]  # see _Handler.server


class _Handler(Handler):
    server: Front  # type: ignore[assignment]  # the base class asks for a socketserver and uses none of it

    def version_string(self) -> str:
        """Return the header ``Server``."""
        return self.server.software

    def exchange(self, body: bytes) -> None:
        """Answer one request."""
        headers = {name.lower(): value for name, value in self.headers.items()}
        reply = self.server.answer(rest.Request(self.command, self.path, headers, body))
        self.reply(reply.status, reply.body, reply.content_type, headers=reply.headers, pause=reply.pause)
