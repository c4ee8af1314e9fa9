"""What merging saves, between bounds. Pure.

A mapping is not a saving. Without KSM, mappings that came by fork would share a page all the same,
until one of them is written to. So the question is how many pages the mappings of now would need
without KSM, less the pages that they have.

Say that two mappings are *kin* if without KSM they would share a page: if one came from the other,
or both from a third, by fork, with no write since. Without KSM each class of kin needs one page, so
with E classes and D distinct KSM pages, and as KSM's zero pages need no page at all, merging saves
E - D pages, where zero pages count as mappings. E is not known. It is bounded:

1. *Two mappings of one process are never kin*: fork copies a mapping to the same address of another
   address space. So a process with w mappings has members of w different classes.
2. *Two mappings of different families are never kin.* A family is what has come from one exec by
   forks. exec gives a new stack at a random address; fork keeps it. Processes whose first stack
   address, or first code address, differ are of different families. Where both are equal by chance,
   or because addresses are not random here, two families pass for one.

By 1 a family needs at least as many pages as its largest member has mappings, by 2 these add up:

    E >= sum over families of max(w of its members)

A family that passes for two does not occur, one that is two makes the bound smaller: it holds.

Upwards, each mapping is a class of its own, unless it is proven to be kin of one that is counted.
A child's account says how many mappings came by fork, and how many have gone since for whatever
reason, so of those that came by fork at least

    f = max(0, forked - departures - what exact reads found missing)

are still there. Each came from the same address of the parent. Let d be what the parent's account
has lost since the fork, seen or found missing: no more of the parent's mappings have gone. So at
least f - d mappings of the child are kin of mappings of the parent that are there, as no write has
come between: that would have been a departure. With each process counted after its parent, by
induction:

    E <= sum of w - sum over children of max(0, f - d)

Without a parent that is still there nothing is taken off, nor where events are not seen. d is
counted from the last look before the child began; if there was none, from when the parent's account
was opened: it is too large then, and the bound still holds. It could be broken by a child whose
parent has ended before the daemon saw it, and that was handed to a grandparent of the same family
(PR_SET_CHILD_SUBREAPER), if the parent had merged anew before it forked.

D is the kernel's pages_shared, see `saved_pages`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple, Protocol

from ksmwatch.probes.map_records import ARRIVALS, DEPARTURES, Movement

# Addresses where the first stack and the code of a program begin; None where they are not shown.
Family = tuple[int, int]
# A process: pid and start time.
Who = tuple[int, int]


class Bounds(NamedTuple):
    """Both are reached by some history that looks the same from here."""

    least: int
    most: int

    def __add__(self, other: tuple[int, ...]) -> Bounds:  # type: ignore[override]
        """Of two that are independent."""
        return Bounds(self.least + other[0], self.most + other[1])


NONE = Bounds(0, 0)


class Relative(Protocol):
    """What is asked of a process."""

    @property
    def pid(self) -> int:
        """Its process id."""

    @property
    def start_time(self) -> int:
        """With the pid it names a process."""

    @property
    def ppid(self) -> int:
        """Of its parent."""

    @property
    def family(self) -> Family | None:
        """What fork keeps and exec changes."""

    @property
    def mappings(self) -> int:
        """PTEs that map a KSM page."""

    @property
    def zero_pages(self) -> int | None:
        """PTEs in which KSM has put the zero page; None if unknown."""

    @property
    def movements(self) -> Sequence[int]:
        """By reason, see records.Movement; empty where events are not seen."""


def merged(process: Relative) -> int:
    """Mappings, of zero pages too."""
    return process.mappings + (process.zero_pages or 0)


def gone(process: Relative) -> int:
    """Mappings that have gone since the account was opened, seen or found missing."""
    moves = process.movements
    if not moves:
        return 0
    departed = sum(moves[m] for m in DEPARTURES)
    net = sum(moves[m] for m in ARRIVALS) - departed
    return departed + max(0, net - process.mappings)


def forked(process: Relative) -> int:
    """Mappings that came by fork and are there for sure: f."""
    moves = process.movements
    return max(0, moves[Movement.FORKED] - gone(process)) if moves else 0


class Forks:
    """Who has mappings that the parent has too: f - d. Remembers d as it was before each child."""

    def __init__(self) -> None:
        # Of each process at the last look, and when that was.
        self._gone: dict[Who, int] = {}
        self._at = 0
        # Of each child: its parent, and what that had lost before.
        self._before: dict[Who, tuple[Who, int]] = {}

    def see(self, processes: Sequence[Relative], now: int) -> Mapping[Who, int]:
        """All processes that there are; mappings that are kin of the parent's, for sure.

        `now`: before they were looked at, in clock ticks since boot, as start times are.
        """
        parents = {p.pid: p for p in processes}
        lost = {(p.pid, p.start_time): gone(p) for p in processes}
        before: dict[Who, tuple[Who, int]] = {}
        kin: dict[Who, int] = {}
        for child in processes:
            parent = parents.get(child.ppid)
            if parent is None or parent is child or not _related(parent, child):
                continue
            who, whose = (child.pid, child.start_time), (parent.pid, parent.start_time)
            known = self._before.get(who)
            if known is None or known[0] != whose:
                began = self._gone.get(whose, 0) if child.start_time > self._at else 0
                # A child that has another parent than before was not forked by it.
                known = whose, began if known is None else -1
            before[who] = known
            since = lost[whose] - known[1]
            if known[1] >= 0 and since >= 0 and (sure := forked(child) - since) > 0:
                kin[who] = min(sure, parent.mappings)
        self._gone, self._before, self._at = lost, before, now
        return kin


def _related(parent: Relative, child: Relative) -> bool:
    known = parent.family is not None and parent.family == child.family
    return known and parent.start_time <= child.start_time


def pages_without_ksm(
    processes: Iterable[Relative], kin: Mapping[Who, int], unnamed: int = 0
) -> Bounds:
    """E: pages that all mappings would need without KSM.

    `kin`: see `Forks.see`. `unnamed`: mappings of which the family is not known.
    """
    families: dict[Family | None, list[Relative]] = defaultdict(list)
    for process in processes:
        families[process.family].append(process)
    found = Bounds(0, max(0, unnamed))
    for members in families.values():
        weights = [max(0, merged(p)) for p in members]
        shared = sum(kin.get((p.pid, p.start_time), 0) for p in members)
        least = max(weights)
        found += (least, max(least, sum(weights) - shared))
    return found


def saved_pages(without: Bounds, pages_shared: int | None) -> Bounds | None:
    """E - D: pages that merging saves; None if D is not known.

    D is the kernel's number of distinct pages, pages_shared. It still counts pages whose mappings
    have all gone until ksmd notices, which makes both bounds too small, never below 0. It does not
    count a page that is mapped only by forked children that ksmd has not visited, or that
    break_cow() has left behind, which makes both too large by one page each.
    """
    if pages_shared is None:
        return None
    return Bounds(max(0, without.least - pages_shared), max(0, without.most - pages_shared))
