"""Live accounting: attaches the plan, takes the baseline, keeps every count known or in doubt.

The BPF programs count; this module decides when they are attached, and reads processes
exactly where an event has put a count in doubt. Only one thread may use a ``Live``.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from ksmwatch.backoff import Backoff
from ksmwatch.config import Config
from ksmwatch.counting.audit_schedule import DEFAULT_POLICY, Allowance, Policy, Round
from ksmwatch.counting.backend import Budget, Evidence
from ksmwatch.counting.backend_state import AuditState, MapState, Mode, ProbeState
from ksmwatch.counting.exact_read import Outcome, ProcessReader
from ksmwatch.counting.ledger import Count, Ledger, uncounted
from ksmwatch.counting.run_state import SCANNING, STOPPED, UNMERGED, RunWatch
from ksmwatch.kernel import libbpf, probe_switches, procfs
from ksmwatch.kernel.events import Mechanism
from ksmwatch.kernel.page_tables import PagemapReader, SmapsReader
from ksmwatch.log import logger
from ksmwatch.probes import cow_call_site
from ksmwatch.probes.attachments import AttachError, Attachments, attach
from ksmwatch.probes.loader import Loaded
from ksmwatch.probes.maps import Maps
from ksmwatch.probes.persistence import Keep, Nowhere
from ksmwatch.probes.plan import Plan, Probe
from ksmwatch.probes.records import Control, Total

# Events whose loss makes a count wrong. A missed mm_goes shows as a stale account, a missed
# mm_opened as a read that could not be attributed.
_COUNTING = frozenset(
    {
        "rmap_add",
        "rmap_remove",
        "moves_away",
        "merge",
        "protect",
        "enter",
        "fork",
        "tree_grows",
        "tree_shrinks",
        "move",
    }
)
# Sweeps take a twentieth of the time at most; renewals, before which nothing is known, a fifth.
_SWEEP_PATIENCE = 19
_RENEWAL_PATIENCE = 4


class Live:
    """The BPF backend.

    Asleep, no KSM page exists and ksmd is not running: then only the probes that can see KSM
    wake up are attached, and every count is known to be 0.

    `progress` is called again and again while something takes long.
    """

    mode = Mode.BPF

    def __init__(
        self,
        loaded: Loaded,
        plan: Plan,
        reader: SmapsReader | PagemapReader,
        *,
        keep: Keep | None = None,
        links: Mapping[str, int] | None = None,
        policy: Policy = DEFAULT_POLICY,
        proc: Path = Path("/proc"),
        sys: Path = Path("/sys"),
    ) -> None:
        self.maps = Maps(loaded)
        self._ledger = Ledger()
        self.plan = plan
        self.losses: Counter[str] = Counter()
        self._programs = loaded.programs
        self._learner = loaded.learner
        self.reader = ProcessReader(self.maps, reader, self.losses, self._explain, proc)
        self._proc = proc
        self._sys = sys
        self._keep = keep or Nowhere()
        self._attached = Attachments(loaded.programs, self._keep, links, sys)
        self._sentry = [probe for probe in plan.probes if probe.asleep]
        self._hooks = [probe for probe in plan.probes if not probe.asleep]
        # Whether the hooks are off, for whatever reason.
        self.unhooked = True
        self.adopted = False
        self._ksmd = procfs.find_ksmd(proc)
        self._refused: str | None = None
        # An attempt attaches and detaches a dozen programs: who asks is not to wait for each.
        self._backoff, self._next_attempt = Backoff(), 0.0
        self._slept_at: int | None = None
        self._sweep_signs = self._alarms_swept = 0
        self._next_sweep = 0.0
        self._doubts_seen = 0
        # Why attached probes do not run, and how often that was seen.
        self._stopped: str | None = None
        self._stops = 0
        # Which probe is not attached any more, as a sentence.
        self._lost: str | None = None
        self._drift_seen = 0
        # Why all probes have to be attached anew, and not before when.
        self._renewal: str | None = None
        self._next_renewal = 0.0
        self._heals, self._allowance = policy.heal, Allowance(policy.share)
        self.progress: Callable[[], None] = lambda: None
        self._round = Round()
        self.run = RunWatch(time.monotonic)

    # ---- attachment ----

    def start(self) -> None:
        """Attach everything and take the baseline. Raises AttachError."""
        self._control(doubt=True, asleep=True)
        self._learn_copies()
        self._attached.attach(self._sentry)
        self.wake()

    def _learn_copies(self) -> None:
        """Tell COW breaks from unmapping from now on, if it can be. The counts do not need it."""
        if self._learner is None:
            return
        learnt = False
        try:
            (program,) = self.plan.learners
            link = attach(self._learner, program, self._sys)
            try:
                learnt = cow_call_site.learn(self.maps)
            finally:
                os.close(link)
        except OSError as error:
            logger.warning(
                "the call site of COW breaks cannot be learnt", extra={"why": error.strerror}
            )
        if not learnt:
            logger.warning(
                "COW breaks are counted as unmapped: on this host the two cannot be told apart"
            )
        os.close(self._learner)
        self._learner = None

    def adopt(self) -> bool:
        """Go on with what a daemon before us has left; False if it is not whole.

        If it was killed while hooks went on or off, they are put on again and every process
        is read. Otherwise the counts were kept all along, and are trusted one by one as soon
        as each has been compared with the page tables.
        """
        if not self._attached.holds(self._sentry):
            return False
        left = self.maps.read_control()
        self.adopted = True
        if left.opening_doubt or not self._attached.holds(self._hooks):
            self._begin_anew()
            return True
        self.unhooked = self.reader.opening = False
        self._sweep_signs, self._alarms_swept = left.sweep_signs, left.alarms_swept
        self._distrust()
        self._control(doubt=False)
        return True

    @property
    def asleep(self) -> bool:
        """Whether the hooks are off because there is nothing to see, not because they must be."""
        return self.unhooked and self._why_unknown() is None

    def stop(self) -> None:
        """End. Everything is detached, unless a keeper hands it to the next daemon."""
        if not self._keep.hands_over:
            self.discard()

    def discard(self) -> None:
        """Detach everything and free the maps."""
        self._attached.detach(self._hooks)
        self._attached.detach(self._sentry)
        self._keep.clear()
        for fd in self._programs.values():
            os.close(fd)
        self.maps.close()

    def wake(self) -> None:
        """Attach the remaining hooks and make every count known.

        If nothing stirred while asleep, no KSM page exists and all counts are 0: nothing
        needs to be read. What comes since then is counted by the hooks.
        """
        self._attached.attach(self._hooks)
        self._control(doubt=True)
        self.unhooked = False
        if self._slept_at is None or self._slept_at != self._stirrings():
            self.sweep()
        self._slept_at = None
        self.reader.opening = False
        self._control(doubt=False)

    def _begin_anew(self) -> None:
        """Take all probes off, as far as they are on, put them on, and read every process."""
        self._take_off()
        self._forget_accounts()
        # As if asleep: if the probes cannot go on now, it is tried again.
        self.unhooked = self.reader.opening = True
        self._slept_at = None
        self._control(doubt=True, asleep=True)
        self._attached.attach(self._sentry)
        self.wake()

    def _take_off(self) -> None:
        """Detach everything. Nobody sees the end of a conversion that is under way now."""
        self._attached.detach(self.plan.probes)
        self.maps.end_conversion()

    def _see_conversion(self) -> None:
        """If ksmd sleeps, which it does not do in a conversion, the end of one was missed."""
        before = self.maps.conversion()
        if not before.page or not self._ksmd or not procfs.sleeps(self._proc / str(self._ksmd)):
            return
        if self.maps.conversion().serial == before.serial:
            self.maps.end_conversion()

    def _renew(self, why: str) -> None:
        """Attach all probes anew, and every count after it.

        Accounts whose mm went meanwhile have to go. What is wrong by now is exported and logged
        before that, while there is something to compare with.
        """
        began = time.monotonic()
        self.losses["renewals"] += 1
        logger.warning("reattaching all probes and reading every process", extra={"why": why})
        self._take_off()
        self._attempt(lambda: self._attached.attach(self.plan.probes))
        if self._refused is None:
            self.sweep()
            self.reader.opening = True
            self._control(doubt=True)
            self._forget_accounts()
            self.sweep()
            self.reader.opening = False
            self._control(doubt=False)
        else:
            self._attempt(self._begin_anew)
        self._drift_seen = self.reader.audited.drift
        self._renewal = None
        self._see_lost()
        ended = time.monotonic()
        self._next_renewal = ended + _RENEWAL_PATIENCE * (ended - began)

    def _attempt(self, attach: Callable[[], None]) -> None:
        """What could be attached before can be refused now; then nothing is known."""
        try:
            attach()
        except AttachError as error:
            self.losses["attach_failed"] += 1
            self._refused = f"{error.probe.symbol} can no longer be attached: {error.strerror}"
            self._next_attempt = time.monotonic() + self._backoff.next()
        else:
            self._refused, self._backoff, self._next_attempt = None, Backoff(), 0.0

    def _try_to_sleep(self) -> None:
        """Take the hooks off if no KSM page exists, which is more than that none is mapped.

        A KSM page that is only in the swap cache can be mapped again, and keeps its stable
        node, which pages_shared counts until ksmd looks. Whatever stirs between the look at
        the counts and the detachment shows later as a difference from `_slept_at`.
        """
        stirrings = self._stirrings()
        if not any(probe.event == "swapin" for probe in self._sentry):
            return
        if procfs.read_pages_shared(self._sys) != 0 or self.doubt is not None:
            return
        # The dearest question last: it looks at every account.
        if any(map(self._may_map, self.counts())):
            return
        self._slept_at = stirrings
        self.reader.opening = True
        self._control(doubt=True, asleep=True)
        self._attached.detach(self._hooks)
        self.unhooked = True
        self._forget_accounts()

    def _may_map(self, count: Count) -> bool:
        """Whether the mm may have KSM mappings. One that no process uses has no PTE left."""
        empty = count.exact and count.mappings == 0
        return not empty and self.reader.alive(count.pid, count.start_ticks)

    def _forget_accounts(self) -> None:
        for mm in self.maps.accounts():
            self.maps.close_account(mm)

    def _control(self, *, doubt: bool, asleep: bool = False) -> None:
        self.maps.control(
            Control(
                ksmd=self._ksmd,
                reader=os.getpid(),
                opening_doubt=int(doubt),
                asleep=int(asleep),
                sweep_signs=self._sweep_signs,
                alarms_swept=self._alarms_swept,
            )
        )

    def _stirrings(self) -> int:
        """Grows when a KSM page may have come to be mapped while nobody counted."""
        return self.maps.total(Total.MERGE_CONVERTED) + self.maps.total(Total.SWAPIN_KSM)

    def _signs(self) -> int:
        """Grows when something happened after which any process may be wrong."""
        seen = (
            Total.FAMILIES_TRUNCATED,
            Total.FAMILIES_CHANGED,
            Total.CONVERSIONS_UNSEEN,
            Total.EVENTS_LOST,
        )
        missed = sum(self._missed(probe) for probe in self.plan.probes if probe.event in _COUNTING)
        return self._stops + missed + sum(self.maps.total(which) for which in seen)

    def _unread(self) -> str | None:
        unread = self._signs() - self._sweep_signs
        if not unread:
            return None
        return f"events concern processes that have not been read yet ({unread})"

    def _announce(self) -> None:
        """Tell the reader which loss explains wrong counts; without one they are drift."""
        self.reader.announced = self._why_unknown() or self._unread()

    def _explain(self) -> str | None:
        """A loss that nobody has looked for yet, and that explains a count that was wrong."""
        self._see_switches()
        self._see_lost()
        return self._why_unknown() or self._unread()

    def _why_unknown(self) -> str | None:
        """Why no count is known, whatever was read."""
        return self._refused or self._stopped or self._lost or self._renewal

    @property
    def doubt(self) -> str | None:
        """Why the sum over the host is not known, if so."""
        unknown = self._why_unknown()
        if unknown is not None:
            return unknown
        roomless = len(self.reader.without_room())
        if roomless:
            plural = "es have" if roomless > 1 else " has"
            return f"the account map is full: {roomless} process{plural} no account"
        denied = self.reader.denied()
        if denied:
            return f"{denied} process{'es' * (denied > 1)} cannot be read"
        return self._unread()

    # ---- what the daemon calls ----

    def configure(self, settings: Config) -> None:
        """Take a new policy of reading page tables."""
        policy = Policy.of(settings)
        self._heals, self._allowance = policy.heal, Allowance(policy.share)

    def tick(self, budget: Budget) -> None:
        """What is due when nobody asks: settle doubts, and audit on its own CPU allowance."""
        self.reader.see_migrations()
        self._see_conversion()
        self._settle(budget, patient=True)
        self._audit()

    def refresh(self, budget: Budget) -> None:
        """Settle what is in doubt before a snapshot; counts follow events by themselves."""
        self._settle(budget, patient=False)

    def _settle(self, budget: Budget, *, patient: bool) -> None:
        """Go to sleep or wake up, and read what is in doubt, within the budget."""
        run = self._see_run()
        self._see_switches()
        self._see_lost()
        if self.unhooked:
            if time.monotonic() >= self._next_attempt:
                self._hook(run)
            return
        if self._heals:
            self._heal(budget, run, patient=patient)
        if run in (STOPPED, UNMERGED):
            self._try_to_sleep()

    def _hook(self, run: int | None) -> None:
        """Put the hooks on if there is a reason to."""
        if self._lost or self._renewal:
            self._renewal = None
            self._attempt(self._begin_anew)
            self._see_lost()
        elif run == SCANNING or self._slept_at != self._stirrings():
            self._attempt(self.wake)

    def _heal(self, budget: Budget, run: int | None, *, patient: bool) -> None:
        """Read whatever is in doubt or not known."""
        now = time.monotonic()
        if self.reader.audited.drift != self._drift_seen:
            self._renewal = self._renewal or "counts have drifted"
        why = self._lost or self._renewal
        if why is not None and self._stopped is None and now >= self._next_renewal:
            self._renew(why)
        due = not patient or now >= self._next_sweep
        if due and self._signs() != self._sweep_signs:
            self.sweep()
        self._announce()
        self._find_room(budget)
        self.settle_doubts(budget)
        if run == UNMERGED:
            self._verify_residue(budget)

    def _audit(self) -> None:
        """Read the next processes of the round, as far as the allowance goes."""
        self._allowance.accrue()
        while self._heals and not self.unhooked and self._allowance.left():
            self._allowance.spend(self._audit_next)

    def _audit_next(self) -> None:
        pid = self._round.next(
            lambda: [c.pid for c in self.counts() if c.pid], lambda: procfs.pids(self._proc)
        )
        if pid is not None:
            self.reader.read(pid)
            if self.reader.settled is not None:
                self.reader.read_areas(pid, *self.reader.settled)
            audited = self.reader.audited
            self.reader.audited = replace(
                audited, reads=audited.reads + 1, rounds=self._round.completed
            )

    def _see_run(self) -> int | None:
        run = procfs.read_run(self._sys)
        if run is None:
            self.losses["run_unreadable"] += 1
        self.run.see(run)
        return run

    def _see_switches(self) -> None:
        """While probes do not run, and once more after it, any process may be wrong."""
        kprobes = Mechanism.KPROBE in {probe.mechanism for probe in self.plan.probes}
        stopped = probe_switches.read_stopped(self._proc, self._sys, kprobes=kprobes)
        if stopped is not None and self._stopped is None:
            self.losses["probes_stopped"] += 1
        if stopped is not None or self._stopped is not None:
            self._stops += 1
            # Whatever stirs now is not seen: no reason to take all counts for 0.
            self._slept_at = None
        if stopped is None and self._stopped is not None:
            # Kernel 6.1 does not put every trampoline on again.
            self._renewal = "probes did not run for a while"
        self._stopped = stopped

    def _see_lost(self) -> None:
        """A probe that is not attached any more, of those that should be."""
        lost = self._attached.first_lost(self._sentry if self.unhooked else self.plan.probes)
        if lost is not None and self._lost is None:
            self.losses["probes_lost"] += 1
        self._lost = None if lost is None else f"the probe on {lost.symbol} was taken off"

    def _find_room(self, budget: Budget) -> None:
        """Try those again that found no room for an account, until the first that finds none."""
        for pid in self.reader.without_room():
            if not budget.left() or self.reader.read(pid) is not Outcome.SETTLED:
                return

    def _verify_residue(self, budget: Budget) -> None:
        """After `run=2`: read whoever still has mappings, and has not been read since."""
        if procfs.read_pages_shared(self._sys) != 0:
            return
        for each in self.counts():
            if not budget.left():
                return
            at = self.reader.evidence(each).read_at
            if each.mappings and each.pid and (at is None or at < self.run.state.since):
                self.reader.read(each.pid)
                self.reader.read_areas(each.pid, each.account, each.mappings)

    def counts(self) -> list[Count]:
        """Every account's count, as of now. None is exact while anybody's may be wrong."""
        found = self._counts()
        # Asked afterwards: an alarm is raised before what makes counts wrong.
        unknown = self._why_unknown() or self._unread()
        conversion = self.maps.conversion()
        if unknown or conversion.in_place:
            return [
                replace(each, exact=False) if unknown or uncounted(conversion, each.mm) else each
                for each in found
            ]
        return found

    def _counts(self) -> list[Count]:
        """Every account's count, exact unless it needs to be read itself."""
        # Baselines first: an account is only ever settled after it was opened, so a baseline
        # that is missed here leaves a count in doubt, never wrongly exact.
        baselines = self.maps.baselines()
        found = self._ledger.counts(self.maps.accounts(), baselines)
        self.reader.forget_others({each.account for each in found})
        unverified = self.reader.unverified
        if not unverified:
            return found
        return [
            replace(each, exact=False) if each.account in unverified else each for each in found
        ]

    def _distrust(self, why: str | None = None) -> None:
        """No account that there is now counts as exact until it has been read.

        What is wrong then is explained by `why`; without that it is drift.
        """
        self.reader.unverified = {account.id: why for account in self.maps.accounts().values()}
        self.reader.unsettled = True

    def settle_doubts(self, budget: Budget) -> None:
        """Read exactly the processes whose count is in doubt, until the budget is spent.

        Looks at no account unless one was put in doubt since the last time, or was left so.
        """
        doubts = self.maps.total(Total.DOUBTS)
        if doubts == self._doubts_seen and not self.reader.unsettled:
            return
        self._doubts_seen, self.reader.unsettled = doubts, False
        for each in self._counts():
            if each.exact or not self.reader.alive(each.pid, each.start_ticks):
                continue
            if not budget.left():
                self.reader.unsettled = True
                return
            self.reader.read(each.pid)

    def evidence(self, count: Count) -> Evidence:
        """What exact reads have said about the mm."""
        return self.reader.evidence(count)

    # ---- exact reads ----

    def sweep(self) -> None:
        """Read every process exactly, until a listing shows none that was not read.

        Forks of a process that was read are followed by the hooks; a child of one that was
        not yet read is in a later listing.
        """
        began = time.monotonic()
        self._announce()
        # Signs first: what comes between the two looks has not been read for.
        self._sweep_signs, self._alarms_swept = self._signs(), self.maps.alarms()
        self._distrust(self.reader.announced)
        seen: set[int] = set()
        while new := [pid for pid in procfs.pids(self._proc) if pid not in seen]:
            for pid in new:
                seen.add(pid)
                self.reader.read(pid)
                self.progress()
        self._announce()
        ended = time.monotonic()
        # Signs may never cease.
        self._next_sweep = ended + _SWEEP_PATIENCE * (ended - began)
        self._control(doubt=self.reader.opening)

    # ---- state for the snapshot ----

    def totals(self) -> dict[str, int]:
        """Host-wide totals since the maps were made, by the names in ``records``."""
        return {which.name.lower(): amount for which, amount in self.maps.totals().items()}

    def probes(self) -> list[ProbeState]:
        """State of every probe of the plan."""
        return [self._probe_state(probe) for probe in self.plan.probes]

    def _probe_state(self, probe: Probe) -> ProbeState:
        attached = self._attached.holds([probe])
        return ProbeState(probe.event, probe.mechanism, probe.symbol, attached, self._missed(probe))

    def _missed(self, probe: Probe) -> int:
        """Skipped runs (recursion_misses, since 5.12): the program ran on that CPU already."""
        names = [program.name for program in probe.programs]
        return sum(int(libbpf.prog_info(self._programs[n]).recursion_misses) for n in names)

    def audit_state(self) -> AuditState:
        """What the auditor has done so far."""
        return self.reader.audited

    def map_state(self) -> MapState:
        """How full the account map is."""
        return MapState(
            accounts=self.maps.filled,
            limit=self.maps.limit,
            memory=self.maps.memory_bytes(),
            kept=self._keep.works and not self._attached.unkept,
            adopted=self.adopted,
        )
