"""A kernel that merges pages as told, and the maps as its BPF programs would write them.

Page tables (`pages`) and accounts are separate, as on a real kernel: what happens while no
hook is attached changes only the page tables.
"""

from __future__ import annotations

import errno
import threading
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from ksmwatch.counting.audit_schedule import Policy
from ksmwatch.counting.backend import Budget
from ksmwatch.counting.exact_read import Readers
from ksmwatch.counting.host import Host
from ksmwatch.counting.ledger import NANOSECONDS_PER_TICK, Count
from ksmwatch.counting.live_backend import Live
from ksmwatch.kernel import procfs
from ksmwatch.kernel.node_reader import NodeReader
from ksmwatch.kernel.page_tables import SmapsReader
from ksmwatch.kernel.probe_switches import ProbeSwitches
from ksmwatch.probes.map_records import (
    DEPARTURES,
    Account,
    Baseline,
    Control,
    Conversion,
    Migrations,
    Movement,
    Opened,
    Total,
)
from ksmwatch.probes.persistence import Keep
from ksmwatch.probes.plan import Plan, choose
from tests.cgroup_ring import Ring
from tests.fake_maps import FakeAttachments, FakeMaps, programs_of
from tests.fakes import Clock, Proc, Sys, capable

KSMD = 33
_FIRST_MM = 0xFFFF888000000000
# Of time for a tick: it does all that is due.
PLENTY = Budget(3600)


class _Opened:
    def __init__(self, kernel: Kernel, pid: int, *, careful: bool) -> None:
        self._kernel, self._mm, self._careful = kernel, kernel.users[pid], careful

    def read(self) -> int | None:
        """The page tables, between what happens before and after a read."""
        if self._kernel.during_reads:
            self._kernel.during_reads.pop(0)()
        self._kernel.reads += 1
        found: int | None = self._kernel.pages[self._mm]
        away = self._kernel.moving[self._mm] + self._kernel.poisoned[self._mm]
        if away if self._careful else found and self._kernel.poisoned.total():
            found = None
        if self._kernel.after_reads:
            self._kernel.after_reads.pop(0)()
        return found


class FakeReader(SmapsReader):
    """Reads page tables of the fake kernel; a careful one none with pages away or poisoned."""

    def __init__(self, kernel: Kernel, files: int = 1, *, is_careful: bool = False) -> None:
        self.kernel = kernel
        self.files = files
        self._is_careful = is_careful

    def now(self, *, away: bool) -> FakeReader:
        return FakeReader(
            self.kernel, self.files, is_careful=away or self.kernel.poisoned.total() > 0
        )

    @contextmanager
    def open(  # type: ignore[override]
        self, directory: Path, opened: Callable[[], None] = lambda: None
    ) -> Iterator[_Opened]:
        """Open as many files as `files` says."""
        pid = int(directory.name)
        for _ in range(self.files):
            self.kernel.open_file(pid)
            opened()
        yield _Opened(self.kernel, pid, careful=self._is_careful)


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
        # Of mm -> how many of these PTEs are migration entries.
        self.moving: Counter[int] = Counter()
        # Of mm -> entries of poisoned pages, which are no PTEs of KSM pages.
        self.poisoned: Counter[int] = Counter()
        self.accounts: dict[int, Account] = {}
        self.baselines: dict[int, Baseline] = {}
        self.totals: Counter[Movement | Total] = Counter()
        # Skipped runs by program.
        self.missed: Counter[str] = Counter()
        self.control = Control(0, 0, 1, 0, 0, 0)
        self.opened: dict[int, Opened] = {}
        self.attached: set[str] = set()
        # Attached, but they do not run until they are attached again.
        self.dead: set[str] = set()
        self.denied: set[int] = set()
        # Of memory, by which mappings are counted; none if there is one. Who looks at pages; and by
        # mm, how many pages are on each node.
        self.nodes: tuple[int, ...] = ()
        self.node_reader: NodeReader | None = None
        self.on_node: dict[int, Counter[int]] = defaultdict(Counter)
        self.unseen: set[int] = set()
        self.migrations = Migrations(0, 0)
        self.conversion = Conversion()
        # Of mm -> how often PTEs were moved since a read of it began.
        self.moves: Counter[int] = Counter()
        self.cgroup_ring = Ring()
        # Events whose functions can no longer be attached to.
        self.refused: set[str] = set()
        self.before_detaching: Callable[[], None] = lambda: None
        # What happens at each read, before and after the PTEs are counted.
        self.during_reads: list[Callable[[], None]] = []
        self.after_reads: list[Callable[[], None]] = []
        # What was done, in order.
        self.log: list[str] = []
        self.reads = 0
        self._ids = 0
        self.maps = FakeMaps(self)
        self.reader = FakeReader(self)
        self.plan = choose(capable())

    def next_id(self) -> int:
        """What distinguishes accounts."""
        self._ids += 1
        return self._ids

    def spawn(self, pid: int, pages: int = 0, *, mm: int | None = None, ticks: int = 5000) -> int:
        """Start a process with this many KSM PTEs. Returns its mm."""
        directory = self.proc.process(pid, comm=f"p{pid}", ticks=ticks)
        (directory / "smaps").write_text("")
        self.users[pid] = _FIRST_MM + pid * 4096 if mm is None else mm
        self.pages[self.users[pid]] += pages
        self.on_node[self.users[pid]][0] += pages
        return self.users[pid]

    def end(self, pid: int) -> None:
        """End the process. Its mm stays if another uses it."""
        self.proc.end(pid)
        mm = self.users.pop(pid)
        if mm not in self.users.values():
            del self.pages[mm]

    def open_file(self, pid: int) -> None:
        """The daemon opens a /proc file."""
        if pid in self.denied:
            raise PermissionError(errno.EACCES, "Permission denied")
        if pid not in self.users:
            raise ProcessLookupError(errno.ESRCH, "No such process")
        if self.sees("mm_opened") and pid not in self.unseen:
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
                tgid=new.tgid, start_boottime=new.start_boottime, comm=new.comm.encode()
            )

    def event(self, mm: int, **changes: int) -> bool:
        """Add to numbers of the account, which is opened if there is none; False without room."""
        if mm not in self.accounts and not self._open(mm):
            return False
        self.totals[Total.DOUBTS] += changes.get("doubts", 0)
        account = self.accounts[mm]
        values = {name: getattr(account, name) + n for name, n in changes.items()}
        self.accounts[mm] = account._replace(**values)
        return True

    def _open(self, mm: int) -> bool:
        if len(self.accounts) >= self.maps.limit:
            self.totals[Total.EVENTS_LOST] += 1
            return False
        pid = next((p for p, m in self.users.items() if m == mm), 0)
        owner = self.owner(mm)
        self.totals[Total.DOUBTS] += int(self.control.opening_doubt)
        self.accounts[mm] = Account(
            id=self.next_id(),
            moves=(0,) * len(Movement),
            doubts=int(self.control.opening_doubt),
            start_boottime=owner.start_boottime if pid else 5000 * NANOSECONDS_PER_TICK,
            tgid=pid,
            comm=b"by event",
            nodes=(0,) * len(self.nodes),
        )
        return True

    def move(self, mm: int, pages: int, why: Movement = Movement.MERGED, *, node: int = 0) -> None:
        """PTEs start or stop mapping KSM pages on a node; attached hooks see it."""
        came = -pages if why in DEPARTURES else pages
        self.pages[mm] += came
        self.on_node[mm][node] += came
        self.count(mm, pages, why)
        if self.nodes and mm in self.accounts:
            nodes = list(self.accounts[mm].nodes)
            nodes[node] += came
            self.accounts[mm] = self.accounts[mm]._replace(nodes=tuple(nodes))

    def count(self, mm: int, pages: int, why: Movement) -> None:
        """What the hooks see of it."""
        if self.sees("rmap_remove" if why in DEPARTURES else "rmap_add") and self.event(mm):
            moves = list(self.accounts[mm].moves)
            moves[why] += pages
            self.accounts[mm] = self.accounts[mm]._replace(moves=tuple(moves))

    def doubt(self, mm: int) -> None:
        """Something happens after which the count may be wrong."""
        self.event(mm, doubts=1)

    # ---- probes ----

    def sees(self, event: str) -> bool:
        """Whether the programs of an event are attached and run."""
        (probe,) = (probe for probe in self.plan.probes if probe.event == event)
        switches = ProbeSwitches(self.proc.path, self.sys.path, kprobes=False)
        running = switches.stopped() is None
        return running and programs_of([probe]) <= self.attached - self.dead

    def move_to_cgroup(self, pid: int) -> None:
        """A process is moved to another cgroup."""
        if self.sees("cgroup"):
            self.cgroup_ring.move(pid)

    def take_off(self, event: str) -> None:
        """Another tool detaches the programs of an event."""
        self.attached -= programs_of(probe for probe in self.plan.probes if probe.event == event)

    def switch_ftrace(self, value: int) -> None:
        """kernel.ftrace_enabled: 0 stops all probes."""
        path = self.proc.path / "sys/kernel/ftrace_enabled"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{value}\n")

    # ---- daemons ----

    def live(
        self,
        plan: Plan | None = None,
        *,
        policy: Policy = NO_AUDIT,
        keep: Keep | None = None,
        progress: Callable[[], None] = lambda: None,
        kind: type[Live] = Live,
    ) -> Live:
        """A backend of this kernel, not started. It audits nothing unless told to."""
        self.plan = plan or self.plan
        return kind(
            self.plan,
            self.maps,
            FakeAttachments(self),
            Readers(self.reader, self.node_reader),
            keep=keep,
            policy=policy,
            progress=progress,
            host=Host(
                self.proc.path, self.sys.path, self.clock, self.cpu, lambda: int(self.clock() * 1e9)
            ),
        )


def _thread() -> int:
    return threading.get_native_id()


def shown(live: Live) -> dict[int, tuple[int, bool]]:
    """Mappings and exactness by process."""
    return {c.pid: (c.mappings, c.exact) for c in live.counts()}


def of(live: Live, pid: int) -> Count:
    """The count of one process."""
    (found,) = (c for c in live.counts() if c.pid == pid)
    return found
