"""ProcessSums over processes, of the host and by owner: in full, and by difference. Pure.

`full` adds everything up. `RunningSums` gives the same for the cost of what has changed. Both add
up in loops in C, a column of numbers at a time, because there can be many processes.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial, reduce
from itertools import repeat, starmap, zip_longest
from operator import add, attrgetter, sub
from typing import Any, NamedTuple

from ksmwatch.counting.residue import Residue
from ksmwatch.differences import differences
from ksmwatch.kernel.areas import Area
from ksmwatch.owners import savings
from ksmwatch.owners.owner import Owner
from ksmwatch.owners.rollup import EXACT, Addend, OwnerCgroup, OwnerKey, OwnerSums, common
from ksmwatch.owners.savings import Bounds, Family, Who
from ksmwatch.owners.spread import NOWHERE, Nodes, Spread, spread_of, together


class Charge(NamedTuple):
    """What an owner has in a cgroup: pages, and processes that have any."""

    pages: int
    sharers: int


@dataclass(frozen=True)
class ProcessSums:
    """What processes add up to.

    `need`: the pages that their mappings would need without KSM. `zero_pages`: those known.
    """

    mappings: int
    estimated: int
    zero_pages: int
    need: Bounds
    residues: Mapping[Residue, int]
    owners: Mapping[OwnerKey, OwnerSums]
    charges: Mapping[OwnerCgroup, Charge]

    @cached_property
    def spread(self) -> Spread:
        """On which nodes of memory the mappings lie."""
        return together(each.spread for each in self.owners.values())


def full(processes: Iterable[Addend], kin: Mapping[Who, int]) -> ProcessSums:
    """The sums over these processes. `kin`: see savings.Forks."""
    totals = _Totals()
    totals.put(processes, kin)
    return totals.sums()


class _Columns(NamedTuple):
    """What processes are added up by, each in the same place of each column."""

    owner: Sequence[Owner]
    cgroup: Sequence[str | None]
    residue: Sequence[Residue]
    family: Sequence[Family | None]
    pid: Sequence[int]
    start_time: Sequence[int]
    mappings: Sequence[int]
    confidence: Sequence[str]
    zero_pages: Sequence[int | None]
    kernel_merging_pages: Sequence[int | None]
    stray: Sequence[Sequence[Area] | None]
    nodes: Sequence[Nodes | None]
    home: Sequence[int | None]


_row: Callable[[Addend], tuple[Any, ...]] = attrgetter(*_Columns._fields)
# The identity of the owner object, the cgroup and the residue: an owner can have several objects.
_Where = tuple[int, str | None, Residue]


def _by_place(processes: Iterable[Addend]) -> Iterator[tuple[_Where, _Columns]]:
    found: dict[_Where, list[tuple[Any, ...]]] = defaultdict(list)
    for row in map(_row, processes):
        found[id(row[0]), row[1], row[2]].append(row)
    for where, rows in found.items():
        yield where, _Columns(*zip(*rows, strict=True))


# Numbers that are added up: processes, those estimated, mappings, zero pages that are known, and
# processes that share pages; the amounts that may be unknown, and of how many processes each is
# unknown; remote mappings, and those of which that is known. Then mappings by node.
_Amounts = tuple[int, ...]


def _added(these: _Columns) -> _Amounts:
    zeros, kernel, stray = these.zero_pages, these.kernel_merging_pages, these.stray
    return (
        len(these.confidence),
        len(these.confidence) - these.confidence.count(EXACT),
        sum(these.mappings),
        _known(zeros),
        sum([1 for m, z in zip(these.mappings, zeros, strict=True) if m or z]),
        *(_known(kernel), kernel.count(None)),
        sum([area.mappings for areas in stray if areas for area in areas]),
        *(stray.count(None), zeros.count(None)),
        *_spread(these).amounts,
    )


def _spread(these: _Columns) -> Spread:
    # On a host with one node all are nowhere.
    if not any(these.nodes):
        return NOWHERE
    return together(map(spread_of, these.nodes, these.home))


def _known(amounts: Iterable[int | None]) -> int:
    return sum(filter(None, amounts))


def _both(how: Callable[[int, int], int], left: _Amounts, right: _Amounts) -> _Amounts:
    # Nodes are not known of every process. From a list: see `rollup`.
    return (*starmap(how, zip_longest(left, right, fillvalue=0)),)


@dataclass(slots=True)
class _Place:
    """What the processes of one owner in one cgroup, whose mappings are of one kind, add up to."""

    owner: Owner
    cgroup: str | None
    amounts: _Amounts


class _Members:
    """The members of one family that have one owner."""

    __slots__ = ("total", "weights")

    def __init__(self) -> None:
        # The pages of each, in order.
        self.weights: list[int] = []
        # Their sum, less those that are certainly kin of a counted one.
        self.total = 0

    def put(self, weights: list[int], shared: int) -> None:
        """Members come."""
        self.weights += weights
        self.weights.sort()
        self.total += sum(weights) - shared

    def take(self, weights: list[int], shared: int) -> None:
        """Members go."""
        for each in weights:
            del self.weights[bisect_left(self.weights, each)]
        self.total -= sum(weights) - shared


def _need(groups: Iterable[_Members]) -> Bounds:
    """The same as savings.pages_without_ksm, for one family."""
    least = most = 0
    for each in groups:
        if each.weights:
            least = max(least, each.weights[-1])
            most += each.total
    return Bounds(least, max(least, most))


_Line = tuple[Family | None, OwnerKey]


class _Families:
    """The need of each family: as a whole for the host, and the part of each owner."""

    def __init__(self) -> None:
        self._families: dict[Family | None, dict[OwnerKey, _Members]] = {}
        # The needs that `host` and `owners` are made of.
        self._hosts: dict[Family | None, Bounds] = {}
        self._parts: dict[_Line, Bounds] = {}
        self._changed: set[_Line] = set()
        self.host = savings.NONE
        self.owners: dict[OwnerKey, Bounds] = {}

    def put(self, key: OwnerKey, these: _Columns, kin: Mapping[Who, int]) -> None:
        """Processes of an owner come."""
        for family, weights, shared in _by_family(these, kin):
            groups = self._families.setdefault(family, {})
            if key not in groups:
                groups[key] = _Members()
            groups[key].put(weights, shared)
            self._changed.add((family, key))

    def take(self, key: OwnerKey, these: _Columns, kin: Mapping[Who, int]) -> None:
        """Processes of an owner go, with the numbers with which they came."""
        for family, weights, shared in _by_family(these, kin):
            self._families[family][key].take(weights, shared)
            self._changed.add((family, key))

    def settle(self) -> None:
        """Bring `host` and `owners` up to date."""
        for family, key in self._changed:
            groups = self._families[family]
            now = _need([groups[key]])
            before = self._parts.pop((family, key), savings.NONE)
            self.owners[key] = _moved(self.owners.get(key, savings.NONE), before, now)
            if groups[key].weights:
                self._parts[family, key] = now
            else:
                del groups[key]
        for family in {family for family, _ in self._changed}:
            groups = self._families[family]
            now, before = _need(groups.values()), self._hosts.pop(family, savings.NONE)
            self.host = _moved(self.host, before, now)
            if groups:
                self._hosts[family] = now
            else:
                del self._families[family]
        self._changed.clear()


def _moved(whole: Bounds, before: Bounds, now: Bounds) -> Bounds:
    return Bounds(whole.least - before.least + now.least, whole.most - before.most + now.most)


def _by_family(
    these: _Columns, kin: Mapping[Who, int]
) -> Iterator[tuple[Family | None, list[int], int]]:
    """Each family, the pages of its members, and the mappings that are kin of the parent's."""
    pages = [m + (z or 0) for m, z in zip(these.mappings, these.zero_pages, strict=True)]
    # One check for all: a count is negative only by an error of ours.
    if min(pages) < 0:
        pages = [max(0, each) for each in pages]
    whos = zip(these.pid, these.start_time, strict=True)
    shared = list(map(kin.get, whos, repeat(0))) if kin else [0] * len(pages)
    first = these.family[0]
    if these.family.count(first) == len(pages):
        yield first, pages, sum(shared)
        return
    found: dict[Family | None, tuple[list[int], list[int]]] = {}
    for family, weight, of_kin in zip(these.family, pages, shared, strict=True):
        weights, kins = found.setdefault(family, ([], []))
        weights.append(weight)
        kins.append(of_kin)
    for family, (weights, kins) in found.items():
        yield family, weights, sum(kins)


class _Totals:
    """What processes add up to, while they come and go."""

    def __init__(self) -> None:
        self._amounts: _Amounts = ()
        self._residues = Counter[Residue]()
        self._families = _Families()
        self._owners: dict[OwnerKey, dict[_Where, _Place]] = {}
        self._touched: set[OwnerKey] = set()
        # As they were last published.
        self._sums: dict[OwnerKey, OwnerSums] = {}
        self._charges: dict[OwnerCgroup, Charge] = {}

    def put(self, processes: Iterable[Addend], kin: Mapping[Who, int]) -> None:
        """Processes come."""
        self._move(processes, add, self._families.put, kin)

    def take(self, processes: Iterable[Addend], kin: Mapping[Who, int]) -> None:
        """Processes go: the same objects that came, with the same kin."""
        self._move(processes, sub, self._families.take, kin)

    def _move(
        self,
        processes: Iterable[Addend],
        how: Callable[[int, int], int],
        tell: Callable[[OwnerKey, _Columns, Mapping[Who, int]], None],
        kin: Mapping[Who, int],
    ) -> None:
        moved = []
        for where, these in _by_place(processes):
            amounts, owner, residue = _added(these), these.owner[0], these.residue[0]
            moved.append(amounts)
            places = self._owners.setdefault(owner.key, {})
            if where in places:
                places[where].amounts = _both(how, places[where].amounts, amounts)
            else:
                places[where] = _Place(owner, these.cgroup[0], amounts)
            self._residues[residue] = how(self._residues[residue], amounts[2])
            self._touched.add(owner.key)
            tell(owner.key, these, kin)
        columns = zip_longest(*moved, fillvalue=0)
        self._amounts = _both(how, self._amounts, (*map(sum, columns),))

    def sums(self) -> ProcessSums:
        """Everything, as it is now."""
        self._families.settle()
        if self._touched:
            self._sums, self._charges = dict(self._sums), dict(self._charges)
        for key in self._touched:
            self._settle(key, self._owners[key])
        self._touched.clear()
        _, estimated, mappings, zeros, *_ = self._amounts or (0,) * 4
        return ProcessSums(
            mappings=mappings,
            estimated=estimated,
            zero_pages=zeros,
            need=self._families.host,
            residues={which: self._residues[which] for which in Residue},
            owners=self._sums,
            charges=self._charges,
        )

    def _settle(self, key: OwnerKey, places: dict[_Where, _Place]) -> None:
        """Publish what an owner has, or that it has gone."""
        for place in places.values():
            self._charges.pop((key, place.cgroup), None)
        for where in [where for where, place in places.items() if not place.amounts[0]]:
            del places[where]
        if not places:
            del self._owners[key], self._families.owners[key]
            self._sums.pop(key, None)
            return
        for place in places.values():
            pages, sharers = self._charges.get((key, place.cgroup), (0, 0))
            _, _, mappings, zeros, shares, *_ = place.amounts
            charge = Charge(pages + mappings + zeros, sharers + shares)
            self._charges[key, place.cgroup] = charge
        self._sums[key] = _owner_sums(places.values(), self._families.owners[key])


def _owner_sums(places: Collection[_Place], need: Bounds) -> OwnerSums:
    first, *others = [place.amounts for place in places]
    amounts = reduce(partial(_both, add), others, first) if others else first
    processes, estimated, mappings, zeros, _, *rest = amounts
    kernel, no_kernel, stray, no_stray, no_zeros, *spread = rest
    return OwnerSums(
        common([place.owner for place in places]),
        processes,
        estimated,
        mappings,
        need,
        None if no_kernel else kernel,
        None if no_stray else stray,
        None if no_zeros else zeros,
        Spread.of(*spread),
    )


# If more than one in this many processes has changed, adding all up is cheaper than differences.
_FEW = 2


class RunningSums:
    """The sums of processes that change: what has not changed is not added up again."""

    def __init__(self) -> None:
        self._processes: Mapping[Who, Addend] = {}
        self._kin: Mapping[Who, int] = {}
        self._totals = _Totals()
        self._sums = self._totals.sums()

    def update(self, processes: Mapping[Who, Addend], kin: Mapping[Who, int]) -> ProcessSums:
        """The sums over these processes; the same object if nothing has changed.

        Unchanged processes are the same objects as in the last call.
        """
        changed, new, gone = differences(self._processes, processes)
        related = differences(self._kin, kin)
        before, self._processes = self._processes, processes
        kin_before, self._kin = self._kin, kin
        if not changed and not gone and not related.changed and not related.gone:
            return self._sums
        if (len(changed) + len(gone)) * _FEW > len(processes):
            self._totals = _Totals()
            self._totals.put(processes.values(), kin)
        else:
            changed = changed | ((related.changed | related.gone) & processes.keys())
            self._totals.put([processes[who] for who in changed], kin)
            self._totals.take([before[who] for who in (*(changed - new), *gone)], kin_before)
        self._sums = self._totals.sums()
        return self._sums
