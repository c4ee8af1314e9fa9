"""What keys change of what is shown: from options to options. Pure."""

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
    """By a column, the largest first."""
    return replace(options, sort=key, inverted=False)


def sort_by_head(options: Options, key: str) -> Options:
    """By the column whose head was clicked, or the other way round."""
    key = "mapped" if key == "share" else key
    return _inverted(options) if key == options.sort else sort_by(options, key)


def sort_by_next(options: Options, by: int) -> Options:
    """By the next column, or the one before."""
    keys = [column.key for column in columns.sortable(options.grouping)]
    return sort_by(options, _after(keys, options.sort, by))


def _sorted_by_name(options: Options) -> Options:
    """By pid, as in htop, where rows have one."""
    return sort_by(options, "pid" if options.grouping is Grouping.PROCESS else "name")


def _inverted(options: Options) -> Options:
    return replace(options, inverted=not options.inverted)


def _tree(options: Options) -> Options:
    """Members below groups, children below parents; or neither."""
    return replace(options, tree=not options.tree, turned=frozenset())


def _next_grouping(options: Options) -> Options:
    following = _after(list(Grouping), options.grouping)
    known = {column.key for column in columns.sortable(following)}
    sort = options.sort if options.sort in known else "mapped"
    return replace(options, grouping=following, sort=sort, turned=frozenset())


def _rates(options: Options) -> Options:
    """Movements per second, or in all."""
    return replace(options, rates=not options.rates)


def _next_unit(options: Options) -> Options:
    return replace(options, unit=_after(list(Unit), options.unit))


# By the name that keys.BINDINGS have.
CHANGES: Mapping[str, Callable[[Options], Options]] = {
    "tree": _tree,
    "invert": _inverted,
    "sort_by_name": _sorted_by_name,
    "group": _next_grouping,
    "rates": _rates,
    "unit": _next_unit,
}
