"""``esxi_instcert`` and ``--refresh-ca``: hosts by themselves and through their vCenter, on names and port 443."""

from __future__ import annotations

import json
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest

from certhooks import deploy
from certhooks import target as core
from certhooks_vcenter import esxi, esxi_instcert, hosts, instcert, settle
from tests.lab import signer
from tests.lab.ca import CA
from tests.lab.machine import machine_of_its_own
from tests.lab.site import Done, call
from tests.lab.vsphere import Esxi, VCenter

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from cryptography import x509

NAMES = [f"esx{number:02}.example.test" for number in range(1, 11)]
VC = "vc01.example.test"
pytestmark = [
    machine_of_its_own(f"127.0.0.2 {VC}", *(f"127.0.0.{21 + number} {name}" for number, name in enumerate(NAMES))),
    # pyvmomi leaves the sockets of connections that a host cut, or that had no login, to the garbage collector.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
USER, PASSWORD = "certhooks@vsphere.local", "s3cret <&> ä"


class Scene:
    """A vCenter with hosts, and the administrator's files."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.folder, self.stack = folder, stack
        self.ca = CA("Site CA")
        self.vc: VCenter = stack.enter_context(VCenter(VC, address="127.0.0.2", port=443, version="8.0.3"))
        self.vc.add_user(USER, PASSWORD)
        self.hosts: list[Esxi] = []
        self.vmwrc = folder / "vmwrc"
        self.vmwrc.touch(mode=0o600)
        self.vmwrc.write_text(f"username={USER}\npassword={PASSWORD}\n")
        (folder / "vmca.pem").write_bytes(self.vc.ca_pem)
        (folder / "roots.pem").write_bytes(self.ca.pem)

    def esxi(self, count: int = 1, version: str = "8.0.3") -> list[Esxi]:
        """Start hosts that vCenter manages and that know our user too."""
        for _ in range(count):
            number = len(self.hosts)
            host = Esxi(NAMES[number], address=f"127.0.0.{21 + number}", port=443, version=version)
            host.sessions.users = self.vc.sessions.users
            self.vc.add_host(host.host)
            self.hosts.append(self.stack.enter_context(host))
        return self.hosts[-count:]

    def common(self, *words: str) -> list[str]:
        """Return the words with this scene's files before them."""
        return [
            *("-a", str(self.vmwrc), "--cafile", str(self.folder / "vmca.pem")),
            *("--rootfile", str(self.folder / "roots.pem"), "--state-dir", str(self.folder / "state")),
            *("--log-file", str(self.folder / "log"), "--timeout", "30"),
            *words,
        ]

    def push(self, *words: str) -> Done:
        """Run esxi_instcert in this process."""
        return call(esxi_instcert.main, self.common(*words))

    def pair(self, *names: str, **settings: Any) -> list[str]:
        """Issue a certificate with its key, and return the words that name it."""
        self.new = self.ca.issue([*names], **{"key_type": "rsa", **settings})
        (self.folder / f"{names[0]}.crt").write_bytes(self.new.fullchain_pem)
        key = self.folder / f"{names[0]}.key"
        key.touch(mode=0o600)
        key.write_bytes(self.new.key_pem)
        return ["-b", "-c", names[0], "-C", str(self.folder), "-K", str(self.folder)]

    def csr(self) -> list[str]:
        """Return the words that have requests signed by a command with the site's CA."""
        return ["--csr", "--sign", str(signer.command(self.folder, self.ca))]


@pytest.fixture
def scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Scene]:
    """Provide a vCenter without hosts; waits are short, an emulator is quick."""
    monkeypatch.setattr(esxi, "_CONNECTED", 2.0)
    monkeypatch.setattr(hosts, "_PUSHED", 2.0)
    monkeypatch.setattr(core, "_SERVED_WITHIN", 2.0)
    monkeypatch.setattr(settle, "_FIRST", 0.02)
    monkeypatch.setattr(deploy, "_PAUSES", (0.02, 0.05, 0.1))
    with ExitStack() as stack:
        yield Scene(tmp_path, stack)


def signed_by_site(scene: Scene, host: Esxi) -> bool:
    """Tell whether a host serves what the site's CA has signed."""
    leaf: x509.Certificate = host.host.served.leaf
    return leaf.issuer == scene.ca.certificate.subject


def test_a_key_is_brought_to_a_modern_host(scene: Scene) -> None:
    """8.0U3 through vCenter: root to vCenter and host first, key, certificate, notice; served and connected in the end.

    The notice cuts the connection. A second run sends nothing, and no session is left.
    """
    [host] = scene.esxi()
    words = [*scene.pair(NAMES[0]), "--vcenter", VC, NAMES[0]]
    done = scene.push(*words)
    assert done.code == 0, done
    assert host.host.served.leaf == scene.new.certificate
    assert host.host.changes == ["cas", "key", "certificate", "notify"]
    assert host.host.connection_state() == "connected"
    assert scene.vc.changes == ["root"]
    again = scene.push(*words)
    assert again.code == 0, again
    assert "nothing to do" in again.out
    assert host.host.changes == ["cas", "key", "certificate", "notify"]
    assert scene.vc.sessions.open == {}
    assert scene.vc.sessions.failed == 0


def test_an_older_host_makes_key_and_request(scene: Scene) -> None:
    """8.0U2 through vCenter: its own request, signed by a command; the key never leaves it; left alone afterwards."""
    [host] = scene.esxi(version="8.0.2")
    words = [*scene.csr(), "--vcenter", VC, NAMES[0]]
    done = scene.push(*words)
    assert done.code == 0, done
    assert signed_by_site(scene, host)
    assert host.host.changes == ["cas", "certificate"]
    assert host.host.connection_state() == "connected"
    again = scene.push(*words)
    assert "nothing to do" in again.out, again
    assert host.host.changes == ["cas", "certificate"]
    due = scene.push(*words, "--renew", "89")
    assert "nothing to do" in due.out, due
    due = scene.push(*words, "--renew", "91")
    assert due.code == 0, due
    assert host.host.changes == ["cas", "certificate", "certificate"]


def test_a_signed_request_is_known_to_journal_pin_and_probe(scene: Scene) -> None:
    """What was signed is told by its fingerprint: a pin given once stays good, and --probe knows what to look for."""
    [host] = scene.esxi(version="8.0.2")
    pin = f"sha256:{fingerprint_of(host)}"
    trusted = ("--cafile", str(scene.folder / "vmca.pem"))
    words = [word for word in scene.common(*scene.csr(), NAMES[0]) if word not in trusted]
    done = call(esxi_instcert.main, [*words, "--pin", pin, "--probe", NAMES[0]])
    assert done.code == 0, done
    assert f"served by {NAMES[0]}" in done.out
    [journal] = (scene.folder / "state").glob("*.json")
    assert json.loads(journal.read_text())["attempts"][-1]["fingerprint"] == fingerprint_of(host)
    again = call(esxi_instcert.main, [*words, "--pin", pin, "--probe", NAMES[0]])
    assert again.code == 0, again
    assert "nothing to do" in again.out
    assert host.host.changes == ["cas", "certificate"]


def fingerprint_of(host: Esxi) -> str:
    """Return the fingerprint of what a host serves."""
    return settle.sha256(host.host.served.leaf)


def test_a_modern_host_can_have_its_request_signed_too(scene: Scene) -> None:
    """--csr with 8.0U3 notifies the services, since they do not take the certificate up by themselves."""
    [host] = scene.esxi()
    done = scene.push(*scene.csr(), "--vcenter", VC, NAMES[0])
    assert done.code == 0, done
    assert host.host.changes == ["cas", "certificate", "notify"]
    assert signed_by_site(scene, host)


def test_a_host_by_itself(scene: Scene) -> None:
    """Without vCenter: the root is put beside what the host trusts, and nobody asks vCenter anything."""
    [host] = scene.esxi()
    before = list(host.host.trusted)
    done = scene.push(*scene.pair(NAMES[0]), NAMES[0])
    assert done.code == 0, done
    assert host.host.served.leaf == scene.new.certificate
    assert host.host.trusted == [*before, scene.ca.certificate]
    assert host.sessions.open == {}
    assert not scene.vc.requests


def test_ten_hosts_one_of_them_down(scene: Scene) -> None:
    """Nine are done through vCenter, the tenth is told as unreachable with exit code 4; a result each."""
    ten = scene.esxi(10)
    ten[3].stop()
    done = scene.push(*scene.pair(*NAMES), "--vcenter", VC, "--json", *NAMES)
    assert done.code == 4, done
    results = [json.loads(line) for line in done.out.splitlines()]
    assert [result["exit_code"] for result in results] == [4 if n == 3 else 0 for n in range(10)], done
    for number, host in enumerate(ten):
        assert (host.host.served.leaf == scene.new.certificate) is (number != 3)
    assert scene.vc.changes == ["root"]
    assert scene.vc.sessions.open == {}


@pytest.mark.parametrize(
    ("version", "mode", "text"), [("8.0.2", "custom", "takes no key"), ("8.0.3", "vmca", "vpxd.certmgmt.mode")]
)
def test_what_cannot_last_is_refused(scene: Scene, version: str, mode: str, text: str) -> None:
    """An old host takes no key, and in mode vmca vCenter would replace it: refused, and nothing has changed."""
    [host] = scene.esxi(version=version)
    scene.vc.soap.mode = mode
    before = host.host.served.leaf
    done = scene.push(*scene.pair(NAMES[0]), "--vcenter", VC, NAMES[0])
    assert done.code == 1, done
    assert text in done.err
    assert host.host.served.leaf == before
    assert host.host.changes == scene.vc.changes == []
    if mode == "vmca":
        forced = scene.push(*scene.pair(NAMES[0]), "--vcenter", VC, "--force", NAMES[0])
        assert forced.code == 0, forced
        assert "warning:" in forced.err


def test_a_host_that_vcenter_does_not_trust_is_no_success(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """It serves the new certificate and is disconnected in vCenter: exit code 14."""
    [host] = scene.esxi()
    monkeypatch.setattr(host.host, "connection_state", lambda: "disconnected")
    done = scene.push(*scene.pair(NAMES[0]), "--vcenter", VC, NAMES[0])
    assert done.code == 14, done
    assert "is disconnected in" in done.err


def test_a_wrong_password_is_tried_once(scene: Scene) -> None:
    """Pyvmomi does not repeat it, and no other host is asked with it."""
    scene.esxi(3)
    scene.vmwrc.write_text(f"username={USER}\npassword=wrong\n")
    done = scene.push(*scene.pair(*NAMES[:3]), *NAMES[:3])
    assert done.code == 5, done
    assert sum(host.sessions.failed for host in scene.hosts) == 1
    assert "wrong" not in done.err


def test_an_untrusted_host_gets_no_password(scene: Scene) -> None:
    """Without its CA nothing is sent; pyvmomi is given a context that verifies."""
    [host] = scene.esxi()
    (scene.folder / "vmca.pem").write_bytes(CA("Another").pem)
    done = scene.push(*scene.pair(NAMES[0]), NAMES[0])
    assert done.code == 4, done
    assert host.soap.calls == []


def test_a_pinned_host(scene: Scene) -> None:
    """--pin trusts what the host serves, for pyvmomi too; another pin is refused."""
    [host] = scene.esxi()
    pair = scene.pair(NAMES[0])
    words = [word for word in scene.common(*pair, NAMES[0]) if word not in {"--cafile", str(scene.folder / "vmca.pem")}]
    refused = call(esxi_instcert.main, [*words, "--pin", f"sha256:{'0' * 64}"])
    assert refused.code == 4, refused
    assert host.soap.calls == []
    pin = fingerprint_of(host)
    done = call(esxi_instcert.main, [*words, "--pin", f"sha256:{pin}"])
    assert done.code == 0, done


@pytest.mark.parametrize("answer", ["exit 3", "echo nonsense", "true", "echo -----BEGIN CERTIFICATE-----"])
def test_a_command_that_does_not_sign(scene: Scene, answer: str) -> None:
    """One line of error, and the host serves what it served."""
    [host] = scene.esxi(version="8.0.2")
    before = host.host.served.leaf
    sign = scene.folder / "sign"
    sign.write_text(f"#!/bin/sh\n{answer}\n")
    sign.chmod(0o755)
    done = scene.push("--csr", "--sign", str(sign), "--vcenter", VC, NAMES[0])
    assert done.code in {1, 10}, done
    assert done.err.count("esxi_instcert: error:") == 1
    assert host.host.served.leaf == before


def test_a_command_that_signs_another_key(scene: Scene) -> None:
    """A certificate with the right name for a key that is not the host's does not reach the host."""
    [host] = scene.esxi(version="8.0.2")
    other = scene.ca.issue([NAMES[0]], key_type="rsa")
    (scene.folder / "other.pem").write_bytes(other.cert_pem)
    done = scene.push("--csr", "--sign", f"/bin/cat {scene.folder}/other.pem", "--vcenter", VC, NAMES[0])
    assert done.code == 10, done
    assert "is not for the request" in done.err
    assert "certificate" not in host.host.changes
    assert "InstallServerCertificate" not in scene.vc.soap.calls


def test_new_roots_reach_all_hosts(scene: Scene) -> None:
    """``vcenter_instcert --refresh-ca``: nine hosts trust the new root, the one that is down is told; then once more.

    The machine certificate is replaced once.
    """
    ten = scene.esxi(10)
    ten[7].host.answers = False
    new = scene.ca.issue([VC], key_type="rsa")
    (scene.folder / f"{VC}.crt").write_bytes(new.fullchain_pem)
    (scene.folder / f"{VC}.key").touch(mode=0o600)
    (scene.folder / f"{VC}.key").write_bytes(new.key_pem)
    words = ["-b", "-c", VC, "-C", str(scene.folder), "-K", str(scene.folder), "--refresh-ca"]
    done = call(instcert.main, scene.common(*words))
    assert done.code == 0, done
    assert [scene.ca.certificate in host.host.trusted for host in ten] == [n != 7 for n in range(10)]
    assert f"warning: {VC}: {NAMES[7]} did not get the roots" in done.err
    assert done.out.count("trusts the roots") == 9
    assert scene.vc.machine.leaf == new.certificate
    ten[7].host.answers = True
    again = call(instcert.main, scene.common(*words))
    assert again.code == 0, again
    assert scene.ca.certificate in ten[7].host.trusted
    assert scene.vc.changes == ["root", "tls"]
    last = call(instcert.main, scene.common(*words))
    assert "nothing to do" in last.out, last
    assert scene.vc.sessions.open == {}
