"""Bounds of what merging saves. Pure.

A mapping is not a saving. Without KSM, mappings that came by fork would share a page too, until
one of them is written to. So the question is how many pages the current mappings would need
without KSM, minus the pages that they have.

Call two mappings *kin* if they would share a page without KSM: if one came from the other, or
both came from a third, by fork, with no write since. Without KSM each class of kin needs one page.
With E classes and D distinct KSM pages, merging saves E - D pages. KSM's zero pages need no page
at all, and count as mappings. E is unknown, but bounded:

1. *Two mappings of one process are never kin*: fork copies a mapping to the same address of another
   address space. So a process with w mappings has members of w different classes.
2. *Two mappings of different families are never kin.* A family is all that came from one exec by
   forks. exec places a new stack at a random address; fork keeps it. Processes whose first stack
   address, or first code address, differ belong to different families. If both are equal by chance,
   or because addresses are not random here, two families count as one.

By 1, a family needs at least as many pages as its largest member has mappings. By 2, these add up:

    E >= sum over families of max(w of its members)

One family never counts as two. Two that count as one make the bound smaller, so it still holds.

For the upper bound, each mapping is its own class, unless it is proven to be kin of a counted one.
A child's account says how many mappings came by fork, and how many have gone since, for whatever
reason. So of those that came by fork, at least

    f = max(0, forked - departures - what exact reads found missing)

are still there. Each came from the same address of the parent. Let d be what the parent's account
has lost since the fork, seen or found missing: no more of the parent's mappings have gone. So at
least f - d mappings of the child are kin of mappings that the parent still has: a write in between
would have been a departure. With each process counted after its parent, by induction:

    E <= sum of w - sum over children of max(0, f - d)

Nothing is subtracted without a parent that still exists, or if events are not seen. d is counted
from the last look before the child began. Without one, it is counted from when the parent's account
was opened; it is too large then, and the bound still holds. One case could break it: a child whose
parent ended before the daemon saw it, and that was handed to a grandparent of the same family
(PR_SET_CHILD_SUBREAPER), if the parent had merged again before it forked.

D is the kernel's pages_shared, see `saved_pages`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import NamedTuple, Protocol

from ksmwatch.differences import Edition, differences
from ksmwatch.probes.map_records import Movement

# Addresses where the first stack and the code of a program begin; None if they are hidden.
Family = tuple[int, int]
# A process: pid and start time.
Who = tuple[int, int]


class Bounds(NamedTuple):
    """Some history that looks the same from here reaches each of the two."""

    least: int
    most: int

    def __add__(self, other: tuple[int, ...]) -> Bounds:  # type: ignore[override]
        """The sum of two independent bounds."""
        return Bounds(self.least + other[0], self.most + other[1])


NONE = Bounds(0, 0)
_FORKED = int(Movement.FORKED)


class Relative(Protocol):
    """The values of a process that are needed."""

    @property
    def pid(self) -> int:
        """Its process id."""

    @property
    def start_time(self) -> int:
        """With the pid, it identifies a process."""

    @property
    def ppid(self) -> int:
        """The process id of its parent."""

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
        """By reason, see records.Movement; empty if events are not seen."""


def merged(process: Relative) -> int:
    """Mappings, including zero pages."""
    return process.mappings + (process.zero_pages or 0)


def lost_by(process: Relative) -> int:
    """Mappings that have gone since the account was opened, seen or found missing."""
    moves = process.movements
    if not moves:
        return 0
    return _lost(moves, process.mappings)


def _lost(moves: Sequence[int], mappings: int) -> int:
    # As in map_records.ARRIVALS and DEPARTURES.
    merged, converted, other, forked, copied, unmapped, exited = moves
    departed = copied + unmapped + exited
    # Arrivals that are neither there nor seen to go were found missing.
    missing = merged + converted + other + forked - departed - mappings
    return departed + missing if missing > 0 else departed


class Forks:
    """Mappings that a parent has too: f - d. Remembers d as it was before each child.

    Looks only at processes that have changed, and at their children.
    """

    def __init__(self) -> None:
        self._processes: Mapping[Who, Relative] = {}
        # The time of the last look.
        self._at = 0
        # The parent of each child, and what the parent had lost before.
        self._before: dict[Who, tuple[Who, int]] = {}
        self._kin: Edition[Who, int] = Edition()
        # Processes by pid, and children by the pid of their parent.
        self._pids: dict[int, Who] = {}
        self._children: dict[int, set[Who]] = {}

    def see(self, processes: Mapping[Who, Relative], now: int) -> Mapping[Who, int]:
        """All current processes; returns mappings that are certainly kin of the parent's.

        Unchanged processes are the same objects as in the last call, and then so is the result.
        `now`: a time before they were looked at, in clock ticks since boot, like start times.
        """
        changed, _, gone = differences(self._processes, processes)
        last, self._processes = self._processes, processes
        for who in gone:
            self._unlink(who, last[who].ppid)
            self._before.pop(who, None)
        # Whom to look at, by the pid of their parent.
        children: defaultdict[int, list[Who]] = defaultdict(list)
        for who in changed:
            ppid, known = processes[who].ppid, last.get(who)
            children[ppid].append(who)
            if known is not None:
                if known.ppid == ppid:
                    continue
                self._unlink(who, known.ppid)
            self._pids[who[0]] = who
            self._children.setdefault(ppid, set()).add(who)
        looks: dict[int, Collection[Who]] = {**children}
        # A child that has another parent now has changed, too.
        for pid in self._children.keys() & {pid for pid, _ in (*changed, *gone)}:
            looks[pid] = self._children[pid]
        kin: dict[Who, int] = {}
        for ppid, whos in looks.items():
            kin.update(self._changes(ppid, whos, last))
        self._at = now
        alone = {who for who, pages in kin.items() if not pages}
        for who in alone:
            del kin[who]
        self._kin = self._kin.revised(kin, alone | (gone & self._kin.keys()))
        return self._kin

    def _unlink(self, who: Who, ppid: int) -> None:
        if self._pids.get(who[0]) == who:
            del self._pids[who[0]]
        siblings = self._children[ppid]
        siblings.discard(who)
        if not siblings:
            del self._children[ppid]

    def _changes(
        self, ppid: int, whos: Collection[Who], last: Mapping[Who, Relative]
    ) -> dict[Who, int]:
        """The numbers f - d of children of one process, if they are others than before.

        0 without a parent. `last`: processes at the last look.
        """
        whose = self._pids.get(ppid)
        parent = None if whose is None else self._processes[whose]
        family = None if parent is None else parent.family
        lost = 0 if parent is None else lost_by(parent)
        most = 0 if parent is None else parent.mappings
        changes: dict[Who, int] = {}
        for who in whos:
            child, sure = self._processes[who], 0
            if (
                whose is None
                or family is None
                or child is parent
                or child.family != family
                or who[1] < whose[1]
            ):
                self._before.pop(who, None)
            else:
                known = self._before.get(who)
                if known is None or known[0] != whose:
                    seen = whose in last and who[1] > self._at
                    began = lost_by(last[whose]) if seen else 0
                    # A child with another parent than before was not forked by it.
                    known = self._before[who] = whose, began if known is None else -1
                moves = child.movements
                if moves and 0 <= known[1] <= lost:
                    sure = moves[_FORKED] - _lost(moves, child.mappings) - lost + known[1]
                    if not 0 <= sure <= most:
                        sure = max(0, min(sure, most))
            if sure != self._kin.get(who, 0):
                changes[who] = sure
        return changes


def pages_without_ksm(
    processes: Iterable[Relative], kin: Mapping[Who, int], unnamed: int = 0
) -> Bounds:
    """E: the pages that all mappings would need without KSM.

    `kin`: see `Forks.see`. `unnamed`: mappings without a known family.
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
    """E - D: the pages that merging saves; None if D is unknown.

    D is the kernel's number of distinct pages, pages_shared. Until ksmd notices, it still counts
    pages that have lost all mappings. That makes both bounds too low, but never below 0. It does
    not count a page that only forked children map and ksmd has not visited, or that break_cow() has
    left behind. Each such page makes both bounds too high by one.
    """
    if pages_shared is None:
        return None
    return Bounds(max(0, without.least - pages_shared), max(0, without.most - pages_shared))
