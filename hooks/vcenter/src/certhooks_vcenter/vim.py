"""vCenter's and ESXi's SOAP API, by pyvmomi: hosts, their certificate managers, and what vCenter pushes to them.

pyvmomi switches verification off for localhost and looks at a thumbprint only when verification has failed, so it is
always given a context of ours, which verifies and knows of pins. Its own way to connect asks for the server's versions
without a timeout, and logs in at once: here that is one bounded request, and the login waits for its turn.
"""

from __future__ import annotations

import socket
import ssl
from contextlib import contextmanager, suppress
from http.client import HTTPException
from typing import TYPE_CHECKING, Any, Callable, Optional

from certhooks import http, trust
from certhooks.address import is_ip
from certhooks.deadline import growing
from certhooks.errors import ConnectionLostError, CredentialsError, Error, UnreachableError
from certhooks_vcenter import about, bounded
from certhooks_vcenter.replies import RefusedError, harmless

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from certhooks.address import Address
    from certhooks.deadline import Deadline
    from certhooks_vcenter.vmwrc import Credentials

CUSTOM = "custom"  # vpxd.certmgmt.mode in which vCenter leaves the hosts' certificates alone
_SECONDS = 30.0


class Vim(http.Client):
    """One session with a vCenter or a host."""

    def __init__(self, address: Address, context: Callable[[], ssl.SSLContext], credentials: Credentials) -> None:
        super().__init__(address, context)
        self.timeout = _SECONDS
        self._credentials = credentials
        self._stub: Any = None
        self._content: Any = None

    def login(self) -> None:
        """Open a session; a password that was refused is not offered again.

        Raises:
            CredentialsError, UnreachableError: see there. RefusedError: it is no vSphere.
        """
        from pyVmomi import SoapAdapter, VmomiSupport, vim

        version = self._ask()
        service: Callable[..., Any] = vim.ServiceInstance
        adapter: Callable[..., Any] = SoapAdapter.SoapStubAdapter
        # The oldest API that knows what is asked for: every server knows those before its own.
        api = VmomiSupport.versionMap["vim25/8.0.3.0" if version >= about.INSTANT else "vim25/6.5"]
        self._stub = adapter(
            host=self.address.host,
            port=self.address.port,
            path="/sdk",
            version=api,
            sslContext=bounded.Context(self._context(), self.time_left),
            httpConnectionTimeout=_SECONDS,
        )
        with self.told("what it is"):
            self._content = service("ServiceInstance", self._stub).RetrieveContent()
        with self._credentials.login(str(self.address), self.time_left), self.told("a session"):
            self._content.sessionManager.Login(self._credentials.username, self._credentials.password.reveal(), None)

    def _ask(self) -> tuple[int, ...]:
        try:
            version = about.version(self.connection)
        finally:
            super().close()
        if not version:
            raise RefusedError(f"{self.address} does not answer as vCenter or ESXi do", hint="is it one of them?")
        return version

    @property
    def is_vcenter(self) -> bool:
        """Whether it is a vCenter, not a host."""
        with self.told("asking what it is"):
            return bool(self._content.about.apiType == "VirtualCenter")

    def hosts(self) -> list[Any]:
        """Return all hosts."""
        from pyVmomi import vim

        with self.told("listing the hosts"):
            manager = self._content.viewManager
            view = manager.CreateContainerView(self._content.rootFolder, [vim.HostSystem], True)  # noqa: FBT003
            return list(view.view)

    def host(self, name: str) -> Any:
        """Return the host of a name; a host itself has one only.

        Raises:
            RefusedError: there is none of that name.
        """
        if not self.is_vcenter:
            found = next(iter(self.hosts()), None)
            if found is None:
                raise CredentialsError(
                    f"{self.address} shows no host to {self._credentials.username}",
                    hint="the role needs the privileges System.View, System.Read and Certificate.Manage",
                )
            return found
        with self.told("looking for the host"):
            index = self._content.searchIndex
            found = (
                index.FindByIp(ip=name, vmSearch=False)
                if is_ip(name)
                else index.FindByDnsName(dnsName=name, vmSearch=False)
            )
        if found is None:
            raise RefusedError(f"{self.address} has no host {name}", hint="by the name that vCenter knows it by")
        return found

    def mode(self) -> str:
        """Return ``vpxd.certmgmt.mode``, empty where it cannot be read."""
        from pyVmomi import vim

        with self.told("reading a setting"):
            try:
                options = self._content.setting.QueryOptions("vpxd.certmgmt.mode")
            except vim.fault.InvalidName:
                return ""
            return harmless(str(options[0].value)) if options else ""

    def refresh_cas(self, hosts: Sequence[Any], deadline: Deadline) -> Optional[str]:
        """Have vCenter push its trusted roots to hosts, and return what it could not do, in its words."""
        with self.told("pushing roots to hosts"):
            task = self._content.certificateManager.CertMgrRefreshCACertificatesAndCRLs_Task(list(hosts))
            for pause in growing(0.1, 5.0):
                info = task.info
                if info.state == "success":
                    return None
                if info.state == "error":
                    return _words(info.error)
                deadline.pause(pause, "the push of roots to hosts")
        raise AssertionError("growing() has no end")

    def close(self) -> None:
        """End the session."""
        if self._content is not None:
            with suppress(Exception):  # it may be gone with the services that were restarted
                self._content.sessionManager.Logout()
        if self._stub is not None:
            with suppress(Exception):
                self._stub.DropConnections()
        self._stub = self._content = None

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
        except vmodl.MethodFault as e:
            raise RefusedError(f"{self.address} refuses {what}: {_words(e)}") from None
        except ssl.SSLCertVerificationError as e:
            raise trust.explain(e, self.address) from e
        except (ConnectionRefusedError, socket.gaierror) as e:
            raise UnreachableError(
                f"no connection to {self.address}: {(e.strerror or str(e)).lower()}", hint="is it up?"
            ) from None
        except (OSError, HTTPException) as e:  # a timeout too: what was sent may have been carried out
            raise ConnectionLostError(f"{self.address} broke the connection ({type(e).__name__})") from None
        except Error:
            raise
        except Exception as e:  # noqa: BLE001  pyvmomi raises whatever its parser meets
            raise ConnectionLostError(
                f"{self.address} answered {what} with what is not vSphere's ({type(e).__name__})"
            ) from None


def _words(error: Any) -> str:
    said = getattr(error, "localizedMessage", None) or getattr(error, "msg", None) or type(error).__name__
    return harmless(str(said))
