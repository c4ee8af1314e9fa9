"""Exact reads of processes, each between two looks at its account.

A read settles the account only if no event came between; it heals a count that had drifted.
"""

from __future__ import annotations

import contextlib
import errno
import os
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import Enum, auto
from pathlib import Path

from ksmwatch import areas, ledger, sources
from ksmwatch.areas import Area
from ksmwatch.backend import AuditState, Evidence
from ksmwatch.exact import PagemapReader, SmapsReader
from ksmwatch.ledger import NANOSECONDS_PER_TICK, Count, settle, stood_still
from ksmwatch.log import logger
from ksmwatch.maps import Maps
from ksmwatch.records import Account, Movement

# An exact read that events keep disturbing is tried again this often before it is put off.
_BRACKETS = 5


class Read(Enum):
    """How an exact read of a process ended. UNPINNED: it is not known whose file was read."""

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


class ProcessReader:
    """Reads processes and settles their accounts. Only one thread may use it.

    `opening`: accounts may be missing for no fault, so a process without one is no drift.
    `announced`: lost events have announced wrong counts, so those are no drift either.
    `full`: number of processes that found no room for an account.
    """

    def __init__(
        self,
        maps: Maps,
        reader: SmapsReader | PagemapReader,
        losses: Counter[str],
        proc: Path = Path("/proc"),
    ) -> None:
        self._maps = maps
        self._reader = reader
        self._losses = losses
        self._proc = proc
        self.opening = True
        self.announced = False
        self.full = 0
        self.audited = AuditState()
        # Processes that could not be read, by pid: their start ticks.
        self._denied: dict[int, int] = {}
        # By account: when it was last settled, and its areas that are not mergeable.
        self._read_at: dict[int, float] = {}
        self._stray: dict[int, tuple[Area, ...]] = {}

    def evidence(self, count: Count) -> Evidence:
        """What exact reads have said about the mm."""
        at = self._read_at.get(count.account)
        age = None if at is None else time.monotonic() - at
        return Evidence(age, self._stray.get(count.account))

    def read(self, pid: int) -> Outcome:
        """Read one process exactly, and settle its account if no event came between."""
        outcome = Outcome(Read.UNPINNED)
        try:
            for _ in range(_BRACKETS):
                outcome = self._open_and_read(pid)
                if outcome.read is not Read.UNPINNED:
                    break
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ESRCH):
                return Outcome(Read.GONE)
            outcome = Outcome(Read.DENIED)
        if outcome.read in (Read.DENIED, Read.UNPINNED):
            self._losses["reads_denied"] += 1
            self._deny(pid)
        elif outcome.read is Read.DISTURBED:
            self._losses["reads_disturbed"] += 1
        else:
            self._denied.pop(pid, None)
        return outcome

    def _open_and_read(self, pid: int) -> Outcome:
        thread = threading.get_native_id()
        self._maps.forget_opened(thread)
        pinned: set[int | None] = set()
        directory = self._proc / str(pid)
        with self._reader.open(directory, lambda: pinned.add(self._maps.opened(thread))) as opened:
            mm = pinned.pop()
            if mm is None or pinned:
                # The probe missed the opening, or the process exec'ed between two.
                self._losses["mm_opened_unseen"] += 1
                return Outcome(Read.UNPINNED)
            settled = any(self._bracket(pid, mm, opened.read) for _ in range(_BRACKETS))
            return Outcome(Read.SETTLED if settled else Read.DISTURBED, mm)

    def has_read(self, account: int) -> bool:
        """Whether the account has been settled by this daemon."""
        return account in self._read_at

    def read_areas(self, count: Count) -> None:
        """Look where the KSM mappings of a process are."""
        if not count.mappings:
            self._stray[count.account] = ()
            return
        with contextlib.suppress(OSError):
            found = areas.read_areas(self._proc / str(count.pid), self._reader)
            self._stray[count.account] = areas.stray(found)

    def forget_others(self, accounts: set[int]) -> None:
        """Drop what is remembered of accounts that are no more."""
        for remembered in (self._read_at, self._stray):
            for gone in remembered.keys() - accounts:
                del remembered[gone]

    def _deny(self, pid: int) -> None:
        ticks = self.start_ticks(pid)
        if ticks is not None:
            self._denied[pid] = ticks

    def denied(self) -> int:
        """How many of the processes that could not be read are still there."""
        self._denied = {p: t for p, t in self._denied.items() if self.alive(p, t)}
        return len(self._denied)

    def _bracket(self, pid: int, mm: int, read: Callable[[], int]) -> bool:
        """One read between two looks at the account; True when it settled the account."""
        before = self._maps.account(mm)
        mappings = read()
        after = self._maps.account(mm)
        if not stood_still(before, after):
            return False
        if after is None:
            if mappings == 0:
                return True
            # Without an account no event could have been seen: open one and look again.
            if self._open(mm, pid) and not (self.opening or self.announced):
                self._report(pid, counted=0, found=mappings)
            return False
        self._compare(pid, mm, after, mappings)
        self._maps.put_baseline(mm, settle(after, mappings))
        self._read_at[after.id] = time.monotonic()
        return True

    def _compare(self, pid: int, mm: int, account: Account, found: int) -> None:
        """A count that is thought exact and differs from the page tables is drift."""
        count = ledger.count(mm, account, self._maps.baseline(mm))
        if count.exact and count.mappings != found and not self.announced:
            self._report(pid, counted=count.mappings, found=found)

    def _report(self, pid: int, *, counted: int, found: int) -> None:
        """Drift: exported signed, logged once with its evidence; the caller heals it."""
        self.audited = replace(
            self.audited,
            surplus=self.audited.surplus + max(counted - found, 0),
            missing=self.audited.missing + max(found - counted, 0),
            last=counted - found,
        )
        logger.warning(
            "the count of a process had drifted from its page tables and was healed",
            extra={"pid": pid, "counted": counted, "found": found, "drift": counted - found},
        )

    def _open(self, mm: int, pid: int) -> bool:
        """Open an account in the name of a process; False when that was not possible."""
        identity = self._identity(pid)
        if identity is None:
            return False
        try:
            return self._maps.open_account(mm, identity)
        except OSError as error:
            if error.errno != errno.E2BIG:
                raise
            self._losses["accounts_full"] += 1
            self.full += 1
            return False

    def _identity(self, pid: int) -> Account | None:
        """A fresh account in the name of a process."""
        try:
            ticks = sources.read_start_ticks(self._proc / str(pid))
            comm = (self._proc / str(pid) / "comm").read_text(errors="replace").rstrip("\n")
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

    def mm_of(self, pid: int) -> int | None:
        """The mm of a process; None if it has none, or its file was not seen to be opened."""
        thread = threading.get_native_id()
        self._maps.forget_opened(thread)
        with contextlib.suppress(OSError):
            os.close(os.open(self._proc / str(pid) / "smaps", os.O_RDONLY | os.O_CLOEXEC))
        return self._maps.opened(thread)

    def start_ticks(self, pid: int) -> int | None:
        """When the process started, in clock ticks since boot; None when it has gone."""
        try:
            return sources.read_start_ticks(self._proc / str(pid))
        except OSError:
            return None

    def alive(self, pid: int, ticks: int) -> bool:
        """Whether it is still that process."""
        return self.start_ticks(pid) == ticks
