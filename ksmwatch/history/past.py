"""Moments as a whole: the host's and each owner's numbers over time. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ksmwatch.history.moment import HostNumbers, OwnerNumbers, seamless

PastKey = tuple[str, str]
Numbers = OwnerNumbers | HostNumbers
# Of movements, in the order of the last numbers.
REASONS = ("merged", "converted", "other", "forked", "copied", "unmapped", "exited")
Moved = Mapping[str, int]
_NOTHING = OwnerNumbers(0, 0, 0, *[None] * (len(OwnerNumbers._fields) - 3))


@dataclass(frozen=True)
class PastMoment:
    """One moment of the host. `since`, `began`: see history.moment. `facts`: what seldom changes.

    `complete`: every owner has numbers of its own, so one that has none has no mapping.
    """

    id: int
    time: float
    since: float
    began: float
    host: HostNumbers
    facts: Mapping[str, Any]
    complete: bool


@dataclass(frozen=True)
class PastOwner:
    """An owner, and its numbers at each moment, None where they are unknown.

    `ends`: places of moments at which it has gone.
    """

    facts: Mapping[str, Any]
    numbers: tuple[OwnerNumbers | None, ...]

    @property
    def key(self) -> PastKey:
        """The same for the same owner."""
        return self.facts["kind"], self.facts["id"]


@dataclass(frozen=True)
class Past:
    """Moments in the order of recording, and the owners in them."""

    moments: tuple[PastMoment, ...]
    owners: tuple[PastOwner, ...]

    def gaps(self) -> Iterator[tuple[float, float]]:
        """Times between two moments for which there is nothing. Nothing was counted, or written."""
        for before, after in zip(self.moments, self.moments[1:], strict=False):
            if not continues(before, after):
                yield before.time, after.since


def continues(before: PastMoment, after: PastMoment) -> bool:
    """Whether nothing is missing between two moments."""
    return seamless(before.time, after.since)


def owner_past(
    facts: Mapping[str, Any],
    numbers: Sequence[OwnerNumbers | None],
    moments: Sequence[PastMoment],
) -> PastOwner:
    """An owner. Where all owners are known and it is not among them, it has no mapping."""
    found = [
        _NOTHING if number is None and moment.complete else number
        for number, moment in zip(numbers, moments, strict=True)
    ]
    return PastOwner(facts, tuple(found))


def absent(numbers: OwnerNumbers | None) -> bool:
    """Whether the owner was not among the known owners, although all were known."""
    return numbers is _NOTHING


def movements(numbers: Numbers) -> Moved | None:
    """Movements by reason since the beginning; None if they were not seen."""
    if absent(numbers if isinstance(numbers, OwnerNumbers) else None):
        return dict.fromkeys(REASONS, 0)
    if numbers.merged is None:
        return None
    return {reason: getattr(numbers, reason) for reason in REASONS}


def moved(
    before: OwnerNumbers | HostNumbers | None,
    after: OwnerNumbers | HostNumbers | None,
    *,
    same: bool,
) -> Moved | None:
    """Movements between two moments; None if unknown. `same`: one daemon saw both.

    Totals that have fallen began anew in between. Then only what came later is known.
    """
    if before is None or after is None:
        return None
    old, new = movements(before), movements(after)
    if new is None or old is None:
        return None
    fell = any(new[reason] < old[reason] for reason in REASONS)
    if fell or not same:
        return new
    return {reason: new[reason] - old[reason] for reason in REASONS}
