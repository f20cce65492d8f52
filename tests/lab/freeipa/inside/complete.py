"""On a new server, as root: its DNS, its certificate authority and the tests' host, as FreeIPA's own code makes them.

The installer does the first two only with packages that Debian lacks (bind9-dyndb-ldap, Dogtag). The argument says
which server it is: ``server`` or ``replica``.
"""

from __future__ import annotations

import os
import shutil
import sys
import uuid
from pathlib import Path

from ipalib import api, x509
from ipalib.install import sysrestore
from ipaplatform.paths import paths
from ipapython import dogtag, ipautil
from ipapython.dn import DN
from ipaserver.install import bindinstance, cainstance, service

REALM, DOMAIN = os.environ["LAB_REALM"], os.environ["LAB_DOMAIN"]
HOST, ADDRESS, CLIENT = os.environ["LAB_HOST"], os.environ["LAB_ADDRESS"], os.environ["LAB_CLIENT"]
CA = Path("/var/lib/ipa/labca")  # lab_ca.py


def dns() -> None:
    """Do the directory's half of ipa-dns-install: container, zone, the server's records, principal and permissions."""
    bind = bindinstance.BindInstance(sysrestore.FileStore(paths.SYSRESTORE), api=api)
    addresses = [ipautil.CheckedIPAddress(ADDRESS)]
    bind.setup(
        HOST, addresses, REALM, DOMAIN, (), "only", (), zonemgr=f"hostmaster.{DOMAIN}.", no_dnssec_validation=True
    )
    steps = ["add_self", "add_self_ns", "setup_principal", "setup_server_configuration"]
    for step in ["setup_dns_container", "setup_zone", *steps] if bind.first_instance else steps:
        getattr(bind, f"_BindInstance__{step}")()
    bind.setup_autobind()
    bind.ldap_configure("DNS", HOST, None, bind.suffix)
    service.enable_services(HOST)
    api.Command.dns_update_system_records()


def authority_key() -> None:
    """Give lab_ca.py its key, and let the framework use it."""
    (CA / "certs").mkdir(parents=True)
    for name in ("ca.crt", "ca.key"):
        shutil.copy(f"/var/lib/lab/pki/{name}", CA)
    for path in (CA, *CA.iterdir()):
        shutil.chown(path, "ipaapi", "ipaapi")
        path.chmod(0o700 if path.is_dir() else 0o600)
    settings = Path("/etc/ipa/default.conf")
    text = settings.read_text().replace("enable_ra = False", "enable_ra = True")
    settings.write_text(text.replace("ra_plugin = None", "ra_plugin = lab"))


def authority_entries() -> None:
    """Make the entries that ``cert_request`` asks for: profiles, the CA, the default CA ACL, the server's role."""
    base, entry = api.env.basedn, cainstance.ensure_entry
    for profile, description, keep in dogtag.INCLUDED_PROFILES:
        entry(
            DN(("cn", profile), api.env.container_certprofile, base),
            objectclass=["ipacertprofile"],
            cn=[profile],
            description=[description],
            ipacertprofilestoreissued=["TRUE" if keep else "FALSE"],
        )
    root = x509.load_certificate_from_file(str(CA / "ca.crt"))
    entry(
        DN(("cn", "ipa"), api.env.container_ca, base),
        objectclass=["top", "ipaca"],
        cn=["ipa"],
        description=["IPA CA"],
        ipacaid=[str(uuid.uuid4())],
        ipacasubjectdn=[str(DN(root.subject))],
        ipacaissuerdn=[str(DN(root.issuer))],
    )
    cainstance.ensure_default_caacl()
    entry(
        DN(("cn", "CA"), ("cn", api.env.host), api.env.container_masters, base),
        objectclass=["nsContainer", "ipaConfigObject"],
        cn=["CA"],
        ipaconfigstring=["enabledService", "startOrder 50", "caRenewalMaster"],
    )


def people() -> None:
    """Enrol the tests' host, and let the administrator's password outlive this tree."""
    api.Command.host_add(CLIENT, force=True)
    admin = api.Backend.ldap2.get_entry(DN(("uid", "admin"), api.env.container_user, api.env.basedn))
    admin["krbPasswordExpiration"] = ["20370101000000Z"]
    api.Backend.ldap2.update_entry(admin)


api.bootstrap(context="installer", in_server=True, confdir=paths.ETC_IPA)
api.finalize()
api.Backend.ldap2.connect()
dns()
authority_key()
if sys.argv[1] == "server":
    authority_entries()
    people()
