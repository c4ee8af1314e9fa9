"""Runs the tests of the package: `run.py SUITE... [-- PYTEST-ARGUMENT...]`, on the host.

Each suite is booted with systemd and its own kernel. The package is built twice, so that there is
something to upgrade to.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
KERNELS = {"bookworm": "6.1", "trixie": "6.12"}
_NEXT_VERSION = "999"
_TIMEOUT_SECONDS = 1500


def build(suite: str, *version: str) -> str:
    """Build a package; returns its path in the checkout."""
    argv = [str(ROOT / "deploy/deb"), suite, *version]
    done = subprocess.run(argv, check=True, stdout=subprocess.PIPE, text=True)
    return done.stdout.strip()


def run(suite: str, arguments: list[str]) -> int:
    """Boot a suite and run the tests in it; the exit status of pytest."""
    packages = {"DEB": build(suite), "DEB_NEXT": build(suite, _NEXT_VERSION)}
    argv = [
        *(
            str(ROOT / "tests/vm/run"),
            "--kernel",
            KERNELS[suite],
            "--root",
            suite,
            "--memory",
            "3G",
        ),
        *("--verbose", "--timeout", str(_TIMEOUT_SECONDS)),
        *(word for name, value in packages.items() for word in ("--env", f"{name}={value}")),
        *("--", "/usr/bin/python3", "-B", "-m", "pytest", "-p", "no:cacheprovider", "--color=no"),
        *("-c", "/dev/null", "--rootdir", str(ROOT), "-x", "-rP", "--durations=0", *arguments),
    ]
    return subprocess.run(argv, check=False, cwd=ROOT, stdin=subprocess.DEVNULL).returncode


def main(argv: list[str]) -> int:
    """Run all suites; 0 only if the tests passed on every one."""
    split = argv.index("--") if "--" in argv else len(argv)
    suites, arguments = argv[:split], argv[split + 1 :] or ["tests/systemd"]
    if not suites:
        print("usage: run.py SUITE... [-- PYTEST-ARGUMENT...]", file=sys.stderr)
        return 2
    statuses = {suite: run(suite, arguments) for suite in suites}
    for suite, status in statuses.items():
        print(f"{suite}: {'passed' if status == 0 else f'FAILED ({status})'}", flush=True)
    return max(statuses.values())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
