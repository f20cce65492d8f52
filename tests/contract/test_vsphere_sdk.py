"""Broadcom's own SDK and certbot-deployer-vsphere, which nobody here wrote, work against the emulated vCenter.

They live in an environment of their own, found through ``CERTHOOKS_VSPHERE_PYTHON`` or at ``.venv-vsphere``, and verify
TLS by the emulator's CA. One process does the whole story, because importing them takes long; it prints what it saw.
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.lab.ca import CA
from tests.lab.vsphere import READ, VCenter, vecs

_REPOSITORY = Path(__file__).parents[2]
_PYTHON = Path(os.environ.get("CERTHOOKS_VSPHERE_PYTHON", _REPOSITORY / ".venv-vsphere" / "bin" / "python"))
NAMES = ["vc01.example.test", "127.0.0.2"]

STORY = r"""
import json, sys, warnings
warnings.simplefilter("ignore")
import requests
from com.vmware.vcenter.certificate_management.vcenter_client import Tls, TrustedRootChains
from com.vmware.vcenter.certificate_management_client import X509CertChain
from vmware.vapi.lib.connect import get_requests_connector
from vmware.vapi.security.client.security_context_filter import LegacySecurityContextFilter
from vmware.vapi.security.session import create_session_security_context
from vmware.vapi.stdlib.client.factories import StubConfigurationFactory
from vmware.vapi.vsphere.client import create_vsphere_client

given = json.loads(sys.stdin.read())
seen = {}

def trusting():
    session = requests.Session()
    session.verify, session.trust_env = given["ca"], False
    return session

def failing(what, call):
    try:
        call()
    except Exception as error:
        seen[what] = [type(error).__name__, [m.default_message for m in getattr(error, "messages", None) or []]]
    else:
        seen[what] = None

def client(user=given["user"], password=given["password"]):
    return create_vsphere_client(server=given["server"], username=user, password=password, session=trusting())

def story(tls, chains, seen, pair):
    before = tls.get()
    seen["before"] = [before.thumbprint, before.subject_dn, before.valid_to.isoformat(), before.is_ca]
    seen["roots before"] = [each.chain for each in chains.list()]
    root = TrustedRootChains.CreateSpec(cert_chain=X509CertChain(cert_chain=[pair["root"]]))
    seen["root"] = chains.create(root)
    failing(pair["name"] + " root again", lambda: chains.create(root))
    seen["chain"] = chains.get(seen["root"]).cert_chain.cert_chain
    failing(pair["name"] + " other name", lambda: tls.set(Tls.Spec(cert=pair["wrong"], key=pair["wrong_key"])))
    spec = Tls.Spec(cert=pair["cert"], key=pair["key"], root_cert=pair["root"])
    seen["set"] = tls.set(spec)
    failing(pair["name"] + " again", lambda: tls.set(spec))
    seen["after"] = tls.get().thumbprint

failing("wrong password", lambda: client(password="wrong"))
vsphere = client()
seen["rpc"] = {}
services = vsphere.vcenter.certificate_management.vcenter
story(services.Tls, services.TrustedRootChains, seen["rpc"], given["rpc"])
reader = client("reader@vsphere.local", "reader")
pair = given["rpc"]
failing("reader", lambda: reader.vcenter.certificate_management.vcenter.Tls.set(
    Tls.Spec(cert=pair["wrong"], key=pair["wrong_key"])))

url = "https://" + given["server"] + "/rest"
context = create_session_security_context(given["session"])
connector = get_requests_connector(session=trusting(), msg_protocol="rest", url=url,
                                   provider_filter_chain=[LegacySecurityContextFilter(security_context=context)])
config = StubConfigurationFactory.new_std_configuration(connector)
seen["rest"] = {}
story(Tls(config), TrustedRootChains(config), seen["rest"], given["rest"])

from certbot_deployer import CertificateBundle
from certbot_deployer_vsphere.certbot_deployer_vsphere import put_certificate
bundle = CertificateBundle(path=given["lineage"])
put_certificate(given["server"], given["user"], given["password"], bundle)
seen["deployed"] = vsphere.vcenter.certificate_management.vcenter.Tls.get().thumbprint
json.dump(seen, sys.stdout, default=str)
"""


def pair(ca: CA, name: str) -> dict[str, str]:
    """Return the texts for one telling of the story."""
    made, wrong = ca.issue(NAMES, key_type="rsa"), ca.issue(["other.example.test"], key_type="rsa")
    return {
        "name": name,
        "cert": made.cert_pem.decode(),
        "key": made.key_pem.decode(),
        "root": ca.pem.decode(),
        "thumbprint": vecs.thumbprint(made.certificate),
        "wrong": wrong.cert_pem.decode(),
        "wrong_key": wrong.key_pem.decode(),
    }


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Run the story once; return what the client saw, what it was given, and what vCenter did."""
    if not _PYTHON.exists():
        if os.environ.get("CI"):
            pytest.fail(f"not here: {_PYTHON}")
        pytest.skip(f"not here: {_PYTHON}")
    folder = tmp_path_factory.mktemp("sdk")
    first, second, third = CA("First CA"), CA("Second CA"), CA("Third CA")
    with VCenter(NAMES[0], address=NAMES[1]) as vc:
        vc.add_user("certhooks@vsphere.local", "pässwörd")
        vc.add_user("reader@vsphere.local", "reader", frozenset({READ}))
        # The SDK trusts one file: what vCenter serves now, and what it will serve.
        (folder / "ca.pem").write_bytes(vc.ca_pem + first.pem + second.pem + third.pem)
        lineage = folder / NAMES[0]
        lineage.mkdir()
        deployed = third.intermediate().issue(NAMES, key_type="rsa")
        texts = {
            "cert": deployed.cert_pem,
            "privkey": deployed.key_pem,
            "chain": deployed.chain_pem + third.pem,
            "fullchain": deployed.fullchain_pem,
        }
        for name, text in texts.items():
            (lineage / f"{name}.pem").write_bytes(text)
        given: dict[str, Any] = {
            "server": f"{vc.address}:{vc.port}",
            "ca": str(folder / "ca.pem"),
            "user": "certhooks@vsphere.local",
            "password": "pässwörd",
            "session": "",
            "lineage": str(lineage),
            "rpc": pair(first, "rpc"),
            "rest": pair(second, "rest"),
        }
        given["session"] = vc.sessions.login("certhooks@vsphere.local", "pässwörd")
        before = vecs.thumbprint(vc.machine.leaf)
        done = subprocess.run(
            [_PYTHON, "-c", STORY],
            input=json.dumps(given),
            env={"PATH": "/usr/bin:/bin", "REQUESTS_CA_BUNDLE": given["ca"]},
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        assert done.returncode == 0, done.stderr
        return {
            "seen": json.loads(done.stdout),
            "given": given,
            "before": before,
            "changes": vc.changes,
            "deployed": vecs.thumbprint(deployed.certificate),
            "failed": vc.sessions.failed,
        }


@pytest.mark.parametrize(("way", "before"), [("rpc", None), ("rest", "rpc")])
def test_the_sdk_replaces_the_machine_certificate(told: dict[str, Any], way: str, before: Any) -> None:
    """Over JSON-RPC and over /rest: reads its fields, trusts a root, replaces, and reads the new one back."""
    seen, given = told["seen"][way], told["given"][way]
    assert seen["before"][0] == (told["given"][before]["thumbprint"] if before else told["before"])
    assert seen["before"][1] == "CN=vc01.example.test"
    assert seen["before"][3] is False
    assert seen["root"] not in seen["roots before"]
    assert [text.strip() for text in seen["chain"]] == [given["root"].strip()]
    assert seen["set"] is None
    assert seen["after"] == given["thumbprint"]


@pytest.mark.parametrize("way", ["rpc", "rest"])
def test_the_sdk_understands_refusals(told: dict[str, Any], way: str) -> None:
    """What is there already, and a certificate for another name, arrive as the SDK's own errors with their text."""
    seen = told["seen"]
    assert seen[f"{way} root again"][0] == "AlreadyExists"
    assert seen[f"{way} again"][0] == "AlreadyExists"
    kind, [text] = seen[f"{way} other name"]
    assert kind == "Error"
    assert "DNS Name must contain machine FQDN." in text


def test_the_sdk_understands_who_may_not(told: dict[str, Any]) -> None:
    """A wrong password is Unauthenticated, a role without the privilege Unauthorized."""
    assert told["seen"]["wrong password"][0] == "Unauthenticated"
    assert told["failed"] == 1
    assert told["seen"]["reader"][0] == "Unauthorized"


def test_certbot_deployer_vsphere_deploys(told: dict[str, Any]) -> None:
    """A lineage of certbot's, with an intermediate, arrives; three replacements were carried out in all."""
    assert told["seen"]["deployed"] == told["deployed"]
    assert told["changes"] == ["root", "tls", "root", "tls", "tls"]
