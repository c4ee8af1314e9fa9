"""The look of values: units, columns that fit a width, one line of text per row. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ksmwatch.terminal_text import clean, fit
from ksmwatch.top.sample import Sample, UnmergeNeed
from ksmwatch.top.values import MOVEMENTS, SORTABLE, descending, value
from ksmwatch.top.view import Grouping, Options, Row, Unit, View

_SIZES = {Unit.KIB: 2**10, Unit.MIB: 2**20, Unit.GIB: 2**30}
UNKNOWN = "-"


def amount(
    pages: float | None, unit: Unit, page_size: int, *, signed: bool = False, width: int = 99
) -> str:
    """Pages as text in a unit. Unknown is a dash, and a value that is not 0 never looks like 0.

    A text wider than `width` loses digits, but never its magnitude.
    """
    if pages is None:
        return UNKNOWN
    value, digits = _in_unit(pages, unit, page_size)
    smallest = 10.0**-digits
    if value and abs(value) < smallest / 2:
        return f"{'<' if value > 0 else '>-'}{smallest:.{digits}f}"
    sign = "+" if signed and value else ""
    forms = (f"{sign},.{digits}f", f"{sign},.0f", f"{sign}.0f", f"{sign}.2e", f"{sign}.0e")
    texts = (format(value, form) for form in forms)
    return next((text for text in texts if len(text) <= width), "#" * width)


def _in_unit(pages: float, unit: Unit, page_size: int) -> tuple[float, int]:
    """A value, and its digits after the point. Only rates have fractions of pages."""
    if unit is Unit.PAGES:
        return float(pages), 0 if pages == int(pages) or abs(pages) >= 100 else 1
    value = pages * page_size / _SIZES[unit]
    if unit is Unit.KIB:
        return value, 0 if value == int(value) or abs(value) >= 100 else 1
    return value, 2 if unit is Unit.GIB else 1


def amounts(pages: float | None, options: Options, sample: Sample, *, signed: bool = False) -> str:
    """An amount with its unit."""
    text = amount(pages, options.unit, sample.page_size, signed=signed)
    return text if pages is None else f"{text} {options.unit}"


def between(least: str, most: str) -> str:
    """Two bounds as text: one number if they look the same, or if there is only one."""
    return least if most in (least, UNKNOWN) else f"{least} to {most}"


def needs(unmerge: UnmergeNeed, options: Options, page_size: int) -> str:
    """What unmerging needs, and what is available."""
    sizes = (unmerge["at_least_bytes"], unmerge["at_most_bytes"], unmerge["available_bytes"])
    least, most, available = (
        None if size is None else amount(size / page_size, options.unit, page_size)
        for size in sizes
    )
    span = f"at most {most}" if least is None else f"{least} to {most}"
    return f"{span} {options.unit}" + (f" of {available}" if available else "")


def duration(seconds: float | None) -> str:
    """A time in at most two units."""
    if seconds is None:
        return UNKNOWN
    if seconds < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes, hours, days = int(seconds // 60), int(seconds // 3600), int(seconds // 86400)
    if hours < 1:
        return f"{minutes} min"
    return f"{hours} h {minutes % 60} min" if days < 1 else f"{days} d {hours % 24} h"


@dataclass(frozen=True)
class Column:
    """One column. `rank`: columns with a high rank go first if there is no room."""

    key: str
    head: str
    width: int
    rank: int
    right: bool = True


_PID = Column("pid", "PID", 7, 0)
_KIND = Column("kind", "KIND", 9, 3, right=False)
NAME = Column("name", "NAME", 15, 0, right=False)
_OWNER = Column("owner", "OWNER", 16, 6, right=False)
_PROCS = Column("procs", "PROCS", 5, 4)
_FIGURES = (
    Column("mapped", "MAPPED", 9, 0),
    Column("share", "%", 5, 7),
    Column("saved", "SAVED", 9, 5),
    Column("kernel", "KERNEL", 9, 1),
    Column("lag", "LAG", 8, 1),
    Column("came", "CAME", 8, 2),
    Column("went", "WENT", 8, 2),
    Column("merged", "MERGED", 9, 9),
    Column("forked", "FORKED", 9, 10),
    Column("copied", "COPIED", 9, 8),
    Column("unmapped", "UNMAP", 9, 12),
    Column("wasted", "WASTED", 6, 7),
    Column("age", "AGE", 10, 14),
    Column("stray", "STRAY", 8, 11),
    Column("remote", "REMOTE", 8, 15),
    Column("read", "READ", 8, 13),
    Column("state", "STATE", 10, 6, right=False),
)
_AMOUNTS = frozenset({"mapped", "kernel", "lag", "stray", "remote", *MOVEMENTS})
# Only owners have these.
_OF_OWNERS = frozenset({"saved", "wasted", "age"})
_MAX_NAME = 48
_ROOMY, _LONGER = 100, 12


def possible(grouping: Grouping) -> tuple[Column, ...]:
    """Every column of a grouping, in order. `share` cannot be sorted by: it equals `mapped`."""
    figures = tuple(c for c in _FIGURES if c.key not in _OF_OWNERS or grouping is Grouping.OWNER)
    if grouping is Grouping.PROCESS:
        return (_PID, _KIND, NAME, _OWNER, *figures)
    return (_KIND, NAME, _PROCS, *figures)


def sortable(grouping: Grouping) -> tuple[Column, ...]:
    """Columns by which rows can be sorted."""
    return tuple(column for column in possible(grouping) if column.key in SORTABLE)


def chosen(options: Options, width: int) -> tuple[Column, ...]:
    """Columns that fit a width, with a name as wide as possible. The sorted column stays."""
    columns = list(possible(options.grouping))
    # A long name is worth more than the last columns.
    wanted = width if width < _ROOMY else width - _LONGER
    while _needed(columns) > wanted:
        spare = [c for c in columns if c.rank and c.key != options.sort]
        if not spare:
            break
        columns.remove(max(spare, key=lambda c: c.rank))
    room = min(width - _needed(columns), _MAX_NAME - NAME.width)
    return tuple(
        Column("name", "NAME", max(1, NAME.width + room), 0, right=False) if c is NAME else c
        for c in columns
    )


def _needed(columns: Sequence[Column]) -> int:
    return sum(c.width for c in columns) + len(columns) - 1


def _share(row: Row, view: View) -> str:
    total = view.sample.document["host"]["mappings"]
    return f"{100 * row.of.mappings / total:.1f}" if total else UNKNOWN


def _read(row: Row, view: View) -> str:
    return duration(value(row.of, "read", view))


def _wasted(row: Row, view: View) -> str:
    part = value(row.of, "wasted", view)
    return UNKNOWN if part is None else f"{part:.0%}"


def _age(row: Row, view: View) -> str:
    return duration(value(row.of, "age", view))


def _name(row: Row, view: View) -> str:
    # A row that can be folded is marked; other rows of a tree are indented.
    mark = f"{row.fold} " if row.fold else "  " if row.depth or view.options.tree else ""
    name = row.of.name
    if row.process and view.options.grouping is not Grouping.PROCESS:
        name = f"{row.process.pid} {name}"
    return "  " * min(row.depth, 12) + mark + name


def _saved(row: Row, view: View) -> str:
    size = value(row.of, "saved", view)
    page_size = view.sample.page_size
    return amount(None if size is None else size / page_size, view.options.unit, page_size, width=9)


def _kind(row: Row, view: View) -> str:
    # The group above already shows it.
    grouped = view.options.grouping is not Grouping.PROCESS
    return "" if row.process and grouped else row.of.kind


_TEXTS: dict[str, Callable[[Row, View], str]] = {
    "kind": _kind,
    "share": _share,
    "read": _read,
    "saved": _saved,
    "wasted": _wasted,
    "age": _age,
    "name": _name,
}


def cell(row: Row, column: Column, view: View) -> str:
    """The text of a cell, neither cleaned nor cut."""
    key = column.key
    if key in _TEXTS:
        return _TEXTS[key](row, view)
    if key == "owner" and row.process:
        return row.process.owner.name
    found = value(row.of, key, view)
    if key in _AMOUNTS:
        unit, size = view.options.unit, view.sample.page_size
        # If a count is only estimated, so is the sum of all.
        doubt = "~" if key == "mapped" and not row.of.exact else ""
        room = column.width - len(doubt)
        return doubt + amount(found, unit, size, signed=key == "lag", width=room)
    return UNKNOWN if found is None else str(found)


def line(row: Row, columns: Sequence[Column], view: View) -> list[str]:
    """The cells of a row, each harmless and as wide as its column."""
    return [fit(cell(row, c, view), c.width, right=c.right) for c in columns]


def heads(columns: Sequence[Column], options: Options) -> list[str]:
    """The line above the rows. An arrow shows the order, `/s` marks rates."""
    return [fit(_head(c, options), c.width, right=c.right) for c in columns]


def _head(column: Column, options: Options) -> str:
    rate = "/s" if options.rates and column.key in MOVEMENTS else ""
    mark = ""
    if column.key == options.sort:
        mark = "▼" if descending(options) else "▲"
    return f"{column.head}{rate}{mark}"


def clean_cell(value: object) -> object:
    """A value for CSV: harmless text, empty if unknown."""
    if value is None:
        return ""
    return clean(value) if isinstance(value, str) else value
