"""Plain-text tables, and the values in their cells. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from ksmwatch.terminal_text import clean

_RIGHT = frozenset(
    {
        "PID",
        "MAPPINGS",
        "MIB",
        "KERNEL",
        "LAG",
        "COUNTED",
        "STRAY",
        "AT LEAST",
        "AT MOST",
        "LEFT",
        "PAGES",
        "MAPPED",
        "CHANGE",
        "CAME",
        "WENT",
        "SAVED MIB",
        "FIRST",
        "LAST",
        "LOWEST",
        "HIGHEST",
    }
)


def table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Columns aligned by width, with numbers to the right."""
    cells = [list(head), *[[clean(str(cell)) for cell in row] for row in rows]]
    widths = [max(len(row[i]) for row in cells) for i in range(len(head))]
    lines = []
    for row in cells:
        parts = [
            cell.rjust(width) if name in _RIGHT else cell.ljust(width)
            for name, cell, width in zip(head, row, widths, strict=True)
        ]
        lines.append("  ".join(parts).rstrip())
    return "\n".join(lines)


def or_dash(value: object) -> object:
    return "-" if value is None else value


def mib(size: int) -> str:
    return f"{size / 2**20:.1f}"


def mib_or_dash(size: int | None) -> str:
    return "-" if size is None else mib(size)
