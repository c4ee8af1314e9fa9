"""No sequence of events leads to a count that is called exact and is wrong.

Hypothesis invents sequences on a kernel that knows the truth: KSM at work, every kind of loss that
announces itself, hooks that others take off, stop or refuse, processes that cannot be read, a
daemon that is killed at any moment. After each pass of the backend all that it claims is compared.
"""

from __future__ import annotations

import re
import tempfile
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,
)

from ksmwatch.counting.audit_schedule import Policy
from ksmwatch.counting.backend import Budget
from ksmwatch.counting.ledger import count
from ksmwatch.counting.live_backend import Live, _Pass
from ksmwatch.counting.next_step import EFFECTS, Step
from ksmwatch.probes.map_records import Control, Conversion, Migrations, Movement, Total
from tests.fake_kernel import KSMD, FakeReader, Kernel
from tests.fakes import Clock

# So small that it is full at times.
ROOM = 5
EXAMPLES = 40
FIRST_PID = 100
COUNTING = ("rmap_add", "rmap_remove", "merge", "protect", "enter", "fork", "move")
OTHERS = ("mm_goes", "mm_opened", "swapin")


class KilledError(BaseException):
    """kill -9 of the daemon."""


class Watched(Live):
    """Compares what each step leads to with what docs/design.md says of it."""

    def _act(self, step: Step, why: str, at: _Pass) -> _Pass:
        reader = self._accounting._reader._reader
        assert isinstance(reader, FakeReader)
        quiet, before = not reader.kernel.after_reads, self._state(at).phase
        at = super()._act(step, why, at)
        effect, after = EFFECTS[step], self._state(at).phase
        if quiet:
            assert after in effect.leads_to or (effect.stays and after is before), (step, after)
        return at


class Worker(Clock):
    """CPU time, some of which every look takes."""

    def __call__(self) -> float:
        """The time."""
        self.now += 0.005
        return self.now


class Town(Kernel):
    """A kernel on which KSM works by its rules, and the truth about it."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.maps.limit = ROOM
        self.cpu = Worker(0.0)
        self._last_pid = FIRST_PID
        # By mm: pages in the swap cache, whose stable node stays; on their way to another
        # place; conversions that have turned a PTE and are not over.
        self.swapped: Counter[int] = Counter()
        self.moving: Counter[int] = Counter()
        self.converting: set[int] = set()
        self.runs = True

    def share(self) -> None:
        """What the kernel says of all KSM pages."""
        exist = any(self.pages.values()) or any(self.swapped.values())
        self.sys.write("pages_shared", int(exist))

    def switch(self, value: int) -> None:
        """Stop all probes, or let them go on: 6.1 does not put every trampoline on again."""
        self.dead |= self._trampolines("rmap_add") if value and not self.runs else set()
        self.runs = bool(value)
        self.switch_ftrace(value)

    def _trampolines(self, event: str) -> set[str]:
        (probe,) = (probe for probe in self.plan.probes if probe.event == event)
        return {program.name for program in probe.programs}

    # ---- what happens, to the process that is chosen by a number ----

    def _mm(self, which: int) -> int | None:
        pids = sorted(self.users)
        return self.users[pids[which % len(pids)]] if pids else None

    def born(self, which: int) -> None:
        """A process without KSM pages."""
        self._last_pid += 1
        self.spawn(self._last_pid, ticks=5000 + self._last_pid)

    def fork(self, which: int) -> None:
        """The child begins with the parent's count, in doubt."""
        parent = self._mm(which)
        if parent is None:
            return
        self._last_pid += 1
        pages = self.pages[parent]
        child = self.spawn(self._last_pid, pages, ticks=5000 + self._last_pid)
        account = self.accounts.get(parent)
        if pages and self.sees("fork") and self.sees("enter") and self.event(child, doubts=1):
            known = account and count(parent, account, self.baselines.get(parent)).mappings
            moves = [0] * len(Movement)
            moves[Movement.FORKED] = known or 0
            self.accounts[child] = self.accounts[child]._replace(moves=tuple(moves))

    def exits(self, which: int) -> None:
        """All PTEs go, then the account."""
        mm = self._mm(which)
        if mm is None or mm in self.converting or self.moving[mm]:
            return
        if self.pages[mm]:
            self.move(mm, self.pages[mm], Movement.EXITED)
        self.swapped.pop(mm, None)
        for pid in [pid for pid, used in self.users.items() if used == mm]:
            self.end(pid)
        if self.sees("mm_goes"):
            self.maps.close_account(mm)

    def merge(self, which: int) -> None:
        """A page is replaced by an existing KSM page."""
        mm = self._mm(which)
        if mm is not None and self._scans() and any(self.pages.values()):
            self.move(mm, 1)

    def unmap(self, which: int) -> None:
        """A KSM page goes."""
        mm = self._mm(which)
        if mm is not None and self.pages[mm] > self.moving[mm]:
            self.move(mm, 1, Movement.UNMAPPED)

    def convert(self, which: int) -> None:
        """Ksmd turns a page into a KSM page in place."""
        self.begin_to_convert(which)
        self.end_conversions(which)

    def begin_to_convert(self, which: int) -> None:
        """The PTE maps a KSM page, and the hook at the return has not run yet."""
        self._begin_to_convert(self._mm(which))

    def convert_shared(self, which: int) -> None:
        """Two processes map the page: both PTEs turn."""
        one, other = self._mm(which), self._mm(which + 1)
        if one != other:
            self._begin_to_convert(one, other)
            if which % 2:
                self.end_conversions(which)

    def _begin_to_convert(self, *mms: int | None) -> None:
        turning = [mm for mm in mms if mm is not None]
        if len(turning) < len(mms) or not self._scans() or self.converting:
            return
        seen, shared = not self.control.asleep, len(turning) > 1
        if self.sees("merge"):
            self.conversion = Conversion(
                serial=self.conversion.serial + 1,
                page=1,
                mm=turning[0],
                seen=int(seen),
                shared=int(seen and shared),
            )
            if seen and shared:
                self.doubt_family()
        self.ksmd("R")
        for mm in turning:
            self.pages[mm] += 1
        self.converting = set(turning)

    def end_conversions(self, which: int) -> None:
        """Counted only if the beginning was seen."""
        if self.converting and self.sees("merge"):
            if self.conversion.page:
                self._count_conversion()
            else:
                self.totals[Total.CONVERSIONS_UNSEEN] += 1
        self.converting.clear()
        self.ksmd("S")

    def _count_conversion(self) -> None:
        self.totals[Total.MERGE_CONVERTED] += 1
        begun, mm = self.conversion, self.conversion.mm
        family = bool(begun.shared)
        if begun.seen and self.event(mm):
            moves = list(self.accounts[mm].moves)
            moves[Movement.CONVERTED] += 1
            self.accounts[mm] = self.accounts[mm]._replace(moves=tuple(moves))
        elif not begun.seen:
            # Begun while the hooks were off.
            family = not self.control.asleep
        if family:
            self.doubt_family()
        self.conversion = Conversion(serial=begun.serial)

    def doubt_family(self) -> None:
        """All are one family here."""
        for mm in set(self.users.values()):
            self.doubt(mm)

    def ksmd(self, state: str) -> None:
        """Running, or asleep."""
        stat = self.proc.path / str(KSMD) / "stat"
        stat.write_text(re.sub(r"\) \w ", f") {state} ", stat.read_text()))

    def move_within(self, which: int) -> None:
        """mremap: a read may see a PTE twice or never."""
        mm = self._mm(which)
        if mm is not None and self.sees("move"):
            self.moves[mm] += 1

    def swap_out(self, which: int) -> None:
        """To the swap cache alone."""
        mm = self._mm(which)
        if mm is not None and self.pages[mm] > self.moving[mm]:
            self.move(mm, 1, Movement.UNMAPPED)
            self.swapped[mm] += 1

    def swap_in(self, which: int) -> None:
        """And back."""
        mm = self._mm(which)
        if mm is not None and self.swapped[mm]:
            self.totals[Total.SWAPIN_KSM] += int(self.sees("swapin"))
            self.swapped[mm] -= 1
            self.move(mm, 1, Movement.OTHER)

    def begin_to_migrate(self, which: int) -> None:
        """Its hook has counted a page as gone; smaps sees the migration entry."""
        mm = self._mm(which)
        if mm is None or self.pages[mm] <= self.moving[mm] or not self.sees("rmap_remove"):
            return
        self.count(mm, 1, Movement.UNMAPPED)
        self.moving[mm] += 1
        self.migrations = Migrations(self.migrations.begun + 1, self.migrations.ended)

    def end_migrations(self, which: int) -> None:
        """They arrive."""
        for mm, pages in self.moving.items():
            if pages:
                self.count(mm, pages, Movement.OTHER)
        self.moving.clear()
        self.migrations = Migrations(self.migrations.begun, self.migrations.begun)

    def lose(self, which: int) -> None:
        """A page comes to an unknown process; the alarm is raised before."""
        mm = self._mm(which)
        if mm is not None and any(self.pages.values()):
            self.totals[(Total.EVENTS_LOST, Total.FAMILIES_TRUNCATED)[which % 2]] += 1
            self.pages[mm] += 1

    def miss_a_run(self, which: int) -> None:
        """A page goes while the program runs on that CPU already."""
        mm = self._mm(which)
        if mm is not None and self.pages[mm] > self.moving[mm]:
            (program,) = self._trampolines("rmap_remove")
            self.missed[program] += int(self.sees("rmap_remove"))
            self.pages[mm] -= 1

    def deny(self, which: int) -> None:
        """A process cannot be read any more."""
        if self.users:
            self.denied.add(sorted(self.users)[which % len(self.users)])

    def permit(self, which: int) -> None:
        """All can be read."""
        self.denied.clear()

    def _scans(self) -> bool:
        return (self.sys.ksm / "run").read_text().strip() == "1"


HAPPENS: dict[str, Callable[[Town, int], None]] = {
    each.__name__: each
    for each in (
        *(Town.born, Town.fork, Town.exits, Town.merge, Town.unmap, Town.convert),
        *(Town.begin_to_convert, Town.end_conversions, Town.convert_shared, Town.swap_out),
        *(Town.swap_in, Town.begin_to_migrate, Town.end_migrations, Town.lose, Town.miss_a_run),
        *(Town.move_within, Town.deny, Town.permit),
    )
}
events = st.tuples(st.sampled_from(sorted(HAPPENS)), st.integers(0, 7))


class Truth(RuleBasedStateMachine):
    """Sequences of events and passes."""

    # So that a run that has compared nothing does not pass.
    right = 0

    @initialize(
        run=st.sampled_from([1, 1, 1, 1, 0, 2]), pages=st.lists(st.integers(0, 3), max_size=4)
    )
    def begin(self, run: int, pages: list[int]) -> None:
        """Some processes with this many pages."""
        self.directory = tempfile.TemporaryDirectory()
        self.town = Town(Path(self.directory.name))
        for number in pages:
            self.town.born(0)
            self.town.pages[self.town.users[max(self.town.users)]] = number
        self.town.sys.write("run", run)
        self.town.share()
        self.looked = True
        self.live = self.daemon()
        self.live.start()

    def teardown(self) -> None:
        """Nothing is left."""
        self.directory.cleanup()

    def daemon(self) -> Live:
        """One that audits."""
        return self.town.live(policy=Policy(0.05), kind=Watched)

    # ---- the world ----

    @rule(happening=st.lists(events, min_size=1, max_size=8))
    def happens(self, happening: list[tuple[str, int]]) -> None:
        """In this order."""
        for name, which in happening:
            HAPPENS[name](self.town, which)
        self.town.share()

    @rule(run=st.sampled_from([0, 1, 2]))
    def ksm_is_told(self, run: int) -> None:
        """By its `run`."""
        self.town.sys.write("run", run)
        if run == 2:
            # It unmerges what it knows, before the write returns.
            for mm, pages in list(self.town.pages.items()):
                if pages > self.town.moving[mm] and mm not in self.town.converting:
                    self.town.move(mm, pages - self.town.moving[mm], Movement.COPIED)
            self.town.swapped.clear()
        self.town.share()

    @rule(event=st.sampled_from(COUNTING + OTHERS))
    def a_probe_is_taken_off(self, event: str) -> None:
        """By another tool."""
        self.town.take_off(event)

    @precondition(lambda self: self.looked)
    @rule(value=st.integers(0, 1))
    def probes_are_stopped_or_go_on(self, value: int) -> None:
        """The daemon looks every second, so it sees every stop of this length."""
        self.town.switch(value)
        self.looked = False

    @rule(event=st.sampled_from([*COUNTING, *OTHERS, None]))
    def attaching_is_refused_or_not(self, event: str | None) -> None:
        """From now on."""
        self.town.refused = set() if event is None else {event}

    @rule(seconds=st.sampled_from([0.5, 1, 5, 40, 100]))
    def time_passes(self, seconds: float) -> None:
        """Nothing happens."""
        self.town.clock.now += seconds

    # ---- the daemon ----

    def during(self, inside: list[tuple[str, int] | None]) -> None:
        """So many reads from now on are disturbed; None: the daemon is killed at that one."""

        def happen(event: tuple[str, int] | None) -> None:
            if event is None:
                raise KilledError
            self.town.clock.now += 0.1
            self.happens([event])

        def nothing() -> None:
            pass

        early, late = self.town.during_reads, self.town.after_reads
        early.clear()
        late.clear()
        for event in inside:
            # The PTEs are counted after it, or before.
            at = partial(happen, event)
            early.append(nothing if event and event[1] % 2 else at)
            late.append(at if event and event[1] % 2 else nothing)

    @rule(
        inside=st.lists(events | st.none(), max_size=6),
        seconds=st.sampled_from([-1, 3600]),
        patient=st.booleans(),
    )
    def pass_of_the_daemon(
        self, inside: list[tuple[str, int] | None], seconds: float, *, patient: bool
    ) -> None:
        """With or without budget."""
        self.during(inside)
        budget = Budget(seconds, self.town.clock)
        try:
            (self.live.tick if patient else self.live.refresh)(budget)
        except KilledError:
            self.is_killed_and_followed([], [])
            return
        self.during([])
        self.looked = True
        self.compare()

    @rule(inside=st.lists(events, max_size=4), before=st.lists(events, max_size=4))
    def is_killed_and_followed(
        self, inside: list[tuple[str, int]], before: list[tuple[str, int]]
    ) -> None:
        """What outlives it are maps, programs and attachments."""
        if before:
            self.happens(before)
        self.town.refused = set()
        if self.looked:
            # A stop that the one before has seen is over before the next one looks.
            self.town.switch(1)
        self.during([*inside])
        self.live = self.daemon()
        if not self.live.adopt():
            self.live.discard()
            self.town.accounts.clear()
            self.town.baselines.clear()
            self.town.totals.clear()
            self.town.missed.clear()
            self.town.migrations = Migrations(0, 0)
            self.town.conversion = Conversion()
            self.town.control = Control(0, 0, 1, 0, 0, 0)
            self.live = self.daemon()
            self.live.start()
        self.during([])
        # It has not looked yet: every daemon makes a snapshot before it says anything.
        self.live.refresh(Budget(3600, self.town.clock))
        self.looked = True
        self.compare()

    # ---- the truth ----

    def compare(self) -> None:
        """Every claim with the truth."""
        town = self.town
        doubt = self.live.doubt
        claims: dict[int, tuple[int, bool]] = {
            each.mm: (each.mappings, each.exact) for each in self.live.counts()
        }
        for mm in set(town.users.values()) - town.converting:
            truth = town.pages[mm] - town.moving[mm]
            # Without an account nothing is mapped, if the host's sum is known.
            mappings, exact = claims.get(mm, (0, doubt is None))
            assert not exact or mappings == truth, (mm, mappings, truth, doubt)
            type(self).right += exact and truth > 0


@pytest.mark.timeout(0)
def test_what_is_called_exact_is_right() -> None:
    Truth.right = 0
    run_state_machine_as_test(
        Truth,
        settings=settings(
            max_examples=EXAMPLES,
            stateful_step_count=30,
            suppress_health_check=list(HealthCheck),
        ),
    )
    assert Truth.right > EXAMPLES
