"""A request that somebody else made, signed by the helper of one of certmonger's CAs: the real certmonger knows it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization

from certhooks import certificate as certs
from certhooks import signing
from certhooks.certmonger import Certmonger
from certhooks.deadline import Deadline
from certhooks.errors import CertmongerError, DeadlineError
from tests.lab.ca import make_key

if TYPE_CHECKING:
    from tests.lab.certmonger import CertmongerLab

NAME = "esx01.example.test"
SUBJECT = signing.Subject(NAME, f"HTTP/{NAME}@EXAMPLE.TEST", "hostProfile")


def request() -> str:
    """Return a request in PEM."""
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, NAME)])
    builder = x509.CertificateSigningRequestBuilder().subject_name(name)
    builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(NAME)]), critical=False)
    signed = builder.sign(make_key("rsa"), hashes.SHA256())
    return signed.public_bytes(serialization.Encoding.PEM).decode()


def sign(csr: str, ca: str = "IPA", seconds: float = 30) -> list[x509.Certificate]:
    """Have it signed, and return the certificates."""
    with Certmonger.open() as certmonger:
        return certs.read(signing.by_ca(certmonger, ca, csr, SUBJECT, Deadline(seconds)), "answer")


def test_the_helper_of_the_ca_signs(certmonger_lab: CertmongerLab) -> None:
    """Leaf and intermediates come back; the helper was told what certmonger tells it, and certmonger tracks nothing."""
    csr = request()
    leaf, *chain = sign(csr)
    assert certs.dns_names(leaf) == (NAME,)
    assert chain
    asked = x509.load_pem_x509_csr(csr.encode()).public_key()
    assert leaf.public_key() == asked
    [told] = certmonger_lab.ca.calls()
    assert told["CERTMONGER_REQ_PRINCIPAL"] == SUBJECT.principal
    assert told["CERTMONGER_CA_PROFILE"] == "hostProfile"
    with Certmonger.open() as certmonger:
        assert certmonger.requests() == []


@pytest.mark.parametrize(("ca", "text"), [("NOBODY", "does not know a CA"), ("SelfSign", "has no helper")])
def test_cas_that_cannot_be_asked(certmonger_lab: CertmongerLab, ca: str, text: str) -> None:
    """A CA that is not known, or that is certmonger itself, is told as such."""
    assert certmonger_lab
    with pytest.raises(CertmongerError, match=text):
        sign(request(), ca)


def test_a_ca_that_refuses(certmonger_lab: CertmongerLab) -> None:
    """The CA's own words, and what to do about them."""
    certmonger_lab.ca.answer("reject", text="2100 (Insufficient access: not allowed to perform operation)")
    with pytest.raises(CertmongerError, match=r"refused the request: .*Insufficient access"):
        sign(request())


def test_a_ca_that_takes_its_time(certmonger_lab: CertmongerLab) -> None:
    """A helper that says "wait" is polled with its cookie until it answers, in PEM or JSON."""
    certmonger_lab.ca.answer(format="pem")
    certmonger_lab.ca.answer_next("wait", seconds=1)
    leaf, *_ = sign(request())
    assert certs.dns_names(leaf) == (NAME,)
    first, second = certmonger_lab.ca.calls()
    assert (first["CERTMONGER_OPERATION"], second["CERTMONGER_OPERATION"]) == ("SUBMIT", "POLL")
    assert second["CERTMONGER_CA_COOKIE"] == "cookie"


def test_a_ca_that_never_answers(certmonger_lab: CertmongerLab) -> None:
    """A helper that says "wait" is asked again until the time is over."""
    certmonger_lab.ca.answer("wait", seconds=1)
    with pytest.raises(DeadlineError, match=r"IPA did not end within 2 s"):
        sign(request(), seconds=2)
    assert len(certmonger_lab.ca.calls()) > 1
