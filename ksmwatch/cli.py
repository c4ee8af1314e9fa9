"""The command line. The only place where an error becomes a line on stderr and a status."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ksmwatch import __version__, config, render
from ksmwatch.errors import ConfigError, Exit, KsmwatchError, NoDaemonError, PrivilegeError

_Command = Callable[[argparse.Namespace], Exit]


def _settings(args: argparse.Namespace) -> config.Config:
    """Flags over the configuration file over defaults."""
    path = args.config_file
    file = config.read_file(Path(path)) if path else {}
    return config.make(file, vars(args), path or "")


def _run(args: argparse.Namespace) -> Exit:
    settings = _settings(args)
    if args.config_check:
        print("The configuration is good.")
        return Exit.OK
    from ksmwatch import log
    from ksmwatch.daemon import Daemon
    from ksmwatch.systemd import Manager

    log.configure(settings.log_level, settings.log_format)
    return Daemon(settings, lambda: _settings(args), Manager()).run()


def _check(args: argparse.Namespace) -> Exit:
    from ksmwatch import check

    settings = _settings(args)
    return check.run(settings, as_json=args.json, load=not args.plan_only)


def _document(args: argparse.Namespace) -> dict[str, Any]:
    """The daemon's snapshot document, or one of our own where we may."""
    from ksmwatch.service import fetch

    settings = _settings(args)
    path = Path(settings.socket)
    try:
        return fetch(path)
    except NoDaemonError as error:
        from ksmwatch.oneshot import may_measure, measure

        if not may_measure(path, error):
            raise
    return measure(settings)


def _snapshot(args: argparse.Namespace) -> Exit:
    document = _document(args)
    if args.json:
        json.dump(document, sys.stdout, indent=1)
        print()
    else:
        print(render.snapshot(document))
    return Exit.OK


def _meminfo(args: argparse.Namespace) -> Exit:
    document = _document(args)
    text = Path("/proc/meminfo").read_text()
    if document["mode"] == "none":
        # Dickins's wish: nothing is to annoy people without KSM.
        print(text, end="")
    else:
        mappings = document["host"]["mappings"]
        print(render.meminfo(text, mappings, document["page_size"]))
    return Exit.OK


def _forecast(args: argparse.Namespace) -> Exit:
    document = _document(args)
    if args.json:
        json.dump(render.forecast_document(document), sys.stdout, indent=1)
        print()
    else:
        print(render.forecast(document))
    return Exit.OK


def _top(args: argparse.Namespace) -> Exit:
    from ksmwatch.top import command

    return command.run(args, _settings(args))


def _audit(args: argparse.Namespace) -> Exit:
    from ksmwatch import inspection

    if os.geteuid() != 0:
        raise PrivilegeError("An audit needs root: it reads other users' page tables.")
    return inspection.run(args.pid, _settings(args), as_json=args.json)


def _why(args: argparse.Namespace) -> Exit:
    from ksmwatch import diagnosis

    return diagnosis.run(args.pid, as_json=args.json)


def _record(args: argparse.Namespace) -> Exit:
    from ksmwatch.record import record

    if os.geteuid() != 0:
        raise PrivilegeError("Recording a host needs root: other users' files would be missing.")
    count = record(Path(args.directory))
    print(f"{count} files in {args.directory}")
    return Exit.OK


class _Parser(argparse.ArgumentParser):
    """One sentence for a wrong flag, too."""

    def error(self, message: str) -> Any:
        raise ConfigError(f"{message[:1].upper()}{message[1:]}; see {self.prog} --help.")


def _add(
    commands: Any, name: str, run: _Command, text: str, only: tuple[str, ...] | None = ("socket",)
) -> argparse.ArgumentParser:
    """A command with the flags of some settings: () for all, None if it needs no settings."""
    parser: argparse.ArgumentParser = commands.add_parser(
        name, help=text, description=text, allow_abbrev=False
    )
    parser.set_defaults(run=run)
    if only is None:
        return parser
    config.add_flags(parser, only)
    parser.add_argument("--config.file", dest="config_file", metavar="FILE", help="TOML settings")
    return parser


def build_parser() -> argparse.ArgumentParser:
    """The parser of all commands."""
    parser = _Parser(
        prog="ksmwatch",
        description="Live, exact counts of the PTEs that map KSM pages.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"ksmwatch {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True, parser_class=_Parser)
    run = _add(commands, "run", _run, "run the daemon in the foreground", ())
    run.add_argument(
        "--config.check", dest="config_check", action="store_true", help="only check the settings"
    )
    probing = ("backend", "probes", "accounts.max")
    check = _add(
        commands,
        "check",
        _check,
        "say what is possible on this host, and why not",
        ("socket", *probing),
    )
    check.add_argument("--json", action="store_true", help="as a JSON document")
    check.add_argument("--plan-only", action="store_true", help="do not try to load the programs")
    snapshot = _add(commands, "snapshot", _snapshot, "show the counts now", ("socket", *probing))
    snapshot.add_argument("--json", action="store_true", help="as a JSON document")
    _add(
        commands,
        "meminfo",
        _meminfo,
        "print /proc/meminfo with the line KsmSharing",
        ("socket", *probing),
    )
    forecast = _add(
        commands,
        "forecast",
        _forecast,
        "say what unmerging would need: run=2, or one owner",
        ("socket", *probing),
    )
    forecast.add_argument("--json", action="store_true", help="as a JSON document")
    from ksmwatch.top import command

    top = _add(commands, "top", _top, "live view by owner or process", ("socket", "backend"))
    top.usage = "ksmwatch top [FLAGS]"
    command.add_flags(top)
    audit = _add(
        commands, "audit", _audit, "read the page tables: KSM mappings by area, and which are stray"
    )
    audit.add_argument("pid", nargs="*", type=int, metavar="PID", help="only these (default: all)")
    audit.add_argument("--json", action="store_true", help="as a JSON document")
    why = _add(commands, "why", _why, "say why little merges, on the host or in a process", None)
    why.add_argument("pid", nargs="?", type=int, metavar="PID", help="this process")
    why.add_argument("--json", action="store_true", help="as a JSON document")
    record = _add(commands, "record", _record, "record facts and kernel files for a bug report")
    record.add_argument("directory", metavar="DIRECTORY")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status."""
    try:
        args = build_parser().parse_args(argv)
        status: Exit = args.run(args)
        sys.stdout.flush()
    except KsmwatchError as error:
        print(f"ksmwatch: {error}", file=sys.stderr)
        return error.status
    except BrokenPipeError:
        # The reader of our output has had enough.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return Exit.OK
    except KeyboardInterrupt:
        return 130
    return status
