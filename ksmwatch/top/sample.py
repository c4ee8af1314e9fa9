"""What `top` keeps of a snapshot document: frozen, and fast to sort. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple, TypedDict

from ksmwatch.snapshot.document_types import LimitDocument
from ksmwatch.snapshot.unmerge_forecast import Verdict

ProcessKey = tuple[int, int]
SampledOwnerKey = tuple[str, str]


class UnmergeNeed(TypedDict):
    """What unmerging would need. Another host's metrics may not say."""

    at_least_bytes: int | None
    at_most_bytes: int | None
    available_bytes: int | None
    verdict: Verdict


class OwnerUnmergeNeed(UnmergeNeed):
    """What unmerging one owner would need."""

    limit: LimitDocument | None


class SampledOwner(NamedTuple):
    """The owner of a process. `unit` and `uid` are None if the document does not say.

    `more`: other facts, for people. `words`: all texts in lower case, for searches.
    """

    kind: str
    name: str
    id: str
    unit: str | None
    uid: int | None
    more: Mapping[str, str]
    words: str

    @property
    def key(self) -> SampledOwnerKey:
        """Identifies the owner."""
        return self.kind, self.id


class SampledProcess(NamedTuple):
    """One process of the document. Counts are in pages, None if unknown.

    `key` identifies it for ever. `movements`: totals by reason, empty when polling. `kernel`: the
    kernel's own count.
    """

    key: ProcessKey
    pid: int
    start_time: int
    ppid: int | None
    name: str
    comm: str
    owner: SampledOwner
    mappings: int
    kernel: int | None
    lag: int | None
    stray: int | None
    exact: bool
    residue: str
    read_age: float | None
    zeros: int | None
    movements: Mapping[str, int]
    areas: tuple[Mapping[str, Any], ...]
    # Mappings by node of memory, and those on other nodes than the process's own.
    nodes: Mapping[str, int] | None
    remote: int | None

    @property
    def kind(self) -> str:
        return self.owner.kind


class SampledHolding(NamedTuple):
    """What the document says about an owner, including processes that ended or have no name.

    Counts in pages, None if unknown. `unmerge`: the forecast, see docs/snapshot.md.
    """

    owner: SampledOwner
    processes: int
    exact: bool
    mappings: int
    kernel: int | None
    lag: int | None
    stray: int | None
    saved_bytes: int | None
    saved_at_most_bytes: int | None
    zeros: int | None
    movements: Mapping[str, int]
    unmerge: OwnerUnmergeNeed | None
    # How long mappings last until a write; the part of merges that a write undid within one scan.
    median_age: float | None
    wasted: float | None
    # As of a process.
    nodes: Mapping[str, int] | None
    remote: int | None


@dataclass(frozen=True)
class Sample:
    """A document, its processes and owners. Nothing changes the document any more."""

    document: Mapping[str, Any]
    processes: tuple[SampledProcess, ...]
    owners: tuple[SampledHolding, ...]

    @property
    def time(self) -> float:
        """When it was taken, in seconds since the epoch."""
        return float(self.document["time"])

    @property
    def page_size(self) -> int:
        """In bytes."""
        return int(self.document["page_size"])

    @cached_property
    def by_key(self) -> Mapping[ProcessKey, SampledProcess]:
        """The processes by key."""
        return {p.key: p for p in self.processes}

    @cached_property
    def owners_by_key(self) -> Mapping[SampledOwnerKey, SampledHolding]:
        return {h.owner.key: h for h in self.owners}


def make_sample(document: Mapping[str, Any]) -> Sample:
    """A sample from a snapshot document. Raises KeyError or TypeError if it is not one."""
    owners: dict[SampledOwnerKey, SampledOwner] = {}
    processes = tuple(_process(p, owners) for p in document["processes"])
    return Sample(document, processes, tuple(_holding(h) for h in document["owners"]))


def _holding(h: Mapping[str, Any]) -> SampledHolding:
    return SampledHolding(
        _owner(h, ""),
        h["processes"],
        # For mappings without a process, only the owner's existence is known.
        not h["estimated_processes"] and h["kind"] != "unknown",
        h["mappings"],
        h["kernel_merging_pages"],
        h["kernel_lag"],
        h["stray_mappings"],
        h["saved_bytes"],
        # A daemon before 0.1 has one number.
        h.get("saved_at_most_bytes"),
        h["zero_pages"],
        h["movements"],
        h["unmerge"],
        # Earlier daemons, and documents of the past, do not know them.
        h.get("median_age_seconds"),
        h.get("wasted_share"),
        h.get("nodes"),
        h.get("remote_mappings"),
    )


def _process(p: Mapping[str, Any], owners: dict[SampledOwnerKey, SampledOwner]) -> SampledProcess:
    comm = p["comm"]
    # Metrics do not name any.
    owner = p["owner"]
    whose = (owner["kind"], owner["id"]) if owner else ("unknown", comm)
    known = owners.get(whose)
    if known is None:
        known = owners[whose] = _owner(owner, comm)
    pid, start_time = p["pid"], p["start_time"]
    return SampledProcess(
        (pid, start_time),
        pid,
        start_time,
        p["ppid"],
        p["name"],
        comm,
        known,
        p["mappings"],
        p["kernel_merging_pages"],
        p["kernel_lag"],
        p["stray_mappings"],
        p["confidence"] == "exact",
        p["residue"],
        p["last_read_seconds"],
        p["zero_pages"],
        p["movements"],
        tuple(p["stray_areas"]),
        p.get("nodes"),
        p.get("remote_mappings"),
    )


_MORE = ("manager", "uuid", "pod", "qos", "container", "slice")


def _owner(owner: Mapping[str, Any] | None, comm: str) -> SampledOwner:
    if owner is None:
        owner = {"kind": "unknown", "name": comm, "id": comm}
    more = {key: owner[key] for key in _MORE if owner.get(key)}
    if owner.get("claimed"):
        more["claimed"] = "by itself"
    kind, name, ident, unit = owner["kind"], owner["name"], owner["id"], owner.get("unit")
    words = "\n".join((kind, name, ident, unit or "", *more.values())).casefold()
    return SampledOwner(kind, name, ident, unit, owner.get("uid"), more, words)
