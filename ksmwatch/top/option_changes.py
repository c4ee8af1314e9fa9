"""What each key changes in the options of the view. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TypeVar

from ksmwatch.top import columns
from ksmwatch.top.view import Grouping, Options, Unit

_T = TypeVar("_T")


def _after(choices: list[_T], current: _T, by: int = 1) -> _T:
    return choices[(choices.index(current) + by) % len(choices)]


def sort_by(options: Options, key: str) -> Options:
    """Sort by a column, the largest first."""
    return replace(options, sort=key, inverted=False)


def sort_by_head(options: Options, key: str) -> Options:
    """Sort by the column whose head was clicked, or reverse the order."""
    key = "mapped" if key == "share" else key
    return _inverted(options) if key == options.sort else sort_by(options, key)


def sort_by_next(options: Options, by: int) -> Options:
    """Sort by the next column, or the previous one."""
    keys = [column.key for column in columns.sortable(options.grouping)]
    return sort_by(options, _after(keys, options.sort, by))


def _sorted_by_name(options: Options) -> Options:
    """Sort by pid, as in htop, if rows have one."""
    return sort_by(options, "pid" if options.grouping is Grouping.PROCESS else "name")


def _inverted(options: Options) -> Options:
    return replace(options, inverted=not options.inverted)


def _tree(options: Options) -> Options:
    """Show members below groups, children below parents, or neither."""
    return replace(options, tree=not options.tree, turned=frozenset())


def _next_grouping(options: Options) -> Options:
    following = _after(list(Grouping), options.grouping)
    known = {column.key for column in columns.sortable(following)}
    sort = options.sort if options.sort in known else "mapped"
    return replace(options, grouping=following, sort=sort, turned=frozenset())


def _rates(options: Options) -> Options:
    """Movements per second, or in total."""
    return replace(options, rates=not options.rates)


def _next_unit(options: Options) -> Options:
    return replace(options, unit=_after(list(Unit), options.unit))


# By the names in keys.BINDINGS.
CHANGES: Mapping[str, Callable[[Options], Options]] = {
    "tree": _tree,
    "invert": _inverted,
    "sort_by_name": _sorted_by_name,
    "group": _next_grouping,
    "rates": _rates,
    "unit": _next_unit,
}
