"""Runs the kernel tests on each test kernel: `run.py KERNEL... [-- PYTEST-ARGUMENT...]`.

Every kernel is a guest of its own; as many run at once as the machine has cores for.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
VM = ROOT / "tests/vm"
# Programs of which the real ones are tested against.
PACKAGES = ("prometheus",)
_TIMEOUT_SECONDS = 1500
_printing = threading.Lock()


def unpack_packages() -> dict[str, str]:
    """Where the Debian packages were unpacked, as environment variables for the guest."""
    found = {}
    for name in PACKAGES:
        path = subprocess.run(
            [VM / "debs", name], check=True, stdout=subprocess.PIPE, text=True
        ).stdout.strip()
        found[f"DEB_{name.upper()}"] = path
    return found


def run_kernel(kernel: str, arguments: list[str], environment: dict[str, str]) -> tuple[int, float]:
    """Run the tests on one kernel; the exit status, and how many seconds it took."""
    began = time.monotonic()
    guest = subprocess.Popen(
        [
            VM / "run",
            *("--kernel", kernel, "--timeout", str(_TIMEOUT_SECONDS), "--memory", "3G"),
            *(word for name, value in environment.items() for word in ("--env", f"{name}={value}")),
            "--",
            *(sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--color=no"),
            *("--durations=8", "--timeout=600", *(arguments or ["tests/kernel"])),
        ],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert guest.stdout is not None
    for line in guest.stdout:
        with _printing:
            print(f"{kernel:>5} | {line.rstrip()}", flush=True)
    return guest.wait(), time.monotonic() - began


def main(argv: list[str]) -> int:
    """Run all kernels; 0 only if the tests passed on every one."""
    split = argv.index("--") if "--" in argv else len(argv)
    kernels, arguments = argv[:split], argv[split + 1 :]
    if not kernels:
        print("usage: run.py KERNEL... [-- PYTEST-ARGUMENT...]", file=sys.stderr)
        return 2
    environment = unpack_packages()
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        results = list(pool.map(lambda k: run_kernel(k, arguments, environment), kernels))
    for kernel, (status, seconds) in zip(kernels, results, strict=True):
        print(
            f"{kernel:>5} | {'passed' if status == 0 else f'FAILED ({status})'} in {seconds:.0f} s"
        )
    return 0 if all(status == 0 for status, _ in results) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
