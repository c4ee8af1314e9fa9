"""ProcessSums over processes, of the host and by owner: in full, and by difference. Pure.

`full` adds everything up. `RunningSums` gives the same for the cost of what has changed.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from itertools import zip_longest
from typing import NamedTuple

from ksmwatch.counting.residue import Residue
from ksmwatch.differences import differences
from ksmwatch.owners import savings
from ksmwatch.owners.owner import Owner
from ksmwatch.owners.rollup import Addend, OwnerCgroup, OwnerKey, OwnerSums, common, total
from ksmwatch.owners.savings import Bounds, Family, Who
from ksmwatch.owners.spread import Spread, together


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
    everybody = list(processes)
    groups: dict[OwnerKey, list[Addend]] = defaultdict(list)
    residues, pages, sharers = Counter[Residue](), Counter[OwnerCgroup](), Counter[OwnerCgroup]()
    for each in everybody:
        groups[each.owner.key].append(each)
        residues[each.residue] += each.mappings
        place = each.owner.key, each.cgroup
        pages[place] += each.mappings + (each.zero_pages or 0)
        sharers[place] += _shares(each)
    return ProcessSums(
        mappings=sum(each.mappings for each in everybody),
        estimated=sum(not each.exact for each in everybody),
        zero_pages=sum(each.zero_pages or 0 for each in everybody),
        need=savings.pages_without_ksm(everybody, kin),
        residues={which: residues[which] for which in Residue},
        owners={key: _owner_sums(group, kin) for key, group in groups.items()},
        charges={place: Charge(pages[place], sharers[place]) for place in pages},
    )


def _shares(process: Addend) -> bool:
    return bool(process.mappings or process.zero_pages)


def _owner_sums(group: list[Addend], kin: Mapping[Who, int]) -> OwnerSums:
    return OwnerSums(
        owner=common([m.owner for m in group]),
        processes=len(group),
        estimated=sum(not m.exact for m in group),
        mappings=sum(m.mappings for m in group),
        need=savings.pages_without_ksm(group, kin),
        kernel_merging_pages=total(m.kernel_merging_pages for m in group),
        stray_mappings=total(m.stray_mappings for m in group),
        zero_pages=total(m.zero_pages for m in group),
        spread=together(m.spread for m in group),
    )


# If more than one in this many processes has changed, adding all up is cheaper than differences.
_FEW = 4

# The numbers of a process: 1, estimated, mappings, zero pages that are known, whether it shares
# pages; the amounts that may be unknown, and whether each is unknown; remote mappings, and those of
# which that is known. Then mappings by node.
_AMOUNTS = 12


class _Part(NamedTuple):
    """What a process contributes, and where."""

    owner: Owner
    cgroup: str | None
    family: Family | None
    residue: Residue
    amounts: tuple[int, ...]
    weight: int
    kin: int

    @property
    def where(self) -> tuple[object, ...]:
        """What it is added to."""
        return id(self.owner), *self[1:4]


def _part(process: Addend, kin: int) -> _Part:
    zeros, stray = process.zero_pages, process.stray_mappings
    kernel = process.kernel_merging_pages
    amounts = (
        *(1, not process.exact, process.mappings, zeros or 0, _shares(process)),
        *(kernel or 0, kernel is None, stray or 0, stray is None, zeros is None),
        *process.spread.amounts,
    )
    return _Part(
        process.owner,
        process.cgroup,
        process.family,
        process.residue,
        amounts,
        max(0, process.mappings + (zeros or 0)),
        kin,
    )


@dataclass(slots=True)
class _Kin:
    """The members of one family that have one owner. `fell`: `largest` may be too large."""

    weights: dict[Who, int] = field(default_factory=dict)
    total: int = 0
    shared: int = 0
    largest: int = 0
    fell: bool = False

    def put(self, who: Who, part: _Part) -> None:
        """A member comes."""
        self.weights[who] = part.weight
        self.total += part.weight
        self.shared += part.kin
        self.largest = max(self.largest, part.weight)

    def take(self, who: Who, part: _Part) -> None:
        """A member goes."""
        del self.weights[who]
        self.total -= part.weight
        self.shared -= part.kin
        self.fell |= part.weight == self.largest

    def change(self, who: Who, before: _Part, part: _Part) -> None:
        """A member has other numbers."""
        self.weights[who] = part.weight
        self.total += part.weight - before.weight
        self.shared += part.kin - before.kin
        self.fell |= part.weight < before.weight == self.largest
        self.largest = max(self.largest, part.weight)

    def settle(self) -> None:
        """Find the largest member again, if it was taken."""
        if self.fell:
            self.largest, self.fell = max(self.weights.values(), default=0), False


def _bounds(members: Iterable[_Kin]) -> Bounds:
    """The same as savings.pages_without_ksm, for one family."""
    members = list(members)
    least = max((each.largest for each in members), default=0)
    return Bounds(least, max(least, sum(each.total - each.shared for each in members)))


class _Families:
    """The need of each family: as a whole for the host, and the part of each owner."""

    def __init__(self) -> None:
        self._families: dict[Family | None, dict[OwnerKey, _Kin]] = {}
        self._hosts: dict[Family | None, Bounds] = {}
        self._parts: dict[tuple[Family | None, OwnerKey], Bounds] = {}
        self._changed: set[tuple[Family | None, OwnerKey]] = set()
        self.host = savings.NONE
        self.owners: dict[OwnerKey, Bounds] = {}

    def put(self, who: Who, part: _Part) -> None:
        """A process comes."""
        family, key = part.family, part.owner.key
        members = self._families.setdefault(family, {}).setdefault(key, _Kin())
        members.put(who, part)
        self._changed.add((family, key))

    def take(self, who: Who, part: _Part) -> None:
        """A process goes."""
        family, key = part.family, part.owner.key
        self._families[family][key].take(who, part)
        self._changed.add((family, key))

    def change(self, who: Who, before: _Part, part: _Part) -> None:
        """A process has other numbers."""
        if (part.weight, part.kin) != (before.weight, before.kin):
            family, key = part.family, part.owner.key
            self._families[family][key].change(who, before, part)
            self._changed.add((family, key))

    def settle(self) -> None:
        """Make `host` and `owners` right."""
        for family, key in self._changed:
            owners = self._families[family]
            members = owners[key]
            members.settle()
            before = self._parts.pop((family, key), savings.NONE)
            now = _bounds([members])
            self.owners[key] = _moved(self.owners.get(key, savings.NONE), before, now)
            if members.weights:
                self._parts[family, key] = now
            else:
                del owners[key]
        for family in {family for family, _ in self._changed}:
            before = self._hosts.pop(family, savings.NONE)
            owners = self._families[family]
            now = _bounds(owners.values())
            self.host = _moved(self.host, before, now)
            if owners:
                self._hosts[family] = now
            else:
                del self._families[family]
        self._changed.clear()


def _moved(whole: Bounds, before: Bounds, now: Bounds) -> Bounds:
    return Bounds(whole.least - before.least + now.least, whole.most - before.most + now.most)


class _Owner:
    """The sums of one owner's processes."""

    def __init__(self) -> None:
        self.amounts = [0] * _AMOUNTS
        # Each owner object of these processes, and how many have it.
        self._objects: dict[int, tuple[Owner, int]] = {}

    def put(self, part: _Part, sign: int) -> None:
        """A process comes (1) or goes (-1)."""
        self._make_room(part)
        for at, amount in enumerate(part.amounts):
            self.amounts[at] += sign * amount
        _, known = self._objects.get(id(part.owner), (part.owner, 0))
        self._objects[id(part.owner)] = part.owner, known + sign
        if known + sign == 0:
            del self._objects[id(part.owner)]

    def change(self, before: _Part, part: _Part) -> None:
        """A process has other numbers."""
        self._make_room(part)
        pairs = zip_longest(before.amounts, part.amounts, fillvalue=0)
        for at, (old, new) in enumerate(pairs):
            if new != old:
                self.amounts[at] += new - old

    def _make_room(self, part: _Part) -> None:
        """Nodes are not known of every process."""
        self.amounts += [0] * (len(part.amounts) - len(self.amounts))

    def sums(self, need: Bounds) -> OwnerSums:
        """What is published of it."""
        processes, estimated, mappings, zeros, _, *rest = self.amounts
        kernel, no_kernel, stray, no_stray, no_zeros, *spread = rest
        return OwnerSums(
            owner=common([owner for owner, _ in self._objects.values()]),
            processes=processes,
            estimated=estimated,
            mappings=mappings,
            need=need,
            kernel_merging_pages=None if no_kernel else kernel,
            stray_mappings=None if no_stray else stray,
            zero_pages=None if no_zeros else zeros,
            spread=Spread.of(*spread),
        )


class RunningSums:
    """The sums of processes that change: what has not changed is not added up again."""

    def __init__(self) -> None:
        self._processes: Mapping[Who, Addend] = {}
        self._kin: Mapping[Who, int] = {}
        self._sums = full((), {})
        self._begin()

    def _begin(self) -> None:
        """Nothing is added up by difference yet."""
        self._parts: dict[Who, _Part] = {}
        self._owners: dict[OwnerKey, _Owner] = {}
        # Processes, pages and sharers.
        self._charges: dict[OwnerCgroup, tuple[int, int, int]] = {}
        self._residues = Counter[Residue]()
        self._families = _Families()
        self._touched: set[OwnerKey] = set()

    def update(self, processes: Mapping[Who, Addend], kin: Mapping[Who, int]) -> ProcessSums:
        """The sums over these processes; the same object if nothing has changed.

        Unchanged processes are the same objects as in the last call.
        """
        changed, _, gone = differences(self._processes, processes)
        related = differences(self._kin, kin)
        if related.changed or related.gone:
            changed = changed | {who for who in related.changed | related.gone if who in processes}
        self._processes, self._kin = processes, kin
        if not changed and not gone:
            return self._sums
        if (len(changed) + len(gone)) * _FEW > len(processes):
            self._begin()
            self._sums = full(processes.values(), kin)
        else:
            self._differ(changed if self._parts else processes.keys(), gone)
            self._sums = self._settled()
        return self._sums

    def _differ(self, changed: Iterable[Who], gone: Iterable[Who]) -> None:
        for who in gone:
            if who in self._parts:
                self._take(who, self._parts.pop(who))
        for who in changed:
            part = _part(self._processes[who], self._kin.get(who, 0))
            before = self._parts.get(who)
            if before is not None and before.where == part.where:
                self._change(who, before, part)
                continue
            if before is not None:
                self._take(who, before)
            self._put(who, part)

    def _put(self, who: Who, part: _Part) -> None:
        self._parts[who] = part
        self._families.put(who, part)
        self._add(part, 1)

    def _take(self, who: Who, part: _Part) -> None:
        self._families.take(who, part)
        self._add(part, -1)

    def _change(self, who: Who, before: _Part, part: _Part) -> None:
        """A process has other numbers, which are added to the same sums."""
        self._parts[who] = part
        self._families.change(who, before, part)
        old, new, key = before.amounts, part.amounts, part.owner.key
        self._touched.add(key)
        self._owners[key].change(before, part)
        self._residues[part.residue] += new[2] - old[2]
        members, pages, sharers = self._charges[key, part.cgroup]
        pages += new[2] + new[3] - old[2] - old[3]
        self._charges[key, part.cgroup] = members, pages, sharers + new[4] - old[4]

    def _add(self, part: _Part, sign: int) -> None:
        _, _, mappings, zeros, shares, *_ = part.amounts
        key = part.owner.key
        self._touched.add(key)
        owner = self._owners.get(key)
        if owner is None:
            owner = self._owners[key] = _Owner()
        owner.put(part, sign)
        self._residues[part.residue] += sign * mappings
        members, pages, sharers = self._charges.get((key, part.cgroup), (0, 0, 0))
        self._charges[key, part.cgroup] = (
            members + sign,
            pages + sign * (mappings + zeros),
            sharers + sign * shares,
        )

    def _settled(self) -> ProcessSums:
        self._families.settle()
        owners = {k: v for k, v in self._sums.owners.items() if k in self._owners}
        for key in self._touched:
            if self._owners[key].amounts[0]:
                owners[key] = self._owners[key].sums(self._families.owners[key])
            else:
                del self._owners[key], self._families.owners[key]
                owners.pop(key, None)
        self._touched.clear()
        self._charges = {place: each for place, each in self._charges.items() if each[0]}
        amounts = [each.amounts for each in self._owners.values()]
        return ProcessSums(
            mappings=sum(each[2] for each in amounts),
            estimated=sum(each[1] for each in amounts),
            zero_pages=sum(each[3] for each in amounts),
            need=self._families.host,
            residues={which: self._residues[which] for which in Residue},
            owners=owners,
            charges={place: Charge(*each[1:]) for place, each in self._charges.items()},
        )
