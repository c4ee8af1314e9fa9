"""The audit's schedule: which process is read next, and how much CPU time that may take.

Pure except for the clocks passed in. Reading a process compares its count with the page tables
and corrects a difference (``Accounting``). An account that has not moved since it was read can be
wrong only if an event was lost. So if the kernel reports lost events, the audit reads processes
whose accounts have moved, and one of all processes each minute as a safety net.
Otherwise it reads all processes in turn.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import NamedTuple

from ksmwatch.config import Config

_Pids = Callable[[], Iterable[int]]

# After a pause of any length, one tick must not take longer than this.
_LARGEST_ALLOWANCE_SECONDS = 0.25
# Time between two reads of processes without evidence.
_NET_SECONDS = 60.0


class Policy(NamedTuple):
    """What is looked at after the start.

    `share`: of one core, for the audit. Without `heal` no page tables are read, and doubts stay.
    Ages are kept of one page of `one_in` at most.
    """

    share: float = 0.001
    heal: bool = True
    one_in: int = 16

    @classmethod
    def of(cls, settings: Config) -> Policy:
        """The configured policy."""
        return cls(settings.audit_cpu_percent / 100, settings.audit_heal, settings.ages_one_in)


DEFAULT_POLICY = Policy()


class Allowance:
    """CPU time that accrues as a share of wall time."""

    def __init__(
        self,
        share: float,
        wall: Callable[[], float] = time.monotonic,
        cpu: Callable[[], float] = time.thread_time,
    ) -> None:
        self._share = share
        self._wall, self._cpu = wall, cpu
        self._last = wall()
        self._left = 0.0

    def accrue(self) -> None:
        """Add what has accrued since the last call."""
        now = self._wall()
        self._left += (now - self._last) * self._share
        self._left = min(self._left, _LARGEST_ALLOWANCE_SECONDS)
        self._last = now

    def spend(self, work: Callable[[], None]) -> None:
        """Do the work and subtract its CPU time."""
        began = self._cpu()
        work()
        self._left -= self._cpu() - began

    def left(self) -> bool:
        """Whether any is left."""
        return self._left > 0


class Round:
    """The order of one audit round: processes with an account first, then all others.

    A round begins when the previous one is complete, so it reaches every process.
    """

    def __init__(self) -> None:
        self._queue: list[int] = []
        self.completed = 0

    def next(self, accounted: _Pids, everyone: _Pids) -> int | None:
        """The process to read next; None if there is none."""
        if not self._queue:
            first = list(dict.fromkeys(accounted()))
            rest = [pid for pid in everyone() if pid not in set(first)]
            self._queue = [*reversed(rest), *reversed(first)]
            if not self._queue:
                return None
        pid = self._queue.pop()
        if not self._queue:
            self.completed += 1
        return pid


class Schedule:
    """The process to read next: one whose account has moved, or the next of a round.

    Without `evidence` (the kernel does not report lost events) the round never pauses.
    """

    def __init__(self, *, evidence: bool) -> None:
        self._evidence = evidence
        self._round = Round()
        self._round_at = 0.0
        self._moved: list[int] = []

    @property
    def completed(self) -> int:
        """Rounds in which every process was read."""
        return self._round.completed

    def see(self, moved: Iterable[int]) -> None:
        """Add processes whose accounts have moved since they were read."""
        self._moved = list(dict.fromkeys(moved))[::-1]

    def due(self, now: float) -> bool:
        """Whether a process is due."""
        return bool(self._moved) or now >= self._round_at

    def next(self, now: float, accounted: _Pids, everyone: _Pids) -> int | None:
        """The process to read next; None if there is none.

        The round comes first, because accounts on a busy host never stop moving.
        """
        if now >= self._round_at:
            if self._evidence:
                self._round_at = now + _NET_SECONDS
            return self._round.next(accounted, everyone)
        return self._moved.pop() if self._moved else None
