"""Sums by owner: mappings and movements of its processes. Pure.

The mappings of all owners add up to the host's, to the page: the owner UNKNOWN holds those
without a known process.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from operator import add
from typing import Any, NamedTuple, Protocol

from ksmwatch.counting.ages import Wear
from ksmwatch.counting.residue import Residue
from ksmwatch.kernel.areas import Area
from ksmwatch.owners import savings
from ksmwatch.owners.owner import UNKNOWN, Owner, OwnerKind, best_known
from ksmwatch.owners.savings import Bounds, Relative
from ksmwatch.owners.spread import NOWHERE, Nodes, Spread, together
from ksmwatch.probes.map_records import Movement
from ksmwatch.units import PAGE_SIZE

# Two owners with this in common are the same, see Owner.key.
OwnerKey = tuple[OwnerKind, str]
Moves = tuple[int, ...]
# What is charged together: an owner's processes in one cgroup.
OwnerCgroup = tuple[OwnerKey, str | None]
# An account: address and id. Two accounts opened in the same nanosecond have the same id.
AccountKey = tuple[int, int]
# In a row of movements and wear, the movements come first.
_MOVEMENTS = len(Movement)
# The confidence in a count that is known.
EXACT = "exact"
# An owner has one of these only if all of its processes agree.
_PLACES = ("pod", "qos", "container", "unit", "slice", "uid")


class Addend(Relative, Protocol):
    """The values of a process that are added up."""

    @property
    def movements(self) -> Moves:
        """By reason; empty if events are not seen."""

    @property
    def owner(self) -> Owner:
        """Whose it is."""

    @property
    def confidence(self) -> str:
        """EXACT if the count is known to equal the page tables."""

    @property
    def kernel_merging_pages(self) -> int | None:
        """The kernel's number; None if unknown."""

    @property
    def stray(self) -> Sequence[Area] | None:
        """Areas with mappings that are not mergeable; None if unknown."""

    @property
    def cgroup(self) -> str | None:
        """Its path in the unified hierarchy; None if there is none."""

    @property
    def residue(self) -> Residue:
        """What its mappings are, given KSM's state."""

    @property
    def nodes(self) -> Nodes | None:
        """Its mappings by node of memory; None if unknown."""

    @property
    def home(self) -> int | None:
        """Its own node; None if unknown."""


class OwnerSums(NamedTuple):
    """Sums over one owner's processes, in pages; None if the value of any process is unknown.

    `need`: the pages that their mappings would need without KSM.
    """

    owner: Owner
    processes: int
    estimated: int
    mappings: int
    need: Bounds
    kernel_merging_pages: int | None
    stray_mappings: int | None
    zero_pages: int | None
    spread: Spread


class BothCounts:
    """What follows from our count and the kernel's, of a process or of an owner."""

    __slots__ = ()

    mappings: int
    kernel_merging_pages: int | None

    @property
    def bytes(self) -> int:
        """Memory that the mappings span."""
        return self.mappings * PAGE_SIZE

    @property
    def kernel_lag(self) -> int | None:
        """Our count minus the kernel's, in pages, signed."""
        if self.kernel_merging_pages is None:
            return None
        return self.mappings - self.kernel_merging_pages


class HoldingFacts(NamedTuple):
    """Totals of one owner's processes, in pages; `saved` in bytes, between bounds.

    `movements`: see Turnover; empty if events are not seen. `wear`: None if that is not known. A
    sum is None if the value of any process is unknown.
    """

    owner: Owner
    processes: int
    estimated: int
    mappings: int
    saved: Bounds | None
    movements: Moves
    kernel_merging_pages: int | None
    stray_mappings: int | None
    zero_pages: int | None
    wear: Wear | None = None
    spread: Spread = NOWHERE


class Holding(BothCounts, HoldingFacts):
    """The totals of one owner."""

    __slots__ = ()

    @property
    def remote(self) -> int | None:
        """Mappings of pages on other nodes than their process's own; None if unknown for any."""
        return self.spread.remote_of(self.mappings)


_make: Callable[[tuple[Any, ...]], Holding] = partial(tuple.__new__, Holding)


def total(amounts: Iterable[int | None]) -> int | None:
    """A sum; None if any part is unknown."""
    known = list(amounts)
    return None if None in known else sum(filter(None, known))


def common(owners: Sequence[Owner]) -> Owner:
    """The most complete of owners with the same key, without what holds only for some."""
    # Many processes have the very same owner object.
    if len(owners) > 1:
        owners = list({id(owner): owner for owner in owners}.values())
    if len(owners) == 1:
        return owners[0]
    differing: dict[str, Any] = {
        place: None for place in _PLACES if len({getattr(o, place) for o in owners}) > 1
    }
    return replace(best_known(owners), **differing)


def roll_up(
    sums: Mapping[OwnerKey, OwnerSums],
    host: Bounds,
    unnamed: int,
    pages_shared: int | None,
    moved: Mapping[OwnerKey, Moves],
) -> tuple[Holding, ...]:
    """Every owner with its totals, the largest first.

    `host`: the pages that all mappings would need without KSM, but for `unnamed`, mappings without
    a known process. `moved`: movements and wear by owner. The host's saving is divided in
    proportion to the pages that each owner would need without KSM. That is an apportionment: how
    often each owner's pages are shared is unknown without reading page frame numbers.
    """
    nobodys = savings.pages_without_ksm((), {}, unnamed)
    saved = savings.saved_pages(host + nobodys, pages_shared)
    whole = Bounds(*map(sum, zip(nobodys, *[each.need for each in sums.values()], strict=True)))
    holdings = []
    for key, each in sums.items():
        # By position: with names it would take four times as long.
        owner, processes, estimated, mappings, need, kernel, stray, zeros, spread = each
        mine, part = moved.get(key, ()), _part(saved, need, whole)
        moves, wear = mine[:_MOVEMENTS], Wear.of(mine[_MOVEMENTS:])
        numbers = processes, estimated, mappings, part, moves, kernel, stray, zeros
        holdings.append(_make((owner, *numbers, wear, spread)))
    if unnamed:
        mine = moved.get(UNKNOWN.key, ())[:_MOVEMENTS]
        holdings.append(_unknown(unnamed, _part(saved, nobodys, whole), mine))
    return tuple(sorted(holdings, key=lambda h: (-h.mappings, h.owner.key)))


def _part(host: Bounds | None, need: Bounds, whole: Bounds) -> Bounds | None:
    """A part of the host's saving in bytes, in proportion to the pages needed without KSM."""
    if host is None:
        return None
    least = round(host.least * PAGE_SIZE * need.least / whole.least) if whole.least else 0
    most = round(host.most * PAGE_SIZE * need.most / whole.most) if whole.most else 0
    return Bounds(min(least, most), most)


def _unknown(mappings: int, saved: Bounds | None, moves: Moves) -> Holding:
    """The owner UNKNOWN has no process, so nothing but its mappings is known."""
    return Holding(
        owner=UNKNOWN,
        processes=0,
        estimated=0,
        mappings=mappings,
        saved=saved,
        movements=moves,
        kernel_merging_pages=None,
        stray_mappings=None,
        zero_pages=None,
    )


def _sum(saved: Sequence[Bounds | None]) -> Bounds | None:
    known = [each for each in saved if each is not None]
    return sum(known, savings.NONE) if len(known) == len(saved) else None


def split(holdings: Sequence[Holding], top: int) -> tuple[Sequence[Holding], Holding | None]:
    """The `top` largest, and all others as one without movements; None if there are no others.

    Movements of the others would fall when one of them rises into the top.
    """
    shown, rest = holdings[:top], holdings[top:]
    if not rest:
        return shown, None
    other = Holding(
        owner=UNKNOWN,
        processes=sum(h.processes for h in rest),
        estimated=sum(h.estimated for h in rest),
        mappings=sum(h.mappings for h in rest),
        saved=_sum([h.saved for h in rest]),
        movements=(),
        kernel_merging_pages=total(h.kernel_merging_pages for h in rest),
        stray_mappings=total(h.stray_mappings for h in rest),
        zero_pages=total(h.zero_pages for h in rest),
        spread=together(h.spread for h in rest),
    )
    return shown, other


def _grown(nows: Sequence[Moves], befores: Sequence[Moves]) -> Moves:
    """What rows have grown by, together. Most columns have not, and that is seen quickly."""
    if nows == befores:
        return (0,) * len(nows[0])
    columns = zip(zip(*nows, strict=True), zip(*befores, strict=True), strict=True)
    # From a list: what an iterator gives becomes a longer tuple first, and Python keeps 2,000 of
    # each length that it has cut to.
    return tuple([0 if now == then else sum(now) - sum(then) for now, then in columns])


# An account, whose it is, its movements and its wear.
AccountMoves = tuple[AccountKey, OwnerKey, Moves, Moves]


class Turnover:
    """Movements by owner, as far as they were seen. They never fall while the owner exists.

    An owner keeps the movements of its ended processes as long as it has any process. What a
    process moves between the last look and its end is not seen. What it moved before it came to
    another owner stays with the first owner.
    """

    def __init__(self) -> None:
        # Movements and wear apart: most accounts have no wear.
        self._seen: dict[AccountKey, tuple[OwnerKey, Moves, Moves]] = {}
        self._earlier: dict[AccountKey, tuple[Moves, Moves]] = {}
        # How many accounts an owner has, and their movements.
        self._accounts = Counter[OwnerKey]()
        self._totals: dict[OwnerKey, Moves] = {}

    def begin_after(self, accounts: Iterable[tuple[AccountKey, Moves, Moves]]) -> None:
        """Ignore movements and wear of these accounts so far: an earlier daemon reported them."""
        self._earlier.update((account, (moves, wear)) for account, moves, wear in accounts)

    def see(
        self, changed: Iterable[AccountMoves], gone: Iterable[AccountKey] = ()
    ) -> Mapping[OwnerKey, Moves]:
        """Look at accounts that are new or have changed.

        Returns totals by owner, movements before wear; the same object if nothing has changed.
        """
        totals = dict(self._totals)
        # By owner: movements now and those of the same accounts before, and wear.
        rows: defaultdict[OwnerKey, list[tuple[Moves, ...]]] = defaultdict(list)
        for account, key, moves, wear in changed:
            known = self._seen.get(account)
            if known is None:
                nothing = (0,) * len(moves), (0,) * len(wear)
                before, wear_before = self._earlier.pop(account, nothing)
                self._accounts[key] += 1
            else:
                owner, before, wear_before = known
                if owner != key:
                    self._accounts[owner] -= 1
                    self._accounts[key] += 1
            self._seen[account] = key, moves, wear
            rows[key].append((moves, before, wear, wear_before))
        for key, those in rows.items():
            now, then, wears, wears_then = zip(*those, strict=True)
            sums = _grown(now, then) + _grown(wears, wears_then)
            totals[key] = (*map(add, totals[key], sums),) if key in totals else sums
        for account in gone:
            if account in self._seen:
                self._accounts[self._seen.pop(account)[0]] -= 1
        for key in [key for key in totals if not self._accounts[key]]:
            del self._accounts[key], totals[key]
        if totals != self._totals:
            self._totals = totals
        return self._totals
