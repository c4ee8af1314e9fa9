"""Live accounting: attaches the plan, takes the baseline, keeps every count known or in doubt.

The BPF programs count; this module decides when they are attached, and reads processes
exactly where an event has put a count in doubt. Only one thread may use a ``Live``.
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

from ksmwatch import ledger, libbpf, sources
from ksmwatch.areas import Area, read_areas, stray
from ksmwatch.attach import Links, attach, detach
from ksmwatch.audit import Allowance, Round
from ksmwatch.backend import AuditState, Budget, Evidence, MapState, Mode, ProbeState
from ksmwatch.exact import PagemapReader, SmapsReader
from ksmwatch.ledger import NANOSECONDS_PER_TICK, Count, counts, settle, stood_still
from ksmwatch.loader import Loaded
from ksmwatch.log import logger
from ksmwatch.maps import Maps
from ksmwatch.plan import Plan, Probe
from ksmwatch.reconcile import SCANNING, STOPPED, UNMERGED, RunWatch
from ksmwatch.records import Account, Movement, Total

# An exact read that events keep disturbing is tried again this often before it is put off.
_BRACKETS = 5
# Events whose loss makes a count wrong. A missed mm_goes shows as a stale account, a missed
# mm_opened as a read that could not be attributed.
_COUNTING = frozenset({"rmap_add", "rmap_remove", "merge", "enter", "fork"})


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


class Live:
    """The BPF backend.

    Asleep, no KSM page exists and ksmd is not running: then only the probes that can see KSM
    wake up are attached, and every count is known to be 0.
    """

    mode = Mode.BPF

    def __init__(
        self,
        loaded: Loaded,
        plan: Plan,
        reader: SmapsReader | PagemapReader,
        *,
        audit_share: float = 0.005,
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
        self._sentry_events = {probe.event for probe in plan.probes if probe.asleep}
        self._slept_at: int | None = None
        self._sweep_signs = 0
        self._next_sweep = 0.0
        self._full = 0
        # Processes that could not be read, by pid: their start ticks.
        self._denied: dict[int, int] = {}
        self._allowance = Allowance(audit_share)
        self._round = Round()
        self._opening = True
        self._audited = AuditState()
        # Accounts whose recorded owner has gone: another process with the mm, or none.
        self._heirs: dict[int, tuple[int, int]] = {}
        # By account: when it was last settled, and its areas that are not mergeable.
        self._read_at: dict[int, float] = {}
        self._stray: dict[int, tuple[Area, ...]] = {}
        self.run = RunWatch()
        self._orphans: set[int] = set()

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

        If nothing stirred while asleep, no KSM page exists and all counts are 0: nothing
        needs to be read. What comes since then is counted by the hooks.
        """
        self._hooks = attach(
            (p for p in self.plan.probes if not p.asleep), self._programs, self._sys
        )
        if self._slept_at is None or self._slept_at != self._stirrings():
            self.sweep()
        self._slept_at = None
        self._opening = False
        self._control(doubt=False)

    def _try_to_sleep(self) -> None:
        """Take the hooks off if no KSM page exists, which is more than that none is mapped.

        A KSM page that is only in the swap cache can be mapped again, and keeps its stable
        node, which pages_shared counts until ksmd looks. Whatever stirs between the look at
        the counts and the detachment shows later as a difference from `_slept_at`.
        """
        stirrings = self._stirrings()
        # An mm that no process uses has no PTE left.
        used = (c for c in self.counts() if c.account not in self._orphans)
        if self.doubt is not None or not all(c.exact and c.mappings == 0 for c in used):
            return
        if "swapin" not in self._sentry_events or sources.read_pages_shared(self._sys) != 0:
            return
        self._slept_at = stirrings
        # What a stirring opens while the hooks are off must not pass for exact.
        self._opening = True
        self._control(doubt=True)
        detach(self._hooks)
        for mm, _ in list(self.maps.accounts()):
            self.maps.close_account(mm)

    def _control(self, *, doubt: bool) -> None:
        self.maps.control(ksmd=self._ksmd, reader=os.getpid(), opening_doubt=doubt)

    def _stirrings(self) -> int:
        """Grows when a KSM page may have come to be mapped while nobody counted."""
        return self.maps.total(Total.MERGE_CONVERTED) + self.maps.total(Total.SWAPIN_KSM)

    def _signs(self) -> int:
        """Grows when something happened after which any process may be wrong."""
        seen = (Total.FAMILIES_TRUNCATED, Total.CONVERSIONS_UNSEEN, Total.EVENTS_LOST)
        missed = sum(self._missed(probe) for probe in self.plan.probes if probe.event in _COUNTING)
        return missed + sum(self.maps.total(which) for which in seen)

    @property
    def doubt(self) -> str | None:
        """Why the sum over the host is not known, if so."""
        if self._full:
            return f"the account map is full: {self._full} processes have no account"
        denied = self._still_denied()
        if denied:
            return f"{denied} process{'es' * (denied > 1)} cannot be read"
        unread = self._signs() - self._sweep_signs
        if unread:
            return f"{unread} events concerned processes that have not been read yet"
        return None

    # ---- what the daemon calls ----

    def tick(self, budget: Budget) -> None:
        """What is due when nobody asks: settle doubts, and audit on its own CPU allowance."""
        self._settle(budget, patient=True)
        self._audit()

    def refresh(self, budget: Budget) -> None:
        """Settle what is in doubt before a snapshot; counts follow events by themselves."""
        self._settle(budget, patient=False)

    def _settle(self, budget: Budget, *, patient: bool) -> None:
        """Go to sleep or wake up, and read what is in doubt, within the budget."""
        run = self._see_run()
        if self.asleep:
            if run == SCANNING or self._slept_at != self._stirrings():
                self.wake()
            return
        due = not patient or time.monotonic() >= self._next_sweep
        if due and self._signs() != self._sweep_signs:
            self.sweep()
        self.settle_doubts(budget)
        if run == UNMERGED:
            self._verify_residue(budget)
        if run in (STOPPED, UNMERGED):
            self._try_to_sleep()

    def _audit(self) -> None:
        """Read the next processes of the round, as far as the allowance goes."""
        self._allowance.accrue()
        while not self.asleep and self._allowance.left():
            self._allowance.spend(self._audit_next)

    def _audit_next(self) -> None:
        counts = {c.pid: c for c in self.counts() if c.pid}
        pid = self._round.next(lambda: counts, lambda: sources.pids(self._proc))
        if pid is not None:
            self.read_process(pid)
            if pid in counts:
                self._read_areas(counts[pid])
            self._audited = replace(
                self._audited, reads=self._audited.reads + 1, rounds=self._round.completed
            )

    def _see_run(self) -> int | None:
        run = sources.read_run(self._sys)
        if run is None:
            self.losses["run_unreadable"] += 1
        self.run.see(run)
        return run

    def _verify_residue(self, budget: Budget) -> None:
        """After `run=2`: read whoever still has mappings, and has not been read since."""
        if sources.read_pages_shared(self._sys) != 0:
            return
        for each in self.counts():
            if not budget.left():
                return
            age = self.evidence(each).read_age
            if each.mappings and each.pid and (age is None or age > self.run.state.age):
                self.read_process(each.pid)
                self._read_areas(each)

    def counts(self) -> list[Count]:
        """Every account's count, as of now."""
        # Baselines first: an account is only ever settled after it was opened, so a baseline
        # that is missed here leaves a count in doubt, never wrongly exact.
        baselines = self.maps.baselines()
        found = counts(self.maps.accounts(), baselines)
        self._forget_gone({each.account for each in found})
        return found

    def settle_doubts(self, budget: Budget) -> None:
        """Read exactly the processes whose count is in doubt, until the budget is spent."""
        for each in self.counts():
            if each.exact:
                continue
            if not budget.left():
                return
            if self._alive(each.pid, each.start_ticks):
                self.read_process(each.pid)
            elif (heir := self.owner(each)) is not None:
                self.read_process(heir[0])

    def owner(self, count: Count) -> tuple[int, int] | None:
        """A process that uses an mm whose recorded owner has gone, and its start ticks."""
        known = self._heirs.get(count.account)
        if known is not None and self._alive(*known):
            return known
        if count.account not in self._orphans:
            self._find_heirs()
        return self._heirs.get(count.account)

    def _find_heirs(self) -> None:
        """One pass over /proc for all accounts whose recorded owner has gone."""
        users = {self._mm_of(pid): pid for pid in sources.pids(self._proc)}
        for each in self.counts():
            if self._alive(each.pid, each.start_ticks):
                continue
            self._heirs.pop(each.account, None)
            pid = users.get(each.mm)
            ticks = None if pid is None else self._start_ticks(pid)
            if pid is None or ticks is None:
                self._orphans.add(each.account)
            else:
                self._heirs[each.account] = pid, ticks

    def _mm_of(self, pid: int) -> int | None:
        """The mm of a process; None if it has none, or its file was not seen to be opened."""
        thread = threading.get_native_id()
        self.maps.forget_opened(thread)
        with contextlib.suppress(OSError):
            os.close(os.open(self._proc / str(pid) / "smaps", os.O_RDONLY | os.O_CLOEXEC))
        return self.maps.opened(thread)

    def _start_ticks(self, pid: int) -> int | None:
        try:
            return sources.read_start_ticks(self._proc / str(pid))
        except OSError:
            return None

    def _alive(self, pid: int, ticks: int) -> bool:
        return self._start_ticks(pid) == ticks

    def evidence(self, count: Count) -> Evidence:
        """What exact reads have said about the mm."""
        at = self._read_at.get(count.account)
        age = None if at is None else time.monotonic() - at
        return Evidence(age, self._stray.get(count.account))

    # ---- exact reads ----

    def sweep(self) -> None:
        """Read every process exactly, until a listing shows none that was not read.

        Forks of a process that was read are followed by the hooks; a child of one that was
        not yet read is in a later listing.
        """
        began = time.monotonic()
        self._sweep_signs = self._signs()
        self._full = 0
        seen: set[int] = set()
        while new := [pid for pid in sources.pids(self._proc) if pid not in seen]:
            for pid in new:
                seen.add(pid)
                self.read_process(pid)
        ended = time.monotonic()
        # Signs that never cease must not make sweeping more than a twentieth of the time.
        self._next_sweep = ended + 19 * (ended - began)

    def read_process(self, pid: int) -> Outcome:
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
            self.losses["reads_denied"] += 1
            self._deny(pid)
        elif outcome.read is Read.DISTURBED:
            self.losses["reads_disturbed"] += 1
        else:
            self._denied.pop(pid, None)
        return outcome

    def _open_and_read(self, pid: int) -> Outcome:
        thread = threading.get_native_id()
        self.maps.forget_opened(thread)
        pinned: set[int | None] = set()
        directory = self._proc / str(pid)
        with self._reader.open(directory, lambda: pinned.add(self.maps.opened(thread))) as opened:
            mm = pinned.pop()
            if mm is None or pinned:
                # The probe missed the opening, or the process exec'ed between two.
                self.losses["mm_opened_unseen"] += 1
                return Outcome(Read.UNPINNED)
            settled = any(self._bracket(pid, mm, opened.read) for _ in range(_BRACKETS))
            return Outcome(Read.SETTLED if settled else Read.DISTURBED, mm)

    def _read_areas(self, count: Count) -> None:
        """Look where the KSM mappings of a process are."""
        if not count.mappings:
            self._stray[count.account] = ()
            return
        with contextlib.suppress(OSError):
            areas = read_areas(self._proc / str(count.pid), self._reader)
            self._stray[count.account] = stray(areas)

    def _forget_gone(self, accounts: set[int]) -> None:
        """Drop what was remembered of accounts that are no more."""
        for remembered in (self._read_at, self._stray, self._heirs):
            for gone in remembered.keys() - accounts:
                del remembered[gone]
        self._orphans &= accounts

    def _deny(self, pid: int) -> None:
        ticks = self._start_ticks(pid)
        if ticks is not None:
            self._denied[pid] = ticks

    def _still_denied(self) -> int:
        """How many of the processes that could not be read are still there."""
        self._denied = {p: t for p, t in self._denied.items() if self._alive(p, t)}
        return len(self._denied)

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
            if self._open(mm, pid) and not self._opening:
                self._report(pid, counted=0, found=mappings)
            return False
        self._compare(pid, mm, after, mappings)
        self.maps.put_baseline(mm, settle(after, mappings))
        self._read_at[after.id] = time.monotonic()
        return True

    def _compare(self, pid: int, mm: int, account: Account, found: int) -> None:
        """A count that is thought exact and differs from the page tables is drift."""
        count = ledger.count(mm, account, self.maps.baseline(mm))
        if count.exact and count.mappings != found:
            self._report(pid, counted=count.mappings, found=found)

    def _report(self, pid: int, *, counted: int, found: int) -> None:
        """Drift: exported signed, logged once with its evidence; the caller heals it."""
        self._audited = replace(
            self._audited,
            surplus=self._audited.surplus + max(counted - found, 0),
            missing=self._audited.missing + max(found - counted, 0),
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
            return self.maps.open_account(mm, identity)
        except OSError as error:
            if error.errno != errno.E2BIG:
                raise
            self.losses["accounts_full"] += 1
            self._full += 1
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

    # ---- state for the snapshot ----

    def totals(self) -> dict[str, int]:
        """Host-wide totals since the maps were made, by the names in ``records``."""
        return {which.name.lower(): amount for which, amount in self.maps.totals().items()}

    def probes(self) -> list[ProbeState]:
        """State of every probe of the plan."""
        return [self._probe_state(probe) for probe in self.plan.probes]

    def _probe_state(self, probe: Probe) -> ProbeState:
        names = [program.name for program in probe.programs]
        attached = all(name in self._sentry or name in self._hooks for name in names)
        return ProbeState(probe.event, probe.mechanism, probe.symbol, attached, self._missed(probe))

    def _missed(self, probe: Probe) -> int:
        """Skipped runs (recursion_misses, since 5.12): the program ran on that CPU already."""
        names = [program.name for program in probe.programs]
        return sum(int(libbpf.prog_info(self._programs[n]).recursion_misses) for n in names)

    def audit_state(self) -> AuditState:
        """What the auditor has done so far."""
        return self._audited

    def map_state(self) -> MapState:
        """How full the account map is."""
        return MapState(
            accounts=sum(1 for _ in self.maps.accounts()),
            limit=self.maps.limit,
            memory=self.maps.memory_bytes(),
        )
