"""What is shown, as text: pure, from measured numbers to lines of spans."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

# A piece of text and its style; a style is a name in _CODES or nothing.
Span = tuple[str, str]
Line = list[Span]

_CODES = {"bold": "1", "dim": "2", "red": "31", "green": "32", "yellow": "33", "head": "4"}
_HEAD = ("PROCESS", "PID", "KSMWATCH", "TRUTH", "KERNEL", "LAG", "CONFIDENCE")
# So that columns do not jump about while numbers grow.
_WIDTHS = (7, 5, 8, 5, 6, 5, 10)
_LEFT = frozenset({"PROCESS", "CONFIDENCE"})
LEGEND = (
    "In pages. KSMWATCH: counted by eBPF. TRUTH: KSM in smaps_rollup. "
    "KERNEL: ksm_merging_pages. LAG: KSMWATCH - KERNEL."
)


@dataclass(frozen=True)
class Row:
    """One tenant at one moment, in pages. None: not there, or not readable.

    Not `steady`: the truth has moved while it was looked at.
    """

    name: str
    pid: int | None
    ours: int | None
    truth: int | None
    kernel: int | None
    confidence: str
    steady: bool = True

    @property
    def lag(self) -> int | None:
        """Our number minus the kernel's."""
        return None if self.ours is None or self.kernel is None else self.ours - self.kernel

    @property
    def differs(self) -> bool:
        """Whether our number differs from the truth, both being known at one moment."""
        return self.steady and None not in (self.ours, self.truth) and self.ours != self.truth


@dataclass(frozen=True)
class Host:
    """The host's numbers at one moment, in pages."""

    ours: int
    confidence: str
    shared: int
    sharing: int
    scanning: bool

    @property
    def lag(self) -> int:
        """Our number minus the kernel's pages_shared + pages_sharing."""
        return self.ours - self.shared - self.sharing


@dataclass(frozen=True)
class Frame:
    """Everything on the screen."""

    title: str
    act: str
    host: Host
    rows: Sequence[Row]
    history: Sequence[str]
    footer: str


def _number(value: int | None) -> str:
    return "-" if value is None else str(value)


def signed(value: int | None) -> str:
    """A difference in pages with its sign."""
    return "-" if value is None else f"{value:+d}" if value else "0"


def _cells(row: Row) -> list[Span]:
    agreed = "red" if row.differs else "green" if row.steady and row.truth is not None else ""
    return [
        (row.name, ""),
        (_number(row.pid), ""),
        (_number(row.ours), "bold"),
        (_number(row.truth), agreed),
        (_number(row.kernel), ""),
        (signed(row.lag), "yellow" if row.lag else ""),
        (row.confidence, "" if row.confidence == "exact" else "dim"),
    ]


def table(rows: Sequence[Row]) -> list[Line]:
    """The head and a line for each row, in columns."""
    body = [_cells(row) for row in rows]
    widths = [
        max([least, *(len(cells[i][0]) for cells in body)]) for i, least in enumerate(_WIDTHS)
    ]
    lines = []
    for cells in [[(name, "dim") for name in _HEAD], *body]:
        line: Line = []
        for name, width, (text, style) in zip(_HEAD, widths, cells, strict=True):
            pad = " " * (width - len(text))
            parts = [(text, style), (pad, "")] if name in _LEFT else [(pad, ""), (text, style)]
            line += [*parts, ("  ", "")]
        lines.append(line)
    return lines


def host_lines(host: Host) -> list[Line]:
    """The host's sum and the kernel's, and whether ksmd is at work."""
    state = "ksmd runs" if host.scanning else "ksmd is stopped"
    return [
        [
            ("host    ksmwatch ", ""),
            (str(host.ours), "bold"),
            (f" ({host.confidence})   lag ", ""),
            (signed(host.lag), "yellow" if host.lag else ""),
            (f"   {state}", "dim"),
        ],
        [
            ("kernel  pages_shared ", ""),
            (str(host.shared), ""),
            (" + pages_sharing ", ""),
            (str(host.sharing), ""),
            (" = ", ""),
            (str(host.shared + host.sharing), "bold"),
        ],
    ]


def _wrapped(text: str, columns: int, style: str) -> list[Line]:
    return [[(line, style)] for line in textwrap.wrap(text, max(columns, 20))]


def layout(frame: Frame, columns: int, lines: int) -> list[Line]:
    """The frame for a terminal: the table always, the rest as far as there is room."""
    core: list[Line] = [*host_lines(frame.host), [], *table(frame.rows)]
    act = _wrapped(frame.act, columns, "bold")
    above: list[Line] = [[(frame.title, "dim")], [], *act, []]
    below: list[Line] = [[], *_wrapped(LEGEND, columns, "dim")]
    footer: list[Line] = [[], [(frame.footer, "dim")]]
    room = lines - len(core)
    if room < len(above) + len(footer):
        return [*act, *core][:lines]
    room -= len(above) + len(footer)
    if room < len(below):
        return [*above, *core, *footer]
    room -= len(below)
    past = [*frame.history][-(room - 1) :] if room > 1 else []
    shown: list[Line] = [[], *([(text, "")] for text in past)] if past else []
    return [*above, *core, *below, *shown, *footer]


def _clip(line: Line, columns: int) -> Line:
    clipped: Line = []
    for text, style in line:
        clipped.append((text[:columns], style))
        columns -= len(text)
        if columns <= 0:
            break
    return clipped


def text(line: Line, columns: int | None = None, *, colour: bool = False) -> str:
    """A line as a string; with `columns` cut off there."""
    spans = line if columns is None else _clip(line, columns)
    parts = [
        f"\x1b[{_CODES[style]}m{piece}\x1b[0m" if colour and style and piece else piece
        for piece, style in spans
    ]
    return "".join(parts).rstrip()
