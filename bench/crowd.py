"""Inside a test kernel: crowds of processes, and what others use of CPU and memory meanwhile."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
from array import array
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Self

from ksmwatch.counting.audit_schedule import Policy
from ksmwatch.kernel.page_tables import FRAME, PRESENT
from ksmwatch.kernel.procfs import read_file
from ksmwatch.units import PAGE_SIZE
from tests.children import Ending
from tests.kernel.daemon import Daemon
from tests.ksmctl import Ksm

_BUILD = Path(__file__).resolve().parents[1] / "tests/workload/build"
_SWITCHES = re.compile(r"^voluntary_ctxt_switches:\s+(\d+)$", re.MULTILINE)
_PSS = re.compile(r"^Pss: +(\d+) kB$", re.MULTILINE)
_MERGE_SECONDS = 900
_LEAVE_SECONDS = 120
_SETTINGS = Path("/run/bench.toml")
# Whether a daemon audits: it uses more of a core than this in that time.
_LOOK_SECONDS, _BUSY = 5.0, 0.01
# include/linux/posix-timers_types.h
_CPUCLOCK_SCHED = 2
# Of `ruler`: enough that the scheduler's clock does not matter.
_TURNS = 2_000
# Modules that only help a daemon to start; the last two are of the baseline.
_HELPERS = (b"ksmwatch.probes.compiler", b"ksmwatch.loader", b"ksmwatch.connector")


def ruler(times: int = 5) -> float:
    """CPU seconds of a piece of work like the daemon's, the best of some times.

    Measured in a guest and on the machine itself, it shows how long instructions take.
    """
    return min(_work() for _ in range(times))


def _work() -> float:
    began = time.thread_time()
    for _ in range(_TURNS):
        words = read_file("/proc/self/stat").decode().split()
        json.dumps(dict(enumerate(words)))
    return time.thread_time() - began


def family(pid: int) -> list[int]:
    """A process and all below it."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    # Threads have children, too.
    for task in Path(f"/proc/{pid}/task").iterdir():
        # One that has answered on the socket ends.
        with suppress(FileNotFoundError):
            if int(task.name) != pid:
                children += (task / "children").read_text().split()
    return [pid, *(each for child in children for each in family(int(child)))]


def lasting_family(pid: int) -> list[int]:
    """The daemon's processes once those that only help it to start have left."""
    deadline = time.monotonic() + _LEAVE_SECONDS
    while any(_helps_to_start(each) for each in family(pid)):
        if time.monotonic() > deadline:
            raise TimeoutError("what helps the daemon to start does not leave")
        time.sleep(0.2)
    return family(pid)


def _helps_to_start(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        line = Path(f"/proc/{pid}/cmdline").read_bytes()
    except FileNotFoundError:
        return False
    # One that is about to be collected no longer has a command line.
    return state == "Z" or any(word in line for word in _HELPERS)


def cpu_seconds(pids: Iterable[int]) -> float:
    """CPU time that processes have used, all their threads, as the scheduler knows it."""
    return sum(time.clock_gettime(_cpu_clock(pid)) for pid in pids)


def _cpu_clock(pid: int) -> int:
    """The clock of a process (clock_getcpuclockid(3)), in which threads that have ended count."""
    return ~pid << 3 | _CPUCLOCK_SCHED


def pss_bytes(pids: Iterable[int]) -> int:
    """Proportional resident memory of processes, together."""
    found = (_PSS.search(Path(f"/proc/{pid}/smaps_rollup").read_text()) for pid in pids)
    return sum(int(each[1]) << 10 for each in found if each)


def resident_once(pids: Iterable[int]) -> int:
    """Resident memory of processes together, in which a page that some share counts once."""
    frames: set[int] = set()
    for pid in pids:
        areas = Path(f"/proc/{pid}/maps").read_text().splitlines()
        with Path(f"/proc/{pid}/pagemap").open("rb", buffering=0) as pagemap:
            for area in areas:
                first, end = (int(word, 16) // PAGE_SIZE for word in area.split()[0].split("-"))
                # Nothing is known of the last, [vsyscall].
                entries = array("Q", os.pread(pagemap.fileno(), 8 * (end - first), 8 * first))
                frames.update(each & FRAME for each in entries if each & PRESENT)
    return len(frames) * PAGE_SIZE


def voluntary_switches(pids: Iterable[int]) -> int:
    """How often threads of processes have gone to sleep, and so how often they were woken."""
    found = (
        _SWITCHES.search((task / "status").read_text())
        for pid in pids
        for task in Path(f"/proc/{pid}/task").iterdir()
    )
    return sum(int(each[1]) for each in found if each)


class Auditing:
    """The settings of a daemon that shall audit without delay at first.

    In a guest whose clock counts instructions, a part of the time is a tenth of the work that it is
    on a core. With what it may take by default, the audit would take hours to see each process
    once, as it does after a start.
    """

    def __init__(self) -> None:
        self.options = ("--config.file", str(_SETTINGS))
        self._allow(1.0)

    def _allow(self, share: float) -> None:
        _SETTINGS.write_text(f"[audit]\ncpu-percent = {100 * share}\n", encoding="utf-8")

    def finish(self, daemon: Daemon) -> None:
        """Wait until it has seen each process, and give it what it has by default."""
        deadline = time.monotonic() + _MERGE_SECONDS
        while share_at_rest(daemon, _LOOK_SECONDS) > _BUSY:
            if time.monotonic() > deadline:
                raise TimeoutError("the audit does not end")
        self._allow(Policy().share)
        daemon.process.send_signal(signal.SIGHUP)
        time.sleep(_LOOK_SECONDS)


def share_at_rest(daemon: Daemon, seconds: float) -> float:
    """The share of a core that the daemon uses without requests."""
    pids = lasting_family(daemon.process.pid)
    before, began = cpu_seconds(pids), time.monotonic()
    time.sleep(seconds)
    return (cpu_seconds(pids) - before) / (time.monotonic() - began)


class Crowd(Ending):
    """tests/workload/crowd.c: many processes with few pages."""

    def __init__(self, processes: int, merging: int, pages: int, *, ksm: Ksm, fork: bool) -> None:
        self._child = subprocess.Popen(
            [
                *(str(_BUILD / "crowd"), str(processes), str(merging), str(pages)),
                *(["fork"] if fork else []),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.processes, self.merging, self.pages = processes, merging, pages
        self._ksm, self._fork = ksm, fork

    def __enter__(self) -> Self:
        try:
            if self._fork:
                self._wait("filled")
                self._merge(1)
                self.tell("fork")
            self._wait("ready")
            if not self._fork:
                self._merge(self.merging)
        except BaseException:
            self.end()
            raise
        return self

    def _merge(self, processes: int) -> None:
        """Merge all pages of this many processes, with ksmd at full speed; then stop it."""
        wanted = processes * self.pages
        self._ksm.start()
        deadline = time.monotonic() + _MERGE_SECONDS
        while self._ksm.read("pages_sharing") + self._ksm.read("pages_shared") < wanted:
            if time.monotonic() > deadline:
                raise TimeoutError("ksmd does not merge the pages")
            time.sleep(0.2)
        self._ksm.stop()

    def _wait(self, word: str) -> None:
        assert self._child.stdout is not None
        said = self._child.stdout.readline().strip()
        if said != word:
            raise RuntimeError(f"the crowd said {said!r} for {word!r}")

    def children(self) -> list[int]:
        """Its processes, in the order of their birth."""
        pid = self._child.pid
        words = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        return [int(word) for word in words]

    def tell(self, *words: object) -> None:
        """One line, without waiting for an answer."""
        assert self._child.stdin is not None
        self._child.stdin.write(" ".join(map(str, words)) + "\n")
        self._child.stdin.flush()

    def do(self, *words: object) -> None:
        """`touch N` or `end N`; returns when it is done."""
        self.tell(*words)
        self._wait("done")

    def end(self) -> None:
        """End with all processes; returns when they are gone."""
        assert self._child.stdin is not None
        self._child.stdin.close()
        self._child.wait()


@contextmanager
def churn(rate: int, seconds: int, pages: int, ksm: Ksm) -> Iterator[subprocess.Popen[str]]:
    """tests/workload/churn.c, about to begin; with pages, these are merged."""
    with subprocess.Popen(
        [str(_BUILD / "churn"), str(rate), str(seconds), str(pages)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        child.stdout.readline()
        if pages:
            ksm.merge_all()
            ksm.stop()
        yield child
