"""Each ACME client, as it is, gets certificates from a real CA through our hooks, with its values in a real FreeIPA."""

from __future__ import annotations

import functools
import shlex
import shutil
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Callable

import pytest

from tests.lab.acme import Certbot, Dehydrated, Lego, ModMd, Pebble, Result, Traefik
from tests.lab.acme.bind import free_port
from tests.lab.acme.clients import CERTBOT, LegoClient
from tests.lab.acme.mod_md import USER
from tests.lab.acme.traefik import TRAEFIK
from tests.lab.daemons import Daemons
from tests.lab.fixtures import need
from tests.lab.freeipa import challenges, names
from tests.lab.freeipa.challenges import ACME_ZONE, PREFIX, ZONE, command
from tests.lab.freeipa.fixtures import enrolled_machine, freeipa

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tests.lab.freeipa.server import FreeIPA

__all__ = ["freeipa"]
pytestmark = enrolled_machine()

ONE = [f"one.{ZONE}"]
SEVERAL = [f"both.{ZONE}", f"*.both.{ZONE}", f"www.{ZONE}"]  # the last is an alias, into the zone for challenges
TARGET = f"www.{ACME_ZONE}"
TWENTY = [f"n{number}.{ZONE}" for number in range(20)]
PASSWORD = "Secret-of-the-clients"


class Lab:
    """FreeIPA, a CA that asks its name server, and the commands on the host that is enrolled."""

    def __init__(self, daemons: Daemons, server: FreeIPA) -> None:
        self.daemons = daemons
        self.zones = challenges.Zones(server, ZONE, ACME_ZONE)
        self.pebble = Pebble(daemons, (names.SERVER.address, 53))
        self.endpoint = f"http://127.0.0.1:{free_port()}"

    def start(self) -> None:
        """Start the CA and the server for httpreq."""
        self.pebble.start()
        clients = Path("/etc/certhooks/ipa_dns.clients")
        clients.touch(mode=0o600)
        clients.write_text(f"[traefik]\npassword = {PASSWORD}\nnames = *.{ZONE}\n")
        where, log = self.endpoint.removeprefix("http://"), self.daemons.folder / "serve.log"
        serve = [command("ipa_dns"), "serve", "--listen", where]
        self.daemons.start(serve, log, lambda: "listening" in log.read_text())

    def host(self, number: int) -> list[str]:
        """Return the options of one of several hosts: it has a list of our values of its own."""
        folder = self.daemons.folder / f"host{number}"
        if not folder.exists():
            folder.mkdir()
            self.zones.states.append(folder / "state")
        return ["--state-dir", str(folder / "state"), "--log-file", str(folder / "log")]

    def check(self, done: Result, wanted: list[str]) -> None:
        """Check that this certificate came, and that the zones are as before."""
        self.check_certificate(done, wanted)
        self.zones.check()

    def check_certificate(self, done: Result, wanted: list[str]) -> None:
        """Check that this certificate came, for these names, from this CA."""
        assert done.code == 0, str(done)
        assert done.names == sorted(wanted)
        self.pebble.check(done.fullchain)


Ask = Callable[[Lab, list[str]], Result]


def mod_md(lab: Lab, wanted: list[str]) -> Result:
    """Let Apache run our command as its own user, with settings, a key and a folder that this user can read."""
    folder = Path(tempfile.mkdtemp(dir=lab.daemons.folder))
    shutil.copy(challenges.KEYTAB, folder / "keytab")
    (folder / "ini").write_text(f"[ipa]\nkeytab = {folder / 'keytab'}\nprincipal = {challenges.SERVICE}\n")
    (folder / "state").mkdir(mode=0o700)
    lab.zones.states.append(folder / "state")
    for path in (folder, *folder.iterdir()):
        shutil.chown(path, USER)
    words = ["--config", str(folder / "ini"), "--state-dir", str(folder / "state"), "--log-file", str(folder / "log")]
    return ModMd(lab.pebble).run(wanted, [command("ipa_dns_md"), *words])


HTTPREQ = {"HTTPREQ_USERNAME": "traefik", "HTTPREQ_PASSWORD": PASSWORD, "HTTPREQ_POLLING_INTERVAL": "0"}
EXEC = {"EXEC_POLLING_INTERVAL": "0"}  # else lego sleeps a second for each name before it looks
LEGO, DEHYDRATED = [command("ipa_dns_lego")], [command("ipa_dns_dehydrated")]


def lego(lab: Lab, wanted: list[str], *, raw: bool = False) -> Result:
    """Let lego call our program."""
    return Lego(lab.pebble, looks=True).run(wanted, LEGO, env=EXEC, raw=raw)


def httpreq(client: type[LegoClient], lab: Lab, wanted: list[str]) -> Result:
    """Let lego or Traefik ask our server."""
    return client(lab.pebble, looks=True).run(wanted, endpoint=lab.endpoint, env=HTTPREQ)


CLIENTS: dict[str, Ask] = {
    "certbot-plugin": lambda lab, wanted: Certbot(lab.pebble).run(wanted, options=["--authenticator", "dns-freeipa"]),
    "dehydrated": lambda lab, wanted: Dehydrated(lab.pebble).run(wanted, DEHYDRATED),
    "lego": lego,
    "traefik": lambda lab, wanted: Traefik(lab.pebble, looks=True).run(wanted, LEGO, env=EXEC),
    "mod_md": mod_md,
}
OTHERWISE: dict[str, Ask] = {
    "dehydrated without HOOK_CHAIN": lambda lab, wanted: Dehydrated(lab.pebble).run(wanted, DEHYDRATED, chain=False),
    "lego RAW": functools.partial(lego, raw=True),
    "lego httpreq": functools.partial(httpreq, Lego),
    "traefik httpreq": functools.partial(httpreq, Traefik),
}
MANY: dict[str, Ask] = {
    **CLIENTS,
    "certbot": lambda lab, wanted: Certbot(lab.pebble).run(wanted, [command("ipa_dns_certbot")]),
    **{key: OTHERWISE[key] for key in ("lego httpreq", "traefik httpreq")},
}


@pytest.fixture(scope="module")
def lab(freeipa: FreeIPA) -> Iterator[Lab]:
    """Make the account, by the commands that we tell an administrator to type, and start the CA."""
    need("pebble", "curl", "openssl", "ss", "lego", "dehydrated", "apache2", str(CERTBOT), str(TRAEFIK), root=True)
    challenges.run(freeipa, challenges.commands("--acme-zone", ACME_ZONE, "--keytab", "/run/acme.keytab"))
    more = challenges.commands("--zone", ZONE)
    challenges.run(freeipa, [line for line in more if not line.startswith(("ipa service-add ", "ipa-getkeytab "))])
    challenges.configure(freeipa)
    with Daemons("acme-lab") as daemons:
        made = Lab(daemons, freeipa)
        made.zones.put(TARGET, *(f"{PREFIX}{name}" for name in (*ONE, SEVERAL[0], *TWENTY)))
        made.start()
        yield made


def test_the_printed_commands_make_a_key(freeipa: FreeIPA, lab: Lab) -> None:
    """The last of the commands fetches the account's key, and the account has no role but those for the zones."""
    assert lab.zones.theirs
    assert challenges.SERVICE in freeipa.run("klist", "-k", "/run/acme.keytab").stdout
    shown = freeipa.api("service_show", challenges.SERVICE, all=True)["result"]
    assert sorted(shown["memberof_role"]) == [f"ACME DNS {ACME_ZONE}", f"ACME DNS {ZONE}"]


@pytest.mark.parametrize("client", CLIENTS.values(), ids=CLIENTS)
def test_a_client_gets_certificates(lab: Lab, client: Ask) -> None:
    """One name; and a name, its wildcard and an alias into another zone together; nothing of ours is left."""
    at_once(lab, [(client, ONE), (client, SEVERAL)])


def test_clients_called_otherwise_get_certificates(lab: Lab) -> None:
    """So it is with the other ways in which clients call hooks, also when they want the same names at once."""
    at_once(lab, [(client, SEVERAL) for client in OTHERWISE.values()])


def test_twenty_names(lab: Lab) -> None:
    """One certificate has twenty names, for every kind of client at once, and somebody else's values stay."""
    at_once(lab, [(client, TWENTY) for client in MANY.values()])


def at_once(lab: Lab, runs: Sequence[tuple[Ask, list[str]]]) -> None:
    """Run clients at once, since they sleep most of the time, and check what each came to, and then the zones."""
    with ThreadPoolExecutor(len(runs)) as threads:
        running = [threads.submit(client, lab, wanted) for client, wanted in runs]
    for each, (_, wanted) in zip(running, runs):
        lab.check_certificate(each.result(), wanted)
    lab.zones.check()


def test_certbot_with_hooks_and_its_renewal(lab: Lab) -> None:
    """So it is with certbot's manual hooks, and both certificates are renewed by one process, which leaks variables."""
    certbot, before = Certbot(lab.pebble), {}
    for wanted in (ONE, SEVERAL):
        done = certbot.run(wanted, [command("ipa_dns_certbot")])
        lab.check(done, wanted)
        before[done.fullchain] = done.chain[0].serial_number
    done = certbot.renew()
    for wanted in (ONE, SEVERAL):
        renewed = Result(done.code, done.output, done.seconds, certbot.fullchain(wanted[0]))
        lab.check(renewed, wanted)
        assert renewed.chain[0].serial_number != before[renewed.fullchain]


def test_two_hosts_at_once_on_one_name(lab: Lab) -> None:
    """Both have their values at the name at the same time, both get their certificates, and both clean up their own."""
    wanted = SEVERAL[:2]
    place = f"{PREFIX}{wanted[0]}"

    def host(number: int) -> Result:
        hook = shlex.join([command("ipa_dns_dehydrated"), *lab.host(number)])
        here, there = (lab.daemons.folder / f"host{each}" / "there" for each in (number, 1 - number))
        text = f"""{hook} "$@" || exit
            [ "$1" = deploy_challenge ] || exit 0
            touch {here}; until [ -e {there} ]; do sleep 0.05; done"""
        return Dehydrated(lab.pebble).run(wanted, ["sh", "-c", text, "hook"], timeout=60)

    with ThreadPoolExecutor() as threads:
        running = [threads.submit(host, number) for number in range(2)]
        most = 0
        while not all(each.done() for each in running):
            most = max(most, len(challenges.served(place)))
    for each in running:
        lab.check(each.result(), wanted)
    assert most == 1 + 2 * len(wanted)
