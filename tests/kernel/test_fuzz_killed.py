"""A short random program beside a daemon that is killed again and again."""

from __future__ import annotations

import pytest

from tests.fuzz import fuzz

pytestmark = pytest.mark.once


def test_it_is_counted_when_the_daemon_is_killed_every_three_seconds() -> None:
    assert fuzz.shortly("--seed=102", "--restart=3") == 0
