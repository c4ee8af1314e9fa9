"""Sums, forks and movements by looking at everything: what quicker code is compared with."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence

from ksmwatch.counting.residue import Residue
from ksmwatch.owners import savings
from ksmwatch.owners.rollup import (
    EXACT,
    AccountKey,
    AccountMoves,
    Addend,
    Moves,
    OwnerCgroup,
    OwnerKey,
    OwnerSums,
    common,
    total,
)
from ksmwatch.owners.savings import Relative, Who
from ksmwatch.owners.spread import spread_of, together
from ksmwatch.owners.sums import Charge, ProcessSums
from ksmwatch.probes.map_records import ARRIVALS, DEPARTURES, Movement


def plain_full(processes: Iterable[Addend], kin: Mapping[Who, int]) -> ProcessSums:
    """As sums.full, by a sum for each number."""
    everybody = list(processes)
    groups: dict[OwnerKey, list[Addend]] = defaultdict(list)
    residues, pages, sharers = Counter[Residue](), Counter[OwnerCgroup](), Counter[OwnerCgroup]()
    for each in everybody:
        groups[each.owner.key].append(each)
        residues[each.residue] += each.mappings
        place = each.owner.key, each.cgroup
        pages[place] += each.mappings + (each.zero_pages or 0)
        sharers[place] += _shares(each)
    return ProcessSums(
        mappings=sum(each.mappings for each in everybody),
        estimated=sum(each.confidence != EXACT for each in everybody),
        zero_pages=sum(each.zero_pages or 0 for each in everybody),
        need=savings.pages_without_ksm(everybody, kin),
        residues={which: residues[which] for which in Residue},
        owners={key: _owner_sums(group, kin) for key, group in groups.items()},
        charges={place: Charge(pages[place], sharers[place]) for place in pages},
    )


def _shares(process: Addend) -> bool:
    return bool(process.mappings or process.zero_pages)


def _owner_sums(group: list[Addend], kin: Mapping[Who, int]) -> OwnerSums:
    return OwnerSums(
        owner=common([m.owner for m in group]),
        processes=len(group),
        estimated=sum(m.confidence != EXACT for m in group),
        mappings=sum(m.mappings for m in group),
        need=savings.pages_without_ksm(group, kin),
        kernel_merging_pages=total(m.kernel_merging_pages for m in group),
        stray_mappings=total(_stray(m) for m in group),
        zero_pages=total(m.zero_pages for m in group),
        spread=together(spread_of(m.nodes, m.home) for m in group),
    )


def _stray(process: Addend) -> int | None:
    return None if process.stray is None else sum(area.mappings for area in process.stray)


def lost_by(process: Relative) -> int:
    """As savings.lost_by."""
    if not process.movements:
        return 0
    arrived = sum(process.movements[which] for which in ARRIVALS)
    departed = sum(process.movements[which] for which in DEPARTURES)
    return max(departed, arrived - process.mappings)


def forked(process: Relative) -> int:
    """Mappings that came by fork and certainly still exist: f."""
    moves = process.movements
    return max(0, moves[Movement.FORKED] - lost_by(process)) if moves else 0


class PlainForks:
    """As savings.Forks, without remembering what has not changed."""

    def __init__(self) -> None:
        self._gone: dict[Who, int] = {}
        self._at = 0
        self._before: dict[Who, tuple[Who, int]] = {}

    def see(self, processes: Sequence[Relative], now: int) -> Mapping[Who, int]:
        """All current processes."""
        parents = {p.pid: p for p in processes}
        lost = {(p.pid, p.start_time): lost_by(p) for p in processes}
        before: dict[Who, tuple[Who, int]] = {}
        kin: dict[Who, int] = {}
        for child in processes:
            parent = parents.get(child.ppid)
            if parent is None or parent is child or parent.family is None:
                continue
            if parent.family != child.family or parent.start_time > child.start_time:
                continue
            who, whose = (child.pid, child.start_time), (parent.pid, parent.start_time)
            known = self._before.get(who)
            if known is None or known[0] != whose:
                began = self._gone.get(whose, 0) if child.start_time > self._at else 0
                known = whose, began if known is None else -1
            before[who] = known
            since = lost[whose] - known[1]
            sure = min(forked(child) - since, parent.mappings)
            if known[1] >= 0 and since >= 0 and sure > 0:
                kin[who] = sure
        self._gone, self._before, self._at = lost, before, now
        return kin


class PlainTurnover:
    """As rollup.Turnover, told of all accounts each time."""

    def __init__(self) -> None:
        self._seen: dict[AccountKey, Moves] = {}
        self._totals: dict[OwnerKey, Moves] = {}

    def see(self, accounts: Iterable[AccountMoves]) -> Mapping[OwnerKey, Moves]:
        """Look at all accounts."""
        seen: dict[AccountKey, Moves] = {}
        totals: dict[OwnerKey, Moves] = {}
        for account, key, only_moves, wear in accounts:
            moves = only_moves + wear
            before = self._seen.get(account, (0,) * len(moves))
            sums = totals.get(key) or self._totals.get(key) or (0,) * len(moves)
            totals[key] = tuple(s + m - b for s, m, b in zip(sums, moves, before, strict=True))
            seen[account] = moves
        self._seen, self._totals = seen, totals
        return totals
