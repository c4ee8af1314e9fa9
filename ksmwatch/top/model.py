"""From two samples and the user's options to the rows of a view: group, filter, sort. Pure."""

from __future__ import annotations

from collections import Counter, defaultdict, deque
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import partial
from operator import attrgetter, itemgetter
from typing import Any, NamedTuple, TypeVar

from ksmwatch.top.sample import Holding, Owner, Process, Sample

# Of a row.
Key = tuple[Hashable, ...]
# Reasons of movements, as in the document.
MERGED = ("merged", "converted")
CAME = (*MERGED, "forked", "other")
WENT = ("copied", "unmapped", "exited")


class Grouping(StrEnum):
    """What a row is."""

    OWNER = "owner"
    KIND = "kind"
    UNIT = "unit"
    USER = "user"
    PROCESS = "process"


class Unit(StrEnum):
    """In what mappings are shown."""

    PAGES = "pages"
    KIB = "KiB"
    MIB = "MiB"
    GIB = "GiB"


@dataclass(frozen=True)
class Options:
    """What the user has chosen.

    `tree`: groups with their processes below them, or processes below their parents.
    `turned`: keys of rows that are folded although the others are not, or the reverse.
    `rates`: movements per second since the sample before, else totals.
    """

    grouping: Grouping = Grouping.OWNER
    tree: bool = False
    sort: str = "mapped"
    inverted: bool = False
    filter: str = ""
    rates: bool = False
    unit: Unit = Unit.MIB
    turned: frozenset[Key] = frozenset()


class Group(NamedTuple):
    """Processes that belong together, and their sums.

    `kernel`, `lag` and `stray` are None as soon as one of them is unknown. `holding`: of an
    owner that the filter leaves whole, what the document says, which is where the sums are
    from; also of processes that the document does not list.
    """

    key: Key
    kind: str
    name: str
    members: tuple[Process, ...]
    processes: int
    mappings: int
    kernel: int | None
    lag: int | None
    stray: int | None
    exact: bool
    holding: Holding | None


class Row(NamedTuple):
    """One line. `fold`: `+` folded, `-` unfolded, empty where nothing is below it."""

    key: Key
    depth: int
    of: Process | Group
    fold: str

    @property
    def process(self) -> Process | None:
        """None for a group."""
        return self.of if isinstance(self.of, Process) else None

    @property
    def members(self) -> tuple[Process, ...]:
        """The processes that it stands for."""
        return (self.of,) if isinstance(self.of, Process) else self.of.members


@dataclass(frozen=True)
class View:
    """What is shown: the rows in order. `selected`: processes that the filter lets through."""

    sample: Sample
    previous: Sample | None
    options: Options
    rows: tuple[Row, ...]
    selected: int

    @property
    def seconds(self) -> float | None:
        """Between the two samples; None without a sample before."""
        if self.previous is None:
            return None
        return self.sample.time - self.previous.time


def build(sample: Sample, previous: Sample | None, options: Options) -> View:
    """The view of a sample."""
    wanted = options.filter
    selected = [p for p in sample.processes if not wanted or matches(p, wanted)]
    empty = View(sample, previous, options, (), len(selected))
    if options.grouping is not Grouping.PROCESS:
        rows = tuple(_grouped(selected, empty))
    elif options.tree:
        rows = tuple(_tree(selected, empty))
    else:
        rows = tuple(Row(p.key, 0, p, "") for p in _sorted(selected, empty))
    return replace(empty, rows=rows)


# -- Filter ----------------------------------------------------------------------------------


def matches_owner(owner: Owner, text: str) -> bool:
    """Whether an owner has this text in a name or id; capitals do not matter."""
    return text.casefold() in owner.words


def matches(process: Process, text: str) -> bool:
    """Whether a process, or its owner, has this text in a name; capitals do not matter."""
    wanted = text.casefold()
    return (
        wanted in process.owner.words
        or wanted in process.name.casefold()
        or wanted in process.comm.casefold()
        or wanted == str(process.pid)
    )


# -- Groups ----------------------------------------------------------------------------------

_NO_UNIT, _NO_USER = "(no unit)", "(no user)"


def group_key(process: Process, grouping: Grouping) -> Key:
    """What processes of one group have in common."""
    owner = process.owner
    match grouping:
        case Grouping.KIND:
            return grouping, owner.kind
        case Grouping.UNIT:
            return grouping, owner.unit
        case Grouping.USER:
            return grouping, owner.uid
    return grouping, owner.kind, owner.id


def _title(process: Process, grouping: Grouping) -> tuple[str, str]:
    """Kind and name of the group that a process is in."""
    owner = process.owner
    match grouping:
        case Grouping.KIND:
            return owner.kind, owner.kind
        case Grouping.UNIT:
            return "unit", owner.unit or _NO_UNIT
        case Grouping.USER:
            if owner.kind == "user":
                return "user", owner.name
            return "user", _NO_USER if owner.uid is None else f"uid {owner.uid}"
    return owner.kind, owner.name


def _all_known(values: Iterable[int | None]) -> int | None:
    """The sum; None if one is unknown."""
    total = 0
    for value in values:
        if value is None:
            return None
        total += value
    return total


def groups(processes: Iterable[Process], grouping: Grouping) -> list[Group]:
    """The groups of these processes."""
    return [_group(members, grouping) for members in _members(processes, grouping).values()]


def _members(processes: Iterable[Process], grouping: Grouping) -> dict[Key, list[Process]]:
    by_key: dict[Key, list[Process]] = defaultdict(list)
    for process in processes:
        by_key[group_key(process, grouping)].append(process)
    return by_key


def _group(members: Sequence[Process], grouping: Grouping) -> Group:
    # Only an owner that is the user has the user's name.
    names = next((p for p in members if p.kind == "user"), members[0])
    return Group(
        group_key(members[0], grouping),
        *_title(names, grouping),
        tuple(members),
        len(members),
        sum(p.mappings for p in members),
        _all_known(p.kernel for p in members),
        _all_known(p.lag for p in members),
        _all_known(p.stray for p in members),
        all(p.exact for p in members),
        None,
    )


def owners(sample: Sample, processes: Iterable[Process], wanted: str) -> list[Group]:
    """The owners of these processes, and those that the filter wants by themselves.

    An owner of whom only some processes are wanted has the sums of these.
    """
    by_key = _members(processes, Grouping.OWNER)
    whole = Counter(p.owner.key for p in sample.processes) if wanted else {}
    found = []
    for holding in sample.owners:
        owner = holding.owner
        key = (Grouping.OWNER, *owner.key)
        members = by_key.pop(key, [])
        if members and wanted and len(members) < whole[owner.key]:
            found.append(_group(members, Grouping.OWNER))
        elif members or not wanted or matches_owner(owner, wanted):
            found.append(_held(key, holding, members))
    # Processes whose owner is not told.
    if not sample.owners:
        found += [_group(members, Grouping.OWNER) for members in by_key.values()]
    return found


def _held(key: Key, holding: Holding, members: Sequence[Process]) -> Group:
    return Group(
        key,
        holding.owner.kind,
        holding.owner.name,
        tuple(members),
        holding.processes,
        holding.mappings,
        holding.kernel,
        holding.lag,
        holding.stray,
        holding.exact,
        holding,
    )


def _grouped(processes: Sequence[Process], view: View) -> Iterator[Row]:
    options = view.options
    if options.grouping is Grouping.OWNER:
        found = owners(view.sample, processes, options.filter)
    else:
        found = groups(processes, options.grouping)
    for group in _sorted(found, view):
        unfolded = options.tree is not (group.key in options.turned)
        mark = "-" if unfolded else "+"
        yield Row(group.key, 0, group, mark if group.members else "")
        if unfolded:
            for process in _sorted(group.members, view):
                yield Row((*group.key, process.key), 1, process, "")


def _tree(processes: Sequence[Process], view: View) -> Iterator[Row]:
    """Processes below their parents; who has no listed parent stands at the top.

    A parent that is younger than its child has taken the pid of one that ended. Equally old
    ones could form a ring: it and who is below stand at the top.
    """
    children: dict[int | None, list[Process]] = defaultdict(list)
    starts = {p.pid: p.start_time for p in processes}
    for process in processes:
        # Without a listed parent: a start before all.
        start = starts.get(process.ppid or 0)
        known = start is not None and start <= process.start_time and process.ppid != process.pid
        children[process.ppid if known else None].append(process)
    seen: set[int] = set()
    # Depth first, without recursion: a chain of forks can be long.
    waiting = [(p, 0) for p in reversed(_sorted(children.pop(None, []), view))]
    while waiting:
        process, depth = waiting.pop()
        seen.add(process.pid)
        below = children.pop(process.pid, [])
        folded = process.key in view.options.turned
        yield Row(process.key, depth, process, ("+" if folded else "-") if below else "")
        if folded:
            _skip(below, children, seen)
        else:
            waiting += [(p, depth + 1) for p in reversed(_sorted(below, view))]
    for process in _sorted([p for p in processes if p.pid not in seen], view):
        yield Row(process.key, 0, process, "")


def _skip(
    below: Iterable[Process], children: dict[int | None, list[Process]], seen: set[int]
) -> None:
    """Count everything below a folded row as seen."""
    waiting = list(below)
    while waiting:
        process = waiting.pop()
        seen.add(process.pid)
        waiting += children.pop(process.pid, [])


# -- Movements -------------------------------------------------------------------------------


def movement(of: Process | Group, view: View, reasons: Sequence[str]) -> float | None:
    """Pages that moved for these reasons: in all, or per second. None where that is unknown."""
    previous = view.previous
    if isinstance(of, Process):
        before = previous.by_key.get(of.key) if previous else None
        return _moved(of.movements, before, view, reasons)
    if of.holding is not None:
        held = previous.owners_by_key.get(of.holding.owner.key) if previous else None
        return _moved(of.holding.movements, held, view, reasons)
    if view.options.rates:
        rates = [movement(p, view, reasons) for p in of.members]
        known = [rate for rate in rates if rate is not None]
        return sum(known) if known else None
    # Of thousands of members, for every column that is drawn.
    totals = [p.movements for p in of.members if p.movements]
    return sum(sum(map(itemgetter(r), totals)) for r in reasons) if totals else None


def _moved(
    moves: Mapping[str, int],
    before: Process | Holding | None,
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
    # Who was not listed had not moved: a process is listed from its first event.
    delta = total - (sum(before.movements.get(r, 0) for r in reasons) if before else 0)
    # Less than before: another daemon counts now.
    return delta / seconds if delta >= 0 else None


# -- Values and order ------------------------------------------------------------------------


def _number_of(of: Process | Group) -> int | None:
    return of.pid if isinstance(of, Process) else None


def _owner_of(of: Process | Group) -> str:
    return of.owner.name if isinstance(of, Process) else of.name


def _read_age_of(of: Process | Group) -> float | None:
    """Of the member that was read longest ago; None as soon as one never was."""
    if isinstance(of, Process):
        return of.read_age
    ages = [p.read_age for p in of.members]
    known = [age for age in ages if age is not None]
    return max(known) if known and len(known) == len(ages) else None


def _saved_of(of: Process | Group) -> int | None:
    """In bytes; of owners only."""
    return of.holding.saved_bytes if isinstance(of, Group) and of.holding else None


def lags(of: Process | Group) -> bool:
    """Whether the kernel's count is behind by more than a hundredth."""
    return of.lag is not None and abs(of.lag) * 100 > of.mappings


def state_of(of: Process | Group) -> str:
    """`estimated`, or what the residue says beyond `merged`, or `exact`."""
    if not of.exact:
        return "estimated"
    members = (of,) if isinstance(of, Process) else of.members
    kinds = {p.residue for p in members if p.mappings}
    for residue in ("left", "unverified", "unmerging", "kept"):
        if residue in kinds:
            return residue
    return "exact"


# What can be sorted by, besides movements.
_VALUES: Mapping[str, Callable[[Process | Group], Any]] = {
    "pid": _number_of,
    "kind": attrgetter("kind"),
    "name": lambda of: of.name.casefold(),
    "owner": lambda of: _owner_of(of).casefold(),
    "procs": lambda of: 1 if isinstance(of, Process) else of.processes,
    "mapped": attrgetter("mappings"),
    "kernel": attrgetter("kernel"),
    "lag": attrgetter("lag"),
    "saved": _saved_of,
    "stray": attrgetter("stray"),
    "state": state_of,
    "read": _read_age_of,
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


def value(of: Process | Group, key: str, view: View) -> Any:
    """What a process or group has in a column. None is unknown, and last in either order."""
    if key in MOVEMENTS:
        return movement(of, view, MOVEMENTS[key])
    return _VALUES[key](of)


_Item = TypeVar("_Item", Process, Group)
# Other columns show their largest value first.
_SMALLEST_FIRST = frozenset({"pid", "kind", "name", "owner", "state"})


def descending(options: Options) -> bool:
    """Whether the largest value comes first."""
    return (options.sort in _SMALLEST_FIRST) is options.inverted


def _sorted(items: Iterable[_Item], view: View) -> list[_Item]:
    """In the order that the user wants; equals stay in the document's order."""
    key = view.options.sort
    # Looked up once: there can be thousands.
    of = _VALUES.get(key) or partial(value, key=key, view=view)
    pairs = [(of(item), item) for item in items]
    known = [pair for pair in pairs if pair[0] is not None]
    known.sort(key=itemgetter(0), reverse=descending(view.options))
    return [item for _, item in known] + [item for found, item in pairs if found is None]


# -- History ---------------------------------------------------------------------------------


class History:
    """Mappings of the last samples: of every process, and of the groups of one grouping."""

    def __init__(self, length: int = 120) -> None:
        self._length = length
        self._of: dict[Key, deque[int]] = {}

    def add(self, sample: Sample, grouping: Grouping) -> None:
        """Remember a sample; what it does not list is forgotten."""
        now: dict[Key, int] = {process.key: process.mappings for process in sample.processes}
        if grouping is Grouping.OWNER and sample.owners:
            now |= {(grouping, *h.owner.key): h.mappings for h in sample.owners}
        elif grouping is not Grouping.PROCESS:
            for process in sample.processes:
                key = group_key(process, grouping)
                now[key] = now.get(key, 0) + process.mappings
        length, before = self._length, self._of
        self._of = {}
        for key, mappings in now.items():
            past = self._of[key] = before.get(key) or deque(maxlen=length)
            past.append(mappings)

    def of(self, row: Row) -> tuple[int, ...]:
        """Mappings of what a row shows, oldest first."""
        key = row.process.key if row.process else row.key
        return tuple(self._of.get(key, ()))
