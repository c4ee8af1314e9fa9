"""`make bench-daemon`: what the daemon itself uses: start, memory, CPU at rest and when asked."""

from __future__ import annotations

import sys

from bench.guests import at_rest, method, milliseconds, run, with_ruler
from bench.results import Goal, Result, save, table

NAME = "daemon"
_CROWDS = [
    f"{processes}:{processes * percent // 100}:4"
    for processes in (100, 1_000, 10_000)
    for percent in (10, 50, 100)
]
_LARGEST = _CROWDS[-1]
_MIB = 1 << 20
# The goals.
_PSS_MIB = 40
_START_SECONDS, _ADOPTED_SECONDS = 1.5, 0.3
_ANSWER_MS = 150
_REST = 0.003

_INTRODUCTION = """`make bench-daemon`, {date}, Linux {kernel}, Python {python}. All of it
counts: the daemon, the process that serves HTTP, and until it ends the loader."""
_ABOUT_CROWDS = """Crowds of small processes, some with 4 merged pages each. *Snapshot* is the
whole document on the Unix socket, with every process; *1 % moved* the same after one in a
hundred of those with KSM pages has written to one; *scrape* has series by owner. The kernel's
own number of a process can be from an earlier snapshot (`kernel_age_seconds`), ours cannot."""


def _crowd_row(result: Result, case: str) -> tuple[object, ...]:
    found = result["cases"].get(case, {"failed": True})
    processes, merging, _ = case.split(":")
    head = (f"{int(processes):,}", f"{int(merging):,}")
    if found.get("failed"):
        return (*head, *["not measured"] * 7)
    return (
        *head,
        f"{milliseconds(result, found['snapshot']):.1f}",
        f"{milliseconds(result, found['snapshot_moving']):.1f}",
        f"{milliseconds(result, found['scrape']):.1f}",
        f"{found['snapshot_bytes']:,}",
        f"{found['scrape_bytes']:,}",
        f"{at_rest(result, found['rest']):.3%}",
        f"{found['pss'] / _MIB:.1f}",
    )


def crowds_table(result: Result) -> str:
    """One row per crowd."""
    head = (
        *("processes", "with KSM pages", "snapshot, ms", "1 % moved, ms", "scrape, ms"),
        *("snapshot, bytes", "scrape, bytes", "at rest", "PSS, MiB"),
    )
    return table(head, (_crowd_row(result, case) for case in _CROWDS))


def _seconds(result: Result, case: str) -> float:
    """From exec to the first exact snapshot: CPU time of an ordinary core, and waiting."""
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
    for case in ("no KSM pages", "churn", "churn with KSM pages"):
        found = result["cases"][case]
        forks = f"{found['forks']:,.0f}" if "forks" in found else "0"
        share = at_rest(result, found["rest"])
        rows.append((case, forks, f"{share:.3%}", f"{share * 60_000:.0f} ms"))
    return table(("nobody asks", "forks a second", "of a core", "CPU time a minute"), rows)


def section(result: Result) -> str:
    """Method and tables."""
    return "\n\n".join(
        [
            "## The daemon",
            _INTRODUCTION.format(**result),
            method(result),
            _start_table(result),
            _churn_table(result),
            _ABOUT_CROWDS,
            crowds_table(result),
        ]
    )


def goals(result: Result) -> list[Goal]:
    """Those about the daemon."""
    cases = result["cases"]
    largest = cases[_LARGEST]
    pss = cases["start cold"]["pss"] / _MIB
    cold, adopted = _seconds(result, "start cold"), _seconds(result, "start adopted")
    snapshot, scrape = (milliseconds(result, largest[w]) for w in ("snapshot", "scrape"))
    rest = at_rest(result, largest["rest"])
    return [
        Goal("daemon: at most 40 MB PSS after start", f"{pss:.1f} MiB", pss <= _PSS_MIB, _WHY_PSS),
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
            "10,000 KSM processes: a snapshot under 150 ms of CPU",
            f"{snapshot:.0f} ms",
            snapshot < _ANSWER_MS,
            _WHY_ANSWER,
        ),
        Goal(
            "10,000 KSM processes: a scrape under 150 ms of CPU",
            f"{scrape:.0f} ms",
            scrape < _ANSWER_MS,
            _WHY_ANSWER,
        ),
        Goal(
            "10,000 KSM processes: idle CPU under 0.3 % of a core",
            f"{rest:.2%}",
            rest < _REST,
            _WHY_REST,
        ),
    ]


_WHY_PSS = _WHY_START = _WHY_ADOPTED = _WHY_ANSWER = _WHY_REST = ""


def main() -> int:
    """Measure, and keep the result."""
    samples = run("bench.daemon_guest", "start", "churn", *_CROWDS, icount=True, memory="5G")
    save(NAME, with_ruler(samples, "case"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
