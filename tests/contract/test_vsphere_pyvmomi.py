"""pyvmomi, and a simulator that others wrote, hold the emulated SOAP: the same calls, the same faults.

vcsim is built from Debian's package of govmomi's source where Go is there; its certificate managers are newer than that
package, so that it is asked what it knows: sessions, hosts, properties, faults.
"""

from __future__ import annotations

import gc
import os
import ssl
from http.client import HTTPException
from typing import TYPE_CHECKING, Any, Callable

import pytest

from tests.lab.ca import CA, make_key, pem_of_key
from tests.lab.vsphere import Esxi, VCenter
from tests.lab.vsphere.vcsim import Vcsim, build

if TYPE_CHECKING:
    from collections.abc import Iterator

USER, PASSWORD = "user", "pass"
# pyvmomi leaves sockets of connections that were cut, or had no login, to the garbage collector.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


def connect(address: str, port: int, ca: bytes, password: str = PASSWORD) -> Any:
    """Return a service instance of a server that is verified."""
    from pyVim import connect as pyvim

    smart: Callable[..., Any] = pyvim.SmartConnect
    context = ssl.create_default_context(cadata=ca.decode())
    return smart(host=address, port=port, user=USER, pwd=password, sslContext=context, httpConnectionTimeout=10)


@pytest.fixture(autouse=True)
def tidy() -> Iterator[None]:
    """Have the garbage collector close them now, and not after the last test."""
    from pyVim import connect as pyvim

    yield
    forget: Callable[..., Any] = pyvim.SetSi  # it holds on to the last one
    forget(None)
    gc.collect()


@pytest.fixture
def esxi() -> Iterator[Esxi]:
    """Start a modern host."""
    with Esxi() as host:
        host.sessions.users = {}
        yield host


@pytest.fixture
def vcenter(esxi: Esxi) -> Iterator[VCenter]:
    """Start a vCenter that manages it."""
    with VCenter(version="8.0.3") as made:
        made.add_user(USER, PASSWORD)
        made.add_host(esxi.host)
        yield made


def facts(instance: Any) -> dict[str, Any]:
    """Return what a client sees of any vCenter: what it is, whether hosts are found, how faults come out."""
    from pyVmomi import vim, vmodl

    content = instance.content
    view = content.viewManager.CreateContainerView(content.rootFolder, [vim.HostSystem], True)  # noqa: FBT003
    hosts = list(view.view)
    some_host: Callable[..., Any] = vim.HostSystem
    seen: dict[str, Any] = {
        "kind": content.about.apiType,
        "hosts": {type(host).__name__ for host in hosts},
        "connected": {host.runtime.connectionState for host in hosts},
        "named": all(isinstance(host.name, str) for host in hosts),
        "product": bool(hosts[0].summary.config.product.version),
        "user": instance.content.sessionManager.currentSession.userName,
    }
    calls: dict[str, Callable[[], Any]] = {
        "unknown setting": lambda: content.setting.QueryOptions("no.such.setting"),
        "unknown host": lambda: some_host("host-999999", instance._stub).name,
        "unknown name": lambda: content.searchIndex.FindByDnsName(dnsName="nobody.example.test", vmSearch=False),
    }
    for what, call in calls.items():
        try:
            seen[what] = call()
        except vmodl.MethodFault as fault:
            seen[what] = type(fault).__name__
    return seen


def test_pyvmomi_works_with_the_emulated_vcenter(vcenter: VCenter) -> None:
    """Login, what it is, its hosts, its settings, the push of roots as a task; Logout ends the session."""
    from pyVim import connect as pyvim

    instance = connect(vcenter.address, vcenter.port, vcenter.ca_pem)
    content = instance.content
    [option] = content.setting.QueryOptions("vpxd.certmgmt.mode")
    assert option.value == "custom"
    host = content.searchIndex.FindByDnsName(dnsName="esx01.example.test", vmSearch=False)
    assert host.name == "esx01.example.test"
    ca = CA("New CA")
    vcenter.roots.add([ca.certificate])
    task = content.certificateManager.CertMgrRefreshCACertificatesAndCRLs_Task([host])
    assert task.info.state == "success"
    assert ca.pem.decode() in host.configManager.certificateManager.ListCACertificates()
    end: Callable[..., Any] = pyvim.Disconnect
    end(instance)
    assert vcenter.sessions.open == {}


def test_a_hosts_certificate_manager(esxi: Esxi) -> None:
    """Key, certificate, notice; a wrong pair and nonsense are HostConfigFault; the notice cuts the connection."""
    from pyVmomi import vim

    esxi.sessions.users["user"] = VCenter().add_user(USER, PASSWORD)
    instance = connect(esxi.address, esxi.port, esxi.ca.root_pem)
    content = instance.content
    view = content.viewManager.CreateContainerView(content.rootFolder, [vim.HostSystem], True)  # noqa: FBT003
    manager = view.view[0].configManager.certificateManager
    assert manager.certificateInfo.status == "good"
    made = CA("Site CA").issue(["esx01.example.test"], key_type="rsa")
    with pytest.raises(vim.fault.HostConfigFault):
        manager.InstallServerCertificate("not a pem")
    with pytest.raises(vim.fault.HostConfigFault):
        manager.InstallServerCertificate(made.cert_pem.decode())
    with pytest.raises(vim.fault.HostConfigFault):
        manager.ProvisionServerPrivateKey("not a key")
    manager.ProvisionServerPrivateKey(pem_of_key(make_key("rsa")).decode())
    with pytest.raises(vim.fault.HostConfigFault):
        manager.InstallServerCertificate(made.cert_pem.decode())
    manager.ProvisionServerPrivateKey(made.key_pem.decode())
    manager.InstallServerCertificate(made.cert_pem.decode())
    assert esxi.host.served.leaf != made.certificate
    with pytest.raises((OSError, HTTPException)):
        manager.NotifyAffectedServices()
    assert esxi.host.served.leaf == made.certificate


def test_a_wrong_password_is_a_fault_and_asked_once(vcenter: VCenter) -> None:
    """InvalidLogin, as vCenter says it, and pyvmomi does not try again."""
    from pyVmomi import vim

    with pytest.raises(vim.fault.InvalidLogin, match="incorrect user name or password"):
        connect(vcenter.address, vcenter.port, vcenter.ca_pem, "wrong")
    assert vcenter.sessions.failed == 1


def test_an_untrusted_vcenter_is_refused(vcenter: VCenter) -> None:
    """With a context of ours pyvmomi verifies, and sends nothing."""
    with pytest.raises(Exception, match="CERTIFICATE_VERIFY_FAILED"):
        connect(vcenter.address, vcenter.port, CA("Another CA").pem)
    assert vcenter.soap.calls == []


@pytest.fixture(scope="module")
def vcsim(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Vcsim]:
    """Start vcsim; skipped where it cannot be built, but in CI it can."""
    program = build()
    if program is None:
        if os.environ.get("CI"):
            pytest.fail("vcsim cannot be built: golang-go and golang-github-vmware-govmomi-dev")
        pytest.skip("not here: golang-go, golang-github-vmware-govmomi-dev")
    with Vcsim(program, tmp_path_factory.mktemp("vcsim")) as running:
        yield running


def test_the_emulator_looks_like_vcsim(vcenter: VCenter, vcsim: Vcsim) -> None:
    """A client sees the same of both: kinds of objects, states, the session's user, and each fault by its name."""
    ours = facts(connect(vcenter.address, vcenter.port, vcenter.ca_pem))
    theirs = facts(connect(vcsim.address, vcsim.port, vcsim.ca_pem))
    assert ours == theirs


def test_bad_login_is_the_same_fault(vcenter: VCenter, vcsim: Vcsim) -> None:
    """InvalidLogin from both."""
    from pyVmomi import vim

    for server in (vcenter, vcsim):
        with pytest.raises(vim.fault.InvalidLogin):
            connect(server.address, server.port, server.ca_pem, "wrong")
