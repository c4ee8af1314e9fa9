"""Waiting ever longer."""

from __future__ import annotations

from ksmwatch.backoff import Backoff


def test_what_has_failed_is_tried_again_ever_more_seldom() -> None:
    backoff = Backoff()
    assert [backoff.next() for _ in range(9)] == [1, 2, 4, 8, 16, 32, 60, 60, 60]
