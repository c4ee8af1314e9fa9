"""Copies on write as the kernel counts them, and as we do."""

from __future__ import annotations

import pytest

from ksmwatch.counting.cow_breaks import Events, events

VMSTAT = {"cow_ksm": 17, "ksm_swpin_copy": 2}
TOTALS = {"copied": 23, "unattributed": 1, "swapin_ksm": 5, "merged": 7}


def test_events_of_both_sides_since_a_moment() -> None:
    begin, now = events(VMSTAT, TOTALS), Events(30, 36, 2, 4, 9)
    assert begin == Events(cow_attempts=17, copied=23, unattributed=1, swapin_copies=2, swapins=5)
    assert now.since(begin) == Events(13, 13, 1, 2, 4)


@pytest.mark.parametrize("name", ["cow_ksm", "ksm_swpin_copy"])
def test_a_kernel_that_does_not_count_events(name: str) -> None:
    assert events({k: n for k, n in VMSTAT.items() if k != name}, TOTALS) is None


def test_a_backend_that_counts_no_events() -> None:
    assert events(VMSTAT, {}) is None


@pytest.mark.parametrize(("attempts", "unanswered"), [(12, 0), (13, 0), (15, 2)])
def test_attempts_that_no_departure_answers(attempts: int, unanswered: int) -> None:
    assert Events(attempts, 11, 2, 0, 0).unanswered_attempts == unanswered
