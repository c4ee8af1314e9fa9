"""Aligned tables."""

from __future__ import annotations

from ksmwatch.commands import text_tables


def test_table_aligns_numbers_to_the_right_and_names_to_the_left() -> None:
    rows = [(1, "a\nb", 5), (12345, "tenant", 1000)]
    assert text_tables.table(("PID", "NAME", "MAPPINGS"), rows) == (
        "  PID  NAME    MAPPINGS\n    1  a?b            5\n12345  tenant      1000"
    )
