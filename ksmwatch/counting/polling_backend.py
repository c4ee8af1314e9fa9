"""The fallback without BPF: exact reads of the processes that ksmd knows, within a CPU budget.

A count is right when it is read, and then grows stale until the next read. So this backend calls
nothing exact. It misses forked children about which ksmd has no records.

Before 6.1 (commit cb4df4cae4f2) there is no /proc/PID/ksm_stat, which shows what ksmd knows. There
it reads processes that have a mergeable area, or had KSM pages at the last reading.
"""

from __future__ import annotations

import errno
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ksmwatch.config import Config
from ksmwatch.counting.backend import Budget, Counted, Eventless, Evidence
from ksmwatch.counting.backend_state import Mode
from ksmwatch.counting.ledger import Count
from ksmwatch.counting.run_state import RunWatch
from ksmwatch.kernel import procfs
from ksmwatch.kernel.page_tables import PagemapReader, SmapsReader
from ksmwatch.kernel.procfs import KsmStat
from ksmwatch.kernel.smaps import any_mergeable


class _UnknownError(Exception):
    """Nothing here shows how many KSM pages a process has."""


@dataclass(frozen=True, slots=True)
class _Seen:
    """What the last read has shown of a process."""

    count: Count
    evidence: Evidence


class Poll(Eventless):
    """The polling backend. Without a reader it repeats the kernel's ksm_merging_pages."""

    mode = Mode.POLL

    def __init__(
        self,
        reader: SmapsReader | PagemapReader | None,
        interval: float,
        proc: Path = Path("/proc"),
        sys: Path = Path("/sys"),
        clock: Callable[[], float] = time.monotonic,
        *,
        ksm_stat: bool = True,
    ) -> None:
        """`ksm_stat`: whether processes have that file."""
        self._ksm_stat = ksm_stat
        self.losses: Counter[str] = Counter()
        self._interval = interval
        self._clock = clock
        self._next_round = 0.0
        self._reader = reader
        self._proc = proc
        self._seen: dict[int, _Seen] = {}
        self._queue: list[int] = []
        self.run = RunWatch(clock)
        self._run_file = procfs.run_file(sys)

    @property
    def asleep(self) -> bool:
        """Polling has no hooks that could be off."""
        return False

    @property
    def doubt(self) -> str | None:
        """Polling never knows the sum: a listing of processes is not an instant."""
        return "counts are polled, not live"

    def configure(self, settings: Config) -> None:
        """Apply the interval, from the next round on."""
        self._interval = settings.poll_interval

    def tick(self, budget: Budget) -> bool:
        """Read the next processes of the round, within the budget."""
        self.run.see(procfs.read_number(self._run_file.read))
        if not self._queue and self._clock() >= self._next_round:
            self._begin_round()
        self._work(budget)
        return True

    def refresh(self, budget: Budget) -> None:
        """A whole new round, or as much of it as the budget allows."""
        self.run.see(procfs.read_number(self._run_file.read))
        self._begin_round()
        self._work(budget)

    def _work(self, budget: Budget) -> None:
        while self._queue and budget.left():
            self._visit(self._queue.pop())

    def _begin_round(self) -> None:
        """List the processes, and forget those that have gone."""
        self._next_round = self._clock() + self._interval
        self._queue = procfs.pids(self._proc)
        alive = set(self._queue)
        self._seen = {pid: seen for pid, seen in self._seen.items() if pid in alive}

    def _visit(self, pid: int) -> None:
        directory = self._proc / str(pid)
        try:
            stat = procfs.read_ksm_stat(directory) if self._ksm_stat else None
            if not (self._may_have_pages(pid, directory) if stat is None else stat.user):
                self._seen.pop(pid, None)
                return
            ticks = procfs.read_start_ticks(directory)
            mappings = self._read(directory, stat)
        except _UnknownError:
            self._seen.pop(pid, None)
            self.losses["reads_denied"] += 1
            return
        except OSError as error:
            self._seen.pop(pid, None)
            if error.errno not in (errno.ENOENT, errno.ESRCH):
                self.losses["reads_denied"] += 1
            return
        count = Count(
            mm=0, account=0, pid=pid, start_ticks=ticks, mappings=mappings, exact=False, moves=()
        )
        self._seen[pid] = _Seen(count, Evidence(self._clock()))

    def _may_have_pages(self, pid: int, directory: Path) -> bool:
        """The answer if ksmd's records are hidden."""
        seen = self._seen.get(pid)
        if seen is not None and seen.count.mappings:
            return True
        return any_mergeable((directory / "smaps").read_bytes())

    def _read(self, directory: Path, stat: KsmStat | None) -> int:
        if self._reader is None:
            if stat is None or stat.merging_pages is None:
                raise _UnknownError
            return stat.merging_pages
        with self._reader.open(directory) as opened:
            return opened.estimate()

    def counts(self) -> list[Count]:
        """The last reading of each process."""
        return [seen.count for seen in self._seen.values()]

    def counted(self) -> Counted:
        return Counted(self.counts(), self.asleep, self.doubt)

    def evidence(self, count: Count) -> Evidence:
        """When the process was read."""
        seen = self._seen.get(count.pid)
        return Evidence() if seen is None else seen.evidence

    def stop(self) -> None:
        """Nothing to detach."""
