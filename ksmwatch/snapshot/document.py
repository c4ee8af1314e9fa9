"""The published state of one moment: frozen, complete, and the only thing that outputs read.

``to_document`` is the versioned JSON document (schema in docs/snapshot.md).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum
from functools import cached_property
from typing import Any

from ksmwatch.config import Reload
from ksmwatch.counting.backend import AuditState, MapState, Mode, ProbeState
from ksmwatch.counting.cow_breaks import Events
from ksmwatch.counting.residue import Residue
from ksmwatch.counting.run_state import RunState
from ksmwatch.kernel.procfs import KernelNumbers
from ksmwatch.kernel.smaps import Area, area_document
from ksmwatch.owners import savings
from ksmwatch.owners.owner import Owner
from ksmwatch.owners.rollup import Holding, Key, Moves, roll_up
from ksmwatch.owners.safe_text import harmless
from ksmwatch.owners.savings import Bounds, Family, Who
from ksmwatch.probes.records import Movement
from ksmwatch.snapshot.unmerge_forecast import Forecast, Need, Verdict, Zeros, limits, need
from ksmwatch.units import PAGE_SIZE

SCHEMA = "ksmwatch.snapshot/1"
# Of one process in the document; all count in stray_mappings.
_MAX_AREAS = 32


class Confidence(StrEnum):
    """EXACT: equal to the page tables. ESTIMATED: not known to be. UNKNOWN: events were lost."""

    EXACT = "exact"
    ESTIMATED = "estimated"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class Process:
    """One process with a history of KSM mappings.

    `start_time` is field 22 of /proc/PID/stat, in clock ticks since boot: with the pid it
    names a process for ever, whatever the wall clock does. `kernel_merging_pages` is ksmd's
    own number, None where it could not be read; `zero_pages` likewise, PTEs in which KSM has put
    the zero page (since 6.6). `cgroup`: its path in the unified hierarchy, as it is, None where
    there is none. `read_at`: when it was last read exactly, None for never, and `kernel_at`: when
    the kernel's numbers were, both on the monotonic clock.
    """

    pid: int
    start_time: int
    ppid: int
    comm: str
    name: str
    owner: Owner
    cgroup: str | None
    mappings: int
    confidence: Confidence
    movements: tuple[int, ...]
    kernel_merging_pages: int | None
    zero_pages: int | None
    kernel_at: float
    read_at: float | None
    stray: tuple[Area, ...] | None
    residue: Residue
    # What fork keeps and exec changes, see savings; None if not known.
    family: Family | None = None

    @property
    def exact(self) -> bool:
        """Whether the count is known to equal the page tables."""
        return self.confidence is Confidence.EXACT

    @property
    def stray_mappings(self) -> int | None:
        """KSM mappings in areas that are not mergeable; None until areas were read."""
        return None if self.stray is None else sum(area.mappings for area in self.stray)

    @property
    def bytes(self) -> int:
        """Memory that the mappings span."""
        return self.mappings * PAGE_SIZE

    @property
    def kernel_lag(self) -> int | None:
        """Our count less the kernel's, in pages, signed."""
        if self.kernel_merging_pages is None:
            return None
        return self.mappings - self.kernel_merging_pages

    @cached_property
    def json(self) -> str:
        """Of the document what stays while this process is as it is, without the last brace."""
        return json.dumps(_process(self))[:-1]


@dataclass(frozen=True)
class Snapshot:
    """Everything that is known at `time` (seconds since the epoch); `clock`: monotonic, the same.

    `unnamed`: mappings of address spaces of which no process is known. `moved`: movements by
    owner, see rollup.Turnover. `rooms`: bytes that cgroups have left, of those with a limit.
    `events`: since the daemon began. `reload`: of the configuration.
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
    moved: Mapping[Key, Moves]
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
    # Of processes, the mappings that their parents have too by fork, see savings.Forks.
    kin: Mapping[Who, int] = field(default_factory=dict)
    # How often live accounting was tried again while counts were polled, and whether it will be.
    live_attempts: int = 0
    live_awaited: bool = False

    @cached_property
    def mappings(self) -> int:
        """PTEs on the host that map a KSM page: of all processes, and of whom none is known."""
        return sum(process.mappings for process in self.processes) + self.unnamed

    @cached_property
    def owners(self) -> tuple[Holding, ...]:
        """What each owner holds, the largest first; their mappings add up to the host's."""
        return roll_up(self.processes, self.unnamed, self._pages_shared, self.moved, self.kin)

    @property
    def unmerge(self) -> Need:
        """What `run=2` would need, against MemAvailable."""
        return self._need(self.mappings, None)

    @cached_property
    def forecasts(self) -> dict[Key, Forecast]:
        """What unmerging each owner would need, by its key."""
        limited = limits(self.processes, self.rooms)
        return {
            h.owner.key: Forecast(self._need(h.mappings, h), limited.get(h.owner.key))
            for h in self.owners
        }

    def _need(self, mappings: int, holding: Holding | None) -> Need:
        known = need(mappings, self._zeros(holding), self._pages_shared, self._available)
        # Without a doubt about the host nobody needs to look at all processes.
        counted = self.doubt is None or self.confidence is not Confidence.UNKNOWN
        return replace(known, counted=counted)

    def _zeros(self, holding: Holding | None) -> Zeros:
        """Zero pages of the host, or of an owner. A kernel that counts none unmerges none."""
        host = max(0, (self.numbers.ksm or {}).get("ksm_zero_pages", 0))
        if holding is None:
            return Zeros(host, host)
        if holding.zero_pages is None:
            return Zeros(0, host)
        return Zeros(holding.zero_pages, holding.zero_pages)

    @property
    def _available(self) -> int | None:
        kib = self.numbers.meminfo.get("MemAvailable")
        return None if kib is None else kib * 1024

    @property
    def _pages_shared(self) -> int | None:
        return (self.numbers.ksm or {}).get("pages_shared")

    @cached_property
    def saved(self) -> Bounds | None:
        """Bytes that merging saves, with zero pages, see savings; None if unknown."""
        # Zero pages of processes that are not known may be kin of others'.
        zeros = self._zeros(None).most - sum(p.zero_pages or 0 for p in self.processes)
        unnamed = self.unnamed + max(0, zeros)
        need = savings.pages_without_ksm(self.processes, self.kin, unnamed)
        pages = savings.saved_pages(need, self._pages_shared)
        return None if pages is None else Bounds(*(each * PAGE_SIZE for each in pages))

    @property
    def bookkeeping(self) -> int | None:
        """Bytes that ksmd's own records take, by general_profit (since 6.4); None if unknown."""
        ksm = self.numbers.ksm or {}
        if "general_profit" not in ksm or "pages_sharing" not in ksm:
            return None
        # Since 6.6 (commit e2942062e01d) with zero pages.
        claimed = ksm["pages_sharing"] + max(0, ksm.get("ksm_zero_pages", 0))
        return max(0, claimed * PAGE_SIZE - ksm["general_profit"])

    @cached_property
    def estimated(self) -> int:
        """Number of processes whose count is not known to be exact."""
        return sum(not p.exact for p in self.processes)

    @property
    def confidence(self) -> Confidence:
        """Of the host's sum."""
        if self.doubt is not None:
            return Confidence.ESTIMATED if self.mode is Mode.POLL else Confidence.UNKNOWN
        return Confidence.ESTIMATED if self.estimated else Confidence.EXACT

    @property
    def reason(self) -> str | None:
        """Why the host's sum is not exact; None when it is."""
        if self.doubt is not None:
            return self.doubt
        if self.estimated:
            return f"{self.estimated} process{'es are' if self.estimated > 1 else ' is'} estimated"
        return None

    @property
    def kernel_mappings(self) -> int | None:
        """The kernel's own number for `mappings`: pages_shared + pages_sharing."""
        ksm = self.numbers.ksm or {}
        if "pages_shared" not in ksm or "pages_sharing" not in ksm:
            return None
        return ksm["pages_shared"] + ksm["pages_sharing"]

    def residue(self, which: Residue) -> int:
        """Mappings, in pages, of the processes whose mappings are of this kind."""
        return self._residues[which]

    @cached_property
    def _residues(self) -> Mapping[Residue, int]:
        found = dict.fromkeys(Residue, 0)
        for process in self.processes:
            found[process.residue] += process.mappings
        return found

    @property
    def kernel_age(self) -> float | None:
        """Seconds since the kernel's numbers of all processes were read; None without processes."""
        oldest = min((p.kernel_at for p in self.processes), default=None)
        return None if oldest is None else max(0.0, self.clock - oldest)

    @property
    def kernel_lag(self) -> int | None:
        """Our sum less the kernel's, in pages, signed."""
        kernel = self.kernel_mappings
        return None if kernel is None else self.mappings - kernel

    @property
    def ksm_lines(self) -> dict[str, int]:
        """Lines of /proc/meminfo about KSM, in bytes: none in the kernels up to 7.3."""
        lines = self.numbers.meminfo.items()
        return {name: kib * 1024 for name, kib in lines if name.lower().startswith("ksm")}


def _saved(saved: Bounds | None) -> dict[str, int | None]:
    least, most = (None, None) if saved is None else saved
    return {"saved_bytes": least, "saved_at_most_bytes": most}


def _movements(moves: tuple[int, ...]) -> dict[str, int]:
    return {which.name.lower(): amount for which, amount in zip(Movement, moves, strict=False)}


def _process(process: Process) -> dict[str, Any]:
    """Of a process what stays as it is until something happens: everything but ages."""
    return {
        "pid": process.pid,
        "start_time": process.start_time,
        "ppid": process.ppid,
        "comm": process.comm,
        "name": process.name,
        "owner": dict(vars(process.owner)),
        "mappings": process.mappings,
        "bytes": process.bytes,
        "confidence": process.confidence.value,
        "movements": _movements(process.movements),
        "kernel_merging_pages": process.kernel_merging_pages,
        "kernel_lag": process.kernel_lag,
        "zero_pages": process.zero_pages,
        "residue": process.residue.value,
        "stray_mappings": process.stray_mappings,
        "stray_areas": [area_document(area) for area in (process.stray or ())[:_MAX_AREAS]],
    }


def _ages(process: Process, now: float) -> dict[str, float | None]:
    """Seconds, to the millisecond."""
    return {
        "kernel_age_seconds": round(_age(process.kernel_at, now), 3),
        "last_read_seconds": None
        if process.read_at is None
        else round(_age(process.read_at, now), 3),
    }


def _age(at: float, now: float) -> float:
    """What was read while the snapshot was made was read now."""
    return now - at if at < now else 0.0


def _need(amount: Need, verdict: Verdict) -> dict[str, Any]:
    return {
        "at_least_bytes": amount.at_least,
        "at_most_bytes": amount.at_most,
        "available_bytes": amount.available,
        "verdict": verdict.value,
    }


def _forecast(forecast: Forecast) -> dict[str, Any]:
    limit = forecast.limit
    return {
        **_need(forecast.memory, forecast.verdict),
        "limit": None
        if limit is None
        else {
            "cgroup": harmless(limit.cgroup),
            "at_most_bytes": limit.at_most,
            "left_bytes": limit.left,
        },
    }


def _holding(holding: Holding, forecast: Forecast) -> dict[str, Any]:
    return {
        **vars(holding.owner),
        "processes": holding.processes,
        "estimated_processes": holding.estimated,
        "mappings": holding.mappings,
        "bytes": holding.bytes,
        **_saved(holding.saved),
        "movements": _movements(holding.movements),
        "kernel_merging_pages": holding.kernel_merging_pages,
        "kernel_lag": holding.kernel_lag,
        "stray_mappings": holding.stray_mappings,
        "zero_pages": holding.zero_pages,
        "unmerge": _forecast(forecast),
    }


def _events(happened: Events) -> dict[str, int]:
    return {**vars(happened), "unanswered_attempts": happened.unanswered_attempts}


def to_json(snapshot: Snapshot) -> bytes:
    """`to_document` as JSON; a process that has not changed is not written out again."""
    head = json.dumps(_head(snapshot))
    processes = ", ".join([_process_json(p, snapshot.clock) for p in snapshot.processes])
    return f'{head[:-1]}, "processes": [{processes}]}}'.encode()


def _process_json(process: Process, now: float) -> str:
    """With `_ages`, in a hundredth of the time that json.dumps() takes."""
    read = "null" if process.read_at is None else f"{_age(process.read_at, now):.3f}"
    kernel = f"{_age(process.kernel_at, now):.3f}"
    return f'{process.json}, "kernel_age_seconds": {kernel}, "last_read_seconds": {read}}}'


def to_document(snapshot: Snapshot) -> dict[str, Any]:
    """The JSON document. Keys are only ever added within one schema version."""
    processes = [{**_process(p), **_ages(p, snapshot.clock)} for p in snapshot.processes]
    return {**_head(snapshot), "processes": processes}


def _head(snapshot: Snapshot) -> dict[str, Any]:
    """Everything but the processes."""
    state = snapshot.map_state
    return {
        "schema": SCHEMA,
        "time": snapshot.time,
        "duration_seconds": snapshot.duration,
        "version": snapshot.version,
        "kernel": snapshot.kernel,
        "mode": snapshot.mode.value,
        "mode_reason": snapshot.mode_reason,
        "live_awaited": snapshot.live_awaited,
        "asleep": snapshot.asleep,
        "page_size": PAGE_SIZE,
        "host": {
            "mappings": snapshot.mappings,
            "bytes": snapshot.mappings * PAGE_SIZE,
            **_saved(snapshot.saved),
            "bookkeeping_bytes": snapshot.bookkeeping,
            "unnamed_mappings": snapshot.unnamed,
            "unmerge": _need(snapshot.unmerge, snapshot.unmerge.verdict),
            "confidence": snapshot.confidence.value,
            "reason": snapshot.reason,
            "estimated_processes": snapshot.estimated,
            "kernel_mappings": snapshot.kernel_mappings,
            "kernel_lag": snapshot.kernel_lag,
            "kernel_age_seconds": snapshot.kernel_age,
            "meminfo_ksm": [
                {
                    "line": name,
                    "bytes": amount,
                    "lag_bytes": snapshot.mappings * PAGE_SIZE - amount,
                }
                for name, amount in snapshot.ksm_lines.items()
            ],
            "events": None if snapshot.events is None else _events(snapshot.events),
            "run": snapshot.run.run,
            "run_age_seconds": snapshot.run.age,
            "residue": {kind.value: snapshot.residue(kind) for kind in Residue},
        },
        "owners": [_holding(h, snapshot.forecasts[h.owner.key]) for h in snapshot.owners],
        "sources": {
            "ksm": snapshot.numbers.ksm,
            "meminfo": snapshot.numbers.meminfo,
            "vmstat": snapshot.numbers.vmstat,
            "ksmd_cpu_seconds": snapshot.numbers.ksmd_cpu,
            "failures": list(snapshot.numbers.failures),
        },
        "totals": dict(snapshot.totals),
        "losses": dict(snapshot.losses),
        "probes": [
            {
                "event": p.event,
                "mechanism": p.mechanism,
                "symbol": p.symbol,
                "attached": p.attached,
                "missed": p.missed,
            }
            for p in snapshot.probes
        ],
        "audit": None if snapshot.audit is None else asdict(snapshot.audit),
        "reload": asdict(snapshot.reload),
        "map": None
        if state is None
        else {
            "accounts": state.accounts,
            "limit": state.limit,
            "memory_bytes": state.memory,
            "kept": state.kept,
            "adopted": state.adopted,
        },
    }
