"""A kernel on which KSM works by its rules, and the truth about it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from hypothesis import strategies as st

from ksmwatch.counting.ledger import count
from ksmwatch.probes.map_records import Conversion, Movement, Total
from tests.fake_kernel import KSMD, Kernel
from tests.fakes import Clock

# So small that it is full at times.
ROOM = 5
FIRST_PID = 100


class Worker(Clock):
    """CPU time, some of which every look takes."""

    def __call__(self) -> float:
        self.now += 0.005
        return self.now


class Town(Kernel):
    """A kernel on which KSM works by its rules, and the truth about it."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.maps.limit = ROOM
        self.cpu = Worker(0.0)
        self._last_pid = FIRST_PID
        # By mm: pages in the swap cache, whose stable node stays; conversions that have turned a
        # PTE and are not over.
        self.swapped: Counter[int] = Counter()
        self.converting: set[int] = set()
        # Calls of migrate_pages() under way that a hook has seen.
        self.calls = 0
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
        mm = self._mm(which)
        if mm is not None and self.swapped[mm]:
            self.totals[Total.SWAPIN_KSM] += int(self.sees("swapin"))
            self.swapped[mm] -= 1
            self.move(mm, 1, Movement.OTHER)

    def begin_to_migrate(self, which: int) -> None:
        """Hooks, if they are attached, have counted it as gone; smaps sees the migration entry."""
        mm = self._mm(which)
        if mm is None or self.pages[mm] <= self.moving[mm]:
            return
        self.count(mm, 1, Movement.UNMAPPED)
        self.moving[mm] += 1
        if self.sees("migrate"):
            self.calls += 1
            self.migrations = self.migrations._replace(begun=self.migrations.begun + 1)

    def unmap_what_moves(self, which: int) -> None:
        """A migration entry goes without an event."""
        mm = self._mm(which)
        if mm is not None and self.moving[mm]:
            self.moving[mm] -= 1
            self.pages[mm] -= 1

    def end_migrations(self, which: int) -> None:
        """They arrive."""
        for mm, pages in self.moving.items():
            if pages:
                self.count(mm, pages, Movement.OTHER)
        self.moving.clear()
        if self.sees("migrate"):
            self.migrations = self.migrations._replace(ended=self.migrations.ended + self.calls)
        self.calls = 0

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
        *(Town.swap_in, Town.begin_to_migrate, Town.unmap_what_moves, Town.end_migrations),
        *(Town.lose, Town.miss_a_run, Town.move_within, Town.deny, Town.permit),
    )
}
events = st.tuples(st.sampled_from(sorted(HAPPENS)), st.integers(0, 7))
