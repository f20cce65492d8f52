"""exim, Debian's mail server, on a machine of the test's own (``machine.py``): ``python -m tests.lab.exim`` gets it.

The package is unpacked and not installed: it would take the place of the mail server that a developer's machine has.
"""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from tests.lab.daemons import Daemons
from tests.lab.freeipa.layers import Layer

if TYPE_CHECKING:
    from typing_extensions import Self

    from tests.lab.ca import Issued

USER, UID = "Debian-exim", 64321
_CONF = Path("/etc/exim4/exim4.conf")
_PROGRAM = Path("/usr/local/sbin/exim4")
_SETTINGS = """
primary_hostname = {name}
exim_path = {program}
exim_user = {user}
exim_group = {user}
spool_directory = {folder}/spool
log_file_path = {folder}/log/%slog
local_interfaces = 127.0.0.1
daemon_smtp_ports = 25
keep_environment =
tls_advertise_hosts = *
tls_certificate = {folder}/pair.pem
tls_privatekey = {folder}/pair.pem
acl_smtp_rcpt = rcpt
acl_smtp_data = data
begin acl
rcpt:
  accept domains = @ : localhost
  deny message = relay not permitted
data:
  deny condition = ${{if match{{$h_subject:}}{{unwanted}}}}
       message = this is not wanted here
  accept
begin routers
local:
  driver = accept
  check_local_user
  transport = mailbox
begin transports
mailbox:
  driver = appendfile
  file = {folder}/mail/$local_part_data
  envelope_to_add
  return_path_add
"""


def _unpack(folder: Path) -> None:
    """Fetch the package and what it needs and this machine lacks, and unpack them."""
    apt = ["apt-get", "-qq", "-o", "DPkg::Lock::Timeout=120", "-o", "APT::Sandbox::User=root"]
    with tempfile.TemporaryDirectory() as scratch:
        archives = Path(scratch, "archives")
        (archives / "partial").mkdir(parents=True)
        words = ["install", "--download-only", "--yes", "--no-install-recommends", "exim4-daemon-light"]
        for command in ([*apt, "update"], [*apt, "-o", f"Dir::Cache::archives={archives}", *words]):
            subprocess.run(command, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        for package in archives.glob("*.deb"):
            subprocess.run(["dpkg-deb", "-x", str(package), str(folder)], check=True)


LAYER = Layer("exim", [Path("/etc/os-release"), "unpacked"], _unpack)


class Exim:
    """The server on port 25, which delivers to users of this machine: to files in ``folder/mail``."""

    def __init__(self, name: str, issued: Issued) -> None:
        self._daemons = Daemons("exim")
        self.folder = self._daemons.folder
        self.folder.chmod(0o755)
        for file, line in (("passwd", f"{USER}:x:{UID}:{UID}::/:/bin/false\n"), ("group", f"{USER}:x:{UID}:\n")):
            path = Path("/etc", file)
            if USER not in path.read_text():
                path.write_text(path.read_text() + line)
        for each in ("spool", "log", "mail"):
            (self.folder / each).mkdir()
            os.chown(self.folder / each, UID, UID)
        (self.folder / "mail").chmod(0o1777)
        (self.folder / "pair.pem").write_bytes(issued.fullchain_pem + issued.key_pem)
        os.chown(self.folder / "pair.pem", UID, UID)
        _CONF.parent.mkdir(exist_ok=True)
        _CONF.write_text(_SETTINGS.format(name=name, user=USER, folder=self.folder, program=_PROGRAM))

    def __enter__(self) -> Self:
        # It is set-uid, to deliver as the user whose mailbox it is, and so reads no LD_LIBRARY_PATH.
        libraries = next(LAYER.path.glob("usr/lib/*-linux-gnu"))
        shutil.copytree(libraries, Path("/usr/local/lib"), symlinks=True, dirs_exist_ok=True)
        subprocess.run(["ldconfig"], check=True)
        shutil.copy(LAYER.path / "usr/sbin/exim4", _PROGRAM)
        _PROGRAM.chmod(0o4755)
        self._daemons.start(
            [str(_PROGRAM), "-bdf", "-q1m"], self.folder / "out", lambda: self._daemons.listens(25), family=True
        )
        return self

    def __exit__(self, *_: object) -> None:
        self._daemons.stop()

    def mail(self, user: str, seconds: float = 10.0) -> str:
        """Return a user's mailbox, once there is something in it."""
        path = self.folder / "mail" / user
        end = time.monotonic() + seconds
        while not path.exists() or not path.stat().st_size:
            assert time.monotonic() < end, self.log()
            time.sleep(0.02)
        return path.read_text()

    def log(self) -> str:
        """Return what the server has written down."""
        return "\n".join(path.read_text() for path in sorted((self.folder / "log").iterdir()))


def user(name: str, uid: int = 64322) -> None:
    """Add a user to this machine."""
    passwd = Path("/etc/passwd")
    passwd.write_text(f"{passwd.read_text()}{name}:x:{uid}:{uid}::/:/bin/false\n")
    assert pwd.getpwnam(name).pw_uid == uid


if __name__ == "__main__":
    LAYER.build(lambda text: print(text, file=sys.stderr))
