"""Forks and movements by looking at everything: what the code by difference is compared with."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from ksmwatch.owners.rollup import AccountKey, Moves, OwnerKey
from ksmwatch.owners.savings import Relative, Who, forked, lost_by


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
            if known[1] >= 0 and since >= 0 and (sure := forked(child) - since) > 0:
                kin[who] = min(sure, parent.mappings)
        self._gone, self._before, self._at = lost, before, now
        return kin


class PlainTurnover:
    """As rollup.Turnover, told of all accounts each time."""

    def __init__(self) -> None:
        self._seen: dict[AccountKey, Moves] = {}
        self._totals: dict[OwnerKey, Moves] = {}

    def see(
        self, accounts: Iterable[tuple[AccountKey, OwnerKey, Moves]]
    ) -> Mapping[OwnerKey, Moves]:
        """Look at all accounts."""
        seen: dict[AccountKey, Moves] = {}
        totals: dict[OwnerKey, Moves] = {}
        for account, key, moves in accounts:
            before = self._seen.get(account, (0,) * len(moves))
            sums = totals.get(key) or self._totals.get(key) or (0,) * len(moves)
            totals[key] = tuple(s + m - b for s, m, b in zip(sums, moves, before, strict=True))
            seen[account] = moves
        self._seen, self._totals = seen, totals
        return totals
