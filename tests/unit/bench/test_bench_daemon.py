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


def crowd(**numbers: float) -> dict[str, Any]:
    return {
        "snapshot": 0.4,
        "snapshot_moving": 0.44,
        "scrape": 0.2,
        "scrape_bytes": 5000,
        "snapshot_bytes": 7_000_000,
        "rest": 0.003,
        "pss": 30 << 20,
        "kernel_age": 1.0,
        "map_bytes": 2 << 20,
        "smaps": 8.0,
        **numbers,
    }


def of_daemon(rest: float = 0.003) -> dict[str, Any]:
    start = {"wall": 3.0, "cpu": 2.0, "pss": 30 << 20}
    cases = {
        "start cold": start,
        "start adopted": {**start, "wall": 1.0, "cpu": 0.9},
        "no KSM pages": {"rest": 0.001},
        "churn": {"rest": 0.009, "forks": 1000.0},
        "churn with KSM pages": {"rest": 0.011, "forks": 999.7},
        "1000:1000:4": {"rest": rest},
    }
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
    # The auditor's tenth of a percent is the same on any core.
    assert at_rest(RULER, 0.003) == pytest.approx(0.0015)
    assert at_rest(RULER, 0.0005) == 0.001
    assert at_rest(RULER, 0.004, audits=False) == 0.001


def test_goals_of_the_daemon() -> None:
    assert met(daemon.goals(of_daemon())) == [True, True, False, True]
    # Half a second of instructions and one of waiting; the adopted one 0.225 and 0.1.
    assert [g.reached for g in daemon.goals(of_daemon())][1:3] == ["1.50 s", "0.32 s"]
    assert met(daemon.goals(of_daemon(rest=0.013)))[3:] == [False]
    assert "| churn | 1,000 | 0.300% |" in daemon.section(of_daemon())


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
    assert scale.section(missing).count("| not measured |") == 20


def test_polling_is_compared_at_fifteen_seconds() -> None:
    result = {**RULER, "cases": {"1000:1000:10000:fork": crowd()}}
    # A scrape of 50 ms, and 15 s of 0.15 %.
    assert scale.daemon_interval(result, "1000:1000:10000:fork") == pytest.approx(72.5)
    (goal,) = scale.goals(result)
    assert (goal.reached, goal.met) == ("28 x", False)
    assert "| 1,000 | 10,000,000 | 100.0 | 50.0 | 72.5 | 2000.0 | 27.6 x |" in scale.section(result)


def tool(name: str, **numbers: Any) -> dict[str, Any]:
    return {"tool": name, "cost": 0.04, "rest": 0.002, "memory": 20 << 20, **numbers}


def test_peers_stand_side_by_side() -> None:
    right = [{"truth": 1000, "found": 1000}, {"truth": 900, "found": 900}]
    late = [{"truth": 1000, "found": 1000}, {"truth": 900, "found": 1000}]
    none = [{"truth": 1000, "found": None}]
    cases = {
        "ksmwatch": tool("ksmwatch", numbers=right),
        "node_exporter": tool("node_exporter", numbers=late),
        "process-exporter": tool("process-exporter", numbers=none),
        "pagemap scan": tool("pagemap scan", numbers=late) | {"memory": None},
    }
    table = peers.peers_table({**RULER, "cases": cases})
    rows = {line.split(" | ")[0]: line for line in table.splitlines()}
    assert "| 0, 0 | at once" in rows["| **ksmwatch**"]
    # Four answers of 10 ms, and a minute of 0.125 %; without an audit of 0.05 %.
    assert rows["| **ksmwatch**"].endswith("| 10.0 | 115 | 20 |")
    assert "| 0, +100 |" in rows["| node_exporter"]
    assert rows["| node_exporter"].endswith("| 10.0 | 70 | 20 |")
    assert "has no number" in rows["| process-exporter"]
    assert rows["| pagemap scan"].endswith("| 10.0 | 70 | - |")


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
