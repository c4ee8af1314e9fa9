"""Which process each count belongs to. Nothing is made again that has not changed."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from collections.abc import Set as AbstractSet
from functools import reduce
from typing import NamedTuple

from ksmwatch.counting.backend import Evidence
from ksmwatch.counting.ledger import Count
from ksmwatch.counting.residue import residue
from ksmwatch.counting.run_state import UNMERGED, RunState
from ksmwatch.differences import Edition, differences
from ksmwatch.owners.owner import UNKNOWN
from ksmwatch.owners.processes import Identity
from ksmwatch.owners.rollup import AccountKey, Moves, OwnerKey
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


# See process.py.
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


# An account, whose it is, and its movements and wear.
AccountMoves = tuple[AccountKey, OwnerKey, Moves]


class _Named(NamedTuple):
    """A count with its process; None if no process has that mm now."""

    counted: Count
    process: Process | None

    @property
    def account(self) -> AccountKey:
        """Which account it is."""
        return self.counted.mm, self.counted.account


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
        self._named: dict[CountKey, _Named] = {}
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
        gone, changed = self._differences(inputs)
        self._before = inputs
        left = {self._named[key].account for key in gone}
        for key in gone:
            del self._named[key]
            self._keys[key[1]].discard(key)
            self._unnamed.discard(key)
        named: list[_Named] = []
        for key in changed:
            before = self._named.get(key)
            now = self._named[key] = self._name(key, inputs)
            named.append(now)
            if before is None:
                self._keys.setdefault(key[1], set()).add(key)
            elif before.counted.account != now.counted.account:
                left.add(before.account)
        self.moved = [
            (each.account, _owner_key(each.process), each.counted.turnover)
            for each in named
            if each.counted.moves
        ]
        # An account can be that of another process now.
        self.gone = left - {each.account for each in named} if left else left
        pids = {key[1] for key in gone | changed}
        if pids:
            self._join(pids)

    def _differences(self, inputs: Inputs) -> tuple[AbstractSet[CountKey], AbstractSet[CountKey]]:
        """Counts that have gone, and those that must be looked at."""
        before = self._before
        moved, _, gone = differences(self._counts, inputs.counts)
        self._counts = inputs.counts
        if before is None or before.residue_state != inputs.residue_state:
            return gone, set(self._counts)
        if inputs.forgotten is None:
            return gone, set(self._counts)
        # Who has no process may get one without an event.
        changed = {*moved, *inputs.read, *(self._unnamed - gone)}
        for pid in inputs.forgotten:
            changed |= self._keys.get(pid, set()) - gone
        return gone, changed

    def _name(self, key: CountKey, inputs: Inputs) -> _Named:
        count = self._counts[key]
        identity = self._identify(count.pid)
        if identity is None or identity.start_ticks != count.start_ticks:
            self._unnamed.add(key)
            return _Named(count, None)
        self._unnamed.discard(key)
        return _Named(count, self._process(key, count, identity, inputs))

    def _process(self, key: CountKey, count: Count, identity: Identity, inputs: Inputs) -> Process:
        book, evidence = self._book(key), self._evidence(count)
        return Process(
            pid=count.pid,
            start_time=identity.start_ticks,
            ppid=identity.ppid,
            comm=identity.comm,
            name=identity.name,
            owner=identity.owner,
            cgroup=identity.cgroup_path,
            mappings=count.mappings,
            confidence=_EXACT if count.exact else _ESTIMATED,
            movements=count.moves,
            kernel_merging_pages=book.merging_pages,
            zero_pages=book.zero_pages,
            kernel_at=book.at,
            read_at=evidence.read_at,
            stray=evidence.stray,
            residue=residue(inputs.run, inputs.pages_shared, evidence.read_at),
            family=identity.family,
            nodes=count.nodes if count.exact else None,
            home=self._home(count.pid),
        )

    def _join(self, pids: set[int]) -> None:
        """Make the processes with these numbers again."""
        changed: dict[Who, Process] = {}
        gone: set[Who] = set()
        for pid in pids:
            keys = self._keys[pid]
            members = [self._named[key].process for key in sorted(keys)]
            known = [each for each in members if each is not None]
            before, now = self._whos.get(pid), None
            if known:
                process = joined(known)
                now = process.pid, process.start_time
                changed[now] = process
            if not keys:
                del self._keys[pid]
            if before is not None and before != now:
                gone.add(before)
                del self._whos[pid]
            if now is not None and before != now:
                self._whos[pid] = now
        self.processes = self.processes.revised(changed, gone)
        self.everyone = tuple(self.processes.values())


def _owner_key(process: Process | None) -> OwnerKey:
    return UNKNOWN.key if process is None else process.owner.key
