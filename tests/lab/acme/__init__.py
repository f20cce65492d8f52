"""A certificate authority, name servers and ACME clients, all real, on loopback.

    with AcmeLab(["acme.test", "alias.test"], secondaries=[3, NEVER]) as lab:
        lab.dns.add("_acme-challenge.www.acme.test", "TXT", '"somebody else"')
        done = Certbot(lab.pebble).run(["www.acme.test", "*.www.acme.test"], hook=["/path/of/the/hook"])
        assert done.code == 0, done
        lab.pebble.check(done.fullchain)
        assert lab.dns.values("_acme-challenge.www.acme.test") == {"somebody else"}

Where name server or KDC are already there, ``Daemons``, ``Pebble`` and the clients do without ``AcmeLab``.
"""

from tests.lab.acme.bind import NEVER, NameServer
from tests.lab.acme.clients import Certbot, Dehydrated, Lego, Result
from tests.lab.acme.kdc import Kdc
from tests.lab.acme.lab import AcmeLab
from tests.lab.acme.mod_md import ModMd
from tests.lab.acme.pebble import Pebble
from tests.lab.acme.traefik import Traefik

__all__ = [
    "NEVER",
    "AcmeLab",
    "Certbot",
    "Dehydrated",
    "Kdc",
    "Lego",
    "ModMd",
    "NameServer",
    "Pebble",
    "Result",
    "Traefik",
]
