"""An emulator of PAN-OS firewalls and of Panorama, to try certificate pushes without one.

    with Firewall("fw01.example.test") as fw:
        admin = fw.add_admin("certhooks")
        fw.add_profile("GP_PORTAL", certificate="old")
        portal = fw.add_portal("GP_PORTAL")
        ...  # https://127.0.0.1:{fw.port}/api/ with admin.key, trusting fw.ca_pem

It listens on loopback only and keeps everything in memory. What nobody knows about PAN-OS is a switch (``Switches``).
"""

from tests.lab.panos.access import SUPERUSER, Admin, Role, custom_role
from tests.lab.panos.device import Device, Restart
from tests.lab.panos.faults import Kind as Fault
from tests.lab.panos.firewall import Firewall, Portal
from tests.lab.panos.jobs import DeviceResult, Outcome
from tests.lab.panos.panorama import Panorama
from tests.lab.panos.replies import Reply
from tests.lab.panos.switches import Switches

__all__ = [
    "SUPERUSER", "Admin", "Device", "DeviceResult", "Fault", "Firewall", "Outcome", "Panorama", "Portal", "Reply",
    "Restart", "Role", "Switches", "custom_role",
]  # fmt: skip
