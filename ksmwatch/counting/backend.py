"""What the daemon needs from any way to count."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from typing import NamedTuple, Protocol

from ksmwatch.config import Config
from ksmwatch.counting.ages import AgeState
from ksmwatch.counting.backend_state import AuditState, MapState, Mode, ProbeState
from ksmwatch.counting.ledger import Count
from ksmwatch.counting.run_state import RunWatch
from ksmwatch.kernel.areas import Area
from ksmwatch.probes.cgroup_moves import SeenMoves


class Budget:
    """A limit on the time that exact reads may take."""

    def __init__(self, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._end = clock() + seconds
        self.given = seconds > 0

    def left(self) -> bool:
        """Whether any time is left."""
        return self._clock() < self._end


class Evidence(NamedTuple):
    """What exact reads have found in a process.

    `read_at`: when the last read was, on the monotonic clock, None if never. `moves`: those of the
    account at that moment. `stray`: areas with KSM mappings that are not mergeable; None until
    areas have been read.
    """

    read_at: float | None = None
    moves: tuple[int, ...] | None = None
    stray: tuple[Area, ...] | None = None


class Counted(NamedTuple):
    """Counts, and `asleep` and `doubt` as they were right after."""

    counts: list[Count]
    asleep: bool
    doubt: str | None


class Backend(Protocol):
    """A way to count KSM mappings. Only one thread may use it."""

    mode: Mode
    run: RunWatch
    # Whether KSM was asleep at the last tick, and nothing was left to do.
    rests: bool

    @property
    def losses(self) -> Counter[str]:
        """How often something was lost, by kind."""

    @property
    def asleep(self) -> bool:
        """Whether the hot hooks are detached because no KSM page exists."""

    @property
    def doubt(self) -> str | None:
        """Why the host's sum is unknown, as a clause; None if it is known."""

    def configure(self, settings: Config) -> None:
        """Apply the settings that can change while it counts."""

    def tick(self, budget: Budget) -> bool:
        """Do the due work, within the budget. False if `asleep` and `doubt` stay as they were."""

    def refresh(self, budget: Budget) -> None:
        """Make the counts as good as the budget allows, before a snapshot."""

    def counts(self) -> list[Count]:
        """Counts of all address spaces that have or had KSM mappings.

        A count is the same object as in the last call if neither it nor its evidence has changed,
        and the list is, if no count has. Unchanged counts are in the same order.
        """

    def counted(self) -> Counted:
        """The same, and what holds for all of them."""

    def evidence(self, count: Count) -> Evidence:
        """What exact reads have found in the process; the same object until the next read."""

    def moved(self) -> SeenMoves | None:
        """Who was moved to another cgroup since the last call; None if that is not seen."""

    def totals(self) -> dict[str, int]:
        """Totals of the host by name; empty if events are not seen."""

    def ages(self) -> AgeState | None:
        """How long mappings last; None if that is not known."""

    def probes(self) -> tuple[ProbeState, ...]:
        """The state of every probe; empty if there are none."""

    def audit_state(self) -> AuditState | None:
        """The work of the audit; None if nothing is audited."""

    def map_state(self) -> MapState | None:
        """The state of the account map; None if there is none."""

    def stop(self) -> None:
        """Stop. Everything is detached, unless a keeper hands it to the next daemon."""


class Eventless:
    """The answers of a backend that sees no events."""

    rests = False

    def moved(self) -> SeenMoves | None:
        """None: moves are not seen."""
        return None

    def totals(self) -> dict[str, int]:
        """None: events are not seen."""
        return {}

    def ages(self) -> AgeState | None:
        """None: it is unknown when mappings come and go."""
        return None

    def probes(self) -> tuple[ProbeState, ...]:
        return ()

    def audit_state(self) -> AuditState | None:
        """None: every count is a reading."""
        return None

    def map_state(self) -> MapState | None:
        return None
