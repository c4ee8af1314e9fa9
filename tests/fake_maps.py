"""The maps and attachments of the fake kernel."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable
from typing import TYPE_CHECKING

from ksmwatch.probes.attachments import AttachError, Attachments
from ksmwatch.probes.cgroup_moves import CgroupMoves
from ksmwatch.probes.loader import ProgramOrigin
from ksmwatch.probes.map_records import (
    Account,
    Baseline,
    CallSite,
    Control,
    Conversion,
    Migrations,
    Movement,
    NodePlace,
    Opened,
    Total,
)
from ksmwatch.probes.maps import Maps
from ksmwatch.probes.plan import Probe, Program

if TYPE_CHECKING:
    from tests.fake_kernel import Kernel


# Totals for which the programs raise an alarm.
ALARMS = (
    Total.EVENTS_LOST,
    Total.FAMILIES_TRUNCATED,
    Total.FAMILIES_CHANGED,
    Total.CONVERSIONS_UNSEEN,
)


class FakeMaps(Maps):
    """The maps, without a kernel. `looks`: how often all accounts were looked at."""

    origin = ProgramOrigin.COMPILED
    ages = None

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel
        self.limit = 16
        self._reads = 0
        self.cgroup_moves = CgroupMoves(kernel.cgroup_ring)
        self.closed = False
        self.looks = 0

    @property
    def filled(self) -> int:
        """How many accounts there are."""
        return len(self._kernel.accounts)

    def account(self, mm: int) -> Account | None:
        return self._kernel.accounts.get(mm)

    def accounts(self) -> dict[int, Account]:
        self.looks += 1
        return dict(self._kernel.accounts)

    def look(self) -> None:
        """All accounts are read each time."""

    def open_account(self, mm: int, account: Account) -> bool:
        """Open an account unless there is one."""
        if mm in self._kernel.accounts:
            return False
        if len(self._kernel.accounts) >= self.limit:
            raise OSError(errno.E2BIG, os.strerror(errno.E2BIG))
        nodes = (0,) * len(self._kernel.nodes)
        self._kernel.accounts[mm] = account._replace(id=self._kernel.next_id(), nodes=nodes)
        return True

    def close_account(self, mm: int) -> None:
        """Forget an mm."""
        self._kernel.accounts.pop(mm, None)
        self._kernel.baselines.pop(mm, None)

    def baseline(self, mm: int) -> Baseline | None:
        """The last read."""
        return self._kernel.baselines.get(mm)

    def baselines(self) -> dict[int, Baseline]:
        return dict(self._kernel.baselines)

    def put_baseline(self, mm: int, baseline: Baseline) -> None:
        """Record an exact read."""
        self._kernel.baselines[mm] = baseline

    def totals(self) -> dict[str, int]:
        return {which.name.lower(): self.total(which) for which in (*Movement, *Total)}

    def total(self, which: Movement | Total) -> int:
        return self._kernel.totals[which]

    def control(self, control: Control) -> None:
        """What the daemon tells the programs."""
        if control.opening_doubt != self._kernel.control.opening_doubt or not self._kernel.log:
            self._kernel.log.append("doubt" if control.opening_doubt else "trust")
        self._kernel.control = control

    def read_control(self) -> Control:
        """What was written last."""
        return self._kernel.control

    def alarms(self) -> int:
        """As often as any process may be wrong."""
        return sum(self._kernel.totals[which] for which in ALARMS)

    def call_site(self) -> CallSite:
        return CallSite(hooked=1, copy=2, function=3, learner=0, seen=1)

    @property
    def counts_nodes(self) -> bool:
        """Whether the programs count by node."""
        return bool(self._kernel.nodes)

    def node_place(self) -> NodePlace:
        """Learnt, if they do."""
        return NodePlace(54 if self._kernel.nodes else 0, 0)

    def migrations(self) -> Migrations:
        """KSM pages on their way."""
        return self._kernel.migrations

    def conversion(self) -> Conversion:
        """The merge under way."""
        return self._kernel.conversion

    def end_conversion(self) -> None:
        """None is."""
        self._kernel.conversion = Conversion(serial=self._kernel.conversion.serial)

    def begin_reading(self, mm: int) -> None:
        """Watch this mm."""
        self._kernel.moves.clear()
        self._reads = mm

    def moved(self) -> bool:
        """Whether its PTEs were moved since."""
        return self._kernel.moves[self._reads] > 0

    def forget_opened(self, thread: int) -> None:
        """An old answer is not a new one."""
        self._kernel.opened.pop(thread, None)

    def opened(self, thread: int) -> Opened | None:
        """The mm of the file that was opened last, and its owner."""
        return self._kernel.opened.get(thread)

    def memory_bytes(self) -> int:
        return 8192

    def close(self) -> None:
        self.closed = True


class FakeAttachments(Attachments):
    """What is attached to the fake kernel."""

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel
        self.unkept = 0

    def attach(self, probes: Iterable[Probe]) -> None:
        kernel, probes = self._kernel, list(probes)
        for probe in probes:
            if probe.event in kernel.refused:
                raise AttachError(probe, OSError(errno.EBUSY, os.strerror(errno.EBUSY)))
        kernel.attached.update(programs_of(probes))
        hooks = any(not probe.asleep for probe in probes)
        kernel.log.append("attach " + ("hooks" if hooks else "sentry"))

    def detach(self, probes: Iterable[Probe]) -> None:
        self._kernel.before_detaching()
        self._kernel.log.append("detach")
        probes = list(probes)
        self._kernel.attached -= programs_of(probes)
        self._kernel.dead -= programs_of(probes)

    def holds(self, probes: Iterable[Probe]) -> bool:
        """Whether all are attached."""
        return self.first_lost(probes) is None

    def first_lost(self, probes: Iterable[Probe]) -> Probe | None:
        """The first that is not attached."""
        lost = (p for p in probes if not programs_of([p]) <= self._kernel.attached)
        return next(lost, None)

    def missed(self, program: Program) -> int:
        """Skipped runs."""
        return self._kernel.missed[program.name]

    def close(self) -> None:
        self._kernel.log.append("close programs")


def programs_of(probes: Iterable[Probe]) -> set[str]:
    return {program.name for probe in probes for program in probe.programs}
