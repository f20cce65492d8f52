"""No secret of a push to vCenter is to be found: arguments, environment, output, log, journal, files, syslog."""

from __future__ import annotations

import base64
import os
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from tests.lab.ca import pem_of_key
from tests.lab.site import script
from tests.lab.vsphere import restart
from tests.lab.vsphere.site import PASSWORD, USER, VSphereSite, served

if TYPE_CHECKING:
    from pathlib import Path

    from tests.lab.ca import Issued

# What a process shows of itself, and what it gives away. What goes through TLS is encrypted before it gets here.
TRACED = "execve,openat,open,creat,write,writev,pwrite64,pwritev,sendto,sendmsg,sendmmsg,rename,renameat,renameat2"


def secrets_of(new: Issued) -> dict[str, str]:
    """Return what nobody may see: password and header, and the private key in any form."""
    assert isinstance(new.key, rsa.RSAPrivateKey)
    lines = pem_of_key(new.key).decode().splitlines()[1:-1]
    form = (serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption())
    plain = new.key.private_bytes(serialization.Encoding.PEM, *form).decode().splitlines()[1:-1]
    return {
        "password": PASSWORD,
        "header": base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode(),
        **{f"PKCS#8 line {number}": line for number, line in enumerate(lines) if number > 6},
        **{f"PKCS#1 line {number}": line for number, line in enumerate(plain) if number > 6},
        "a prime": f"{new.key.private_numbers().p:x}",
        "its exponent": str(new.key.private_numbers().d),
    }


def shown(secrets: dict[str, str], text: str) -> list[str]:
    """Return which secrets a text shows."""
    return [name for name, value in secrets.items() if value in text]


def test_a_whole_push_shows_no_secret(vsite: VSphereSite, tmp_path: Path) -> None:
    """Every system call of vcenter_instcert -vv through a restart; then output and every file, but for key and rc file.

    Sessions' ids are no part of what is left either.
    """
    strace = shutil.which("strace")
    if strace is None and not os.environ.get("CI"):
        pytest.skip("not here: strace")
    assert strace, "apt-get install strace"
    vc = vsite.vcenter()
    vc.switches.after, vc.switches.put = restart()[:-1], "reset"
    new = vsite.certificate()
    traces = tmp_path / "traces"
    traces.mkdir()
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    tracing = ["-f", "-ff", "-v", "-s", "1000000", "-e", f"trace={TRACED}", "-o", str(traces / "run")]
    words = [*tracing, script("vcenter_instcert"), "-vv", *vsite.argv(vc)]
    done = subprocess.run(
        [strace, *words],
        env={"PATH": "/usr/bin:/bin", "TMPDIR": str(temporary)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done
    assert served(vc) == new.sha256
    secrets = secrets_of(new)
    sessions = {request.headers.get("vmware-api-session-id", "") for request in vc.requests} - {""}
    assert sessions
    secrets.update({f"session {number}": session for number, session in enumerate(sessions)})
    whole = "".join(path.read_text(errors="replace") for path in traces.iterdir())
    assert "vc01.example.test" in whole
    assert "replacing the Machine SSL certificate" in whole, "the trace shows what is written"
    kept = {vsite.vmwrc, vsite.folder / "vc01.example.test.key"}
    files = [path for path in tmp_path.rglob("*") if path.is_file() and path not in kept]
    found = {str(path): shown(secrets, path.read_bytes().decode(errors="replace")) for path in files}
    assert {path: names for path, names in found.items() if names} == {}
    assert str(vsite.log) in found
    assert shown(secrets, done.stdout + done.stderr) == []
    assert not list(temporary.iterdir())
    for request in vc.requests:
        assert shown(secrets, request.path) == []
