"""vCenter's and ESXi's SOAP API, by pyvmomi: hosts, their certificate managers, and what vCenter pushes to them.

pyvmomi switches verification off for localhost and looks at a thumbprint only when verification has failed, so it is
always given a context of ours, which verifies and knows of pins.
"""

from __future__ import annotations

import http.client
import ssl
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, Callable, Optional
from xml.parsers.expat import ExpatError

from certhooks import probe, trust
from certhooks.deadline import growing
from certhooks.errors import ConnectionLostError, CredentialsError, UnreachableError
from certhooks_vcenter.replies import RefusedError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from certhooks.address import Address
    from certhooks.deadline import Deadline
    from certhooks_vcenter.vmwrc import Credentials

CUSTOM = "custom"  # vpxd.certmgmt.mode in which vCenter leaves the hosts' certificates alone
_SECONDS = 30.0


class Vim:
    """One session with a vCenter or a host."""

    def __init__(self, address: Address, context: Callable[[], ssl.SSLContext], credentials: Credentials) -> None:
        self.address = address
        self._context = context
        self._credentials = credentials
        self._instance: Any = None

    def login(self) -> None:
        """Open a session; a password that was refused is not offered again.

        Raises:
            CredentialsError, UnreachableError: see there.
        """
        from pyVim import connect

        smart: Callable[..., Any] = connect.SmartConnect
        probe.first(self.address)  # a device that is down must not hold up the turn of the others
        context = self._context()
        if isinstance(context, trust.Context):
            context.widen()  # pyvmomi does not ask again as our own connections do
        with self._credentials.first_login(str(self.address)), self.told("a session"):
            self._instance = smart(
                host=self.address.host,
                port=self.address.port,
                user=self._credentials.username,
                pwd=self._credentials.password.reveal(),
                sslContext=context,
                httpConnectionTimeout=_SECONDS,
            )

    @property
    def is_vcenter(self) -> bool:
        """Whether it is a vCenter, not a host."""
        with self.told("asking what it is"):
            return bool(self._instance.content.about.apiType == "VirtualCenter")

    def hosts(self) -> list[Any]:
        """Return all hosts."""
        from pyVmomi import vim

        with self.told("listing the hosts"):
            manager = self._instance.content.viewManager
            view = manager.CreateContainerView(self._instance.content.rootFolder, [vim.HostSystem], True)  # noqa: FBT003
            return list(view.view)

    def host(self, name: str) -> Any:
        """Return the host of a name; a host itself has one only.

        Raises:
            RefusedError: there is none of that name.
        """
        if not self.is_vcenter:
            return self.hosts()[0]
        with self.told("looking for the host"):
            found = self._instance.content.searchIndex.FindByDnsName(dnsName=name, vmSearch=False)
        if found is None:
            raise RefusedError(f"{self.address} has no host {name}", hint="by the name that vCenter knows it by")
        return found

    def mode(self) -> str:
        """Return ``vpxd.certmgmt.mode``, empty where it cannot be read."""
        from pyVmomi import vim

        with self.told("reading a setting"):
            try:
                options = self._instance.content.setting.QueryOptions("vpxd.certmgmt.mode")
            except vim.fault.InvalidName:
                return ""
            return str(options[0].value) if options else ""

    def refresh_cas(self, hosts: Sequence[Any], deadline: Deadline) -> Optional[str]:
        """Have vCenter push its trusted roots to hosts, and return what it could not do, in its words."""
        with self.told("pushing roots to hosts"):
            task = self._instance.content.certificateManager.CertMgrRefreshCACertificatesAndCRLs_Task(list(hosts))
            for pause in growing(0.1, 5.0):
                info = task.info
                if info.state == "success":
                    return None
                if info.state == "error":
                    return str(getattr(info.error, "localizedMessage", None) or getattr(info.error, "msg", "error"))
                deadline.pause(pause, "the push of roots to hosts")
        raise AssertionError("growing() has no end")

    def close(self) -> None:
        """End the session."""
        if self._instance is not None:
            from pyVim import connect

            end: Callable[..., Any] = connect.Disconnect
            with suppress(Exception):  # it may be gone with the services that were restarted
                end(self._instance)
            with suppress(Exception):
                self._instance._stub.DropConnections()  # noqa: SLF001  pyvmomi closes them in no other way
        self._instance = None

    @contextmanager
    def told(self, what: str) -> Iterator[None]:
        """Turn what pyvmomi raises into our errors."""
        from pyVmomi import vim, vmodl

        try:
            yield
        except vim.fault.InvalidLogin:
            raise CredentialsError(
                f"{self.address} does not accept user name and password",
                hint="correct the credentials file (-a) before trying again: accounts get locked",
            ) from None
        except vim.fault.NoPermission:
            raise CredentialsError(
                f"{self.address} does not allow {what}", hint="the role needs the privilege Certificate.Manage"
            ) from None
        except vim.fault.HostConnectFault as e:
            raise UnreachableError(f"no connection to {self.address}: {_words(e)}", hint=_TRUST) from None
        except vmodl.MethodFault as e:
            raise RefusedError(f"{self.address} refuses {what}: {_words(e)}") from None
        except ssl.SSLError as e:
            raise trust.explain(e, self.address) from e
        except (http.client.HTTPException, ConnectionResetError, ExpatError) as e:
            raise ConnectionLostError(f"{self.address} broke the connection ({type(e).__name__})") from None
        except OSError as e:
            raise UnreachableError(
                f"no connection to {self.address}: {(e.strerror or str(e)).lower()}", hint="is it up?"
            ) from None


_TRUST = "is it up, and its certificate trusted (--cafile, --pin)?"


def _words(error: Any) -> str:
    from certhooks_vcenter.replies import harmless

    return harmless(str(error.msg or type(error).__name__))
