"""Samples of the metrics by owner. What has not changed is not made again. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import chain
from typing import Any, NamedTuple

from ksmwatch.export.metric_family import LabelledValue, Samples
from ksmwatch.owners.rollup import Holding, OwnerKey, split
from ksmwatch.owners.spread import Spread
from ksmwatch.probes.map_records import ARRIVALS, DEPARTURES, Movement
from ksmwatch.snapshot.model import Snapshot
from ksmwatch.snapshot.unmerge_forecast import Limit

_REASONS = {which: which.name.lower() for which in Movement}
_Labels = tuple[str, ...]


def reasons(moves: Any, which: tuple[Movement, ...], labels: _Labels = ()) -> list[LabelledValue]:
    """Movements by reason."""
    return [((*labels, _REASONS[m]), moves[m]) for m in which]


def by_node(
    s: Snapshot, spread: Spread, mappings: int, labels: _Labels = ()
) -> Iterator[LabelledValue]:
    """Mappings by node of memory, and those of which that is not known."""
    known = s.by_node(spread)
    for node, number in known.items():
        yield (*labels, str(node)), number
    yield (*labels, "unknown"), mappings - sum(known.values())


# An owner and the row of all others have the gauges. An owner also has a forecast, the age of its
# mappings, and a counter for each movement.
OWNER_GAUGES = 9
OWNER_SERIES = OWNER_GAUGES + 5 + len(Movement)


# On a host with several nodes of memory, besides one for each: unknown nodes, and remote mappings.
OWNER_NODE_SERIES = 2


def owner_series(top: int, nodes: int = 0) -> int:
    """The highest possible number of series by owner. `nodes`: of memory, 0 if there is one."""
    by_node = nodes + OWNER_NODE_SERIES if nodes else 0
    return top * (OWNER_SERIES + by_node) + OWNER_GAUGES + by_node if top else 0


# The row of all others; nothing says how its mappings move, or what unmerging would need.
_OTHER = ("other", "other", "other")

# An owner's part of the host's saving changes with that, and so for all owners at once. In the
# order of Bounds.
_SAVINGS = ("ksmwatch_owner_saved_bytes", "ksmwatch_owner_saved_at_most_bytes")
_GAUGES: dict[str, Callable[[Holding], float | None]] = {
    "ksmwatch_owner_mappings": lambda h: h.mappings,
    "ksmwatch_owner_mapped_bytes": lambda h: h.bytes,
    "ksmwatch_owner_kernel_merging_pages": lambda h: h.kernel_merging_pages,
    "ksmwatch_owner_stray_mappings": lambda h: h.stray_mappings,
    "ksmwatch_owner_zero_pages": lambda h: h.zero_pages,
    "ksmwatch_owner_median_age_seconds": lambda h: h.wear and h.wear.median,
    "ksmwatch_owner_wasted_ratio": lambda h: h.wear and h.wear.wasted_share,
}
_OTHERS = (
    *("ksmwatch_owner_processes", "ksmwatch_owner_node_mappings", "ksmwatch_owner_remote_mappings"),
    *("ksmwatch_owner_unmerge_needed_bytes", "ksmwatch_owner_limit_left_bytes"),
    *("ksmwatch_owner_arrivals", "ksmwatch_owner_departures"),
)
_FAMILIES = (*_GAUGES, *_OTHERS)
_SAVED = Holding._fields.index("saved")


def _of_facts(
    s: Snapshot, labels: _Labels, h: Holding, limit: Limit | None
) -> list[list[LabelledValue]]:
    """Samples by family, in the order of _FAMILIES."""
    gauges = [of(h) for of in _GAUGES.values()]
    processes = {"exact": h.processes - h.estimated, "estimated": h.estimated}
    nodes = list(by_node(s, h.spread, h.mappings, labels)) if s.counted_nodes else []
    remote = h.remote if s.counted_nodes else None
    needed: dict[str, int | None] = {}
    if labels is not _OTHER:
        need = s.need_of(h)
        needed = {"least": need.at_least, "most": need.at_most}
    moves = h.movements
    return [
        *([] if value is None else [(labels, value)] for value in gauges),
        [((*labels, confidence), number) for confidence, number in processes.items()],
        nodes,
        [] if remote is None else [(labels, remote)],
        [((*labels, bound), amount) for bound, amount in needed.items() if amount is not None],
        [] if limit is None else [(labels, limit.left)],
        reasons(moves, ARRIVALS, labels) if moves else [],
        reasons(moves, DEPARTURES, labels) if moves else [],
    ]


class _Row(NamedTuple):
    """Samples of one owner, but for those in _SAVINGS, and what they were made of."""

    holding: Holding
    limit: Limit | None
    labels: _Labels
    samples: list[list[LabelledValue]]


class OwnerSeries:
    """Samples by owner. They are the same objects if nothing that they show has changed."""

    def __init__(self) -> None:
        # What they were made of.
        self._shown: tuple[object, ...] = ()
        self._sources: tuple[object, ...] = ()
        # By owner; None: all others.
        self._rows: dict[OwnerKey | None, _Row] = {}
        self._samples: dict[str, list[LabelledValue]] = {
            name: [] for name in (*_SAVINGS, *_FAMILIES)
        }

    def of(self, s: Snapshot, top: int) -> Samples:
        """Those of the largest owners, and of all others together.

        Owners are in the order of their keys, which stays, unlike that of their mappings.
        """
        # On which those of every owner depend.
        sources = s.host_sources, s.counted_nodes
        # Unchanged sums and movements are the same objects.
        shown = top, s.sums, s.moved, s.rooms, sources
        if shown != self._shown:
            if sources != self._sources:
                self._rows = {}
            self._update(s, top)
        self._shown, self._sources = shown, sources
        return list(self._samples.items())

    def _update(self, s: Snapshot, top: int) -> None:
        largest, other = split(s.owners, top)
        shown: dict[OwnerKey | None, Holding] = {}
        for h in sorted(largest, key=lambda h: h.owner.key):
            shown[h.owner.key] = h
        if other is not None:
            shown[None] = other
        before = self._rows
        self._rows = {key: _row(s, key, h, before.get(key)) for key, h in shown.items()}
        self._take_savings(shown)
        for place in self._changed(before):
            of_owners = [row.samples[place] for row in self._rows.values()]
            self._samples[_FAMILIES[place]] = list(chain.from_iterable(of_owners))

    def _take_savings(self, shown: Mapping[OwnerKey | None, Holding]) -> None:
        parts = [(self._rows[key].labels, h.saved) for key, h in shown.items() if h.saved]
        for place, name in enumerate(_SAVINGS):
            found: list[LabelledValue] = [(labels, saved[place]) for labels, saved in parts]
            if found != self._samples[name]:
                self._samples[name] = found

    def _changed(self, before: Mapping[OwnerKey | None, _Row]) -> Iterable[int]:
        """Families of which an owner has other samples than before, by their places."""
        if list(before) != list(self._rows):
            return range(len(_FAMILIES))
        return {
            place
            for known, row in zip(before.values(), self._rows.values(), strict=True)
            if known is not row
            for place, (then, now) in enumerate(zip(known.samples, row.samples, strict=True))
            if then != now
        }


def _row(s: Snapshot, key: OwnerKey | None, h: Holding, known: _Row | None) -> _Row:
    """The samples of an owner: `known`, if they are the same."""
    limit = None if key is None else s.limits.get(key)
    if known is not None and known.limit == limit and _differ_by_saved(known.holding, h):
        return known
    labels = _OTHER if key is None else (h.owner.kind.value, h.owner.name, h.owner.id)
    return _Row(h, limit, labels, _of_facts(s, labels, h, limit))


def _differ_by_saved(a: Holding, b: Holding) -> bool:
    """Whether they differ by what the owner saves at most."""
    return a[:_SAVED] == b[:_SAVED] and a[_SAVED + 1 :] == b[_SAVED + 1 :]
