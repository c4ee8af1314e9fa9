"""Inside a test kernel: crowds of processes, and what others use of CPU and memory meanwhile."""

from __future__ import annotations

import json
import re
import subprocess
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self

from ksmwatch.kernel.procfs import read_file
from tests.children import Ending
from tests.ksmctl import Ksm

_BUILD = Path(__file__).resolve().parents[1] / "tests/workload/build"
_PSS = re.compile(r"^Pss: +(\d+) kB$", re.MULTILINE)
_MERGE_SECONDS = 900
_LEAVE_SECONDS = 120
# Of `ruler`: enough that the scheduler's clock does not matter.
_TURNS = 2_000
# Modules that only help a daemon to start; the last two are of the baseline.
_HELPERS = (
    *(b"ksmwatch.probes.compiler", b"ksmwatch.owners.process_connector"),
    *(b"ksmwatch.loader", b"ksmwatch.connector"),
)


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
    return (
        sum(
            int((task / "schedstat").read_text().split()[0])
            for pid in pids
            for task in Path(f"/proc/{pid}/task").iterdir()
        )
        / 1e9
    )


def pss_bytes(pids: Iterable[int]) -> int:
    """Proportional resident memory of processes, together."""
    found = (_PSS.search(Path(f"/proc/{pid}/smaps_rollup").read_text()) for pid in pids)
    return sum(int(each[1]) << 10 for each in found if each)


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
