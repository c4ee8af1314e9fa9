"""Deadlines follow from the speed of the machine, and a failed wait names what is missing."""

from __future__ import annotations

import pytest

from tests import deadlines, slowness, waiting


@pytest.fixture
def three_times_slower(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KSMWATCH_TEST_SLOWNESS", "3.00")


def test_a_slow_machine_gets_more_patience(three_times_slower: None) -> None:
    assert slowness.slowness() == 3.0
    assert slowness.patience(10) == 30


def test_it_is_measured_once_and_told_to_children(monkeypatch: pytest.MonkeyPatch) -> None:
    # So that it is gone afterwards.
    monkeypatch.setenv("KSMWATCH_TEST_SLOWNESS", "")
    monkeypatch.delenv("KSMWATCH_TEST_SLOWNESS")
    taken = iter((2 * slowness._REFERENCE_SECONDS,))
    monkeypatch.setattr(slowness, "_yardstick", lambda: next(taken))
    assert slowness.slowness() == slowness.slowness() == 2.0


def test_a_quick_machine_gets_no_less(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KSMWATCH_TEST_SLOWNESS", "")
    monkeypatch.delenv("KSMWATCH_TEST_SLOWNESS")
    monkeypatch.setattr(slowness, "_yardstick", lambda: 0.001)
    assert slowness.slowness() == 1.0


def test_waiting_gives_what_was_found() -> None:
    found = iter(([], [], ["it"]))
    assert waiting.wait_until(lambda: next(found), "nothing", every=0) == ["it"]


def test_waiting_ends_with_what_is_missing() -> None:
    with pytest.raises(AssertionError, match="nobody came"):
        waiting.wait_until(lambda: False, lambda: "nobody came", seconds=0, every=0)


def test_looks_take_half_of_the_time_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, slept = iter((0.0, 3.0, 6.0, 6.01, 6.11)), list[float]()
    monkeypatch.setattr("tests.waiting.time.monotonic", lambda: next(clock))
    monkeypatch.setattr("tests.waiting.time.sleep", slept.append)
    pace = waiting.Pace(0.1)
    pace.pause()
    pace.pause()
    assert slept == [3.0, 0.1]


def test_the_host_reads_how_long_a_test_may_take(three_times_slower: None) -> None:
    line = deadlines.pytest_report_header()
    assert deadlines.seconds_in(line) == 3 * deadlines._SECONDS
    assert deadlines.seconds_in("tests/kernel/test_steps.py PASSED") is None
