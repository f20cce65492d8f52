"""An emulator of vCenter and ESXi, to try certificate pushes without one.

    with VCenter("vc01.example.test", address="127.0.0.2") as vc:
        vc.add_user("certhooks@vsphere.local", "secret")
        ...  # https://127.0.0.2:{vc.port}/api/session, trusting vc.ca_pem

It listens on loopback only and keeps everything in memory. What nobody knows about vCenter is a switch (``Switches``).
"""

from tests.lab.vsphere.access import ADMINISTER, EVERYTHING, MANAGE, READ
from tests.lab.vsphere.esxi import Esxi, Host
from tests.lab.vsphere.rest import Reply, Request
from tests.lab.vsphere.switches import Phase, Switches, restart
from tests.lab.vsphere.vcenter import VCenter

__all__ = [
    "ADMINISTER",
    "EVERYTHING",
    "MANAGE",
    "READ",
    "Esxi",
    "Host",
    "Phase",
    "Reply",
    "Request",
    "Switches",
    "VCenter",
    "restart",
]  # fmt: skip
