"""``certhooks``: how every certificate stands that is to be on a device, what to repair, and who is told."""

from __future__ import annotations

import argparse
import os
import sys
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Callable, NoReturn, Optional

from certhooks import cli
from certhooks.errors import CertmongerError, Error, UsageError
from certhooks.watch.model import Finding, Level

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from certhooks.watch.judge import Limits
    from certhooks.watch.model import Overview
    from certhooks.watch.reconcile import Outcome
    from certhooks.watch.schedule import Task
    from certhooks.watch.settings import Settings

PROG = "certhooks"
_EXAMPLES = """\
  certhooks status
      every certificate that certmonger tracks or that was pushed, and what its devices serve
  certhooks status --html /var/www/html/certificates.html --prometheus /var/lib/node_exporter/certhooks.prom
      the same as a page and as metrics
  certhooks reconcile --dry-run
      which install commands would be run again now, and why
  certhooks reconcile
      run them: from a timer, every five minutes
  certhooks notify --test
      send a message to whom /etc/certhooks/notify.conf names
  certhooks forget fw01.example.com
      a device that is gone: nothing is repaired there any more
"""
_EXIT_CODES = """\
exit status:
  of status, as Nagios reads it: 0 all is well, 1 warning, 2 critical, 3 could not be found out
  of the others: 0, or that of the first install command that failed (see pan_instcert --help); 70 a fault of our own
"""


_DELIVERED_WITHIN = 900.0  # seconds; longer is worth a warning
_TELLING = 120.0  # seconds for all messages to all people


class _UnknownError(Error):
    """How everything stands cannot be found out: Nagios's number for that."""

    exit_code = 3


def parser(*, for_monitor: bool = False) -> argparse.ArgumentParser:
    """Return the parser with its subcommands; ``for_monitor``: wrong words are what Nagios calls unknown."""
    made = cli.parser(
        PROG,
        "Finds renewed certificates that did not reach their devices, repairs that, and tells people.",
        usage="certhooks [-hv] status|reconcile|notify|forget [options]",
        examples=_EXAMPLES,
        exit_codes=_EXIT_CODES,
        packages=("cryptography", "jeepney", "rich"),
    )
    commands = made.add_subparsers(
        prog=PROG, dest="subcommand", metavar="status|reconcile|notify|forget", required=True, help="what to do"
    )

    status = cli.subcommand(commands, "status", "show how everything stands; nothing is changed")
    _add_limits(status)
    status.add_argument("--json", action="store_true", help="one JSON object on standard output")
    status.add_argument("--html", type=cli.path, metavar="FILE", help="write one self-contained page")
    what = "metrics for node_exporter's textfile collector, into FILE or to standard output"
    status.add_argument("--prometheus", nargs="?", const="-", type=cli.word, metavar="FILE", help=what)

    reconcile = cli.subcommand(commands, "reconcile", "run again what was lost or failed, and tell what changed")
    _add_limits(reconcile)
    reconcile.add_argument("--dry-run", action="store_true", help="say what would be run, and why; run nothing")
    reconcile.add_argument("--now", action="store_true", help="do not wait for the pauses after failures to end")
    reconcile.add_argument("--jobs", type=cli.count, default=4, metavar="N", help="commands side by side (default 4)")
    what = "for each command (default: its own --timeout and some minutes to take things back)"
    reconcile.add_argument("--timeout", type=cli.seconds, metavar="SECONDS", help=what)

    notify = cli.subcommand(commands, "notify", "deliver the messages that wait")
    notify.add_argument("--test", action="store_true", help="send one message to everybody now")
    for each in (status, reconcile, notify):
        each.add_argument("--config", type=cli.path, metavar="FILE", help="default /etc/certhooks/notify.conf")

    forget = cli.subcommand(commands, "forget", "drop what is known of a device")
    forget.add_argument("devices", nargs="+", metavar="FQDN[:PORT]", help="as status shows it")
    if for_monitor:
        for each in (made, status):
            each.error = _cannot_tell  # type: ignore[method-assign]
    return made


def _cannot_tell(message: str) -> NoReturn:
    raise _UnknownError(message, hint=f"{PROG} status --help")


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Run the command and return its exit code."""
    words = sys.argv[1:] if argv is None else argv
    for_monitor = "status" in words
    return cli.run(PROG, _operate, lambda: parser(for_monitor=for_monitor), argv)


def entry() -> None:
    """Run as the installed script."""
    cli.entry(main)


def _operate(args: argparse.Namespace, screen: cli.Screen) -> int:
    operations: dict[str, Callable[[argparse.Namespace, cli.Screen], int]] = {
        "status": _status,
        "reconcile": _reconcile,
        "notify": _notify,
        "forget": _forget,
    }
    return operations[args.subcommand](args, screen)


def _add_limits(made: argparse.ArgumentParser) -> None:
    for option, days in (("--warning", 14), ("--critical", 7)):
        what = f"days before expiry (default {days}, or notify.conf's; fewer for certificates of less than 8 weeks)"
        made.add_argument(option, type=_days, metavar="DAYS", help=what)


def _settings(args: argparse.Namespace) -> Settings:
    from certhooks.watch import settings

    if args.config and not args.config.exists():
        raise UsageError(f"there is no {args.config}", hint="leave --config out for /etc/certhooks/notify.conf")
    return settings.read(args.config or settings.DEFAULT)


def _settings_or_none(args: argparse.Namespace) -> tuple[Settings, Optional[Error]]:
    """Return the settings; where they cannot be used, those of nobody to tell, and why."""
    from certhooks.watch.settings import Settings

    try:
        return _settings(args), None
    except Error as e:
        return Settings(), e


def _limits(args: argparse.Namespace, settings: Settings) -> Limits:
    """Return the limits of the options, else of the settings, else ours."""
    from certhooks.watch.judge import Limits

    usual = Limits()
    pairs = (
        (args.warning, settings.warning_days, usual.warning_days),
        (args.critical, settings.critical_days, usual.critical_days),
    )
    warning, critical = (next(days for days in each if days is not None) for each in pairs)
    if critical > warning:
        raise UsageError(
            f"critical ({critical:g} days) would come before warning ({warning:g})",
            hint="--critical must be the smaller",
        )
    return Limits(warning, critical)


def _state_dir(args: argparse.Namespace) -> Path:
    from certhooks.journal import DEFAULT

    return args.state_dir or DEFAULT


def _status(args: argparse.Namespace, screen: cli.Screen) -> int:
    """Show everything, and return the worst level in Nagios's numbers."""
    try:
        overview = _overview(args, screen)
        _write(args, screen, overview)
    except Error as e:
        if not (args.json or args.prometheus or args.html):
            screen.say(f"certhooks UNKNOWN - {e}")  # the line that a monitor shows
        raise _UnknownError(str(e), hint=e.hint) from e
    return int(overview.level)


def _overview(args: argparse.Namespace, screen: cli.Screen) -> Overview:
    from certhooks.watch.observe import assess, look
    from certhooks.watch.schedule import Tries

    folder = _state_dir(args)
    settings, problem = _settings_or_none(args)
    overview = assess(look(folder, tell=screen.tell), Tries(folder), _limits(args, settings))
    findings = [*overview.findings, *_waiting(folder, overview.at)]
    if problem:
        findings.append(Finding(Level.WARNING, "settings", f"nobody is told of anything: {problem}", problem.hint))
    return replace(overview, findings=tuple(findings))


def _waiting(folder: Path, now: float) -> Iterator[Finding]:
    """Yield that messages wait to be delivered, where the oldest has waited for longer than a quarter of an hour."""
    from certhooks.watch.spool import FOLDER, Spool

    if not (folder / FOLDER).is_dir():
        return
    waiting = [message for message in Spool(folder).queued() if now - message.at > _DELIVERED_WITHIN]
    if waiting:
        hours = (now - min(message.at for message in waiting)) / 3600
        text = f"messages wait to be delivered: {len(waiting)}, the oldest for {hours:.1f} hours"
        yield Finding(Level.WARNING, "messages", text, "certhooks notify -v says what keeps them")


def _write(args: argparse.Namespace, screen: cli.Screen, overview: Overview) -> None:
    """Write what was asked for, else the table."""
    if args.html:
        from certhooks.watch import page

        _replace(args.html, page.html(overview))
    if args.prometheus:
        from certhooks.watch import prometheus

        text = prometheus.text(overview)
        if args.prometheus == "-":
            screen.paint(text)
        else:
            _replace(Path(args.prometheus), text)
    if args.json:
        import json

        screen.say(json.dumps(overview.as_dict()))
    elif not args.html and not args.prometheus:
        from certhooks.watch import table

        table.show(overview, screen, verbose=args.verbose)


def _replace(path: Path, text: str) -> None:
    """Write a file that others may read: a web server, node_exporter; into what is no file, such as /dev/stdout."""
    from certhooks import files

    data = text.encode(errors="replace")
    try:
        if path.exists() and not path.is_file():
            with path.open("wb") as stream:
                stream.write(data)
        else:
            files.replace(Path(os.path.realpath(path)), data, mode=0o644)
    except (OSError, ValueError) as e:
        reason = getattr(e, "strerror", None) or str(e)
        raise UsageError(f"cannot write {path}: {reason.lower()}") from e


def _reconcile(args: argparse.Namespace, screen: cli.Screen) -> int:
    from certhooks.deadline import Deadline
    from certhooks.errors import BusyError
    from certhooks.journal import Journal
    from certhooks.watch.reconcile import Reconcile

    folder = _state_dir(args)
    settings, problem = _settings_or_none(args)
    limits = _limits(args, settings)
    made = Reconcile(folder, screen, limits, seconds=args.timeout, jobs=args.jobs, at_once=args.now)
    if args.dry_run:
        return _show_plan(screen, *made.plan(), at_once=args.now)
    with ExitStack() as held:
        try:
            held.enter_context(Journal(folder).lock("certhooks reconcile", Deadline(0.0)))
        except BusyError:
            screen.tell("", "another reconcile is at work")
            return 0
        outcome = made.run()
        code = _show(screen, outcome)
        told = _tell_people(screen, folder, settings, outcome.overview)
    if problem:  # what tells people must not keep anything from being repaired
        cli.log_error(problem)
        screen.error(problem)
        told = problem.exit_code
    return code or told


def _show_plan(screen: cli.Screen, overview: Overview, tasks: Sequence[Task], *, at_once: bool) -> int:
    """Say what a reconcile would run now, and what later."""
    from certhooks.watch.plain import iso

    for task in tasks:
        when = "now" if at_once or task.due <= overview.at else f"not before {iso(task.due)}"
        screen.say(f"{task.where}: would run, {when}: {task.typed}")
        screen.say(f"{task.where}: because {task.why}")
    if not tasks:
        screen.say("nothing to do")
    return 0


def _show(screen: cli.Screen, outcome: Outcome) -> int:
    """Say what was run and how it ended, nothing where nothing was: cron would mail it. Return the exit code."""
    for task, ended in outcome.ended:
        if ended.code:
            screen.error(Error(ended.error, hint=f"{task.typed} -v"), who=task.where)
        elif not task.look or screen.verbose:
            screen.say(f"{task.where}: {'looked at' if task.look else 'repaired'} ({task.why})")
    if outcome.problem:
        cli.log_error(outcome.problem)
        screen.error(outcome.problem)
    for finding in outcome.overview.findings:
        cli.log_error(Error(finding.text), who=finding.kind)
        screen.error(Error(finding.text, hint=finding.hint))
    problem = outcome.problem.exit_code if outcome.problem else 0
    return outcome.exit_code or problem or (CertmongerError.exit_code if outcome.overview.findings else 0)


def _tell_people(screen: cli.Screen, folder: Path, settings: Settings, overview: Overview) -> int:
    """Send a message for each change of state and return the exit code; what cannot be sent waits for the next time."""
    from certhooks.deadline import Deadline
    from certhooks.watch import notify

    notify.queue(folder, overview, settings)
    return notify.deliver(folder, settings, screen, Deadline(_TELLING))


def _notify(args: argparse.Namespace, screen: cli.Screen) -> int:
    from certhooks.deadline import Deadline
    from certhooks.watch import notify

    settings, deadline = _settings(args), Deadline(_TELLING)
    if args.test:
        return notify.test(settings, screen, deadline)
    return notify.deliver(_state_dir(args), settings, screen, deadline, force=True)


def _forget(args: argparse.Namespace, screen: cli.Screen) -> int:
    from certhooks.watch import forget

    return forget.forget(_state_dir(args), args.devices, screen)


def _days(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 10000:  # noqa: PLR2004  28 years
        raise argparse.ArgumentTypeError(f"not a number of days: {text!r}")
    return value


if __name__ == "__main__":
    entry()
