"""From raw accounts to counts. Pure: no files, clocks or kernel."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from operator import add
from typing import Any, Generic, NamedTuple, TypeVar

from ksmwatch.differences import Edition, differences
from ksmwatch.probes.map_records import Account, Baseline, Conversion, Migrations, wear_of

# USER_HZ: /proc/PID/stat gives start times in ticks of this size on every architecture.
NANOSECONDS_PER_TICK = 10_000_000


class Count(NamedTuple):
    """The number of KSM mappings of one mm, in pages, and whether it is certainly right.

    `account` distinguishes two mms that used the same address one after the other. `wear`: see
    ages.Wear, as numbers in a row. `nodes`: by number of the node of memory; None if that is not
    known.
    """

    mm: int
    account: int
    pid: int
    start_ticks: int
    mappings: int
    exact: bool
    moves: tuple[int, ...]
    wear: tuple[int, ...] = ()
    nodes: tuple[int, ...] | None = None


# In place of a number of doubts: no read of nodes is valid any more.
_NEVER = (1 << 64) - 1
_Found = TypeVar("_Found")


def _nodes(account: Account, baseline: Baseline | None, mappings: int) -> tuple[int, ...] | None:
    """Mappings by node: known from the beginning of the account, or from a read of nodes, on.

    They must add up to `mappings`. In a copy of an account that is being changed they may not, or
    if a page lies on a node that has come later.
    """
    found, settled = account.nodes, 0
    if baseline is not None and baseline.id == account.id:
        found, settled = tuple(map(add, account.nodes, baseline.nodes)), baseline.node_doubts
    right = settled == account.doubts and sum(found) == mappings and min(found) >= 0
    return found if right else None


_make: Callable[[tuple[Any, ...]], Count] = partial(tuple.__new__, Count)


def count(mm: int, account: Account, baseline: Baseline | None) -> Count:
    """The count of one account. Exact means: no doubtful event since the last exact read."""
    number, moves, doubts, began, pid, wear, nodes, _, _ = account
    # Mappings when the account was opened, and doubts that an exact read has settled.
    base = settled = 0
    if baseline is not None and baseline.id == number:
        _, base, settled, _, _ = baseline
    # As in `Account.net`.
    merged, converted, other, forked, copied, unmapped, exited = moves
    mappings = base + merged + converted + other + forked - copied - unmapped - exited
    # With names it would take four times as long.
    return _make(
        (
            mm,
            number,
            pid,
            began // NANOSECONDS_PER_TICK,
            mappings,
            settled == doubts,
            moves,
            wear_of(wear),
            _nodes(account, baseline, mappings) if nodes else None,
        )
    )


class Ledger:
    """Counts of all accounts. Unchanged accounts are not counted again."""

    def __init__(self) -> None:
        self._accounts: Mapping[int, Account] = {}
        self._baselines: Mapping[int, Baseline] = {}
        self._known: Edition[int, Count] = Edition()
        self._counts: list[Count] = []

    def counts(
        self, accounts: Mapping[int, Account], baselines: Mapping[int, Baseline]
    ) -> list[Count]:
        """The counts of all accounts.

        The same account and baseline objects give the same count, and if all are the same, the
        same list.
        """
        of_accounts = differences(self._accounts, accounts)
        of_baselines = differences(self._baselines, baselines)
        self._accounts, self._baselines = accounts, baselines
        changed = of_accounts.changed | of_baselines.changed | of_baselines.gone
        if changed or of_accounts.gone:
            recounted = {
                mm: count(mm, accounts[mm], baselines.get(mm)) for mm in changed if mm in accounts
            }
            self._known = self._known.revised(recounted, of_accounts.gone)
            self._counts = list(self._known.values())
        return self._counts


def settle(account: Account, mappings: int, before: Baseline | None = None) -> Baseline:
    """The baseline with which `account` counts `mappings`, and that settles its doubts so far.

    Nodes stay known only if they were, and add up to `mappings`: `before` is the last baseline.
    """
    settled = Baseline(account.id, mappings - account.net, account.doubts)
    if not account.nodes:
        return settled
    nothing = (0,) * len(account.nodes)
    known = _nodes(account, before, mappings) if mappings else nothing
    return settle_nodes(account, settled, known)


def settle_nodes(
    account: Account, baseline: Baseline | None, nodes: tuple[int, ...] | None
) -> Baseline:
    """The same baseline, with which `account` counts these mappings by node; None: not known."""
    if baseline is None or baseline.id != account.id:
        baseline = Baseline(account.id, 0, 0)
    if nodes is None:
        return baseline._replace(node_doubts=_NEVER, nodes=(0,) * len(account.nodes))
    base = tuple(found - moved for found, moved in zip(nodes, account.nodes, strict=True))
    return baseline._replace(node_doubts=account.doubts, nodes=base)


def nothing_moved(before: Migrations, after: Migrations, missed_ends: int = 0) -> bool:
    """Whether no KSM page was being migrated between these two moments."""
    return before.begun - before.ended == missed_ends and before.begun == after.begun


def stood_still(before: Account | None, after: Account | None) -> bool:
    """Whether a read bracketed by these two is the truth at that moment.

    No event may have come in between. This alone is not sufficient: see `disturbs`.
    """
    if before is None or after is None:
        return before is None and after is None
    return before.id == after.id and before.sequence == after.sequence


def uncounted(conversion: Conversion, mm: int) -> bool:
    """Whether a PTE of the mm may have turned that this conversion has not counted yet.

    If the programs have missed its beginning, it is unknown whose pages it turns.
    """
    return conversion.in_place and (conversion.mm == mm or not conversion.seen)


def disturbs(conversion: Conversion, mm: int) -> bool:
    """Whether a conversion that is under way at the end of a read makes the read untrustworthy.

    If the page is shared, PTEs of any process may turn, which are put in doubt again afterwards.
    Check it between the read and the second look at the account: a conversion that is over by then
    has been counted, or has put the account in doubt.
    """
    return uncounted(conversion, mm) or (conversion.in_place and conversion.shared != 0)


@dataclass(frozen=True, slots=True)
class Bracket(Generic[_Found]):
    """An exact read of an mm and all that must not move meanwhile, in the order of the looks.

    `moved`: PTEs were moved within the mm.
    """

    migrations_before: Migrations
    before: Account | None
    found: _Found
    conversion: Conversion
    after: Account | None
    moved: bool
    migrations_after: Migrations

    def disturbed(self, mm: int, missed_ends: int) -> bool:
        """Whether the result may be no moment's truth. `missed_ends`: of migrations."""
        return (
            disturbs(self.conversion, mm)
            or not stood_still(self.before, self.after)
            or self.moved
            or not nothing_moved(self.migrations_before, self.migrations_after, missed_ends)
        )
