"""Which of FreeIPA's servers is talked to, and how a look at it becomes a change that lasts."""

from __future__ import annotations

import logging
import socket
import sys
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, quote_plus

import pytest

if sys.version_info < (3, 10):
    pytest.skip("the DNS hooks need Python 3.10", allow_module_level=True)

from certhooks import address
from certhooks.deadline import Deadline
from certhooks.errors import CredentialsError, UnreachableError, UsageError
from certhooks.http import Connection
from certhooks.secrets import Secret
from certhooks.trust import Trust
from certhooks_freeipa_dns.backend import Held, Record
from certhooks_freeipa_dns.errors import NoZoneError, RefusedError
from certhooks_freeipa_dns.ipa import Ipa
from certhooks_freeipa_dns.settings import Settings
from tests.lab.ca import CA
from tests.lab.ipa_stub import PASSWORD, USER, Failed, IpaStub

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from certhooks.address import Address

    Client = Callable[..., Ipa]

ZONE, NAME = "example.test", "_acme-challenge.www.example.test"
RECORD = Record(ZONE, NAME, "value")


@pytest.fixture
def closed() -> Iterator[str]:
    """Provide a server that refuses connections."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"localhost:{taken.getsockname()[1]}"


@pytest.fixture
def stubs() -> Iterator[list[IpaStub]]:
    """Start four servers of one FreeIPA."""
    ca = CA("IPA stub CA")
    with ExitStack() as hold:
        yield [hold.enter_context(IpaStub([ZONE], ca=ca)) for _ in range(4)]


@pytest.fixture
def client(stubs: list[IpaStub]) -> Iterator[Client]:
    """Return what makes a backend with these servers set, and these that SRV records name."""
    with ExitStack() as hold:

        def make(servers: str, found: list[Address] | Exception | None = None, preferred: str = "") -> Ipa:
            def discovered(domain: str) -> list[Address]:
                assert domain == "example.test"
                if isinstance(found, Exception):
                    raise found
                return found or []

            made = Settings(server=servers, user=USER, password=Secret(PASSWORD), domain="example.test")
            made.discover = found is not None
            ipa = Ipa(made, Trust(stubs[0].cafile), Deadline(20), preferred=preferred, discovered=discovered)
            hold.callback(ipa.close)
            return ipa

        yield make


def test_servers_of_the_srv_records_come_last(client: Client, stubs: list[IpaStub], closed: str) -> None:
    """Dead, broken and faulty servers are passed over in their order; the first good one is kept to the end."""
    stubs[0].faults.status = 503
    stubs[1].faults.codes["dnszone_show"] = (907, "cannot connect to 'ldapi://...'")
    stubs[2].faults.codes["batch"] = (903, "an internal error has occurred")
    ipa = client(f"{closed} {stubs[0].where}", [address.parse(s.where) for s in (stubs[0], *stubs[1:])])
    zones, held = ipa.survey([NAME, ZONE], [RECORD])
    assert (zones, held[NAME].exists) == ({ZONE: (ZONE, True, False)}, False)
    assert ipa.server == stubs[3].where
    assert len(stubs[0].requests) == 1  # named twice, asked once
    asked = [len(stub.requests) for stub in stubs[:3]]
    ipa.add([RECORD], {NAME: 60})
    assert stubs[3].txt(NAME) == {"value"}
    assert [len(stub.requests) for stub in stubs[:3]] == asked


def test_srv_records_are_not_asked_for_in_vain(client: Client, stubs: list[IpaStub], closed: str) -> None:
    """With a server that answers nobody looks for others; without SRV records the first failure is the one told."""
    ipa = client(stubs[0].where, AssertionError("asked"))
    ipa.survey([ZONE], [RECORD])
    stubs[0].faults.status = 500
    with pytest.raises(UnreachableError, match=f"no connection to {closed}"):
        client(f"{closed} {stubs[0].where}", UnreachableError("cannot look up")).survey([ZONE], [RECORD])
    with pytest.raises(UnreachableError, match=f"no connection to {closed}"):
        client(closed, []).survey([ZONE], [RECORD])
    with pytest.raises(UsageError, match="no FreeIPA server is known"):
        client("").survey([ZONE], [RECORD])


def test_the_server_that_was_written_to_goes_first(client: Client, stubs: list[IpaStub], closed: str) -> None:
    """Where it is gone for good a removal goes on elsewhere, also when it broke off in the middle."""
    for stub in stubs:
        stub.put(NAME, "value")
    ipa = client(stubs[0].where, preferred=stubs[1].where)
    ipa.remove([RECORD])
    assert (ipa.server, stubs[1].txt(NAME), stubs[0].requests) == (stubs[1].where, set(), [])
    client(stubs[0].where, preferred=closed).remove([RECORD])
    assert stubs[0].txt(NAME) == set()
    stubs[2].faults.drop_after = 1
    client(stubs[3].where, preferred=stubs[2].where).remove([RECORD])
    assert stubs[3].txt(NAME) == set()


def test_the_server_that_was_written_to_lets_us_in_no_more(client: Client, stubs: list[IpaStub]) -> None:
    """It may be retired, or made anew with another CA: the next one is asked, and where that fails too it ends."""
    stubs[0].faults.reason = "invalid-password"
    ipa = client(stubs[1].where, preferred=stubs[0].where)
    ipa.survey([ZONE], [RECORD])
    assert ipa.server == stubs[1].where
    with IpaStub([ZONE]) as stranger:
        ipa = client(stubs[1].where, preferred=stranger.where)
        ipa.survey([ZONE], [RECORD])
    assert ipa.server == stubs[1].where
    with pytest.raises(CredentialsError):
        client(stubs[0].where, preferred=stubs[0].where).survey([ZONE], [RECORD])


def test_what_no_other_server_would_change(client: Client, stubs: list[IpaStub]) -> None:
    """A login that is refused, or a certificate that is not trusted, ends it: the next server is not asked."""
    stubs[0].faults.reason = "invalid-password"
    with pytest.raises(CredentialsError):
        client(f"{stubs[0].where} {stubs[1].where}").survey([ZONE], [RECORD])
    with IpaStub([ZONE]) as stranger:
        servers = f"{stranger.where} {stubs[1].where}"
        with pytest.raises(UnreachableError, match="not trusted") as caught:
            client(servers).survey([ZONE], [RECORD])
    assert "--pin" not in str(caught.value.hint)  # there is none
    assert "device" not in str(caught.value.hint)
    assert not stubs[1].requests


def test_answers_that_are_no_failure(client: Client, stubs: list[IpaStub]) -> None:
    """Another's change at the same moment, and what is there or gone already: the look afterwards judges."""
    ipa = client(stubs[0].where)
    ipa.survey([ZONE], [RECORD])
    for code in (4201, 4202, 4001, 4002):
        stubs[0].faults.codes["dnsrecord_add"] = (code, "x: DNS resource record not found")
        assert ipa.add([RECORD], {})[NAME] == Held()
    for code in (4201, 4202, 4001, 4026, 2100):
        stubs[0].faults.codes["dnsrecord_del"] = (code, "x")
        assert ipa.remove([RECORD])[NAME] == Held()
    stubs[0].put(NAME, "value")
    with pytest.raises(RefusedError):
        ipa.remove([RECORD])  # it is there, and cannot be taken away


@pytest.mark.parametrize("method", ["dnsrecord_add", "dnsrecord_del"])
def test_a_zone_that_is_gone_is_no_success(method: str, client: Client, stubs: list[IpaStub]) -> None:
    """Not found is fine of a record, and not of its zone: that may be hidden, with the value in it."""
    ipa = client(stubs[0].where)
    stubs[0].faults.codes[method] = (4001, "example.test.: DNS zone not found")
    with pytest.raises(NoZoneError):
        ipa.add([RECORD], {}) if method == "dnsrecord_add" else ipa.remove([RECORD])
    stubs[0].faults.codes = {"dnszone_show": (4001, "DNS is not configured")}
    with pytest.raises(RefusedError, match="manages no DNS"):
        ipa.survey([ZONE], [RECORD])


def test_a_ttl_that_may_not_be_set(client: Client, stubs: list[IpaStub]) -> None:
    """The value goes without it; another refusal is one."""
    real, seen = stubs[0].call, []

    def picky(method: str, arguments: list[Any], options: dict[str, Any]) -> dict[str, Any]:
        if method == "dnsrecord_add":
            seen.append("dnsttl" in options)
            if "dnsttl" in options:
                raise Failed(2100, "Insufficient 'write' privilege to the 'dNSTTL' attribute of entry 'x'")
        return real(method, arguments, options)

    stubs[0].call = picky  # type: ignore[method-assign]
    assert client(stubs[0].where).add([RECORD], {NAME: 60})[NAME].values == {"value"}
    assert seen == [True, False]
    stubs[1].faults.codes["dnsrecord_add"] = (2100, "Insufficient access")
    with pytest.raises(RefusedError):
        client(stubs[1].where).add([RECORD], {NAME: 60})
    assert stubs[1].methods.count("dnsrecord_add") == 1


def test_values_as_they_are_served(client: Client, stubs: list[IpaStub]) -> None:
    """FreeIPA keeps them quoted where somebody has entered them so; several strings of one value belong together."""
    for value in ('"quoted"', '"two " "strings"', '"never ended', "plain"):
        stubs[0].put(NAME, value)
    held = client(stubs[0].where).read([RECORD])[NAME]
    assert held.values == {"quoted", "two strings", '"never ended', "plain"}


def test_no_secret_in_anybodys_debug_log(
    client: Client, stubs: list[IpaStub], caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    """Certbot keeps every library's debug messages: neither password nor session is in them, nor in an error."""
    caplog.set_level(logging.DEBUG)
    ipa = client(stubs[0].where)
    ipa.survey([ZONE], [RECORD])
    ipa.add([RECORD], {})
    stubs[1].faults.reason = "password-expired"
    with pytest.raises(CredentialsError, match="password expired") as caught:
        client(stubs[1].where).survey([ZONE], [RECORD])
    said = "".join(capfd.readouterr()) + caplog.text + repr(caught.value) + str(caught.value.hint)
    assert "python_freeipa" in caplog.text  # it was listened to
    for secret in (PASSWORD, quote(PASSWORD), quote_plus(PASSWORD), "MagBearerToken"):
        assert secret not in said


def test_what_the_surroundings_do_not_change(
    client: Client, stubs: list[IpaStub], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No proxy, no .netrc, no CA bundle of the environment, which certbot's hooks inherit; nothing compressed comes."""
    (tmp_path / ".netrc").write_text("machine localhost login someone password theirs\n")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:1")
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "missing.pem"))
    sent: list[dict[str, str]] = []
    real = Connection.request

    def request(self: Connection, *args: Any, headers: dict[str, str], **named: Any) -> Any:
        sent.append(headers)
        return real(self, *args, headers=headers, **named)

    monkeypatch.setattr(Connection, "request", request)
    client(stubs[0].where).survey([ZONE], [RECORD])
    assert [each["Accept-Encoding"] for each in sent] == ["identity"] * 2
    assert all(each["Referer"].startswith(f"https://{stubs[0].where}/ipa") for each in sent)
    assert not any("Authorization" in each for each in sent)
