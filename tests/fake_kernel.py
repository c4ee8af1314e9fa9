"""A kernel that merges pages as told, and the maps as its BPF programs would write them.

Page tables (`pages`) and accounts are kept apart as on a real kernel: what happens while no
hook is attached changes only the page tables.
"""

from __future__ import annotations

import errno
import os
import threading
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest

from ksmwatch.counting import exact_read, live_backend
from ksmwatch.counting.audit_schedule import Allowance, Policy
from ksmwatch.counting.ledger import NANOSECONDS_PER_TICK, Count
from ksmwatch.counting.live_backend import Live
from ksmwatch.counting.run_state import RunWatch
from ksmwatch.kernel import libbpf, procfs
from ksmwatch.kernel.page_tables import SmapsReader
from ksmwatch.probes.attachments import AttachError
from ksmwatch.probes.loader import Loaded
from ksmwatch.probes.persistence import Keep
from ksmwatch.probes.plan import Plan, Probe, choose
from ksmwatch.probes.records import (
    Account,
    Baseline,
    Control,
    Conversion,
    Migrations,
    Movement,
    Opened,
    Total,
)
from tests.fakes import Clock, Proc, Sys, capable

KSMD = 33
# Totals that the programs raise an alarm for.
ALARMS = (
    Total.EVENTS_LOST,
    Total.FAMILIES_TRUNCATED,
    Total.FAMILIES_CHANGED,
    Total.CONVERSIONS_UNSEEN,
)
_FIRST_MM = 0xFFFF888000000000


class FakeMaps:
    """The maps, without a kernel."""

    limit = 16

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel
        self._reads = 0
        self.closed = False
        self.filled = 0

    def account(self, mm: int) -> Account | None:
        """The account of one mm."""
        return self._kernel.accounts.get(mm)

    def accounts(self) -> dict[int, Account]:
        """All accounts."""
        self.filled = len(self._kernel.accounts)
        return dict(self._kernel.accounts)

    def open_account(self, mm: int, account: Account) -> bool:
        """Open an account unless there is one."""
        if mm in self._kernel.accounts:
            return False
        if len(self._kernel.accounts) >= self.limit:
            raise OSError(errno.E2BIG, os.strerror(errno.E2BIG))
        self._kernel.accounts[mm] = account._replace(id=self._kernel.next_id())
        return True

    def close_account(self, mm: int) -> None:
        """Forget an mm."""
        self._kernel.accounts.pop(mm, None)
        self._kernel.baselines.pop(mm, None)

    def baseline(self, mm: int) -> Baseline | None:
        """What was read last."""
        return self._kernel.baselines.get(mm)

    def baselines(self) -> dict[int, Baseline]:
        """All of them."""
        return dict(self._kernel.baselines)

    def put_baseline(self, mm: int, baseline: Baseline) -> None:
        """Record an exact read."""
        self._kernel.baselines[mm] = baseline

    def totals(self) -> dict[Movement | Total, int]:
        """All totals."""
        return {which: self.total(which) for which in (*Movement, *Total)}

    def total(self, which: Movement | Total) -> int:
        """One total."""
        return self._kernel.totals[which]

    def control(self, control: Control) -> None:
        """What the daemon tells the programs."""
        if control.opening_doubt != self._kernel.control.opening_doubt or not self._kernel.log:
            self._kernel.log.append("doubt" if control.opening_doubt else "trust")
        self._kernel.control = control

    def read_control(self) -> Control:
        """What was told last."""
        return self._kernel.control

    def alarms(self) -> int:
        """As often as any process may be wrong."""
        return sum(self._kernel.totals[which] for which in ALARMS)

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
        """Something."""
        return 8192

    def close(self) -> None:
        """Remember it."""
        self.closed = True


class FakeAttachments:
    """What is attached to the fake kernel. `refused`: events that cannot be any more."""

    unkept = 0

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel

    def attach(self, probes: Iterable[Probe]) -> None:
        """Attach."""
        kernel, probes = self._kernel, list(probes)
        for probe in probes:
            if probe.event in kernel.refused:
                raise AttachError(probe, OSError(errno.EBUSY, os.strerror(errno.EBUSY)))
        names = _programs(probes)
        kernel.attached.update(names)
        kernel.log.append("attach " + ("hooks" if "on_mm_goes" in names else "sentry"))

    def detach(self, probes: Iterable[Probe]) -> None:
        """Detach."""
        self._kernel.before_detaching()
        self._kernel.log.append("detach")
        self._kernel.attached -= _programs(probes)

    def holds(self, probes: Iterable[Probe]) -> bool:
        """Whether all are attached."""
        return self.first_lost(probes) is None

    def first_lost(self, probes: Iterable[Probe]) -> Probe | None:
        """The first that is not attached."""
        lost = (p for p in probes if not _programs([p]) <= self._kernel.attached)
        return next(lost, None)


def _programs(probes: Iterable[Probe]) -> set[str]:
    return {program.name for probe in probes for program in probe.programs}


class _Opened:
    def __init__(self, kernel: Kernel, pid: int) -> None:
        self._kernel, self._mm = kernel, kernel.users[pid]

    def read(self) -> int:
        """The page tables as they are, after what happens meanwhile."""
        if self._kernel.during_reads:
            self._kernel.during_reads.pop(0)()
        self._kernel.reads += 1
        return self._kernel.pages[self._mm]


class FakeReader(SmapsReader):
    """Reads the page tables of the fake kernel."""

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel
        self.files = 1

    @contextmanager
    def open(  # type: ignore[override]
        self, directory: Path, opened: Callable[[], None] = lambda: None
    ) -> Iterator[_Opened]:
        """Open so many files as `files` says."""
        pid = int(directory.name)
        for _ in range(self.files):
            self._kernel.open_file(pid)
            opened()
        yield _Opened(self._kernel, pid)


NO_AUDIT = Policy(0.0)


class Kernel:
    """Processes, their mms, and KSM."""

    def __init__(self, path: Path) -> None:
        path.mkdir(exist_ok=True)
        self.proc = Proc(path / "proc")
        self.sys = Sys(path / "sys")
        self.clock, self.cpu = Clock(), Clock(0.0)
        self.proc.process(KSMD, comm="ksmd", parent=2)
        # Process -> mm -> KSM PTEs. A kernel thread has no mm.
        self.users: dict[int, int] = {}
        self.pages: dict[int, int] = defaultdict(int)
        self.accounts: dict[int, Account] = {}
        self.baselines: dict[int, Baseline] = {}
        self.totals: Counter[Movement | Total] = Counter()
        self.missed: Counter[int] = Counter()
        self.control = Control(0, 0, 1, 0, 0, 0)
        self.opened: dict[int, Opened] = {}
        self.attached: set[str] = set()
        self.denied: set[int] = set()
        self.unseen: set[int] = set()
        self.migrations = Migrations(0, 0)
        self.conversion = Conversion()
        # Of mm -> how often PTEs were moved since a read of it began.
        self.moves: Counter[int] = Counter()
        self.refused: set[str] = set()
        self.before_detaching: Callable[[], None] = lambda: None
        self.during_reads: list[Callable[[], None]] = []
        # What was done, in order.
        self.log: list[str] = []
        self.reads = 0
        self._ids = 0

    def next_id(self) -> int:
        """What tells accounts apart."""
        self._ids += 1
        return self._ids

    def spawn(self, pid: int, pages: int = 0, *, mm: int | None = None, ticks: int = 5000) -> int:
        """A process, with so many KSM PTEs from the beginning. Returns its mm."""
        directory = self.proc.process(pid, comm=f"p{pid}", ticks=ticks)
        (directory / "smaps").write_text("")
        self.users[pid] = _FIRST_MM + pid * 4096 if mm is None else mm
        self.pages[self.users[pid]] += pages
        return self.users[pid]

    def end(self, pid: int) -> None:
        """The process ends; its mm stays if another uses it."""
        self.proc.end(pid)
        mm = self.users.pop(pid)
        if mm not in self.users.values():
            del self.pages[mm]

    def open_file(self, pid: int) -> None:
        """What happens when a /proc file is opened by the daemon."""
        if pid in self.denied:
            raise PermissionError(errno.EACCES, "Permission denied")
        if pid not in self.users:
            raise ProcessLookupError(errno.ESRCH, "No such process")
        if "on_mm_opened_return" in self.attached and pid not in self.unseen:
            self.opened[_thread()] = self.owner(self.users[pid])

    def owner(self, mm: int) -> Opened:
        """What a hook finds by mm->owner: the first process that uses the mm."""
        pid = next((p for p, m in self.users.items() if m == mm), 0)
        ticks = procfs.read_start_ticks(self.proc.path / str(pid)) if pid else 0
        return Opened(mm, ticks * NANOSECONDS_PER_TICK, pid, f"p{pid}")

    def pass_on(self, mm: int) -> None:
        """The owner of an mm has left it: the account is named after the next."""
        if mm in self.accounts and mm in self.users.values():
            new = self.owner(mm)
            self.totals[Total.DOUBTS] += 1
            self.accounts[mm] = self.accounts[mm]._replace(
                tgid=new.tgid, start_boottime=new.start_boottime, comm=new.comm
            )

    def event(self, mm: int, **changes: int) -> None:
        """Add to numbers of the account, which is opened when there is none."""
        if mm not in self.accounts:
            self.totals[Total.DOUBTS] += int(self.control.opening_doubt)
            self.accounts[mm] = Account(
                id=self.next_id(),
                moves=(0,) * len(Movement),
                doubts=int(self.control.opening_doubt),
                start_boottime=5000 * 10_000_000,
                tgid=next((p for p, m in self.users.items() if m == mm), 0),
                comm="by event",
            )
        self.totals[Total.DOUBTS] += changes.get("doubts", 0)
        account = self.accounts[mm]
        values = {name: getattr(account, name) + n for name, n in changes.items()}
        self.accounts[mm] = account._replace(**values)

    def move(self, mm: int, pages: int, why: Movement = Movement.MERGED) -> None:
        """PTEs come to map KSM pages, or cease to; the hooks see it when attached."""
        self.pages[mm] += -pages if why in (Movement.UNMAPPED, Movement.EXITED) else pages
        if "on_rmap_add" in self.attached:
            self.event(mm)
            moves = list(self.accounts[mm].moves)
            moves[why] += pages
            self.accounts[mm] = self.accounts[mm]._replace(moves=tuple(moves))

    def doubt(self, mm: int) -> None:
        """Something happened after which the count may be wrong."""
        self.event(mm, doubts=1)

    # ---- what takes the place of libbpf ----

    def attachments(
        self, programs: dict[str, int], keep: Keep, links: dict[str, int] | None, sys: Path
    ) -> FakeAttachments:
        """In the place of the class."""
        assert sys == self.sys.path
        self.attached.update(links or ())
        return FakeAttachments(self)

    def live(
        self,
        monkeypatch: pytest.MonkeyPatch,
        plan: Plan | None = None,
        *,
        policy: Policy = NO_AUDIT,
        links: dict[str, int] | None = None,
    ) -> Live:
        """A backend of this kernel; not started. Audits nothing unless told to."""
        chosen = plan or choose(capable())
        names = [program.name for probe in chosen.probes for program in probe.programs]
        programs = {name: 1000 + i for i, name in enumerate(names)}
        monkeypatch.setattr(live_backend, "Maps", lambda loaded: FakeMaps(self))
        monkeypatch.setattr(live_backend, "Attachments", self.attachments)
        monkeypatch.setattr(
            libbpf, "prog_info", lambda fd: SimpleNamespace(recursion_misses=self.missed[fd])
        )
        clocks = SimpleNamespace(monotonic=self.clock, monotonic_ns=lambda: int(self.clock() * 1e9))
        for module in (live_backend, exact_read):
            monkeypatch.setattr(module, "time", clocks)
        made = Live(
            Loaded({}, programs),
            chosen,
            FakeReader(self),
            links=links,
            policy=policy,
            proc=self.proc.path,
            sys=self.sys.path,
        )
        made.run = RunWatch(self.clock)
        made._allowance = Allowance(policy.share, self.clock, self.cpu)
        return made


def _thread() -> int:
    return threading.get_native_id()


def shown(live: Live) -> dict[int, tuple[int, bool]]:
    """Mappings and exactness by process."""
    return {c.pid: (c.mappings, c.exact) for c in live.counts()}


def of(live: Live, pid: int) -> Count:
    """The count of one process."""
    (found,) = (c for c in live.counts() if c.pid == pid)
    return found
