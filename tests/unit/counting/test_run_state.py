"""Since when KSM's run state has its value."""

from __future__ import annotations

from ksmwatch.counting.run_state import RunState, RunWatch
from tests.fakes import Clock


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
