"""Two FreeIPA servers with a name server each: both are waited for, and a value is taken away where it was written."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from tests.lab.freeipa import challenges, names
from tests.lab.freeipa.challenges import PREFIX, THEIRS, ZONE, Zones, ended, listed, ours, served, soon, started
from tests.lab.freeipa.fixtures import enrolled_machine, pair

if TYPE_CHECKING:
    import subprocess

    from tests.lab.freeipa.server import FreeIPA, Pair
    from tests.lab.site import Done

__all__ = ["pair"]
pytestmark = enrolled_machine()

VALUE = "LPsIwTo7o8BoG0-vjCyGQGBWSVIPxI-i_X336eUOQZo"
NAME = f"{PREFIX}www.{ZONE}"
WORDS = (f"www.{ZONE}", VALUE)
LATER = names.REPLICA.address  # where a value comes later than to the server that was told
LAG = 3.0
SOON = 0.3  # seconds after the last server has the value


@pytest.fixture(scope="module")
def zones(pair: Pair) -> Zones:
    """Make the account, and somebody else's value, on both servers."""
    challenges.run(pair.server, challenges.commands("--zone", ZONE, "--keytab", "/run/acme.keytab"))
    challenges.configure(pair.server)
    made = Zones(pair.server)
    made.put(NAME)
    soon(lambda: served(NAME, LATER) == {THEIRS}, 20)  # and with it all that was written before
    return made


def stored(server: FreeIPA) -> set[str]:
    """Return what one server has at the name."""
    return Zones(server).stored()[NAME]


def end_of(process: subprocess.Popen[str]) -> tuple[Done, float]:
    """Return how a command ended, and when."""
    done = ended(process)
    return done, time.monotonic()


def arrival() -> float:
    """Return when the value comes to the name server that lags."""
    soon(lambda: VALUE in served(NAME, LATER), 60)
    return time.monotonic()


def test_a_replica_that_lags_is_waited_for_and_no_longer(pair: Pair, zones: Zones) -> None:
    """The command goes on waiting for as long as the replica lags, and ends at once when its name server has it too."""
    with ThreadPoolExecutor() as threads:
        with pair.apart(pair.server):
            process = started("ipa_dns", "-v", "add", *WORDS)
            end, came = threads.submit(end_of, process), threads.submit(arrival)
            soon(lambda: served(NAME) == {THEIRS, VALUE}, 20)
            time.sleep(LAG)
            assert (end.done(), came.done()) == (False, False)
        done, ended_at = end.result()
        late = ended_at - came.result()
    assert done.code == 0, done
    assert f"waiting for {names.REPLICA.host} ({LATER}) does not have the value of {NAME}" in done.err
    assert late < SOON, late
    assert served(NAME, LATER) == {THEIRS, VALUE}
    assert ours("ipa_dns", "del", *WORDS).code == 0
    zones.check()


def test_a_replica_that_never_gets_it(pair: Pair, zones: Zones) -> None:
    """The wait ends in time and names the replica, and the value is taken back; any one server would do if asked so."""
    soon(lambda: served(NAME, LATER) == {THEIRS})
    with pair.apart(pair.server):
        began = time.monotonic()
        done = ours("ipa_dns", "--wait", "2", "add", *WORDS)
        assert (done.code, 2 <= time.monotonic() - began < 2 + 4) == (14, True), done  # with start, login and undoing
        assert f"{names.REPLICA.host} ({LATER}) does not have the value of {NAME}" in done.err
        assert f"{names.SERVER.host} ({names.SERVER.address})" not in done.err
        zones.check()
        done = ours("ipa_dns", "--require", "any", "add", *WORDS)
        assert (done.code, served(NAME), served(NAME, LATER)) == (0, {THEIRS, VALUE}, {THEIRS}), done
        assert ours("ipa_dns", "del", *WORDS).code == 0
        zones.check()


@pytest.mark.parametrize(
    ("down", "options"),
    [
        (["web"], []),
        (["web", "kdc", "directory"], ["--require", "any"]),
        (["web"], ["--server", f"{names.SERVER.host} {names.REPLICA.host}"]),
    ],
    ids=["web", "all-but-dns", "servers-given"],
)
def test_the_first_server_is_down(pair: Pair, zones: Zones, down: list[str], options: list[str]) -> None:
    """The next one, which DNS or the settings name, takes the value; it is also the one that it is taken from."""
    soon(lambda: served(NAME, LATER) == {THEIRS})
    with pair.server.without(*down):
        done = ours("ipa_dns", *options, "add", *WORDS)
        assert done.code == 0, done
    assert [entry["server"] for entry in listed()] == [names.REPLICA.host]
    soon(lambda: stored(pair.server) == {THEIRS, VALUE}, 20)
    with pair.apart(pair.replica):
        assert ours("ipa_dns", "del", *WORDS).code == 0
        assert (stored(pair.replica), stored(pair.server)) == ({THEIRS}, {THEIRS, VALUE})
    soon(lambda: stored(pair.server) == {THEIRS}, 20)
    zones.check()
