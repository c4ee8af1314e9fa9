"""Man pages, made from the parser, the settings and the errors. Pure: to roff (man(7))."""

from __future__ import annotations

import argparse
from collections.abc import Iterator

from ksmwatch import errors
from ksmwatch.errors import Exit, KsmwatchError
from ksmwatch.options import DEFAULT_SOCKET, OPTIONS
from tools.completion import commands_of

# What a line of help does not say.
_MORE = {
    "run": """\
Attaches BPF programs to the reverse map and counts every page table entry that starts or stops
mapping a KSM page, per process. Serves metrics for Prometheus, and snapshots on a Unix socket.
SIGTERM ends it and detaches everything.

Where live accounting is impossible it says why in one sentence and polls smaps_rollup within a
CPU budget; with --backend=bpf it fails instead.

Every flag is also a key of the TOML file that --config.file names: the flag
--web.listen-address is the key listen-address in the table [web]. Flags win over the file.""",
    "check": """\
Prints facts about the kernel, the probe that was chosen for each event and why others were
rejected, capabilities, and what has been lost. Its status is 0 if live accounting is possible.""",
    "snapshot": """\
Asks the daemon over its socket; as root, where no daemon runs, measures by itself. Every event
that happened before the call is in the counts.""",
    "meminfo": """\
The line was wanted by a patch of 2011; no kernel has it.""",
    "forecast": """\
Unmerging gives each mapping a page of its own. Two bounds, against MemAvailable and the limits
of cgroups: at least, if each page that the kernel counts as shared is freed; at most, if none
is.""",
    "top": """\
Keys are those of htop; F1 shows them. Reads the daemon's socket; as root, where no daemon runs,
measures by itself; with --url reads the metrics of another host. With --once, --batch, -n, --json
or --csv it prints instead, and needs no terminal.""",
    "audit": """\
Needs root, and no daemon; with one its counts stand beside what was read. Stray mappings are
those in areas that are not mergeable: the kernel left them behind.""",
    "why": """\
Causes come in the order in which they have to be mended, each with what was seen and the next
step: KSM off, memory that was never offered, shared mappings, huge pages, special or pinned
areas, pages that change, a slow scan, contents that nobody else has.""",
    "peers": """\
Reads the page frame numbers of all processes that have KSM pages, and prints how many KSM pages
each two owners have in common. Crossing of a border between tenants is marked: who has a page in
common with another can learn by timing that the other has its content. A tenant is an owner,
unless --peers.tenant says that several are one.

It needs root, costs what it says, and never runs by itself.""",
    "record": """\
Facts and kernel files of this host, as they are, for a bug report or a test fixture.""",
}
_FILES = (
    (DEFAULT_SOCKET, "the daemon's socket"),
    ("/sys/fs/bpf/ksmwatch", "maps and attachments that outlive a killed daemon"),
)


def _plain(text: str) -> str:
    """Text that roff takes as it is."""
    return text.replace("\\", "\\e").replace("-", "\\-").replace("'", "\\(aq")


def _line(text: str) -> str:
    """A line of text: a dot in front would make it a request."""
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
    yield _line(f"{action.help or ''}.")
    more = next((option.more for option in OPTIONS if option.field == action.dest), "")
    if more:
        yield _line(more)


def _head(name: str, text: str) -> Iterator[str]:
    yield '.\\" Made by `make docs`.'
    yield f'.TH {name.upper()} 1 "" ksmwatch'
    yield ".SH NAME"
    yield f"{_plain(name)} \\- {_plain(text)}"


def _statuses() -> Iterator[str]:
    meanings = {Exit.OK: "Done.", Exit.INTERNAL: "An error inside ksmwatch."}
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
    """The page of a command."""
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
    """Pages by file name: of ksmwatch, and of each command."""
    commands = dict(commands_of(parser))
    lines = list(_head("ksmwatch", "live, exact counts of the PTEs that map KSM pages"))
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
