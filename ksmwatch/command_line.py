"""Parses the command line: all commands with their flags. A running daemon forgets it."""

# Without `from __future__ import annotations`, see config.
import argparse
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any, NamedTuple

from ksmwatch import __version__, cli_calls
from ksmwatch.errors import ConfigError, Exit

_Command = Callable[[SimpleNamespace], Exit]


class _Parser(argparse.ArgumentParser):
    """Report a wrong flag in one sentence, like every other error."""

    def error(self, message: str) -> Any:
        raise ConfigError(f"{message[:1].upper()}{message[1:]}; see {self.prog} --help.")


class _Form(NamedTuple):
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
        help="maximum number of page-table entries to read (default 2^26)",
    )
    add(
        "--max-seconds",
        default="60",
        metavar="N",
        help="maximum number of seconds to read (default 60)",
    )


def _add_estimate(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    text = "compare only these; a PID, or an owner's name, id or KIND:ID"
    add("subject", nargs="*", metavar="PID|OWNER", help=text)
    add("--all", action="store_true", help="compare all processes (default without operands)")
    add(
        "--precision",
        default="1",
        metavar="PERCENT",
        help="error wanted, in percent of the memory (default 1; 0: exact)",
    )
    add("--budget", default="60", metavar="N", help="maximum seconds of CPU time (default 60)")
    add(
        "--interval",
        metavar="N",
        help="seconds between two readings (default: a scan of ksmd, 1 to 20)",
    )
    add("--seed", metavar="N", help="repeat the sample with this seed (default: a new sample)")


def _add_history(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("owner", nargs="?", metavar="OWNER", help="show only this owner; its name, id or KIND:ID")
    add(
        "--since",
        default="-1h",
        metavar="TIME",
        help="begin, such as 03:10, -2h or '2026-11-28 03:10' (default -1h)",
    )
    add("--until", default="now", metavar="TIME", help="end (default now)")
    add("--step", metavar="TIME", help="time between two points, such as 10m (default: all points)")
    add("--csv", action="store_true", help="print CSV")


def _add_record(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "directory", metavar="DIRECTORY", help="where to write the files; a new directory"
    )


_PROBING = ("socket", "backend", "probes", "accounts.max", "state.programs-path")
_FORMS: tuple[_Form, ...] = (
    _Form("run", cli_calls.run, "run the daemon in the foreground", (), json=False, add=_add_run),
    _Form("check", cli_calls.check, "check what this host supports", _PROBING, add=_add_check),
    _Form(
        "build",
        cli_calls.build,
        "compile the BPF programs for hosts without bcc",
        ("probes", "accounts.max", "state.programs-path"),
        json=False,
        add=_add_build,
    ),
    _Form("snapshot", cli_calls.snapshot, "show the counts now", _PROBING),
    _Form(
        "meminfo", cli_calls.meminfo, "print meminfo with a line KsmSharing", _PROBING, json=False
    ),
    _Form("forecast", cli_calls.forecast, "show the memory that unmerging needs", _PROBING),
    _Form(
        "top",
        cli_calls.top,
        "show owners or processes, live",
        ("socket", "backend", "history.directory"),
        json=False,  # a format of its own
        add=_add_top,
    ),
    _Form(
        "audit",
        cli_calls.audit,
        "read page tables and show KSM mappings by area",
        operands="[PID...]",
        add=_add_audit,
    ),
    _Form(
        "why",
        cli_calls.why,
        "explain why little is merged",
        None,
        operands="[PID]",
        add=_add_why,
    ),
    _Form(
        "peers",
        cli_calls.peers,
        "show who shares KSM pages with whom",
        ("socket", "backend", "peers.tenant"),
        operands="[PID|OWNER]",
        add=_add_peers,
    ),
    _Form(
        "estimate",
        cli_calls.estimate,
        "estimate what merging would save, without merging",
        ("peers.tenant",),
        operands="[PID|OWNER...]",
        add=_add_estimate,
    ),
    _Form(
        "history",
        cli_calls.history,
        "show past counts, and what changed most",
        ("history.directory",),
        operands="[OWNER]",
        add=_add_history,
    ),
    _Form(
        "record",
        cli_calls.record,
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
    from ksmwatch import config

    hidden = config.add_flags(parser, form.settings, rare=rare)
    parser.add_argument("--config.file", dest="config_file", metavar="FILE", help="TOML settings")
    if hidden:
        parser.epilog = f"{hidden} more flags: see man ksmwatch-{form.name}."


def build_parser(
    *, rare: bool = False, only: str | None = None, listed: bool = True
) -> argparse.ArgumentParser:
    """The parser of all commands. `rare`: with the help of rarely needed flags.

    `only`: the command that is called. The others then have no flags, because they are not used.
    If it is not to be `listed` with them, and exists, they are left out.
    """
    parser = _Parser(
        prog="ksmwatch",
        description="Counts the PTEs that map KSM pages, live and exactly. Each command has "
        "--help and a man page, such as ksmwatch-run.",
        usage="ksmwatch COMMAND [FLAGS]",
        allow_abbrev=False,
        formatter_class=_formatter,
    )
    parser.add_argument("--version", action="version", version=f"ksmwatch {__version__}")
    commands = parser.add_subparsers(
        metavar="COMMAND", required=True, parser_class=_Parser, prog="ksmwatch"
    )
    listed = listed or only not in [form.name for form in _FORMS]
    for form in _FORMS:
        if only in (None, form.name):
            _add(commands, form, rare=rare)
        elif listed:
            commands.add_parser(form.name, help=form.text, add_help=False)
    return parser


_TIMES = ("--at", "--since", "--until")


def joined(argv: Sequence[str]) -> list[str]:
    """Flags with a time and that time as one word: argparse takes `-2h` for a flag."""
    found: list[str] = []
    for word in argv:
        if found and found[-1] in _TIMES and word[:1] == "-" and word[1:2].isdigit():
            found[-1] += f"={word}"
        else:
            found.append(word)
    return found


def parse(argv: Sequence[str]) -> SimpleNamespace:
    """What a command line says; `run` is the command. Raises ConfigError and SystemExit."""
    words = joined(argv)
    called = next((word for word in words if not word.startswith("-")), "")
    # A flag before it can be --help, which lists all commands.
    parser = build_parser(only=called, listed=words[:1] != [called])
    # Nothing that refers to argparse.
    return SimpleNamespace(**vars(parser.parse_args(words)))
