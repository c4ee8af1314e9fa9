"""`make bench-crowds`: a snapshot and a scrape, with up to 10,000 processes that have KSM pages.

`python -m bench.crowds [DIRECTORY]`: side by side with another checkout, whose
`bench/crowds_host.py` takes the same arguments.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bench.results import ROOT, Goal, Result, save, table

NAME = "crowds"
# Processes, all of them with KSM pages, and owners.
_CROWDS = [(processes, owners) for processes in (100, 1_000, 10_000) for owners in (1, 50)]
_LARGEST = "10000:50"
_MOVED = ("still", "some", "all")
_ROUNDS = 1
_MIB = 1 << 20
_ANSWER_MS = 150
_METHOD = """`make bench-crowds`, {date}, Python {python}, on the machine itself: CPU time in
milliseconds of the daemon's code and of the front's, the fastest of 7. The processes are real, and
so are the BPF maps. They hold an account for each process, which has KSM pages, filled as the
programs would have done (`bench/crowds_host.py`). Only the owners are invented. *Snapshot* is the
whole document on the Unix socket, with every process. *Scrape* has series by owner, crosses the
channel to the front, and is compressed. Before each measurement nothing has moved, or pages of 1 %
of the processes have, or pages of all; ksmd is stopped. *Tick* is the work of every second, except
for checking attachments. PSS is that of one process that did all this, and that loads more of
Python than the daemon does. ksmd's own number for a process can be from an earlier snapshot
(`kernel_age_seconds`); ours cannot."""
_BESIDE = """The same with {before_commit}, alternating in the same run; *x* is the ratio of that to
the present version. Compare only the ratios with other runs: other work on the machine makes both
slower."""


def _found(result: Result, processes: int, owners: int, when: str = "crowds") -> Any:
    return result.get(when, {}).get(f"{processes}:{owners}")


def _times(found: Any, what: str) -> str:
    return ", ".join(f"{found[f'{what} {moved}']:.1f}" for moved in _MOVED)


def _row(result: Result, processes: int, owners: int) -> tuple[object, ...]:
    head = (f"{processes:,}", owners)
    found = _found(result, processes, owners)
    if found is None:
        return (*head, *["not measured"] * 6)
    return (
        *head,
        *(_times(found, what) for what in ("document", "scrape")),
        f"{found['document bytes']:,}",
        f"{found['scrape bytes']:,}",
        f"{found['tick']:.2f}",
        f"{found['pss'] / _MIB:.0f}",
    )


def _beside(result: Result) -> Iterator[tuple[object, ...]]:
    for processes, owners in _CROWDS:
        now = _found(result, processes, owners)
        before = _found(result, processes, owners, "before")
        if now is None or before is None:
            continue
        ratios = (
            ", ".join(f"{before[f'{what} {m}'] / now[f'{what} {m}']:.1f}" for m in _MOVED)
            for what in ("document", "scrape")
        )
        texts = zip((_times(before, what) for what in ("document", "scrape")), ratios, strict=True)
        yield (f"{processes:,}", owners, *(text for pair in texts for text in pair))


def section(result: Result) -> str:
    """Method and table, with one row per crowd; and beside it another commit."""
    head = (
        *("processes", "owners", "snapshot: none, 1 %, all moved", "scrape: the same"),
        *("snapshot, bytes", "scrape, bytes", "tick", "PSS, MiB"),
    )
    rows = (_row(result, *crowd) for crowd in _CROWDS)
    parts = ["## Crowds", _METHOD.format(**result), table(head, rows)]
    if "before" in result:
        titles = ("processes", "owners", "snapshot", "x", "scrape", "x")
        parts += [_BESIDE.format(**result), table(titles, _beside(result))]
    return "\n\n".join(parts)


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
    reached = f"{still:.1f} ms; {some:.1f} ms when 1 % moved"
    return Goal(goal, reached, some < _ANSWER_MS, _WHY)


_WHY = "see the table in *Crowds*"


def _measure(root: Path, processes: int, owners: int) -> dict[str, Any]:
    arguments = (str(processes), str(processes), str(owners))
    command = [str(root / ".venv/bin/python"), "-m", "bench.crowds_host", *arguments]
    done = subprocess.run(command, cwd=root, check=True, stdout=subprocess.PIPE, text=True)
    print(root.name, done.stdout, end="", flush=True)
    found: dict[str, Any] = json.loads(done.stdout.removeprefix("sample "))
    return found


def best(samples: list[dict[str, Any]]) -> dict[str, Any]:
    """The shortest time of each kind. All else hardly differs between samples."""
    times = {
        name: min(each[name] for each in samples)
        for name, value in samples[0].items()
        if isinstance(value, float)
    }
    return {**samples[0], **times}


def main(argv: list[str]) -> int:
    """Measure, and keep the result."""
    roots = {"crowds": ROOT}
    if argv:
        roots["before"] = Path(argv[0]).resolve()
    result: dict[str, Any] = {name: {} for name in roots}
    for crowd in _CROWDS:
        samples: dict[str, list[dict[str, Any]]] = {name: [] for name in roots}
        for _ in range(_ROUNDS):
            for name, root in roots.items():
                samples[name].append(_measure(root, *crowd))
        for name, found in samples.items():
            result[name]["{}:{}".format(*crowd)] = best(found)
    if argv:
        command = ["git", "-C", argv[0], "rev-parse", "--short", "HEAD"]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        result["before_commit"] = done.stdout.strip()
    save(NAME, {"python": sys.version.split()[0], "cores": os.cpu_count(), **result})
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
