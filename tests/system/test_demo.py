"""The readme's first command keeps its word: it shows what it says, checks it, and leaves nothing behind."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[2]
RUN = ROOT / "contrib" / "demo" / "run"
NEEDED = ("certmonger", "getcert", "dbus-daemon", "setpriv", "ip", "openssl")

pytestmark = pytest.mark.skipif(
    os.getuid() != 0 or not all(shutil.which(name, path="/usr/sbin:/usr/bin:/sbin:/bin") for name in NEEDED),
    reason=f"needs root and {', '.join(NEEDED)}",
)

# The demo with a firewall that refuses the first commit.
SPOILED = """
import sys
from contrib.demo import enclosure
enclosure.settle()
from contrib.demo.__main__ import perform
from contrib.demo.stage import Stage
from tests.lab.panos import Outcome
stage = Stage()
stage.firewall.next_commits.append(Outcome(fail=("not today",)))
sys.exit(perform(stage))
"""
ENCLOSED = (
    "import sys; from contrib.demo import enclosure; sys.exit(enclosure.enclosed([sys.executable, *sys.argv[1:]]))"
)


def test_every_step_ends_as_it_should() -> None:
    """The demo ends with 0, shows four certificates in turn, writes plain text, and leaves the machine as it was."""
    before = machine()
    with started(str(RUN)) as demo:
        head = until(demo, "1. ")
        inside = process_namespace(demo)
        output = head + rest(demo)
        assert demo.returncode == 0, output
    serials = re.findall(r"^\s+serial=(\w+)$", output, re.MULTILINE)
    assert len(serials) == len(set(serials)) == 4, output
    assert re.search(r"^All \d\d checks hold", output, re.MULTILINE), output
    assert "\033" not in output
    assert "FAILED" not in output
    assert not living(inside)
    assert machine() == before


def test_a_shell_inside_cannot_touch_the_machine() -> None:
    """``--shell`` opens a shell after the demo where the commands work and the machine's own files are read-only."""
    push = "pan_instcert -c gp.example.test -Y -p GP_PORTAL -s GP_GATEWAY fw01.example.test"
    typed = f"touch /usr/nobody /etc/ipa/demo-only; getcert list; {push}; ls -d /etc/ipa/demo-only; exit\n"
    done = subprocess.run([str(RUN), "--shell"], input=typed, capture_output=True, text=True, timeout=180, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    tail = done.stdout.partition("checks hold")[2]
    assert "/etc/ipa/demo-only" in tail, done.stdout
    assert "status: MONITORING" in tail, done.stdout
    assert "nothing to do" in tail, done.stdout
    assert "Read-only file system" in done.stderr, done.stderr
    assert not Path("/usr/nobody").exists()
    assert not Path("/etc/ipa/demo-only").exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGKILL])
def test_whatever_ends_it_ends_everything(number: signal.Signals) -> None:
    """Ctrl-C, kill and even kill -9 leave no daemon, no firewall and no mount of the demo."""
    before = machine()
    with started(str(RUN)) as demo:
        until(demo, "2. ")
        inside = process_namespace(demo)
        assert living(inside)
        demo.send_signal(number)
        demo.wait(20)
        assert demo.returncode != 0
    end = time.monotonic() + 20
    while living(inside) and time.monotonic() < end:
        time.sleep(0.05)
    assert not living(inside)
    assert machine() == before


def test_a_step_that_fails_fails_the_demo() -> None:
    """When the firewall refuses the first commit, the demo says which check failed and ends with 1."""
    with started(sys.executable, "-c", ENCLOSED, "-c", SPOILED) as demo:
        output = rest(demo)
    assert demo.returncode == 1, output
    assert "FAILED: exit status 13, but should be 0" in output
    assert "not today" in output
    assert "checks hold" not in output


def test_without_namespaces_it_says_so() -> None:
    """Where root may not make namespaces there is one error, one hint and exit status 1."""
    argv = ["setpriv", "--bounding-set", "-sys_admin", "--inh-caps", "-sys_admin", "--", str(RUN)]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "demo: error: no namespaces here" in done.stderr
    assert "demo: hint: " in done.stderr
    assert "Traceback" not in done.stderr


def test_without_root_it_says_so(tmp_path: Path) -> None:
    """Somebody who is not root is told to use sudo, before anything is installed or made."""
    fake = tmp_path / "id"
    fake.write_text("#!/bin/sh\necho 1000\n")
    fake.chmod(0o755)
    env = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    done = subprocess.run([str(RUN)], env=env, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert "demo: hint: sudo contrib/demo/run" in done.stderr


def test_an_option_that_it_does_not_have_is_refused() -> None:
    """A misspelt option ends in an error, not in a demo without it."""
    done = subprocess.run([str(RUN), "--shel"], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert "unknown option: --shel" in done.stderr


@contextmanager
def started(*argv: str) -> Iterator[subprocess.Popen[str]]:
    """Run a program from the root folder with its output in a pipe; it never outlives the test."""
    env = {name: value for name, value in os.environ.items() if name != "NO_COLOR"}
    with subprocess.Popen(
        argv, cwd=ROOT, env=env, text=True, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def until(process: subprocess.Popen[str], beginning: str) -> str:
    """Return the output up to a line that begins so."""
    lines = []
    for line in process.stdout or ():
        lines.append(line)
        if line.startswith(beginning):
            return "".join(lines)
    raise AssertionError("it ended before that:\n" + "".join(lines))


def rest(process: subprocess.Popen[str]) -> str:
    """Return the rest of the output, once it has ended."""
    output, _ = process.communicate(timeout=180)
    return str(output)


def process_namespace(process: subprocess.Popen[str]) -> str:
    """Return the process namespace of what the program has started."""
    mine = str(Path("/proc/self/ns/pid").readlink())
    for folder in Path("/proc").glob("[0-9]*"):
        with_parent = _read(folder / "stat").rpartition(")")[2].split()
        if with_parent and int(with_parent[1]) == process.pid:
            found = str((folder / "ns" / "pid").readlink())
            assert found != mine
            return found
    raise AssertionError("it has started nothing")


def living(namespace: str) -> list[str]:
    """Return the processes of a process namespace."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if str((folder / "ns" / "pid").readlink()) == namespace:
                found.append(f"{folder.name} {_read(folder / 'comm').strip()}")
        except OSError:  # it has just ended, or is ending
            continue
    return found


def machine() -> tuple[object, ...]:
    """Return what of the machine the demo must not change."""
    hosts = Path("/etc/hosts")
    mounts = Path("/proc/self/mountinfo").read_text()
    places = ("/etc/ipa", "/etc/ssl/certs/gp.example.test.crt", "/var/lib/certhooks", "/var/log/pan_instcert.log")
    return hosts.read_bytes(), hosts.stat().st_mtime_ns, mounts, [Path(place).exists() for place in places]


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
