"""Man pages in roff (man(7)), made from the parser, the settings and the errors. Pure."""

from __future__ import annotations

import argparse
from collections.abc import Iterator

from ksmwatch import errors
from ksmwatch.errors import Exit, KsmwatchError
from ksmwatch.options import DEFAULT_HISTORY, DEFAULT_SOCKET, OPTIONS
from tools.completion import commands_of

# What the help of a command does not say.
_MORE = {
    "run": """\
The daemon attaches BPF programs to the kernel's reverse map. They count every page table entry
that starts or stops mapping a KSM page, for each process. The daemon serves metrics for
Prometheus, and snapshots on a Unix socket. SIGTERM ends it and detaches everything.

If live accounting is impossible, the daemon says why in one sentence and polls smaps_rollup within
a CPU limit. With --backend=bpf it fails instead.

Every flag is also a key of the TOML file that --config.file names. The flag --web.listen-address
is the key listen-address in the table [web]. Flags override the file.""",
    "check": """\
Prints facts about the kernel, the probe chosen for each event, the rejected probes with the reason,
the capabilities, and what a running daemon has lost. The exit status is 0 if live accounting is
possible.""",
    "build": """\
Needs root, bcc, and the same running kernel as the hosts that are to use the file. Copy the file to
/usr/lib/ksmwatch/programs on these hosts. A daemon of the same version with the same --probes and
--accounts.max then needs no bcc. The name of the file must end with .programs.""",
    "snapshot": """\
Asks the daemon over its socket. As root, without a daemon, it takes its own measurement. The counts
include every event that happened before the call.""",
    "meminfo": """\
A patch of 2011 proposed this line; no kernel has it.""",
    "forecast": """\
Unmerging (run=2, or one owner) gives each mapping a page of its own. The command prints two bounds,
and compares them with MemAvailable and with the memory limits of cgroups. The lower bound holds if
every page that the kernel counts as shared is freed, the upper bound if none is.""",
    "top": """\
The keys are those of htop; F1 lists them. The command reads the daemon's socket. As root, without
a daemon, it takes its own measurements. With --url it reads the metrics of another host. With
--once, --batch, -n, --json or --csv it prints, and needs no terminal.

--at shows the past, as far as the daemon has recorded it (see ksmwatch-history). T and t step back
and forth by a moment, J and j by ten minutes, and p returns to now.""",
    "audit": """\
Needs root but no daemon. If a daemon runs, its counts are printed beside what was read. Stray
mappings lie in areas that are not mergeable: the kernel left them behind.""",
    "why": """\
Prints causes in the order in which to fix them, each with its evidence and the next step: KSM is
off, memory is not offered to KSM, mappings are shared, huge pages, special or pinned areas, pages
that change, a slow scan, content that no other page has.""",
    "peers": """\
Reads the page frame numbers of all processes that have KSM pages, and prints how many KSM pages
each pair of owners has in common. It marks pairs that cross a border between tenants: an owner can
learn by timing that another owner has the same content in a page. Each owner is a tenant of its
own, unless --peers.tenant joins several into one.

It needs root. It prints what it cost, and never runs by itself.""",
    "estimate": """\
Reads private anonymous pages of processes and says what KSM would save, without merging a page.
If there are few pages, all are compared. Otherwise a sample is compared, and the result has a 99 %
interval. Pages that change between two readings do not count.

The first number is for the memory that is offered to KSM now, the second for all memory that could
be offered. Processes and owners that are named are compared only with each other. --peers.tenant
joins several owners into one tenant.

It needs root. It reads page frames out of /proc/kcore, which brings no page in and marks none as
accessed. Where that is hidden it reads /proc/PID/mem. Ctrl-C shows what is known so far.""",
    "history": """\
Reads the file in which the daemon keeps past counts (--history.directory), and needs no daemon.
Users who may use the daemon's socket may read it. The first line reports the largest rise or fall
of one owner, its main reason, and when it happened. A time of day means the most recent one; -2h
means two hours ago.

There are numbers for every 10 seconds of the last 24 hours, and for every ten minutes of 30 days. A
time without numbers is shown as such: the daemon did not run, or could not write.""",
    "record": """\
Copies facts and kernel files of this host unchanged, for a bug report or a test fixture.""",
}
_FILES = (
    (DEFAULT_SOCKET, "The daemon's socket."),
    (DEFAULT_HISTORY, "Past counts, if the service keeps them."),
    ("/sys/fs/bpf/ksmwatch", "Maps and attachments that stay when the daemon is killed."),
)


def _plain(text: str) -> str:
    """Escape text for roff."""
    return text.replace("\\", "\\e").replace("-", "\\-").replace("'", "\\(aq")


def _line(text: str) -> str:
    """A line of text. A leading dot would make it a request, so it is escaped."""
    plain = _plain(text)
    return f"\\&{plain}" if plain.startswith(".") else plain


def _paragraphs(text: str) -> Iterator[str]:
    for at, paragraph in enumerate(text.split("\n\n")):
        yield from [".PP"] if at else []
        yield from map(_line, paragraph.splitlines())


def _invocation(action: argparse.Action) -> str:
    value = action.metavar or ("" if action.nargs == 0 else action.dest.upper())
    if not action.option_strings:
        return f"\\fI{_plain(str(value))}\\fR"
    flags = ", ".join(f"\\fB{_plain(name)}\\fR" for name in action.option_strings)
    return f"{flags} \\fI{_plain(str(value))}\\fR" if value else flags


def _option(action: argparse.Action) -> Iterator[str]:
    yield ".TP"
    yield _invocation(action)
    text = action.help or ""
    yield _line(f"{text[:1].upper()}{text[1:]}.")
    more = next((option.more for option in OPTIONS if option.field == action.dest), "")
    if more:
        yield _line(more)


def _head(name: str, text: str) -> Iterator[str]:
    yield '.\\" Made by `make docs`.'
    yield f'.TH {name.upper()} 1 "" ksmwatch'
    yield ".SH NAME"
    yield f"{_plain(name)} \\- {_plain(text)}"


def _statuses() -> Iterator[str]:
    meanings = {Exit.OK: "Success.", Exit.INTERNAL: "An internal error of ksmwatch."}
    for kind in KsmwatchError.__subclasses__():
        if kind is not errors.SourceError:
            meanings[kind.status] = (kind.__doc__ or "").splitlines()[0]
    for status, meaning in sorted(meanings.items()):
        yield from (".TP", str(int(status)), _line(meaning))


def _see_also(names: list[str]) -> Iterator[str]:
    yield ".SH SEE ALSO"
    *most, last = names
    yield from (f".BR {_plain(name)} (1)," for name in most)
    yield f".BR {_plain(last)} (1)"


def _page(name: str, parser: argparse.ArgumentParser, others: list[str]) -> str:
    description = parser.description or ""
    title = f"ksmwatch-{name}"
    lines = list(_head(title, description[:1].lower() + description[1:].rstrip(".")))
    lines += [".SH SYNOPSIS", _line((parser.usage or "").strip())]
    lines += [".SH DESCRIPTION", *_paragraphs(f"{description}\n\n{_MORE[name]}")]
    lines.append(".SH OPTIONS")
    for action in parser._actions:  # noqa: SLF001 - argparse has no other way to ask
        lines += _option(action)
    lines += [".SH EXIT STATUS", *_statuses()]
    lines += _see_also(["ksmwatch", *(f"ksmwatch-{other}" for other in others if other != name)])
    return "\n".join(lines) + "\n"


def pages(parser: argparse.ArgumentParser) -> dict[str, str]:
    """The pages of ksmwatch and of each command, by file name."""
    commands = dict(commands_of(parser))
    lines = list(_head("ksmwatch", "counts the PTEs that map KSM pages, live and exactly"))
    lines += [".SH SYNOPSIS", _line((parser.usage or "").strip())]
    lines += [".SH DESCRIPTION", *_paragraphs(parser.description or ""), ".SH COMMANDS"]
    for name, command in commands.items():
        lines += [".TP", f"\\fB{_plain(name)}\\fR", _line(command.description or "")]
    lines.append(".SH FILES")
    for path, text in _FILES:
        lines += [".TP", f"\\fI{_plain(path)}\\fR", _line(text)]
    lines += [".SH EXIT STATUS", *_statuses()]
    lines += _see_also([f"ksmwatch-{name}" for name in commands])
    made = {"ksmwatch.1": "\n".join(lines) + "\n"}
    for name, command in commands.items():
        made[f"ksmwatch-{name}.1"] = _page(name, command, list(commands))
    return made
