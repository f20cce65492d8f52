"""The daemons and hosts that the system tests run against."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.lab.enrolled import EnrolledSite
from tests.lab.fixtures import certmonger_lab, system_bus_certmonger

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.lab.certmonger import CertmongerLab

__all__ = ["certmonger_lab", "enrolled", "system_bus_certmonger"]


@pytest.fixture
def enrolled(tmp_path: Path, certmonger_lab: CertmongerLab) -> Iterator[EnrolledSite]:
    """Provide a host whose certmonger is real and whose bus is private."""
    with EnrolledSite(tmp_path, certmonger_lab) as site:
        yield site
