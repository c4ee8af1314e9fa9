"""`make bench-hotpath`: what the hooks cost the kernel, in instructions.

Boots each test kernel with a clock that counts instructions, so that the figures are the same
every time and on every machine.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from bench.results import ROOT, Goal, Result, save, table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NAME = "hotpath"
KERNELS = ("6.1", "6.12", "7.3")
# Key of a result -> as the page says it, in the order of the page.
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
# At most this much dearer than an empty program, per page unmapped; than nothing, asleep; and
# than nothing, for a page that is touched and unmapped.
RATIO = 1.20
ASLEEP = 0.002
CYCLE = 0.025

_METHOD = """Counted, not timed: QEMU runs the guest by `-icount shift=0` on one CPU, where the
time-stamp counter is the number of instructions executed, kernel and user. Each figure is the
median over several repetitions of an operation on 20,011 small pages (5,003 for KSM pages), divided
by the pages; exec is per exec of a small static program, and fork and exit copies and frees the
pages of one process. An instruction is not a nanosecond: helpers that miss the cache cost more than
their share, and the three serialising parts of a kprobe too.

ksmwatch is stopped by SIGSTOP meanwhile, as its hooks need nobody: this is their cost alone, and
what the daemon itself uses is measured elsewhere. Awake, two merged pages of another process
exist. The limits are programs of two instructions, `return 0`, on the same two functions (adding
and removing a PTE of the reverse map): no accounting by fentry, or by kprobe, can cost less.
bpftrace counts by process (`@[pid] = count()`), on the removing function only, every page whether
KSM or not, which is what its user gets to know. The figures were the same within 0.1 % when
repeated."""


def extra(costs: Mapping[str, Mapping[str, float]], case: str, operation: str) -> float:
    """Instructions over nothing attached."""
    return costs[case][operation] - costs["nothing"][operation]


def ratio(costs: Mapping[str, Mapping[str, float]], case: str) -> float:
    """How often the cost of an empty program of that kind, per unmapped page."""
    return extra(costs, case, _UNMAP) / extra(costs, f"empty {case}", _UNMAP)


def _cell(costs: Mapping[str, Mapping[str, float]], case: str, operation: str) -> str:
    if operation not in costs.get(case, {}):
        return "-"
    if case == "nothing":
        return f"{costs[case][operation]:,.0f}"
    more = extra(costs, case, operation)
    return f"{more:+,.0f} ({100 * more / costs['nothing'][operation]:+.1f} %)"


def unmap_table(result: Result) -> str:
    """Instructions per unmapped page: the table that the README has too."""
    rows = [
        (words, *(_cell(found["costs"], case, _UNMAP) for found in result["kernels"].values()))
        for case, words in CASES.items()
    ]
    return table(("instructions per page unmapped", *result["kernels"]), rows)


def _kernel_table(costs: Mapping[str, Mapping[str, float]]) -> str:
    rows = [
        (operation, *(_cell(costs, case, operation) for case in CASES))
        for operation in costs["nothing"]
    ]
    return table(("per page", *CASES.values()), rows)


def section(result: Result) -> str:
    """Method and tables."""
    parts = [
        "## Hot path",
        f"`make bench-hotpath`, {result['date']}. " + _METHOD,
        unmap_table(result),
        "![Extra instructions per unmapped page](overhead-hotpath.svg)",
    ]
    for kernel, found in result["kernels"].items():
        parts += [f"### Linux {kernel} ({found['release']})", _kernel_table(found["costs"])]
    return "\n\n".join(parts)


def _judged(goal: str, values: Mapping[str, float], bound: float, form: str, why: str) -> Goal:
    """A goal that must hold on every kernel."""
    reached = ", ".join(f"{form.format(value)} ({kernel})" for kernel, value in values.items())
    return Goal(goal, reached, all(value <= bound for value in values.values()), why)


def goals(result: Result) -> list[Goal]:
    """Those about the hot path."""
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
            "see *Limits*",
        ),
        _judged(
            "asleep: not measurable (within 0.2 %)",
            {k: abs(v) for k, v in share("asleep", _UNMAP).items()},
            ASLEEP,
            "{:.2%}",
            "",
        ),
        _judged(
            "touch and unmap: at most 2.5 % more by fentry",
            share("fentry", _CYCLE),
            CYCLE,
            "{:.1%}",
            "",
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


def measure(kernel: str, cases: list[str]) -> Result:
    """What the guest of one kernel prints."""
    command = [
        *(str(ROOT / "tests/vm/run"), "--kernel", kernel, "--icount", "--memory", "3G", "--"),
        *(sys.executable, "-m", "bench.hotpath_guest", *cases),
    ]
    costs: dict[str, dict[str, float]] = {}
    release = ""
    with subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True
    ) as guest:
        assert guest.stdout is not None
        for line in guest.stdout:
            print(f"{kernel:>5} | {line}", end="", flush=True)
            kind, _, rest = line.partition(" ")
            if kind == "kernel":
                release = rest.strip()
            elif kind == "sample":
                found = json.loads(rest)
                costs.setdefault(found["case"], {})[found["operation"]] = found["instructions"]
    if guest.returncode:
        raise SystemExit(f"the {kernel} guest ended with {guest.returncode}")
    return {"release": release, "costs": costs}


def main(argv: list[str]) -> int:
    """Measure every kernel and keep the result."""
    parser = argparse.ArgumentParser(prog="make bench-hotpath", description=__doc__)
    parser.add_argument("--jobs", type=int, default=2, help="guests at a time")
    arguments = parser.parse_args(argv)
    with ThreadPoolExecutor(arguments.jobs) as pool:
        found = list(pool.map(lambda kernel: measure(kernel, list(CASES)), KERNELS))
    save(NAME, {"kernels": dict(zip(KERNELS, found, strict=True))})
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
