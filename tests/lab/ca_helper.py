"""A certmonger CA helper with a certificate authority of its own, told by a file what to answer next.

As a module: ``HelperCa.create(folder)`` makes root and intermediate, ``answer(...)`` sets what every later
request gets, ``answer_next(...)`` what the next ones get, ``calls()`` what certmonger asked. As a program
(certmonger starts it): ``python -I ca_helper.py FOLDER`` answers the operation in CERTMONGER_OPERATION. Exit
codes are those of certmonger's doc/helpers.txt: 0 issued, 1 wait, 2 rejected, 3 unreachable, 4 unconfigured,
5 wait so many seconds, 6 not supported.
"""

from __future__ import annotations

import fcntl
import json
import os
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric.types import CertificateIssuerPrivateKeyTypes

ISSUED, WAIT, REJECTED, UNREACHABLE, UNCONFIGURED, WAIT_SECONDS, NOT_SUPPORTED = range(7)
OPERATIONS = {
    "IDENTIFY": "identify",
    "GET-NEW-REQUEST-REQUIREMENTS": "requirements",
    "GET-RENEW-REQUEST-REQUIREMENTS": "requirements",
    "GET-SUPPORTED-TEMPLATES": "profiles",
}
EXIT = {"reject": REJECTED, "unreachable": UNREACHABLE, "unconfigured": UNCONFIGURED, "crash": 9}
DEFAULTS: dict[str, Any] = {
    "answer": "issue",  # issue, wait, poll, garbage, or a key of EXIT
    "text": "made-up refusal",  # goes with reject, unreachable, unconfigured; garbage on stdout
    "seconds": 1,  # goes with wait
    "days": 90,
    "not_before_hours": 1,  # how long ago the certificate's life began
    "intermediate": True,  # issue from the intermediate, and send it along
    "format": "json",  # or pem: leaf and chain, one after the other
    "ca_key": "EC",  # or RSA
    # What it says of itself. certmonger submits a request again when one of these arrives while it is under way
    # (seen with 0.79.17), so by default they are "not supported" and a request is one SUBMIT.
    "identify": None,  # text for getcert list-cas -v
    "requirements": None,  # names of CERTMONGER_REQ_* variables, one a line
    "profiles": None,  # profile names, one a line
    "sign_for": "",  # a public key (PEM) to certify in place of the request's: a CA that answers wrongly
}


@dataclass
class HelperCa:
    """A folder with the CA's keys and certificates, its policy and the list of what it was asked."""

    folder: Path

    @classmethod
    def create(cls, folder: Path, **policy: Any) -> HelperCa:
        """Make the CA's keys and certificates in ``folder``; ``policy`` overrides DEFAULTS."""
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        made = cls(folder)
        made._write({**DEFAULTS, **_known(policy), "next": []})
        made._make("root", None)
        made._make("intermediate", "root")
        return made

    @property
    def root(self) -> str:
        """The root certificate, PEM."""
        return (self.folder / "root.pem").read_text()

    @property
    def intermediate(self) -> str:
        """The intermediate certificate, PEM."""
        return (self.folder / "intermediate.pem").read_text()

    def answer(self, answer: str | None = None, **policy: Any) -> None:
        """Change the policy from now on; takes back what ``answer_next`` has left over."""
        changes = _known(policy if answer is None else {**policy, "answer": answer})
        with self._policy() as current:
            current.update(changes, next=[])

    def answer_next(self, answer: str, *, times: int = 1, **policy: Any) -> None:
        """Answer the next ``times`` requests so, and then as before."""
        changes = _known({**policy, "answer": answer})
        with self._policy() as current:
            current["next"] += [changes] * times

    def calls(self) -> list[dict[str, str]]:
        """Return what was asked so far: the CERTMONGER_* environment of each SUBMIT and POLL."""
        log = self.folder / "calls.jsonl"
        return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []

    def policy(self) -> dict[str, Any]:
        """Return what holds now, answers for the next requests left aside."""
        with self._policy() as current:
            return dict(current)

    def take(self, call: dict[str, str]) -> dict[str, Any]:
        """Note a request and return the policy that holds for it."""
        with self._policy() as current:
            with (self.folder / "calls.jsonl").open("a") as log:
                log.write(json.dumps(call) + "\n")
            once: dict[str, Any] = current["next"].pop(0) if current["next"] else {}
            return {**current, **once}

    def issue(self, csr_pem: str, policy: dict[str, Any]) -> tuple[str, list[str]]:
        """Certify the request; return the leaf and the certificates between it and the root, PEM."""
        from cryptography import x509
        from cryptography.hazmat.primitives.serialization import load_pem_public_key
        from cryptography.x509.oid import ExtendedKeyUsageOID

        csr = x509.load_pem_x509_csr(csr_pem.encode())
        public_key: Any = csr.public_key()
        if policy["sign_for"]:
            public_key = load_pem_public_key(policy["sign_for"].encode())
        issuer = "intermediate" if policy["intermediate"] else "root"
        builder = _builder(csr.subject, public_key, policy["days"], policy["not_before_hours"])
        for wanted in csr.extensions:
            if wanted.oid == x509.SubjectAlternativeName.oid:
                builder = builder.add_extension(wanted.value, critical=False)
        builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        server = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH])
        builder = builder.add_extension(server, critical=False)
        leaf = self._sign(builder, issuer)
        return leaf, [self.intermediate] if policy["intermediate"] else []

    @contextmanager
    def _policy(self) -> Iterator[dict[str, Any]]:
        """Hold the policy alone (certmonger runs several helpers at once); changes are kept."""
        with (self.folder / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            current = json.loads((self.folder / "policy.json").read_text())
            yield current
            self._write(current)

    def _write(self, policy: dict[str, Any]) -> None:
        (self.folder / "policy.json.new").write_text(json.dumps(policy, indent=1))
        (self.folder / "policy.json.new").replace(self.folder / "policy.json")

    def _make(self, name: str, issuer: str | None) -> None:
        from cryptography import x509
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric import ec, rsa

        policy = json.loads((self.folder / "policy.json").read_text())
        key: CertificateIssuerPrivateKeyTypes
        if policy["ca_key"] == "RSA":
            key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        else:
            key = ec.generate_private_key(ec.SECP256R1())
        form = (serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        (self.folder / f"{name}.key").write_bytes(key.private_bytes(serialization.Encoding.PEM, *form))
        subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, f"lab {name} CA")])
        builder = _builder(subject, key.public_key(), 3650, 24)
        depth = 0 if issuer else 1
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=depth), critical=True)
        usage = dict.fromkeys(
            (
                *("content_commitment", "key_encipherment", "data_encipherment", "key_agreement"),
                *("encipher_only", "decipher_only"),
            ),
            False,
        )
        builder = builder.add_extension(
            x509.KeyUsage(digital_signature=True, key_cert_sign=True, crl_sign=True, **usage), critical=True
        )
        (self.folder / f"{name}.pem").write_text(self._sign(builder, issuer or name, subject))

    def _sign(self, builder: x509.CertificateBuilder, issuer: str, own: x509.Name | None = None) -> str:
        from cryptography import x509
        from cryptography.hazmat.primitives import hashes
        from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key

        key: Any = load_pem_private_key((self.folder / f"{issuer}.key").read_bytes(), None)
        certificate = self.folder / f"{issuer}.pem"
        name = own if own and not certificate.exists() else None
        name = name or x509.load_pem_x509_certificate(certificate.read_bytes()).subject
        identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key())
        builder = builder.issuer_name(name).add_extension(identifier, critical=False)
        return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM).decode()


def _builder(subject: x509.Name, key: Any, days: float, ago: float) -> x509.CertificateBuilder:
    from datetime import datetime, timedelta, timezone

    from cryptography import x509

    start = datetime.now(timezone.utc).replace(microsecond=0) - timedelta(hours=ago)
    builder = x509.CertificateBuilder().subject_name(subject).public_key(key)
    builder = builder.serial_number(x509.random_serial_number())
    builder = builder.not_valid_before(start).not_valid_after(start + timedelta(days=days))
    return builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)


def _known(policy: dict[str, Any]) -> dict[str, Any]:
    unknown = set(policy) - set(DEFAULTS)
    if unknown:
        raise TypeError(f"the CA helper has no option {sorted(unknown)}")
    return policy


def _submit(ca: HelperCa) -> tuple[int, str]:
    asked = {name: value for name, value in os.environ.items() if name.startswith("CERTMONGER_")}
    policy = ca.take(asked)
    answer = policy["answer"]
    if answer in EXIT:
        return EXIT[answer], policy["text"]
    if answer == "garbage":
        return ISSUED, policy["text"]
    if answer == "wait":
        return WAIT_SECONDS, f"{policy['seconds']}\ncookie\n"
    if answer == "poll":
        return WAIT, "cookie\n"
    leaf, chain = ca.issue(asked["CERTMONGER_CSR"], policy)
    if policy["format"] == "pem":
        return ISSUED, "".join([leaf, *chain])
    between = [{"nickname": f"lab intermediate {n}", "certificate": pem} for n, pem in enumerate(chain)]
    roots = [{"nickname": "lab root", "certificate": ca.root}]
    return ISSUED, json.dumps({"certificate": leaf, "chain": between, "roots": roots})


def main() -> int:
    """Answer one operation of certmonger; everything that goes wrong is a rejection with its text."""
    ca = HelperCa(Path(sys.argv[1]))
    operation = os.environ.get("CERTMONGER_OPERATION", "SUBMIT")
    try:
        code, text = NOT_SUPPORTED, ""
        if operation in {"SUBMIT", "POLL"}:
            code, text = _submit(ca)
        elif operation == "FETCH-ROOTS":
            code, text = ISSUED, f"lab root\n{ca.root}"
        elif operation in OPERATIONS:
            said = ca.policy()[OPERATIONS[operation]]
            code, text = (NOT_SUPPORTED, "") if said is None else (ISSUED, said)
    except Exception as error:  # noqa: BLE001 - a traceback would reach certmonger as NEED_GUIDANCE without a word
        code, text = REJECTED, f"ca_helper: {type(error).__name__}: {error}\n"
    sys.stdout.write(text)
    return code


if __name__ == "__main__":
    raise SystemExit(main())
