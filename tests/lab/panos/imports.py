"""type=import: what a device checks before a certificate or a key lands in the candidate."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Callable, Optional

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm

from tests.lab.panos import certificates, replies

if TYPE_CHECKING:
    from collections.abc import Mapping
    from xml.etree.ElementTree import Element

    from tests.lab.panos.switches import Switches

CATEGORIES = ("certificate", "private-key", "keypair")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._ -]*")
_FILE_NAME_MAXIMUM = 32
_ECHO = 40  # characters of a refused value that the device repeats
_BEGIN = b"-----BEGIN "
_NO_KEY_FOR_CSR = "private key doesn't exist for csr"
_NO_BEGIN = "Failed to find begining of certificate. Make sure certificate starts with BEGIN CERTIFICATE tag"


@dataclass(frozen=True)
class Upload:
    """One import request, query and body merged."""

    category: str
    name: str
    file_name: str
    data: bytes
    params: Mapping[str, str]

    @property
    def passphrase(self) -> str:
        """The passphrase, empty when none came."""
        return self.params.get("passphrase", "")

    @property
    def what(self) -> str:
        """What the texts call it: nothing for a certificate."""
        return {"keypair": "certificate and private-key ", "private-key": "private-key "}.get(self.category, "")

    def failed(self, why: str) -> replies.RefusedError:
        """Return the refusal ``Import of ... failed. why``."""
        return _refused(f"Import of {self.what}{self.name} failed. {why}")

    def told(self, text: str, **more: object) -> replies.RefusedError:
        """Return the refusal with a text that a switch holds."""
        return _refused(text.format(what=self.what, name=self.name, **more))


def _refused(*lines: str, code: Optional[int] = None) -> replies.RefusedError:
    return replies.RefusedError(replies.error(*lines, code=code))


def check_parameters(upload: Upload, switches: Switches, name_maximum: int) -> None:
    """Check names, format and passphrase, in the two layers that a device has.

    Raises:
        replies.RefusedError: with the text that was recorded for it.

    """
    for value in (upload.name, upload.passphrase):
        if "&" in value or "<" in value:  # spliced into XML without escaping
            raise replies.RefusedError(replies.NOT_XML)
    if upload.params.get("format") not in ("pem", "pkcs12"):
        text = f'Parameter "format" is required while importing {upload.category}'
        raise replies.RefusedError(replies.front_end_error(400, text))
    place = " upload -> " + ("certificate" if upload.category != "private-key" else "private-key")
    _check_name(f"{place} -> certificate-name", upload.name, name_maximum)
    _check_file_name(f"{place} -> name", upload.file_name)
    if upload.category != "certificate" or upload.params["format"] == "pkcs12":
        _check_passphrase(upload, switches)


def _check_name(place: str, value: str, maximum: int) -> None:
    if len(value) > maximum:
        text = (
            f"{place} can be at most {maximum} characters, but current length: {len(value)} value: {value[:_ECHO]}..."
        )
        raise _refused(text, f"{place} is invalid", code=17)
    if not _NAME.fullmatch(value):
        raise _refused(f"{place} '{value}' is invalid", f"{place} is invalid", code=17)


def _check_file_name(place: str, value: str) -> None:
    if "*" in value or not value:
        raise _refused(f"{place} '{value}' is invalid", f"{place} is invalid", code=17)
    if len(value) > _FILE_NAME_MAXIMUM:
        text = f"{place} can be at most {_FILE_NAME_MAXIMUM} characters, but current length: {len(value)}"
        raise _refused(f"{text} value: {value[:_ECHO]}...", f"{place} is invalid", code=17)


def _check_passphrase(upload: Upload, switches: Switches) -> None:
    if not upload.passphrase:
        text = f'Parameter "passphrase" is required while importing {upload.category}'
        raise replies.RefusedError(replies.front_end_error(400, text))
    if len(upload.passphrase) > switches.passphrase_maximum:
        text = switches.passphrase_too_long.format(maximum=switches.passphrase_maximum, length=len(upload.passphrase))
        raise _refused(" " + text, code=17)


def read(upload: Upload, switches: Switches) -> certificates.Material:
    """Return what the uploaded file holds.

    Raises:
        replies.RefusedError: it cannot be used.

    """
    if switches.use_up("begin_tag_errors"):
        raise _refused(_NO_BEGIN)
    pem = upload.params["format"] == "pem"
    if pem:
        _check_begin(upload, switches)
    elif certificates.uses_pbes2(upload.data) and not switches.pbes2_in_pkcs12:
        raise upload.told(switches.wrong_passphrase)
    try:
        reader = certificates.read_pem if pem else certificates.read_pkcs12
        data = upload.data
        if pem and upload.category == "certificate":
            data = certificates.PRIVATE_KEY.sub(b"", data)
        material = reader(data, upload.passphrase)
    except certificates.WrongPassphraseError:
        raise upload.told(switches.wrong_passphrase) from None
    except (ValueError, TypeError, UnsupportedAlgorithm, x509.InvalidVersion):
        raise upload.failed(_garbage(upload)) from None
    _check_material(upload, material, switches, pem=pem)
    return material


def _garbage(upload: Upload) -> str:
    return "Failed to extract private key" if upload.category == "private-key" else "Failed to extract certificate"


def _check_begin(upload: Upload, switches: Switches) -> None:
    text = upload.data.lstrip()
    if _BEGIN not in text:
        raise _refused(_NO_BEGIN)
    if not text.startswith(_BEGIN) and switches.text_before_begin == "refuse":
        raise _refused(_NO_BEGIN)


def _check_material(upload: Upload, material: certificates.Material, switches: Switches, *, pem: bool) -> None:
    if upload.category == "private-key":
        if material.key_pem is None:
            raise upload.failed("Failed to extract private key")
        return
    if material.leaf is None:
        raise upload.failed("Failed to extract certificate")
    if switches.expired_refused and certificates.expired(material.leaf):
        raise _refused("Certificate is expired")
    if material.chain and (switches.pem_chain if pem else switches.pkcs12_chain) == "refuse":
        raise upload.told(switches.key_mismatch)
    if switches.use_up("key_for_csr_errors"):
        raise upload.failed(_NO_KEY_FOR_CSR)
    if upload.category != "keypair":
        return
    if material.key_pem is None:
        raise upload.failed(_NO_KEY_FOR_CSR)
    if not certificates.fits(material.leaf, material.key_pem):
        raise upload.told(switches.key_mismatch)


def entries(
    upload: Upload,
    material: certificates.Material,
    old: Optional[Element],
    switches: Switches,
    keep: Callable[[bytes], str],
) -> list[Element]:
    """Return the entries that the import leaves: the new one, and CA entries when a switch keeps the chain so.

    Args:
        upload: the request.
        material: what it held.
        old: the entry of that name that is there now.
        switches: what the device does where nobody knows.
        keep: takes a private key in the clear, returns what stands for it in the configuration.

    Raises:
        replies.RefusedError: a key for a certificate that is not there, or (by switch) one that does not fit.

    """
    if upload.category == "private-key":
        return [_with_key(upload, material, old, switches, keep)]
    if material.leaf is None:
        raise upload.failed("Failed to extract certificate")
    values = certificates.fields(material.leaf, order=switches.field_order)
    pem = upload.params["format"] == "pem"
    if pem and switches.pem_chain == "in-entry":
        values["public-key"] += "".join(certificates.pem(c) for c in material.chain)
    if upload.category == "keypair" and material.key_pem is not None:
        values["private-key"] = keep(material.key_pem)
    elif old is not None and old.findtext("private-key"):
        values["private-key"] = old.findtext("private-key", "")  # as when a signed request comes back
    if upload.params.get("block-private-key") == "yes" and "private-key" in values:
        values["block-private-key"] = "yes"
    found = [certificates.entry(upload.name, values)]
    if not pem and switches.pkcs12_chain == "entries":
        for number, extra in enumerate(material.chain, 1):
            found.append(certificates.entry(f"{upload.name}_ca{number}", certificates.fields(extra)))
    return found


def _with_key(
    upload: Upload,
    material: certificates.Material,
    old: Optional[Element],
    switches: Switches,
    keep: Callable[[bytes], str],
) -> Element:
    if old is None:
        raise upload.told(switches.key_for_missing_certificate)
    if material.key_pem is None:
        raise upload.failed("Failed to extract private key")
    stored = certificates.of_entry(old)
    if switches.private_key_does_not_fit == "refuse" and stored and not certificates.fits(stored[0], material.key_pem):
        raise upload.told(switches.key_mismatch)
    values = {child.tag: child.text or "" for child in old}
    values["private-key"] = keep(material.key_pem)
    return certificates.entry(upload.name, values)
