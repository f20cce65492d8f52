"""The emulators, started by hand as the README says."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Optional

import pytest

from certhooks import probe, signing
from certhooks.address import Address, parse
from certhooks.deadline import Deadline
from certhooks_vcenter import instcert
from tests.lab.panos.__main__ import main as panos
from tests.lab.site import call
from tests.lab.vsphere.__main__ import main as vsphere

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

REPOSITORY = Path(__file__).parents[2]


@contextmanager
def by_hand(module: str, folder: Path, *words: str) -> Iterator[tuple[dict[str, Any], list[str]]]:
    """Start an emulator, and yield its facts and, once it is stopped, what it printed."""
    ready, out, printed = folder / "ready.json", folder / "out", list[str]()
    command = [sys.executable, "-m", module, "--out", str(out), "--ready", str(ready), *words]
    process = subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True)
    try:
        facts: Optional[dict[str, Any]] = None
        deadline = time.monotonic() + 20
        while facts is None and time.monotonic() < deadline and process.poll() is None:
            if ready.exists():
                facts = json.loads(ready.read_text())
            else:
                time.sleep(0.05)
        assert facts is not None
        yield facts, printed
        process.send_signal(signal.SIGTERM)
        printed += process.communicate(timeout=10)[0].splitlines()
        assert process.returncode == 0
        assert printed[-1] == "stopped"
    finally:
        if process.poll() is None:
            process.kill()
            process.communicate()


def test_a_firewall_stands_alone(tmp_path: Path) -> None:
    """``python -m tests.lab.panos`` writes its key file 0600 and the ready file, serves, and stops on SIGTERM."""
    with by_hand("tests.lab.panos", tmp_path, "--portal", "GP_PORTAL") as (facts, printed):
        assert Path(facts["panrc"]).stat().st_mode & 0o777 == 0o600
        management, portal = facts["port"], facts["portals"]["gp-GP_PORTAL"]
        assert probe.first(Address("127.0.0.1", management)).der != probe.first(Address("127.0.0.1", portal)).der
    secret = (tmp_path / "out/.panrc").read_text().split("api_key=")[1].strip()
    assert secret not in "\n".join(printed)


def test_a_vcenter_stands_alone(tmp_path: Path) -> None:
    """``python -m tests.lab.vsphere`` serves what its files say: the printed facts suffice to install on it.

    The replacement's request is cut, as the switch says, and the command that signs signs. The password is printed
    nowhere.
    """
    with by_hand("tests.lab.vsphere", tmp_path, "--hosts", "2", "--switch", "put=reset") as (facts, printed):
        assert Path(facts["credentials"]).stat().st_mode & 0o777 == 0o600
        where = parse(facts["address"])
        assert where.host == "127.0.0.2"
        words = [
            *("-b", "-v", "-c", "vc01.example.test", "-a", facts["credentials"], "--cafile", facts["ca"]),
            *("-C", facts["certificate"], "-K", facts["key"], "--rootfile", facts["roots"]),
            *("--state-dir", str(tmp_path / "state"), "--log-file", str(tmp_path / "log"), facts["address"]),
        ]
        done = call(instcert.main, words)
        assert done.code == 0, done
        assert "whether it was carried out will be seen" in done.err, done
        assert len({probe.first(parse(host)).der for host in facts["hosts"].values()}) == 2
        assert "esx02.example.test" in Path(facts["etc_hosts"]).read_text()
        signed = signing.by_command(facts["sign"], request("esx01.example.test"), Deadline(20))
        assert signed.startswith(b"-----BEGIN CERTIFICATE-----")
    secret = (tmp_path / "out/vmwrc").read_text().split("password=")[1].strip()
    assert secret not in "\n".join(printed)


def request(name: str) -> str:
    """Return a request as a host makes it."""
    from tests.lab.ca import CA
    from tests.lab.vsphere import Host

    return Host(name, "8.0.2", CA(), [name]).csr()


@pytest.mark.parametrize(
    ("main", "words", "text"),
    [
        (panos, ["--switch", "nonsense=1"], "no switch is called nonsense"),
        (panos, ["--switch", "pbes2_in_pkcs12=perhaps"], "yes or no"),
        (vsphere, ["--switch", "api=perhaps"], "yes or no"),
        (vsphere, ["--switch", "put=thrown"], "one of answered"),
        (vsphere, ["--switch", "after=lunch"], "one of restart"),
        (vsphere, ["--address", "127.0.0.1"], "pyvmomi does not verify"),
    ],
)
def test_a_wrong_word_is_refused(
    main: Callable[[list[str]], int], words: list[str], text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A switch, a value or an address that cannot be meant is one line, and nothing is started."""
    assert main(words) == 1
    assert text in capsys.readouterr().err


@pytest.mark.parametrize("main", [panos, vsphere])
def test_the_switches_are_told(main: Callable[[list[str]], int], capsys: pytest.CaptureFixture[str]) -> None:
    """``--list-switches`` describes them."""
    assert main(["--list-switches"]) == 0
    assert "Attributes:" in capsys.readouterr().out
