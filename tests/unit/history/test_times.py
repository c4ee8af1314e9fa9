"""Times as people write them."""

from __future__ import annotations

import time

import pytest

from ksmwatch.errors import ConfigError
from ksmwatch.history import times
from ksmwatch.history.times import length_of, time_of

# 2026-03-28 12:00:00 in Berlin, the day before its clock changes.
NOW = 1774695600.0


@pytest.fixture(autouse=True)
def berlin(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()


@pytest.mark.parametrize(
    ("text", "hours"),
    [
        ("now", 0),
        ("-2h", -2),
        ("-1h30m", -1.5),
        ("-90m", -1.5),
        ("-1d", -24),
        ("03:10", -8 - 50 / 60),
        ("3:10:30", -8 - 49.5 / 60),
        ("12:00", 0),
        # It has not been 12:01 today.
        ("12:01", -24 + 1 / 60),
        ("yesterday 03:10", -32 - 50 / 60),
        ("today 03:10", -8 - 50 / 60),
        ("2026-03-27 12:00", -24),
        ("2026-03-27", -36),
        ("2026-03-28T10:00:00+00:00", -1),
        ("@1774692000", -1),
    ],
)
def test_times(text: str, hours: float) -> None:
    assert time_of(text, "--at", NOW) == pytest.approx(NOW + hours * 3600)


def test_a_day_on_which_the_clock_changes() -> None:
    # It was 3:10 for the last time 8 hours and 50 minutes ago, not an hour earlier.
    after = NOW + 23 * 3600
    assert time_of("03:10", "--at", after) == after - 8 * 3600 - 50 * 60
    assert time_of("12:00", "--at", after) == after


@pytest.mark.parametrize(
    "text", ["", "soon", "25:00", "3:60", "-2", "-h", "2h", "-2y", "@x", "@nan", "2026-13-01"]
)
def test_what_is_no_time_is_a_sentence(text: str) -> None:
    with pytest.raises(ConfigError, match=r"--at: .* is not a time; write 03:10, -2h"):
        time_of(text, "--at", NOW)


def test_the_future_is_refused() -> None:
    with pytest.raises(ConfigError, match="is in the future"):
        time_of("2026-03-28 12:01", "--at", NOW)


def test_lengths() -> None:
    assert [length_of(text) for text in ("30s", "10m", "1h30m", "1.5d")] == [30, 600, 5400, 129600]


def test_times_of_another_day_have_their_date() -> None:
    assert times.shown(NOW - 60, NOW) == "11:59:00"
    assert times.shown_to_the_minute(NOW - 86400, NOW) == "2026-03-27 12:00"
