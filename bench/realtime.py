"""`make bench-realtime`: what the hooks and the daemon cost on PREEMPT_RT, and whether it counts.

On these kernels the hooks are kprobes, as other tasks preempt programs by fentry there.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Iterator
from typing import Any

from bench.guests import printed
from bench.hotpath import CASES, collect, extra
from bench.results import ROOT, Goal, Result, load, save, table
from tests.guests import Guest

NAME = "realtime"
KERNELS = ("6.12-rt", "7.3-rt")
_OPERATIONS = ("munmap", "touch and munmap", "fork and exit", "merge by ksmd", "COW of a KSM page")
_MOST_CPU = 0.03
_LEAST_EXACT = 0.95
_METHOD = """`make bench-realtime`, {date}. QEMU runs the guest with `-icount shift=0` on one CPU,
so that an instruction takes a nanosecond. On these kernels the hooks are kprobes, because other
tasks can preempt fentry programs, and the kernel would then skip events.

Under pressure, four processes map, touch and unmap 256 pages each time, and write to one of 64
mergeable pages of their own, while ksmd merges them. A snapshot is taken every second. CPU time is
that of the daemon."""
_COSTS = "Instructions, counted as for the hot path above, of the same hooks by both mechanisms."
_NO_COSTS = "What the hooks cost there has not been measured yet."


def section(result: Result) -> str:
    """Method and tables."""
    parts = ["## PREEMPT_RT", _METHOD.format(date=result["date"]), _pressure_table(result)]
    measured = {name: found for name, found in result["kernels"].items() if found["costs"]}
    parts.append(_COSTS if measured else _NO_COSTS)
    for kernel, found in measured.items():
        parts += [f"### Linux {kernel} ({found['release']})", _cost_table(found["costs"])]
    return "\n\n".join(parts)


def _pressure_table(result: Result) -> str:
    rows = [
        (
            kernel,
            f"{found['pressure']['exact']} of {found['pressure']['snapshots']}",
            f"{found['pressure']['missed']:,}",
            f"{found['pressure']['cpu']:.1%}",
        )
        for kernel, found in result["kernels"].items()
    ]
    return table(("under pressure", "exact snapshots", "skipped runs", "CPU of a core"), rows)


def _cost_table(costs: dict[str, dict[str, float]]) -> str:
    cases = [case for case in CASES if case in costs]
    rows = []
    for operation in _OPERATIONS:
        bare = costs["nothing"][operation]
        more = [extra(costs, case, operation) for case in cases[1:]]
        rows.append((operation, f"{bare:,.0f}", *(f"{m:+,.0f} ({m / bare:+.1%})" for m in more)))
    return table(("per page", *(CASES[case] for case in cases)), rows)


def goals(result: Result) -> list[Goal]:
    """Those about these kernels."""
    found = {kernel: each["pressure"] for kernel, each in result["kernels"].items()}
    cpu = ", ".join(f"{each['cpu']:.1%} ({kernel})" for kernel, each in found.items())
    exact = ", ".join(
        f"{each['exact']} of {each['snapshots']} ({kernel})" for kernel, each in found.items()
    )
    return [
        Goal(
            "PREEMPT_RT, under pressure: under 3 % of a core",
            cpu,
            all(each["cpu"] < _MOST_CPU for each in found.values()),
            "see *PREEMPT_RT*",
        ),
        Goal(
            "PREEMPT_RT, under pressure: 95 % of the snapshots are exact",
            exact,
            all(each["exact"] >= _LEAST_EXACT * each["snapshots"] for each in found.values()),
            "see *PREEMPT_RT*",
        ),
    ]


def _shown(kernel: str, lines: Iterable[str]) -> Iterator[str]:
    for line in lines:
        print(f"{kernel:>7} | {line}", flush=True)
        yield line


def measure(kernel: str, *options: str) -> dict[str, Any]:
    """One kernel, in a guest of its own."""
    guest = Guest(kernel, memory="3G", icount=True, environment={"PYTHONPATH": str(ROOT)})
    lines = list(_shown(kernel, printed(guest, "bench.realtime_guest", *options)))
    (pressure,) = (line.removeprefix("pressure ") for line in lines if line.startswith("pressure "))
    return {**collect(lines), "pressure": json.loads(pressure)}


def main(argv: list[str]) -> int:
    """Measure and keep the results."""
    parser = argparse.ArgumentParser(prog="make bench-realtime", description=__doc__)
    parser.add_argument("kernels", nargs="*", metavar="KERNEL", help="the others keep their result")
    parser.add_argument(
        "--pressure", action="store_true", help="not what the hooks cost, which takes much longer"
    )
    arguments = parser.parse_args(argv)
    options = ("--pressure",) if arguments.pressure else ()
    found = dict((load(NAME) or {"kernels": {}})["kernels"])
    for kernel in arguments.kernels or KERNELS:
        found[kernel] = measure(kernel, *options)
        save(NAME, {"kernels": found})
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
