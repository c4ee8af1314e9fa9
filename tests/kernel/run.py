"""Runs the kernel tests on each test kernel.

`python -m tests.kernel.run [--quick | --rest] KERNEL... [-- PYTEST-ARGUMENT...]`. What counts most
(EVERYWHERE) runs on each kernel, by fentry, which the daemon prefers on all of them. Everything
else runs on one of them, divided among guests so that all cores have work to the end. --quick: only
what counts most. --rest: what takes too long for CI, and on the other kernels all that depends on
the kernel (not marked `once`).
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from tests import installed
from tests.debs import environment
from tests.guests import ROOT, Guest, module, watched

# Programs whose real versions the tests use.
PACKAGES = ("prometheus", "prometheus-alertmanager", "prometheus-node-exporter")
# What counts most.
EVERYWHERE = ("test_lifecycle.py", "test_survival.py")
# Where ftrace can be switched off, smaps has a KSM line, and emulation is quicker than on 7.3.
ONCE_KERNEL = "6.12"
# There, these make about half of what CI runs.
SECOND_SHARE = (*EVERYWHERE, "test_repair.py", "test_refusals.py")
# Counts instructions, for which the guest needs another clock.
COUNTING = "test_hotpath.py"
# With several nodes of memory, counts by node would show each movement as well.
ONE_NODE = "test_looks.py"
# With two nodes of memory, as most guests have, and with four.
NODES = "test_nodes.py"
# Takes too long for CI. The second share is about half of it.
LONG = (
    "test_ages.py",
    "test_comeback.py",
    "test_container.py",
    "test_estimate.py",
    "test_forecast.py",
    "test_fuzz_killed.py",
    "test_hardship.py",
)
LONG_SECOND_SHARE = (
    "test_history.py",
    "test_idmapped.py",
    "test_kept_programs.py",
    "test_owners.py",
    "test_peers.py",
    "test_pinned.py",
    "test_reclaim.py",
    "test_savings.py",
    "test_userfault.py",
    "test_why.py",
)
# Wants another machine, spoils it, wants PREEMPT_RT, or is for every kernel: see the Makefile.
SPECIAL = (
    "test_hardware_errors.py",
    "test_long_fuzz.py",
    "test_memory_blocks.py",
    "test_passthrough.py",
    "test_pressure.py",
    "test_tagged.py",
)
# What a kernel does not have: 6.1 refuses fentry on migrate_pages(), on which ages rest.
LACKING = {"6.1": ("test_ages.py",)}
FILES = tuple(sorted(path.name for path in Path(__file__).parent.glob("test_*.py")))
_PYTEST = ("-p", "no:cacheprovider", "--color=no", "--durations=8", "-v", "-p", "tests.deadlines")
_printing = threading.Lock()


@dataclass(frozen=True)
class Job:
    """What one guest does."""

    kernel: str
    arguments: tuple[str, ...]
    icount: bool = False
    # Of memory, which ksmd can be told to merge one by one.
    nodes: int = 1


def paths(files: Iterable[str], *but: str) -> tuple[str, ...]:
    """Arguments for these files without some."""
    return tuple(f"tests/kernel/{name}" for name in files if name not in but)


def split(kernels: list[str]) -> tuple[str, list[str]]:
    """The kernel on which everything runs, and the others, the slowest to emulate first."""
    once = ONCE_KERNEL if ONCE_KERNEL in kernels else kernels[-1]
    return once, [each for each in reversed(kernels) if each != once]


def on_each(kernels: list[str], files: tuple[str, ...], *choice: str, nodes: int = 1) -> list[Job]:
    """What depends on the kernel of these files. `choice`: further arguments."""
    return [Job(each, (*files, "-m", "not once", *choice), nodes=nodes) for each in kernels]


def quick_jobs(kernels: list[str]) -> list[Job]:
    """What counts most, on each kernel."""
    return on_each(kernels, paths(EVERYWHERE))


def usual_jobs(kernels: list[str]) -> list[Job]:
    """What CI runs. The longest first."""
    once, others = split(kernels)
    left_out = (COUNTING, ONE_NODE, *LONG, *LONG_SECOND_SHARE, *SPECIAL)
    return [
        Job(once, paths(FILES, *left_out, *SECOND_SHARE), nodes=2),
        Job(once, paths(SECOND_SHARE), nodes=2),
        *on_each(others, paths(EVERYWHERE), "-k", "not kprobe"),
        Job(once, paths([ONE_NODE])),
        Job(once, paths([COUNTING]), icount=True),
    ]


def rest_jobs(kernels: list[str]) -> list[Job]:
    """What the usual jobs leave out. The longest first."""
    once, others = split(kernels)
    left_out = (COUNTING, *EVERYWHERE, *SPECIAL)
    return [
        *(
            job
            for each in others
            for job in on_each([each], paths(FILES, *left_out, *LACKING.get(each, ())), nodes=2)
        ),
        *on_each(others, paths(EVERYWHERE), "-k", "kprobe"),
        Job(once, paths(LONG), nodes=2),
        Job(once, paths(LONG_SECOND_SHARE), nodes=2),
        Job(once, paths([NODES]), nodes=4),
        *(Job(each, paths([COUNTING]), icount=True) for each in others),
    ]


# By option; without one, the usual jobs.
WHICH = {"--quick": quick_jobs, "--rest": rest_jobs}


def own_jobs(kernels: list[str], arguments: list[str]) -> list[Job]:
    """The caller's own arguments, in one guest for each kernel."""
    counting = any(word.endswith(COUNTING) for word in arguments)
    one_node = any(word.endswith(ONE_NODE) for word in arguments)
    nodes = 1 if counting or one_node else 2
    return [Job(each, tuple(arguments), icount=counting, nodes=nodes) for each in kernels]


@dataclass(frozen=True)
class Outcome:
    """How a guest ended: exit status, seconds, and what pytest said of failures."""

    status: int
    seconds: float
    failures: tuple[str, ...]


def run_job(job: Job, programs: dict[str, str]) -> Outcome:
    """Run one guest and show what it prints."""
    began = time.monotonic()
    machine = Guest(
        job.kernel,
        memory="3G",
        icount=job.icount,
        nodes=job.nodes,
        environment=programs,
        # It says how much CPU time it took.
        options=("--verbose",),
    )
    failures = []

    def show(line: str) -> None:
        if line.startswith(("E  ", "FAILED ", "ERROR ")):
            failures.append(line)
        with _printing:
            print(f"{job.kernel:>5} | {line}", flush=True)

    status = watched(machine, module("pytest", *_PYTEST, *job.arguments), show)
    return Outcome(status, time.monotonic() - began, tuple(failures))


def main(argv: list[str]) -> int:
    """Run all kernels; 0 only if the tests passed on every one."""
    split = argv.index("--") if "--" in argv else len(argv)
    words, arguments = argv[:split], argv[split + 1 :]
    kernels = [word for word in words if word not in WHICH]
    if not kernels:
        print("usage: run.py [--quick | --rest] KERNEL... [-- PYTEST-ARGUMENT...]", file=sys.stderr)
        return 2
    which = next((WHICH[word] for word in words if word in WHICH), usual_jobs)
    jobs = own_jobs(kernels, arguments) if arguments else which(kernels)
    programs = environment(PACKAGES)
    programs[installed.VARIABLE] = str(installed.install(ROOT / "build/installed"))
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        results = list(pool.map(lambda job: run_job(job, programs), jobs))
    for job, outcome in zip(jobs, results, strict=True):
        verdict = "passed" if outcome.status == 0 else f"FAILED ({outcome.status})"
        print(f"{job.kernel:>5} | {verdict} in {outcome.seconds:.0f} s: {' '.join(job.arguments)}")
    # Again at the very end: often only the end of a long log is kept.
    for job, outcome in zip(jobs, results, strict=True):
        for line in outcome.failures:
            print(f"{job.kernel:>5} | {line}")
    return 0 if all(outcome.status == 0 for outcome in results) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
