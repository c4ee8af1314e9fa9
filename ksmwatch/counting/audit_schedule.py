"""The background auditor: who is read next, and how much CPU that may take.

Pure but for the clocks handed in. It goes round all processes, those with an account first;
reading one compares its count with the page tables and heals a difference (``Live``).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from ksmwatch.config import Config

_Pids = Callable[[], Iterable[int]]

# However long nothing was audited, one tick must not take longer than this.
_LARGEST_ALLOWANCE_SECONDS = 0.25


@dataclass(frozen=True)
class Policy:
    """Whose page tables are read after the start.

    `share`: of one core, for the audit. Without `heal` nobody's, and what is in doubt stays so.
    """

    share: float = 0.001
    heal: bool = True

    @classmethod
    def of(cls, settings: Config) -> Policy:
        """The one that was configured."""
        return cls(settings.audit_cpu_percent / 100, settings.audit_heal)


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
        """Do the work and take its CPU time off."""
        began = self._cpu()
        work()
        self._left -= self._cpu() - began

    def left(self) -> bool:
        """Whether there is any."""
        return self._left > 0


class Round:
    """The order of one audit round: processes with an account first, then all others.

    A round begins when the last one is through, so every process is reached.
    """

    def __init__(self) -> None:
        self._queue: list[int] = []
        self.completed = 0

    def next(self, accounted: _Pids, everyone: _Pids) -> int | None:
        """The process to read next; None when there is none at all."""
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
