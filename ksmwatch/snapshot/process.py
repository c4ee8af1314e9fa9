"""One process in a snapshot: its count, confidence and owner. Frozen."""

from __future__ import annotations

import json
from enum import StrEnum
from functools import cached_property
from typing import Annotated, NamedTuple, TypedDict

from ksmwatch.counting.residue import Residue
from ksmwatch.kernel.areas import Area, AreaDocument, area_document
from ksmwatch.owners.owner import Owner, OwnerDocument, owner_document
from ksmwatch.owners.rollup import BothCounts
from ksmwatch.owners.savings import Family
from ksmwatch.owners.spread import NOWHERE, Nodes, Spread, spread_of
from ksmwatch.probes.map_records import Movement
from ksmwatch.schema_marks import Keys

# Limit for one process in the document; all of them count in stray_mappings.
_MAX_AREAS = 32


class Confidence(StrEnum):
    """EXACT: equal to the page tables. ESTIMATED: may differ. UNKNOWN: events were lost."""

    EXACT = "exact"
    ESTIMATED = "estimated"
    UNKNOWN = "unknown"


class ProcessFacts(NamedTuple):
    """What is known of one process that has or had KSM mappings.

    `start_time` is field 22 of /proc/PID/stat, in clock ticks since boot. With the pid, it
    identifies a process for ever, whatever the wall clock does. `kernel_merging_pages` is ksmd's
    own number, None if unreadable. `zero_pages`: PTEs in which KSM placed the zero page (since
    6.6), None if unreadable. `cgroup`: its path in the unified hierarchy, unchanged, None if there
    is none. `read_at`: when it was last read exactly, None if never. `kernel_at`: when the
    kernel's numbers were read. Both are on the monotonic clock. `nodes`: mappings by node of
    memory, None if unknown or if there is one node. `home`: its own node, None if unknown.
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
    # What fork keeps and exec changes, see savings; None if unknown.
    family: Family | None = None
    nodes: Nodes | None = None
    home: int | None = None


class Process(BothCounts, ProcessFacts):
    """One process. A tuple, because there are many, and Python makes tuples fastest."""

    @property
    def spread(self) -> Spread:
        """On which nodes of memory its mappings lie."""
        return NOWHERE if self.nodes is None else spread_of(self.nodes, self.home)

    @property
    def remote(self) -> int | None:
        """Mappings of pages on other nodes of memory than its own; None if that is not known."""
        return None if self.nodes is None or self.home is None else self.spread.remote

    @property
    def stray_mappings(self) -> int | None:
        """KSM mappings in areas that are not mergeable; None until areas have been read."""
        if not self.stray:
            return None if self.stray is None else 0
        return sum(area.mappings for area in self.stray)

    @cached_property
    def json(self) -> str:
        """The part of the document that is stable while this process does not change, unclosed."""
        return json.dumps(process_document(self))[:-1]


_MOVEMENTS = tuple(which.name.lower() for which in Movement)
# Empty if events are not seen.
MovementsDocument = Annotated[dict[str, int], Keys(_MOVEMENTS, all=False)]


class ProcessDocument(TypedDict):
    """What `process_document` makes."""

    pid: int
    start_time: int
    ppid: int
    comm: str
    name: str
    owner: OwnerDocument
    mappings: int
    bytes: int
    confidence: Confidence
    movements: MovementsDocument
    kernel_merging_pages: int | None
    kernel_lag: int | None
    zero_pages: int | None
    residue: Residue
    stray_mappings: int | None
    stray_areas: list[AreaDocument]
    nodes: dict[str, int] | None
    home_node: int | None
    remote_mappings: int | None


def movements_document(moves: tuple[int, ...]) -> dict[str, int]:
    """Movements by name, for JSON."""
    return dict(zip(_MOVEMENTS, moves, strict=False))


def nodes_document(nodes: Nodes) -> dict[str, int]:
    """Mappings by node of memory, for JSON; only nodes with any."""
    return {str(node): number for node, number in enumerate(nodes) if number}


def process_document(process: Process) -> ProcessDocument:
    """Everything except ages: what stays until something happens to the process."""
    return {
        "pid": process.pid,
        "start_time": process.start_time,
        "ppid": process.ppid,
        "comm": process.comm,
        "name": process.name,
        "owner": owner_document(process.owner),
        "mappings": process.mappings,
        "bytes": process.bytes,
        "confidence": process.confidence,
        "movements": movements_document(process.movements),
        "kernel_merging_pages": process.kernel_merging_pages,
        "kernel_lag": process.kernel_lag,
        "zero_pages": process.zero_pages,
        "residue": process.residue,
        "stray_mappings": process.stray_mappings,
        "stray_areas": [area_document(area) for area in (process.stray or ())[:_MAX_AREAS]],
        "nodes": None if process.nodes is None else nodes_document(process.nodes),
        "home_node": process.home,
        "remote_mappings": process.remote,
    }
