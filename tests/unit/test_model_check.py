"""A search of the model counts only if it was complete."""

import pytest

from tests.model.check import VARIANTS, Variant, judge

HOLDS = Variant("holds", "", holds=True)
FAULT = Variant("fault", "")

COMPLETE = """
Full statespace search for:
State-vector 180 byte, depth reached 126, errors: 0
   240389 states, stored
"""
VIOLATED = """
Warning: Search not completed
Full statespace search for:
pan:1: assertion violated 0 (at depth 74)
State-vector 180 byte, depth reached 126, errors: 1
   240389 states, stored
"""


def test_verdicts() -> None:
    assert judge(HOLDS, COMPLETE, trail=False) is None
    assert judge(HOLDS, VIOLATED, trail=True) is not None
    assert judge(FAULT, VIOLATED, trail=True) is None
    assert judge(FAULT, VIOLATED, trail=False) is not None
    assert judge(FAULT, COMPLETE, trail=False) is not None


@pytest.mark.parametrize(
    "cut",
    [
        "error: max search depth too small",
        "pan: out of memory",
        "pan: reached -DMEMLIM bound",
        "pan: aborted",
    ],
)
def test_a_truncated_search_is_none(cut: str) -> None:
    assert judge(HOLDS, cut + COMPLETE, trail=False) is not None
    assert judge(FAULT, cut + VIOLATED, trail=True) is not None


def test_another_error_is_no_refutation() -> None:
    assert judge(FAULT, VIOLATED.replace("assertion violated", "invalid end state"), trail=True)


def test_a_search_that_stopped_for_no_reason_is_none() -> None:
    assert judge(HOLDS, "Warning: Search not completed" + COMPLETE, trail=False) is not None


def test_nothing_said() -> None:
    assert judge(HOLDS, "", trail=False) is not None


def test_names_are_unique() -> None:
    assert len({variant.name for variant in VARIANTS}) == len(VARIANTS)
