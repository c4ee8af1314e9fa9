"""`make bench-crowds`: a snapshot and a scrape, with up to 10,000 processes that have KSM pages."""

from __future__ import annotations

import json
import os
import subprocess
import sys

from bench.results import ROOT, Goal, Result, save, table

NAME = "crowds"
_CROWDS = [
    (processes, processes * percent // 100)
    for processes in (100, 1_000, 10_000)
    for percent in (10, 50, 100)
]
_LARGEST = "10000:10000"
_MIB = 1 << 20
_ANSWER_MS = 150
_METHOD = """`make bench-crowds`, {date}, Python {python}, on the machine itself: CPU time in
milliseconds of the daemon's code and of the front's, the fastest of 7. The processes are real, and
so are the BPF maps. They hold an account for each process with KSM pages, filled as the programs
would have done (`bench/crowds_host.py`). *Snapshot* is the whole document on the Unix socket, with
every process. *Scrape* has series by owner. Before each measurement nothing has moved, or pages of
1 % of the processes, or pages of all. *Tick* is the work of every second, except for checking
attachments. PSS is that of one process that did all this, with more of Python than the daemon has.
The kernel's own number for a process can be from an earlier snapshot (`kernel_age_seconds`); ours
cannot."""


def _row(result: Result, processes: int, merging: int) -> tuple[object, ...]:
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


def section(result: Result) -> str:
    """Method and table, with one row per crowd."""
    head = (
        *("processes", "with KSM pages", "snapshot: none, 1 %, all moved", "scrape: the same"),
        *("snapshot, bytes", "scrape, bytes", "tick", "PSS, MiB"),
    )
    rows = (_row(result, *crowd) for crowd in _CROWDS)
    return "\n\n".join(["## Crowds", _METHOD.format(**result), table(head, rows)])


def goals(result: Result) -> list[Goal]:
    """The goals for 10,000 processes."""
    return [
        _goal(f"10,000 KSM processes: a {name} under {_ANSWER_MS} ms of CPU", what, result)
        for name, what in (("snapshot", "document"), ("scrape", "scrape"))
    ]


def _goal(goal: str, what: str, result: Result) -> Goal:
    largest = result["crowds"].get(_LARGEST)
    if largest is None:
        return Goal(goal, "not measured", met=False, why="`make bench-crowds` did not get that far")
    still, some = largest[f"{what} still"], largest[f"{what} some"]
    reached = f"{still:.0f} ms; {some:.0f} ms when 1 % moved"
    return Goal(goal, reached, some < _ANSWER_MS, _WHY)


_WHY = (
    "for each process, Python needs about 6 µs to see that nothing has changed and to join its JSON"
)


def main() -> int:
    """Measure, and keep the result."""
    found = {}
    for processes, merging in _CROWDS:
        command = [sys.executable, "-m", "bench.crowds_host", str(processes), str(merging), "1"]
        done = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True)
        print(done.stdout, end="", flush=True)
        found[f"{processes}:{merging}"] = json.loads(done.stdout.removeprefix("sample "))
    save(NAME, {"python": sys.version.split()[0], "cores": os.cpu_count(), "crowds": found})
    return 0


if __name__ == "__main__":
    sys.exit(main())
