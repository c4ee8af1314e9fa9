"""Runs the kernel tests on each test kernel.

`python -m tests.kernel.run [--quick] KERNEL... [-- PYTEST-ARGUMENT...]`. The tests of a kernel are
divided among guests, so that all cores have work to the end. What counts most (SECOND_SHARE) runs
on each kernel, everything else on one of them. With --quick all that depends on the kernel (not
marked `once`) runs on each, and nothing else.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from tests import installed
from tests.debs import environment
from tests.guests import ROOT, Guest, module, watched

# Programs whose real versions the tests use.
PACKAGES = ("prometheus", "prometheus-alertmanager", "prometheus-node-exporter")
# About equally long. A file that is in neither comes to the first.
SECOND_SHARE = ("test_lifecycle.py", "test_survival.py")
# Likewise of what runs once.
SECOND_SHARE_ONCE = ("test_repair.py", "test_refusals.py", "test_why.py")
# Where ftrace can be switched off, smaps has a KSM line, and emulation is quicker than on 7.3.
ONCE_KERNEL = "6.12"
# Counts instructions, for which the guest needs another clock.
COUNTING = "test_hotpath.py"
# What needs other kernels than those of `make test` (everywhere.py), or takes too long for it.
ELSEWHERE = (
    "test_ages.py",
    "test_savings.py",
    "test_pressure.py",
    "test_estimate.py",
    "test_history.py",
    "test_fuzz_killed.py",
    "test_kept_programs.py",
    "test_userfault.py",
    "test_reclaim.py",
    "test_idmapped.py",
    "test_memory_blocks.py",
    "test_passthrough.py",
)
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


def shares(second: tuple[str, ...]) -> tuple[list[str], list[str]]:
    """Arguments for these files, and for all others that run on every kernel."""
    apart = [f"tests/kernel/{name}" for name in second]
    others = [f"tests/kernel/{name}" for name in (COUNTING, *ELSEWHERE)]
    ignored = [f"--ignore={path}" for path in (*apart, *others)]
    return apart, ["tests/kernel", *ignored]


def jobs_for(kernels: list[str], arguments: list[str], *, quick: bool = False) -> list[Job]:
    """The guests to run; with the caller's own arguments, one for each kernel."""
    if arguments:
        counting = any(word.endswith(COUNTING) for word in arguments)
        nodes = 1 if counting else 2
        return [Job(each, tuple(arguments), icount=counting, nodes=nodes) for each in kernels]
    second, first = shares(SECOND_SHARE)
    if quick:
        return [
            Job(each, (*share, "-m", "not once")) for each in kernels for share in (second, first)
        ]
    kernel = ONCE_KERNEL if ONCE_KERNEL in kernels else kernels[-1]
    once = [Job(kernel, (*share, "-m", "once"), nodes=2) for share in shares(SECOND_SHARE_ONCE)]
    once.append(Job(kernel, (f"tests/kernel/{COUNTING}",), icount=True))
    # The longest first. All on all kernels would take longer than CI may.
    once.append(Job(kernel, (*first, "-m", "not once")))
    return [*once, *(Job(each, (*second, "-m", "not once")) for each in reversed(kernels))]


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
        job.kernel, memory="3G", icount=job.icount, nodes=job.nodes, environment=programs
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
    kernels = [word for word in words if word != "--quick"]
    if not kernels:
        print("usage: run.py [--quick] KERNEL... [-- PYTEST-ARGUMENT...]", file=sys.stderr)
        return 2
    programs = environment(PACKAGES)
    programs[installed.VARIABLE] = str(installed.install(ROOT / "build/installed"))
    jobs = jobs_for(kernels, arguments, quick="--quick" in words)
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
