"""certbot's authenticator ``dns-freeipa``: adds all values, waits once, and stops certbot when that fails.

A manual hook that fails does not stop certbot, which then asks the CA all the same and spends a failed validation; a
plugin that raises does.
"""

from __future__ import annotations

import logging
import os
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable

from acme import challenges
from certbot import errors, interfaces
from certbot.plugins import common

from certhooks.errors import Error
from certhooks_freeipa_dns import front

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from certhooks_freeipa_dns.core import Challenge, Core

_logger = logging.getLogger(front.LOG)  # certbot's own handlers show and keep what this project logs


class Authenticator(common.Plugin, interfaces.Authenticator):
    """dns-01 challenges in FreeIPA's DNS."""

    description = "Obtain certificates using a DNS TXT record in FreeIPA's DNS (certhooks)"

    def __init__(self, *args: Any, **named: Any) -> None:
        super().__init__(*args, **named)
        self._to_clean: set[Challenge] = set()

    @classmethod
    def add_parser_arguments(cls, add: Callable[..., None]) -> None:
        """Add a few options; everything else stands in the configuration."""
        add("config", metavar="FILE", help="settings (default /etc/certhooks/ipa_dns.ini)")
        add("wait", metavar="SECONDS", help="longest wait for the name servers (default 120)")
        add("state-dir", metavar="DIR", help="list of our values, and locks (default /var/lib/certhooks)")

    def more_info(self) -> str:
        """Return what certbot shows of the plugin."""
        return "Adds TXT records to FreeIPA's DNS, and waits until every name server has them."

    def auth_hint(self, failed_achalls: Sequence[Any]) -> str:
        """Return what certbot shows when the CA did not accept a record."""
        return (
            f"The CA did not accept {len(failed_achalls)} TXT record(s) that FreeIPA's name servers have. Does it ask "
            "other name servers? Name them in the configuration of ipa_dns (nameserver), or let it pause (settle)."
        )

    def prepare(self) -> None:
        """Nothing to prepare: the configuration is read when there is something to do."""

    def get_chall_pref(self, domain: str) -> list[Any]:  # noqa: ARG002  certbot's interface
        """Return dns-01 alone."""
        return [challenges.DNS01]

    def perform(self, achalls: Sequence[Any]) -> list[Any]:
        """Add all values and wait once.

        Raises:
            PluginError: it failed; nothing of ours is left in the zone.
        """
        with _told_to_certbot():
            wanted = _challenges(achalls)
            self._core().add(wanted)
        self._to_clean.update(wanted)
        return [achall.response(achall.account_key) for achall in achalls]

    def cleanup(self, achalls: Sequence[Any]) -> None:
        """Remove the values that ``perform`` added; a failed one has done that itself.

        Raises:
            PluginError: it failed; ``ipa_dns sweep`` finds what is left.
        """
        with _told_to_certbot():
            wanted = [challenge for challenge in _challenges(achalls) if challenge in self._to_clean]
            if wanted:
                self._core().remove(wanted)
                self._to_clean.difference_update(wanted)

    def _core(self) -> Core:
        from certhooks_freeipa_dns import settings

        config, state = self.conf("config"), self.conf("state-dir")
        made = settings.read(Path(config) if config else None, {"wait": self.conf("wait")})
        return front.build(
            made,
            Path(state) if state else None,
            run=f"certbot {os.getpid()}",
            tell=lambda text: _logger.info("%s", text),
            warn=lambda text: _logger.warning("%s", text),
        )


def _challenges(achalls: Sequence[Any]) -> list[Challenge]:
    return [front.challenge(achall.domain, achall.validation(achall.account_key)) for achall in achalls]


@contextmanager
def _told_to_certbot() -> Iterator[None]:
    try:
        yield
    except Error as e:
        raise errors.PluginError(f"{e}" + (f" (hint: {e.hint})" if e.hint else "")) from e
