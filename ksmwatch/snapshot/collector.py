"""Joins a backend, the kernel's numbers and the names of processes into snapshots."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from ksmwatch import __version__
from ksmwatch.counting.backend import Backend, Budget, Evidence
from ksmwatch.counting.backend_state import Mode
from ksmwatch.counting.comeback import Comeback
from ksmwatch.counting.cow_breaks import events
from ksmwatch.counting.ledger import Count
from ksmwatch.counting.residue import Residue, residue
from ksmwatch.kernel import procfs
from ksmwatch.kernel.facts import Facts
from ksmwatch.log import logger
from ksmwatch.owners.owner import UNKNOWN
from ksmwatch.owners.process_connector import Subscription
from ksmwatch.owners.processes import Identity, ProcessTable
from ksmwatch.owners.rollup import Turnover
from ksmwatch.owners.savings import Forks
from ksmwatch.probes.map_records import Movement
from ksmwatch.snapshot.history_state import HistoryState
from ksmwatch.snapshot.ksmd_numbers import Book, Books
from ksmwatch.snapshot.losses import LOSSES
from ksmwatch.snapshot.model import Reload, Snapshot
from ksmwatch.snapshot.process import Confidence, Process
from ksmwatch.snapshot.unmerge_forecast import levels
from ksmwatch.snapshot.zero_holders import ZeroHolders

# Time in a snapshot to check whether processes are still in their cgroups.
_CGROUP_BUDGET_SECONDS = 0.02


def _doubt_about(unnamed: int) -> str | None:
    if not unnamed:
        return None
    return f"{unnamed} pages are mapped by processes that could not be named"


def one_for_each(processes: Iterable[Process]) -> Collection[Process]:
    """Processes, with several accounts of one process joined.

    After exec ksmd can keep the old mm, and with it an account of the same process, until it
    scans again.
    """
    found: dict[tuple[int, int], Process] = {}
    for process in processes:
        key = process.pid, process.start_time
        other = found.setdefault(key, process)
        if other is not process:
            found[key] = _together(other, process)
    return found.values()


def _together(a: Process, b: Process) -> Process:
    main, other = (a, b) if a.mappings >= b.mappings else (b, a)
    stray = None if a.stray is None or b.stray is None else (*a.stray, *b.stray)
    return replace(
        main,
        mappings=a.mappings + b.mappings,
        confidence=main.confidence if other.confidence is Confidence.EXACT else other.confidence,
        movements=tuple(map(sum, zip(a.movements, b.movements, strict=True))),
        stray=stray,
    )


class _Sources(NamedTuple):
    """The inputs of a process in a snapshot. If they are equal, the process is too."""

    counted: Count
    identity: Identity
    book: Book
    evidence: Evidence
    residue: Residue

    def process(self) -> Process:
        """Build the process."""
        identity = self.identity
        return Process(
            pid=self.counted.pid,
            start_time=identity.start_ticks,
            ppid=identity.ppid,
            comm=identity.comm,
            name=identity.name,
            owner=identity.owner,
            cgroup=procfs.unified_path(identity.cgroup),
            mappings=self.counted.mappings,
            confidence=Confidence.EXACT if self.counted.exact else Confidence.ESTIMATED,
            movements=self.counted.moves,
            kernel_merging_pages=self.book.merging_pages,
            zero_pages=self.book.zero_pages,
            kernel_at=self.book.at,
            read_at=self.evidence.read_at,
            stray=self.evidence.stray,
            residue=self.residue,
            family=identity.family,
        )


class Watcher:
    """Makes snapshots. Only one thread may use it."""

    def __init__(
        self,
        backend: Backend,
        facts: Facts,
        table: ProcessTable,
        reason: str | None = None,
        *,
        losses: Counter[str] | None = None,
        proc: Path = Path("/proc"),
        sys: Path = Path("/sys"),
    ) -> None:
        self.backend = backend
        # The start read a configuration; rereads are recorded here.
        self.reload = Reload(successful=True, taken_at=time.time())
        self.comeback = Comeback()
        self.history: Callable[[], HistoryState | None] = lambda: None
        # Losses of everything except the backend.
        self.losses: Counter[str] = Counter() if losses is None else losses
        self._facts = facts
        self._table = table
        self._subscription: Subscription | None = None
        self._reason = reason
        self._proc = proc
        self._sys = sys
        self._ksmd = procfs.Ksmd(proc)
        self._turnover = Turnover()
        self._forks = Forks()
        self._zero_holders = ZeroHolders(proc)
        self._books = Books(proc)
        # Of the last snapshot, by account.
        self._made: dict[tuple[int, int, int], tuple[_Sources, Process]] = {}
        # Here our count is read before the kernel's, in a snapshot after it, so that an event in
        # between does not look like an unanswered attempt.
        totals = backend.totals()
        vmstat = procfs.read_numbers(proc, sys, self._ksmd).vmstat
        self._begin = events(vmstat, totals)
        state = backend.map_state()
        if state is not None and state.adopted:
            self._turnover.begin_after(((c.mm, c.account), c.moves) for c in backend.counts())

    def take(self, backend: Backend) -> None:
        """Count with another backend from now on. Losses of the previous one are kept."""
        self.losses.update(self.backend.losses)
        self.backend.stop()
        self.backend, self._reason = backend, None
        self._turnover, self._forks, self._made = Turnover(), Forks(), {}
        vmstat = procfs.read_numbers(self._proc, self._sys, self._ksmd).vmstat
        self._begin = events(vmstat, backend.totals())
        self.comeback.succeeded()

    def follow_processes(self) -> None:
        """Subscribe to process events, so that a snapshot need not read all processes."""
        self._subscription = Subscription()

    def tick(self, budget: Budget) -> None:
        """Do the work that is due about every second, even without requests."""
        self._catch_up()
        self.backend.tick(budget)

    def _catch_up(self) -> None:
        self._subscribe()
        self.losses["connector_lost"] += not self._table.catch_up()

    def _subscribe(self) -> None:
        """Nothing is remembered until the subscription works."""
        if self._subscription is None:
            return
        try:
            connector = self._subscription.take()
        except OSError as error:
            self.losses["connector_lost"] += 1
            logger.warning(
                "every snapshot reads all processes, because there are no process events",
                extra={"why": str(error)},
            )
        else:
            if connector is None:
                return
            self._table.follow(connector)
        self._subscription = None

    def snapshot(self, seconds: float) -> Snapshot:
        """The state now. Settles doubts first, for at most this many seconds."""
        began = time.monotonic()
        self.backend.refresh(Budget(seconds))
        self._catch_up()
        self._table.look_again(Budget(_CGROUP_BUDGET_SECONDS))
        numbers = procfs.read_numbers(self._proc, self._sys, self._ksmd)
        self.losses["sources_unreadable"] += len(numbers.failures)
        shared = (numbers.ksm or {}).get("pages_shared")
        ticks = int(time.clock_gettime(time.CLOCK_BOOTTIME) * procfs.TICKS_PER_SECOND)
        counts = self.backend.counts()
        zeros = (numbers.ksm or {}).get("ksm_zero_pages", 0)
        counts = [*counts, *self._zero_only(counts, zeros)]
        self._books.update(counts, (numbers.ksm or {}).get("pages_scanned"))
        processes, unnamed, moves = [], [], []
        for count, process in self._name(counts, shared):
            if process is not None:
                processes.append(process)
            else:
                unnamed.append(count.mappings)
            owner = UNKNOWN if process is None else process.owner
            if count.moves:
                moves.append(((count.mm, count.account), owner.key, count.moves))
        merged = one_for_each(processes)
        totals = self.backend.totals()
        happened = events(numbers.vmstat, totals)
        return Snapshot(
            time=time.time(),
            clock=began,
            duration=time.monotonic() - began,
            version=__version__,
            kernel=self._facts.release,
            mode=self.backend.mode,
            mode_reason=self._reason,
            asleep=self.backend.asleep,
            doubt=self.backend.doubt or _doubt_about(sum(map(abs, unnamed))),
            processes=tuple(sorted(merged, key=lambda p: (-p.mappings, p.pid))),
            unnamed=sum(unnamed),
            moved=self._turnover.see(moves),
            rooms=self._rooms(processes),
            numbers=numbers,
            totals=totals,
            events=happened.since(self._begin) if happened and self._begin else None,
            losses=self._all_losses(totals),
            probes=tuple(self.backend.probes()),
            map_state=self.backend.map_state(),
            run=self.backend.run.state,
            audit=self.backend.audit_state(),
            reload=self.reload,
            live_attempts=self.comeback.attempts,
            live_awaited=self.comeback.waits,
            kin=self._forks.see(tuple(merged), ticks),
            history=self.history(),
        )

    def moved_since(self, snapshot: Snapshot) -> bool:
        """Whether a count may differ from a snapshot's. It costs far less than a snapshot."""
        backend = self.backend
        known = snapshot.confidence is Confidence.EXACT and backend.doubt is None
        if not known or backend.mode is not Mode.BPF or backend.run.state.run != snapshot.run.run:
            return True
        totals = backend.totals()
        names = (which.name.lower() for which in Movement)
        return any(totals.get(name) != snapshot.totals.get(name) for name in names)

    def _zero_only(self, counts: list[Count], zeros: int) -> list[Count]:
        """Processes with zero pages and nothing else, if the host has zero pages."""
        exact = self.backend.mode is Mode.BPF and self.backend.doubt is None
        return self._zero_holders.others({count.pid for count in counts}, zeros, exact=exact)

    def _rooms(self, processes: list[Process]) -> dict[str, int]:
        """Memory left in the cgroups of processes with KSM pages, where there is a limit."""
        cgroups = {p.cgroup for p in processes if p.mappings or p.zero_pages}
        paths = {path for cgroup in cgroups for path in levels(cgroup)}
        rooms = {path: procfs.read_room(self._sys, path) for path in paths}
        return {path: room for path, room in rooms.items() if room is not None}

    def _all_losses(self, totals: dict[str, int]) -> dict[str, int]:
        """Losses seen by the daemon and by the programs, with every known kind present."""
        seen = self.losses + self.backend.losses
        return {kind: seen[kind] + totals.get(kind, 0) for kind in sorted({*LOSSES, *seen})}

    def _name(
        self, counts: Iterable[Count], pages_shared: int | None
    ) -> list[tuple[Count, Process | None]]:
        """Each count with its process; None if no process has that mm any more."""
        run = self.backend.run.state
        before, self._made = self._made, {}
        named: list[tuple[Count, Process | None]] = []
        for count in counts:
            identity = self._table.identify(count.pid)
            if identity is None or identity.start_ticks != count.start_ticks:
                named.append((count, None))
                continue
            evidence = self.backend.evidence(count)
            kind = residue(run, pages_shared, evidence.read_at)
            found = _Sources(count, identity, self._books.of(count), evidence, kind)
            key = count.mm, count.account, count.pid
            known = before.get(key)
            # Mostly they are the same objects, which is a fast comparison.
            if known is None or known[0] != found:
                known = found, found.process()
            self._made[key] = known
            named.append((count, known[1]))
        return named
