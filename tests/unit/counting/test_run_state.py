"""What KSM's run state says about mappings that are still there."""

from __future__ import annotations

import pytest

from ksmwatch.counting.run_state import Events, Residue, RunState, RunWatch, events, residue
from tests.fakes import Clock


@pytest.mark.parametrize(
    ("run", "pages_shared", "read_age", "expected"),
    [
        (1, 5, None, Residue.MERGED),
        (1, 0, 1.0, Residue.MERGED),
        # run=0 keeps pages merged: no fault, whatever has been read.
        (0, 5, None, Residue.KEPT),
        (0, 0, 1.0, Residue.KEPT),
        (2, 5, 1.0, Residue.UNMERGING),
        (2, None, 1.0, Residue.UNMERGING),
        (2, 0, None, Residue.UNVERIFIED),
        # Read before `run` became 2 ten seconds ago: what was read says nothing.
        (2, 0, 10.5, Residue.UNVERIFIED),
        (2, 0, 10.0, Residue.LEFT),
        (2, 0, 0.0, Residue.LEFT),
        # Unknown is not off.
        (None, 0, 1.0, Residue.MERGED),
    ],
)
def test_residue(
    run: int | None, pages_shared: int | None, read_age: float | None, expected: Residue
) -> None:
    read_at = None if read_age is None else 1000.0 - read_age
    assert residue(RunState(run, 10.0, 990.0), pages_shared, read_at) is expected


def test_age_counts_from_when_the_value_was_first_seen() -> None:
    clock = Clock()
    watch = RunWatch(clock)
    assert watch.state == RunState(None, 0.0, 1000.0)
    clock.now += 5
    watch.see(1)
    clock.now += 7
    watch.see(1)
    assert watch.state == RunState(1, 7.0, 1005.0)
    watch.see(2)
    assert watch.state == RunState(2, 0.0, 1012.0)


def test_a_value_that_cannot_be_read_is_a_value_of_its_own() -> None:
    clock = Clock()
    watch = RunWatch(clock)
    watch.see(2)
    clock.now += 3
    watch.see(None)
    watch.see(2)
    # It may have been anything meanwhile.
    assert watch.state == RunState(2, 0.0, 1003.0)


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
