"""What the daemon needs of a way to count, whichever it is."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from ksmwatch.config import Config
from ksmwatch.counting.backend_state import AuditState, MapState, Mode, ProbeState
from ksmwatch.counting.ledger import Count
from ksmwatch.counting.run_state import RunWatch
from ksmwatch.kernel.areas import Area


class Budget:
    """A limit on the time that exact reads may take."""

    def __init__(self, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._end = clock() + seconds

    def left(self) -> bool:
        """Whether more may be spent."""
        return self._clock() < self._end


@dataclass(frozen=True, slots=True)
class Evidence:
    """What exact reads have said about a process.

    `read_at`: when the last one was, on the monotonic clock, None for never. `moves`: those of the
    account at that moment. `stray`: areas with KSM mappings that are not mergeable; None until
    areas were looked at.
    """

    read_at: float | None = None
    moves: tuple[int, ...] | None = None
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
