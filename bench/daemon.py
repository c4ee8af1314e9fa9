"""`make bench-daemon`: what the daemon itself uses: start, memory, CPU at rest and when asked."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

from bench.guests import at_rest, method, milliseconds, run, with_ruler
from bench.results import ROOT, Goal, Result, save, table

NAME = "daemon"
_CROWDS = [
    (processes, processes * percent // 100)
    for processes in (100, 1_000, 10_000)
    for percent in (10, 50, 100)
]
_LARGEST = "10000:10000"
# In the guest, for what needs the hooks; each of the processes has four merged pages.
_AT_REST = "1000:1000:4"
_MIB = 1 << 20
# The goals.
_PSS_MIB = 40
_START_SECONDS, _ADOPTED_SECONDS = 1.5, 0.3
_ANSWER_MS = 150
_REST = 0.003
_INTRODUCTION = """`make bench-daemon`, {date}, Linux {kernel} in QEMU, Python {python}. All of it
counts: the daemon, the process that serves HTTP, and until it ends the loader."""
_ABOUT_CROWDS = """Snapshots and scrapes were timed on the machine itself, CPU time of the daemon's
code and of the front's, the fastest of 7: real processes, and real BPF maps with an account for
each that has KSM pages, filled as the programs would have done (`bench/daemon_host.py`). *Snapshot*
is the whole document on the Unix socket, with every process; *scrape* has series by owner. Before
each time nothing has moved, or pages of one in a hundred of the processes, or of all. The kernel's
own number of a process can be from an earlier snapshot (`kernel_age_seconds`), ours cannot. PSS is
of one process that did all this, with some more of Python than the daemon has."""


def _crowd_row(result: Result, processes: int, merging: int) -> tuple[object, ...]:
    head = (f"{processes:,}", f"{merging:,}")
    found = result["crowds"].get(f"{processes}:{merging}")
    if found is None:
        return (*head, *["not measured"] * 6)
    return (
        *head,
        *(
            ", ".join(f"{found[f'{what} {moved}']:.1f}" for moved in ("still", "some", "all"))
            for what in ("document", "scrape")
        ),
        f"{found['document bytes']:,}",
        f"{found['scrape bytes']:,}",
        f"{found['tick']:.2f}",
        f"{found['pss'] / _MIB:.0f}",
    )


def crowds_table(result: Result) -> str:
    """One row per crowd."""
    head = (
        *("processes", "with KSM pages", "snapshot, ms: still, 1 %, all", "scrape, ms: the same"),
        *("snapshot, bytes", "scrape, bytes", "tick, ms", "PSS, MiB"),
    )
    return table(head, (_crowd_row(result, *crowd) for crowd in _CROWDS))


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
    pss = result["cases"]["start cold"]["pss"] / _MIB
    cold, adopted = _seconds(result, "start cold"), _seconds(result, "start adopted")
    largest = result["crowds"][_LARGEST]
    snapshot, scrape = largest["document still"], largest["scrape still"]
    rest = at_rest(result, result["cases"][_AT_REST]["rest"])
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
            f"{snapshot:.0f} ms; {largest['document some']:.0f} ms when 1 % have moved",
            snapshot < _ANSWER_MS,
            _WHY_ANSWER,
        ),
        Goal(
            "10,000 KSM processes: a scrape under 150 ms of CPU",
            f"{scrape:.0f} ms; {largest['scrape some']:.0f} ms when 1 % have moved",
            scrape < _ANSWER_MS,
            _WHY_ANSWER,
        ),
        Goal(
            "10,000 KSM processes: idle CPU under 0.3 % of a core",
            f"{rest:.2%} with 1,000, and a tick takes as long with 10,000",
            rest < _REST,
            _WHY_REST,
        ),
    ]


_WHY_PSS = _WHY_START = _WHY_ADOPTED = _WHY_ANSWER = _WHY_REST = ""


def crowds() -> dict[str, Any]:
    """Every crowd on this machine itself."""
    found = {}
    for processes, merging in _CROWDS:
        command = [sys.executable, "-m", "bench.daemon_host", str(processes), str(merging)]
        done = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True)
        print(done.stdout, end="", flush=True)
        found[f"{processes}:{merging}"] = json.loads(done.stdout.removeprefix("sample "))
    return found


def main() -> int:
    """Measure, and keep the result."""
    on_host = crowds()
    samples = run("bench.daemon_guest", "start", _AT_REST, "churn", icount=True, memory="3G")
    save(NAME, {**with_ruler(samples, "case"), "crowds": on_host})
    return 0


if __name__ == "__main__":
    sys.exit(main())
