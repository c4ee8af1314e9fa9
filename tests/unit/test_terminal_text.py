"""Names that are harmless on a terminal."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ksmwatch.terminal_text import clean


@given(st.text())
def test_a_clean_name_cannot_move_the_cursor(name: str) -> None:
    cleaned = clean(name)
    assert len(cleaned) == len(name)
    assert not any(unicodedata.category(c).startswith("C") for c in cleaned)
    # Only what is harmful is replaced.
    assert all(a in (b, "?") for a, b in zip(cleaned, name, strict=True))
    assert len(cleaned.splitlines()) <= 1 + sum(c in "\u2028\u2029" for c in cleaned)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("nginx: worker", "nginx: worker"),
        ("a\nb\tc", "a?b?c"),
        ("\x1b[2Jgone", "?[2Jgone"),
        ("\x9b31m", "?31m"),
        ("right\u202eleft", "right?left"),
        ("zero\u200bwidth", "zero?width"),
        ("\udcff", "?"),
        ("größe 測試", "größe 測試"),
        ("", ""),
    ],
)
def test_clean(name: str, expected: str) -> None:
    assert clean(name) == expected
