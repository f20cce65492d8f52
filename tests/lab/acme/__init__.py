"""A certificate authority, name servers and ACME clients, all real, on loopback."""

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
