"""Plain-text tables and the /proc/meminfo of the 2011 patch. Pure: from data to text."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from typing import Any

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
    }
)


def clean(text: str) -> str:
    """A name as one harmless line: control, format and line-breaking characters become `?`."""
    if text.isascii() and text.isprintable():
        return text
    return "".join("?" if _harmful(unicodedata.category(c)) else c for c in text)


def _harmful(category: str) -> bool:
    return category[0] == "C" or category in ("Zl", "Zp")


def fit(text: str, width: int, *, right: bool = False) -> str:
    """A name as exactly this many columns of a terminal: harmless, padded, cut with `…`.

    Besides what `clean` replaces, other kinds of spaces become `?`, and combining characters,
    about whose width terminals do not agree.
    """
    if not (text.isascii() and text.isprintable()):
        whole = unicodedata.normalize("NFC", text)
        text = "".join(c if c.isprintable() and _columns(c) else "?" for c in whole)
    room = width - (len(text) if text.isascii() else sum(map(_columns, text)))
    if room < 0:
        text, room = _cut(text, width)
    return " " * room + text if right else text + " " * room


def _columns(char: str) -> int:
    """0 for a character that joins the one before it."""
    if unicodedata.category(char)[0] == "M" or "\u1160" <= char <= "\u11ff":
        return 0
    return 2 if unicodedata.east_asian_width(char) in "WF" else 1


def _cut(text: str, width: int) -> tuple[str, int]:
    """The beginning of a text with `…`, and the room left."""
    room, kept = max(width, 0) - 1, []
    if room < 0:
        return "", 0
    for char in text:
        if room < _columns(char):
            break
        kept.append(char)
        room -= _columns(char)
    return "".join(kept) + "…", room


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


def _or_dash(value: object) -> object:
    return "-" if value is None else value


def _kernel(host: dict[str, Any]) -> str:
    return f"{_or_dash(host['kernel_mappings'])} pages, lag {_or_dash(host['kernel_lag'])}"


def _mib(size: int) -> str:
    return f"{size / 2**20:.1f}"


def snapshot(document: dict[str, Any]) -> str:
    """A snapshot document as text."""
    host = document["host"]
    lines = [
        f"KSM mappings  {host['mappings']} pages, {_mib(host['bytes'])} MiB ({host['confidence']})",
        f"kernel says   {_kernel(host)}",
        f"mode          {document['mode']}{', asleep' if document['asleep'] else ''}",
    ]
    if host["reason"]:
        lines.append(f"why           {clean(host['reason'])}")
    if document["mode_reason"]:
        lines.append(f"because       {clean(document['mode_reason'])}")
    lost = {kind: n for kind, n in document["losses"].items() if n}
    if lost:
        lines.append("losses        " + ", ".join(f"{k} {n}" for k, n in lost.items()))
    rows = [
        (
            p["pid"],
            p["name"],
            p["mappings"],
            _mib(p["bytes"]),
            _or_dash(p["kernel_merging_pages"]),
            _or_dash(p["kernel_lag"]),
            p["confidence"],
        )
        for p in document["processes"]
    ]
    if rows:
        head = ("PID", "NAME", "MAPPINGS", "MIB", "KERNEL", "LAG", "CONFIDENCE")
        lines += ["", table(head, rows)]
    return "\n".join(lines)


_VERDICTS = {
    "fits": "fits",
    "uncertain": "may not fit",
    "too_little": "does not fit",
    "unknown": "unknown",
}


def _mib_or_dash(size: int | None) -> str:
    return "-" if size is None else _mib(size)


def forecast(document: dict[str, Any]) -> str:
    """What unmerging would need, from a snapshot document, as text; in MiB."""
    host = document["host"]
    need = host["unmerge"]
    least, most = _mib_or_dash(need["at_least_bytes"]), _mib(need["at_most_bytes"])
    verdict = _VERDICTS[need["verdict"]]
    lines = [
        f"run=2 needs   {least} to {most} MiB ({host['confidence']}): {verdict}",
        f"available     {_mib_or_dash(need['available_bytes'])} MiB",
    ]
    rows = [_forecast_row(owner) for owner in document["owners"]]
    if rows:
        head = ("OWNER", "KIND", "AT LEAST", "AT MOST", "LEFT", "LIMITED BY", "VERDICT")
        lines += ["", table(head, rows)]
    return "\n".join(lines)


def _forecast_row(owner: dict[str, Any]) -> tuple[object, ...]:
    need = owner["unmerge"]
    limit = need["limit"]
    return (
        owner["name"],
        owner["kind"],
        _mib_or_dash(need["at_least_bytes"]),
        _mib(need["at_most_bytes"]),
        _mib_or_dash(need["available_bytes"] if limit is None else limit["left_bytes"]),
        "host" if limit is None else limit["cgroup"],
        _VERDICTS[need["verdict"]],
    )


def meminfo(text: str, mappings: int, page_size: int) -> str:
    """/proc/meminfo with `KsmSharing` below `PageTables`, as the 2011 patch proposed."""
    line = f"KsmSharing:     {mappings * page_size // 1024:8d} kB"
    lines = text.splitlines()
    at = next((i for i, each in enumerate(lines) if each.startswith("PageTables:")), len(lines) - 1)
    return "\n".join([*lines[: at + 1], line, *lines[at + 1 :]])
