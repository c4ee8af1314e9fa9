"""Inside a test kernel whose clock counts instructions: what memory operations cost.

`python -m bench.hotpath_guest CASE...` prints one line `sample JSON` for each operation of each
case: the least of some repetitions, per page or per operation, in instructions. What comes
between, such as the timer's interrupt, only adds.

The daemon is stopped by SIGSTOP while something is measured, as the hooks do not need it: what is
left is their cost alone. Two merged pages keep it from falling asleep.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from bench.limits import Empty
from ksmwatch.kernel import procfs
from ksmwatch.kernel.events import Mechanism
from ksmwatch.kernel.read_facts import read_facts
from ksmwatch.probes.plan import choose
from tests.kernel.daemon import Daemon
from tests.ksmctl import Ksm
from tests.workload import Workload, built

# In memory: an exec must not wait for the host's file system.
_COPY = Path("/tmp/hotpath")  # noqa: S108 - a guest of our own
# Since 6.8 (multi-size THP).
_HUGE = Path("/sys/kernel/mm/transparent_hugepage")
_FOLIOS = _HUGE / "hugepages-64kB/enabled"
_RULER = 1_000_000
_PAGES = 10_007
_MERGED_PAGES = 2_003


@dataclass(frozen=True)
class Operation:
    """A run of the workload, and which of its numbers is divided by what."""

    name: str
    words: tuple[object, ...]
    columns: tuple[int, ...]
    divisor: int
    runs: int = 1


def operations(*, merging: bool) -> list[Operation]:
    """All that is measured; merging wakes up a daemon that was asleep."""
    unmap = ("unmap", _PAGES, 4)
    found = [
        Operation("munmap", unmap, (1,), _PAGES),
        Operation("touch and munmap", unmap, (0, 1), _PAGES),
        Operation("fork and exit", ("fork", _PAGES, 4), (0,), _PAGES),
        Operation("exec", ("exec", 21), (0,), 1),
        Operation("munmap of a file", ("file", _PAGES, 3), (0,), _PAGES),
    ]
    if _FOLIOS.exists():
        found.append(Operation("munmap of 64 KiB folios", ("large", _PAGES, 3), (1,), _PAGES))
    found.append(Operation("read of smaps_rollup", ("read", _PAGES, 3), (0,), _PAGES))
    if merging:
        merge = ("merge", _MERGED_PAGES, procfs.find_ksmd(Path("/proc")))
        found += [
            Operation("merge by ksmd", merge, (0,), _MERGED_PAGES, runs=3),
            Operation("COW of a KSM page", merge, (1,), _MERGED_PAGES, runs=3),
        ]
    return found


def _run(words: tuple[object, ...]) -> list[list[int]]:
    """The lines that the workload prints, as numbers."""
    text = subprocess.run(
        [_COPY, *map(str, words)], check=True, stdout=subprocess.PIPE, text=True
    ).stdout
    return [list(map(int, line.split())) for line in text.splitlines()]


def measure(wanted: list[Operation]) -> Iterator[tuple[str, float]]:
    """Name and least cost of each operation. What two of them share is run once."""
    lines: dict[tuple[object, ...], list[list[int]]] = {}
    for each in wanted:
        if each.words not in lines:
            lines[each.words] = [line for _ in range(each.runs) for line in _run(each.words)]
        costs = [sum(line[c] for c in each.columns) for line in lines[each.words]]
        yield each.name, min(costs) / each.divisor


@contextlib.contextmanager
def _stopped(*options: str, asleep: bool) -> Iterator[None]:
    """A daemon that does nothing itself; its hooks are on, or not."""
    with Daemon(*options) as daemon:
        if daemon.snapshot()["asleep"] is not asleep:
            raise SystemExit(f"the daemon should be {'asleep' if asleep else 'awake'}")
        with daemon.frozen():
            yield
        if daemon.stop():
            raise SystemExit("the daemon ended badly")


def _hooked() -> tuple[str, ...]:
    """The functions that run for every page: (rmap_add, rmap_remove)."""
    symbols = {probe.event: probe.symbol for probe in choose(read_facts()).probes}
    return symbols["rmap_add"], symbols["rmap_remove"]


@contextlib.contextmanager
def _bpftrace(provider: str) -> Iterator[None]:
    """What a user would do by hand, on the function by which pages are unmapped."""
    symbol = _hooked()[1]
    script = f"{provider}:{symbol} {{ @[pid] = count(); }}"
    tracer = subprocess.Popen(["bpftrace", "-e", script], stdout=subprocess.DEVNULL)
    while symbol not in _attached():
        if tracer.poll() is not None:
            raise SystemExit(f"bpftrace -e '{script}' ended with {tracer.returncode}")
        time.sleep(0.1)
    os.kill(tracer.pid, signal.SIGSTOP)
    yield
    tracer.kill()
    tracer.wait()


def _attached() -> set[str]:
    """Kernel functions that anything is attached to."""
    lines = Path("/sys/kernel/tracing/enabled_functions").read_text().splitlines()
    return {line.split()[0] for line in lines}


CASES: dict[str, Callable[[], AbstractContextManager[object]]] = {
    "nothing": contextlib.nullcontext,
    "asleep": lambda: _stopped(asleep=True),
    "fentry": lambda: _stopped("--probes=fentry", asleep=False),
    # Of bench/ages.py.
    "no age": lambda: _stopped("--probes=fentry", "--ages.one-in=0", asleep=False),
    "every age": lambda: _stopped("--probes=fentry", "--ages.one-in=1", asleep=False),
    "kprobe": lambda: _stopped("--probes=kprobe", asleep=False),
    "empty fentry": lambda: Empty(Mechanism.FENTRY, _hooked()),
    "empty kprobe": lambda: Empty(Mechanism.KPROBE, _hooked()),
    "bpftrace kprobe": lambda: _bpftrace("kprobe"),
    "bpftrace fentry": lambda: _bpftrace("kfunc:vmlinux"),
}


def _two_merged_pages(load: Workload, ksm: Ksm) -> None:
    tenant = load.spawn("merged")
    tenant.offer("heap", 2, seed=1, modulo=1)
    ksm.merge_all()


def measure_case(name: str, ksm: Ksm, wanted: list[Operation]) -> dict[str, float]:
    """Instructions by operation, with the case attached. KSM is as before when it ends."""
    with Workload() as load:
        if name != "asleep":
            _two_merged_pages(load, ksm)
        with CASES[name]():
            found = dict(measure(wanted))
    ksm.unmerge()
    ksm.stop()
    return found


def prepare() -> None:
    """Before anything is measured. Large folios are of one size, where they are asked for."""
    shutil.copy(built("hotpath"), _COPY)
    if _FOLIOS.exists():
        (_HUGE / "hugepages-2048kB/enabled").write_text("never")
        _FOLIOS.write_text("madvise")


def check_ruler() -> None:
    """A loop of a known number of instructions must cost exactly that number."""
    ((found,),) = _run(("ruler", _RULER))
    if not _RULER <= found <= _RULER * 1.05:
        raise SystemExit(f"{_RULER} instructions measured as {found}: is this QEMU with -icount?")


def main(argv: list[str]) -> int:
    """Measure the cases that are named."""
    parser = argparse.ArgumentParser(prog="python -m bench.hotpath_guest")
    parser.add_argument("cases", nargs="+", metavar="CASE")
    arguments = parser.parse_args(argv)
    prepare()
    check_ruler()
    print("kernel", os.uname().release, flush=True)
    with Ksm(pages_to_scan=100_000, sleep_millisecs=20) as ksm:
        for name in arguments.cases:
            for operation, cost in measure_case(
                name, ksm, operations(merging=name != "asleep")
            ).items():
                sample = {"case": name, "operation": operation, "instructions": round(cost, 1)}
                print("sample", json.dumps(sample), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
