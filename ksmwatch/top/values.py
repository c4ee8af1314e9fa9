"""The value of a row in each column, and the order by it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from operator import attrgetter, itemgetter
from typing import Any, TypeVar

from ksmwatch.top.sample import SampledHolding, SampledProcess
from ksmwatch.top.view import CAME, MERGED, WENT, Group, Options, View

# -- Movements -------------------------------------------------------------------------------


def movement(of: SampledProcess | Group, view: View, reasons: Sequence[str]) -> float | None:
    """Pages that moved for these reasons: in total, or per second. None if unknown."""
    previous = view.previous
    if isinstance(of, SampledProcess):
        before = previous.by_key.get(of.key) if previous else None
        return _moved(of.movements, before, view, reasons)
    if of.holding is not None:
        held = previous.owners_by_key.get(of.holding.owner.key) if previous else None
        return _moved(of.holding.movements, held, view, reasons)
    if view.options.rates:
        rates = [movement(p, view, reasons) for p in of.members]
        known = [rate for rate in rates if rate is not None]
        return sum(known) if known else None
    # Thousands of members, for every drawn column.
    totals = [p.movements for p in of.members if p.movements]
    return sum(sum(map(itemgetter(r), totals)) for r in reasons) if totals else None


def _moved(
    moves: Mapping[str, int],
    before: SampledProcess | SampledHolding | None,
    view: View,
    reasons: Sequence[str],
) -> float | None:
    if not moves:
        return None
    total = sum(moves[reason] for reason in reasons)
    if not view.options.rates:
        return total
    seconds = view.seconds
    if seconds is None or seconds <= 0:
        return None
    # A process that was not listed had not moved: it is listed from its first event.
    delta = total - (sum(before.movements.get(r, 0) for r in reasons) if before else 0)
    # Fewer than before: another daemon counts now.
    return delta / seconds if delta >= 0 else None


# -- Values and order ------------------------------------------------------------------------


def sum_if_known(values: Iterable[int | None]) -> int | None:
    """The sum; None if a part is unknown."""
    total = 0
    for value in values:
        if value is None:
            return None
        total += value
    return total


def _number_of(of: SampledProcess | Group) -> int | None:
    return of.pid if isinstance(of, SampledProcess) else None


def _owner_of(of: SampledProcess | Group) -> str:
    return of.owner.name if isinstance(of, SampledProcess) else of.name


def processes_of(of: SampledProcess | Group) -> int:
    """The number of processes that a row stands for."""
    return 1 if isinstance(of, SampledProcess) else of.processes


def read_age_of(of: SampledProcess | Group) -> float | None:
    """The age of the oldest read of all members; None if one was never read."""
    if isinstance(of, SampledProcess):
        return of.read_age
    ages = [p.read_age for p in of.members]
    known = [age for age in ages if age is not None]
    return max(known) if known and len(known) == len(ages) else None


def held_by(of: SampledProcess | Group, what: str) -> Any:
    """A field of the owner's holding: `saved_bytes`, `wasted`, `median_age`.

    Processes and other groups do not have one.
    """
    return getattr(of.holding, what) if isinstance(of, Group) and of.holding else None


def remote_of(of: SampledProcess | Group) -> int | None:
    """Mappings of pages on other nodes of memory than the process's own; None if unknown."""
    if isinstance(of, SampledProcess):
        return of.remote
    if of.holding is not None:
        return of.holding.remote
    return sum_if_known(each.remote for each in of.members)


def lags(of: SampledProcess | Group) -> bool:
    """Whether the kernel's count lags behind by more than a hundredth."""
    return of.lag is not None and abs(of.lag) * 100 > of.mappings


def state_of(of: SampledProcess | Group) -> str:
    """`estimated`, or the residue if it is not `merged`, or `exact`."""
    if not of.exact:
        return "estimated"
    members = (of,) if isinstance(of, SampledProcess) else of.members
    kinds = {p.residue for p in members if p.mappings}
    for residue in ("left", "unverified", "unmerging", "kept"):
        if residue in kinds:
            return residue
    return "exact"


# Sort keys besides movements.
_VALUES: Mapping[str, Callable[[SampledProcess | Group], Any]] = {
    "pid": _number_of,
    "kind": attrgetter("kind"),
    "name": lambda of: of.name.casefold(),
    "owner": lambda of: _owner_of(of).casefold(),
    "procs": processes_of,
    "mapped": attrgetter("mappings"),
    "kernel": attrgetter("kernel"),
    "lag": attrgetter("lag"),
    "saved": partial(held_by, what="saved_bytes"),
    "wasted": partial(held_by, what="wasted"),
    "age": partial(held_by, what="median_age"),
    "stray": attrgetter("stray"),
    "remote": remote_of,
    "state": state_of,
    "read": read_age_of,
}
MOVEMENTS: Mapping[str, Sequence[str]] = {
    "came": CAME,
    "went": WENT,
    "merged": MERGED,
    "forked": ("forked",),
    "copied": ("copied",),
    "unmapped": ("unmapped",),
}
SORTABLE = (*_VALUES, *MOVEMENTS)


def value(of: SampledProcess | Group, key: str, view: View) -> Any:
    """The value of a process or group in a column. None is unknown, and last in either order."""
    if key in MOVEMENTS:
        return movement(of, view, MOVEMENTS[key])
    return _VALUES[key](of)


_Item = TypeVar("_Item", SampledProcess, Group)
# Other columns show their largest value first.
_SMALLEST_FIRST = frozenset({"pid", "kind", "name", "owner", "state"})


def descending(options: Options) -> bool:
    """Whether the largest value comes first."""
    return (options.sort in _SMALLEST_FIRST) is options.inverted


def in_order(items: Iterable[_Item], view: View) -> list[_Item]:
    """The rows in the order that the user wants; equals stay in the document's order."""
    key = view.options.sort
    # Computed once: there can be thousands.
    of = _VALUES.get(key) or partial(value, key=key, view=view)
    pairs = [(of(item), item) for item in items]
    known = [pair for pair in pairs if pair[0] is not None]
    known.sort(key=itemgetter(0), reverse=descending(view.options))
    return [item for _, item in known] + [item for found, item in pairs if found is None]
