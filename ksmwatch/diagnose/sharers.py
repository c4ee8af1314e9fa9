"""Who shares KSM pages with whom: judgement on what was read of page tables. Pure.

A *party* is an owner, or the one process that was asked about. Two parties have a page in common
when both map it. Whether that crosses a border between tenants is a matter of who they are, not
of how many pages: a single one is enough to learn whether the other has its content.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from itertools import combinations
from typing import Literal

# Label and pattern of KIND:ID.
Label = tuple[str, str]


@dataclass(frozen=True)
class Party:
    """An owner, or one process of it (`pid`). `tenant`: equal within a border.

    `counted`: its KSM mappings by the live count.
    """

    kind: str
    id: str
    name: str
    tenant: str
    counted: int
    pid: int | None = None


def tenant_of(kind: str, owner_id: str, labels: Iterable[Label]) -> str:
    """The label of the first pattern that matches `KIND:ID`; without one the owner is by itself.

    Never by name, which may be the word of a process.
    """
    key = f"{kind}:{owner_id}"
    # A label cannot contain a colon, so no label is taken for an owner.
    return next((label for label, pattern in labels if fnmatchcase(key, pattern)), key)


class Sharing:
    """Which parties map which KSM pages, by page frame. A few hundred bytes per distinct page."""

    def __init__(self) -> None:
        # A bit for each party. Equal numbers are one object.
        self._parties: dict[int, int] = {}
        self._known: dict[int, int] = {}
        self._mappings: Counter[int] = Counter()

    def add(self, party: int, frames: Mapping[int, int]) -> None:
        """A party maps these frames, each so often."""
        bit, parties, known = 1 << party, self._parties, self._known
        for frame in frames:
            mask = parties.get(frame, 0) | bit
            parties[frame] = known.setdefault(mask, mask)
        self._mappings[party] += sum(frames.values())

    def mappings(self, party: int) -> int:
        """KSM mappings of a party that were found."""
        return self._mappings[party]

    def distinct(self) -> int:
        """KSM pages that any party maps."""
        return len(self._parties)

    def sets(self) -> Counter[tuple[int, ...]]:
        """How many pages each set of parties has, of those sets that have any."""
        counts = Counter(self._parties.values())
        return Counter({tuple(_members(mask)): pages for mask, pages in counts.items()})


def _members(mask: int) -> Iterator[int]:
    while mask:
        lowest = mask & -mask
        yield lowest.bit_length() - 1
        mask ^= lowest


@dataclass(frozen=True)
class Share:
    """What one party maps, in pages: `mappings` PTEs, of `pages` KSM pages, `alone` only by it."""

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
    """What the reading took. `pages`: entries of page tables that were looked at."""

    processes: int
    pages: int
    seconds: float
    cpu_seconds: float


@dataclass(frozen=True)
class Result:
    """Who shares with whom. `by`: what told KSM pages from others.

    `doubts`: why it is no more than estimated; empty when it is exact.
    """

    by: str
    shares: tuple[Share, ...]
    pairs: tuple[Pair, ...]
    distinct: int
    counted: int
    doubts: tuple[str, ...]
    cost: Cost

    @property
    def mappings(self) -> int:
        """KSM mappings that were found."""
        return sum(share.mappings for share in self.shares)

    @property
    def confidence(self) -> Literal["exact", "estimated"]:
        """Exact or estimated."""
        return "estimated" if self.doubts else "exact"

    def of(self, party: Party) -> tuple[Share, list[tuple[Share, Pair]]]:
        """What a party maps, and with whom it has how much in common."""
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
    """The parties with most pages first, and pairs with most in common first."""
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
        sum(party.counted for party in parties),
        tuple(doubts),
        cost,
    )


def find(parties: Sequence[Party], wanted: str) -> list[Party]:
    """Owners with this id or name, or `KIND:ID`, which is unambiguous."""
    exact = [p for p in parties if f"{p.kind}:{p.id}" == wanted]
    return exact or [p for p in parties if wanted in (p.id, p.name)]
