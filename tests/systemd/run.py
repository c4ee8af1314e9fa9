"""Runs the tests of the package: `python -m tests.systemd.run SUITE... [-- PYTEST-ARGUMENT...]`.

On the host. Each suite is booted with systemd and its own kernel. The package is built twice, so
that there is something to upgrade to.
"""

from __future__ import annotations

import sys

from tests.children import output
from tests.guests import ROOT, Guest, watched

KERNELS = {"bookworm": "6.1", "trixie": "6.12"}
_NEXT_VERSION = "999"
_BUILD_SECONDS = 3600
_PYTEST = (
    *("/usr/bin/python3", "-B", "-m", "pytest", "-p", "no:cacheprovider", "--color=no", "-v"),
    *(
        "-c",
        "/dev/null",
        "--rootdir",
        str(ROOT),
        "-x",
        "-rP",
        "--durations=0",
        "-p",
        "tests.deadlines",
    ),
)


def build(suite: str, *version: str) -> str:
    """Build a package; returns its path in the checkout."""
    return output([ROOT / "deploy/deb", suite, *version], seconds=_BUILD_SECONDS).strip()


def run(suite: str, arguments: list[str]) -> int:
    """Boot a suite and run the tests in it; the exit status of pytest."""
    packages = {"DEB": build(suite), "DEB_NEXT": build(suite, _NEXT_VERSION)}
    guest = Guest(
        KERNELS[suite], root=suite, memory="3G", environment=packages, options=("--verbose",)
    )
    return watched(guest, [*_PYTEST, *arguments], lambda line: print(line, flush=True))


def main(argv: list[str]) -> int:
    """Run all suites; 0 only if the tests passed on every one."""
    split = argv.index("--") if "--" in argv else len(argv)
    suites, arguments = argv[:split], argv[split + 1 :] or ["tests/systemd"]
    if not suites:
        print("usage: run.py SUITE... [-- PYTEST-ARGUMENT...]", file=sys.stderr)
        return 2
    statuses = {suite: run(suite, arguments) for suite in suites}
    for suite, found in statuses.items():
        print(f"{suite}: {'passed' if found == 0 else f'FAILED ({found})'}", flush=True)
    return max(statuses.values())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
