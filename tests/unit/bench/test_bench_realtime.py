"""The benchmark of PREEMPT_RT: what a guest prints becomes a table and goals."""

from __future__ import annotations

import json
from typing import Any

import pytest

from bench import realtime

COSTS = dict.fromkeys(realtime._OPERATIONS, 1000.0)


def lines(exact: int, cpu: float) -> list[str]:
    """What a guest prints."""
    pressure = {"snapshots": 30, "exact": exact, "missed": 1, "cpu": cpu}
    samples = [
        {"case": case, "operation": operation, "instructions": cost + more}
        for case, more in (("nothing", 0.0), ("kprobe", 300.0))
        for operation, cost in COSTS.items()
    ]
    return [
        "kernel 6.12.0-rt",
        *(f"sample {json.dumps(each)}" for each in samples),
        f"pressure {json.dumps(pressure)}",
    ]


def result(monkeypatch: pytest.MonkeyPatch, exact: int, cpu: float) -> dict[str, Any]:
    monkeypatch.setattr(realtime, "printed", lambda guest, name: lines(exact, cpu))
    return {"date": "2026-11-28", "kernels": {"6.12-rt": realtime.measure("6.12-rt")}}


def test_a_guest_becomes_a_section(monkeypatch: pytest.MonkeyPatch) -> None:
    text = realtime.section(result(monkeypatch, 29, 0.012))
    assert "| munmap | 1,000 | +300 (+30.0%) |" in text
    assert "29 of 30" in text
    assert "1.2%" in text


@pytest.mark.parametrize(
    ("exact", "cpu", "met"), [(29, 0.012, [True, True]), (28, 0.031, [False, False])]
)
def test_goals(monkeypatch: pytest.MonkeyPatch, exact: int, cpu: float, met: list[bool]) -> None:
    assert [goal.met for goal in realtime.goals(result(monkeypatch, exact, cpu))] == met
