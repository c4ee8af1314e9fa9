"""What the page says of the cost of ages."""

from __future__ import annotations

from bench import ages


def made_up(merge: float, munmap: float = 1200.0) -> dict[str, object]:
    """A result of two kernels, one of which is as told."""

    def costs(merge: float, munmap: float) -> dict[str, dict[str, float]]:
        base = {"merge by ksmd": 20_000.0, "COW of a KSM page": 10_000.0, "munmap": 1200.0}
        told = {**base, "merge by ksmd": merge, "munmap": munmap}
        return {"no age": base, "fentry": told, "every age": told}

    found = {"6.1": (20_100.0, 1200.0), "6.12": (merge, munmap)}
    kernels = {k: {"release": f"{k}.0", "costs": costs(*each)} for k, each in found.items()}
    return {"date": "2026-01-01", "kernels": kernels}


def test_the_goals_are_judged_by_the_worst_kernel() -> None:
    assert [goal.met for goal in ages.goals(made_up(21_000.0))] == [True, True]
    assert [goal.met for goal in ages.goals(made_up(21_001.0))] == [False, True]
    assert [goal.met for goal in ages.goals(made_up(20_000.0, 1203.0))] == [True, False]
    assert ages.goals(made_up(20_200.0))[0].reached == "0.5% (6.1), 1.0% (6.12)"


def test_the_table_compares_with_no_ages() -> None:
    text = ages.section(made_up(20_200.0))
    assert "| 6.12 | merge by ksmd | 20,000 | +200 (+1.0 %) | +200 (+1.0 %) |" in text
    assert "| 6.12 | munmap | 1,200 | +0 (+0.0 %) | +0 (+0.0 %) |" in text
