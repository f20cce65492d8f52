"""``ipa_dns_md`` as Apache runs it: not as root, in /, with almost no environment and without a standard input."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.lab.dns01 import FOREIGN, NAME, VALUE, Done, Scene
from tests.lab.dns_fixtures import needs_bind

if TYPE_CHECKING:
    from collections.abc import Sequence

pytestmark = [needs_bind, pytest.mark.skipif(os.geteuid() != 0, reason="only root can become Apache's user")]

USER = 33  # www-data on Debian; what matters is that it is not root
# It may read what root may, since a checkout and its Python need not be open to all. It may write only what is its own.
READER = ("--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search")


def as_apache(scene: Scene, words: Sequence[str], operation: Sequence[str]) -> Done:
    """Run the hook as mod_md was seen to: three sockets inherited, descriptor 0 closed."""
    script = str(Path(sys.executable).with_name("ipa_dns_md"))
    become = ["setpriv", f"--reuid={USER}", f"--regid={USER}", "--clear-groups", *READER, "sh", "-c", 'exec "$@" <&-']
    with ExitStack() as hold:
        sockets = [hold.enter_context(socket.socket()) for _ in range(3)]
        done = subprocess.run(
            [*become, "sh", script, "--config", str(scene.config), *words, *operation],
            env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_CTYPE": "C.UTF-8"},
            cwd="/",
            pass_fds=[each.fileno() for each in sockets],
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
    return Done(done.returncode, done.stdout, done.stderr)


def test_with_a_folder_of_its_own(scene: Scene) -> None:
    """Both versions of mod_md's interface work; state lies in the folder, private, and the log goes to syslog."""
    state = scene.folder / "md"
    state.mkdir(mode=0o700)
    for path in (state, scene.folder / "password"):
        shutil.chown(path, USER, USER)
    words = ["--state-dir", str(state)]
    for value in ([VALUE], []):
        assert as_apache(scene, words, ["setup", "www.example.test", VALUE]) == Done(0, "", "")
        assert scene.ipa.txt(NAME) == {FOREIGN, VALUE}
        assert as_apache(scene, words, ["teardown", "www.example.test", *value]) == Done(0, "", "")
        assert scene.ipa.txt(NAME) == {FOREIGN}
    assert {path.stat().st_mode & 0o077 for path in state.iterdir()} == {0}


def test_without_one_it_is_told_what_is_missing(scene: Scene, tmp_path: Path) -> None:
    """Another's state folder, an unreadable password: exit code, one line, and the command that helps."""
    theirs = tmp_path / "theirs"
    theirs.mkdir(mode=0o700)
    done = as_apache(scene, ["--state-dir", str(theirs / "state")], ["setup", "www.example.test", VALUE])
    assert (done.code, "install -d -m 0700 -o USER" in done.err) == (70, True), done
    state = scene.folder / "md"
    state.mkdir(mode=0o700)
    shutil.chown(state, USER, USER)
    shutil.chown(scene.folder / "password", 12345, 12345)
    done = as_apache(scene, ["--state-dir", str(state)], ["setup", "www.example.test", VALUE])
    assert (done.code, "belongs to uid 12345" in done.err) == (5, True), done
    assert scene.ipa.txt(NAME) == {FOREIGN}


@pytest.mark.parametrize("domain", ["--config", "-h", "--version", "--state-dir=/x"])
def test_a_domain_is_never_an_option(domain: str, scene: Scene) -> None:
    """mod_md splits its command line at blanks, so that an answer of the CA's may become a word that begins so."""
    done = as_apache(scene, ["--state-dir", str(scene.folder / "state")], ["setup", domain, VALUE])
    assert (done.code, done.out) == (2, "")
    assert "not a full DNS name" in done.err
