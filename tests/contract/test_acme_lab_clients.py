"""Each ACME client, as it is, gets real certificates through the lab, with a hook that only calls nsupdate."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Callable

import pytest

from tests.lab.acme import AcmeLab, Certbot, Dehydrated, Lego, ModMd, Result, Traefik
from tests.lab.acme.clients import CERTBOT
from tests.lab.acme.mod_md import USER
from tests.lab.acme.traefik import TRAEFIK
from tests.lab.fixtures import need

if TYPE_CHECKING:
    from collections.abc import Iterator

Ask = Callable[[AcmeLab, list[str]], Result]

CASES = {
    "one name": ["one.acme.test"],
    "apex and wildcard": ["both.acme.test", "*.both.acme.test"],
    "an alias": ["alias.acme.test"],
}
ALIASES = {"_acme-challenge.alias.acme.test": "alias.alias.test"}  # CNAMEs into the other zone
FOREIGN = "somebody else's"  # a value that stands where ours will be
CLIENTS: dict[str, Ask] = {
    "certbot": lambda lab, names: Certbot(lab.pebble).run(names, lab.hook("certbot")),
    "dehydrated": lambda lab, names: Dehydrated(lab.pebble).run(names, lab.hook("dehydrated")),
    "lego": lambda lab, names: Lego(lab.pebble).run(names, lab.hook("lego")),
    "traefik": lambda lab, names: Traefik(lab.pebble).run(names, lab.hook("lego")),
    "mod_md": lambda lab, names: ModMd(lab.pebble).run(names, lab.hook("mod_md")),
}
OTHERWISE: dict[str, Ask] = {
    "dehydrated without HOOK_CHAIN": lambda lab, names: Dehydrated(lab.pebble).run(
        names, lab.hook("dehydrated"), chain=False
    ),
    "lego RAW": lambda lab, names: Lego(lab.pebble).run(names, lab.hook("lego"), raw=True),
    "lego httpreq": lambda lab, names: Lego(lab.pebble).run(names, endpoint=lab.httpreq()),
    "lego httpreq RAW": lambda lab, names: Lego(lab.pebble).run(names, endpoint=lab.httpreq(), raw=True),
    "traefik httpreq": lambda lab, names: Traefik(lab.pebble).run(names, endpoint=lab.httpreq()),
}


@pytest.fixture(scope="module")
def lab() -> Iterator[AcmeLab]:
    """Start name server and pebble, with a foreign value at every challenge's name."""
    need("named", "dig", "nsupdate", "tsig-keygen", "pebble", "curl", "openssl", "setpriv", "ss")
    need("lego", "dehydrated", "apache2", str(CERTBOT), str(TRAEFIK), root=True)
    with AcmeLab() as started:
        shutil.chown(started.dns.key_file, USER)  # it runs mod_md's hook
        for name, target in ALIASES.items():
            started.dns.add(name, "CNAME", f"{target}.")
        for name in {_place(name) for names in CASES.values() for name in names}:
            started.dns.add(name, "TXT", f'"{FOREIGN}"')
        yield started


@pytest.mark.parametrize("names", CASES.values(), ids=CASES)
@pytest.mark.parametrize("client", CLIENTS.values(), ids=CLIENTS)
def test_a_client_gets_a_certificate(lab: AcmeLab, client: Ask, names: list[str]) -> None:
    """Each client proves a name, a name with its wildcard, and an alias, and has its hook clean up after it."""
    check(lab, client(lab, names), names)


@pytest.mark.parametrize("client", OTHERWISE.values(), ids=OTHERWISE)
def test_a_client_called_otherwise_gets_a_certificate(lab: AcmeLab, client: Ask) -> None:
    """So it is with the other ways in which clients call hooks; two values at one name are what is hard."""
    names = CASES["apex and wildcard"]
    check(lab, client(lab, names), names)


def test_certbot_renews_several_certificates_in_one_process(lab: AcmeLab) -> None:
    """`certbot renew` calls the hook anew for each certificate that an earlier run got."""
    certbot = Certbot(lab.pebble)
    before = {}
    for names in CASES.values():
        done = certbot.run(names, lab.hook("certbot"))
        check(lab, done, names)
        before[done.fullchain] = done.chain[0].serial_number
    done = certbot.renew()
    assert done.code == 0, done
    for names in CASES.values():
        renewed = Result(done.code, done.output, done.seconds, certbot.fullchain(names[0]))
        check(lab, renewed, names)
        assert renewed.chain[0].serial_number != before[renewed.fullchain]


def test_certbot_with_a_plugin(lab: AcmeLab) -> None:
    """The plugin for dynamic updates that certbot's makers wrote works with this BIND, its key and its zones."""
    names = CASES["apex and wildcard"]
    check(lab, Certbot(lab.pebble).run(names, options=lab.rfc2136()), names)


def test_twenty_names_in_one_chained_call(lab: AcmeLab) -> None:
    """With HOOK_CHAIN dehydrated calls the hook once for all names, and gets one certificate for them."""
    names = [f"n{number}.acme.test" for number in range(20)]
    calls = lab.daemons.folder / "calls"
    counting = lab.daemons.script("counting", ["sh", "-c", f'echo "$1" >> {calls}; exec "$0" "$@"'])
    hook = lab.daemons.script("dehydrated-hook", lab.hook("dehydrated"))
    done = Dehydrated(lab.pebble).run(names, [counting, hook])
    check(lab, done, names)
    said = calls.read_text().split()
    assert (said.count("deploy_challenge"), said.count("clean_challenge")) == (1, 1)


@pytest.mark.parametrize("client", CLIENTS.values(), ids=CLIENTS)
def test_without_the_value_there_is_no_certificate(lab: AcmeLab, client: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    """The CA looks: with a hook that does nothing every client fails, and says so."""
    monkeypatch.setattr(lab, "hook", lambda _client: ["true"])
    done = client(lab, CASES["one name"])
    assert done.code != 0, done
    assert not done.fullchain.exists()
    assert "unauthorized" in done.output, done


def check(lab: AcmeLab, done: Result, names: list[str]) -> None:
    """Check that this certificate came, for these names, from this CA, and that the zones are as before."""
    assert done.code == 0, done
    assert done.names == sorted(names)
    lab.pebble.check(done.fullchain)
    for name in {_place(name) for name in names}:
        there = lab.dns.values(name)
        assert there == ({FOREIGN} if name in {_place(n) for case in CASES.values() for n in case} else set())


def _place(name: str) -> str:
    """Return where the challenge's value goes."""
    challenge = f"_acme-challenge.{name.removeprefix('*.')}"
    return ALIASES.get(challenge, challenge)
