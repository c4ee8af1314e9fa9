"""What the page says of two guests."""

from __future__ import annotations

from bench import two_guests

RESULT = {
    "date": "2026-01-01",
    "host": "6.18.0",
    "kernel": "6.12",
    "mib": 512,
    "pages_sharing": 700,
    "would_save": 1000,
    "would_save_low": 990,
    "would_save_high": 1010,
}


def test_the_goal_is_judged_by_the_frames_that_were_freed() -> None:
    (goal,) = two_guests.goals({**RESULT, "saved": 995})
    assert (goal.met, goal.reached) == (True, "0.50% off")
    (goal,) = two_guests.goals({**RESULT, "saved": 1011})
    assert not goal.met


def test_the_table_has_both_and_the_counter_of_the_kernel() -> None:
    text = two_guests.section({**RESULT, "saved": 995})
    assert "| estimate | 1,000 | 990 to 1,010 |" in text
    assert "| page frames that were then freed | 995 | - |" in text
    assert "| `pages_sharing` after that | 700 | - |" in text
