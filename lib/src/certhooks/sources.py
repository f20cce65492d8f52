"""Where bundles come from: files, PKCS#12, an ACME client's directory, a certmonger request."""

from __future__ import annotations

import os
import stat
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Optional, Protocol, Union

from certhooks import pem
from certhooks.bundle import Bundle, PairError
from certhooks.errors import BadNameError, BundleError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

AnyPath = Union[str, "os.PathLike[str]"]


class Request(Protocol):
    """What is needed of a certmonger request; its certificate file holds the leaf only, the rest comes over D-Bus."""

    @property
    def cert_file(self) -> Optional[AnyPath]:
        """Where certmonger keeps the leaf; None for an NSS database."""

    @property
    def key_file(self) -> Optional[AnyPath]:
        """Where certmonger keeps the key."""

    @property
    def chain(self) -> Sequence[str]:
        """Intermediates in PEM."""

    @property
    def roots(self) -> Sequence[str]:
        """Roots in PEM."""


def from_files(
    cert: AnyPath, key: AnyPath, chain: Optional[AnyPath] = None, *, passphrase: Optional[bytes] = None
) -> Bundle:
    """Load certificate and key, and more certificates for the chain; any of them may be the same file.

    Raises:
        BundleError: a file that is missing, unreadable or not what it should be; ``KeyTypeError`` for the key's kind.
    """
    return _load(cert, key, chain, (), passphrase)


def from_pkcs12(path: AnyPath, passphrase: Optional[bytes]) -> Bundle:
    """Load key, leaf and chain of a PKCS#12 file.

    Raises:
        BundleError: the file, or the passphrase does not open it; ``KeyTypeError`` for the key's kind.
    """
    from certhooks import pkcs12

    name = os.fspath(path)
    pieces = pkcs12.load(read(path), passphrase, name)
    loaded = Bundle.from_parts(pieces.key, pieces.certificates, certificate_name=name, key_name=name)
    return _noted(loaded, path)


def from_directory(path: AnyPath, *, passphrase: Optional[bytes] = None) -> Bundle:
    """Load a directory as certbot (``live/NAME``) and dehydrated (``certs/NAME``) keep it; its files may be links.

    Raises:
        BundleError: as ``from_files``.
    """
    directory = Path(path)
    # One file that holds leaf and chain cannot be caught half replaced; the pair of files can.
    full = directory / "fullchain.pem"
    cert = full if _there(full) else directory / "cert.pem"
    return from_files(cert, directory / "privkey.pem", _beside(cert), passphrase=passphrase)


def from_request(request: Request, *, passphrase: Optional[bytes] = None) -> Bundle:
    """Take the leaf from certmonger's file, intermediates and roots from the request itself.

    Raises:
        BundleError: as ``from_files``, or the request keeps its certificate in an NSS database.
    """
    if not request.cert_file or not request.key_file:
        raise BundleError(
            "certmonger keeps this certificate in no file", hint="request it with files: getcert request -k KEY -f CERT"
        )
    extra = [each.encode() for each in (*request.chain, *request.roots)]
    return _load(request.cert_file, request.key_file, None, extra, passphrase)


def with_more(bundle: Bundle, path: AnyPath) -> Bundle:
    """Return the bundle with what a file of further CA certificates adds to its chain and roots.

    Raises:
        BundleError: the file cannot be used.
    """
    from certhooks import certificate

    name = os.fspath(path)
    more = certificate.read(read(path), name)
    fuller = Bundle.from_parts(bundle.key, (bundle.leaf, *bundle.chain, *bundle.roots, *more))
    return replace(fuller, notes=bundle.notes)  # what of a file of many CAs is not of this chain is no news


def from_location(
    common_name: str, cert_dir: AnyPath, key_dir: AnyPath, *, passphrase: Optional[bytes] = None
) -> Bundle:
    """Load what ``-c``, ``-C`` and ``-K`` say: ``locate`` the files, and take the chain beside a ``cert.pem`` too.

    Raises:
        BadNameError: the name cannot be a file name.
        BundleError: as ``from_files``.
    """
    cert, key = locate(common_name, cert_dir, key_dir)
    if (cert.name, key) == ("cert.pem", cert.with_name("privkey.pem")):
        return from_directory(cert.parent, passphrase=passphrase)
    return from_files(cert, key, _beside(cert), passphrase=passphrase)


def locate(common_name: str, cert_dir: AnyPath, key_dir: AnyPath) -> tuple[Path, Path]:
    """Find the files of certificate and key; an argument that is a file is taken as that file.

    A directory named after the CN holds ``cert.pem`` and ``privkey.pem``, and so may one of that name inside the
    given directory (``/etc/letsencrypt/live``); any other holds ``CN.crt`` or ``CN.pem``, and ``CN.key``. For a
    wildcard the name without ``*.`` is tried as well, which is what certbot calls its directory.

    Raises:
        BadNameError: the name cannot be a file name.
        BundleError: no such file, with the places that were tried.
    """
    cert = locate_certificate(common_name, cert_dir)
    return cert, _find(Path(key_dir), _stems(common_name), "privkey.pem", (".key",))


def locate_certificate(common_name: str, cert_dir: AnyPath) -> Path:
    """Find the file of the certificate alone, as ``locate`` does.

    Raises:
        BadNameError, BundleError: as there.
    """
    return _find(Path(cert_dir), _stems(common_name), "cert.pem", (".crt", ".pem"))


def read(path: AnyPath) -> bytes:
    """Return the content of a regular file, bounded.

    Raises:
        BundleError: missing, unreadable, not a regular file, or larger than ``pem.MAX_BYTES``.
    """
    name = os.fspath(path)
    try:
        with open(path, "rb", opener=_without_waiting) as file:
            mode = os.fstat(file.fileno()).st_mode
            if not stat.S_ISREG(mode):
                raise BundleError(f"{name} is not a regular file", hint="write it to a file first")
            data = file.read(pem.MAX_BYTES + 1)
    except FileNotFoundError:
        raise BundleError(f"no such file: {name}", hint="check the path; has the certificate been issued?") from None
    except IsADirectoryError:
        raise BundleError(f"{name} is a directory", hint="give the file in it") from None
    except PermissionError:
        raise BundleError(f"not allowed to read {name}", hint="run as root, or as the file's owner") from None
    except (OSError, ValueError) as error:
        reason = (getattr(error, "strerror", None) or str(error)).lower()
        raise BundleError(f"cannot read {name}: {reason}", hint="check the path") from None
    pem.limit(data, name)
    return data


def _without_waiting(path: str, flags: int) -> int:
    # To open a pipe that lies in place of a file would wait for its writer.
    return os.open(path, flags | os.O_NONBLOCK)


def _load(
    cert: AnyPath, key: AnyPath, chain: Optional[AnyPath], extra: Iterable[bytes], passphrase: Optional[bytes]
) -> Bundle:
    def once() -> Bundle:
        loaded = Bundle.from_pem(
            read(cert),
            read(key),
            [*extra, *(() if chain is None else (read(chain),))],
            passphrase,
            certificate_name=os.fspath(cert),
            key_name=os.fspath(key),
            extra_name="the chain from certmonger" if chain is None else os.fspath(chain),
        )
        return _noted(loaded, key)

    try:
        return once()
    except PairError:
        # A renewal replaced one of the two between the reads: the second look sees both new.
        return once()


def _noted(bundle: Bundle, key: AnyPath) -> Bundle:
    """Return the bundle with a note where everybody can read its key."""
    try:
        exposed = Path(os.fsdecode(key)).stat().st_mode & stat.S_IROTH
    except OSError:  # replaced just now; what was read is what counts
        exposed = 0
    note = f"everybody on this host can read the private key {os.fspath(key)} (chmod o-rwx)"
    return replace(bundle, notes=(*bundle.notes, note)) if exposed else bundle


def _beside(cert: Path) -> Optional[Path]:
    if cert.name != "cert.pem":
        return None
    return next(filter(_there, (cert.with_name("chain.pem"), cert.with_name("fullchain.pem"))), None)


def _there(path: Path) -> bool:
    try:
        path.stat()
    except PermissionError:
        raise BundleError(f"not allowed to look at {path}", hint="run as root, or as the files' owner") from None
    except (OSError, ValueError):
        return False
    return True


def _stems(common_name: str) -> list[str]:
    """Return what the files of a name may be called after.

    Raises:
        BadNameError: the name cannot be a file name.
    """
    if "/" in common_name or "\0" in common_name or common_name in {"", ".", ".."}:
        raise BadNameError(
            f"{common_name!r} is not a name of a certificate", hint="give its common name, such as a.example.com"
        )
    return [common_name, *([common_name[2:]] if common_name.startswith("*.") else [])]


def _find(place: Path, names: Sequence[str], inside: str, suffixes: Sequence[str]) -> Path:
    if not _there(place):
        raise BundleError(
            f"no such file or directory: {place}", hint="check the path; has the certificate been issued?"
        )
    if not place.is_dir():
        return place
    tried = [place / inside] if place.name in names else []
    tried += [place / name / inside for name in names]
    tried += [place / f"{name}{suffix}" for name in names for suffix in suffixes]
    for path in tried:
        if _there(path):
            return path
    what = "private key" if inside == "privkey.pem" else "certificate"
    raise BundleError(f"no {what} of {names[0]} in {place}", hint=f"looked for {', '.join(map(str, tried))}")
