"""Which process each count belongs to. Nothing is made again that has not changed."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from collections.abc import Set as AbstractSet
from functools import partial, reduce
from typing import Any, NamedTuple

from ksmwatch.counting.backend import Evidence
from ksmwatch.counting.ledger import Count
from ksmwatch.counting.residue import Residue, residue
from ksmwatch.counting.run_state import UNMERGED, RunState
from ksmwatch.differences import Edition, differences
from ksmwatch.owners.owner import UNKNOWN
from ksmwatch.owners.processes import Identity
from ksmwatch.owners.rollup import AccountKey, AccountMoves
from ksmwatch.owners.savings import Who
from ksmwatch.snapshot.ksmd_numbers import Book, CountKey
from ksmwatch.snapshot.process import Confidence, Process


def joined(processes: Iterable[Process]) -> Process:
    """The accounts of one process as one.

    After exec ksmd can keep the old mm, and with it an account of the same process, until it
    scans again.
    """
    return reduce(_together, processes)


def _together(a: Process, b: Process) -> Process:
    main, other = (a, b) if a.mappings >= b.mappings else (b, a)
    stray = None if a.stray is None or b.stray is None else (*a.stray, *b.stray)
    nodes = None
    if a.nodes is not None and b.nodes is not None:
        nodes = tuple(map(sum, zip(a.nodes, b.nodes, strict=True)))
    return main._replace(
        mappings=a.mappings + b.mappings,
        confidence=main.confidence if other.confidence is Confidence.EXACT else other.confidence,
        movements=tuple(map(sum, zip(a.movements, b.movements, strict=True))),
        stray=stray,
        nodes=nodes,
    )


_make: Callable[[tuple[Any, ...]], Process] = partial(tuple.__new__, Process)
# Before Python 3.12, looking up a member of an enumeration takes as long as making a tuple.
_EXACT, _ESTIMATED = Confidence.EXACT, Confidence.ESTIMATED


class Inputs(NamedTuple):
    """What a snapshot knows of processes before it names them.

    `counts`: the same objects as before if neither a count nor its evidence has changed.
    `read`: whose numbers of ksmd, or own node of memory, were read. `forgotten`: who may be another
    process than before; None: all.
    """

    counts: Mapping[CountKey, Count]
    read: Collection[CountKey]
    forgotten: set[int] | None
    run: RunState
    pages_shared: int | None

    @property
    def residue_state(self) -> tuple[object, ...]:
        """What the residue of a process depends on, besides its last read."""
        if self.run.run != UNMERGED:
            return (self.run.run,)
        return self.run.run, self.run.since, self.pages_shared == 0


class Roster:
    """All counts with their processes. Only one thread may use it."""

    def __init__(
        self,
        identify: Callable[[int], Identity | None],
        book: Callable[[CountKey], Book],
        evidence: Callable[[Count], Evidence],
        home: Callable[[int], int | None] = lambda _: None,
    ) -> None:
        """`home`: the own node of memory of a process; None if it is unknown or there is one."""
        self._identify = identify
        self._book = book
        self._evidence = evidence
        self._home = home
        self._before: Inputs | None = None
        self._counts: Mapping[CountKey, Count] = {}
        # None: no process has that mm now.
        self._named: dict[CountKey, Process | None] = {}
        self._unnamed: set[CountKey] = set()
        # By process id: counts, and the process that they are joined to.
        self._keys: dict[int, set[CountKey]] = {}
        self._whos: dict[int, Who] = {}
        self.processes: Edition[Who, Process] = Edition()
        self.everyone: tuple[Process, ...] = ()
        # In the last update: accounts that are new or may have moved, and those that have gone.
        self.moved: list[AccountMoves] = []
        self.gone: set[AccountKey] = set()

    @property
    def unnamed(self) -> list[int]:
        """Mappings of counts without a process."""
        return [self._counts[key].mappings for key in self._unnamed]

    def update(self, inputs: Inputs) -> None:
        """Bring everything up to date."""
        before, self._counts = self._counts, inputs.counts
        gone, changed = self._differences(before, inputs)
        self._before = inputs
        left = {_account(before[key]) for key in gone}
        for key in gone:
            del self._named[key]
            self._keys[key[1]].discard(key)
            self._unnamed.discard(key)
        self.moved = []
        # Processes that are made again from their only count, and the numbers of all others.
        again: dict[Who, Process] = {}
        pids = {key[1] for key in gone}
        # What is the same for all, if it does not depend on the last read.
        run, shared = inputs.run, inputs.pages_shared
        same = None if run.run == UNMERGED else residue(run, shared, None)
        for key in changed:
            count, known = self._counts[key], before.get(key)
            # One step instead of one for each member.
            mm, account, pid, _, _, _, moves, wear, _ = count
            process = self._named[key] = self._name(key, count, inputs, same)
            if known is None:
                self._keys.setdefault(pid, set()).add(key)
            elif known.account != account:
                left.add(_account(known))
            who = self._whos.get(pid)
            # Others have come or gone, or have several counts.
            if process is None or who is None or len(self._keys[pid]) > 1:
                pids.add(pid)
            else:
                again[who] = process
            if moves:
                owner = UNKNOWN if process is None else process.owner
                self.moved.append(((mm, account), owner.key, moves, wear))
        # An account can be that of another process now.
        self.gone = left - {_account(self._counts[key]) for key in changed} if left else left
        if pids or again:
            self._join(pids, again)

    def _differences(
        self, counts: Mapping[CountKey, Count], inputs: Inputs
    ) -> tuple[AbstractSet[CountKey], AbstractSet[CountKey]]:
        """Counts that have gone since these, and those that must be looked at."""
        before = self._before
        moved, _, gone = differences(counts, inputs.counts)
        if before is None or before.residue_state != inputs.residue_state:
            return gone, set(self._counts)
        if inputs.forgotten is None:
            return gone, set(self._counts)
        # Who has no process may get one without an event.
        changed = {*moved, *inputs.read, *(self._unnamed - gone)}
        for pid in inputs.forgotten:
            changed |= self._keys.get(pid, set()) - gone
        return gone, changed

    def _name(
        self, key: CountKey, count: Count, inputs: Inputs, same: Residue | None
    ) -> Process | None:
        """The process of a count; None if no process has that mm now. `same`: residue of all."""
        _, _, pid, start_ticks, mappings, exact, moves, _, nodes = count
        identity = self._identify(pid)
        if identity is None or identity.start_ticks != start_ticks:
            self._unnamed.add(key)
            return None
        if self._unnamed:
            self._unnamed.discard(key)
        book, evidence = self._book(key), self._evidence(count)
        # With names it would take four times as long.
        return _make(
            (
                pid,
                start_ticks,
                identity.ppid,
                identity.comm,
                identity.name,
                identity.owner,
                identity.cgroup_path,
                mappings,
                _EXACT if exact else _ESTIMATED,
                moves,
                book.merging_pages,
                book.zero_pages,
                book.at,
                evidence.read_at,
                evidence.stray,
                same or residue(inputs.run, inputs.pages_shared, evidence.read_at),
                identity.family,
                nodes if exact else None,
                self._home(pid),
            )
        )

    def _join(self, pids: set[int], changed: dict[Who, Process]) -> None:
        """Make the processes with these numbers again."""
        gone: set[Who] = set()
        for pid in pids:
            keys = self._keys[pid]
            if len(keys) == 1:
                (key,) = keys
                process = self._named[key]
            else:
                members = [self._named[key] for key in sorted(keys)]
                known = [each for each in members if each is not None]
                process = joined(known) if known else None
            before, now = self._whos.get(pid), None
            if process is not None:
                now = pid, process.start_time
                changed[now] = process
            if not keys:
                del self._keys[pid]
            if before != now:
                if before is not None:
                    gone.add(before)
                    # If the number is another process's now.
                    changed.pop(before, None)
                    del self._whos[pid]
                if now is not None:
                    self._whos[pid] = now
        self.processes = self.processes.revised(changed, gone)
        self.everyone = tuple(self.processes.values())


def _account(count: Count) -> AccountKey:
    return count.mm, count.account
