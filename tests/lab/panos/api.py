"""The web front end: one endpoint, its faults, and the restart after the management certificate has changed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.lab.https import Handler
from tests.lab.panos import faults, replies, requests

if TYPE_CHECKING:
    from tests.lab.panos.device import Device

PATHS = ("/api", "/api/")


class DroppedError(ConnectionError):
    """The connection is to be cut without an answer."""


class ApiHandler(Handler):
    """Serves ``/api/`` of the device that is its server."""

    server: Device  # type: ignore[assignment]  # the base class asks for a socketserver and uses none of it

    def exchange(self, body: bytes) -> None:
        """Answer one request, spoiled by the first fault rule that matches it."""
        device = self.server
        request = requests.read(self.command, self.path, dict(self.headers.items()), body)
        if request.path not in PATHS:
            self.reply(404, b"<html><body>Not Found</body></html>", "text/html")
            return
        device.requests.append(request)
        reply = device.front_door(request)
        if reply is not None:
            self.reply(reply.status, reply.body, reply.content_type)
            return
        rule = device.faults.for_(request)
        if rule is None:
            reply = device.answer(request)
            self.reply(reply.status, reply.body, reply.content_type)
        else:
            self._spoiled(rule, request)

    def _spoiled(self, rule: faults.Rule, request: requests.Request) -> None:
        kind = rule.kind
        if kind is faults.Kind.DROP_BEFORE:
            raise DroppedError
        instead = {
            faults.Kind.BAD_GATEWAY: lambda: replies.BAD_GATEWAY,
            faults.Kind.ERROR_CODE_1: lambda: replies.xml("<response status='error' code='1'/>"),
            faults.Kind.RAW: lambda: rule.reply or replies.MALFORMED,
            faults.Kind.OVERSIZED: lambda: faults.oversized(rule.size),
            faults.Kind.ENTITY_BOMB: faults.entity_bomb,
        }
        if kind in instead:
            reply = instead[kind]()
            self.reply(reply.status, reply.body, reply.content_type)
            return
        if kind is faults.Kind.REDIRECT:
            self.reply(302, b"", "text/html", headers=(("Location", "/api/?type=version"),))
            return
        reply = self.server.answer(request)
        if kind is faults.Kind.DROP_AFTER:
            raise DroppedError
        if kind is faults.Kind.TRUNCATED:
            self.reply(reply.status, reply.body[: len(reply.body) // 2], reply.content_type, length=len(reply.body))
            raise DroppedError
        content_type = "text/html" if kind is faults.Kind.CONTENT_TYPE else reply.content_type
        self.reply(reply.status, reply.body, content_type, pause=rule.pause if kind is faults.Kind.SLOW else 0.0)


class PortalHandler(Handler):
    """Serves a page on the ports of GlobalProtect; its certificate is what matters."""

    def exchange(self, body: bytes) -> None:  # noqa: ARG002
        """Answer with a page."""
        self.reply(200, b"<html><body>GlobalProtect Portal</body></html>", "text/html")
