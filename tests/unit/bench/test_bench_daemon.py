"""What the page says about benchmarks of the daemon, from invented results."""

from __future__ import annotations

from typing import Any

import pytest

from bench import crowds, daemon, freshness, peers, report, scale
from bench.guests import at_rest, milliseconds

# A guest's billion instructions are a quarter of a second.
RULER: dict[str, Any] = {
    "date": "2026-01-01",
    "kernel": "6.12",
    "python": "3.11.2",
    "ruler": {"guest": 0.2, "host": 0.05},
}


POLLED = "1000:1000:10000:fork"


def crowd(**numbers: float) -> dict[str, Any]:
    return {
        "snapshot": 0.4,
        "scrape": 0.2,
        "scrape some": 0.3,
        "scrape all": 0.8,
        "scrape_bytes": 5000,
        "minute": 0.98,
        "pss": 30 << 20,
        "map_bytes": 2 << 20,
        "smaps": 80.0,
        "audited": True,
        **numbers,
    }


def of_daemon(rest: float = 0.003, factor: float = 3.0) -> dict[str, Any]:
    """A result in which the baseline takes so many times more of everything."""
    ours = {
        "start kept": {"wall": 3.0, "ready": 1.6, "cpu": 2.0, "memory": 30e6},
        "start adopted": {"wall": 1.0, "ready": 0.6, "cpu": 0.8, "memory": 30e6},
        "start compiled": {"wall": 5.0, "ready": 4.0, "cpu": 4.0, "memory": 30e6},
        "command snapshot": {"cpu": 0.08},
        "command --help": {"cpu": 0.04},
        "asleep": {"rest": 0.001, "wakeups": 20.0},
    }
    theirs = {
        f"baseline {case}": {name: factor * amount for name, amount in found.items()}
        for case, found in ours.items()
    }
    cpu = factor * 2.0
    theirs["baseline start compiled"] = {"wall": 7.0, "ready": cpu, "cpu": cpu, "memory": 60e6}
    cases = {
        **ours,
        **theirs,
        "programs kept": {"cpu": 0.1},
        "programs compiled": {"cpu": 0.5 * factor},
        "churn": {"rest": 0.009, "forks": 1000.0},
        "churn with KSM pages": {"rest": 0.011, "forks": 999.7},
        "1000:1000:20:fork:rest": {"rest": rest},
    }
    del cases["baseline start kept"]
    return {**RULER, "cases": cases}


def of_crowds(some: float = 110.0) -> dict[str, Any]:
    largest = {
        "document still": 100.0,
        "document some": some,
        "document all": 300.0,
        "scrape still": 50.0,
        "scrape some": 60.0,
        "scrape all": 170.0,
        "document bytes": 7_000_000,
        "scrape bytes": 15_000,
        "tick": 0.1,
        "pss": 80 << 20,
    }
    return {**RULER, "crowds": {"10000:50": largest}}


def met(found: list[Any]) -> list[bool]:
    return [goal.met for goal in found]


def test_instructions_become_time_by_the_ruler() -> None:
    assert milliseconds(RULER, 1.0) == 250.0
    assert at_rest(RULER, 0.004) == 0.001
    # The auditor's tenth of a percent is the same on any core.
    assert at_rest(RULER, 0.003, audits=True) == pytest.approx(0.0015)
    assert at_rest(RULER, 0.0005, audits=True) == 0.001


def test_goals_of_the_daemon() -> None:
    # Memory, programs, two kinds of a start, two commands, wake-ups, and at rest.
    assert met(daemon.goals(of_daemon())) == [True] * 4 + [True, True, False, True]
    assert met(daemon.goals(of_daemon(factor=2.9)))[1:6] == [False, True, True, False, False]
    assert met(daemon.goals(of_daemon(factor=10.0)))[6]
    assert not met(daemon.goals(of_daemon(rest=0.013)))[7]
    assert daemon.goals(of_daemon())[2].reached == "3 x (500 ms instead of 1500)"


def test_the_tables_of_the_daemon_have_the_baseline_in_brackets() -> None:
    text = daemon.section(of_daemon())
    # Half a second of instructions, of which 0.4 until it is ready, and 1.4 of waiting.
    assert "| programs kept | 0.50 s | 1.80 s | 30.0 MB |" in text
    assert "| adopted | 0.20 s (0.60 s) | 0.55 s (1.65 s) | 30.0 MB (90.0 MB) |" in text
    assert "| churn | 1,000 | 0.300% | 180 ms | - |" in text
    assert "| no KSM page on the host | 0 | 0.025% | 15 ms (90 ms) | 20 (60) |" in text


def test_goals_of_crowds_are_judged_when_something_has_moved() -> None:
    assert met(crowds.goals(of_crowds())) == [True, True]
    assert met(crowds.goals(of_crowds(some=150.0))) == [False, True]


def test_crowds_are_compared_with_what_was_before() -> None:
    found = of_crowds()
    before = {name: 3 * amount for name, amount in found["crowds"]["10000:50"].items()}
    text = crowds.section({**found, "before": {"10000:50": before}, "before_commit": "abc1234"})
    assert "with abc1234, alternating" in text
    cells = ("300.0, 330.0, 900.0", "3.0, 3.0, 3.0", "150.0, 180.0, 510.0", "3.0, 3.0, 3.0")
    assert "| ".join(["| 10,000 ", "50 ", *(f"{cell} " for cell in cells), ""]).rstrip() in text
    assert crowds.best([{"a": 2.0, "n": 1}, {"a": 1.5, "n": 2}]) == {"a": 1.5, "n": 1}


def test_what_was_not_measured_is_said() -> None:
    assert "Not measured yet: `make bench-hotpath`" in report.document({})
    assert [g.reached for g in crowds.goals({**RULER, "crowds": {}})] == ["not measured"] * 2
    text = crowds.section(of_crowds())
    assert "| 100 | 1 | not measured |" in text
    assert "| 10,000 | 50 | 100.0, 110.0, 300.0 | 50.0, 60.0, 170.0 | 7,000,000 |" in text
    missing = {**RULER, "cases": {}}
    assert scale.section(missing).count("| not measured |") == 23


def test_polling_is_compared_at_fifteen_seconds() -> None:
    result = {**RULER, "cases": {POLLED: crowd()}}
    # A quarter of a minute.
    assert scale.daemon_interval(result, POLLED) == pytest.approx(61.25)
    (goal,) = scale.goals(result)
    assert (goal.reached, goal.met) == ("327 x", True)
    text = scale.section(result)
    assert "| 1,000 | 10,000,000 | 100.0 | 50.0 | 61.2 | 20000.0 | 326.5 x |" in text
    # What was not audited when it was measured has the audit's allowance, too.
    result["cases"][POLLED]["audited"] = False
    assert scale.daemon_interval(result, POLLED) == pytest.approx(72.5)


def test_a_scrape_is_compared_with_what_it_was() -> None:
    ours, theirs = crowd(), {"scrape": 6.0, "scrape some": 3.6, "scrape all": 1.9}
    large, before = crowd(scrape=0.3), {**theirs, "scrape": 60.0}
    names = ("1000:1000:20:fork:owners=50", "10000:10000:20:fork:owners=50")
    cases = {POLLED: crowd(), names[0]: ours, names[1]: large}
    cases |= {f"baseline {names[0]}": theirs, f"baseline {names[1]}": before}
    result = {**RULER, "cases": cases}
    goals = scale.goals(result)[1:]
    assert met(goals) == [True, True, False, True]
    assert [goal.reached for goal in goals] == [
        "30 x (50.0 ms instead of 1500.0)",
        "12 x (75.0 ms instead of 900.0)",
        "2.38 x (200.0 ms instead of 475.0)",
        "1.5 x (8c729c5: 10 x)",
    ]
    cells = ("1,000", "50", "5,000", "50.0, 75.0, 200.0", "1500.0, 900.0, 475.0", "30.0, 12.0, 2.4")
    text = scale.section(result)
    assert f"| {' | '.join(cells)} |" in text
    assert "| 1,000 | 500 | not measured |" in text


def tool(name: str, **numbers: Any) -> dict[str, Any]:
    return {"tool": name, "cost": 0.04, "minute": 0.28, "memory": 20 << 20, **numbers}


def test_peers_stand_side_by_side() -> None:
    right = [{"truth": 1000, "found": 1000}, {"truth": 900, "found": 900}]
    late = [{"truth": 1000, "found": 1000}, {"truth": 900, "found": 1000}]
    none = [{"truth": 1000, "found": None}]
    cases = {
        "ksmwatch": tool("ksmwatch", numbers=right),
        "baseline": tool("baseline", numbers=right),
        "node_exporter": tool("node_exporter", numbers=late, minute=0.16),
        "process-exporter": tool("process-exporter", numbers=none),
        "smaps_rollup": tool("smaps_rollup", numbers=right, minute=0.8),
    }
    result = {**RULER, "cases": cases}
    table = peers.peers_table(result)
    rows = {line.split(" | ")[0]: line for line in table.splitlines()}
    assert "| 0, 0 | at once" in rows["| **ksmwatch**"]
    assert rows["| **ksmwatch**"].endswith("| 10.0 | 70 | 20 |")
    assert "| 0, +100 |" in rows["| node_exporter"]
    assert rows["| node_exporter"].endswith("| 10.0 | 40 | 20 |")
    assert "has no number" in rows["| process-exporter"]
    assert "| baseline" not in rows
    goals = peers.goals(result)
    # The baseline's audit uses its allowance, 0.1 %, and 0.025 % are the rest.
    reached = [goal.reached for goal in goals]
    assert reached == ["0.35 x (8c729c5: 0.57 x)", "1.75 x (8c729c5: 2.88 x)"]
    assert met(goals) == [True, True]
    cases["ksmwatch"]["minute"] = 0.5
    assert met(peers.goals(result)) == [False, True]


def test_freshness_says_what_was_not_right_in_time() -> None:
    def sample(source: str, *, scanning: bool, **numbers: float) -> dict[str, Any]:
        return {"change": "write", "source": source, "scanning": scanning, **numbers}

    samples = [
        sample("snapshot", scanning=True, median=0.1, worst=0.2, asked=1),
        sample("snapshot", scanning=False, median=0.1, worst=0.2, asked=1),
        sample("pages_sharing", scanning=True, median=4.0, worst=9.0, asked=400),
        sample("pages_sharing", scanning=False, patience=60),
    ]
    result = {**RULER, "samples": samples}
    assert "| pages_sharing | 4.00 s, at worst 9.00 s | not within 60 s |" in freshness.section(
        result
    )
    assert met(freshness.goals(result)) == [True]
    samples[0]["asked"] = 2
    assert met(freshness.goals(result)) == [False]
