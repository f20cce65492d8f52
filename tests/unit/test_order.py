"""A certificate that is signed on the way: checked when it is there, and known to the journal from then on."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

import pytest

from certhooks import certificate
from certhooks.deadline import Deadline
from certhooks.deploy import Deployment, Options, Result
from certhooks.errors import ActivationError, BundleError, ConnectionLostError
from certhooks.journal import DONE, UNCHANGED, UNDONE, Journal
from certhooks.order import Order
from certhooks.target import AnyTarget, Inspection, Undone
from tests.lab.ca import CA
from tests.lab.vsphere import Host

if TYPE_CHECKING:
    from pathlib import Path

    from cryptography.x509 import Certificate

    from certhooks.address import Address

NAME = "esx01.example.test"
ROOT = CA("Root")
MIDDLE = ROOT.intermediate("Middle")


def request(name: str = NAME) -> str:
    """Return a request as a device makes it."""
    return Host(name, "8.0.2", ROOT, [name]).csr()


def signer(ca: CA = ROOT, **settings: Any) -> Any:
    """Return what signs by a CA, and sends along what stands between."""
    return lambda csr, *_: ca.sign(csr.encode(), **settings) + (ca.pem if ca.parent else b"")


def order(sign: Any = None, renew: int = 28) -> Order:
    """Return an order that the root signs unless told."""
    return Order([ROOT.certificate], sign or signer(), timedelta(days=renew))


def test_an_order_is_empty_until_it_is_signed() -> None:
    """Then it has what a bundle has; the chain goes along, the root does not, and another device's is still empty."""
    made = order(signer(MIDDLE))
    assert (made.fingerprint, made.leaf_pem, made.chain_pem, made.describe(), made.signed) == ("", "", "", {}, False)
    made.have_signed(request(), NAME, Deadline(5))
    assert made.signed
    assert made.leaf_pem.count("BEGIN") == made.chain_pem.count("BEGIN") == 1
    assert made.chain == (MIDDLE.certificate,)
    assert made.describe()["fingerprint"] == made.fingerprint
    assert made.roots_pem == (ROOT.pem.decode(),)
    assert made.fresh().fingerprint == ""


@pytest.mark.parametrize(
    ("sign", "text"),
    [
        (lambda *_: ROOT.issue(NAME, key_type="rsa").cert_pem, "not for the request"),
        (lambda *_: b"", "not for the request"),
        (signer(CA("Somebody")), "leads to no known root"),
        (signer(MIDDLE, days=1 / 48), "expired"),
        (lambda csr, *_: CA("Root").sign(csr.encode()), "leads to no known root"),
        (lambda csr, *_: signer(other := CA("Other"))(csr) + other.pem, "leads to no known root"),
    ],
    ids=["another-key", "nothing", "another-ca", "expired", "a-ca-of-the-same-name", "a-root-sent-along"],
)
def test_what_must_not_reach_a_device(sign: Any, text: str) -> None:
    """Another key, no certificate, an unknown root (even one that comes along), a date: refused; the order is empty."""
    made = order(sign)
    with pytest.raises(BundleError, match=text):
        made.have_signed(request(), NAME, Deadline(5))
    assert (made.fingerprint, made.signed) == ("", False)


def test_a_certificate_for_another_name_is_refused() -> None:
    """A CA that signs what is asked must be asked for this device."""
    with pytest.raises(BundleError, match="names that are not its own: other"):
        order().have_signed(request("other.example.test"), NAME, Deadline(5))


def ago(days: int) -> datetime:
    """Return a moment in the past."""
    return datetime.now(timezone.utc) - timedelta(days=days)


@pytest.mark.parametrize(
    ("served", "met"),
    [
        (ROOT.issue(NAME, days=29), True),
        (ROOT.issue(NAME, days=90, not_before=ago(63)), False),
        (ROOT.issue(NAME, days=9, not_before=ago(5)), True),
        (ROOT.issue(NAME, days=9, not_before=ago(7)), False),
        (ROOT.issue("other.example.test"), False),
        (CA("Root").issue(NAME), False),
    ],
    ids=["good", "soon-over", "short-lived", "short-lived-and-soon-over", "another-name", "another-root"],
)
def test_what_is_left_alone(served: Any, *, met: bool) -> None:
    """Only what leads to the root, has the name and lasts; then it is what the journal tells of."""
    made = order()
    assert made.is_met_by(served.certificate, NAME) is met
    assert made.fingerprint == (served.sha256 if met else "")
    assert not made.signed


class Device(AnyTarget["Order"]):
    """Makes its own key; ``fails`` is raised by activate."""

    def __init__(self, name: str, served: Certificate) -> None:
        self.name = self.device = self.label = name
        self.served = served
        self.fails: list[Exception] = []
        self.requests = 0

    def inspect(self, bundle: Order) -> Inspection:
        return Inspection(changes=() if bundle.is_met_by(self.served, self.name) else ("replace",))

    def install(self, bundle: Order) -> None:
        if not bundle.signed:
            self.requests += 1
            bundle.have_signed(request(self.name), self.name, Deadline(5))

    def activate(self, bundle: Order) -> None:
        if self.fails:
            raise self.fails.pop()
        [self.served] = certificate.read(bundle.leaf_pem.encode(), "the device")

    def verify(self, bundle: Order, endpoints: tuple[Address, ...]) -> None:
        assert bundle.is_met_by(self.served, self.name)
        assert not endpoints

    def rollback(self) -> Undone:
        return Undone.CLEAN


def push(folder: Path, given: Order, *devices: Device, **options: Any) -> list[Result]:
    """Have an order deployed."""
    return Deployment(given, Journal(folder / "state"), Options(**options)).run(devices)


def test_each_device_gets_its_own(tmp_path: Path) -> None:
    """Two devices, two certificates, and the journal of each knows its own; a second run signs nothing."""
    old = CA("Factory").issue(NAME).certificate
    devices = [Device("a.example.test", old), Device("b.example.test", old)]
    given = order()
    assert [each.outcome for each in push(tmp_path, given, *devices)] == [DONE, DONE]
    assert given.fingerprint == ""
    books = Journal(tmp_path / "state")
    for device in devices:
        last = books.record(device.name).last
        assert last is not None
        assert last.fingerprint == fingerprint(device.served)
        assert datetime.fromisoformat(last.not_after) > datetime.now(timezone.utc)
        assert last.subject == f"CN={device.name}"
    assert len({fingerprint(device.served) for device in devices}) == 2
    assert [each.outcome for each in push(tmp_path, given, *devices)] == [UNCHANGED, UNCHANGED]
    assert [device.requests for device in devices] == [1, 1]
    last = books.record(devices[0].name).last
    assert last is not None
    assert last.fingerprint == fingerprint(devices[0].served)


def test_force_has_it_signed_again(tmp_path: Path) -> None:
    """What the device has would do, and is replaced all the same."""
    device = Device(NAME, ROOT.issue(NAME).certificate)
    [result] = push(tmp_path, order(), device, force=True)
    assert (result.outcome, device.requests) == (DONE, 1)


def test_a_broken_connection_signs_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was signed is installed again, not signed again; a refusal is told with its fingerprint."""
    from certhooks import deploy

    monkeypatch.setattr(deploy, "_PAUSES_IN_USE", (0.0,))
    device = Device(NAME, CA("Factory").issue(NAME).certificate)
    device.fails = [ConnectionLostError("cut")]
    [result] = push(tmp_path, order(), device)
    assert (result.outcome, device.requests) == (DONE, 1)
    device.served = CA("Factory").issue(NAME).certificate
    device.fails = [ActivationError("no")]
    [result] = push(tmp_path, order(), device)
    assert result.outcome == UNDONE
    last = Journal(tmp_path / "state").record(NAME).last
    assert last is not None
    assert len(last.fingerprint) == 64
    assert last.fingerprint != fingerprint(device.served)


def fingerprint(leaf: Certificate) -> str:
    """Return what the journal calls a certificate by."""
    return str(certificate.describe(leaf, ())["fingerprint"])
