"""What every command shares: descriptors, options, progress, results, and the one place where an Error becomes lines.

``parser()`` makes a command's parser, ``entry()`` is what the installed script calls, ``run()`` turns a function into
an exit code. Nothing here imports ssl, cryptography or logging before a command needs them.
"""

from __future__ import annotations

import argparse
import gc
import os
import signal
import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable, NoReturn, Optional, TextIO

from certhooks import __version__
from certhooks.errors import Error, UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import FrameType

    from certhooks.deploy import Options, Result
    from certhooks.trust import Trust

_STDERR = 2
_AT_LAST = 900  # seconds after its deadline, in which a command may be taking something back
_DAY = 86400.0
TIMEOUT = 900.0  # seconds; a commit takes one or two minutes, somebody else's before it as many
_MAX_DIGITS = 4
_alone = False
_VERBOSE = "say more; twice for debugging"
EXIT_CODES = """\
exit status:
  0 done or nothing to do      10 files, pair or chain        15 failed and rolled back
  1 usage                      11 certmonger's state          16 deadline
  2 bad name                   12 upload refused              17 another run holds the target
  4 unreachable or bad FQDN    13 commit or activation failed 70 a fault of our own
  5 credentials                14 the new certificate is not what is served
  6 key type or size           130 interrupted, 143 terminated
"""


class _InterruptedError(Error):
    """Ctrl-C, with the exit code that shells give to it."""

    exit_code = 130


class _TerminatedError(_InterruptedError):
    """SIGTERM, likewise."""

    exit_code = 143


class _Terminated(KeyboardInterrupt):
    """SIGTERM has come: everything that ends well after Ctrl-C ends well after this."""


class _Parser(argparse.ArgumentParser):
    """argparse, with this project's exit code and form of an error."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(message, hint=f"{self.prog} --help")


class _Version(argparse.Action):
    """Shows the versions that a bug report needs."""

    def __init__(self, *args: Any, packages: Sequence[str], **named: Any) -> None:
        super().__init__(*args, **named)
        self._packages = packages

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> NoReturn:
        from importlib.metadata import PackageNotFoundError, version

        def shown(name: str) -> str:
            try:
                return version(name)
            except PackageNotFoundError:
                return "missing"

        others = ", ".join(f"{name} {shown(name)}" for name in self._packages)
        sys.stdout.write(  # what was asked for is a result; exit()'s message goes where errors go
            f"{parser.prog} {__version__} (Python {sys.version.split()[0]} at {sys.executable}, {others})\n"
        )
        parser.exit()


def parser(
    prog: str,
    description: str,
    *,
    examples: str,
    usage: Optional[str] = None,
    exit_codes: str = EXIT_CODES,
    packages: Sequence[str] = ("cryptography", "pan-python", "jeepney"),
) -> argparse.ArgumentParser:
    """Return a parser with the options that mean the same in every command.

    ``examples`` and ``exit_codes`` end the help; --version shows the versions of ``packages``.

    Raises (from ``parse_args``): UsageError.
    """
    made = _Parser(
        prog=prog,
        usage=usage,
        description=description,
        epilog=f"examples:\n{examples}\n{exit_codes}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    made.add_argument("-v", "--verbose", action="count", default=0, help=_VERBOSE)
    made.add_argument("--version", action=_Version, nargs=0, packages=packages, help="show versions and leave")
    _add_state(made, prog)
    return made


def subcommand(commands: Any, name: str, what: str) -> argparse.ArgumentParser:
    """Return the parser of one of a command's subcommands, which takes the command's own options too.

    ``commands`` is what ``add_subparsers()`` returned.
    """
    made: argparse.ArgumentParser = commands.add_parser(name, help=what, description=what, allow_abbrev=False)
    made.add_argument("-v", "--verbose", action="count", default=argparse.SUPPRESS, help=_VERBOSE)
    _add_state(made, made.prog.split()[0], default=argparse.SUPPRESS)
    return made


def _add_state(made: argparse.ArgumentParser, prog: str, **default: Any) -> None:
    state = made.add_argument_group("state and log")
    what = "journal and locks (default /var/lib/certhooks)"
    state.add_argument("--state-dir", type=path, metavar="DIR", help=what, **default)
    state.add_argument("--log-file", type=path, metavar="FILE", help=f"log (default /var/log/{prog}.log)", **default)


def word(text: str) -> str:
    """Return an option's value; an empty one means nothing, and is what an unset variable of a shell gives."""
    if not text:
        raise argparse.ArgumentTypeError("it is empty: is a variable not set?")
    return text


def path(text: str) -> Path:
    """Return an option's value as a path; see ``word``."""
    return Path(word(text))


def leading_options(made: argparse.ArgumentParser, argv: Sequence[str]) -> tuple[list[str], list[str]]:
    """Split a call into our options and, from the first other word on, what the caller passes: never read as options.

    ACME clients pass tokens, and tokens may begin with a hyphen.
    """
    words = list(argv)
    at = 0
    while at < len(words) and words[at].startswith("-") and words[at] not in {"-", "--"}:
        action = made._option_string_actions.get(words[at])  # noqa: SLF001  argparse tells in no other way
        at += 1 if action is None or action.nargs == 0 else 2
    return words[:at], words[at:]


def add_push_options(made: argparse.ArgumentParser, *, several: bool = True, prune: bool = True) -> None:
    """Add the options of a command that pushes to devices, to ``several`` at once or to one.

    ``prune``: whether the devices have anything that can be superseded.
    """
    trust = made.add_argument_group("trust")
    trust.add_argument(
        "--cafile",
        type=path,
        metavar="FILE",
        help="trust these CAs too (PEM), beside the system's and /etc/ipa/ca.crt",
    )
    trust.add_argument(
        "--pin", type=word, metavar="sha256:HEX", help="trust exactly the certificate with this fingerprint"
    )
    push = made.add_argument_group("pushing")
    push.add_argument(
        "--probe",
        action="append",
        default=[],
        metavar="HOST[:PORT]",
        help="the new certificate must be served here too (repeatable)",
    )
    push.add_argument("--dry-run", action="store_true", help="look, say what would be done, change nothing")
    push.add_argument("--force", action="store_true", help="do it even when nothing differs")
    if prune:
        what = "remove superseded certificates that nothing uses any more"
        push.add_argument("--prune", action="store_true", help=what)
    push.add_argument(
        "--timeout", type=seconds, default=TIMEOUT, metavar="SECONDS", help="for the whole run (default 900)"
    )
    if several:
        push.add_argument("--jobs", type=count, default=100, metavar="N", help="devices side by side (default 100)")
    push.add_argument("--json", action="store_true", help="one JSON object a target on standard output")


def push_options(args: argparse.Namespace, *, stage_only: bool = False) -> Options:
    """Return ``add_push_options``' values as deploy() takes them, with the command that does the same again.

    Raises:
        UnreachableError: a --probe that is no address.
    """
    from certhooks import address
    from certhooks.deploy import Options

    return Options(
        timeout=args.timeout,
        jobs=args.jobs,
        dry_run=args.dry_run,
        force=args.force,
        prune=getattr(args, "prune", False),
        stage_only=stage_only,
        probes=tuple(address.parse(text) for text in args.probe),
        command=(*_program(), *args.words),
        cwd=_cwd(),
    )


def _program() -> list[str]:
    """Return how this program is started from anywhere: by its path, or as a module where it has no script."""
    spec = getattr(sys.modules.get("__main__"), "__spec__", None)
    return [sys.executable, "-I", "-m", spec.name] if spec else [os.path.abspath(sys.argv[0])]  # noqa: PTH100  no links


def _cwd() -> str:
    try:
        return str(Path.cwd())
    except OSError:  # removed under our feet: what relative words mean is lost with it
        return ""


def trust(args: argparse.Namespace) -> Trust:
    """Return what --cafile and --pin say.

    Raises:
        UsageError: both, or a pin that is no fingerprint.
    """
    from certhooks.trust import Trust, fingerprint

    if args.pin and args.cafile:
        raise UsageError("--pin and --cafile exclude each other", hint="a pin needs no CA")
    if args.pin:
        fingerprint(args.pin)
    return Trust(args.cafile, args.pin)


class Screen:
    """Progress and results for people: one live line on a terminal, plain lines with -v elsewhere.

    Progress, errors and hints go to standard error, results to standard output: ``columns`` is that terminal's width,
    None where it is none, and ``paints`` tells whether it shows colours.
    """

    def __init__(
        self, prog: str, verbose: int = 0, *, out: Optional[TextIO] = None, err: Optional[TextIO] = None
    ) -> None:
        self.prog = prog
        self.verbose = verbose
        self._out = out or sys.stdout
        self._err = err or sys.stderr
        self._live = self._err.isatty() and os.environ.get("TERM") != "dumb"
        self._color = self._live and not os.environ.get("NO_COLOR")
        self.columns = _columns() if self._out.isatty() else None
        self.paints = bool(self.columns) and os.environ.get("TERM") != "dumb" and not os.environ.get("NO_COLOR")
        self._drawn = False
        self._lock = threading.Lock()

    def tell(self, who: str, what: str) -> None:
        """Show what is being done now."""
        text = f"{who}: {what}" if who else what
        with self._lock:
            if self.verbose:
                self._clear()
                _put(self._err, f"{safe(text)}\n")
            elif self._live:
                _put(self._err, f"\r\033[K{safe(text)[: _columns() - 1]}")
                self._drawn = True

    def say(self, text: str) -> None:
        """Print a result."""
        from certhooks.secrets import redact

        with self._lock:
            self._clear()
            _put(self._out, f"{safe(redact(text))}\n")

    def paint(self, text: str) -> None:
        """Print a result that has its colours, and nothing else that a terminal would obey."""
        with self._lock:
            self._clear()
            _put(self._out, text)

    def warn(self, text: str) -> None:
        """Print a remark that is no failure."""
        self._line("warning", text, "33")

    def error(self, error: Error, *, who: str = "") -> None:
        """Print what happened and what to do."""
        text = str(error)
        self._line("error", text if not who or text.startswith((f"{who} ", f"{who}:")) else f"{who}: {text}", "31")
        if error.hint:
            self._line("hint", error.hint, "36")

    def _line(self, kind: str, text: str, color: str) -> None:
        from certhooks.secrets import redact

        shown = f"\033[{color}m{kind}:\033[0m" if self._color else f"{kind}:"
        with self._lock:
            self._clear()
            one_line = " ".join(redact(text).splitlines())
            _put(self._err, f"{self.prog}: {shown} {safe(one_line)}\n")

    def _clear(self) -> None:
        if self._drawn:
            _put(self._err, "\r\033[K")
            self._drawn = False


def _put(stream: TextIO, text: str) -> None:
    """Write and flush; that nobody reads, or a full disk, makes no failure of what is done on a device."""
    with suppress(OSError, ValueError):
        try:
            stream.write(text)
        except UnicodeEncodeError as e:  # a locale without these letters: better spelt out than not said
            stream.write(text.encode(e.encoding, "backslashreplace").decode(e.encoding))
        stream.flush()


def teller(screen: Screen) -> Callable[[str, str], None]:
    """Return what shows progress on the screen and keeps it in the log."""
    import logging

    logger = logging.getLogger(__name__)

    def tell(who: str, what: str) -> None:
        logger.info("%s", f"{who}: {what}" if who else what)
        screen.tell(who, what)

    return tell


def log_error(error: Error, *, who: str = "") -> None:
    """Keep an error in the log that the command has shown itself."""
    import logging

    logging.getLogger(__name__).error("%s: %s", who, error)


def report(screen: Screen, results: Sequence[Result], *, as_json: bool, verbose: int = 0) -> int:
    """Print a result a target and return the exit code: the first failure's, or 0."""
    import logging

    logger = logging.getLogger(__name__)
    for result in results:
        for warning in result.warnings:
            screen.warn(f"{result.device}: {warning}")
            logger.warning("%s: %s", result.device, warning)
        if result.exit_code:
            logger.error("%s: %s (exit status %d)", result.device, result.message, result.exit_code)
            if result.hint:
                logger.error("%s: hint: %s", result.device, result.hint)
            screen.error(_as_error(result), who=result.device)
        else:
            logger.info("%s: %s (%.1f s)", result.device, result.message, result.seconds)
        if as_json:
            import json

            screen.say(json.dumps(result.as_dict()))
        else:
            if not result.exit_code:
                screen.say(f"{result.device}: {result.message}" + (f" ({result.seconds:.1f} s)" if verbose else ""))
            for part in result.parts:
                screen.say(f"{result.device}: {part['name']}: {part['result']}")
            for name in result.pruned:
                screen.say(f"{result.device}: pruned {name}")
    failed = [result for result in results if result.exit_code]
    if len(results) > 1 and not as_json:
        screen.say(f"{len(results) - len(failed)} of {len(results)} done, {len(failed)} failed")
    return failed[0].exit_code if failed else 0


def run(
    prog: str,
    function: Callable[[argparse.Namespace, Screen], int],
    make: Callable[[], argparse.ArgumentParser],
    argv: Optional[Sequence[str]],
) -> int:
    """Parse, start the log, call, and turn whatever happens into lines and an exit code; never a traceback."""
    screen = Screen(prog)
    log = False
    try:
        args = make().parse_args(argv)
        args.prog = prog
        args.words = list(sys.argv[1:] if argv is None else argv)
        screen = Screen(prog, args.verbose)
        from certhooks import log as log_module

        log_module.start(prog, args.log_file, debug=args.verbose > 1)
        log = True
        return function(args, screen)
    except Error as e:
        error = e
    except KeyboardInterrupt as e:
        kind = _TerminatedError if isinstance(e, _Terminated) else _InterruptedError
        error = kind("interrupted", hint="run the same command again; it goes on from where it was")
    except Exception as e:  # noqa: BLE001  the last place where a fault can become a line
        from certhooks.deploy import fault

        error = fault(e)
    if log:
        import logging

        logging.getLogger(__name__).error("%s (exit status %d)", error, error.exit_code)
    screen.error(error)
    return error.exit_code


def entry(main: Callable[[], int]) -> NoReturn:
    """Run a command's ``main`` as an installed script: whole descriptors, SIGTERM like Ctrl-C, exit status.

    certmonger starts its commands with descriptors 0 to 2 closed (observed on 0.79.17): without this the first socket
    would be a child's standard output.
    """
    global _alone  # noqa: PLW0603  whether this process is ours is said once, here
    _alone = True
    _open_standard_descriptors()
    signal.signal(signal.SIGTERM, _terminated)
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # nohup ignores it
        signal.signal(signal.SIGHUP, _terminated)
    code = main()
    for stream, fd in ((sys.stdout, 1), (sys.stderr, 2)):
        try:
            stream.flush()
        except (OSError, ValueError):  # nobody reads it: the interpreter would complain about that at its end
            os.dup2(os.open(os.devnull, os.O_WRONLY), fd)
    if code in {_InterruptedError.exit_code, _TerminatedError.exit_code}:
        os._exit(code)  # after a second Ctrl-C a thread may still be taking changes back: the next run will do that
    gc.freeze()  # the interpreter's last search for garbage would cost a tenth of a push and find nothing worth freeing
    sys.exit(code)


def end_at_last(timeout: float) -> None:
    """Let the kernel end this command long after its deadline, if it hangs where no deadline is looked at.

    certmonger waits for ever for its commands, and every other renewal on the host with it. What an installed command
    was doing then, its journal tells, and the next run goes on from there.
    """
    if _alone:
        signal.alarm(int(timeout) + _AT_LAST)


def _open_standard_descriptors() -> None:
    fd = os.open(os.devnull, os.O_RDWR)
    while fd <= _STDERR:
        fd = os.open(os.devnull, os.O_RDWR)
    os.close(fd)
    if sys.stdin is None:
        sys.stdin = Path(os.devnull).open(encoding="utf-8")  # noqa: SIM115  open for the life of the process
    if sys.stdout is None:
        sys.stdout = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115  open for the life of the process
    if sys.stderr is None:
        sys.stderr = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115  open for the life of the process


def _terminated(_signal: int, _frame: Optional[FrameType]) -> NoReturn:
    raise _Terminated


def _as_error(result: Result) -> Error:
    return Error(result.message, hint=result.hint)


def seconds(text: str) -> float:
    """Return an option's value as seconds, more than none and a day at most."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value <= _DAY:
        raise argparse.ArgumentTypeError(f"not a number of seconds between 0 and 86400: {text!r}")
    return value


def count(text: str) -> int:
    """Return an option's value as a whole number from 1 to 9999."""
    if not (text.isascii() and text.isdigit() and len(text) <= _MAX_DIGITS and int(text) > 0):
        raise argparse.ArgumentTypeError(f"not a number from 1 to 9999: {text!r}")
    return int(text)


def safe(text: str) -> str:
    """Return the text without anything that a terminal would obey."""
    return "".join(c if c.isprintable() else "?" for c in text)


def _columns() -> int:
    import shutil

    return shutil.get_terminal_size().columns
