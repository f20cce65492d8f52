"""Who is who in the lab's realm."""

from __future__ import annotations

REALM, DOMAIN = "IPA.TEST", "ipa.test"
SERVER, ADDRESS = f"server.{DOMAIN}", "10.77.0.10"
CLIENT, CLIENT_ADDRESS = f"client.{DOMAIN}", "10.77.0.20"
PREFIX = 24  # of the network, all of which is the loopback device's
SUFFIX = ",".join(f"dc={label}" for label in DOMAIN.split("."))
ADMIN_PASSWORD = "Secret-of-the-lab-1"
MANAGER_PASSWORD = "Manager-of-the-lab-1"
HOSTS = (f"{ADDRESS} {SERVER} ipa-ca.{DOMAIN}", f"{CLIENT_ADDRESS} {CLIENT}")  # lines of /etc/hosts

ENVIRONMENT = {
    "HOME": "/root",
    "LANG": "C.UTF-8",
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "TERM": "dumb",
    "LAB_REALM": REALM,
    "LAB_DOMAIN": DOMAIN,
    "LAB_SERVER": SERVER,
    "LAB_ADDRESS": ADDRESS,
    "LAB_CLIENT": CLIENT,
    "LAB_ADMIN_PASSWORD": ADMIN_PASSWORD,
    "LAB_MANAGER_PASSWORD": MANAGER_PASSWORD,
}
