"""No secret is to be found where one could look: arguments, environment, URLs, output, log, journal, files, syslog."""

from __future__ import annotations

import base64
import re
import shlex
import shutil
from typing import TYPE_CHECKING

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from certhooks.postsave import split
from tests.lab import traced
from tests.lab.enrolled import NAME
from tests.lab.panos import Fault, Reply
from tests.lab.site import script
from tests.lab.traced import shown

if TYPE_CHECKING:
    from tests.lab.enrolled import EnrolledSite
    from tests.lab.panos import Firewall


def secrets_of(site: EnrolledSite, fw: Firewall) -> dict[str, str]:
    """Return what nobody may see: the API key, each passphrase that an import was given, the private key in any form.

    Of an EC key's three lines the last holds the public half alone, which requests and certificates show too.
    """
    passphrases = {r.params["passphrase"] for r in list(fw.requests) if "passphrase" in r.params}
    assert passphrases, "an import has a passphrase"
    pem = (site.keys / f"{NAME}.key").read_bytes()
    key = serialization.load_pem_private_key(pem, None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    number = key.private_numbers().private_value
    first, second = pem.decode().splitlines()[1:3]
    return {
        **{f"passphrase {number}": text for number, text in enumerate(passphrases)},
        "line 1 of the private key": first,
        "line 2 of the private key": second,
        "the private key in hex": f"{number:064x}",
        "the private key in base64": base64.b64encode(number.to_bytes(32, "big")).decode()[:42],
        "the private key as a number": str(number),
        "API key": site.panrc.read_text().partition("=")[2].strip(),
    }


def test_a_whole_journey_shows_no_secret(enrolled: EnrolledSite) -> None:
    """Every system call of pan_getcert, and of the pan_instcert that certmonger starts, with debugging switched on.

    Then: what was printed, and every file of the site, of certmonger and of the temporary folder, but for the two
    files in which key and API key are kept.
    """
    fw = enrolled.firewall()
    folder = enrolled.folder / "bin"
    folder.mkdir()
    traces = enrolled.folder / "traces"
    traces.mkdir()
    shutil.copy(script("pan_getcert"), folder)
    hook = folder / "pan_instcert"
    argv = [*traced.strace(traces / "hook"), script("pan_instcert")]
    hook.write_text(f'#!/bin/sh\nexec {shlex.join(argv)} -vv "$@"\n')
    hook.chmod(0o755)
    words = ["-vv", *enrolled.getcert_argv("-c", NAME, "-p", "GP_PORTAL", fw)]
    temporary = enrolled.folder / "tmp"
    temporary.mkdir()
    command = [*traced.strace(traces / "getcert"), str(folder / "pan_getcert"), *words]
    done = enrolled.process(command[0], *command[1:], env=enrolled.env(TMPDIR=str(temporary)))
    assert done.code == 0, done
    enrolled.settled()
    secrets = secrets_of(enrolled, fw)
    seen = {path: path.read_text(errors="replace") for path in traces.iterdir()}
    for name in ("hook", "getcert"):
        whole = "".join(text for path, text in seen.items() if path.name.startswith(name))
        assert f'"{NAME}"' in whole, f"the trace of {name} shows arguments"
        assert "PATH=" in whole, f"the trace of {name} shows environments"
        assert "binding profile" in whole or name == "getcert", "the trace shows what is written"
    assert fw.profile_certificate("GP_PORTAL") == NAME
    kept = {enrolled.panrc, enrolled.keys / f"{NAME}.key"}
    files = [p for root in (enrolled.folder, enrolled.lab.folder) for p in root.rglob("*") if p.is_file()]
    found = {str(p): shown(secrets, p.read_bytes().decode(errors="replace")) for p in files if p not in kept}
    assert {path: names for path, names in found.items() if names} == {}
    assert str(enrolled.log) in found
    assert len(found) > 10
    assert not list(temporary.iterdir())
    assert shown(secrets, done.out + done.err) == []


def test_no_secret_travels_in_a_url(enrolled: EnrolledSite) -> None:
    """Request lines, which servers and proxies log, are bare; the key is in its header alone, the pair encrypted."""
    fw = enrolled.firewall()
    assert enrolled.getcert("-c", NAME, "-p", "GP_PORTAL", fw).code == 0
    secrets = secrets_of(enrolled, fw)
    requests = list(fw.requests)
    assert {(request.method, request.target) for request in requests} == {("POST", "/api/")}
    for request in requests:
        assert shown(secrets, "".join(v for k, v in request.headers.items() if k.lower() != "x-pan-key")) == []
        assert request.headers.get("X-PAN-KEY") == secrets["API key"]
        body = request.body.decode(errors="replace")
        assert [name for name in shown(secrets, body) if not name.startswith("passphrase")] == []
    [sent] = [request for request in requests if request.kind == "import keypair"]
    with pytest.raises(TypeError, match="encrypted"):
        serialization.load_pem_private_key(sent.file or b"", None)


def test_a_firewall_that_repeats_the_key_in_its_error(enrolled: EnrolledSite) -> None:
    """What a device says is shown and kept without the secrets that it was told: screen, log, journal, debugging."""
    fw = enrolled.firewall()
    key = enrolled.panrc.read_text().partition("=")[2].strip()
    text = f'<response status="error" code="12"><msg><line>bad key={key} in this request</line></msg></response>'
    fw.faults.add(Fault.RAW, type="commit", reply=Reply(text.encode()))
    done = enrolled.getcert("-vv", "-c", NAME, "-p", "GP_PORTAL", fw)
    assert done.code == 13, done
    assert "bad key=*** in this request" in done.err
    hook = split(enrolled.settled().post_save or "")
    again = enrolled.process(hook[0], *hook[1:], "-vv", env={})
    assert again.code == 13, again
    told = done.err + done.out + again.err + again.out + enrolled.log.read_text()
    assert key not in told
    assert not [path for path in enrolled.state.rglob("*") if path.is_file() and key in path.read_text()]
    assert len(re.findall(r"bad key=\*\*\*", enrolled.log.read_text())) >= 2
