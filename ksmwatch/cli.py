"""The command line. The only place where an error becomes a line on stderr and a status."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ksmwatch import __version__, config
from ksmwatch.errors import ConfigError, Exit, KsmwatchError, NoDaemonError, PrivilegeError
from ksmwatch.option_values import flag_number

_Command = Callable[[argparse.Namespace], Exit]


def _settings(args: argparse.Namespace) -> config.Config:
    """Flags override the configuration file, and that overrides the defaults."""
    path = args.config_file
    file = config.read_file(Path(path)) if path else {}
    return config.make(file, vars(args), path or "")


def _run(args: argparse.Namespace) -> Exit:
    settings = _settings(args)
    if args.config_check:
        from ksmwatch.export.fronts import web_files

        web_files(settings.web_config_file)
        print("The configuration is valid.")
        return Exit.OK
    from ksmwatch import log
    from ksmwatch.commands.run import Daemon
    from ksmwatch.systemd import Manager

    log.configure(settings.log_level, settings.log_format)
    return Daemon(settings, lambda: _settings(args), Manager()).run()


def _check(args: argparse.Namespace) -> Exit:
    from ksmwatch.commands import check

    settings = _settings(args)
    return check.run(settings, as_json=args.json, load=not args.plan_only)


def _build(args: argparse.Namespace) -> Exit:
    from ksmwatch.commands import build

    return build.run(_settings(args), Path(args.output))


def _document(args: argparse.Namespace) -> dict[str, Any]:
    """The daemon's snapshot document. As root, measure one if no daemon runs."""
    from ksmwatch.snapshot.socket_client import fetch

    settings = _settings(args)
    path = Path(settings.socket)
    try:
        return fetch(path)
    except NoDaemonError as error:
        from ksmwatch.commands.oneshot import may_measure, measure

        if not may_measure(path, error):
            raise
    return measure(settings)


def _snapshot(args: argparse.Namespace) -> Exit:
    document = _document(args)
    if args.json:
        json.dump(document, sys.stdout, indent=1)
        print()
    else:
        from ksmwatch.commands import snapshot

        print(snapshot.text(document))
    return Exit.OK


def _meminfo(args: argparse.Namespace) -> Exit:
    from ksmwatch.commands import meminfo

    document = _document(args)
    text = Path("/proc/meminfo").read_text()
    if document["mode"] == "none":
        # Dickins wanted KSM to be invisible to users without KSM.
        print(text, end="")
    else:
        mappings = document["host"]["mappings"]
        print(meminfo.with_ksm(text, mappings, document["page_size"]))
    return Exit.OK


def _forecast(args: argparse.Namespace) -> Exit:
    from ksmwatch.commands import forecast

    document = _document(args)
    if args.json:
        json.dump(forecast.document_of(document), sys.stdout, indent=1)
        print()
    else:
        print(forecast.text(document))
    return Exit.OK


def _top(args: argparse.Namespace) -> Exit:
    from ksmwatch.top import command

    return command.run(args, _settings(args))


def _audit(args: argparse.Namespace) -> Exit:
    from ksmwatch.commands import audit

    if os.geteuid() != 0:
        raise PrivilegeError("ksmwatch audit needs root: it reads other users' page tables.")
    return audit.run(args.pid, _settings(args), as_json=args.json)


def _why(args: argparse.Namespace) -> Exit:
    from ksmwatch.commands import why

    return why.run(args.pid, as_json=args.json)


def _peers(args: argparse.Namespace) -> Exit:
    from ksmwatch.commands import peers
    from ksmwatch.top import source

    settings = _settings(args)
    pages = flag_number(args.max_pages, "--max-pages", int, 1, 1 << 40)
    seconds = flag_number(args.max_seconds, "--max-seconds", float, 0.1, 86400)
    wish = peers.PeersRequest(args.subject, settings.peers_tenant, pages, seconds)
    if os.geteuid() != 0:
        raise PrivilegeError("ksmwatch peers needs root: it reads the page frames of processes.")
    counts = source.choose(settings)
    try:
        return peers.run(counts.read, wish, as_json=args.json)
    finally:
        counts.close()


def _estimate(args: argparse.Namespace) -> Exit:
    from ksmwatch.commands import estimate

    settings = _settings(args)
    if args.all and args.subject:
        raise ConfigError("--all reads everyone, so it takes no process and no owner.")
    interval, seed = args.interval, args.seed
    wish = estimate.EstimateWish(
        tuple(args.subject),
        settings.peers_tenant,
        flag_number(args.precision, "--precision", float, 0, 100),
        flag_number(args.budget, "--budget", float, 0.1, 86400),
        None if interval is None else flag_number(interval, "--interval", float, 0, 86400),
        None if seed is None else flag_number(seed, "--seed", int, 0, 1 << 32),
    )
    if os.geteuid() != 0:
        raise PrivilegeError("ksmwatch estimate needs root: it reads the memory of processes.")
    return estimate.run(wish, as_json=args.json)


def _record(args: argparse.Namespace) -> Exit:
    from ksmwatch.commands.record import record

    if os.geteuid() != 0:
        raise PrivilegeError("ksmwatch record needs root: it reads other users' files.")
    count = record(Path(args.directory))
    print(f"Recorded {count} files in {args.directory}.")
    return Exit.OK


class _Parser(argparse.ArgumentParser):
    """Report a wrong flag in one sentence, like every other error."""

    def error(self, message: str) -> Any:
        raise ConfigError(f"{message[:1].upper()}{message[1:]}; see {self.prog} --help.")


@dataclass(frozen=True)
class _Form:
    """How a command looks.

    `settings`: the settings it has as flags. () stands for all, None for no flag and no file.
    """

    name: str
    run: _Command
    text: str
    settings: tuple[str, ...] | None = ("socket",)
    operands: str = ""
    json: bool = True
    add: Callable[[argparse.ArgumentParser], None] = lambda _: None


def _add_run(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--config.check",
        dest="config_check",
        action="store_true",
        help="check the settings, then exit",
    )


def _add_check(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--plan-only", action="store_true", help="do not load the programs")


def _add_build(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--output", required=True, metavar="FILE", help="file to write")


def _add_top(parser: argparse.ArgumentParser) -> None:
    from ksmwatch.top import command

    command.add_flags(parser)


def _add_audit(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("pid", nargs="*", type=int, metavar="PID", help="process (default: all)")


def _add_why(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "pid", nargs="?", type=int, metavar="PID", help="process (default: the host)"
    )


def _add_peers(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    text = "show only its peers; a PID, or an owner's name, id or KIND:ID"
    add("subject", nargs="?", metavar="PID|OWNER", help=text)
    add(
        "--max-pages",
        default=str(1 << 26),
        metavar="N",
        help="most page-table entries to read (default 2^26)",
    )
    add("--max-seconds", default="60", metavar="N", help="most seconds to read (default 60)")


def _add_estimate(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    text = "compare only these; a PID, or an owner's name, id or KIND:ID"
    add("subject", nargs="*", metavar="PID|OWNER", help=text)
    add("--all", action="store_true", help="compare all processes (default without operands)")
    add(
        "--precision",
        default="1",
        metavar="PERCENT",
        help="error wanted, of the memory looked at (default 1; 0: exact)",
    )
    add("--budget", default="60", metavar="N", help="most seconds of CPU to use (default 60)")
    add(
        "--interval",
        metavar="N",
        help="seconds between two readings (default: a scan of ksmd, 1 to 20)",
    )
    add("--seed", metavar="N", help="take the same sample again (default: another one)")


def _add_record(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("directory", metavar="DIRECTORY", help="where to write the files")


_PROBING = ("socket", "backend", "probes", "accounts.max", "state.programs-path")
_FORMS: tuple[_Form, ...] = (
    _Form("run", _run, "run the daemon in the foreground", (), json=False, add=_add_run),
    _Form("check", _check, "check what this host supports", _PROBING, add=_add_check),
    _Form(
        "build",
        _build,
        "compile the BPF programs for hosts without bcc",
        ("probes", "accounts.max", "state.programs-path"),
        json=False,
        add=_add_build,
    ),
    _Form("snapshot", _snapshot, "show the counts now", _PROBING),
    _Form("meminfo", _meminfo, "print meminfo with a line KsmSharing", _PROBING, json=False),
    _Form("forecast", _forecast, "show the memory that unmerging needs", _PROBING),
    _Form(
        "top",
        _top,
        "show owners or processes, live",
        ("socket", "backend"),
        json=False,  # a format of its own
        add=_add_top,
    ),
    _Form(
        "audit",
        _audit,
        "read page tables and show KSM mappings by area",
        operands="[PID...]",
        add=_add_audit,
    ),
    _Form(
        "why",
        _why,
        "explain why little is merged",
        None,
        operands="[PID]",
        add=_add_why,
    ),
    _Form(
        "peers",
        _peers,
        "show who shares KSM pages with whom",
        ("socket", "backend", "peers.tenant"),
        operands="[PID|OWNER]",
        add=_add_peers,
    ),
    _Form(
        "estimate",
        _estimate,
        "estimate what merging would save, without merging",
        ("peers.tenant",),
        operands="[PID|OWNER...]",
        add=_add_estimate,
    ),
    _Form(
        "record",
        _record,
        "record facts and kernel files for a bug report",
        None,
        operands="DIRECTORY",
        json=False,
        add=_add_record,
    ),
)


def _formatter(prog: str) -> argparse.HelpFormatter:
    """Always 80 columns wide, whatever the terminal has, so that tests see what users see."""
    return argparse.HelpFormatter(prog, max_help_position=33, width=80)


def _add(commands: Any, form: _Form, *, rare: bool) -> None:
    """Add the parser of a command. `rare`: with the help of rarely needed flags."""
    usage = f"ksmwatch {form.name} [FLAGS] {form.operands}".rstrip()
    parser: argparse.ArgumentParser = commands.add_parser(
        form.name,
        help=form.text,
        description=f"{form.text[0].upper()}{form.text[1:]}.",
        usage=usage,
        allow_abbrev=False,
        formatter_class=_formatter,
    )
    parser.set_defaults(run=form.run)
    form.add(parser)
    if form.json:
        parser.add_argument("--json", action="store_true", help="print JSON")
    if form.settings is None:
        return
    hidden = config.add_flags(parser, form.settings, rare=rare)
    parser.add_argument("--config.file", dest="config_file", metavar="FILE", help="TOML settings")
    if hidden:
        parser.epilog = f"{hidden} more flags: see man ksmwatch-{form.name}."


def build_parser(*, rare: bool = False) -> argparse.ArgumentParser:
    """The parser of all commands. `rare`: with the help of rarely needed flags."""
    parser = _Parser(
        prog="ksmwatch",
        description="Counts the PTEs that map KSM pages, live and exactly.",
        usage="ksmwatch COMMAND [FLAGS]",
        epilog="See also ksmwatch COMMAND --help and man ksmwatch-COMMAND.",
        allow_abbrev=False,
        formatter_class=_formatter,
    )
    parser.add_argument("--version", action="version", version=f"ksmwatch {__version__}")
    commands = parser.add_subparsers(
        metavar="COMMAND", required=True, parser_class=_Parser, prog="ksmwatch"
    )
    for form in _FORMS:
        _add(commands, form, rare=rare)
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
        # The reader has closed its end of the pipe.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return Exit.OK
    except KeyboardInterrupt:
        return 130
    return status
