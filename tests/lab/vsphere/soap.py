"""SOAP as vCenter and ESXi speak it on ``/sdk``: as much of the vim25 API as certificates need.

Envelopes and faults are those that vcsim was recorded with; vCenter's own text of a bad login differs from vcsim's.
"""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Any, Callable, Optional
from xml.etree import ElementTree as ET
from xml.sax.saxutils import escape, quoteattr

from tests.lab.vsphere.faults import Fault
from tests.lab.vsphere.rest import Reply, Request

if TYPE_CHECKING:
    from tests.lab.vsphere.access import Sessions, User
    from tests.lab.vsphere.esxi import Host

_ENVELOPE = (
    '<?xml version="1.0" encoding="UTF-8"?>\n<soapenv:Envelope xmlns:soapenc="http://schemas.xmlsoap.org/soap/encoding/"'
    ' xmlns:soapenv="http://schemas.xmlsoap.org/soap/envelope/" xmlns:xsd="http://www.w3.org/2001/XMLSchema"'
    ' xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"><soapenv:Body>{}</soapenv:Body></soapenv:Envelope>'
)
_BODY = "{http://schemas.xmlsoap.org/soap/envelope/}Body"
_COOKIE = "vmware_soap_session"
_MANAGED = {
    "rootFolder": ("Folder", "group-d1"),
    "propertyCollector": ("PropertyCollector", "propertyCollector"),
    "viewManager": ("ViewManager", "ViewManager"),
    "setting": ("OptionManager", "VpxSettings"),
    "sessionManager": ("SessionManager", "SessionManager"),
    "searchIndex": ("SearchIndex", "SearchIndex"),
    "certificateManager": ("CertificateManager", "certificateManager"),
}
_OPEN = {
    "RetrieveServiceContent",
    "Login",
    "Fetch",
}  # Fetch of ServiceInstance.content and currentSession needs no login


class SoapFault(Exception):  # noqa: N818  SOAP's own word for it
    """A fault; ``kind`` is the vim25 type."""

    def __init__(self, kind: str, text: str = "", inner: str = "") -> None:
        super().__init__(text)
        self.kind, self.text, self.inner = kind, text, inner


class Soap:
    """The SOAP end of a vCenter or of one host.

    Args:
        hosts: those that it manages, by id; a host has only itself.
        roots: PEM of what a vCenter pushes to its hosts when told to.
    """

    def __init__(
        self,
        sessions: Sessions,
        version: str,
        hosts: dict[str, Host],
        *,
        vcenter: bool,
        roots: Callable[[], list[str]] = list,
    ) -> None:
        self.sessions, self.version, self.hosts, self.vcenter, self.roots = sessions, version, hosts, vcenter, roots
        self.mode = "custom"
        self.tasks: dict[str, str] = {}
        self.calls: list[str] = []
        self._views: dict[str, list[str]] = {}

    def answer(self, request: Request) -> Reply:
        """Answer a request below ``/sdk``."""
        if request.method == "GET":
            return Reply(200, self._versions().encode(), "text/xml")
        try:
            call = next(iter(ET.fromstring(request.body).find(_BODY) or ()))
        except (ET.ParseError, StopIteration, TypeError):
            return Reply(500, _fault("InvalidRequest", "cannot parse", ""), "text/xml")
        method = call.tag.partition("}")[2]
        given: dict[str, list[ET.Element]] = {}
        for node in call:
            given.setdefault(node.tag.partition("}")[2], []).append(node)
        this = given.pop("_this")[0]
        what = given["prop"][0].text or "" if method == "Fetch" else ""
        self.calls.append(f"{method} {what}".strip())
        session = _session(request)
        headers: tuple[tuple[str, str], ...] = ()
        try:
            if method == "Login":
                session = self._login(given)
                headers = (("Set-Cookie", f"{_COOKIE}={session}; HttpOnly"),)
            elif method not in _OPEN or (method == "Fetch" and what not in {"content", "currentSession"}):
                self._user(session, this)
            inner = self._do(method, this, given, session, what)
        except SoapFault as fault:
            return Reply(500, _fault(fault.kind, fault.text, fault.inner), "text/xml")
        body = f'<{method}Response xmlns="urn:vim25">{inner}</{method}Response>'
        return Reply(200, _ENVELOPE.format(body).encode(), "text/xml", headers)

    def _do(self, method: str, this: ET.Element, given: dict[str, list[ET.Element]], session: str, what: str) -> str:
        text = {name: nodes[0].text or "" for name, nodes in given.items()}
        name = this.text or ""
        if method == "Fetch":
            return self._fetch(this.get("type", ""), name, what, session)
        simple: dict[str, Callable[[], str]] = {
            "RetrieveServiceContent": lambda: f"<returnval>{self._content()}</returnval>",
            "Login": lambda: f"<returnval>{self._user_session(session)}</returnval>",
            "Logout": lambda: self._logout(session),
            "QueryOptions": lambda: self._options(text.get("name", "")),
            "FindByDnsName": lambda: self._find(text.get("dnsName", "")),
            "CreateContainerView": self._view,
            "DestroyView": lambda: "",
            "CertMgrRefreshCACertificatesAndCRLs_Task": lambda: self._refresh([n.text or "" for n in given["host"]]),
        }
        if method in simple:
            return simple[method]()
        if this.get("type") == "HostCertificateManager":
            user = self._user(session, this)
            if "Certificate.Manage" not in user.privileges:
                raise SoapFault("NoPermission", "Permission to perform this operation was denied.")
            host = self.hosts.get(name.partition("certmgr-")[2])
            if host is None:
                raise _gone("HostCertificateManager", name)
            lists = ([node.text or "" for node in given.get(name, [])] for name in ("caCert", "caCrl"))
            return _on_host(host, method, text, *lists)
        raise not_found(this.get("type", ""), name, method)

    # -- the session ------------------------------------------------------------------------------------

    def _login(self, given: dict[str, list[ET.Element]]) -> str:
        try:
            return self.sessions.login(given["userName"][0].text or "", given["password"][0].text or "")
        except Fault:
            text = "Cannot complete login due to an incorrect user name or password."
            raise SoapFault("InvalidLogin", text) from None

    def _user(self, session: str, this: ET.Element) -> User:
        try:
            return self.sessions.user(session)
        except Fault:
            ref = f"<object type={quoteattr(this.get('type', ''))}>{escape(this.text or '')}</object>"
            inner = f"{ref}<privilegeId>System.View</privilegeId>"
            raise SoapFault("NotAuthenticated", "The session is not authenticated.", inner) from None

    def _logout(self, session: str) -> str:
        self.sessions.open.pop(session, None)
        return ""

    def _user_session(self, session: str) -> str:
        now, user = "2026-11-22T06:43:52Z", escape(self.sessions.open[session].name)
        return (
            f"<key>{session}</key><userName>{user}</userName><fullName>{user}</fullName><loginTime>{now}</loginTime>"
            f"<lastActiveTime>{now}</lastActiveTime><locale>en_US</locale><messageLocale>en_US</messageLocale>"
        )

    # -- what is there ----------------------------------------------------------------------------------

    def _versions(self) -> str:
        return (
            '<?xml version="1.0" encoding="UTF-8"?>\n<namespaces version="1.0"><namespace><name>urn:vim25</name>'
            f"<version>{self.version}.0</version><priorVersions><version>7.0.3.0</version><version>6.5</version>"
            "</priorVersions></namespace></namespaces>"
        )

    def _content(self) -> str:
        managed = {k: v for k, v in _MANAGED.items() if self.vcenter or k != "certificateManager"}
        refs = {name: _ref(kind, value, name) for name, (kind, value) in managed.items()}
        kind = "VirtualCenter" if self.vcenter else "HostAgent"
        product = "VMware vCenter Server" if self.vcenter else "VMware ESXi"
        about = (
            f"<about><name>{product}</name><fullName>{product} {self.version} build-1</fullName>"
            f"<vendor>VMware, Inc.</vendor><version>{self.version}</version><build>1</build><osType>linux-x64</osType>"
            f"<productLineId>{'vpx' if self.vcenter else 'embeddedEsx'}</productLineId><apiType>{kind}</apiType>"
            f"<apiVersion>{self.version}.0</apiVersion></about>"
        )
        order = ("rootFolder", "propertyCollector", "viewManager")
        rest = ("setting", "sessionManager", "searchIndex", "certificateManager")
        return "".join([refs[name] for name in order] + [about] + [refs[name] for name in rest if name in refs])

    def _fetch(self, kind: str, name: str, what: str, session: str) -> str:
        host = self.hosts.get(name.partition("certmgr-")[2] or name)
        known: dict[tuple[str, str], Callable[[], str]] = {
            ("ServiceInstance", "content"): lambda: _typed("ServiceContent", self._content()),
            ("SessionManager", "currentSession"): lambda: (
                _typed("UserSession", self._user_session(session)) if session in self.sessions.open else ""
            ),
            ("ContainerView", "view"): lambda: _refs([("HostSystem", each) for each in self._views[name]]),
            ("Task", "info"): lambda: _typed("TaskInfo", self._task(name)),
        }
        if (kind, what) in known:
            return known[(kind, what)]()
        if host is not None:
            found = _of_host(host, name, what)
            if found is not None:
                return found
        elif kind in {"HostSystem", "HostCertificateManager"}:
            raise _gone(kind, name)
        raise SoapFault("InvalidProperty", f"InvalidProperty {what}", f"<name>{escape(what)}</name>")

    def _find(self, dns_name: str) -> str:
        for moid, host in self.hosts.items():
            if host.name == dns_name:
                return _ref("HostSystem", moid, "returnval")
        return ""

    def _view(self) -> str:
        name = f"session[view]{secrets.token_hex(4)}"
        self._views[name] = list(self.hosts)
        return _ref("ContainerView", name, "returnval")

    def _options(self, name: str) -> str:
        if name != "vpxd.certmgmt.mode" or not self.vcenter:
            raise SoapFault("InvalidName", "", f"<name>{escape(name)}</name>")
        value = f'<value xsi:type="xsd:string">{self.mode}</value>'
        return f'<returnval xsi:type="OptionValue"><key>{name}</key>{value}</returnval>'

    def _refresh(self, moids: list[str]) -> str:
        task = f"task-{len(self.tasks) + 1}"
        failed = ""
        for moid in moids:
            if not self.hosts[moid].answers:
                failed = self.hosts[moid].name
                continue
            self.hosts[moid].replace_cas(self.roots(), self.hosts[moid].crls)
        self.tasks[task] = failed
        return _ref("Task", task, "returnval")

    def _task(self, name: str) -> str:
        failed = self.tasks[name]
        head = (
            f"<key>{name}</key>{_ref('Task', name, 'task')}<descriptionId>CertificateManager.refresh</descriptionId>"
            f"<state>{'error' if failed else 'success'}</state><cancelled>false</cancelled>"
            "<cancelable>false</cancelable>"
        )
        if failed:
            text = f"Cannot contact the specified host ({escape(failed)})."
            fault = '<fault xsi:type="HostCommunication"></fault>'
            head += f"<error>{fault}<localizedMessage>{text}</localizedMessage></error>"
        return head + "<queueTime>2026-11-22T06:43:52Z</queueTime><eventChainId>1</eventChainId>"


def _gone(kind: str, name: str) -> SoapFault:
    inner = f"<obj type={quoteattr(kind)}>{escape(name)}</obj>"
    return SoapFault("ManagedObjectNotFound", f"managed object not found: {kind}:{name}", inner)


def not_found(kind: str, name: str, method: str) -> SoapFault:
    """Return what a server without that method answers."""
    inner = f"<receiver type={quoteattr(kind)}>{escape(name)}</receiver><method>{escape(method)}</method>"
    return SoapFault("MethodNotFound", f"{kind}:{name} does not implement: {method}", inner)


def _on_host(host: Host, method: str, text: dict[str, str], cas: list[str], crls: list[str]) -> str:
    do: dict[str, Callable[[], Any]] = {
        "GenerateCertificateSigningRequest": host.csr,
        "InstallServerCertificate": lambda: host.install(text.get("cert", "")),
        "ReplaceCACertificatesAndCRLs": lambda: host.replace_cas(cas, crls),
        "ListCACertificates": lambda: host.trusted_pem(),  # noqa: PLW0108  as the others
        "ListCACertificateRevocationLists": lambda: host.crls,
    }
    if host.modern:
        do["ProvisionServerPrivateKey"] = lambda: host.provision(text.get("key", ""))
        do["NotifyAffectedServices"] = host.notify
    if not host.answers:
        raise SoapFault("HostCommunication", "Unable to communicate with the remote host.")
    if method not in do:
        raise not_found("HostCertificateManager", "", method)
    found = do[method]()
    values = found if isinstance(found, list) else [] if found is None else [found]
    return "".join(f"<returnval>{escape(value)}</returnval>" for value in values)


def _of_host(host: Host, moid: str, what: str) -> Optional[str]:
    """Return a property of a host or of its certificate manager."""
    known: dict[str, Callable[[], str]] = {
        "name": lambda: f'<returnval xsi:type="xsd:string">{escape(host.name)}</returnval>',
        "configManager": lambda: _typed(
            "HostConfigManager", _ref("HostCertificateManager", f"certmgr-{moid}", "certificateManager")
        ),
        "runtime": lambda: _typed(
            "HostRuntimeInfo",
            f"<connectionState>{host.connection_state()}</connectionState><powerState>poweredOn</powerState>"
            "<inMaintenanceMode>false</inMaintenanceMode>",
        ),
        "summary": lambda: _typed(
            "HostListSummary",
            f"<config><name>{escape(host.name)}</name><port>443</port><product><name>VMware ESXi</name>"
            f"<fullName>VMware ESXi {host.version}</fullName><vendor>VMware, Inc.</vendor>"
            f"<version>{host.version}</version><build>1</build><osType>vmnix-x86</osType>"
            f"<productLineId>embeddedEsx</productLineId><apiType>HostAgent</apiType>"
            f"<apiVersion>{host.version}.0</apiVersion></product><vmotionEnabled>false</vmotionEnabled></config>"
            "<rebootRequired>false</rebootRequired>"
            + (f"<managementServerIp>{host.managed_by}</managementServerIp>" if host.managed_by else ""),
        ),
        "certificateInfo": lambda: _typed("HostCertificateManagerCertificateInfo", host.certificate_info()),
    }
    return known[what]() if what in known else None


def _typed(kind: str, inner: str) -> str:
    return f'<returnval xsi:type="{kind}">{inner}</returnval>'


def _ref(kind: str, value: str, tag: str) -> str:
    return f'<{tag} type="{kind}" xsi:type="ManagedObjectReference">{escape(value)}</{tag}>'


def _refs(values: list[tuple[str, str]]) -> str:
    return _typed("ArrayOfManagedObjectReference", "".join(_ref(k, v, "ManagedObjectReference") for k, v in values))


def _fault(kind: str, text: str, inner: str) -> bytes:
    detail = f'<{kind}Fault xmlns="urn:vim25" xsi:type="{kind}">{inner}</{kind}Fault>'
    fault = f"<faultcode>ServerFaultCode</faultcode><faultstring>{escape(text)}</faultstring><detail>{detail}</detail>"
    return _ENVELOPE.format(f"<soapenv:Fault>{fault}</soapenv:Fault>").encode()


def _session(request: Request) -> str:
    for part in request.headers.get("cookie", "").split(";"):
        name, _, value = part.strip().partition("=")
        if name == _COOKIE:
            return value.strip('"')
    return ""
