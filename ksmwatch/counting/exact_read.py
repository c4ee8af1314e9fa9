"""Exact reads of processes, each between two looks at its account.

A read settles the account only if no event came between; it heals a count that had drifted.
"""

from __future__ import annotations

import errno
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from enum import Enum, auto
from pathlib import Path

from ksmwatch.counting import ledger
from ksmwatch.counting.backend import Evidence
from ksmwatch.counting.backend_state import AuditState
from ksmwatch.counting.ledger import Count, disturbs, nothing_moved, settle, stood_still
from ksmwatch.kernel import areas, procfs, smaps
from ksmwatch.kernel.areas import Area
from ksmwatch.kernel.page_tables import PagemapReader, SmapsReader
from ksmwatch.log import logger
from ksmwatch.probes.maps import Maps
from ksmwatch.probes.records import Account, Movement, Opened

# An exact read that events keep disturbing is tried again this often before it is put off.
_BRACKETS = 5
# A call of migrate_pages() moves hundreds of pages, and may wait for each of them to be written.
# One that is taken for ended too early makes right counts look wrong.
_STUCK_SECONDS = 30.0
_NONE = Evidence()


class Outcome(Enum):
    """How an exact read of a process ended.

    UNPINNED: it is not known whose file was read. ROOMLESS: it has mappings, and no account.
    """

    SETTLED = auto()
    DISTURBED = auto()
    GONE = auto()
    DENIED = auto()
    UNPINNED = auto()
    ROOMLESS = auto()


class ProcessReader:
    """Reads processes and settles their accounts. Only one thread may use it.

    `opening`: accounts may be missing for no fault, so a process without one is no drift; nor
    is one that found no room before.
    `announced`: the loss that lets wrong counts be expected, which are no drift then; or None.
    `explain` looks for one that has not been announced, when a count turns out to be wrong.
    `unverified`: accounts that may be wrong until they are read, though no event of theirs says so,
    with the reason why.
    `unsettled`: whether a read has left a count in doubt. `settled`: account and mappings that
    the last read has settled.
    """

    def __init__(
        self,
        maps: Maps,
        reader: SmapsReader | PagemapReader,
        losses: Counter[str],
        explain: Callable[[], str | None],
        proc: Path = Path("/proc"),
    ) -> None:
        self._maps = maps
        self._reader = reader
        self._losses = losses
        self._explain = explain
        self._proc = proc
        self.opening = True
        self.announced: str | None = None
        # Calls of migrate_pages() begun and ended, and since when that has not changed.
        self._standing: tuple[int, int] | None = None
        self._since = 0.0
        self._stuck = 0
        self.unverified: dict[int, str | None] = {}
        self.unsettled = True
        self.settled: tuple[int, int] | None = None
        self.audited = AuditState()
        # Processes that could not be read, and that found no room for an account: start ticks
        # by pid.
        self._denied: dict[int, int] = {}
        self._roomless: dict[int, int] = {}
        # By account, of those that were settled: when, and its areas that are not mergeable.
        self._evidence: dict[int, Evidence] = {}

    def evidence(self, count: Count) -> Evidence:
        """What exact reads have said about the mm."""
        return self._evidence.get(count.account, _NONE)

    def read(self, pid: int) -> Outcome:
        """Read one process exactly, and settle its account if no event came between."""
        outcome = Outcome.UNPINNED
        self.settled = None
        try:
            for _ in range(_BRACKETS):
                outcome = self._open_and_read(pid)
                if outcome is not Outcome.UNPINNED:
                    break
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ESRCH):
                return Outcome.GONE
            outcome = Outcome.DENIED
        self.unsettled |= outcome not in (Outcome.SETTLED, Outcome.ROOMLESS)
        if outcome in (Outcome.DENIED, Outcome.UNPINNED):
            self._losses["reads_denied"] += 1
            self._remember(pid, self._denied)
        elif outcome is Outcome.DISTURBED:
            self._losses["reads_disturbed"] += 1
        elif outcome is Outcome.ROOMLESS:
            self._see_roomless(pid)
        else:
            self._denied.pop(pid, None)
            self._roomless.pop(pid, None)
        return outcome

    def _open_and_read(self, pid: int) -> Outcome:
        thread = threading.get_native_id()
        self._maps.forget_opened(thread)
        pinned: list[Opened | None] = []
        directory = self._proc / str(pid)
        with self._reader.open(
            directory, lambda: pinned.append(self._maps.opened(thread))
        ) as opened:
            owned = pinned[0]
            if owned is None or any(p is None or p.mm != owned.mm for p in pinned):
                # The probe missed the opening, or the process exec'ed between two.
                self._losses["mm_opened_unseen"] += 1
                return Outcome.UNPINNED
            for _ in range(_BRACKETS):
                outcome = self._bracket(owned, pid, opened.read)
                if outcome is not Outcome.DISTURBED:
                    break
            if outcome is Outcome.DISTURBED and self._maps.account(owned.mm) is None:
                # Otherwise nothing would say that it has to be read.
                self._open(owned)
                if self._maps.account(owned.mm) is None:
                    return Outcome.ROOMLESS
            return outcome

    def see_migrations(self) -> None:
        """To be called about every second: a migration that takes so long has missed its end."""
        begun, ended, _ = self._maps.migrations()
        now = time.monotonic()
        if (begun, ended) != self._standing:
            self._standing, self._since = (begun, ended), now
        elif now >= self._since + _STUCK_SECONDS:
            self._stuck = begun - ended

    def read_areas(self, pid: int, account: int, mappings: int) -> None:
        """Look where the KSM mappings of a process are."""
        stray: tuple[Area, ...] = ()
        if mappings:
            try:
                stray = areas.stray(smaps.read_areas(self._proc / str(pid), self._reader))
            except OSError:
                return
        self._evidence[account] = replace(self._evidence.get(account, _NONE), stray=stray)

    def forget_others(self, accounts: set[int]) -> None:
        """Drop what is remembered of accounts that are no more."""
        for gone in self._evidence.keys() - accounts:
            del self._evidence[gone]
        for gone in self.unverified.keys() - accounts:
            del self.unverified[gone]

    def denied(self) -> int:
        """How many of the processes that could not be read are still there."""
        self._denied = self._still_there(self._denied)
        return len(self._denied)

    def without_room(self) -> list[int]:
        """Processes, still there, that found no room for an account."""
        self._roomless = self._still_there(self._roomless)
        return list(self._roomless)

    def _see_roomless(self, pid: int) -> None:
        if pid not in self._roomless:
            self._losses["accounts_full"] += 1
            self._remember(pid, self._roomless)

    def _remember(self, pid: int, where: dict[int, int]) -> None:
        ticks = self.start_ticks(pid)
        if ticks is not None:
            where[pid] = ticks

    def _still_there(self, processes: dict[int, int]) -> dict[int, int]:
        return {pid: ticks for pid, ticks in processes.items() if self.alive(pid, ticks)}

    def _bracket(self, file: Opened, pid: int, read: Callable[[], int]) -> Outcome:
        """One read between two looks at the account, which settles it if nothing happened."""
        moving = self._maps.migrations()
        self._maps.begin_reading(file.mm)
        before = self._maps.account(file.mm)
        mappings = read()
        conversion = self._maps.conversion()
        after = self._maps.account(file.mm)
        if (
            disturbs(conversion, file.mm)
            or not stood_still(before, after)
            or self._maps.moved()
            or not nothing_moved(moving, self._maps.migrations(), self._stuck)
        ):
            return Outcome.DISTURBED
        if after is None:
            if mappings == 0:
                return Outcome.SETTLED
            # Without an account no event could have been seen: open one and look again.
            if not self._open(file):
                return Outcome.ROOMLESS
            if not self.opening and pid not in self._roomless:
                self._report(pid, counted=0, found=mappings, why=None)
            return Outcome.DISTURBED
        count = ledger.count(file.mm, after, self._maps.baseline(file.mm))
        why = self.unverified.pop(after.id, None)
        if count.exact and count.mappings != mappings:
            self._report(pid, counted=count.mappings, found=mappings, why=why)
        self._maps.put_baseline(file.mm, settle(after, mappings))
        if self._maps.account(file.mm) is None:
            # It ended just now, and its baseline would stay for ever.
            self._maps.close_account(file.mm)
        known = self._evidence.get(after.id, _NONE)
        self._evidence[after.id] = replace(known, read_at=time.monotonic())
        self.settled = after.id, mappings
        return Outcome.SETTLED

    def _report(self, pid: int, *, counted: int, found: int, why: str | None) -> None:
        """A wrong count: exported signed, logged once with its evidence; the caller heals it."""
        surplus, missing = max(counted - found, 0), max(found - counted, 0)
        told = self.audited
        evidence = {"pid": pid, "counted": counted, "found": found, "drift": counted - found}
        why = why or self.announced or self._explain()
        if why is not None:
            self.audited = replace(
                told,
                corrected_surplus=told.corrected_surplus + surplus,
                corrected_missing=told.corrected_missing + missing,
            )
            logger.info("a count was corrected", extra={**evidence, "why": why})
            return
        self.audited = replace(
            told,
            surplus=told.surplus + surplus,
            missing=told.missing + missing,
            last=counted - found,
        )
        logger.warning(
            "the count of a process had drifted from its page tables; corrected",
            extra=evidence,
        )

    def _open(self, file: Opened) -> bool:
        """Open an account for an mm that has none; False when that was not possible."""
        account = Account(
            id=time.monotonic_ns(),
            moves=(0,) * len(Movement),
            doubts=1,
            start_boottime=file.start_boottime,
            tgid=file.tgid,
            comm=file.comm,
        )
        try:
            return self._maps.open_account(file.mm, account)
        except OSError as error:
            if error.errno != errno.E2BIG:
                raise
            return False

    def start_ticks(self, pid: int) -> int | None:
        """When the process started, in clock ticks since boot; None when it has gone."""
        try:
            return procfs.read_start_ticks(self._proc / str(pid))
        except OSError:
            return None

    def alive(self, pid: int, ticks: int) -> bool:
        """Whether it is still that process."""
        return self.start_ticks(pid) == ticks
