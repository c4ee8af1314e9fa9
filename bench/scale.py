"""`make bench-scale`: how the daemon's cost grows with processes and with merged pages."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from bench.guests import at_rest, method, milliseconds, run, with_ruler
from bench.results import Goal, Result, save, table
from ksmwatch.counting.audit_schedule import Policy

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NAME = "scale"
# Processes, and merged pages of each. All are forked from one process with these pages.
_SIZES = ((10, 1_000), (100, 1_000), (1_000, 1_000), (1_000, 10_000), (10_000, 100))
_CASES = [f"{processes}:{processes}:{pages}:fork" for processes, pages in _SIZES]
_POLLED = "1000:1000:10000:fork"
_INTERVAL_SECONDS = 15
_FACTOR = 100
_MIB = 1 << 20
_METHOD = """`make bench-scale`, {date}, Linux {kernel}. Processes are forked from one whose pages
are merged, so that many processes have many pages; ksmd is stopped and knows no page of theirs. *In
15 s* is CPU time in milliseconds: of the daemon, with one scrape, and of a script with one round
through smaps_rollup of every process (`bench/smaps_poller.py`). Not measured: 10,000 processes with
more than 100 pages each."""


def daemon_interval(result: Result, case: str) -> float:
    """CPU milliseconds of the daemon in 15 seconds, with one scrape."""
    found = result["cases"][case]
    rest = 1000 * _INTERVAL_SECONDS * at_rest(result, found["rest"])
    return milliseconds(result, found["scrape"]) + rest


def _row(result: Result, case: str) -> tuple[object, ...]:
    processes, _, pages, _ = case.split(":")
    mappings = int(processes) * int(pages)
    found = result["cases"].get(case, {"failed": True})
    if found.get("failed"):
        return (f"{int(processes):,}", f"{mappings:,}", *["not measured"] * 7)
    ours, theirs = daemon_interval(result, case), milliseconds(result, found["smaps"])
    return (
        f"{int(processes):,}",
        f"{mappings:,}",
        f"{milliseconds(result, found['snapshot']):.1f}",
        f"{milliseconds(result, found['scrape']):.1f}",
        f"{ours:.1f}",
        f"{theirs:.1f}",
        f"{theirs / ours:.1f} x",
        f"{found['pss'] / _MIB:.1f}",
        f"{found['map_bytes'] / _MIB:.1f}",
    )


def section(result: Result) -> str:
    """Method and table."""
    head = (
        *("processes", "merged pages", "snapshot, ms", "scrape, ms", "ksmwatch in 15 s"),
        *("smaps_rollup in 15 s", "", "PSS, MiB", "BPF maps, MiB"),
    )
    rows = [_row(result, case) for case in _CASES]
    parts = ["## Scale", _METHOD.format(**result), method(result), table(head, rows), _PICTURE]
    return "\n\n".join(parts)


_PICTURE = "![CPU time in 15 seconds, by merged pages](overhead-scale.svg)"


def figures(result: Result) -> dict[str, Figure]:
    """CPU time in 15 seconds by merged pages, of the daemon and of the script."""
    from matplotlib.figure import Figure

    found = {case: one for case, one in result["cases"].items() if not one.get("failed")}
    points = sorted((one["processes"] * one["pages"], case) for case, one in found.items())
    figure = Figure(figsize=(8, 3.6), layout="constrained")
    axes = figure.subplots()
    pages = [number for number, _ in points]
    ours = [daemon_interval(result, case) for _, case in points]
    theirs = [milliseconds(result, found[case]["smaps"]) for _, case in points]
    for label, values in (("ksmwatch, scraped once", ours), ("smaps_rollup of all", theirs)):
        axes.loglog(pages, values, "o", label=label)
    for (number, case), value in zip(points, ours, strict=True):
        axes.annotate(
            f"{found[case]['processes']:,} processes",
            (number, value),
            xytext=(0, -11),
            textcoords="offset points",
            ha="center",
            fontsize=7,
        )
    axes.margins(0.12)
    axes.set_xlabel("merged pages on the host")
    axes.set_ylabel("ms of CPU in 15 s")
    axes.legend()
    return {"overhead-scale.svg": figure}


def goals(result: Result) -> list[Goal]:
    """The goal that polling costs much more."""
    found = result["cases"][_POLLED]
    factor = milliseconds(result, found["smaps"]) / daemon_interval(result, _POLLED)
    return [
        Goal(
            "100 x less CPU than polling smaps_rollup at 15 s, for 1,000 processes that each have "
            "10,000 merged pages",
            f"{factor:.0f} x",
            factor >= _FACTOR,
            _why(result),
        )
    ]


def _why(result: Result) -> str:
    """What the daemon spends its time on, compared with a round through all page tables."""
    found = result["cases"][_POLLED]
    audit = Policy().share * _INTERVAL_SECONDS * 1000
    ours = daemon_interval(result, _POLLED)
    scrape = milliseconds(result, found["scrape"])
    without = milliseconds(result, found["smaps"]) / (ours - audit)
    return (
        f"of {ours:.1f} ms in 15 s, {audit:.0f} are the audit's allowance (`audit.cpu-percent`; "
        f"without it {without:.0f} x) and {scrape:.1f} the scrape itself, mostly a loop over 1,000 "
        f"accounts in Python; the goal allows "
        f"{milliseconds(result, found['smaps']) / _FACTOR:.1f}"
    )


def main() -> int:
    """Measure, and keep the result."""
    save(NAME, with_ruler(run("bench.daemon_guest", *_CASES, icount=True, memory="6G"), "case"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
