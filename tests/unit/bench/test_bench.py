"""The page about overhead is what the committed measurements say."""

from __future__ import annotations

from typing import Any

from bench import hotpath, peers, report, stores
from bench.results import ROOT, Goal, table


def test_the_page_is_made_from_the_committed_results() -> None:
    written = report.PAGE.read_text(encoding="utf-8")
    assert written == report.document(report.measured()), "run `make bench-report`"


def test_the_tables_of_the_readme_are_those_of_the_page() -> None:
    text, found = (ROOT / "README.md").read_text(encoding="utf-8"), report.measured()
    assert hotpath.unmap_table(found["hotpath"]) in text
    assert peers.peers_table(found["peers"]) in text


def test_the_table_of_the_fleet_is_that_of_the_page() -> None:
    text = (ROOT / "docs/fleet.md").read_text(encoding="utf-8")
    assert stores.large_table(report.measured()["stores"]) in text


def test_a_benchmark_without_a_result_has_no_section() -> None:
    assert "Hot path" not in report.document({})


def test_every_benchmark_has_a_target_of_its_name() -> None:
    lines = (ROOT / "Makefile").read_text().splitlines()
    (names,) = [line.split()[2:] for line in lines if line.startswith("BENCHES :=")]
    assert names == [benchmark.NAME for benchmark in report.BENCHMARKS]
    targets = {line.partition(":")[0] for line in lines}
    assert {f"bench-{name}" for name in names} <= targets


def test_numbers_stand_to_the_right() -> None:
    assert table(("a", "b"), [("x", "+1.5 %")]) == "| a | b |\n| --- | ---: |\n| x | +1.5 % |"


def test_a_goal_that_was_missed_says_why() -> None:
    text = report.goals_table([Goal("small", "7 MB", met=False, why="too large"), GOOD])
    assert "| small | 7 MB | **missed**: too large |" in text
    assert "| quick | 1 s | met |" in text


GOOD = Goal("quick", "1 s", met=True)


def costs(fentry: float) -> dict[str, dict[str, float]]:
    """Made-up instructions, per operation."""
    extras = {"asleep": 0.0, "fentry": fentry, "empty fentry": 100, "kprobe": 300}
    extras["empty kprobe"] = 300
    return {
        case: {
            "munmap": 1000 + more,
            "touch and munmap": 8000 + more,
            "munmap of 64 KiB folios": 100 + more / 16,
            "read of smaps_rollup": 80.0,
        }
        for case, more in {"nothing": 0.0, **extras}.items()
    }


def made_up(fentry: float) -> dict[str, Any]:
    """A result in which 6.12 alone may be slow."""
    found = {"6.1": 100.0, "6.12": fentry, "7.3": 100.0}
    kernels = {k: {"release": f"{k}.0", "costs": costs(extra)} for k, extra in found.items()}
    return {"date": "2026-01-01", "kernels": kernels}


def test_the_goals_are_judged_by_the_worst_kernel() -> None:
    assert [goal.met for goal in hotpath.goals(made_up(120.0))] == [True] * 4
    judged = hotpath.goals(made_up(121.0))
    assert [goal.met for goal in judged] == [False, True, True, True]
    assert judged[0].reached == "1.00 x (6.1), 1.21 x (6.12), 1.00 x (7.3)"


def test_the_hooks_are_compared_with_an_earlier_commit() -> None:
    operations = ("fork and exit", "munmap of a file", "merge by ksmd", "COW of a KSM page")
    result = made_up(120.0)
    for found in result["kernels"].values():
        for case in ("fentry", "kprobe"):
            found["costs"][case] |= dict.fromkeys(operations, 1000.0)
    before = {
        kernel: {case: dict(found["costs"][case]) for case in ("fentry", "kprobe")}
        for kernel, found in result["kernels"].items()
    }
    result["before"] = {"commit": "abc1234", "date": "2026-01-01", "kernels": before}
    assert [goal.met for goal in hotpath.goals(result)[4:]] == [True, True]
    before["6.1"]["kprobe"]["munmap of a file"] = 980.0
    before["7.3"]["fentry"]["merge by ksmd"] = 940.0
    judged = hotpath.goals(result)[4:]
    assert [goal.met for goal in judged] == [False, False]
    assert judged[0].reached == "+2.0% (6.1), +0.0% (6.12), +0.0% (7.3)"


def test_what_was_not_measured_has_no_figure() -> None:
    text = hotpath.unmap_table(made_up(120.0))
    assert "| bpftrace, kprobe | - | - | - |" in text
    assert "| **ksmwatch awake** | +100 (+10.0 %) | +120 (+12.0 %) | +100 (+10.0 %) |" in text
