"""What `top` keeps of one snapshot document: frozen, and quick to sort. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

ProcessKey = tuple[int, int]


class Owner(NamedTuple):
    """Whose process it is. `unit` and `uid` are None where the document does not say.

    `more`: what else is known, for people. `words`: every text, small, to be searched.
    """

    kind: str
    name: str
    id: str
    unit: str | None
    uid: int | None
    more: Mapping[str, str]
    words: str


class Process(NamedTuple):
    """One process of the document. Counts are in pages, None where unknown.

    `key` names it for ever. `movements`: totals by reason, empty when polling. `kernel`: the
    kernel's own count.
    """

    key: ProcessKey
    pid: int
    start_time: int
    ppid: int | None
    name: str
    comm: str
    owner: Owner
    mappings: int
    kernel: int | None
    lag: int | None
    stray: int | None
    exact: bool
    residue: str
    read_age: float | None
    movements: Mapping[str, int]
    areas: tuple[Mapping[str, Any], ...]

    @property
    def kind(self) -> str:
        """Of its owner."""
        return self.owner.kind


@dataclass(frozen=True)
class Sample:
    """A document, and its processes. Nobody changes the document any more."""

    document: Mapping[str, Any]
    processes: tuple[Process, ...]

    @property
    def time(self) -> float:
        """When it was taken, in seconds since the epoch."""
        return float(self.document["time"])

    @property
    def page_size(self) -> int:
        """In bytes."""
        return int(self.document["page_size"])

    @cached_property
    def by_key(self) -> Mapping[ProcessKey, Process]:
        """The processes by what names them."""
        return {p.key: p for p in self.processes}


def make_sample(document: Mapping[str, Any]) -> Sample:
    """A sample from a snapshot document. Raises KeyError or TypeError when it is not one."""
    owners: dict[tuple[str, str], Owner] = {}
    return Sample(document, tuple(_process(p, owners) for p in document["processes"]))


def _process(p: Mapping[str, Any], owners: dict[tuple[str, str], Owner]) -> Process:
    comm = p["comm"]
    # Added to the schema later than the rest: an older daemon does not send them.
    owner = p.get("owner")
    whose = (owner["kind"], owner["id"]) if owner else ("command", comm)
    known = owners.get(whose)
    if known is None:
        known = owners[whose] = _owner(owner, comm)
    pid, start_time = p["pid"], p["start_time"]
    return Process(
        (pid, start_time),
        pid,
        start_time,
        p.get("ppid"),
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
        p["movements"],
        tuple(p["stray_areas"]),
    )


_MORE = ("manager", "uuid", "pod", "qos", "container", "slice")


def _owner(owner: Mapping[str, Any] | None, comm: str) -> Owner:
    if owner is None:
        owner = {"kind": "command", "name": comm, "id": comm}
    more = {key: owner[key] for key in _MORE if owner.get(key)}
    if owner.get("claimed"):
        more["claimed"] = "by itself"
    kind, name, ident, unit = owner["kind"], owner["name"], owner["id"], owner.get("unit")
    words = "\n".join((kind, name, ident, unit or "", *more.values())).casefold()
    return Owner(kind, name, ident, unit, owner.get("uid"), more, words)
