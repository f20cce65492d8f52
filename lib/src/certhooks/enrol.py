"""What every ``*_getcert`` does: ask certmonger for a certificate, and wait until it is issued and installed.

The device's own hook is the request's post-save command; how that ended is read from the journal, since certmonger says
MONITORING also after a command that failed or never started.
"""

from __future__ import annotations

import json
import os
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable, NamedTuple, Optional

from certhooks import address, cli
from certhooks.deadline import growing
from certhooks.errors import BadNameError, BundleError, CertmongerError, DeadlineError, Error, KeyTypeError, UsageError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from cryptography.x509 import Certificate

    from certhooks.certmonger import Certmonger
    from certhooks.deadline import Deadline
    from certhooks.journal import Attempt, Journal
    from certhooks.request import Request
    from certhooks.target import Run
    from certhooks.trust import Contexts

CERT_DIR, KEY_DIR = Path("/etc/ssl/certs"), Path("/etc/ssl/private")
_STALE = 3.0  # seconds for which the state from before a resubmit may still be shown
_KINDS = {"RSA": ("RSA", 2048, 8192), "EC": ("EC", 256, 521), "ECDSA": ("EC", 256, 521)}
_ENDED = {"done": "installed", "unchanged": "was installed already", "staged": "in the candidate, not committed"}
_CURVES = {256: 256, 384: 384, 512: 521, 521: 521}  # the bash scripts say 512 and mean 521


def add_options(made: argparse.ArgumentParser) -> None:
    """Add the options that describe a request; the short ones are those of the bash scripts."""
    request = made.add_argument_group("the request")
    request.add_argument(
        "-S", dest="service", default="HTTP", metavar="SERVICE", help="of the principal (default HTTP)"
    )
    request.add_argument("-T", dest="cert_profile", metavar="CERT_PROFILE", help="FreeIPA's certificate profile")
    request.add_argument("-G", dest="key_type", metavar="TYPE", help="RSA (default) or EC, for a new key")
    bits = "size of a new key: RSA 2048 (default) and more, EC 256 (default), 384 or 521"
    request.add_argument("-b", dest="key_bits", metavar="BITS", help=bits)
    request.add_argument("--dns", action="append", default=[], metavar="NAME", help="a further name (repeatable)")
    request.add_argument("--ca", default="IPA", metavar="NAME", help="certmonger's CA (default IPA)")
    for option, default, suffix in (("--cert-dir", CERT_DIR, "crt"), ("--key-dir", KEY_DIR, "key")):
        told = f"where CERT_CN.{suffix} is kept (default {default})"
        request.add_argument(option, type=cli.path, default=default, metavar="DIR", help=told)


class Wanted(NamedTuple):
    """A certificate to be requested; ``settings`` as ``certhooks.getcert.options`` takes them."""

    common_name: str
    cert_file: Path
    key_file: Path
    ca: str
    settings: dict[str, Any]

    @property
    def usual_place(self) -> bool:
        """Whether the install command finds the files by itself, from the common name."""
        return (self.cert_file, self.key_file) == (
            CERT_DIR / f"{self.common_name}.crt",
            KEY_DIR / f"{self.common_name}.key",
        )


def wanted(args: argparse.Namespace) -> Wanted:
    """Return what the options ask for.

    Raises:
        BadNameError, KeyTypeError, UsageError: it cannot be meant so.
    """
    common_name = address.common_name(args.common_name)
    for text, option in ((args.service, "-S"), (args.cert_profile, "-T"), (args.ca, "--ca")):
        if text is not None and not _plain(text):
            raise UsageError(
                f"not a name for {option}: {text[:60]!r}", hint="letters, digits, dots, hyphens, underscores"
            )
    for name in args.dns:
        if not address.is_name(name):
            raise BadNameError(f"not a host name: {name[:80]!r}", hint="--dns NAME adds one name; repeat it for more")
    kind, bits = _key(args.key_type, args.key_bits)
    stem = f"wildcard{common_name[1:]}" if common_name.startswith("*") else common_name
    return Wanted(
        common_name,
        args.cert_dir.absolute() / f"{stem}.crt",
        args.key_dir.absolute() / f"{stem}.key",
        args.ca,
        {
            "common_name": common_name,
            "dns_names": tuple(dict.fromkeys([common_name, *args.dns])),
            "principal": principal(args.service, common_name),
            "profile": args.cert_profile,
            "key_type": kind,
            "key_bits": bits,
        },
    )


def installer(script: str, module: str) -> list[str]:
    """Return how certmonger starts a command installed beside this one: its PATH has no /usr/local/bin and no venv.

    That is the script by its absolute path if it names its interpreter so too, else the module with this interpreter.
    A bus other than the system's has to be told, since certmonger clears the environment.
    """
    bus = os.environ.get("DBUS_SYSTEM_BUS_ADDRESS")
    prefix = ["/usr/bin/env", f"DBUS_SYSTEM_BUS_ADDRESS={bus}"] if bus else []
    path = Path(sys.argv[0]).absolute().with_name(script)
    try:
        with path.open("rb") as file:
            first = file.readline(200)
    except OSError:
        first = b""
    if first.startswith(b"#!/") and b"/env" not in first and os.access(path, os.X_OK):
        return [*prefix, str(path)]
    return [*prefix, sys.executable, "-I", "-m", module]


_COMMON = (("cafile", None), ("pin", None), ("state_dir", None), ("log_file", None), ("probe", None))


def install_command(
    args: argparse.Namespace,
    certificate: Wanted,
    installer: Sequence[str],
    own: Sequence[str],
    *,
    options: Sequence[tuple[str, Any]] = (),
    flags: Sequence[str] = (),
    device: str,
) -> str:
    """Return the post-save command for a certificate, quoted as certmonger reads it.

    It begins with ``installer`` (see there), has the words that this kind of device has of its ``own``, then of
    ``args`` the long ``options`` that differ from their defaults and the ``flags`` that are set, and ends with
    ``device``.
    """
    from certhooks.postsave import quote

    argv = [*installer, "-c", certificate.common_name, *own]
    if not certificate.usual_place:
        argv += ["-C", str(certificate.cert_file), "-K", str(certificate.key_file)]
    argv += words(args, (*options, *_COMMON), flags)
    # A shorter one says how long somebody wants to wait now, not how long a renewal may take.
    if args.timeout > cli.TIMEOUT:
        argv += ["--timeout", f"{args.timeout:g}"]
    return quote([*argv, *["-v"] * bool(args.verbose), device])


def carry_out(
    args: argparse.Namespace,
    screen: cli.Screen,
    certificate: Wanted,
    *,
    post_save: str,
    target: str,
    device: str,
    precheck: Callable[[Contexts, Run], None],
) -> int:
    """Have the certificate requested and installed on a device, and return the exit code.

    ``precheck`` asks the device whether the install could work, before anything is requested; it is given what trusts
    the device, which may serve what certmonger tracks now. The rest is ``Enrolment``'s.
    """
    from certhooks import journal
    from certhooks.certmonger import Certmonger
    from certhooks.deadline import Deadline
    from certhooks.target import Run

    if _started_by_certmonger():
        raise CertmongerError(
            f"{args.prog} is the post-save command of a request, and would have it issued again and again",
            hint=f"this is the command to store instead: {post_save}",
        )
    deadline = Deadline(args.timeout)
    books = journal.Journal(args.state_dir or journal.DEFAULT)
    with Certmonger.open() as certmonger:
        before = certmonger.by_cert_file(str(certificate.cert_file))
        brought = books.record(target).brought()
        issuers = _issuers(before, args) if before else ()
        run = Run(deadline, lambda text: cli.teller(screen)(device, text))
        precheck(cli.trust(args).contexts(issuers, brought=lambda _: brought), run)
        enrolment = Enrolment(certificate, post_save, target, device, books, deadline, screen)
        return enrolment.run(certmonger, dry_run=args.dry_run, as_json=args.json)


def _issuers(request: Request, args: argparse.Namespace) -> list[str]:
    """Return the CAs (PEM) of what is tracked now, intermediates too if they lead to a root: some devices send none."""
    from certhooks import certificate, sources
    from certhooks.trust import IPA_CA

    if request.cert is None:  # it was never issued
        return []
    path = getattr(args, "rootfile", None) or IPA_CA
    pool: list[Certificate] = []
    with suppress(BundleError):
        pool += certificate.read(sources.read(path), str(path))
    with suppress(BundleError):
        texts = (request.cert, *request.chain, *request.roots)
        told = [each for text in texts for each in certificate.read(text.encode(), "certmonger")]
        way = certificate.order(told[0], [*told[1:], *pool]) if told else None
        if way and way.roots:
            return [certificate.to_pem(each) for each in (*way.roots, *way.chain)]
    return []


class Enrolment(NamedTuple):
    """A request on its way: to certmonger, to the CA, onto the device.

    Args:
        post_save: the install command, quoted for certmonger.
        target: the journal's name of where it goes.
        label: what people call that.
    """

    wanted: Wanted
    post_save: str
    target: str
    label: str
    journal: Journal
    deadline: Deadline
    screen: cli.Screen

    def run(self, certmonger: Certmonger, *, dry_run: bool = False, as_json: bool = False) -> int:
        """Request, or resubmit what is tracked already; wait for issue and install; return the exit code.

        Raises:
            CertmongerError, DeadlineError: not issued, or not installed and no trace of why.
        """
        wish, say = self.wanted, self.screen.say
        before = certmonger.by_cert_file(str(wish.cert_file))
        if dry_run:
            verb = f"resubmit request {before.nickname}" if before else f"request {wish.cert_file}"
            say(f"would {verb} as {wish.settings['principal']} from {wish.ca}")
            say(f"would have certmonger run at each renewal: {self.post_save}")
            return 0
        self._make_folders()
        started = time.time()
        try:
            request = self._await_issue(certmonger, self._ask(certmonger, before), before)
            issued = time.time() - started
            if not as_json:
                until = f", valid until {request.not_after:%Y-%m-%d}" if request.not_after else ""
                say(f"{wish.common_name}: issued by {wish.ca} in {issued:.1f} s{until}")
            attempt = self._await_install(certmonger, request, started)
        except KeyboardInterrupt:
            self.screen.warn(f"certmonger goes on by itself, and so does the install: getcert list -f {wish.cert_file}")
            raise
        took = (attempt.ended or time.time()) - attempt.started
        if attempt.exit_code:
            hint = f"mend that, then type: {self.post_save}"
            error = Error(f"issued, but not installed: {attempt.message}", hint=hint)
            self.screen.error(error, who=self.label)
            cli.log_error(error, who=self.label)
        if as_json:
            say(json.dumps(self._told(request, attempt, issued, took)))
        elif not attempt.exit_code:
            say(f"{self.label}: {_ENDED.get(attempt.outcome, attempt.outcome)} in {took:.1f} s")
        return attempt.exit_code

    def _told(self, request: Request, attempt: Attempt, issued: float, took: float) -> dict[str, Any]:
        """Return what ``--json`` prints: how the install ended, under the names of ``Result``, and the request."""
        return {
            "target": self.target,
            "device": self.label,
            "outcome": attempt.outcome,
            "exit_code": attempt.exit_code,
            "message": attempt.message,
            "seconds": round(took, 3),
            "request": request.nickname,
            "not_after": request.not_after and request.not_after.isoformat(),
            "issued_seconds": round(issued, 3),
        }

    def _ask(self, certmonger: Certmonger, before: Optional[Request]) -> Request:
        wish = self.wanted
        if before is None:
            files = {"cert_file": str(wish.cert_file), "key_file": str(wish.key_file)}
            return certmonger.add_request(**files, ca=wish.ca, post_save=self.post_save, **wish.settings)
        self._tell(f"{wish.cert_file} is tracked already (request {before.nickname}): resubmitting it")
        if before.post_save not in {None, self.post_save}:
            self.screen.warn(f"this replaces the post-save command that was stored: {before.post_save}")
        changed = {name: value for name, value in wish.settings.items() if name not in {"key_type", "key_bits"}}
        return certmonger.resubmit(before, ca=wish.ca, post_save=self.post_save, **changed)

    def _await_issue(self, certmonger: Certmonger, request: Request, before: Optional[Request]) -> Request:
        """Return the request once it has a certificate that it did not have before."""
        shown = ""
        since = self.deadline.elapsed()
        for pause in growing(0.05, 1.0):
            request = certmonger.refresh(request)
            if request.settled and (before is None or request.serial != before.serial):
                return request
            state = request.describe()
            if state != shown:
                self._tell(f"request {request.nickname}: {state}")
                shown = state
            # Right after a resubmit the old state and the old error may still stand there.
            if (request.failed or request.renewal_failed) and self.deadline.elapsed() - since > _STALE * bool(before):
                request.check()
            try:
                self.deadline.pause(pause, "the request")
            except DeadlineError as e:
                hint = f"getcert list -i {request.nickname} shows how it goes on"
                raise DeadlineError(f"{e} ({state})", hint=hint) from e
        raise AssertionError("growing() has no end")

    def _await_install(self, certmonger: Certmonger, request: Request, since: float) -> Attempt:
        """Return the attempt of the post-save command once it has ended."""
        self._tell("waiting for the install")
        shown = ""
        for pause in growing(0.05, 1.0):
            # In this order: the command writes its end before certmonger leaves the state.
            over = not certmonger.refresh(request).in_post_save
            attempt = self.journal.record(self.target).last
            if attempt and attempt.started >= since:
                if attempt.ended is not None:
                    return attempt
                step = str(attempt.steps[-1].get("step")) if attempt.steps else "start"
                if step != shown:
                    self._tell(f"{self.label}: {step}")
                    shown = step
            if over:
                what = "was cut off" if shown else "did not start, or failed before it could write its journal"
                raise CertmongerError(
                    f"the certificate is issued, but its post-save command {what}",
                    hint=f"see what it says: {self.post_save}",
                )
            try:
                self.deadline.pause(pause, "the install")
            except DeadlineError as e:
                raise DeadlineError(str(e), hint=f"it goes on by itself; to see how it ends: {self.post_save}") from e
        raise AssertionError("growing() has no end")

    def _make_folders(self) -> None:
        for folder, mode in ((self.wanted.cert_file.parent, 0o755), (self.wanted.key_file.parent, 0o700)):
            try:
                folder.mkdir(mode=mode, parents=True, exist_ok=True)
            except OSError as e:
                raise UsageError(f"cannot make {folder}: {(e.strerror or str(e)).lower()}", hint="run as root") from e

    def _tell(self, text: str) -> None:
        cli.teller(self.screen)("", text)


def _key(kind: Optional[str], bits: Optional[str]) -> tuple[Optional[str], Optional[int]]:
    name, least, most = _KINDS.get((kind or "RSA").upper(), ("", 0, 0))
    if not name:
        raise KeyTypeError(f"not a kind of key that devices take: {str(kind)[:20]!r}", hint="-G RSA or -G EC")
    if bits is None:  # certmonger's own size for EC is 521 bits, which browsers refuse
        return (name, _CURVES[256]) if name == "EC" else (name if kind else None, None)
    size = int(bits) if bits.isascii() and bits.isdigit() and len(bits) < len("12345") else 0
    if name == "EC":
        size = _CURVES.get(size, 0)
    if not least <= size <= most:
        allowed = "256, 384 or 521" if name == "EC" else f"{least} to {most}"
        raise KeyTypeError(f"not a size of {name} keys: {bits[:20]!r}", hint=f"-b {allowed}")
    return name, size


def principal(service: str, host: str) -> str:
    """Return the Kerberos principal of a service on a host, in FreeIPA's realm where that is known."""
    realm = _realm()
    return f"{service}/{host}" + (f"@{realm}" if realm else "")


def _started_by_certmonger() -> bool:
    """Tell whether certmonger itself has started this command."""
    try:
        return Path(f"/proc/{os.getppid()}/comm").read_text(encoding="utf-8") == "certmonger\n"
    except OSError:  # no /proc to ask
        return False


def _plain(text: str) -> bool:
    return text[:1].isalnum() and all(c.isascii() and (c.isalnum() or c in "._-") for c in text)


def _realm() -> Optional[str]:
    """Return FreeIPA's realm; getcert would take krb5.conf's default, which need not be FreeIPA's."""
    import configparser

    config = configparser.ConfigParser(interpolation=None)
    try:
        config.read("/etc/ipa/default.conf", encoding="utf-8")
        return config.get("global", "realm", fallback=None)
    except (configparser.Error, OSError, UnicodeDecodeError):
        return None


def words(args: argparse.Namespace, options: Sequence[tuple[str, Any]], flags: Sequence[str]) -> list[str]:
    """Return long options of ``args`` as words again: what differs from its default, and the flags that are set."""
    given: list[str] = []
    for name, default in options:
        value = getattr(args, name)
        option = f"--{name.replace('_', '-')}"
        for each in value if isinstance(value, list) else [value]:
            if each != default:
                each = each.absolute() if isinstance(each, Path) else each  # noqa: PLW2901  the same word, made absolute
                given += [option, str(each)]
    return given + [f"--{flag.replace('_', '-')}" for flag in flags if getattr(args, flag)]
