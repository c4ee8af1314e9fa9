"""What the daemon needs of a way to count, whichever it is."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from ksmwatch.config import Config
from ksmwatch.counting.ledger import Count
from ksmwatch.counting.run_state import RunWatch
from ksmwatch.kernel.smaps import Area


class Mode(StrEnum):
    """How the counts came about. NONE: a kernel without KSM."""

    BPF = "bpf"
    POLL = "poll"
    NONE = "none"


class Budget:
    """A limit on the time that exact reads may take."""

    def __init__(self, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._end = clock() + seconds

    def left(self) -> bool:
        """Whether more may be spent."""
        return self._clock() < self._end


@dataclass(frozen=True)
class ProbeState:
    """One probe of the plan as it is now. `missed`: runs that the kernel skipped."""

    event: str
    mechanism: str
    symbol: str
    attached: bool
    missed: int


@dataclass(frozen=True)
class MapState:
    """Fill at the last look at all counts, and size of the account map. `memory` in bytes.

    `kept`: maps and attachments outlive the daemon. `adopted`: an earlier daemon made them.
    """

    accounts: int
    limit: int
    memory: int
    kept: bool
    adopted: bool


@dataclass(frozen=True)
class AuditState:
    """What the auditor has done.

    Surplus and missing: pages by which counts that passed for exact were wrong. Corrected:
    pages by which counts were wrong after a loss that had put them in doubt.
    """

    reads: int = 0
    rounds: int = 0
    surplus: int = 0
    missing: int = 0
    corrected_surplus: int = 0
    corrected_missing: int = 0
    # Counted less found, of the last drift; None while there was none.
    last: int | None = None

    @property
    def drift(self) -> int:
        """Pages by which counts were wrong unannounced, of either sign."""
        return self.surplus + self.missing


@dataclass(frozen=True, slots=True)
class Evidence:
    """What exact reads have said about a process.

    `read_at`: when the last one was, on the monotonic clock, None for never. `stray`: areas with
    KSM mappings that are not mergeable; None until areas were looked at.
    """

    read_at: float | None = None
    stray: tuple[Area, ...] | None = None


class Backend(Protocol):
    """A way to count KSM mappings. Only one thread may use it."""

    mode: Mode
    losses: Counter[str]
    run: RunWatch

    @property
    def asleep(self) -> bool:
        """Whether nothing is attached to the hot path because no KSM page exists."""

    @property
    def doubt(self) -> str | None:
        """Why the host's sum is not known, if it is not: one clause."""

    def configure(self, settings: Config) -> None:
        """Take the settings that can change while it counts."""

    def tick(self, budget: Budget) -> None:
        """Do what is due, within the budget."""

    def refresh(self, budget: Budget) -> None:
        """Make the counts as good as the budget allows, before a snapshot."""

    def counts(self) -> list[Count]:
        """Counts of all address spaces with a history of KSM mappings.

        What has not changed since the last call is the same object.
        """

    def evidence(self, count: Count) -> Evidence:
        """What exact reads have said about the process; the same object until the next one."""

    def totals(self) -> dict[str, int]:
        """Host-wide totals by name; empty where events are not seen."""

    def probes(self) -> list[ProbeState]:
        """State of every probe; empty where there are none."""

    def audit_state(self) -> AuditState | None:
        """What the auditor has done; None where nothing is audited."""

    def map_state(self) -> MapState | None:
        """State of the account map; None where there is none."""

    def stop(self) -> None:
        """End. Everything is detached, unless a keeper hands it to the next daemon."""


class Eventless:
    """What a backend that sees no events says of them."""

    def totals(self) -> dict[str, int]:
        """None: events are not seen."""
        return {}

    def probes(self) -> list[ProbeState]:
        """None."""
        return []

    def audit_state(self) -> AuditState | None:
        """None: every count is a reading."""
        return None

    def map_state(self) -> MapState | None:
        """None."""
        return None
