"""Names and values are checked, and made what the CA will ask for, before anything is sent."""

from __future__ import annotations

import sys

import pytest

if sys.version_info < (3, 10):
    pytest.skip("the DNS hooks need Python 3.10", allow_module_level=True)

from certhooks.errors import BadNameError
from certhooks_freeipa_dns import names

LONGEST = ".".join(["a" * 49] * 5)  # 249 characters: with the prefix too many


@pytest.mark.parametrize(
    ("domain", "wanted"),
    [
        ("www.example.com", "_acme-challenge.www.example.com"),
        ("*.example.com", "_acme-challenge.example.com"),
        ("WWW.Example.COM.", "_acme-challenge.www.example.com"),
        ("bücher.example", "_acme-challenge.xn--bcher-kva.example"),
        ("BÜCHER.example.", "_acme-challenge.xn--bcher-kva.example"),
        ("_sip.example.com", "_acme-challenge._sip.example.com"),
    ],
)
def test_challenge(domain: str, wanted: str) -> None:
    """The prefix before the name in lower case and A-labels, a wildcard's without the asterisk."""
    assert names.challenge(domain) == wanted


@pytest.mark.parametrize(
    "domain",
    ["", ".", "..", "com", "*.", "*", "a..b", ".a.b", "a.b..", "-a.b", "a-.b", "a b.c", "a.b\n", "a.b\0", "a/b.c",
     "*.*.b.c", "x" * 64 + ".b", LONGEST, "\udc80.b", "a.b;c", "a.b\\032", '"a".b', "\u2024.b", "ﬀ\u200d.b"],
)  # fmt: skip
def test_what_is_no_domain(domain: str) -> None:
    """It is refused in one printable line of bounded length."""
    with pytest.raises(BadNameError) as refused:
        names.challenge(domain)
    assert str(refused.value).isprintable()
    assert len(str(refused.value)) < 400


def test_record_takes_both_forms() -> None:
    """People type a domain or the record's name."""
    assert names.record("www.example.com") == names.record("_ACME-challenge.www.example.com.")


@pytest.mark.parametrize("value", ["a", "-_9", "x" * 255, "LPsIwTo7o8BoG0-vjCyGQGBWSVIPxI-i_X336eUOQZo", "a+/=."])
def test_value(value: str) -> None:
    """What needs no quoting in a zone file passes unchanged."""
    assert names.value(value) == value


@pytest.mark.parametrize("value", ["", "x" * 256, "a b", 'a"', "a;b", "a,b", "a\\b", "a\n", "ü", "a\0", "(a)", "'a'"])
def test_what_is_no_value(value: str) -> None:
    """What a zone file would read otherwise is refused."""
    with pytest.raises(BadNameError):
        names.value(value)


def test_digest_is_that_of_the_standard() -> None:
    """Base64url of SHA-256 without padding; compared with what OpenSSL gives."""
    assert names.digest("-token.thumb") == "EK9NmDhiBQuVWjkdsOfHghuBsWtYKDzY6kAmvxfavCE"


def test_zones_are_compared_by_labels() -> None:
    """A name is not in a zone that only ends alike."""
    assert names.within("a.example.com", "example.com")
    assert names.within("example.com", "example.com")
    assert not names.within("aexample.com", "example.com")
    assert names.relative("a.b.example.com", "example.com") == "a.b"
    assert names.relative("example.com", "example.com") == "@"
    assert names.suffixes("a.b.c") == ["a.b.c", "b.c", "c"]
