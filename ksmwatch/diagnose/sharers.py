"""Judges who shares KSM pages with whom, from page tables. Pure.

A *party* is an owner, or the one process that the user asked about. Two parties have a page in
common if both map it. Whether that crosses a border between tenants depends on who they are, not on
how many pages they share: one page is enough to learn whether the other has its content.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from itertools import combinations
from typing import Literal

# A label, and a pattern of KIND:ID.
Label = tuple[str, str]


@dataclass(frozen=True)
class Party:
    """An owner, or one of its processes (`pid`). `tenant`: equal within a border.

    `counted`: its KSM mappings by the live count.
    """

    kind: str
    id: str
    name: str
    tenant: str
    counted: int
    pid: int | None = None


def tenant_of(kind: str, owner_id: str, labels: Iterable[Label]) -> str:
    """The label of the first pattern that matches `KIND:ID`; else the owner is its own tenant.

    Names are not used, because a process may choose its own.
    """
    key = f"{kind}:{owner_id}"
    # A label cannot contain a colon, so no label can be mistaken for an owner.
    return next((label for label, pattern in labels if fnmatchcase(key, pattern)), key)


class Sharing:
    """Which parties map which KSM pages, by page frame. A few hundred bytes per distinct page."""

    def __init__(self) -> None:
        # One bit for each party. Equal numbers are one object.
        self._parties: dict[int, int] = {}
        self._known: dict[int, int] = {}
        self._mappings: Counter[int] = Counter()
        # PTEs of each page frame, of all parties together.
        self._ptes: Counter[int] = Counter()

    def add(self, party: int, frames: Mapping[int, int]) -> None:
        """A party maps these frames, this many times each."""
        bit, parties, known = 1 << party, self._parties, self._known
        for frame in frames:
            mask = parties.get(frame, 0) | bit
            parties[frame] = known.setdefault(mask, mask)
        self._mappings[party] += sum(frames.values())
        self._ptes.update(frames)

    def mappings(self, party: int) -> int:
        """The KSM mappings found for a party."""
        return self._mappings[party]

    def distinct(self) -> int:
        """KSM pages that any party maps."""
        return len(self._parties)

    def sharers(self) -> dict[int, int]:
        """KSM pages by how many PTEs map them: one, two, up to four, up to eight, and so on."""
        return dict(sorted(Counter(map(_power_of_two, self._ptes.values())).items()))

    def sets(self) -> Counter[tuple[int, ...]]:
        """The number of pages of each set of parties, for the sets that have any."""
        counts = Counter(self._parties.values())
        return Counter({tuple(_members(mask)): pages for mask, pages in counts.items()})


def _power_of_two(number: int) -> int:
    """The lowest that is not less."""
    return 1 << (number - 1).bit_length()


def _members(mask: int) -> Iterator[int]:
    while mask:
        lowest = mask & -mask
        yield lowest.bit_length() - 1
        mask ^= lowest


@dataclass(frozen=True)
class Share:
    """The pages of one party: `mappings` PTEs of `pages` KSM pages, `alone` mapped only by it."""

    party: Party
    mappings: int
    pages: int
    alone: int


@dataclass(frozen=True)
class Pair:
    """KSM pages that two parties have in common. `crosses`: a border between tenants."""

    first: Share
    second: Share
    pages: int

    @property
    def crosses(self) -> bool:
        """Whether they are different tenants."""
        return self.first.party.tenant != self.second.party.tenant


@dataclass(frozen=True)
class Cost:
    """The cost of the scan. `pages`: page-table entries read."""

    processes: int
    pages: int
    seconds: float
    cpu_seconds: float


@dataclass(frozen=True)
class Result:
    """Who shares with whom. `by`: the source that distinguished KSM pages from others.

    `sharers`: pages by how many PTEs map them, up to a power of two. Those with one PTE have lost
    all others, and save nothing.
    `doubts`: why the result is only estimated; empty if it is exact.
    """

    by: str
    shares: tuple[Share, ...]
    pairs: tuple[Pair, ...]
    distinct: int
    sharers: Mapping[int, int]
    counted: int
    doubts: tuple[str, ...]
    cost: Cost

    @property
    def mappings(self) -> int:
        """KSM mappings found."""
        return sum(share.mappings for share in self.shares)

    @property
    def confidence(self) -> Literal["exact", "estimated"]:
        """Exact or estimated."""
        return "estimated" if self.doubts else "exact"

    def of(self, party: Party) -> tuple[Share, list[tuple[Share, Pair]]]:
        """The pages of a party, and its pairs with the pages in common."""
        (mine,) = (share for share in self.shares if share.party == party)
        common = [
            (pair.second if pair.first is mine else pair.first, pair)
            for pair in self.pairs
            if mine in (pair.first, pair.second)
        ]
        return mine, common


def judge(
    parties: Sequence[Party], sharing: Sharing, by: str, doubts: Iterable[str], cost: Cost
) -> Result:
    """The parties with the most pages first, and the pairs with the most in common first."""
    pages: Counter[int] = Counter()
    alone: Counter[int] = Counter()
    common: Counter[tuple[int, int]] = Counter()
    for members, amount in sharing.sets().items():
        for member in members:
            pages[member] += amount
        if len(members) == 1:
            alone[members[0]] += amount
        for pair in combinations(members, 2):
            common[pair] += amount
    shares = [
        Share(party, sharing.mappings(at), pages[at], alone[at]) for at, party in enumerate(parties)
    ]
    pairs = [Pair(shares[a], shares[b], amount) for (a, b), amount in common.items()]
    return Result(
        by,
        tuple(sorted(shares, key=lambda s: (-s.pages, s.party.kind, s.party.id))),
        tuple(sorted(pairs, key=lambda p: (-p.pages, p.first.party.id, p.second.party.id))),
        sharing.distinct(),
        sharing.sharers(),
        sum(party.counted for party in parties),
        tuple(doubts),
        cost,
    )
