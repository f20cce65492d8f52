"""Names: what PAN-OS takes, and nothing that could leave the quotes of an XPath."""

from __future__ import annotations

import pytest

from certhooks.errors import BadNameError
from certhooks_pan import names


@pytest.mark.parametrize("name", ["a", "0", "gp.example.com", "gp_2026", "A-b_c.d", "x" * 63])
def test_certificate_names_that_are_taken(name: str) -> None:
    """Letters, digits, dots, hyphens and underscores, the first a letter or digit, up to the limit."""
    assert names.certificate(name) == name


@pytest.mark.parametrize(
    "name",
    [
        "",
        " ",
        "*.example.com",
        "_x",
        ".x",
        "-x",
        "a b",
        "a'b",
        'a"b',
        "a&b",
        "a<b",
        "a/b",
        "ä",
        "a\n",
        "a\x00",
        "٣",
        "x]",
    ],
)
def test_certificate_names_that_are_refused(name: str) -> None:
    """A name that the device refuses, or that would leave the quotes of an XPath, is a BadNameError with a hint."""
    with pytest.raises(BadNameError) as caught:
        names.certificate(name)
    assert caught.value.hint
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("limit", [names.FIREWALL, names.PANORAMA])
def test_the_limit_is_exact(limit: int) -> None:
    """As many characters as allowed pass, one more does not, and the message says how many there are."""
    assert names.certificate("x" * limit, limit)
    with pytest.raises(BadNameError, match=f"has {limit + 1} characters, {limit} are allowed"):
        names.certificate("x" * (limit + 1), limit)


@pytest.mark.parametrize("name", ["GP_PORTAL", "GP Portal v1.2", "_x", "a.b-c d"])
def test_other_objects_may_have_blanks(name: str) -> None:
    """Profiles, templates, stacks and virtual systems take blanks and dots inside."""
    assert names.thing(name, "profile") == name


@pytest.mark.parametrize("name", ["", " x", "x ", "a'b", 'a"b', "a]b", "a/b", "a&b", "a\tb", "x\n", "x" * 64])
def test_other_objects_never_leave_their_quotes(name: str) -> None:
    """What could end the quotes of an XPath, or begin or end with a blank, is refused and shown without harm."""
    with pytest.raises(BadNameError, match="profile"):
        names.thing(name, "profile")


def test_a_very_long_name_is_shown_in_part() -> None:
    """An error line stays a line, whatever was typed."""
    with pytest.raises(BadNameError) as caught:
        names.certificate("x" * 100_000)
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize(
    "common_name",
    ["ISRG Root X1", "Let's Encrypt R11", "", "...", "--", "日本語", "a" * 200, "*", "O=Example, CN=CA <1> & 'x'"],
)
@pytest.mark.parametrize("limit", [names.FIREWALL, names.PANORAMA])
def test_a_ca_always_gets_a_name_that_is_taken(common_name: str, limit: int) -> None:
    """Any CA can be named within the limit, readable, and with digits of its fingerprint that tell it from others."""
    name = names.ca(common_name, "0123456789abcdef", limit)
    assert names.certificate(name, limit) == name
    assert name.endswith("_01234567")


def test_a_ca_name_is_readable() -> None:
    """An administrator recognizes the CA."""
    assert names.ca("Example Corp. CA #2", "0123456789abcdef", 63) == "Example-Corp.-CA-2_01234567"
