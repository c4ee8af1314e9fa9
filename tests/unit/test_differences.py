"""What differs between two mappings."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ksmwatch.differences import differences

# One object for each number, whatever the interpreter does.
VALUES = [object() for _ in range(3)]
MAPPINGS = st.dictionaries(st.integers(0, 5), st.sampled_from(VALUES))


@given(MAPPINGS, MAPPINGS)
def test_it_is_what_differs(before: dict[int, object], now: dict[int, object]) -> None:
    found = differences(before, now)
    assert found.new == {key for key in now if key not in before}
    assert found.gone == {key for key in before if key not in now}
    moved = {key for key in now if key in before and now[key] is not before[key]}
    assert found.changed == found.new | moved


@given(MAPPINGS)
def test_nothing_differs_from_itself(same: dict[int, object]) -> None:
    assert differences(same, same) == differences(same, dict(same)) == (set(), set(), set())
