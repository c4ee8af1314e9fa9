"""What `ksmwatch top` shows, as plain data: options, rows, groups, and the view of a sample."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from ksmwatch.top.sample import Sample, SampledHolding, SampledProcess

# The key of a row.
RowKey = tuple[Hashable, ...]

# The reasons of movements, as in the document.
MERGED = ("merged", "converted")
CAME = (*MERGED, "forked", "other")
WENT = ("copied", "unmapped", "exited")


class Grouping(StrEnum):
    """What a row stands for."""

    OWNER = "owner"
    KIND = "kind"
    UNIT = "unit"
    USER = "user"
    PROCESS = "process"


class Unit(StrEnum):
    PAGES = "pages"
    KIB = "KiB"
    MIB = "MiB"
    GIB = "GiB"


@dataclass(frozen=True)
class Options:
    """The user's choices.

    `tree`: groups with their processes below them, or processes below their parents.
    `turned`: keys of rows that are folded although the others are not, or the reverse.
    `rates`: movements per second since the previous sample, else totals.
    """

    grouping: Grouping = Grouping.OWNER
    tree: bool = False
    sort: str = "mapped"
    inverted: bool = False
    filter: str = ""
    rates: bool = False
    unit: Unit = Unit.MIB
    turned: frozenset[RowKey] = frozenset()


class Group(NamedTuple):
    """Processes that belong together, and their sums.

    `kernel`, `lag` and `stray` are None if one of them is unknown. `holding`: what the document
    says about an owner that the filter leaves whole. The sums are then taken from it, and include
    processes that the document does not list.
    """

    key: RowKey
    kind: str
    name: str
    members: tuple[SampledProcess, ...]
    processes: int
    mappings: int
    kernel: int | None
    lag: int | None
    stray: int | None
    exact: bool
    holding: SampledHolding | None


class Row(NamedTuple):
    """One line. `fold`: `+` folded, `-` unfolded, empty if nothing is below it."""

    key: RowKey
    depth: int
    of: SampledProcess | Group
    fold: str

    @property
    def process(self) -> SampledProcess | None:
        """None for a group."""
        return self.of if isinstance(self.of, SampledProcess) else None

    @property
    def members(self) -> tuple[SampledProcess, ...]:
        """The processes that the row stands for."""
        return (self.of,) if isinstance(self.of, SampledProcess) else self.of.members


@dataclass(frozen=True)
class View:
    """The rows in order. `selected`: number of processes that match the filter."""

    sample: Sample
    previous: Sample | None
    options: Options
    rows: tuple[Row, ...]
    selected: int

    @property
    def seconds(self) -> float | None:
        """Between the two samples; None without an earlier sample."""
        if self.previous is None:
            return None
        return self.sample.time - self.previous.time
