"""Joins a backend, the kernel's numbers and the names of processes into snapshots."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path

from ksmwatch import __version__
from ksmwatch.counting.backend import Backend, Budget, Counted
from ksmwatch.counting.backend_state import Mode
from ksmwatch.counting.comeback import Comeback
from ksmwatch.counting.cow_breaks import events
from ksmwatch.counting.ledger import Count
from ksmwatch.differences import Edition
from ksmwatch.kernel import procfs
from ksmwatch.kernel.cgroup_rooms import CgroupRooms
from ksmwatch.kernel.facts import Facts
from ksmwatch.kernel.host_sources import HostSources
from ksmwatch.kernel.kernel_numbers import KernelNumbers
from ksmwatch.log import logger
from ksmwatch.owners.process_connector import subscribe
from ksmwatch.owners.processes import ProcessTable
from ksmwatch.owners.rollup import Turnover
from ksmwatch.owners.savings import Forks, Who
from ksmwatch.owners.sums import ProcessSums, RunningSums, full
from ksmwatch.probes.map_records import Movement
from ksmwatch.snapshot.history_state import HistoryState
from ksmwatch.snapshot.homes import Homes
from ksmwatch.snapshot.ksmd_numbers import Books, CountKey, by_key
from ksmwatch.snapshot.losses import LOSSES
from ksmwatch.snapshot.model import Reload, Snapshot
from ksmwatch.snapshot.process import Confidence
from ksmwatch.snapshot.roster import Inputs, Roster
from ksmwatch.snapshot.unmerge_forecast import levels
from ksmwatch.snapshot.zero_holders import ZeroHolders

# Time in a snapshot to check whether processes are still in their cgroups.
_CGROUP_BUDGET_SECONDS = 0.02
# After this many snapshots in which something has changed, everything is added up and compared with
# the sums by difference.
_CHECKED_LOOKS = 100


def _doubt_about(unnamed: int) -> str | None:
    if not unnamed:
        return None
    return f"{unnamed} pages are mapped by processes that could not be named"


def _shared_cgroups(sums: ProcessSums) -> set[str]:
    """The cgroups of processes with KSM pages, and all above them."""
    cgroups = {cgroup for (_, cgroup), charge in sums.charges.items() if charge.sharers}
    return {path for cgroup in cgroups for path in levels(cgroup)}


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
        self._reload = Reload(successful=True, taken_at=time.time())
        self.comeback = Comeback()
        self._history: Callable[[], HistoryState | None] = lambda: None
        # Losses of everything except the backend.
        self.losses: Counter[str] = Counter() if losses is None else losses
        self._facts = facts
        self._table = table
        self._reason = reason
        self._proc = proc
        self._sys = sys
        self._host = HostSources(proc, sys, procfs.Ksmd(proc))
        self._rooms = CgroupRooms(sys)
        self._zero_holders = ZeroHolders(proc)
        self._begin_anew()
        # Here our count is read before the kernel's, in a snapshot after it, so that an event in
        # between does not look like an unanswered attempt.
        totals = backend.totals()
        vmstat = self._host.read().vmstat
        self._begin = events(vmstat, totals)
        state = backend.map_state()
        if state is not None and state.adopted:
            known = backend.counts()
            self._turnover.begin_after(((c.mm, c.account), c.moves, c.wear) for c in known)

    def _begin_anew(self) -> None:
        """Forget what was derived from the counts of another backend."""
        self._turnover, self._forks, self._sums = Turnover(), Forks(), RunningSums()
        self._books = Books(self._proc)
        state = self.backend.map_state()
        self._homes = Homes(state.nodes if state else (), self._proc, self._sys)
        self._roster = Roster(
            self._table.identify, self._books.of, self.backend.evidence, self._homes.of
        )
        # The last counts, as the backend listed them.
        self._listed: list[Count] = []
        self._counts: Edition[CountKey, Count] = Edition()
        # The processes of some counts, if the host has zero pages.
        self._pids_of: list[Count] = []
        self._pids: set[int] = set()
        # The last sums, and how often they were others than before.
        self._summed: ProcessSums | None = None
        self._looks = 0
        # The cgroups in them.
        self._shared: set[str] = set()

    def take(self, backend: Backend) -> None:
        """Count with another backend from now on. Losses of the previous one are kept."""
        self.losses.update(self.backend.losses)
        self.backend.stop()
        self.backend, self._reason = backend, None
        self._begin_anew()
        vmstat = self._host.read().vmstat
        self._begin = events(vmstat, backend.totals())
        self.comeback.succeeded()

    def follow_history(self, state: Callable[[], HistoryState | None]) -> None:
        """Snapshots say what this says about the history."""
        self._history = state

    def reload_taken(self) -> None:
        """The configuration was read again, and is in use."""
        self._reload = Reload(successful=True, taken_at=time.time())

    def reload_failed(self) -> None:
        """The configuration was read again, and is invalid."""
        self._reload = self._reload._replace(successful=False)

    def follow_processes(self) -> None:
        """Subscribe to process events, so that a snapshot need not read all processes."""
        try:
            self._table.follow(subscribe())
        except (OSError, ImportError) as error:
            self.losses["connector_lost"] += 1
            logger.warning(
                "every snapshot reads all processes, because there are no process events",
                extra={"why": str(error)},
            )

    def tick(self, budget: Budget) -> bool:
        """Do the work that is due about every second, even without requests.

        False if the backend is still asleep or awake, and in the same doubt.
        """
        self._catch_up()
        return self.backend.tick(budget)

    @property
    def process_events(self) -> int | None:
        """A descriptor that is readable when processes have changed, if there are events."""
        return self._table.descriptor

    def _catch_up(self) -> None:
        self.losses["connector_lost"] += not self._table.catch_up()

    def snapshot(self, seconds: float) -> Snapshot:
        """The state now. Settles doubts first, for at most this many seconds."""
        began = time.monotonic()
        self.backend.refresh(Budget(seconds))
        self._catch_up()
        self._table.look_again(self.backend.moved(), Budget(_CGROUP_BUDGET_SECONDS))
        numbers = self._host.read()
        self.losses["sources_unreadable"] += len(numbers.failures)
        ticks = int(time.clock_gettime(time.CLOCK_BOOTTIME) * procfs.TICKS_PER_SECOND)
        # Before the counts: what moves in between has moved since this snapshot, see `moved_since`.
        totals = self.backend.totals()
        counted = self.backend.counted()
        kin, sums = self._add_up(counted, numbers, ticks)
        unnamed = self._roster.unnamed
        happened = events(numbers.vmstat, totals)
        return Snapshot(
            time=time.time(),
            clock=began,
            duration=time.monotonic() - began,
            version=__version__,
            kernel=self._facts.release,
            mode=self.backend.mode,
            mode_reason=self._reason,
            asleep=counted.asleep,
            doubt=counted.doubt or _doubt_about(sum(map(abs, unnamed))),
            processes=self._roster.everyone,
            unnamed=sum(unnamed),
            moved=self._turnover.see(self._roster.moved, self._roster.gone),
            rooms=self._rooms.read(self._shared),
            numbers=numbers,
            totals=totals,
            events=happened.since(self._begin) if happened and self._begin else None,
            losses=self._all_losses(totals),
            probes=self.backend.probes(),
            map_state=self.backend.map_state(),
            ages=self.backend.ages(),
            run=self.backend.run.state,
            audit=self.backend.audit_state(),
            reload=self._reload,
            live_attempts=self.comeback.attempts,
            live_awaited=self.comeback.waits,
            kin=kin,
            given_sums=sums,
            ksmd_stood_still=self._books.stood_still,
            ksmd_read_at=self._books.oldest,
            history=self._history(),
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

    def _add_up(
        self, counted: Counted, numbers: KernelNumbers, ticks: int
    ) -> tuple[Mapping[Who, int], ProcessSums]:
        """Name and add up; returns what forks say, and the sums."""
        ksm = numbers.ksm or {}
        counts = counted.counts
        # A list that is not the same says that something has changed.
        if others := self._zero_only(counted, ksm.get("ksm_zero_pages", 0)):
            counts = [*counts, *others]
        if counts is not self._listed:
            self._counts = by_key(counts, self._listed, self._counts)
            self._listed = counts
        inputs = Inputs(
            self._counts,
            self._books.update(self._counts, numbers.ksm) | self._homes.update(self._counts),
            self._table.take_forgotten(),
            self.backend.run.state,
            ksm.get("pages_shared"),
        )
        self._roster.update(inputs)
        processes = self._roster.processes
        kin = self._forks.see(processes, ticks)
        sums = self._sums.update(processes, kin)
        if sums is self._summed:
            return kin, sums
        self._looks += 1
        if self._looks % _CHECKED_LOOKS == 0 and sums != full(processes.values(), kin):
            self.losses["sums_wrong"] += 1
            logger.error("sums by difference were wrong; everything is added up again")
            self._sums = RunningSums()
            sums = self._sums.update(processes, kin)
        self._summed, self._shared = sums, _shared_cgroups(sums)
        return kin, sums

    def _zero_only(self, counted: Counted, zeros: int) -> list[Count]:
        """Processes with zero pages and nothing else, if the host has zero pages."""
        exact = self.backend.mode is Mode.BPF and counted.doubt is None
        if zeros > 0 and counted.counts is not self._pids_of:
            self._pids_of = counted.counts
            self._pids = {count.pid for count in counted.counts}
        return self._zero_holders.others(self._pids, zeros, exact=exact)

    def _all_losses(self, totals: dict[str, int]) -> dict[str, int]:
        """Losses seen by the daemon and by the programs, with every known kind present."""
        seen = self.losses + self.backend.losses
        return {kind: seen[kind] + totals.get(kind, 0) for kind in sorted({*LOSSES, *seen})}
