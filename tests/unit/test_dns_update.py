"""Dynamic updates: whom they are sent to, and that a server that does not know has not said no."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

if sys.version_info < (3, 10):
    pytest.skip("the DNS hooks need Python 3.10", allow_module_level=True)

import dns.message
import dns.rcode
import dns.rdatatype

from certhooks.address import Address
from certhooks.deadline import Deadline
from certhooks.errors import ActivationError, ConnectionLostError, CredentialsError, UnreachableError
from certhooks_freeipa_dns.backend import Record
from certhooks_freeipa_dns.errors import NoZoneError, PassingError, RefusedError
from certhooks_freeipa_dns.lookup import Server
from certhooks_freeipa_dns.settings import Settings
from certhooks_freeipa_dns.update import Update

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_mock import MockerFixture

ZONE, NAME = "example.test", "_acme-challenge.www.example.test"
RECORD = Record(ZONE, NAME, "value")
PRIMARY = "ns0.test"


class World:
    """Stands for the view: servers by name, with the flags and code of their answers, or None where they are silent."""

    def __init__(self, **servers: str | None) -> None:
        self.servers = {f"{name}.test": answer for name, answer in servers.items()}
        self.asked: list[str] = []
        self.lookup = self

    def primary(self, zone: str) -> str:
        """Return the server of the SOA record."""
        assert zone == ZONE
        return PRIMARY

    def located(self, given: str) -> Server:
        """Return a server, whose address is its name."""
        if given.partition(":")[0] not in self.servers:
            raise UnreachableError(f"cannot resolve {given}")
        return Server(given.partition(":")[0], Address(given.partition(":")[0], 53))

    def ask(self, server: Address, name: str, kind: dns.rdatatype.RdataType) -> dns.message.Message | None:
        """Answer."""
        self.asked.append(server.host)
        told = self.servers[server.host]
        if told is None:
            return None
        made = dns.message.from_text(
            f"id 1\nopcode QUERY\n{told}\n;QUESTION\n{name}. IN {dns.rdatatype.to_text(kind)}\n"
        )
        if kind == dns.rdatatype.TXT and "NXDOMAIN" not in told:
            made.answer = dns.message.from_text(
                f'id 1\n;ANSWER\n{name}. 77 IN TXT "value" \n{name}. 77 IN TXT "a" "b"\n'
            ).answer
        return made


GOOD = "rcode NOERROR\nflags QR AA"


def update(world: World, servers: Sequence[str] = (), preferred: str = "") -> Update:
    """Return the backend in that world, on a host without the gssapi module."""
    made = Settings(server=" ".join(servers), ccache="FILE:/nowhere/tickets")
    made.discover = not servers
    return Update(made, world, Deadline(20), preferred=preferred, sign=lambda: False)  # type: ignore[arg-type]


def test_what_a_name_holds() -> None:
    """Strings of one value are joined; an answer that the name is not there is one."""
    held = update(World(ns0=GOOD)).read([RECORD])[NAME]
    assert (held.values, held.exists, held.alias) == (frozenset({"value", "ab"}), True, False)
    held = update(World(ns0="rcode NXDOMAIN\nflags QR AA")).read([RECORD])[NAME]
    assert (held.values, held.exists) == (frozenset(), False)


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        ("rcode NOERROR\nflags QR", NoZoneError),
        ("rcode REFUSED\nflags QR", NoZoneError),
        ("rcode NOTAUTH\nflags QR AA", NoZoneError),
        ("rcode SERVFAIL\nflags QR", PassingError),
    ],
)
def test_a_server_that_does_not_know_has_not_said_no(answer: str, kind: type[Exception]) -> None:
    """A removal does not take it for done: the value may be there."""
    with pytest.raises(kind, match=ZONE if kind is not PassingError else "SERVFAIL"):
        update(World(ns0=answer)).remove([RECORD])


def test_servers_in_their_order() -> None:
    """The one that was written to, those that are set, else the SOA record's; a silent one is passed over."""
    world = World(ns0=GOOD, ns1=None, ns2=GOOD, ns3=GOOD)
    for servers, preferred, chosen in (
        ([], "", "ns0.test"),
        ([], "ns3.test", "ns3.test"),
        ([], "ns1.test", "ns0.test"),
        ([], "gone.test", "ns0.test"),
        (["ns2.test", "ns3.test"], "", "ns2.test"),
        (["ns1.test", "ns3.test"], "", "ns3.test"),
        (["ns2.test"], "ns3.test", "ns3.test"),
    ):
        backend = update(world, servers, preferred)
        backend.read([RECORD])
        assert backend.server == chosen, (servers, preferred)
    world.asked.clear()
    backend.read([RECORD])
    assert world.asked == ["ns3.test"]  # chosen once


def test_the_server_that_was_written_to_lets_us_in_no_more(mocker: MockerFixture) -> None:
    """The update goes to the next one; one that is only set ends it with its refusal."""
    refused = subprocess.CompletedProcess([], 2, "", "dns_tkey_gssnegotiate: TKEY is unacceptable\n")
    run = mocker.patch("subprocess.run", side_effect=[refused, subprocess.CompletedProcess([], 0, "", ""), refused])
    backend = update(World(ns0=GOOD, ns3=GOOD), [], "ns3.test")
    backend.add([RECORD], {})
    assert backend.server == "ns0.test"
    assert [call.kwargs["input"].split()[1] for call in run.call_args_list] == ["ns3.test", "ns0.test"]
    with pytest.raises(CredentialsError):
        update(World(ns2=GOOD), ["ns2.test"]).add([RECORD], {})


def test_nobody_answers() -> None:
    """The first one's failure is told; with servers set, no other is looked for."""
    with pytest.raises(UnreachableError, match=r"ns1\.test does not answer"):
        update(World(ns0=GOOD, ns1=None), ["ns1.test", "gone.test"]).read([RECORD])


def test_what_nsupdate_is_told(mocker: MockerFixture) -> None:
    """Server, zone and changes on its standard input; a value that joins others takes their TTL, 77 here."""
    run = mocker.patch("subprocess.run", return_value=subprocess.CompletedProcess([], 0, "", ""))
    backend = update(World(ns0=GOOD))
    backend.add([RECORD], {NAME: 60})
    backend.add([Record(ZONE, NAME, "more")], {})
    backend.remove([RECORD, Record(ZONE, NAME, "absent")])
    told = [call.kwargs["input"].splitlines() for call in run.call_args_list]
    head = ["server ns0.test 53", f"zone {ZONE}."]
    assert told == [
        [*head, f'update add {NAME}. 60 TXT "value"', "send"],
        [*head, f'update add {NAME}. 77 TXT "more"', "send"],
        [*head, f'update delete {NAME}. TXT "value"', "send"],
    ]
    assert {tuple(call.args[0]) for call in run.call_args_list} == {("nsupdate", "-g")}
    environment = run.call_args.kwargs["env"]
    assert environment["KRB5CCNAME"] == "FILE:/nowhere/tickets"
    assert set(environment) - {"PATH", "LC_ALL", "KRB5CCNAME", "KRB5_CONFIG"} == set()


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        ("update failed: REFUSED", RefusedError),
        ("update failed: NOTAUTH", RefusedError),
        ("update failed: NOTZONE", NoZoneError),
        ("update failed: SERVFAIL", PassingError),
        ("update failed: FORMERR", ActivationError),
        ("dns_tkey_gssnegotiate: TKEY is unacceptable", CredentialsError),
        ("tkey query failed: GSSAPI error: No credentials", CredentialsError),
        ("", ActivationError),
    ],
)
def test_what_nsupdate_says(said: str, kind: type[Exception], mocker: MockerFixture) -> None:
    """Each failure is of its own kind."""
    mocker.patch("subprocess.run", return_value=subprocess.CompletedProcess([], 2, "", f"{said}\n"))
    with pytest.raises(kind) as caught:
        update(World(ns0=GOOD)).add([RECORD], {})
    assert type(caught.value) is kind


def test_no_nsupdate_and_one_that_hangs(mocker: MockerFixture) -> None:
    """The first says what to install; after the second it is not known what was done."""
    mocker.patch("subprocess.run", side_effect=FileNotFoundError)
    with pytest.raises(CredentialsError, match="neither is installed"):
        update(World(ns0=GOOD)).add([RECORD], {})
    mocker.patch("subprocess.run", side_effect=subprocess.TimeoutExpired("nsupdate", 1))
    with pytest.raises(ConnectionLostError):
        update(World(ns0=GOOD)).add([RECORD], {})
