"""Certificates that many unit tests share; making RSA keys costs most of the time, so each is made once."""

from __future__ import annotations

import pytest

from tests.lab.ca import CA, Issued


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
