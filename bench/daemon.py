"""`make bench-daemon`: the daemon's start, memory, and CPU time at rest and on request."""

from __future__ import annotations

import sys

from bench.guests import at_rest, method, milliseconds, run, with_ruler
from bench.results import Goal, Result, save, table

NAME = "daemon"
# Processes, those with KSM pages, and the pages of each of these.
_AT_REST = "1000:1000:4"
_MIB = 1 << 20
# The goals.
_PSS_MB = 40
_START_SECONDS, _ADOPTED_SECONDS = 1.5, 0.3
_REST = 0.003
_INTRODUCTION = """`make bench-daemon`, {date}, Linux {kernel} in QEMU, Python {python}. The
figures cover the daemon, the process that serves HTTP, and the loader until it ends."""


def _seconds(result: Result, case: str) -> float:
    """From exec to the first exact snapshot: CPU time of an ordinary core, and waiting time."""
    found = result["cases"][case]
    waiting = max(0.0, found["wall"] - found["cpu"])
    return float(milliseconds(result, found["cpu"]) / 1000 + waiting)


def _start_table(result: Result) -> str:
    rows = []
    for words, case in (("cold, with compiling", "start cold"), ("adopted", "start adopted")):
        found = result["cases"][case]
        rows.append(
            (
                words,
                f"{milliseconds(result, found['cpu']) / 1000:.2f} s",
                f"{_seconds(result, case):.2f} s",
                f"{found['pss'] / _MIB:.1f} MiB",
            )
        )
    head = (
        "start, with 500 processes",
        "CPU time",
        "until the first exact snapshot",
        "PSS after it",
    )
    return table(head, rows)


def _churn_table(result: Result) -> str:
    rows = []
    cases = {
        "no KSM page on the host": "no KSM pages",
        "1,000 processes with KSM pages": _AT_REST,
        "churn": "churn",
        "churn, each with 20 KSM pages": "churn with KSM pages",
    }
    for words, case in cases.items():
        found = result["cases"][case]
        forks = f"{found['forks']:,.0f}" if "forks" in found else "0"
        share = at_rest(result, found["rest"])
        rows.append((words, forks, f"{share:.3%}", f"{share * 60_000:.0f} ms"))
    return table(
        ("without requests", "forks per second", "share of a core", "CPU time per minute"), rows
    )


def section(result: Result) -> str:
    """Method and tables."""
    return "\n\n".join(
        [
            "## The daemon",
            _INTRODUCTION.format(**result),
            method(result),
            _start_table(result),
            _churn_table(result),
        ]
    )


def goals(result: Result) -> list[Goal]:
    """The goals for the daemon."""
    pss = result["cases"]["start cold"]["pss"] / 1e6
    cold, adopted = _seconds(result, "start cold"), _seconds(result, "start adopted")
    rest = at_rest(result, result["cases"][_AT_REST]["rest"])
    return [
        Goal("daemon: at most 40 MB PSS after start", f"{pss:.1f} MB", pss <= _PSS_MB, _WHY_PSS),
        Goal(
            "start to exact snapshot at most 1.5 s, with 500 processes",
            f"{cold:.2f} s",
            cold <= _START_SECONDS,
            _WHY_START,
        ),
        Goal(
            "adopted restart at most 0.3 s",
            f"{adopted:.2f} s",
            adopted <= _ADOPTED_SECONDS,
            _WHY_ADOPTED,
        ),
        Goal(
            "10,000 KSM processes: idle CPU under 0.3 % of a core",
            f"{rest:.2%} with 1,000, and a tick takes as long with 10,000",
            rest < _REST,
            _WHY_REST,
        ),
    ]


_WHY_PSS = (
    "there are two Python interpreters, because a separate process serves HTTP; about 15 MB of "
    "each are Python's objects, mostly the code of modules"
)
_WHY_START = "see the table in *The daemon*"
_WHY_ADOPTED = (
    "three Python processes start, and the daemon reads /proc/kallsyms and BTF, for a tenth of a "
    "second, before it adopts anything"
)
_WHY_REST = "most of it is the audit's allowance"


def main() -> int:
    """Measure, and keep the result."""
    samples = run("bench.daemon_guest", "start", _AT_REST, "churn", icount=True, memory="3G")
    save(NAME, with_ruler(samples, "case"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
