"""No secret of a push to vCenter is to be found: arguments, environment, output, log, journal, files, syslog."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.lab import traced
from tests.lab.site import script
from tests.lab.traced import leaks, shown
from tests.lab.vsphere import restart
from tests.lab.vsphere.site import PASSWORD, USER, VSphereSite, secrets_of, served

if TYPE_CHECKING:
    from pathlib import Path


def test_a_whole_push_shows_no_secret(vsite: VSphereSite, tmp_path: Path) -> None:
    """Every system call of vcenter_instcert -vv through a restart; then output and every file, but for key and rc file.

    Sessions' ids are no part of what is left either.
    """
    vc = vsite.vcenter()
    vc.switches.after, vc.switches.put = restart()[:-1], "reset"
    new = vsite.certificate()
    done, whole = traced.run([script("vcenter_instcert"), "-vv", *vsite.argv(vc)], tmp_path)
    assert done.returncode == 0, done
    assert served(vc) == new.sha256
    secrets = secrets_of(new, USER, PASSWORD)
    sessions = {request.headers.get("vmware-api-session-id", "") for request in vc.requests} - {""}
    assert sessions
    secrets.update({f"session {number}": session for number, session in enumerate(sessions)})
    assert "vc01.example.test" in whole
    assert "replacing the Machine SSL certificate" in whole, "the trace shows what is written"
    assert vsite.log.is_file()
    assert leaks(secrets, tmp_path, [vsite.vmwrc, vsite.folder / "vc01.example.test.key"]) == {}
    assert shown(secrets, done.stdout + done.stderr) == []
    for request in vc.requests:
        assert shown(secrets, request.path) == []
