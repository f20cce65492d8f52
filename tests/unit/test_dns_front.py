"""What every front end shares: which run of a client a call belongs to, and what of a call is an option."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import pytest

if sys.version_info < (3, 10):
    pytest.skip("the DNS hooks need Python 3.10", allow_module_level=True)

from certhooks_freeipa_dns import front

if TYPE_CHECKING:
    import argparse

    from certhooks import cli

SH, CERTBOT = ["/bin/sh", "-c", "ipa_dns_certbot auth"], ["/usr/bin/python3", "/usr/bin/certbot", "renew"]
SCRIPT = ["/bin/bash", "/usr/bin/dehydrated", "-c"]


@pytest.mark.parametrize(
    ("above", "run"),
    [
        ([CERTBOT, ["systemd"]], 0),
        ([SH, CERTBOT, ["systemd"]], 1),
        ([["bash", "-e", "-c", "x"], CERTBOT], 1),
        ([["bash", "--norc", "-lc", "x"], CERTBOT], 1),
        ([["bash", "--norc"], CERTBOT], 0),
        ([["/usr/bin/busybox", "sh", "-c", "x"], CERTBOT], 1),
        ([SCRIPT, ["cron"]], 0),
        ([SCRIPT, SCRIPT, SCRIPT, ["cron"]], 2),
        ([SH, SCRIPT, SCRIPT, ["cron"]], 2),
        ([["/opt/sh/client", "-c", "x"], ["cron"]], 0),
        ([[], ["cron"]], 0),
    ],
)
def test_a_run_is_the_process_of_the_client(above: list[list[str]], run: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A shell that only starts us, and subshells of the client's script, are left out: all calls of a run agree."""
    monkeypatch.setattr("os.getppid", lambda: 100)
    monkeypatch.setattr(front, "_words", lambda pid: above[pid - 100] if 100 <= pid < 100 + len(above) else [])
    monkeypatch.setattr(front, "_parent", lambda pid: pid + 1 if 100 <= pid < 100 + len(above) - 1 else 0)
    monkeypatch.setattr(front, "_started", lambda pid: f"started{pid}")
    assert front.run_of("client") == f"client {100 + run} started{100 + run}"


def test_a_process_is_found_by_its_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """Numbers of processes come again, their start with it does not; one that has ended is no failure."""
    monkeypatch.setattr("os.getppid", lambda: 1)
    client, pid, started = front.run_of("client").split()
    assert (client, pid, started.isdigit()) == ("client", "1", True)
    monkeypatch.setattr("os.getppid", lambda: 2**30)
    assert front.run_of("client") == f"client {2**30} 0"


def test_a_service_is_its_own_run() -> None:
    """What another process of the same service has left belongs to another run."""
    service, pid, started = front.run_of_service("httpreq").split()
    assert (service, int(pid), int(started) > 0) == ("httpreq", os.getpid(), True)


@pytest.mark.parametrize(
    ("argv", "follow", "seen"),
    [
        (["--zone", "z.test", "op", "a", "-b"], False, ("op", ["a", "-b"], "z.test")),
        (["op", "--zone", "z.test", "a", "--zone", "b"], True, ("op", ["a", "--zone", "b"], "z.test")),
        (["op", "--zone", "z.test"], False, ("op", ["--zone", "z.test"], None)),
        (["op", "--", "-x"], False, ("op", ["--", "-x"], None)),
        ([], True, ("", [], None)),
    ],
)
def test_what_the_caller_passes_is_never_an_option(
    argv: list[str],
    follow: bool,  # noqa: FBT001  a parameter
    seen: tuple[str, list[str], str | None],
) -> None:
    """From the first other word on; where options may follow the operation, right behind it too."""
    got: list[tuple[str, list[str], str | None]] = []

    def function(args: argparse.Namespace, _screen: cli.Screen) -> int:
        got.append((args.operation, args.words, args.zone))
        return 7

    def make() -> argparse.ArgumentParser:
        return front.parser("ipa_dns_test", "Tests.", examples="")

    assert front.call("ipa_dns_test", make, function, argv, options_follow=follow) == 7
    assert got == [seen]


def test_pairs() -> None:
    """Names and values take turns; a missing value is told as such."""
    from certhooks.errors import BadNameError, UsageError

    assert front.pairs(["a.test", "v", "_acme-challenge.b.test", "-w"]) == [
        ("_acme-challenge.a.test", "v"), ("_acme-challenge.b.test", "-w"),
    ]  # fmt: skip
    for words in ([], ["a.test"], ["a.test", "v", "b.test"]):
        with pytest.raises(UsageError, match="each name needs a value"):
            front.pairs(words)
    with pytest.raises(BadNameError):
        front.pairs(["a.test", 'v"'])
