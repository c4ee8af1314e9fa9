"""The benchmark of PREEMPT_RT: what a guest prints becomes a table and goals."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest

from bench import realtime

COSTS = dict.fromkeys(realtime._OPERATIONS, 1000.0)


def lines(exact: int, cpu: float, cases: Sequence[tuple[str, float]]) -> list[str]:
    """What a guest prints."""
    pressure = {"snapshots": 30, "exact": exact, "missed": 1, "cpu": cpu}
    samples = [
        {"case": case, "operation": operation, "instructions": cost + more}
        for case, more in cases
        for operation, cost in COSTS.items()
    ]
    return [
        "kernel 6.12.0-rt",
        *(f"sample {json.dumps(each)}" for each in samples),
        f"pressure {json.dumps(pressure)}",
    ]


def result(
    monkeypatch: pytest.MonkeyPatch,
    exact: int,
    cpu: float,
    cases: Sequence[tuple[str, float]] = (("nothing", 0.0), ("kprobe", 300.0)),
) -> dict[str, Any]:
    monkeypatch.setattr(realtime, "printed", lambda guest, name: lines(exact, cpu, cases))
    return {"date": "2026-11-28", "kernels": {"6.12-rt": realtime.measure("6.12-rt")}}


def test_a_guest_becomes_a_section(monkeypatch: pytest.MonkeyPatch) -> None:
    text = realtime.section(result(monkeypatch, 29, 0.012))
    assert "| munmap | 1,000 | +300 (+30.0%) |" in text
    assert "29 of 30" in text
    assert "1.2%" in text


def test_what_was_not_measured_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    text = realtime.section(result(monkeypatch, 29, 0.012, cases=()))
    assert "29 of 30" in text
    assert "has not been measured yet" in text
    assert "munmap |" not in text


def test_a_kernel_that_is_not_measured_keeps_its_result(monkeypatch: pytest.MonkeyPatch) -> None:
    saved: list[dict[str, Any]] = []
    monkeypatch.setattr(realtime, "load", lambda name: {"kernels": {"6.12-rt": 1, "7.3-rt": 2}})
    monkeypatch.setattr(realtime, "save", lambda name, result: saved.append(result))
    monkeypatch.setattr(realtime, "measure", lambda kernel, *options: [kernel, *options])
    assert realtime.main(["--pressure", "7.3-rt"]) == 0
    assert saved == [{"kernels": {"6.12-rt": 1, "7.3-rt": ["7.3-rt", "--pressure"]}}]


@pytest.mark.parametrize(
    ("exact", "cpu", "met"), [(29, 0.012, [True, True]), (28, 0.031, [False, False])]
)
def test_goals(monkeypatch: pytest.MonkeyPatch, exact: int, cpu: float, met: list[bool]) -> None:
    assert [goal.met for goal in realtime.goals(result(monkeypatch, exact, cpu))] == met
