"""A host that is enrolled in FreeIPA: a site whose certificates certmonger requests, renews and has installed.

    with EnrolledSite(tmp_path, certmonger_lab) as site:
        fw = site.firewall()
        done = site.getcert("-c", "gp.example.test", "-p", "GP_PORTAL", fw)
        assert done.code == 0, done

``pan_getcert`` runs as the installed script, and ``pan_instcert`` is started by certmonger and by nobody else.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization

from certhooks.certmonger import Certmonger
from certhooks.deadline import Deadline
from certhooks.journal import Attempt, Journal
from tests.lab.ca import make_key, pem_of_key
from tests.lab.site import Done, Site, Word, at

if TYPE_CHECKING:
    from pathlib import Path

    from certhooks.request import Request
    from tests.lab.certmonger import CertmongerLab

NAME = "gp.example.test"
LEVELS = ("ok", "warning", "critical", "unknown")  # in Nagios's order


def sha256(certificate: x509.Certificate) -> str:
    """Return a certificate's fingerprint as the library writes it."""
    return certificate.fingerprint(hashes.SHA256()).hex()


def pair_for(lab: CertmongerLab, name: str, key_type: str = "ec") -> tuple[bytes, bytes]:
    """Return chain and key, PEM, as the lab's FreeIPA issued them earlier."""
    key = make_key(key_type)
    request = x509.CertificateSigningRequestBuilder().subject_name(
        x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    )
    request = request.add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
    signed = request.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()
    leaf, between = lab.ca.issue(signed, lab.ca.policy())
    return "".join([leaf, *between]).encode(), pem_of_key(key)


class EnrolledSite(Site):
    """A site beside a certmonger whose bus this process finds too; ``folder`` is empty and the test's own."""

    def __init__(self, folder: Path, lab: CertmongerLab) -> None:
        super().__init__(folder)
        self.lab = lab
        self.certs = folder / "certs"
        self.keys = folder / "keys"
        self.krb5 = folder / "krb5.conf"
        self.krb5.write_text("[libdefaults]\ndefault_realm = EXAMPLE.TEST\n")

    def getcert(self, *words: Word, **run: Any) -> Done:
        """Run the installed ``pan_getcert`` with this site's folders; keys are EC unless ``-G`` is among the words."""
        return self.process("pan_getcert", *self.getcert_argv(*words), **{"env": self.env(), **run})

    def certhooks(self, *words: str, **run: Any) -> Done:
        """Run the installed ``certhooks`` with this site's state folder and log."""
        own = ("--state-dir", str(self.state), "--log-file", str(self.log))
        return self.process("certhooks", *words, *own, **{"env": self.env(), **run})

    def status(self) -> dict[str, Any]:
        """Return what ``certhooks status --json`` shows, which ends with the number of its level."""
        done = self.certhooks("status", "--json")
        shown: dict[str, Any] = json.loads(done.out)
        assert done.code == LEVELS.index(shown["level"]), done
        return shown

    def placement(self, name: str = NAME) -> dict[str, Any]:
        """Return what status shows of the one target of the certificate ``name``."""
        [found] = [each for one in self.status()["watched"] if one["name"] == name for each in one["placements"]]
        return dict(found)

    def env(self, **more: str) -> dict[str, str]:
        """Return an administrator's environment in which this site's certmonger is found."""
        known = {"DBUS_SYSTEM_BUS_ADDRESS": self.lab.address, "KRB5_CONFIG": str(self.krb5)}
        return {"PATH": "/usr/bin:/bin", **known, **more}

    def getcert_argv(self, *words: Word) -> list[str]:
        """Return the words with this site's folders and files before them; a device stands for its address."""
        return [
            *([] if "-k" in words else ["-k", str(self.panrc)]),
            *([] if "-G" in words else ["-G", "EC"]),
            *("--cert-dir", str(self.certs), "--key-dir", str(self.keys), "--cafile", str(self.trusted)),
            *("--state-dir", str(self.state), "--log-file", str(self.log), "--timeout", "60"),
            *(at(word) for word in words),
        ]

    def cert_file(self, name: str = NAME) -> Path:
        """Return where certmonger keeps the certificate for a name."""
        return self.certs / f"{name}.crt"

    def issued(self, name: str = NAME) -> x509.Certificate:
        """Return the certificate that certmonger has saved."""
        return x509.load_pem_x509_certificate(self.cert_file(name).read_bytes())

    def request(self, name: str = NAME) -> Request:
        """Return certmonger's request for a name as it stands now."""
        with Certmonger.open() as certmonger:
            found = certmonger.by_common_name(name)
        assert found is not None, f"certmonger tracks nothing for {name}"
        return found

    def resubmit(self, name: str = NAME) -> Request:
        """Renew with ``getcert resubmit``, and return the request once its post-save command is over."""
        self.lab.getcert("resubmit", "-i", self.request(name).nickname, "-w", "--wait-timeout", "30")
        return self.settled(name)

    def settled(self, name: str = NAME) -> Request:
        """Return the request once nothing is under way any more."""
        with Certmonger.open() as certmonger:
            return certmonger.wait(self.request(name), Deadline(30), lambda _: None, monitoring=True)

    def attempts(self) -> list[Attempt]:
        """Return the attempts in the journal of the one target of this site, oldest first; none without a target."""
        records = list(Journal(self.state).records()) if self.state.is_dir() else []
        assert len(records) <= 1, [record.target for record in records]
        return records[0].attempts if records else []

    def log_lines(self) -> list[str]:
        """Return the lines of the commands' log."""
        return self.log.read_text().splitlines() if self.log.exists() else []

    def left_behind(self) -> str:
        """Return every text in the site's folders, for a look at what a run has left in them."""
        files = [path for path in sorted(self.folder.rglob("*")) if path.is_file()]
        return json.dumps({str(path): path.read_bytes().decode(errors="replace") for path in files})
