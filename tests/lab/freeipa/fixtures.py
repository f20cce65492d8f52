"""pytest's side of the FreeIPA lab: a file of tests on a machine of its own, with a server there.

    pytestmark = enrolled_machine("10.77.0.30 fw01.ipa.test")

    def test_something(freeipa: FreeIPA, enrolled_host: EnrolledHost) -> None: ...

The server is started once a file (``freeipa``; two of them: ``pair``), or anew for a test
(``fresh_freeipa``).
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from tests.lab.freeipa import build, client, names
from tests.lab.freeipa.client import EnrolledHost
from tests.lab.freeipa.server import FreeIPA, Pair
from tests.lab.machine import machine_of_its_own

if TYPE_CHECKING:
    from collections.abc import Iterator


def enrolled_machine(*hosts: str) -> pytest.MarkDecorator:
    """Return the mark for tests on the machine that is enrolled, with more lines for its ``/etc/hosts``."""
    return machine_of_its_own(*names.HOSTS, *hosts, hostname=names.CLIENT.host)


@pytest.fixture(scope="module")
def freeipa() -> Iterator[FreeIPA]:
    """Run a server, the same one for all tests of a file."""
    _need_build()
    with FreeIPA() as server:
        client.write(server)
        yield server


@pytest.fixture(scope="module")
def pair() -> Iterator[Pair]:
    """Run two servers, each the other's replica, the same ones for all tests of a file."""
    _need_build()
    with Pair() as both:
        client.write(both.server)
        yield both


def _need_build() -> None:
    """Skip where nothing is built; in CI that is a failure."""
    if not build.PAIR.built and not os.environ.get("CI"):
        pytest.skip("not built: python3 -m tests.lab.freeipa build")


@pytest.fixture
def fresh_freeipa(freeipa: FreeIPA) -> FreeIPA:
    """Run the server as it was when it was installed, without what other tests have left in it."""
    freeipa.reset()
    return freeipa


@pytest.fixture
def enrolled_host(freeipa: FreeIPA) -> Iterator[EnrolledHost]:
    """Make this machine the host that is enrolled, with a certmonger that tracks nothing yet."""
    with EnrolledHost(freeipa) as host:
        yield host
