"""The keys of the snapshot document, and the types of their values. Pure.

docs/snapshot.md says what they mean. The types of processes, owners and areas are where these
are turned into documents.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypedDict

from ksmwatch.counting.backend_state import AuditState, Mode, ProbeState
from ksmwatch.counting.residue import Residue
from ksmwatch.owners.owner import OwnerDocument
from ksmwatch.probes.map_records import DEPARTURES, Movement, Total
from ksmwatch.schema_marks import Fields, Keys
from ksmwatch.snapshot.history_state import Unwritten
from ksmwatch.snapshot.losses import LOSSES
from ksmwatch.snapshot.model import Reload
from ksmwatch.snapshot.process import Confidence, MovementsDocument, ProcessDocument
from ksmwatch.snapshot.unmerge_forecast import Verdict

_DEPARTURES = tuple(kind.name.lower() for kind in DEPARTURES)
_TOTALS = tuple(kind.name.lower() for kind in (*Movement, *Total))


class SavedDocument(TypedDict):
    """What merging saves, between bounds."""

    saved_bytes: int | None
    saved_at_most_bytes: int | None


class NeedDocument(TypedDict):
    """What unmerging would need."""

    at_least_bytes: int | None
    at_most_bytes: int
    available_bytes: int | None
    verdict: Verdict


class LimitDocument(TypedDict):
    """The cgroup with the least room for it."""

    cgroup: str
    at_most_bytes: int
    left_bytes: int


class OwnerNeedDocument(NeedDocument):
    """What unmerging one owner would need."""

    limit: LimitDocument | None


class WearDocument(TypedDict):
    """How long mappings last until a write."""

    median_age_seconds: float | None
    wasted_share: float | None


class NodesDocument(TypedDict):
    """On which nodes of memory the pages lie; None on a host with one node."""

    nodes: dict[str, int] | None
    mappings_on_unknown_nodes: int | None
    remote_mappings: int | None


class HoldingDocument(OwnerDocument, SavedDocument, WearDocument, NodesDocument):
    """One of `owners`."""

    processes: int
    estimated_processes: int
    mappings: int
    bytes: int
    movements: MovementsDocument
    kernel_merging_pages: int | None
    kernel_lag: int | None
    stray_mappings: int | None
    zero_pages: int | None
    unmerge: OwnerNeedDocument


class AgesDocument(TypedDict):
    """What changes in a process although nothing happens to it."""

    kernel_age_seconds: float
    last_read_seconds: float | None


class ListedProcess(ProcessDocument, AgesDocument):
    """One of `processes`."""


class MeminfoLine(TypedDict):
    """A line of /proc/meminfo about KSM."""

    line: str
    bytes: int
    lag_bytes: int


class EventsDocument(TypedDict):
    """Copies on write and swap-in since the daemon began."""

    cow_attempts: int
    copied: int
    unattributed: int
    unanswered_attempts: int
    swapin_copies: int
    swapins: int


class AgeCountsDocument(TypedDict):
    """Ages of mappings that ended for one reason. `counts`: how many are in each class."""

    counts: list[int]
    seconds: float


class HostAgesDocument(WearDocument):
    """How long mappings last, of a sample."""

    one_in: int
    scan_seconds: float | None
    bounds: list[float]
    reasons: Annotated[dict[str, AgeCountsDocument], Keys(_DEPARTURES, all=True)]
    noted_merges: int
    wasted_merges: int
    unknown: Annotated[dict[str, int], Keys(("unseen", "ambiguous", "moved"), all=True)]


class HostDocument(SavedDocument, NodesDocument):
    mappings: int
    bytes: int
    bookkeeping_bytes: int | None
    unnamed_mappings: int
    unmerge: NeedDocument
    confidence: Confidence
    reason: str | None
    estimated_processes: int
    kernel_mappings: int | None
    kernel_lag: int | None
    kernel_age_seconds: float | None
    meminfo_ksm: list[MeminfoLine]
    events: EventsDocument | None
    ages: HostAgesDocument | None
    ages_reason: str | None
    run: int | None
    run_age_seconds: float
    residue: Annotated[dict[str, int], Keys(tuple(Residue), all=True)]


class SourcesDocument(TypedDict):
    """`sources`, by the kernel's names."""

    ksm: dict[str, int] | None
    meminfo: dict[str, int]
    vmstat: dict[str, int]
    ksmd_cpu_seconds: float | None
    failures: list[str]


class MapDocument(TypedDict):
    accounts: int
    limit: int
    memory_bytes: int
    kept: bool
    adopted: bool
    programs: str


class HistoryDocument(TypedDict):
    """What the daemon has put into the history."""

    written: int
    unwritten: Annotated[dict[str, int], Keys(tuple(Unwritten), all=True)]
    clock_steps: int
    bytes: int | None
    oldest: float | None


class HeadDocument(TypedDict):
    """Everything except the processes."""

    schema: Literal["ksmwatch.snapshot/1"]
    time: float
    duration_seconds: float
    version: str
    kernel: str
    mode: Mode
    mode_reason: str | None
    live_awaited: bool
    asleep: bool
    page_size: int
    host: HostDocument
    owners: list[HoldingDocument]
    sources: SourcesDocument
    totals: Annotated[dict[str, int], Keys(_TOTALS, all=False)]
    losses: Annotated[dict[str, int], Keys(LOSSES, all=True)]
    probes: list[Annotated[dict[str, Any], Fields(ProbeState)]]
    audit: Annotated[dict[str, Any], Fields(AuditState)] | None
    reload: Annotated[dict[str, Any], Fields(Reload)]
    map: MapDocument | None
    history: HistoryDocument | None


class SnapshotDocument(HeadDocument):
    processes: list[ListedProcess]
