"""Runs the kernel tests on each test kernel: `run.py KERNEL... [-- PYTEST-ARGUMENT...]`.

The tests of a kernel are shared out among guests, so that all cores have work to the end. What
does not depend on the kernel (tests marked `once`) runs on the last one only.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
VM = ROOT / "tests/vm"
# Programs of which the real ones are tested against.
PACKAGES = ("prometheus", "prometheus-alertmanager", "prometheus-node-exporter")
# About equally long. A file that is in neither comes to the first.
SECOND_SHARE = ("test_lifecycle.py", "test_survival.py")
# Likewise of what runs once.
SECOND_SHARE_ONCE = ("test_repair.py", "test_refusals.py", "test_why.py")
# Counts instructions, for which the guest needs another clock; one kernel will do.
COUNTING, COUNTING_KERNEL = "test_hotpath.py", "6.12"
_TIMEOUT_SECONDS = 2400
_printing = threading.Lock()


def unpack_packages() -> dict[str, str]:
    """Where the Debian packages were unpacked, as environment variables for the guest."""
    found = {}
    for name in PACKAGES:
        path = subprocess.run(
            [VM / "debs", name], check=True, stdout=subprocess.PIPE, text=True
        ).stdout.strip()
        found[f"DEB_{name.upper().replace('-', '_')}"] = path
    return found


@dataclass(frozen=True)
class Job:
    """What one guest does."""

    kernel: str
    arguments: tuple[str, ...]
    icount: bool = False
    # Of memory, which ksmd can be told to merge one by one.
    nodes: int = 1


def shares(second: tuple[str, ...]) -> tuple[list[str], list[str]]:
    """Arguments for these files, and for all others but the one that counts instructions."""
    apart = [f"tests/kernel/{name}" for name in second]
    ignored = [f"--ignore={path}" for path in (*apart, f"tests/kernel/{COUNTING}")]
    return apart, ["tests/kernel", *ignored]


def jobs_for(kernels: list[str], arguments: list[str]) -> list[Job]:
    """The guests to run; with arguments of the caller's one for each kernel."""
    if arguments:
        return [Job(kernel, tuple(arguments), nodes=2) for kernel in kernels]
    everywhere = [
        Job(kernel, (*share, "-m", "not once"))
        for kernel in reversed(kernels)
        for share in shares(SECOND_SHARE)
    ]
    if COUNTING_KERNEL in kernels:
        everywhere.append(Job(COUNTING_KERNEL, (f"tests/kernel/{COUNTING}",), icount=True))
    once = [
        Job(kernels[-1], (*share, "-m", "once"), nodes=2) for share in shares(SECOND_SHARE_ONCE)
    ]
    # The longest first.
    return [*once, *everywhere]


@dataclass(frozen=True)
class Outcome:
    """How a guest ended: exit status, seconds, and what pytest said of failures."""

    status: int
    seconds: float
    failures: tuple[str, ...]


def run_job(job: Job, environment: dict[str, str]) -> Outcome:
    """Run one guest and show what it prints."""
    began = time.monotonic()
    kernel = job.kernel
    guest = subprocess.Popen(
        [
            VM / "run",
            *("--kernel", kernel, "--timeout", str(_TIMEOUT_SECONDS), "--memory", "3G"),
            *(["--icount"] if job.icount else []),
            *("--nodes", str(job.nodes)),
            *(word for name, value in environment.items() for word in ("--env", f"{name}={value}")),
            "--",
            *(sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--color=no"),
            *("--durations=8", "--timeout=600", *job.arguments),
        ],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert guest.stdout is not None
    failures = []
    for line in guest.stdout:
        if line.startswith(("E  ", "FAILED ", "ERROR ")):
            failures.append(line.rstrip())
        with _printing:
            print(f"{kernel:>5} | {line.rstrip()}", flush=True)
    return Outcome(guest.wait(), time.monotonic() - began, tuple(failures))


def main(argv: list[str]) -> int:
    """Run all kernels; 0 only if the tests passed on every one."""
    split = argv.index("--") if "--" in argv else len(argv)
    kernels, arguments = argv[:split], argv[split + 1 :]
    if not kernels:
        print("usage: run.py KERNEL... [-- PYTEST-ARGUMENT...]", file=sys.stderr)
        return 2
    environment = unpack_packages()
    jobs = jobs_for(kernels, arguments)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        results = list(pool.map(lambda job: run_job(job, environment), jobs))
    for job, outcome in zip(jobs, results, strict=True):
        verdict = "passed" if outcome.status == 0 else f"FAILED ({outcome.status})"
        print(f"{job.kernel:>5} | {verdict} in {outcome.seconds:.0f} s: {' '.join(job.arguments)}")
    # Once more at the very end: of a long log often only the end is kept.
    for job, outcome in zip(jobs, results, strict=True):
        for line in outcome.failures:
            print(f"{job.kernel:>5} | {line}")
    return 0 if all(outcome.status == 0 for outcome in results) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
