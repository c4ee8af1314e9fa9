"""`make bench-report`: docs/overhead.md and its plots, from bench/results.

The page is a pure function of the committed results, and a unit test compares the two.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import ModuleType

from bench import (
    ages,
    arm64,
    crowds,
    daemon,
    estimate,
    freshness,
    history,
    hotpath,
    nodes,
    peers,
    realtime,
    results,
    scale,
    stores,
    two_guests,
)
from bench.results import Goal, Result, table

# In the order of the page. A benchmark without a result has no section.
BENCHMARKS: tuple[ModuleType, ...] = (
    hotpath,
    arm64,
    ages,
    nodes,
    realtime,
    freshness,
    daemon,
    crowds,
    peers,
    scale,
    estimate,
    two_guests,
    history,
    stores,
)
PAGE = results.ROOT / "docs/overhead.md"


def measured() -> dict[str, Result]:
    """The last result of each measured benchmark."""
    found = {benchmark.NAME: results.load(benchmark.NAME) for benchmark in BENCHMARKS}
    return {name: result for name, result in found.items() if result is not None}


def goals_table(goals: Sequence[Goal]) -> str:
    """Each goal as met, or missed with the reason."""
    rows = [
        (goal.goal, goal.reached, "met" if goal.met else f"**missed**: {goal.why}")
        for goal in goals
    ]
    return table(("goal", "reached", ""), rows)


def document(found: Mapping[str, Result]) -> str:
    """The whole page."""
    present = [each for each in BENCHMARKS if each.NAME in found]
    goals = [goal for each in present for goal in each.goals(found[each.NAME])]
    sections = [each.section(found[each.NAME]).strip() for each in present]
    head = (
        "`make bench` generates this page from `bench/results/`; do not edit it. Each section "
        "names its command, date, kernels and method."
    )
    missing = ", ".join(f"`make bench-{e.NAME}`" for e in BENCHMARKS if e.NAME not in found)
    missing = f"Not measured yet: {missing}." if missing else ""
    parts = ["# Overhead", head, "## Goals", goals_table(goals), missing, *sections]
    parts = [part for part in parts if part]
    return "\n\n".join(parts) + "\n"


def main() -> None:
    """Write the page and its plots."""
    import matplotlib as mpl

    # The same plot gives the same file.
    mpl.rcParams["svg.hashsalt"] = "ksmwatch"
    found = measured()
    PAGE.write_text(document(found), encoding="utf-8")
    for benchmark in BENCHMARKS:
        if benchmark.NAME in found and hasattr(benchmark, "figures"):
            for name, figure in benchmark.figures(found[benchmark.NAME]).items():
                figure.savefig(PAGE.parent / name, metadata={"Date": None})


if __name__ == "__main__":
    main()
