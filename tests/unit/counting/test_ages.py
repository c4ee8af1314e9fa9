"""Ages in classes: the median and what was wasted."""

from __future__ import annotations

import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ksmwatch.counting.ages import BOUNDS, Wear, cumulative, median
from ksmwatch.probes.map_records import AGE_CLASSES


def class_of(age: float) -> int:
    """As the programs do it."""
    return min(int(age).bit_length(), AGE_CLASSES - 1)


def counts(*ages: float) -> list[int]:
    found = [0] * AGE_CLASSES
    for age in ages:
        found[class_of(age)] += 1
    return found


def test_a_class_ends_where_the_next_begins() -> None:
    assert len(BOUNDS) == AGE_CLASSES - 1
    assert BOUNDS[:4] == (1, 2, 4, 8)
    assert BOUNDS[-1] == 65536
    for number, bound in enumerate(BOUNDS):
        assert class_of(bound - 0.001) == number
        assert class_of(bound) == number + 1


@pytest.mark.parametrize(
    ("ages", "expected"),
    [
        ((), None),
        # In the middle of its class.
        ((0.1,), 0.5),
        ((5.0,), 6.0),
        # Two of four are below, and none of this class.
        ((0.1, 0.1, 5.0, 5.0), 1.0),
        ((0.1, 5.0, 5.0), 4.0 + 4 * 0.25),
        # Half are as old as the oldest class, which has no end.
        ((1e7, 1e7, 1.0), BOUNDS[-1]),
    ],
)
def test_the_median(ages: tuple[float, ...], expected: float | None) -> None:
    assert median(counts(*ages)) == expected


@given(st.lists(st.floats(0, 1e7), min_size=1))
def test_the_median_is_in_the_class_of_the_true_one(ages: list[float]) -> None:
    found = median(counts(*ages))
    assert found is not None
    low, high = (class_of(each(ages)) for each in (statistics.median_low, statistics.median_high))
    begin = BOUNDS[low - 1] if low else 0
    assert begin <= found
    assert found <= (BOUNDS[high] if high < len(BOUNDS) else BOUNDS[-1])


@given(st.lists(st.integers(0, 1000), max_size=AGE_CLASSES))
def test_buckets_of_prometheus_include_the_lower_ones(numbers: list[int]) -> None:
    found = cumulative(numbers)
    assert found == sorted(found)
    assert found[-1:] == ([sum(numbers)] if numbers else [])


def test_what_was_wasted_is_unknown_without_a_merge() -> None:
    none = (0,) * AGE_CLASSES
    assert Wear(0, 0, none).wasted_share is None
    assert Wear(40, 10, none).wasted_share == 0.25
    assert Wear.of(()) is None
    assert Wear.of((40, 10, *none)) == Wear(40, 10, none)
