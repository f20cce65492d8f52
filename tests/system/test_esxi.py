"""``esxi_instcert`` and ``--refresh-ca``: hosts by themselves and through their vCenter, on names and port 443."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from certhooks import certificate as certs
from certhooks.certmonger import Certmonger
from certhooks_vcenter import esxi_instcert, instcert
from tests.lab.ca import CA
from tests.lab.machine import machine_of_its_own
from tests.lab.site import call
from tests.lab.vsphere.estate import HOSTS, NAMES, USER, VC, served

if TYPE_CHECKING:
    from tests.lab.certmonger import CertmongerLab
    from tests.lab.vsphere.estate import Estate

pytestmark = [
    machine_of_its_own(*HOSTS),
    # pyvmomi leaves the sockets of connections that a host cut, or that had no login, to the garbage collector.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


def test_a_key_is_brought_to_a_modern_host(estate: Estate) -> None:
    """8.0U3 through vCenter: root to vCenter and host first, key, certificate, notice; served and connected in the end.

    The notice cuts the connection. A second run sends nothing, and no session is left.
    """
    [host] = estate.esxi()
    words = [*estate.pair(NAMES[0]), "--vcenter", VC, NAMES[0]]
    done = estate.push(*words)
    assert done.code == 0, done
    assert host.host.served.leaf == estate.new.certificate
    assert host.host.changes == ["cas", "key", "certificate", "notify"]
    assert host.host.connection_state() == "connected"
    assert estate.vc.changes == ["root"]
    again = estate.push(*words)
    assert again.code == 0, again
    assert "nothing to do" in again.out
    assert host.host.changes == ["cas", "key", "certificate", "notify"]
    assert estate.vc.sessions.open == {}
    assert estate.vc.sessions.failed == 0


def test_an_older_host_makes_key_and_request(estate: Estate) -> None:
    """8.0U2 through vCenter: its own request, signed by a command; the key never leaves it; left alone afterwards."""
    [host] = estate.esxi(version="8.0.2")
    words = [*estate.csr(), "--vcenter", VC, NAMES[0]]
    done = estate.push(*words)
    assert done.code == 0, done
    assert estate.signed(host)
    assert host.host.changes == ["cas", "certificate"]
    assert host.host.connection_state() == "connected"
    again = estate.push(*words)
    assert "nothing to do" in again.out, again
    assert host.host.changes == ["cas", "certificate"]
    due = estate.push(*words, "--renew", "89")
    assert "nothing to do" in due.out, due
    due = estate.push(*words, "--force")
    assert due.code == 0, due
    assert host.host.changes == ["cas", "certificate", "certificate"]


def test_a_signed_request_is_known_to_journal_pin_and_probe(estate: Estate) -> None:
    """What was signed is told by its fingerprint: a pin given once stays good, and --probe knows what to look for."""
    [host] = estate.esxi(version="8.0.2")
    pin = f"sha256:{served(host)}"
    trusted = ("--cafile", str(estate.folder / "vmca.pem"))
    words = [word for word in estate.common(*estate.csr(), NAMES[0]) if word not in trusted]
    done = call(esxi_instcert.main, [*words, "--pin", pin, "--probe", NAMES[0]])
    assert done.code == 0, done
    assert f"served by {NAMES[0]}" in done.out
    [journal] = (estate.folder / "state").glob("*.json")
    assert json.loads(journal.read_text())["attempts"][-1]["fingerprint"] == served(host)
    again = call(esxi_instcert.main, [*words, "--pin", pin, "--probe", NAMES[0]])
    assert again.code == 0, again
    assert "nothing to do" in again.out
    assert host.host.changes == ["cas", "certificate"]


def test_a_modern_host_can_have_its_request_signed_too(estate: Estate) -> None:
    """--csr with 8.0U3 notifies the services, since they do not take the certificate up by themselves."""
    [host] = estate.esxi()
    done = estate.push(*estate.csr(), "--vcenter", VC, NAMES[0])
    assert done.code == 0, done
    assert host.host.changes == ["cas", "certificate", "notify"]
    assert estate.signed(host)


@pytest.mark.parametrize("form", ["json", "pem"])
def test_certmongers_ca_signs(estate: Estate, certmonger_lab: CertmongerLab, form: str) -> None:
    """``--csr`` with the helper of certmonger's CA, which issues from an intermediate: asked for once, then left alone.

    certmonger tracks nothing for it. A refusal is told in the CA's words, and the host serves what it served.
    """
    ca = certmonger_lab.ca
    ca.answer(format=form)
    [host] = estate.esxi(version="8.0.2")
    (estate.folder / "roots.pem").write_text(ca.root)
    words = ["--csr", "--cert-profile", "hostProfile", "--vcenter", VC, NAMES[0]]
    done = estate.push(*words)
    assert done.code == 0, done
    leaf, intermediate = host.host.served.certificates
    assert (certs.dns_names(leaf), certs.to_pem(intermediate)) == ((NAMES[0],), ca.intermediate)
    again = estate.push(*words)
    assert "nothing to do" in again.out, again
    [told] = ca.calls()
    assert told["CERTMONGER_REQ_PRINCIPAL"].startswith(f"HTTP/{NAMES[0]}")
    assert told["CERTMONGER_CA_PROFILE"] == "hostProfile"
    before = served(host)
    ca.answer("reject", text="2100 (Insufficient access: not allowed to perform operation)")
    refused = estate.push(*words, "--force")
    assert refused.code == 11, refused
    assert "refused the request: 2100 (Insufficient access" in refused.err
    assert served(host) == before
    with Certmonger.open() as certmonger:
        assert certmonger.requests() == []


def test_a_host_by_itself(estate: Estate) -> None:
    """Without vCenter: the root is put beside what the host trusts, and nobody asks vCenter anything."""
    [host] = estate.esxi()
    before = list(host.host.trusted)
    done = estate.push(*estate.pair(NAMES[0]), NAMES[0])
    assert done.code == 0, done
    assert host.host.served.leaf == estate.new.certificate
    assert host.host.trusted == [*before, estate.ca.certificate]
    assert host.sessions.open == {}
    assert not estate.vc.requests


def test_ten_hosts_one_of_them_down(estate: Estate) -> None:
    """Nine are done through vCenter, the tenth is told as unreachable with exit code 4; a result each."""
    ten = estate.esxi(10)
    ten[3].stop()
    done = estate.push(*estate.pair(*NAMES), "--vcenter", VC, "--json", *NAMES)
    assert done.code == 4, done
    results = [json.loads(line) for line in done.out.splitlines()]
    assert [result["exit_code"] for result in results] == [4 if n == 3 else 0 for n in range(10)], done
    for number, host in enumerate(ten):
        assert (host.host.served.leaf == estate.new.certificate) is (number != 3)
    assert estate.vc.changes == ["root"]
    assert estate.vc.sessions.open == {}


@pytest.mark.parametrize(
    ("version", "mode", "text"), [("8.0.2", "custom", "takes no key"), ("8.0.3", "vmca", "vpxd.certmgmt.mode")]
)
def test_what_cannot_last_is_refused(estate: Estate, version: str, mode: str, text: str) -> None:
    """An old host takes no key, and in mode vmca vCenter would replace it: refused, and nothing has changed."""
    [host] = estate.esxi(version=version)
    estate.vc.soap.mode = mode
    before = host.host.served.leaf
    done = estate.push(*estate.pair(NAMES[0]), "--vcenter", VC, NAMES[0])
    assert done.code == 1, done
    assert text in done.err
    assert host.host.served.leaf == before
    assert host.host.changes == estate.vc.changes == []
    if mode == "vmca":
        forced = estate.push(*estate.pair(NAMES[0]), "--vcenter", VC, "--force", NAMES[0])
        assert forced.code == 0, forced
        assert "warning:" in forced.err


def test_a_host_that_vcenter_does_not_trust_is_no_success(estate: Estate, monkeypatch: pytest.MonkeyPatch) -> None:
    """It serves the new certificate and is disconnected in vCenter: exit code 14."""
    [host] = estate.esxi()
    monkeypatch.setattr(host.host, "connection_state", lambda: "disconnected")
    done = estate.push(*estate.pair(NAMES[0]), "--vcenter", VC, NAMES[0])
    assert done.code == 14, done
    assert "is disconnected in" in done.err


def test_a_wrong_password_is_tried_once(estate: Estate) -> None:
    """Pyvmomi does not repeat it, and no other host is asked with it."""
    estate.esxi(3)
    estate.vmwrc.write_text(f"username={USER}\npassword=wrong\n")
    done = estate.push(*estate.pair(*NAMES[:3]), *NAMES[:3])
    assert done.code == 5, done
    assert sum(host.sessions.failed for host in estate.hosts) == 1
    assert "wrong" not in done.err


def test_an_untrusted_host_gets_no_password(estate: Estate) -> None:
    """Without its CA nothing is sent; pyvmomi is given a context that verifies."""
    [host] = estate.esxi()
    (estate.folder / "vmca.pem").write_bytes(CA("Another").pem)
    done = estate.push(*estate.pair(NAMES[0]), NAMES[0])
    assert done.code == 4, done
    assert host.soap.calls == []


def test_a_pinned_host(estate: Estate) -> None:
    """--pin trusts what the host serves, for pyvmomi too; another pin is refused."""
    [host] = estate.esxi()
    pair = estate.pair(NAMES[0])
    words = [
        word for word in estate.common(*pair, NAMES[0]) if word not in {"--cafile", str(estate.folder / "vmca.pem")}
    ]
    refused = call(esxi_instcert.main, [*words, "--pin", f"sha256:{'0' * 64}"])
    assert refused.code == 4, refused
    assert host.soap.calls == []
    pin = served(host)
    done = call(esxi_instcert.main, [*words, "--pin", f"sha256:{pin}"])
    assert done.code == 0, done


@pytest.mark.parametrize("answer", ["exit 3", "echo nonsense", "true", "echo -----BEGIN CERTIFICATE-----"])
def test_a_command_that_does_not_sign(estate: Estate, answer: str) -> None:
    """One line of error, and the host serves what it served."""
    [host] = estate.esxi(version="8.0.2")
    before = host.host.served.leaf
    sign = estate.folder / "sign"
    sign.write_text(f"#!/bin/sh\n{answer}\n")
    sign.chmod(0o755)
    done = estate.push("--csr", "--sign", str(sign), "--vcenter", VC, NAMES[0])
    assert done.code in {1, 10}, done
    assert done.err.count("esxi_instcert: error:") == 1
    assert host.host.served.leaf == before


def test_a_command_that_signs_another_key(estate: Estate) -> None:
    """A certificate with the right name for a key that is not the host's does not reach the host."""
    [host] = estate.esxi(version="8.0.2")
    other = estate.ca.issue([NAMES[0]], key_type="rsa")
    (estate.folder / "other.pem").write_bytes(other.cert_pem)
    done = estate.push("--csr", "--sign", f"/bin/cat {estate.folder}/other.pem", "--vcenter", VC, NAMES[0])
    assert done.code == 10, done
    assert "is not for the request" in done.err
    assert "certificate" not in host.host.changes
    assert "InstallServerCertificate" not in estate.vc.soap.calls


def test_new_roots_reach_all_hosts(estate: Estate) -> None:
    """``vcenter_instcert --refresh-ca``: nine hosts trust the new root, the one that is down is told; then once more.

    The machine certificate is replaced once.
    """
    ten = estate.esxi(10)
    ten[7].host.answers = False
    new = estate.ca.issue([VC], key_type="rsa")
    (estate.folder / f"{VC}.crt").write_bytes(new.fullchain_pem)
    (estate.folder / f"{VC}.key").touch(mode=0o600)
    (estate.folder / f"{VC}.key").write_bytes(new.key_pem)
    words = ["-b", "-c", VC, "-C", str(estate.folder), "-K", str(estate.folder), "--refresh-ca"]
    done = call(instcert.main, estate.common(*words))
    assert done.code == 0, done
    assert [estate.ca.certificate in host.host.trusted for host in ten] == [n != 7 for n in range(10)]
    assert f"warning: {VC}: {NAMES[7]} did not get the roots" in done.err
    assert done.out.count("trusts the roots") == 9
    assert estate.vc.machine.leaf == new.certificate
    ten[7].host.answers = True
    again = call(instcert.main, estate.common(*words))
    assert again.code == 0, again
    assert estate.ca.certificate in ten[7].host.trusted
    assert estate.vc.changes == ["root", "tls"]
    last = call(instcert.main, estate.common(*words))
    assert "nothing to do" in last.out, last
    assert estate.vc.sessions.open == {}
