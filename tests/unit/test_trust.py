"""Whom a connection trusts: the files that are named first, the system's roots when those do not suffice."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from certhooks.address import Address
from certhooks.errors import UnreachableError
from certhooks.http import Connection
from certhooks.trust import Context, Trust
from tests.lab.ca import CA
from tests.lab.panos import Firewall

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

DEVICES, OTHERS = CA("devices"), CA("others")


@pytest.fixture
def device() -> Iterator[Address]:
    """Return a firewall whose certificate is from the CA DEVICES."""
    with Firewall("localhost", ca=DEVICES) as firewall:
        yield Address("localhost", firewall.port)


def connect(device: Address, folder: Path, monkeypatch: pytest.MonkeyPatch, *, cafile: CA, system: CA) -> Context:
    """Make a request with a CA file and with other roots as the system's; return the context of the connection."""
    for name, ca in (("cafile", cafile), ("system", system)):
        (folder / name).write_bytes(ca.root_pem)
    monkeypatch.setenv("SSL_CERT_FILE", str(folder / "system"))
    context = Trust(folder / "cafile").contexts()(device)
    connection = Connection(device, context)
    try:
        assert connection.request("POST", "/api/", headers={}).status == 403  # without a key: it came to an answer
    finally:
        connection.close()
    assert isinstance(context, Context)
    return context


def test_the_system_s_roots_are_trusted_beside_the_ca_file(
    device: Address, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A device with a certificate from one of the system's roots is trusted though --cafile names another CA."""
    assert connect(device, tmp_path, monkeypatch, cafile=OTHERS, system=DEVICES).wide


def test_the_system_s_roots_are_not_read_where_the_ca_file_suffices(
    device: Address, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A push whose --cafile suffices does not pay for reading the system's roots."""
    context = connect(device, tmp_path, monkeypatch, cafile=DEVICES, system=OTHERS)
    assert not context.wide
    assert len(context.get_ca_certs()) == 1


def test_a_device_that_neither_vouches_for_is_refused(
    device: Address, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A certificate from a CA in none of the places ends in an error that names --cafile."""
    with pytest.raises(UnreachableError, match="is not trusted") as caught:
        connect(device, tmp_path, monkeypatch, cafile=OTHERS, system=OTHERS)
    assert "--cafile" in str(caught.value.hint)


def test_without_any_file_the_system_s_roots_decide(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, device: Address
) -> None:
    """Where no CA file is named the system's roots are read at once."""
    monkeypatch.setattr("certhooks.trust.IPA_CA", tmp_path / "none")
    context = Trust().contexts()(device)
    assert isinstance(context, Context)
    assert context.wide
