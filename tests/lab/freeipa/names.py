"""Who is who in the lab's realm."""

from __future__ import annotations

from typing import NamedTuple

REALM, DOMAIN = "IPA.TEST", "ipa.test"
SUFFIX = ",".join(f"dc={label}" for label in DOMAIN.split("."))
PREFIX = 24  # of the network, all of which is the loopback device's
ADMIN_PASSWORD = "Secret-of-the-lab-1"
MANAGER_PASSWORD = "Manager-of-the-lab-1"
ENROLMENT_PASSWORD = "Enrol-in-the-lab-1"  # with which the second server joins, once


class Node(NamedTuple):
    """A host of the realm."""

    host: str
    address: str

    @property
    def environment(self) -> dict[str, str]:
        """What every script on it is told, and nothing else."""
        return {
            "HOME": "/root",
            # the kernel's keyrings, FreeIPA's default, know no namespaces: all labs of a machine would share them
            "KRB5CCNAME": "FILE:/run/root.ticket",
            "LANG": "C.UTF-8",
            "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "TERM": "dumb",
            "LAB_REALM": REALM,
            "LAB_DOMAIN": DOMAIN,
            "LAB_HOST": self.host,
            "LAB_ADDRESS": self.address,
            "LAB_SERVER": SERVER.host,
            "LAB_CLIENT": CLIENT.host,
            "LAB_ADMIN_PASSWORD": ADMIN_PASSWORD,
            "LAB_MANAGER_PASSWORD": MANAGER_PASSWORD,
            "LAB_ENROLMENT_PASSWORD": ENROLMENT_PASSWORD,
        }


SERVER = Node(f"server.{DOMAIN}", "10.77.0.10")
REPLICA = Node(f"replica.{DOMAIN}", "10.77.0.11")
CLIENT = Node(f"client.{DOMAIN}", "10.77.0.20")
HOSTS = (  # lines of /etc/hosts
    f"{SERVER.address} {SERVER.host} ipa-ca.{DOMAIN}",
    *(f"{node.address} {node.host}" for node in (REPLICA, CLIENT)),
)
