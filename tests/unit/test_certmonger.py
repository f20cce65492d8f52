"""certmonger without certmonger: command lines, states, advice, answers that make no sense, a bus that is not there."""

from __future__ import annotations

import itertools
import random
import shlex
import socket
import subprocess
import sys
import threading
import time
from collections import deque
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

import pytest
from jeepney import DBusAddress, HeaderFields, new_error, new_method_call, new_method_return, new_signal

from certhooks import getcert
from certhooks.certmonger import Certmonger, Request, advice, quote, split
from certhooks.deadline import Deadline
from certhooks.errors import CertmongerError, DeadlineError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

PATH = "/org/fedorahosted/certmonger/requests/Request1"
PEM = "-----BEGIN CERTIFICATE-----\nMIIB\r\nAAAA\n-----END CERTIFICATE-----\n"


def properties(**changes: Any) -> dict[str, tuple[str, Any]]:
    """Return GetAll's answer for a request that is fine, with changes; underscores stand for dashes."""
    values: dict[str, tuple[str, Any]] = {
        "nickname": ("s", "n1"),
        "status": ("s", "MONITORING"),
        "stuck": ("b", False),
        "cert": ("s", PEM),
        "cert-file": ("s", "/tmp/x.crt"),
        "subject": ("s", "CN=fw01.example.com,O=EXAMPLE.COM"),
        "template-subject": ("s", "asked.example.com"),
    }
    values.update({name.replace("_", "-"): ("?", value) for name, value in changes.items()})
    return values


class Bus:
    """A connection whose answers a test chooses: ``answers`` maps a method's name to a reply body or an exception.

    ``waits`` is how many calls were not answered yet, at each answer.
    """

    def __init__(self, **answers: Any) -> None:
        self.answers = answers
        self.timeouts: list[float] = []
        self.waits: list[int] = []
        self.outgoing_serial = itertools.count(1)
        self._sent: deque[Any] = deque()

    def send(self, message: Any, *, serial: int) -> None:
        """Take a call."""
        message.header.serial = serial
        self._sent.append(message)

    def receive(self, *, timeout: float) -> Any:
        """Return the chosen answer to the oldest call."""
        self.timeouts.append(timeout)
        self.waits.append(len(self._sent))
        message = self._sent.popleft()
        fields = {name.name: value for name, value in message.header.fields.items()}
        answer = self.answers[fields["member"]]
        if callable(answer):
            answer = answer(fields["path"])
        if isinstance(answer, Exception):
            raise answer
        if isinstance(answer, str):
            return new_error(message, answer, "s", ("made-up failure",))
        return new_method_return(message, "", answer)

    def close(self) -> None:
        """Do nothing: there is nothing open."""


def requests(*each: dict[str, tuple[str, Any]]) -> Certmonger:
    """Return a certmonger that has these requests."""
    known = {f"{PATH}{n}": one for n, one in enumerate(each)}
    no_ca = "org.freedesktop.DBus.Error.UnknownMethod"
    return Certmonger(Bus(get_requests=([*known],), GetAll=lambda path: (known[path],), get_nickname=no_ca))


# -- command lines ---------------------------------------------------------------------------------------------------


def test_quoted_words_come_back_exactly() -> None:
    """Whatever words ``quote`` accepts, certmonger's splitting gives them back, nothing added or lost."""
    dice = random.Random(20260101)  # noqa: S311 - no secret, and the same words each time
    alphabet = "ab'\"\\ \t$`*;|>#~!=,é€"
    for _ in range(2000):
        words = ["".join(dice.choices(alphabet, k=dice.randint(1, 8))) for _ in range(dice.randint(1, 5))]
        assert split(quote(words)) == words


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a b\tc\nd", ["a", "b", "c", "d"]),
        ("e\vf\fg", ["e\vf\fg"]),
        ("'a b'\"c d\"e", ["a bc de"]),
        (r"'a\b' \' \" \\", [r"a\b", "'", '"', "\\"]),
        ("a '' \"\" b", ["a", "b"]),
        ("a''b", ["ab"]),
        ("$x `y` * ; | > # ~ !", ["$x", "`y`", "*", ";", "|", ">", "#", "~", "!"]),
        (r"'a\'", ["a\\"]),
        ("  a  ", ["a"]),
        ("", []),
    ],
)
def test_a_command_is_split_as_certmonger_does(text: str, words: list[str]) -> None:
    """``split`` gives the words that certmonger 0.79.17 was seen to run (the system test asks the daemon itself)."""
    assert split(text) == words


@pytest.mark.parametrize("text", [r"a\ b", "a\\", "'a", '"a', r"a\nb", r'"a\"b"', "don't"])
def test_a_command_that_certmonger_would_never_run_is_an_error(text: str) -> None:
    """What makes certmonger run nothing is reported, with the text, not guessed at."""
    with pytest.raises(CertmongerError, match="does not understand") as caught:
        split(text)
    assert caught.value.hint


@pytest.mark.parametrize("argv", [[], ["/bin/x", ""], ["/bin/x", "a\0"], ["/bin/x", "a\nb"], ["/bin/x", "\udc80"]])
def test_words_that_certmonger_cannot_pass_are_refused(argv: list[str]) -> None:
    """A command that would lose or change a word is never stored."""
    with pytest.raises(CertmongerError):
        quote(argv)


# -- states ----------------------------------------------------------------------------------------------------------

WORKING = ["NEED_KEY_PAIR", "GENERATING_KEY_PAIR", "GENERATING_CSR", "SUBMITTING", "CA_WORKING", "NEED_TO_SAVE_CERT"]
WORKING += ["PRE_SAVE_CERT", "SAVING_CERT", "NEED_TO_READ_CERT", "READING_CERT", "NEWLY_ADDED_READING_CERT"]
SETTLED = ["MONITORING", "POST_SAVED_CERT", "NEED_TO_NOTIFY_ISSUED_SAVED", "NOTIFYING_ISSUED_SAVED"]
FAILED = ["CA_REJECTED", "CA_UNREACHABLE", "CA_UNCONFIGURED", "NEED_GUIDANCE", "NEED_CA", "NEED_TO_NOTIFY_REJECTION"]


def request(**changes: Any) -> Request:
    """Return a request with these properties."""
    return Request.from_properties(PATH, properties(**changes))


@pytest.mark.parametrize(
    ("status", "kind"),
    [(status, kind) for kind, many in (("w", WORKING), ("s", SETTLED), ("f", FAILED)) for status in many],
)
def test_each_state_is_one_of_working_settled_failed(status: str, kind: str) -> None:
    """A hook goes on, waits or gives up: every state of certmonger says which, and only one of them."""
    found = request(status=status)
    assert (found.settled, found.failed) == (kind == "s", kind == "f")
    stuck = request(status=status, stuck=True)
    assert (stuck.settled, stuck.failed) == (False, True)


def test_a_hook_recognises_that_it_runs_within_its_own_post_save() -> None:
    """POST_SAVED_CERT is the state while a post-save command runs: the certificate may be used, waiting would hang."""
    assert request(status="POST_SAVED_CERT").in_post_save
    assert request(status="POST_SAVED_CERT").settled
    assert not request(status="MONITORING").in_post_save


def test_a_refused_renewal_is_not_taken_for_success() -> None:
    """A renewal that the CA refused ends in MONITORING: the ca-error alone tells, and ``check`` raises it."""
    found = request(ca_error="no more certificates")
    assert found.monitoring
    assert found.renewal_failed
    with pytest.raises(CertmongerError, match="renewal refused: no more certificates") as caught:
        found.check()
    assert "getcert resubmit -i n1" in (caught.value.hint or "")
    assert not request().renewal_failed
    request().check()


def test_monitoring_without_a_certificate_is_trouble() -> None:
    """A request whose certificate is gone is never used as if it had one."""
    found = request(cert="")
    assert found.failed
    assert not found.settled


@pytest.mark.parametrize(
    ("subject", "name"),
    [
        ("fw01.example.com", "fw01.example.com"),
        ("CN=fw01.example.com,O=EXAMPLE.COM", "fw01.example.com"),
        ("O=EXAMPLE.COM, cn=fw01.example.com", "fw01.example.com"),
        (r"CN=a\,b,O=X", "a,b"),
        ("O=EXAMPLE.COM", None),
        ("", None),
    ],
)
def test_the_common_name_is_found_in_any_spelling_of_the_subject(subject: str, name: str | None) -> None:
    """The CN is read from a distinguished name in any order, and from the bare name that certmonger takes as CN."""
    assert request(subject=subject).common_name == name


def test_passphrases_among_the_properties_are_left_behind() -> None:
    """GetAll answers with the key's passphrase and the challenge password: a Request keeps neither."""
    found = request(key_pin="hunter2", template_challenge_password="hunter2")
    assert "hunter2" not in repr(vars(found))


def test_certificates_have_plain_line_ends() -> None:
    """Mixed line ends, as certmonger gives them, never reach a bundle."""
    found = request(cert_chain=[("nick", PEM)])
    assert found.cert is not None
    assert "\r" not in found.cert + found.chain[0]
    assert found.cert.splitlines() == [line.strip() for line in PEM.splitlines()]


def test_a_hostile_message_becomes_one_printable_line() -> None:
    """A ca-error cannot move a terminal's cursor, forge log lines, or fill a disk."""
    found = request(ca_error="a\n\x1b[2Jb\r\nJan 1 forged" + "x" * 5000)
    assert found.ca_error is not None
    assert found.ca_error.isprintable()
    assert len(found.ca_error) <= 1000


# -- answers that make no sense --------------------------------------------------------------------------------------

ODD: list[Any] = [None, 0, -1, 2**63, True, "", "\0", "x", [], [()], [("a",)], [(1, 2)], ["a", 1], {}, ("s", "s"), b"x"]


@pytest.mark.parametrize(
    "name", [*properties(), "cert-chain", "cert-roots", "ca", "hostname", "not-valid-after", "ca-error"]
)
def test_odd_values_are_an_error_or_left_out(name: str) -> None:
    """No value of any property ends in a traceback."""
    for odd in ODD:
        for value in (("s", odd), odd):
            answer: Any = {**properties(), name: value}
            try:
                found = requests(answer).requests()[0]
            except CertmongerError:
                assert name in {"nickname", "status", "stuck"}
            else:
                found.describe()
                found.advice()
                assert found.common_name is None or isinstance(found.common_name, str)


@pytest.mark.parametrize("body", [(), (None,), ("x",), ([],), ({},), (1, 2, 3), ([None],), ([""],), (["no path"],)])
@pytest.mark.parametrize("method", ["get_requests", "GetAll", "find_request_by_nickname"])
def test_odd_replies_are_one_clear_error(method: str, body: tuple[Any, ...]) -> None:
    """Replies of the wrong shape end in CertmongerError or in nothing found."""
    answers: dict[str, Any] = {
        "get_requests": ([PATH],),
        "GetAll": (properties(),),
        "find_request_by_nickname": (PATH,),
    }
    certmonger = Certmonger(Bus(**{**answers, method: body}))
    with suppress(CertmongerError):
        certmonger.requests()
    with suppress(CertmongerError):
        certmonger.by_nickname("n1")


@pytest.mark.parametrize(
    ("failure", "words"),
    [
        ("org.freedesktop.DBus.Error.ServiceUnknown", "not running"),
        ("org.freedesktop.DBus.Error.Spawn.ChildExited", "not running"),
        ("org.freedesktop.DBus.Error.AccessDenied", "does not answer this user"),
        ("org.freedesktop.DBus.Error.NoReply", "made-up failure"),
        (TimeoutError(), "did not answer within"),
        (ConnectionResetError(104, "reset"), "broke"),
        (KeyError(9), "not understood"),
        (UnicodeDecodeError("utf-8", b"\xff", 0, 1, "bad"), "not understood"),
    ],
)
def test_each_failure_of_a_call_is_named(failure: Any, words: str) -> None:
    """Whatever goes wrong on the bus, the user reads what, and mostly what to do."""
    with pytest.raises(CertmongerError, match=words) as caught:
        Certmonger(Bus(get_requests=failure)).requests()
    assert caught.value.hint or words == "not understood"


def test_a_request_removed_while_listing_is_left_out() -> None:
    """Someone's stop-tracking in the middle of our listing is no error."""
    answer: Callable[[str], Any] = lambda path: (  # noqa: E731 - the shortest way to say it
        (properties(),) if path.endswith("1") else "org.freedesktop.DBus.Error.UnknownMethod"
    )
    certmonger = Certmonger(Bus(get_requests=([PATH, PATH[:-1] + "2"],), GetAll=answer))
    assert [one.nickname for one in certmonger.requests()] == ["n1"]


def test_many_requests_are_asked_for_side_by_side() -> None:
    """A thousand requests cost some thirty waits for a busy certmonger, and the bus never holds too many calls."""
    certmonger = requests(*(properties(nickname=f"n{n}") for n in range(1000)))
    assert [one.nickname for one in certmonger.requests()] == [f"n{n}" for n in range(1000)]
    waits = certmonger._connection.waits
    assert len(waits) == 1001
    assert max(waits) <= 64
    assert waits.count(1) <= 35, "the last answer of each round, and the list"


def test_answers_in_another_order_and_strangers_between_are_sorted_out() -> None:
    """A reply belongs to the call whose number it bears; a signal, or an answer that came too late, to none."""
    certmonger = requests(properties(nickname="one"), properties(nickname="two"))
    bus = certmonger._connection
    take, late = bus.receive, new_method_call(DBusAddress(PATH, "a.b", "a.b.c"), "late")
    late.header.serial = 4711
    kept: list[Any] = []

    def receive(*, timeout: float) -> Any:
        if not kept:
            kept.extend([new_signal(DBusAddress(PATH, "a.b", "a.b.c"), "said"), new_method_return(late, "s", ("x",))])
            kept.extend(reversed([take(timeout=timeout) for _ in range(len(bus._sent))]))
        return kept.pop(0)

    bus.receive = receive
    assert [one.nickname for one in certmonger.requests()] == ["one", "two"]


def test_two_requests_for_one_name_are_not_chosen_between() -> None:
    """With two requests for one CN the user decides: the error names both."""
    certmonger = requests(properties(nickname="one"), properties(nickname="two", cert_file="/tmp/y.crt"))
    with pytest.raises(CertmongerError, match=r"one .*two .*") as caught:
        certmonger.by_common_name("FW01.example.com")
    assert "stop-tracking" in (caught.value.hint or "")
    found = certmonger.by_cert_file("/tmp/../tmp/y.crt")
    assert found is not None
    assert found.nickname == "two"
    assert certmonger.by_common_name("fw02.example.com") is None


# -- waiting ---------------------------------------------------------------------------------------------------------


def waiting(*states: str) -> tuple[Certmonger, Deadline]:
    """Return a certmonger that goes through ``states``, and a deadline of 60 s on a clock of its own."""
    left = list(states)
    now = [0.0]

    def answer(_path: str) -> Any:
        status = left.pop(0) if len(left) > 1 else left[0]
        return (properties(status=status, cert=PEM if status in SETTLED else ""),)

    def sleep(seconds: float) -> None:
        now[0] += seconds

    return Certmonger(Bus(GetAll=answer)), Deadline(60, clock=lambda: now[0], sleep=sleep)


def test_waiting_tells_each_change_once_and_ends_when_saved() -> None:
    """The user sees each state once; a hook's wait ends with the save, not with its own end (that would hang)."""
    told: list[str] = []
    certmonger, deadline = waiting("SUBMITTING", "SUBMITTING", "CA_WORKING", "POST_SAVED_CERT")
    found = certmonger.wait(request(), deadline, told.append)
    assert found.in_post_save
    assert len(told) == len(set(told)) == 3


def test_waiting_for_the_post_save_command_goes_on_to_monitoring() -> None:
    """``monitoring=True`` waits until the post-save command is done too."""
    certmonger, deadline = waiting("SUBMITTING", "POST_SAVED_CERT", "POST_SAVED_CERT", "MONITORING")
    assert certmonger.wait(request(), deadline, lambda _text: None, monitoring=True).monitoring


def test_waiting_ends_with_the_deadline() -> None:
    """A CA that never answers does not hold a hook: DeadlineError names the request and where it stands."""
    certmonger, deadline = waiting("CA_WORKING")
    with pytest.raises(DeadlineError, match=r"n1 \(the CA is working on it\)"):
        certmonger.wait(request(), deadline, lambda _text: None)
    assert deadline.remaining() == 0
    assert min(certmonger._connection.timeouts) < 1, "a call late in the wait has no more than what is left"
    certmonger.refresh(request())
    assert certmonger._connection.timeouts[-1] == pytest.approx(10, abs=1)


@pytest.mark.parametrize("status", FAILED)
def test_waiting_ends_with_trouble(status: str) -> None:
    """A refusal is reported at once, not at the deadline."""
    certmonger, deadline = waiting("SUBMITTING", status)
    assert certmonger.wait(request(), deadline, lambda _text: None).failed
    assert deadline.remaining() > 59


# -- advice ----------------------------------------------------------------------------------------------------------

FW = "HTTP/fw01.example.com@EXAMPLE.COM"
CCACHE = 'Error setting up ccache for "host" service on client using default keytab'


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("Insufficient access: not allowed to perform operation: request certificate", "keytab"),
        (
            f"Insufficient 'write' privilege to the 'userCertificate' attribute of entry 'krbprincipalname={FW},cn=x'",
            "ipa service-add-host HTTP/fw01.example.com --hosts=$(hostname -f)",
        ),
        (
            "Insufficient 'write' privilege to the 'userCertificate' attribute of entry 'fqdn=fw01.example.com,cn=x'",
            "ipa host-add-managedby fw01.example.com --hosts=$(hostname -f)",
        ),
        (
            "Insufficient privilege to create a certificate with subject alt name 'fw02.example.com'.",
            "ipa service-add-host HTTP/fw02.example.com --hosts=",
        ),
        (
            "The service principal for subject alt name fw02.example.com in certificate request does not exist",
            "ipa service-add-principal HTTP/fw01.example.com HTTP/fw02.example.com",
        ),
        (
            "The host 'fw01.example.com' does not exist to add a service to.",
            "ipa host-add fw01.example.com --force; ipa service-add HTTP/fw01.example.com --force",
        ),
        (
            f"Insufficient 'add' privilege to add the entry 'krbprincipalname={FW},cn=services'.",
            "ipa service-add HTTP/fw01.example.com --force",
        ),
        (f"4001 ({FW}: service not found)", "ipa service-add HTTP/fw01.example.com --force"),
        (
            f"hostname in subject of request 'x.example.com' does not match name or aliases of principal '{FW}'",
            "getcert resubmit -i n1 -N CN=NAME",
        ),
        (
            f"Principal '{FW}' is not permitted to use CA 'ipa' with profile 'caX' for certificate issuance.",
            "no CA ACL allows profile caX",
        ),
        ("IP address in subjectAltName (192.0.2.7) unreachable from DNS names", "192.0.2.7 an address and a PTR"),
        ("Subject alt name type RFC822Name is forbidden for non-user principals", "type RFC822Name out"),
        ("Missing or invalid HTTP Referer, https://ipa/ipa/xml", "/etc/ipa/default.conf"),
        ("4301 (Certificate operation cannot be completed: Failed to authenticate to CA REST API)", "CA's side"),
        ("Error obtaining initial credentials: Preauthentication failed.", "klist -k"),
        ("Error obtaining initial credentials: Clock skew too great.", "chronyc"),
        ("Error setting up ccache for host service: Cannot find KDC for requested realm.", "port 88"),
        (f"{CCACHE}: Cannot contact any KDC for requested realm.", "port 88"),
        (f"{CCACHE}: Generic error (see e-text).", "ipactl status"),
        (f"{CCACHE}: Preauthentication failed.", "klist -k"),
        (f"{CCACHE}: Keytab contains no suitable keys for host/fw01.example.com@EXAMPLE.COM.", "klist -k"),
    ],
)
def test_each_known_refusal_has_its_next_command(text: str, says: str) -> None:
    """What FreeIPA refuses is answered with the command to type, names filled in, and how to try again."""
    found = advice("CA_REJECTED", f"Server at https://ipa denied our request: {text}", principal=FW, nickname="n1")
    assert found is not None
    assert says in found
    assert found.endswith("; then: getcert resubmit -i n1")


@pytest.mark.parametrize("status", [*FAILED[:5], "NEED_CERTSAVE_PERMS", "NEED_KEYINFO_READ_PIN"])
def test_trouble_without_a_known_text_has_advice_too(status: str) -> None:
    """A state that needs a person always comes with something to do."""
    assert advice(status, None)


def test_unreachable_with_a_missing_entry_is_called_permanent() -> None:
    """ipa-submit calls a missing entry (4001) unreachable: nobody is told to wait 7 days for that."""
    found = advice("CA_UNREACHABLE", "failed request, will retry: 4001 (no such entry)", nickname="n1")
    assert found is not None
    assert "does not mend itself" in found
    assert "7 days" not in found


def test_no_server_at_all_and_a_server_that_refused_are_told_apart() -> None:
    """ipa-submit ends every failure with words about LDAP: only where they stand alone, no server was reached."""
    words = "Unable to contact an IPA LDAP server."
    alone = advice("CA_UNREACHABLE", words)
    assert alone is not None
    assert "port 443" in alone
    refused = advice("CA_UNREACHABLE", f"Server at https://ipa failed request, will retry: 4001 (x). {words}")
    assert refused is not None
    assert "port 443" not in refused


def test_no_trouble_no_advice() -> None:
    """A request that is fine, or on its way, gets no advice."""
    assert advice("MONITORING", None) is None
    assert advice("SUBMITTING", None) is None
    assert request().advice() is None


def test_a_command_to_copy_cannot_be_poisoned() -> None:
    """A name from a server's message never brings more words or a substitution into the command to type."""
    hostile = "hostname in subject of request '$(reboot); x' does not match name or aliases of principal 'y'"
    found = advice("CA_REJECTED", hostile, nickname="n1; reboot")
    assert found is not None
    assert "'$(reboot); x'" in found
    assert shlex.split(found.rpartition("then: ")[2]) == ["getcert", "resubmit", "-i", "n1; reboot"]


# -- the bus ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "address",
    ["unix:path=/nonexistent/bus", "unix:abstract=certhooks-nobody", "nonsense", "tcp:host=127.0.0.1", "unix:"],
)
def test_without_a_bus_the_error_says_so(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """No bus, or an address that is none: one error with a hint."""
    monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", address)
    with pytest.raises(CertmongerError, match="system bus") as caught:
        Certmonger.open(timeout=1)
    assert caught.value.hint


@contextmanager
def listener(folder: Path, talk: Callable[[socket.socket], None]) -> Iterator[str]:
    """Listen on a socket, ``talk`` to whoever comes, hold the connection open until the end."""
    done = threading.Event()
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(folder / "bus"))
        server.listen()

        def serve() -> None:
            with server.accept()[0] as peer:
                with suppress(ConnectionError):  # on a busy machine who came may have given up and gone by now
                    talk(peer)
                done.wait(10)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield f"unix:path={folder / 'bus'}"
        finally:
            done.set()
            thread.join()


def greet(peer: socket.socket) -> None:
    """Do what a bus does before the first message."""
    peer.recv(1024)
    peer.sendall(b"OK 00000000000000000000000000000000\r\n")
    peer.recv(1024)


def babble(peer: socket.socket) -> None:
    """Answer the first message with what is none."""
    greet(peer)
    peer.recv(1024)
    peer.sendall(b"\xff" * 64)


def hang_up(peer: socket.socket) -> None:
    """End the connection after the greeting."""
    greet(peer)
    peer.shutdown(socket.SHUT_RDWR)


@pytest.mark.parametrize(
    "talk",
    [lambda _peer: None, greet, babble, lambda peer: peer.sendall(b"REJECTED EXTERNAL\r\n"), hang_up],
    ids=["silent", "silent after greeting", "garbage", "rejecting", "closing"],
)
def test_a_bus_that_misbehaves_cannot_hold_us(
    talk: Callable[[socket.socket], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Silence, garbage, refusal and hanging up all end within the time given, in one error."""
    with listener(tmp_path, talk) as address:
        monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", address)
        start = time.monotonic()
        with pytest.raises(CertmongerError, match="system bus"):
            Certmonger.open(timeout=0.3)
        assert time.monotonic() - start < 5


def test_importing_costs_no_dbus_library() -> None:
    """``--help`` of a command does not load jeepney."""
    code = "import certhooks.certmonger, sys; raise SystemExit('jeepney' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# -- getcert ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def fake_getcert(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Return a function that puts a shell script in getcert's place."""

    def put(script: str) -> None:
        program = tmp_path / "getcert"
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)
        monkeypatch.setattr(getcert, "GETCERT", program)

    return put


def test_getcerts_message_is_kept_and_its_usage_dropped(fake_getcert: Callable[[str], None]) -> None:
    """The user reads getcert's reason and a hint, not 80 lines of usage."""
    fake_getcert(
        "echo 'There is already a request with the nickname \"a\".'\n"
        "echo 'getcert - client certificate enrollment tool'; exit 1"
    )
    with pytest.raises(CertmongerError) as caught:
        getcert.run(["request"], timeout=10)
    assert str(caught.value) == 'getcert request: There is already a request with the nickname "a"'
    assert "getcert list" in (caught.value.hint or "")


def test_getcert_gets_a_small_environment(
    fake_getcert: Callable[[str], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It sees the bus and Kerberos settings and nothing else of ours, secrets least of all."""
    monkeypatch.setenv("CERTHOOKS_PASSWORD", "hunter2")
    monkeypatch.setenv("KRB5_CONFIG", "/etc/krb5.test")
    fake_getcert(f"/usr/bin/env > {tmp_path}/seen")
    getcert.run(["request"], timeout=10)
    seen = (tmp_path / "seen").read_text()
    assert "hunter2" not in seen
    assert "KRB5_CONFIG=/etc/krb5.test\n" in seen
    assert "LANG=C\n" in seen


def test_a_getcert_that_hangs_is_ended(fake_getcert: Callable[[str], None]) -> None:
    """It cannot hold a command for longer than it was given."""
    fake_getcert("exec sleep 60")
    start = time.monotonic()
    with pytest.raises(CertmongerError, match="did not end"):
        getcert.run(["request"], timeout=0.2)
    assert time.monotonic() - start < 30


def test_without_getcert_the_error_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A host without certmonger gets a hint, not a traceback."""
    monkeypatch.setattr(getcert, "GETCERT", tmp_path / "none")
    with pytest.raises(CertmongerError, match="is not here"):
        getcert.run(["list"], timeout=1)


@pytest.mark.parametrize("word", ["", "a\0b"])
def test_values_that_no_command_can_take_are_refused(word: str) -> None:
    """An empty or NUL-carrying value is an error before anything is run."""
    with pytest.raises(CertmongerError):
        getcert.run(["request", "-N", word], timeout=1)


def test_without_a_bus_getcert_is_never_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a bus getcert would start a certmonger of its own and claim success: so the bus is asked first."""
    called: list[Any] = []
    monkeypatch.setattr(getcert, "run", lambda *_args, **_more: called.append(1))
    certmonger = Certmonger(Bus(get_requests=ConnectionResetError(104, "reset")))
    with pytest.raises(CertmongerError):
        certmonger.add_request(cert_file="/tmp/c", key_file="/tmp/k", common_name="x")
    with pytest.raises(CertmongerError):
        certmonger.resubmit(request(), profile="p")
    assert not called


def test_the_fake_bus_speaks_as_jeepney_does() -> None:
    """The fake answers of this file have the shape of real replies (the tests above rest on it)."""
    call = new_method_call(DBusAddress(PATH, "a.b", "a.b.c"), "GetAll", "s", ("x",))
    bus = Bus(GetAll=(1,))
    bus.send(call, serial=7)
    reply = bus.receive(timeout=1)
    assert (reply.body, reply.header.fields[HeaderFields.reply_serial]) == ((1,), 7)
