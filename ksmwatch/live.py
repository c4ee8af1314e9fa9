"""Live accounting: attaches the plan, takes the baseline, keeps every count known or in doubt.

The BPF programs count; this module decides when they are attached, and reads processes
exactly where an event has put a count in doubt. Only one thread may use a ``Live``.
"""

from __future__ import annotations

import errno
import os
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, auto
from pathlib import Path
from typing import Protocol

from ksmwatch import libbpf, sources
from ksmwatch.attach import Links, attach, detach
from ksmwatch.errors import SourceError
from ksmwatch.exact import PagemapReader, SmapsReader
from ksmwatch.ledger import NANOSECONDS_PER_TICK, Count, counts, settle, stood_still
from ksmwatch.loader import Loaded
from ksmwatch.maps import Maps
from ksmwatch.plan import Plan
from ksmwatch.records import Account, Movement, Total

# An exact read that events keep disturbing is tried again this often before it is put off.
_BRACKETS = 5


class Read(Enum):
    """How an exact read of a process ended."""

    SETTLED = auto()
    DISTURBED = auto()
    GONE = auto()
    DENIED = auto()
    UNPINNED = auto()


@dataclass(frozen=True)
class Outcome:
    """The result of reading one process, and the mm that it has."""

    read: Read
    mm: int | None = None


class Clock(Protocol):
    """CPU or wall time in seconds."""

    def __call__(self) -> float: ...


class Budget:
    """A limit on the time that exact reads may take."""

    def __init__(self, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._end = clock() + seconds

    def left(self) -> bool:
        """Whether more may be spent."""
        return self._clock() < self._end


class Live:
    """The BPF backend.

    Asleep, no KSM page exists and ksmd is not running: then only the probes that can see KSM
    wake up are attached, and every count is known to be 0.
    """

    def __init__(
        self,
        loaded: Loaded,
        plan: Plan,
        reader: SmapsReader | PagemapReader,
        proc: Path = Path("/proc"),
        sys: Path = Path("/sys"),
    ) -> None:
        self.maps = Maps(loaded)
        self.plan = plan
        self.losses: Counter[str] = Counter()
        self._programs = loaded.programs
        self._reader = reader
        self._proc = proc
        self._sys = sys
        self._sentry: Links = {}
        self._hooks: Links = {}
        self._ksmd = sources.find_ksmd(proc)
        self._slept_at: int | None = None
        self._sweeps_due = 0
        self._sweep_signs = 0

    # ---- attachment ----

    @property
    def asleep(self) -> bool:
        """Whether the hooks of the hot path are off."""
        return not self._hooks

    def start(self) -> None:
        """Attach everything and take the baseline. Raises AttachError."""
        self._control(doubt=True)
        self._sentry = attach((p for p in self.plan.probes if p.asleep), self._programs, self._sys)
        self.wake()

    def stop(self) -> None:
        """Detach everything and free the maps."""
        detach(self._hooks)
        detach(self._sentry)
        for fd in self._programs.values():
            os.close(fd)
        self.maps.close()

    def wake(self) -> None:
        """Attach the remaining hooks and make every count known.

        If no page was converted while asleep, no KSM page exists and all counts are 0:
        nothing needs to be read. What converted since then is counted by the hooks.
        """
        self._control(doubt=True)
        self._hooks = attach(
            (p for p in self.plan.probes if not p.asleep), self._programs, self._sys
        )
        self._sweep_signs = self._signs()
        if self._slept_at is not None and self._slept_at == self._conversions():
            for mm, account in self.maps.accounts():
                self.maps.put_baseline(mm, settle(account, account.net))
        else:
            self.sweep()
        self._slept_at = None
        self._control(doubt=False)

    def sleep(self) -> None:
        """Take the hooks off. Only to be called while every count is known to be 0."""
        self._slept_at = self._conversions()
        detach(self._hooks)
        for mm, _ in list(self.maps.accounts()):
            self.maps.close_account(mm)

    def _control(self, *, doubt: bool) -> None:
        self.maps.control(ksmd=self._ksmd, reader=os.getpid(), opening_doubt=doubt)

    def _conversions(self) -> int:
        return self.maps.total(Total.MERGE_CONVERTED)

    def _signs(self) -> int:
        """Grows when something happened after which any process may be wrong."""
        return sum(
            self.maps.total(which)
            for which in (Total.FAMILIES_TRUNCATED, Total.CONVERSIONS_UNSEEN, Total.EVENTS_LOST)
        )

    # ---- what the daemon calls ----

    def tick(self, budget: Budget) -> None:
        """Go to sleep or wake up, and read what is in doubt, within the budget."""
        run = self._run()
        if self.asleep:
            if run == 1 or self._slept_at != self._conversions():
                self.wake()
            return
        if self._signs() != self._sweep_signs:
            self._sweep_signs = self._signs()
            self.sweep()
        self.settle_doubts(budget)
        if run in (0, 2) and all(c.exact and c.mappings == 0 for c in self.counts()):
            self.sleep()

    def _run(self) -> int | None:
        try:
            return sources.read_run(self._sys)
        except SourceError:
            self.losses["run_unreadable"] += 1
            return None

    def counts(self) -> list[Count]:
        """Every account's count, as of now."""
        # Baselines first: an account is only ever settled after it was opened, so a baseline
        # that is missed here leaves a count in doubt, never wrongly exact.
        baselines = self.maps.baselines()
        return counts(self.maps.accounts(), baselines)

    def settle_doubts(self, budget: Budget) -> None:
        """Read exactly the processes whose count is in doubt, until the budget is spent."""
        for each in self.counts():
            if each.exact or not each.pid:
                continue
            if not budget.left():
                return
            outcome = self.read_process(each.pid)
            if outcome.mm != each.mm:
                self._settle_by_search(each.mm, budget)

    def _settle_by_search(self, mm: int, budget: Budget) -> None:
        """Read an mm whose recorded owner is not its owner any more: find one that uses it."""
        for pid in sources.pids(self._proc):
            if not budget.left():
                return
            if self.mm_of(pid) == mm:
                self.adopt(mm, pid)
                self.read_process(pid)
                return

    def adopt(self, mm: int, pid: int) -> None:
        """Record another owner of an mm, by opening its account anew under that name.

        Movements of the old account go with it; its count is read again, so nothing is lost.
        """
        identity = self._identity(pid)
        if identity is None:
            return
        self.maps.close_account(mm)
        self.maps.open_account(mm, identity)

    # ---- exact reads ----

    def sweep(self) -> None:
        """Read every process exactly, until a listing shows none that was not read.

        Forks of a process that was read are followed by the hooks; a child of one that was
        not yet read is in a later listing.
        """
        seen: set[int] = set()
        while new := [pid for pid in sources.pids(self._proc) if pid not in seen]:
            for pid in new:
                seen.add(pid)
                self.read_process(pid)

    def mm_of(self, pid: int) -> int | None:
        """The mm of a process, by opening a /proc file of it."""
        thread = threading.get_native_id()
        self.maps.forget_opened(thread)
        try:
            with self._reader.open(self._proc / str(pid)):
                return self.maps.opened(thread)
        except OSError:
            return None

    def read_process(self, pid: int) -> Outcome:
        """Read one process exactly, and settle its account if no event came between."""
        thread = threading.get_native_id()
        self.maps.forget_opened(thread)
        try:
            with self._reader.open(self._proc / str(pid)) as opened:
                mm = self.maps.opened(thread)
                if mm is None:
                    self.losses["mm_opened_unseen"] += 1
                    return Outcome(Read.UNPINNED)
                for _ in range(_BRACKETS):
                    if self._bracket(pid, mm, opened.read):
                        return Outcome(Read.SETTLED, mm)
                self.losses["reads_disturbed"] += 1
                return Outcome(Read.DISTURBED, mm)
        except OSError as error:
            if error.errno in (errno.EACCES, errno.EPERM):
                self.losses["reads_denied"] += 1
                return Outcome(Read.DENIED)
            return Outcome(Read.GONE)

    def _bracket(self, pid: int, mm: int, read: Callable[[], int]) -> bool:
        """One read between two looks at the account; True when it settled the account."""
        before = self.maps.account(mm)
        mappings = read()
        after = self.maps.account(mm)
        if not stood_still(before, after):
            return False
        if after is None:
            if mappings == 0:
                return True
            # Without an account no event could have been seen: open one and look again.
            identity = self._identity(pid)
            if identity is not None:
                self.maps.open_account(mm, identity)
            return False
        self.maps.put_baseline(mm, settle(after, mappings))
        return True

    def _identity(self, pid: int) -> Account | None:
        """A fresh account in the name of a process."""
        directory = self._proc / str(pid)
        try:
            ticks = sources.read_start_ticks(directory)
            comm = (directory / "comm").read_text(errors="replace").rstrip("\n")
        except OSError:
            return None
        return Account(
            id=time.monotonic_ns(),
            moves=(0,) * len(Movement),
            doubts=1,
            conversions_begun=0,
            conversions_ended=0,
            start_boottime=ticks * NANOSECONDS_PER_TICK,
            tgid=pid,
            comm=comm,
        )

    # ---- state for the snapshot ----

    def attached(self) -> dict[str, bool]:
        """Whether each program of the plan is attached now."""
        links = {**self._sentry, **self._hooks}
        return {p.name: p.name in links for probe in self.plan.probes for p in probe.programs}

    def missed(self) -> dict[str, int]:
        """Runs that the kernel skipped, by program (recursion_misses, since 5.12)."""
        return {
            name: int(libbpf.prog_info(fd).recursion_misses)
            for name, fd in self._programs.items()
        }
