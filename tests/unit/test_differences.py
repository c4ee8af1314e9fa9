"""What differs between two mappings."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ksmwatch.differences import Edition, differences

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


@given(MAPPINGS, MAPPINGS, st.sets(st.integers(0, 5)), MAPPINGS)
def test_an_edition_knows_what_differs_from_the_one_before(
    first: dict[int, object],
    changes: dict[int, object],
    going: set[int],
    later: dict[int, object],
) -> None:
    before = Edition(first)
    gone = (going & first.keys()) - changes.keys()
    now = before.revised(changes, gone)
    assert now == {k: v for k, v in {**first, **changes}.items() if k not in gone}
    assert before == first
    assert differences(before, now) == differences(dict(before), dict(now))
    # Who has missed an edition, or has another one, compares.
    last = now.revised(later)
    assert differences(before, last) == differences(dict(before), dict(last))
    assert differences(now, last) == differences(dict(now), dict(last))
    assert differences(last, now) == differences(dict(last), dict(now))
    other = Edition(changes)
    assert differences(other, now) == differences(dict(other), dict(now))


def test_an_edition_without_a_change_is_the_same() -> None:
    before = Edition({1: VALUES[0]})
    assert before.revised({}) is before


def test_keys_keep_their_order() -> None:
    now = Edition({1: "a", 2: "b", 3: "c"}).revised({4: "d", 2: "e"}, {1})
    assert list(now.items()) == [(2, "e"), (3, "c"), (4, "d")]
