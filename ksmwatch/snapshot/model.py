"""The published state of one moment: frozen, complete, and the only input of all outputs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

from ksmwatch.counting.ages import AgeState
from ksmwatch.counting.backend_state import AuditState, MapState, Mode, ProbeState
from ksmwatch.counting.cow_breaks import Events
from ksmwatch.counting.residue import Residue
from ksmwatch.counting.run_state import RunState
from ksmwatch.kernel.kernel_numbers import KernelNumbers
from ksmwatch.owners import savings
from ksmwatch.owners.rollup import Holding, Moves, OwnerKey, roll_up
from ksmwatch.owners.savings import Bounds, Who
from ksmwatch.owners.spread import Spread
from ksmwatch.owners.sums import ProcessSums, full
from ksmwatch.snapshot.history_state import HistoryState
from ksmwatch.snapshot.process import Confidence, Process
from ksmwatch.snapshot.unmerge_forecast import Forecast, Limit, Need, Zeros, limits, need
from ksmwatch.units import PAGE_SIZE


class Reload(NamedTuple):
    """Result of the last read of the configuration; when a valid one was last read (Unix time)."""

    successful: bool
    taken_at: float


@dataclass(frozen=True)
class Snapshot:
    """Everything known at `time` (seconds since the epoch). `clock`: the same moment, monotonic.

    `processes`: in no order. `unnamed`: mappings in address spaces without a known process.
    `moved`: movements by owner, see rollup.Turnover. `rooms`: bytes left in the cgroups that have
    a limit. `events`: since the daemon started. `reload`: of the configuration.
    """

    time: float
    clock: float
    duration: float
    version: str
    kernel: str
    mode: Mode
    mode_reason: str | None
    asleep: bool
    doubt: str | None
    processes: tuple[Process, ...]
    unnamed: int
    moved: Mapping[OwnerKey, Moves]
    rooms: Mapping[str, int]
    numbers: KernelNumbers
    totals: Mapping[str, int]
    events: Events | None
    losses: Mapping[str, int]
    probes: tuple[ProbeState, ...]
    map_state: MapState | None
    run: RunState
    audit: AuditState | None
    reload: Reload
    # Mappings of processes that their parents have too by fork, see savings.Forks.
    kin: Mapping[Who, int] = field(default_factory=dict)
    # What the processes add up to. Without it, they are added up here.
    given_sums: ProcessSums | None = None
    # Whether ksmd's numbers of processes are as it has them now, and else when the oldest was read.
    ksmd_stood_still: bool = False
    ksmd_read_at: float | None = None
    # How often live accounting was tried again during polling, and whether it will be.
    live_attempts: int = 0
    live_awaited: bool = False
    # How long mappings last; None if that is not known.
    ages: AgeState | None = None
    # None if no history is kept.
    history: HistoryState | None = None

    @cached_property
    def largest_first(self) -> tuple[Process, ...]:
        """The processes in order."""
        return tuple(sorted(self.processes, key=lambda p: (-p.mappings, p.pid)))

    @cached_property
    def sums(self) -> ProcessSums:
        """What the processes add up to."""
        return self.given_sums or full(self.processes, self.kin)

    @property
    def mappings(self) -> int:
        """PTEs on the host that map a KSM page, of known and unknown processes."""
        return self.sums.mappings + self.unnamed

    @cached_property
    def owners(self) -> tuple[Holding, ...]:
        """The totals of each owner, the largest first. Their mappings add up to the host's."""
        return roll_up(
            self.sums.owners, self.sums.need, self.unnamed, self._pages_shared, self.moved
        )

    @property
    def host_sources(self) -> tuple[int | None, ...]:
        """The numbers of the host with which those of owners are made from their sums."""
        return self.unnamed, self._pages_shared, self._zeros(None).most

    @property
    def unmerge(self) -> Need:
        """What `run=2` would need, against MemAvailable."""
        return self._need(self.mappings, None)

    @cached_property
    def forecasts(self) -> dict[OwnerKey, Forecast]:
        """What unmerging each owner would need, by the owner's key."""
        return {
            h.owner.key: Forecast(self.need_of(h), self.limits.get(h.owner.key))
            for h in self.owners
        }

    def need_of(self, holding: Holding) -> Need:
        """What unmerging an owner would need, against MemAvailable."""
        return self._need(holding.mappings, holding)

    @cached_property
    def limits(self) -> dict[OwnerKey, Limit]:
        """The tightest cgroup limit of each owner that has one."""
        return limits(self.sums.charges, self.rooms)

    def _need(self, mappings: int, holding: Holding | None) -> Need:
        zeros, counted = self._zeros(holding), self.confidence is not Confidence.UNKNOWN
        return need(mappings, zeros, self._pages_shared, self._available, counted=counted)

    def _zeros(self, holding: Holding | None) -> Zeros:
        """Zero pages of the host or an owner. A kernel that does not count them unmerges none."""
        if holding is None:
            return self._host_zeros
        if holding.zero_pages is None:
            return Zeros(0, self._host_zeros.most)
        return Zeros(holding.zero_pages, holding.zero_pages)

    @cached_property
    def _host_zeros(self) -> Zeros:
        host = max(0, (self.numbers.ksm or {}).get("ksm_zero_pages", 0))
        return Zeros(host, host)

    @cached_property
    def _available(self) -> int | None:
        kib = self.numbers.meminfo.get("MemAvailable")
        return None if kib is None else kib * 1024

    @cached_property
    def _pages_shared(self) -> int | None:
        return (self.numbers.ksm or {}).get("pages_shared")

    @cached_property
    def saved(self) -> Bounds | None:
        """Bytes that merging saves, including zero pages, see savings; None if unknown."""
        # Zero pages of unknown processes may be kin of others.
        zeros = self._zeros(None).most - self.sums.zero_pages
        unnamed = savings.pages_without_ksm((), {}, self.unnamed + max(0, zeros))
        pages = savings.saved_pages(self.sums.need + unnamed, self._pages_shared)
        return None if pages is None else Bounds(*[each * PAGE_SIZE for each in pages])

    @property
    def bookkeeping(self) -> int | None:
        """Bytes of ksmd's own records, from general_profit (since 6.4); None if unknown."""
        ksm = self.numbers.ksm or {}
        if "general_profit" not in ksm or "pages_sharing" not in ksm:
            return None
        # Since 6.6 (commit e2942062e01d) it includes zero pages.
        claimed = ksm["pages_sharing"] + max(0, ksm.get("ksm_zero_pages", 0))
        return max(0, claimed * PAGE_SIZE - ksm["general_profit"])

    @property
    def estimated(self) -> int:
        """Number of processes whose count is not known to be exact."""
        return self.sums.estimated

    @cached_property
    def confidence(self) -> Confidence:
        """Confidence in the host's sum."""
        if self.doubt is not None:
            return Confidence.ESTIMATED if self.mode is Mode.POLL else Confidence.UNKNOWN
        return Confidence.ESTIMATED if self.estimated else Confidence.EXACT

    @property
    def ageless(self) -> str | None:
        """Why it is not known how long mappings last; None if it is."""
        return "events are not seen" if self.map_state is None else self.map_state.ageless

    @property
    def reason(self) -> str | None:
        """Why the host's sum is not exact; None if it is."""
        if self.doubt is not None:
            return self.doubt
        if self.estimated:
            return f"{self.estimated} process{'es are' if self.estimated > 1 else ' is'} estimated"
        return None

    @property
    def counted_nodes(self) -> tuple[int, ...]:
        """The nodes of memory by which mappings are counted; none if there is only one."""
        return () if self.map_state is None else self.map_state.nodes

    @property
    def remote(self) -> int | None:
        """Mappings of pages on other nodes than their process's own; None if unknown for any."""
        return self.sums.spread.remote_of(self.mappings)

    def by_node(self, spread: Spread) -> dict[int, int]:
        """Mappings on each node, of the host or an owner, as far as they are known."""
        known = dict(enumerate(spread.nodes))
        return {node: known.get(node, 0) for node in self.counted_nodes}

    @property
    def kernel_mappings(self) -> int | None:
        """The kernel's own number for `mappings`: pages_shared + pages_sharing."""
        ksm = self.numbers.ksm or {}
        if "pages_shared" not in ksm or "pages_sharing" not in ksm:
            return None
        return ksm["pages_shared"] + ksm["pages_sharing"]

    def residue(self, which: Residue) -> int:
        """Mappings, in pages, of the processes with this kind of residue."""
        return self.sums.residues[which]

    @property
    def kernel_age(self) -> float | None:
        """Age of the oldest of the kernel's numbers by process; None without processes."""
        if not self.processes:
            return None
        if self.ksmd_stood_still:
            return 0.0
        oldest = self.ksmd_read_at
        if oldest is None:
            oldest = min(p.kernel_at for p in self.processes)
        return max(0.0, self.clock - oldest)

    @property
    def kernel_lag(self) -> int | None:
        """Our sum minus the kernel's, in pages, signed."""
        kernel = self.kernel_mappings
        return None if kernel is None else self.mappings - kernel

    @property
    def ksm_lines(self) -> dict[str, int]:
        """Lines of /proc/meminfo about KSM, in bytes; kernels up to 7.3 have none."""
        lines = self.numbers.meminfo.items()
        return {name: kib * 1024 for name, kib in lines if name.lower().startswith("ksm")}
