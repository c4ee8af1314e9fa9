"""How long mappings last: the ages that the programs count, in classes. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from ksmwatch.probes.map_records import AGE_CLASSES

# The classes end here, in seconds; the last one has no end.
BOUNDS = tuple(float(1 << number) for number in range(AGE_CLASSES - 1))


class Ages(NamedTuple):
    """The ages of mappings that have ended: how many are in each class, and their sum."""

    counts: tuple[int, ...]
    seconds: float


class AgeState(NamedTuple):
    """What is known of all mappings on the host.

    `one_in`: one page in this many counts. `scan_seconds`: how long ksmd takes for a full scan,
    None if it is not known. `reasons`: ages by the reason why the mapping ended. `noted`: merges
    whose time is known; `wasted`: those of them that a write undid within one full scan.
    `unknown`: departures without an age, by the reason why.
    """

    one_in: int
    scan_seconds: float | None
    reasons: Mapping[str, Ages]
    noted: int
    wasted: int
    unknown: Mapping[str, int]

    @property
    def copied(self) -> Wear:
        """What is known about copies on the host, in the form in which it is known of an owner."""
        return Wear(self.noted, self.wasted, self.reasons["copied"].counts)


class Wear(NamedTuple):
    """How merges wear off. `ages`: how many copies on write are in each class."""

    noted: int
    wasted: int
    ages: tuple[int, ...]

    @classmethod
    def of(cls, amounts: Sequence[int]) -> Wear | None:
        """From numbers in a row, which can be added up; None if there are none."""
        return cls(amounts[0], amounts[1], tuple(amounts[2:])) if amounts else None

    @property
    def median(self) -> float | None:
        """How old half of the mappings were at most when a write undid them, in seconds."""
        return median(self.ages)

    @property
    def wasted_share(self) -> float | None:
        """The part of merges that a write undid within one full scan."""
        return self.wasted / self.noted if self.noted else None


def median(counts: Sequence[int]) -> float | None:
    """The median age, None without any.

    It is certain to lie in its class. Within that, ages are taken to be spread evenly, as
    Prometheus does. Of the last class only the beginning is known.
    """
    left = sum(counts) / 2
    if not left:
        return None
    number = 0
    while left > counts[number]:
        left -= counts[number]
        number += 1
    begin = BOUNDS[number - 1] if number else 0.0
    if number >= len(BOUNDS):
        return begin
    return begin + (BOUNDS[number] - begin) * left / counts[number]


def cumulative(counts: Sequence[int]) -> list[int]:
    """How many are in each class or a lower one."""
    found, so_far = [], 0
    for count in counts:
        so_far += count
        found.append(so_far)
    return found
