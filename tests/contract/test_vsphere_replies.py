"""The emulated vCenter gives the replies that others recorded from real ones, status and body."""

from __future__ import annotations

import base64
import json
import ssl
import time
from typing import TYPE_CHECKING, Any

import pytest
from cryptography import x509

from certhooks.address import Address
from certhooks.http import Connection, Reply
from tests.lab.ca import CA, make_key, pem_of_key
from tests.lab.vsphere import MANAGE, READ, Phase, VCenter, vecs
from tests.lab.vsphere.vcenter import ENVOY_503, TEXT_503

if TYPE_CHECKING:
    from collections.abc import Iterator

BASE = "/vcenter/certificate-management/vcenter"
USER, PASSWORD = "certhooks@vsphere.local", "pässwörd:with colon"

# A capture of vCenter 7.0 (vcsa.api.lab): its machine certificate, and what GET said of it.
CAPTURED_CERT = """-----BEGIN CERTIFICATE-----
MIIDxDCCAqygAwIBAgIJAOoCufh9g22QMA0GCSqGSIb3DQEBCwUAMIGTMQswCQYD
VQQDDAJDQTEXMBUGCgmSJomT8ixkARkWB3ZzcGhlcmUxFTATBgoJkiaJk/IsZAEZ
FgVsb2NhbDELMAkGA1UEBhMCVVMxEzARBgNVBAgMCkNhbGlmb3JuaWExFTATBgNV
BAoMDHZjc2EuYXBpLmxhYjEbMBkGA1UECwwSVk13YXJlIEVuZ2luZWVyaW5nMB4X
DTIxMDkzMDExMjI0MloXDTIzMDkzMDExMjI0MlowJDEVMBMGA1UEAwwMdmNzYS5h
cGkubGFiMQswCQYDVQQGEwJVUzCCASIwDQYJKoZIhvcNAQEBBQADggEPADCCAQoC
ggEBANY9IqsvVL84AkFwhZ1QtVPfJW9vhokVO1Uz1NSfoQUutc8EguRW5HtYex50
qZUErTurtb5p/+FtHrR9SN4SN7o7f9yT2Qi9qsCgcCERDMyXrDYPKC2POoXkawPU
bmN4zefaKxTNCGu2lW04ZYqiARGdLZNQsFyYPnsTOczitb6CguVQ/hKrrKw3fEBG
25LC855eLdwJrH4hkLhB3moKR08UQVhuOSPhMqim+3Pt38el/AVmeeI93Accp9U4
Ddvja3jfZF2gkbL6eGNz0aoOQcLf41y4aHOyBFXWeEAeO87G3pOnQ55qGreFs+UI
YCEuqVBTnILhWKXiSjYv79OEKBkCAwEAAaOBiDCBhTAXBgNVHREEEDAOggx2Y3Nh
LmFwaS5sYWIwCwYDVR0PBAQDAgOoMB8GA1UdIwQYMBaAFIUUIC6dRGzq3LiBg/ts
01eSf99PMDwGCCsGAQUFBwEBBDAwLjAsBggrBgEFBQcwAoYgaHR0cHM6Ly92Y3Nh
LmFwaS5sYWIvYWZkL3ZlY3MvY2EwDQYJKoZIhvcNAQELBQADggEBAIXYoLsMsdDL
P6J0/xWBJW14lsf+Ht/4fkuHnGizPptIPEV7tq8Z1dON4cqZGi9fmG3N0VV0m/mN
OI1iE+o8Owj12KIs9I1gj/E641Ipi+DDH+htLAtUDv8biOcClasjkTAAYMGs8Mq8
g8iLLWLh2KwiQhGd7Af/zPCAM055hQsD25o1v8SZ4pZlwyyvkZq200laA3SbxDZo
k8fCcXF9tnJIysD+Y2NxK96Qf7u1CaHFUdAQLufu5VHqNEeO/bkwouu7EZ2r4c4I
I5Oc6PuVqA0cBMvCGsjM/cYrimVZT7iUUrhUr5hDtTAo+0Ewn8n83WwXfE6Enjeo
mfkQ3qkd4ME=
-----END CERTIFICATE-----"""
CAPTURED_INFO = {
    "authority_information_access_uri": ["URIName: https://vcsa.api.lab/afd/vecs/ca"],
    "cert": CAPTURED_CERT,
    "extended_key_usage": [""],
    "is_CA": False,
    "issuer_dn": "OU=VMware Engineering, O=vcsa.api.lab, ST=California, C=US, DC=local, DC=vsphere, CN=CA",
    "key_usage": ["digitalSignature", "keyEncipherment", "keyAgreement"],
    "path_length_constraint": -1,
    "serial_number": "ea02b9f87d836d90",
    "signature_algorithm": "SHA256WITHRSA",
    "subject_alternative_name": ["vcsa.api.lab"],
    "subject_dn": "C=US, CN=vcsa.api.lab",
    "thumbprint": "87CA0701ACBB2E43F52C25512151A323228AEDD5",
    "valid_from": "2021-09-30T11:22:42.000Z",
    "valid_to": "2023-09-30T11:22:42.000Z",
    "version": 3,
}
UNAUTHENTICATED = {
    "error_type": "UNAUTHENTICATED",
    "messages": [
        {
            "args": [],
            "default_message": "Authentication required.",
            "id": "com.vmware.vapi.endpoint.method.authentication.required",
        }
    ],
}
UNAVAILABLE = {
    "error_type": "SERVICE_UNAVAILABLE",
    "messages": [
        {
            "args": [],
            "default_message": "Service unavailable.",
            "id": "com.vmware.vapi.endpoint.cis.ServiceUnavailable",
        }
    ],
}


def error(kind: str, text: str, id_: str, *args: str) -> dict[str, Any]:
    """Return the body of an error of the new dialect."""
    return {"error_type": kind, "messages": [{"args": [*args], "default_message": text, "id": id_}]}


class Wire:
    """Requests to one vCenter, with a session once there is one."""

    def __init__(self, vcenter: VCenter) -> None:
        context = ssl.create_default_context(cadata=vcenter.ca_pem.decode())
        self.connection = Connection(Address(vcenter.address, vcenter.port), context, timeout=5)
        self.headers: dict[str, str] = {}

    def __call__(self, method: str, path: str, body: Any = None) -> Reply:
        data = b"" if body is None else json.dumps(body).encode()
        return self.connection.request(method, path, headers=self.headers, body=data)

    def login(self, path: str = "/api/session", password: str = PASSWORD) -> Reply:
        """Open a session."""
        given = base64.b64encode(f"{USER}:{password}".encode()).decode()
        reply = self.connection.request("POST", path, headers={"Authorization": f"Basic {given}"})
        if reply.status in {200, 201}:
            found = json.loads(reply.body)
            self.headers["vmware-api-session-id"] = found if isinstance(found, str) else found["value"]
        return reply


@pytest.fixture
def vcenter() -> Iterator[VCenter]:
    """Start a vCenter on an address that is not everybody's localhost."""
    with VCenter("vc01.example.test", address="127.0.0.2") as made:
        made.add_user(USER, PASSWORD)
        yield made


@pytest.fixture
def wire(vcenter: VCenter) -> Iterator[Wire]:
    """Return a connection without a session."""
    made = Wire(vcenter)
    yield made
    made.connection.close()


def pair(ca: CA, *names: str, **settings: Any) -> dict[str, str]:
    """Return what PUT takes: leaf, key and root."""
    made = ca.issue(names or ["vc01.example.test"], **{"key_type": "rsa", **settings})
    return {
        "cert": made.cert_pem.decode(),
        "key": made.key_pem.decode(),
        "root_cert": made.chain_pem.decode() + ca.root_pem.decode(),
    }


def test_machine_certificate_is_shown_as_captured() -> None:
    """Every field of a capture comes out of the certificate in it: thumbprint, serial, reversed names, dates, usage."""
    assert vecs.info(x509.load_pem_x509_certificate(CAPTURED_CERT.encode())) == CAPTURED_INFO


def test_session_of_the_new_dialect(wire: Wire) -> None:
    """201 and a JSON string of 32 hex digits; GET says whose it is; DELETE is 204, and then it is none any more."""
    reply = wire.login()
    assert reply.status == 201
    session = json.loads(reply.body)
    assert len(session) == 32
    assert set(session) <= set("0123456789abcdef")
    shown = wire("GET", "/api/session")
    assert (shown.status, json.loads(shown.body)["user"]) == (200, USER)
    gone = wire("DELETE", "/api/session")
    assert (gone.status, gone.body) == (204, b"")
    assert wire("GET", "/api/session").status == 401


def test_session_of_the_old_dialect(wire: Wire) -> None:
    """200, the id as ``value`` and as a cookie for /rest."""
    reply = wire.login("/rest/com/vmware/cis/session")
    assert reply.status == 200
    session = json.loads(reply.body)["value"]
    assert reply.headers["set-cookie"] == f"vmware-api-session-id={session};Path=/rest;Secure;HttpOnly"
    assert wire("GET", f"/rest{BASE}/tls").status == 200
    gone = wire("DELETE", "/rest/com/vmware/cis/session")
    assert (gone.status, gone.body) == (200, b"")


def test_without_a_session_as_captured(vcenter: VCenter, wire: Wire) -> None:
    """401 in both dialects, with a challenge, and in 6.5's form."""
    reply = wire("GET", f"/api{BASE}/tls")
    assert (reply.status, json.loads(reply.body)) == (401, UNAUTHENTICATED)
    vcenter.switches.challenge = True
    reply = wire("GET", f"/rest{BASE}/tls")
    body = json.loads(reply.body)
    assert body["value"].pop("challenge").startswith('Basic realm="VAPI endpoint",SIGN realm=')
    assert (reply.status, body) == (
        401,
        {"type": "com.vmware.vapi.std.errors.unauthenticated", "value": UNAUTHENTICATED},
    )
    vcenter.switches.old_401 = True
    old = json.loads(wire("GET", f"/rest{BASE}/tls").body)
    assert old["value"] == {
        "messages": [
            {
                "args": [],
                "default_message": "This method requires authentication.",
                "id": "vapi.method.authentication.required",
            }
        ]
    }


def test_unknown_paths_as_captured(wire: Wire) -> None:
    """The two dialects word it differently."""
    reply = wire("GET", "/api/nothing")
    assert (reply.status, json.loads(reply.body)) == (
        404,
        error("NOT_FOUND", "Not found.", "com.vmware.vapi.rest.httpNotFound"),
    )
    reply = wire("GET", "/rest/com/vmware/esx/settings/depot-content/add-ons")
    path = "/com/vmware/esx/settings/depot-content/add-ons"
    text = f"Unable to find operations for URL: {path}."
    value = error("NOT_FOUND", text, "com.vmware.vapi.rest.operationsForUrlNotFound", path)
    assert (reply.status, json.loads(reply.body)) == (
        404,
        {"type": "com.vmware.vapi.std.errors.not_found", "value": value},
    )


def test_sso_locks_an_account(vcenter: VCenter, wire: Wire) -> None:
    """After five wrong passwords the right one does not help: whoever repeats a wrong one locks people out."""
    for _ in range(5):
        assert wire.login(password="wrong").status == 401
    assert wire.login().status == 401
    assert vcenter.sessions.failed == 6


@pytest.mark.parametrize("base", ["/api", "/rest"])
def test_machine_certificate_is_replaced(vcenter: VCenter, wire: Wire, base: str) -> None:
    """PUT with the dialect's own body; the store shows the leaf alone, and TLS serves it at once."""
    wire.login("/api/session" if base == "/api" else "/rest/com/vmware/cis/session")
    ca = CA("Site CA")
    spec = pair(ca, "vc01.example.test", "127.0.0.2")
    reply = wire("PUT", f"{base}{BASE}/tls", spec if base == "/api" else {"spec": spec})
    assert (reply.status, reply.body) == ((204, b"") if base == "/api" else (200, b""))
    shown = json.loads(wire("GET", f"{base}{BASE}/tls").body)
    shown = shown if base == "/api" else shown["value"]
    assert shown["cert"] == spec["cert"].rstrip("\n")
    assert ssl.get_server_certificate((vcenter.address, vcenter.port), ca_certs=None).strip() == spec["cert"].strip()
    assert vecs.chain_id(ca.certificate) in vcenter.roots.chains
    again = wire("PUT", f"{base}{BASE}/tls", spec if base == "/api" else {"spec": spec})
    assert again.status == 400
    kind = json.loads(again.body)
    assert (kind if base == "/api" else kind["value"])["error_type"] == "ALREADY_EXISTS"


def test_body_of_the_other_dialect_is_refused_as_captured(wire: Wire) -> None:
    """``spec`` sent to /api is an unexpected field, in the words of 9.x."""
    wire.login()
    body = {"spec": {"cert_chain": {"cert_chain": ["PEM"]}}}
    reply = wire("POST", f"/api{BASE}/trusted-root-chains", body)
    structure = "com.vmware.vcenter.certificate_management.vcenter.trusted_root_chains.create_spec"
    [message] = json.loads(reply.body)["messages"]
    assert reply.status == 400
    assert json.loads(reply.body)["error_type"] == "UNEXPECTED_INPUT"
    assert message["default_message"] == f"Found unexpected fields [spec] in structure {structure}"
    assert message["args"] == ["[spec]", structure]


SAN_ERROR = (
    "Invalid input certificate : DNS in Subject Alternative Name is not correct. DNS Name must contain machine FQDN."
)


def spoilt(ca: CA, how: str) -> dict[str, str]:
    """Return a pair that vCenter does not take."""
    spec, below = pair(ca), ca.intermediate()
    other_key = make_key("rsa")
    return {
        "other name": pair(ca, "other.example.test"),
        "wildcard": pair(ca, "*.example.test"),
        "elliptic curve": pair(ca, key_type="ec"),
        "encrypted key": {**spec, "key": pem_of_key(other_key, "secret").decode()},
        "other key": {**spec, "key": pem_of_key(other_key).decode()},
        "no root": {name: spec[name] for name in ("cert", "key")},
        "intermediate alone": {**pair(below), "root_cert": below.pem.decode()},
    }[how]


@pytest.mark.parametrize(
    ("how", "text"),
    [
        ("other name", SAN_ERROR),
        ("wildcard", SAN_ERROR),
        ("elliptic curve", "ERROR_BAD_FORMAT"),
        ("encrypted key", "ERROR_BAD_FORMAT"),
        ("other key", "VECS_PRIVATE_KEY_MISMATCH"),
        ("no root", "the trustAnchors parameter must be non-empty"),
        ("intermediate alone", "the trustAnchors parameter must be non-empty"),
    ],
)
def test_what_vcenter_does_not_take(vcenter: VCenter, wire: Wire, how: str, text: str) -> None:
    """500 (400 in the old dialect) with the recorded words, and nothing changes."""
    before = vcenter.machine
    spec = spoilt(CA("Site CA"), how)
    wire.login()
    reply = wire("PUT", f"/api{BASE}/tls", spec)
    [message] = json.loads(reply.body)["messages"]
    assert (reply.status, json.loads(reply.body)["error_type"]) == (500, "ERROR")
    assert message["id"] == "com.vmware.certificatemanagement.error"
    assert text in message["args"][0]
    assert message["default_message"] == f"Exception found ({message['args'][0]})"
    old = wire("PUT", f"/rest{BASE}/tls", {"spec": spec})
    assert (old.status, json.loads(old.body)["type"]) == (400, "com.vmware.vapi.std.errors.error")
    assert vcenter.machine == before
    assert vcenter.changes == []


def test_trusted_roots(vcenter: VCenter, wire: Wire) -> None:
    """201 and the SubjectKeyIdentifier as id; shown again with a CRL beside it; a repetition as the switch has it."""
    wire.login()
    ca = CA("Site CA")
    body = {"cert_chain": {"cert_chain": [ca.pem.decode()]}}
    reply = wire("POST", f"/api{BASE}/trusted-root-chains", body)
    name = json.loads(reply.body)
    identifier = ca.certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest
    assert (reply.status, name) == (201, identifier.hex().upper())
    assert {"chain": name} in json.loads(wire("GET", f"/api{BASE}/trusted-root-chains").body)
    vcenter.switches.crl_in_chain = True
    shown = json.loads(wire("GET", f"/api{BASE}/trusted-root-chains/{name}").body)
    [text] = shown["cert_chain"]["cert_chain"]
    assert text.startswith(ca.pem.decode().strip())
    assert "-----BEGIN X509 CRL-----" in text
    refused = wire("POST", f"/api{BASE}/trusted-root-chains", body)
    assert (refused.status, json.loads(refused.body)["error_type"]) == (400, "ALREADY_EXISTS")
    vcenter.switches.root_already_exists = False
    assert json.loads(wire("POST", f"/api{BASE}/trusted-root-chains", body).body) == name
    assert wire("DELETE", f"/api{BASE}/trusted-root-chains/{name}").status == 204
    assert wire("GET", f"/api{BASE}/trusted-root-chains/{name}").status == 404


@pytest.mark.parametrize("first", [True, False])
def test_a_chain_of_several_gets_the_id_of_one(vcenter: VCenter, wire: Wire, *, first: bool) -> None:
    """Of its first certificate or of its last, as the switch has it; what we send are roots, one by one."""
    wire.login()
    ca = CA("Site CA")
    below = ca.intermediate()
    vcenter.switches.first_id = first
    body = {"cert_chain": {"cert_chain": [below.pem.decode(), ca.pem.decode()]}}
    reply = wire("POST", f"/api{BASE}/trusted-root-chains", body)
    assert json.loads(reply.body) == vecs.chain_id((below if first else ca).certificate)


def test_id_of_a_captured_root_is_not_its_fingerprint() -> None:
    """Two certificates of one key have one id: the SubjectKeyIdentifier, else SHA-1 of the SubjectPublicKeyInfo."""
    ca = CA("Site CA")
    assert vecs.chain_id(ca.certificate) != vecs.thumbprint(ca.certificate)
    plain = ca.issue(["leaf.example.test"]).certificate  # has no SubjectKeyIdentifier
    assert len(vecs.chain_id(plain)) == 40


def test_root_that_is_no_ca_as_captured(wire: Wire) -> None:
    """A leaf is refused with the words of 8.0."""
    wire.login()
    leaf = CA("Site CA").issue(["leaf.example.test"])
    reply = wire("POST", f"/api{BASE}/trusted-root-chains", {"cert_chain": {"cert_chain": [leaf.cert_pem.decode()]}})
    inner = (
        "create trusted root chain failed : Certificate bearing subject CN=leaf.example.test is not a valid CA "
        "certificate. Please retry with a valid certificate chain"
    )
    assert json.loads(reply.body) == error(
        "ERROR", f"Internal Server Error ({inner})", "com.vmware.certificatemanagement.error", inner
    )


def test_list_lags(vcenter: VCenter, wire: Wire) -> None:
    """A root is there before it is listed, as vmafd copies it once a minute."""
    vcenter.switches.root_lag = 60.0
    wire.login()
    ca = CA("Site CA")
    name = json.loads(
        wire("POST", f"/api{BASE}/trusted-root-chains", {"cert_chain": {"cert_chain": [ca.pem.decode()]}}).body
    )
    assert {"chain": name} not in json.loads(wire("GET", f"/api{BASE}/trusted-root-chains").body)
    assert name in vcenter.roots.chains


@pytest.mark.parametrize(
    ("privileges", "asked", "status"),
    [
        ({READ}, "GET /tls", 200),
        (set(), "GET /tls", 403),
        ({READ}, "PUT /tls", 403),
        ({READ, MANAGE}, "POST /trusted-root-chains", 403),
    ],
)
def test_privileges(vcenter: VCenter, wire: Wire, privileges: set[str], asked: str, status: int) -> None:
    """Reading needs System.Read, writing CertificateManagement.Administer, roots Manage as well."""
    vcenter.add_user(USER, PASSWORD, frozenset(privileges))
    wire.login()
    method, path = asked.split()
    ca = CA("Site CA")
    bodies: dict[str, Any] = {"PUT": pair(ca), "POST": {"cert_chain": {"cert_chain": [ca.pem.decode()]}}}
    reply = wire(method, f"/api{BASE}{path}", bodies.get(method))
    assert reply.status == status
    if status == 403:
        assert json.loads(reply.body)["error_type"] == "UNAUTHORIZED"
    assert vcenter.changes == []


@pytest.mark.parametrize(
    ("what", "body"), [("text503", TEXT_503), ("envoy503", ENVOY_503), ("json503", UNAVAILABLE)], ids=str
)
def test_absence_after_a_replacement_as_captured(vcenter: VCenter, wire: Wire, what: str, body: Any) -> None:
    """Each of the three 503s, for as long as it lasts, then the services again, which know no session any more."""
    vcenter.switches.after = [Phase(what, 0.01, hits=2)]
    wire.login()
    assert wire("PUT", f"/api{BASE}/tls", pair(vcenter.ca, "vc01.example.test", "127.0.0.2")).status == 204
    for _ in range(2):
        reply = wire("GET", f"/api{BASE}/tls")
        assert reply.status == 503
        assert (json.loads(reply.body) if what == "json503" else reply.body) == body
    time.sleep(0.02)
    assert wire("GET", f"/api{BASE}/tls").status == 401
    assert wire.login().status == 201
