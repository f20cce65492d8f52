"""Where on a firewall or a Panorama a certificate and its SSL/TLS service profiles live.

The paths are those of PaloAltoNetworks/pan-os-codegen's specifications; Panorama's own certificates are under
``/config/panorama``, not under ``/config/shared``.
"""

from __future__ import annotations

from typing import NamedTuple, Optional

from certhooks.errors import UsageError
from certhooks_pan import names

_LOCAL = "/config/devices/entry[@name='localhost.localdomain']"
MANAGEMENT_PROFILE = f"{_LOCAL}/deviceconfig/system/ssl-tls-service-profile"
AIM_NOWHERE = "<set><system><setting><target><none/></target></setting></system></set>"
STACKS = f"{_LOCAL}/template-stack"


class Scope(NamedTuple):
    """Shared, one vsys, Panorama itself, or (a vsys of) a template or template stack."""

    vsys: Optional[str] = None
    template: Optional[str] = None
    stack: Optional[str] = None

    def check(self, *, panorama: bool) -> None:
        """Refuse what the device cannot have.

        Raises:
            UsageError, BadNameError: it does not fit this kind of device, or a name cannot be.
        """
        if self.template and self.stack:
            raise UsageError("--template and --template-stack exclude each other")
        if self.pushed and not panorama:
            raise UsageError("this is a firewall: --template and --template-stack are Panorama's")
        if panorama and self.vsys and not self.pushed:
            raise UsageError("Panorama itself has no vsys", hint="name the template with --template")
        for name, kind in ((self.vsys, "vsys"), (self.template, "template"), (self.stack, "template stack")):
            if name is not None:
                names.thing(name, kind)

    @property
    def pushed(self) -> bool:
        """Whether it is for devices behind a Panorama."""
        return bool(self.template or self.stack)

    def base(self, *, panorama: bool) -> str:
        """Return the XPath under which ``certificate`` and ``ssl-tls-service-profile`` stand."""
        if not self.pushed:
            if self.vsys:
                return f"{_LOCAL}/vsys/entry[@name='{self.vsys}']"
            return "/config/panorama" if panorama else "/config/shared"
        owner = self.owner()
        return (
            f"{owner}/config{_LOCAL[len('/config') :]}/vsys/entry[@name='{self.vsys}']"
            if self.vsys
            else (f"{owner}/config/shared")
        )

    def owner(self) -> str:
        """Return the XPath of the template or stack itself."""
        kind, name = ("template", self.template) if self.template else ("template-stack", self.stack)
        return f"{_LOCAL}/{kind}/entry[@name='{name}']"

    def aim(self) -> str:
        """Return the command that points the API session at a vsys of a template or stack."""
        kind, name = ("template", self.template) if self.template else ("template-stack", self.stack)
        target = f"<{kind}><name>{name}</name><vsys>{self.vsys}</vsys></{kind}>"
        return f"<set><system><setting><target>{target}</target></setting></system></set>"

    def __str__(self) -> str:
        parts = [
            f"{kind} {name}"
            for kind, name in (("template", self.template), ("template-stack", self.stack), ("vsys", self.vsys))
            if name
        ]
        return ", ".join(parts) or "shared"


def within(path: str, place: str) -> bool:
    """Tell whether an XPath, quoted in either way, is a place or something below it."""
    path, place = path.replace('"', "'"), place.replace('"', "'")
    return path == place or path.startswith((f"{place}/", f"{place}["))


def overlap(one: str, other: str) -> bool:
    """Tell whether one XPath is within the other."""
    return within(one, other) or within(other, one)


def certificate(base: str, name: str) -> str:
    """Return the XPath of one certificate; ``name`` has passed ``names``."""
    return f"{base}/certificate/entry[@name='{name}']"


def profile(base: str, name: str) -> str:
    """Return the XPath of one SSL/TLS service profile; ``name`` has passed ``names``."""
    return f"{base}/ssl-tls-service-profile/entry[@name='{name}']"


def trusted_roots(base: str) -> str:
    """Return the XPath of the list of certificates that the device trusts as roots."""
    return f"{base}/ssl-decrypt/trusted-root-CA"
