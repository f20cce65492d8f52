"""Certificates that many unit tests share; making RSA keys costs most of the time, so each is made once."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import pytest

from tests.lab.ca import CA, Issued

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(autouse=True)
def logger() -> Iterator[None]:
    """Give every test the logger as it is before a command has started its log."""
    logger = logging.getLogger("certhooks")
    before = logger.level, logger.propagate, list(logger.handlers)
    yield
    logger.setLevel(before[0])
    logger.propagate, logger.handlers[:] = before[1:]


@pytest.fixture(scope="session")
def root() -> CA:
    """Make a root authority."""
    return CA("Unit Root")


@pytest.fixture(scope="session")
def upper(root: CA) -> CA:
    """Make an authority below the root."""
    return root.intermediate("Unit Upper")


@pytest.fixture(scope="session")
def lower(upper: CA) -> CA:
    """Make the authority that issues, two below the root."""
    return upper.intermediate("Unit Lower")


@pytest.fixture(scope="session")
def rsa_leaf(lower: CA) -> Issued:
    """Issue a leaf with an RSA key, for two names and an address."""
    return lower.issue(["a.example.com", "*.b.example.com", "192.0.2.7", "2001:db8::7"], key_type="rsa")


@pytest.fixture(scope="session")
def ec_leaf(lower: CA) -> Issued:
    """Issue a leaf with a P-256 key."""
    return lower.issue("ec.example.com")
