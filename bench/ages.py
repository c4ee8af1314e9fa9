"""`make bench-ages`: what it costs the kernel to keep the age of mappings, in instructions.

In the guests of bench/hotpath.py, with the same operations.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

from bench.hotpath import KERNELS, measure
from bench.results import Goal, Result, load, save, table

NAME = "ages"
# Names on the page by case of bench/hotpath_guest.py.
CASES = {
    "no age": "without (`--ages.one-in=0`)",
    "fentry": "one page in 16 (the default)",
    "every age": "every page",
}
_WITHOUT, _DEFAULT = "no age", "fentry"
_OF_KSM_PAGES = ("merge by ksmd", "COW of a KSM page")
_OF_OTHERS = "munmap"
# Goals, as parts of what the operation costs without ages. Figures repeat within the second one.
BOUND, NOTHING = 0.05, 0.002

_METHOD = """`make bench-ages`, {date}, counted as in *Hot path*. ksmwatch is awake by fentry. The
programs look at a page's age only once they know that it is a KSM page, so nothing changes for
other pages. For KSM pages that are not in the sample, they only compute a hash of the address.
With kprobes and with PREEMPT_RT, no ages are kept."""


def _share(costs: Mapping[str, Mapping[str, float]], case: str, operation: str) -> float:
    """How much more than without ages, as a part of that."""
    without = costs[_WITHOUT][operation]
    return (costs[case][operation] - without) / without


def _cell(costs: Mapping[str, Mapping[str, float]], case: str, operation: str) -> str:
    if case == _WITHOUT:
        return f"{costs[case][operation]:,.0f}"
    more = costs[case][operation] - costs[_WITHOUT][operation]
    # Without the sign of a zero that was a little less.
    share = round(100 * _share(costs, case, operation), 1) + 0.0
    return f"{round(more):+,} ({share:+.1f} %)"


def section(result: Result) -> str:
    """Method and table."""
    rows = [
        (kernel, operation, *(_cell(found["costs"], case, operation) for case in CASES))
        for kernel, found in result["kernels"].items()
        for operation in (*_OF_KSM_PAGES, _OF_OTHERS)
    ]
    head = ("Linux", "instructions per page", *CASES.values())
    return "\n\n".join(["## Ages", _METHOD.format(**result), table(head, rows)])


def goals(result: Result) -> list[Goal]:
    """Each goal must hold on every kernel."""
    costs = {kernel: found["costs"] for kernel, found in result["kernels"].items()}
    more = {
        kernel: max(_share(each, _DEFAULT, operation) for operation in _OF_KSM_PAGES)
        for kernel, each in costs.items()
    }
    others = {kernel: abs(_share(each, _DEFAULT, _OF_OTHERS)) for kernel, each in costs.items()}
    return [
        _judged("ages: at most 5 % more for a merge or a COW break", more, BOUND),
        _judged("ages: nothing more for other pages (within 0.2 %)", others, NOTHING),
    ]


def _judged(goal: str, shares: Mapping[str, float], bound: float) -> Goal:
    reached = ", ".join(f"{share:.1%} ({kernel})" for kernel, share in shares.items())
    return Goal(goal, reached, all(share <= bound for share in shares.values()))


def main(kernels: list[str]) -> int:
    """Measure kernels, all without any, and keep the result beside that of others."""
    before = {} if not kernels else (load(NAME) or {"kernels": {}})["kernels"]
    kernels = kernels or list(KERNELS)
    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(lambda kernel: measure(kernel, CASES), kernels))
    measured = {**before, **dict(zip(kernels, found, strict=True))}
    save(NAME, {"kernels": {each: measured[each] for each in KERNELS if each in measured}})
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
