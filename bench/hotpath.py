"""`make bench-hotpath`: what the hooks cost the kernel, in instructions.

Boots each test kernel with a clock that counts instructions, so that every run and every machine
gives the same figures.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from bench.guests import printed
from bench.results import ROOT, Goal, Result, load, save, table
from tests.guests import Guest

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NAME = "hotpath"
KERNELS = ("6.1", "6.12", "7.3")
# Names on the page by key of a result, in the order of the page.
CASES = {
    "nothing": "nothing attached",
    "asleep": "ksmwatch asleep",
    "fentry": "**ksmwatch awake**",
    "empty fentry": "empty fentry program",
    "kprobe": "**ksmwatch by kprobe**",
    "empty kprobe": "empty kprobe program",
    "bpftrace fentry": "bpftrace, kfunc",
    "bpftrace kprobe": "bpftrace, kprobe",
}
_UNMAP = "munmap"
_CYCLE = "touch and munmap"
_LARGE = "munmap of 64 KiB folios"
_READ = "read of smaps_rollup"
# Bounds per unmapped page: the ratio to an empty program, the cost while asleep, and the cost for a
# page that is touched and unmapped, both relative to nothing attached.
RATIO = 1.20
ASLEEP = 0.002
CYCLE = 0.025
_PAGES_OF_A_GIGABYTE = (1 << 30) // 4096

_METHOD = """Counted, not timed: QEMU runs the guest with `-icount shift=0` on one CPU, where the
time-stamp counter is the number of instructions executed. Each figure is the lowest of several runs
of an operation on 10,007 small pages (2,003 for KSM pages), divided by the pages: interruptions,
such as the timer's, only add. Fork and exit are those of a process with that many pages. Exec is
one exec and exit of a small static program. Repeated figures agree within 0.2 %, those of exec
within about 3 %. An instruction is not a nanosecond: this compares what is executed, not how well
caches and predictors handle it.

Meanwhile ksmwatch is stopped by SIGSTOP, as its hooks do not need it: the figures are the cost of
the hooks alone. While it is awake, another process has two merged pages. The empty programs,
`return 0`, are attached to the same two functions as ksmwatch's, by which the reverse map gains and
loses a PTE: no accounting there by fentry, or by kprobe, can cost less. bpftrace counts by process
(`@[pid] = count()`), only removals, and every page, KSM or not."""

_LIMITS = """### Limits

**Above an empty program** remain {above} instructions per page: a load of the argument, the load of
the page's mapping (before which the JIT checks the address, since a kernel address might fault), a
difference, a mask and a comparison. No register is saved and there is no stack frame, because the
code for a KSM page is a function of its own. All else belongs to the kernel: the trampoline that
saves the arguments, `migrate_disable()`, `rcu_read_lock()` and the counter against recursion. No
program can avoid it.

**By kprobe** the same test costs little more than by fentry if a program may follow a pointer with
`bpf_rdonly_cast()` (since 6.2). Before, it must call `bpf_probe_read_kernel()` for one byte of the
mapping. The plan uses kprobes only if fentry is refused.

**A mode without hooks on the reverse map**, for hosts that unmap gigabytes a second, was considered
and not built. Instead of pages it would watch calls (`unmap_vmas()`, COW, `exit_mmap()`, merges),
put the mm in doubt, and read it exactly on a budget. Its possible saving is bounded. A page that is
unmapped was touched before, and of both together the hooks are {cycle}, at any rate of unmapping
and on any number of cores. Unmapping a gigabyte of small pages costs {gigabyte} million
instructions, {core} % of a core that executes three thousand million a second. In folios of 64 KiB
it costs {large} million, because the kernel makes one call for a whole folio (since 6.8). In
return, no count of a busy process would be exact between two reads, and one read of a process costs
{read} instructions per mapped page. That is as much as the hooks cost if all its memory is unmapped
{turnover} times. The hooks are useless only on a host without a KSM page, and there they are
detached anyway (*asleep*)."""


def extra(costs: Mapping[str, Mapping[str, float]], case: str, operation: str) -> float:
    """Instructions more than with nothing attached."""
    return costs[case][operation] - costs["nothing"][operation]


def ratio(costs: Mapping[str, Mapping[str, float]], case: str) -> float:
    """The cost per unmapped page, divided by that of an empty program of the same kind."""
    return extra(costs, case, _UNMAP) / extra(costs, f"empty {case}", _UNMAP)


def _cell(costs: Mapping[str, Mapping[str, float]], case: str, operation: str) -> str:
    if operation not in costs.get(case, {}):
        return "-"
    if case == "nothing":
        return f"{costs[case][operation]:,.0f}"
    more = extra(costs, case, operation)
    share = 100 * more / costs["nothing"][operation]
    # Without the sign of a zero that was a little less.
    return f"{round(more):+,} ({round(share, 1) + 0.0:+.1f} %)"


def unmap_table(result: Result) -> str:
    """Instructions per unmapped page; the README has this table too."""
    rows = [
        (words, *(_cell(found["costs"], case, _UNMAP) for found in result["kernels"].values()))
        for case, words in CASES.items()
    ]
    return table(("instructions per page unmapped", *result["kernels"]), rows)


def kernel_table(costs: Mapping[str, Mapping[str, float]], cases: Iterable[str]) -> str:
    """Every operation in these cases, on one kernel."""
    cases = list(cases)
    rows = [
        (operation, *(_cell(costs, case, operation) for case in cases))
        for operation in costs["nothing"]
    ]
    return table(("per page, or exec", *(CASES[case] for case in cases)), rows)


def section(result: Result) -> str:
    """Method and tables."""
    parts = [
        "## Hot path",
        f"`make bench-hotpath`, {result['date']}. " + _METHOD,
        unmap_table(result),
        "![Extra instructions per unmapped page](overhead-hotpath.svg)",
    ]
    for kernel, found in result["kernels"].items():
        parts += [f"### Linux {kernel} ({found['release']})", kernel_table(found["costs"], CASES)]
    return "\n\n".join([*parts, _limits(result)])


def _limits(result: Result) -> str:
    """Why the figures cannot be lower."""
    costs = [found["costs"] for found in result["kernels"].values()]
    shares = [extra(c, "fentry", _CYCLE) / c["nothing"][_CYCLE] for c in costs]
    page = max(extra(c, "fentry", _UNMAP) for c in costs)
    large = max(extra(c, "fentry", _LARGE) for c in costs if _LARGE in c["nothing"])
    millions = _PAGES_OF_A_GIGABYTE / 1e6
    above = [extra(c, "fentry", _UNMAP) - extra(c, "empty fentry", _UNMAP) for c in costs]
    turnovers = [c["nothing"][_READ] / extra(c, "fentry", _UNMAP) for c in costs]
    return _LIMITS.format(
        above=span(above, ".0f"),
        cycle=span(shares, ".1%"),
        gigabyte=f"{page * millions:.0f}",
        core=f"{page * millions / 3000 * 100:.1f}",
        large=f"{large * millions:.1f}",
        read=span([c["nothing"][_READ] for c in costs], ".0f"),
        turnover=span(turnovers, ".1f"),
    )


def span(values: Sequence[float], form: str) -> str:
    """The range from the lowest to the highest."""
    ends = [format(value, form) for value in (min(values), max(values))]
    return " to ".join(dict.fromkeys(ends))


def _judged(goal: str, values: Mapping[str, float], bound: float, form: str, why: str) -> Goal:
    """A goal that must hold on every kernel."""
    reached = ", ".join(f"{form.format(value)} ({kernel})" for kernel, value in values.items())
    return Goal(goal, reached, all(value <= bound for value in values.values()), why)


def goals(result: Result) -> list[Goal]:
    """The goals for the hot path."""
    costs = {kernel: found["costs"] for kernel, found in result["kernels"].items()}

    def share(case: str, operation: str) -> dict[str, float]:
        return {k: extra(c, case, operation) / c["nothing"][operation] for k, c in costs.items()}

    return [
        _judged(
            f"awake by fentry: at most {RATIO:.2f} x an empty fentry program per unmapped page",
            {k: ratio(c, "fentry") for k, c in costs.items()},
            RATIO,
            "{:.2f} x",
            "see *Limits*",
        ),
        _judged(
            f"awake by kprobe: at most {RATIO:.2f} x an empty kprobe program per unmapped page",
            {k: ratio(c, "kprobe") for k, c in costs.items()},
            RATIO,
            "{:.2f} x",
            "before 6.2 the program must call a helper for each page, see *Limits*",
        ),
        _judged(
            "asleep (no KSM page, ksmd idle): not measurable (within 0.2 %) per unmapped page",
            {k: abs(v) for k, v in share("asleep", _UNMAP).items()},
            ASLEEP,
            "{:.2%}",
            "see *Limits*",
        ),
        _judged(
            "touch and unmap: at most 2.5 % more by fentry",
            share("fentry", _CYCLE),
            CYCLE,
            "{:.1%}",
            "see *Limits*",
        ),
        *_goals_beside(result),
    ]


def _goals_beside(result: Result) -> list[Goal]:
    """How much more is executed than by an earlier commit, whose counts the result keeps."""
    if "before" not in result:
        return []
    before = result["before"]

    def worst(operations: Sequence[str]) -> dict[str, float]:
        return {
            kernel: max(
                found["costs"][case][each] / before["kernels"][kernel][case][each] - 1
                for case in ("fentry", "kprobe")
                for each in operations
            )
            for kernel, found in result["kernels"].items()
        }

    where = f"in all, beside {before['commit']} ({before['date']}, same kernels)"
    return [
        _judged(
            f"instructions of munmap, touch, fork and exit {where}: at most 1 % more",
            *(worst((_UNMAP, _CYCLE, "fork and exit", "munmap of a file")), 0.01, "{:+.1%}"),
            "see *Limits*",
        ),
        _judged(
            f"instructions of a merge and of a COW break {where}: at most 5 % more",
            *(worst(("merge by ksmd", "COW of a KSM page")), 0.05, "{:+.1%}"),
            "see *Limits*",
        ),
    ]


def figures(result: Result) -> dict[str, Figure]:
    """Extra instructions per unmapped page, by case and kernel."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 3.6), layout="constrained")
    axes = figure.subplots()
    shown = [case for case in CASES if case != "nothing"]
    for number, (kernel, found) in enumerate(result["kernels"].items()):
        costs = found["costs"]
        places = [place + (1 - number) * 0.27 for place in range(len(shown))]
        values = [extra(costs, case, _UNMAP) if case in costs else 0 for case in shown]
        axes.barh(places, values, 0.25, label=kernel)
    axes.set_yticks(range(len(shown)), [CASES[case].strip("*") for case in shown])
    axes.invert_yaxis()
    axes.set_xlabel("extra instructions per page unmapped")
    axes.legend(title="Linux")
    return {"overhead-hotpath.svg": figure}


def collect(lines: Iterable[str]) -> Result:
    """What the guest of one kernel prints, as it stands in the result."""
    costs: dict[str, dict[str, float]] = {}
    release = ""
    for line in lines:
        kind, _, rest = line.partition(" ")
        if kind == "kernel":
            release = rest.strip()
        elif kind == "sample":
            found = json.loads(rest)
            costs.setdefault(found["case"], {})[found["operation"]] = found["instructions"]
    return {"release": release, "costs": costs}


def _shown(kernel: str, lines: Iterable[str]) -> Iterator[str]:
    for line in lines:
        print(f"{kernel:>5} | {line}", flush=True)
        yield line


def measure(kernel: str, cases: Iterable[str], *, nodes: int = 1, arch: str = "amd64") -> Result:
    """Cases on one kernel, in a guest of its own. `nodes`: of memory."""
    guest = Guest(
        kernel,
        memory="3G",
        icount=True,
        nodes=nodes,
        environment={"PYTHONPATH": str(ROOT)},
        options=("--arch", arch),
    )
    return collect(_shown(kernel, printed(guest, "bench.hotpath_guest", *cases)))


def main(argv: list[str]) -> int:
    """Measure every kernel and keep the result."""
    parser = argparse.ArgumentParser(prog="make bench-hotpath", description=__doc__)
    parser.add_argument("--jobs", type=int, default=2, help="guests at a time")
    arguments = parser.parse_args(argv)
    with ThreadPoolExecutor(arguments.jobs) as pool:
        found = list(pool.map(lambda kernel: measure(kernel, CASES), KERNELS))
    # They depend on the programs and on the kernel only, so they need not be counted again.
    before = {key: value for key, value in (load(NAME) or {}).items() if key == "before"}
    save(NAME, {"kernels": dict(zip(KERNELS, found, strict=True)), **before})
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
