"""Compiled programs as a file: what comes out is what went in, or a reason."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ksmwatch.probes.compiled import Compiled, Instructions, MapShape, decode, encode
from ksmwatch.probes.map_records import Field

names = st.text("abcdefg_", min_size=1, max_size=15)
numbers = st.integers(0, 2**32 - 1)
compiled = st.builds(
    Compiled,
    st.lists(
        st.builds(
            MapShape,
            *(names, numbers, numbers, numbers, numbers, numbers),
            st.lists(st.builds(Field, names, numbers, names)).map(tuple),
        )
    ).map(tuple),
    st.dictionaries(
        names,
        st.builds(Instructions, st.binary(max_size=64), st.lists(numbers, max_size=2).map(tuple)),
    ),
)
SMALL = Compiled((), {"on_f": Instructions(b"12345678")})
WHOLE = encode("key", SMALL)


@given(compiled)
def test_what_is_read_is_what_was_written(original: Compiled) -> None:
    assert decode(encode("key", original), "key") == original


@given(compiled, compiled)
def test_a_file_may_have_programs_for_several_plans(one: Compiled, other: Compiled) -> None:
    data = encode("one", one) + encode("other", other)
    assert (decode(data, "one"), decode(data, "other")) == (one, other)
    assert decode(data, "third") is None


def test_an_empty_file_has_nothing() -> None:
    assert decode(b"", "key") is None


@pytest.mark.parametrize("size", range(1, len(WHOLE)))
def test_a_file_that_is_cut_off_has_a_reason(size: int) -> None:
    with pytest.raises(ValueError, match=r"^it is (cut off|damaged|from another version)"):
        decode(WHOLE[:size], "key")


@pytest.mark.parametrize("place", range(len(WHOLE)))
def test_no_byte_can_change_unseen(place: int) -> None:
    changed = bytearray(WHOLE)
    changed[place] ^= 1
    try:
        # A changed key is another key.
        assert decode(bytes(changed), "key") is None
    except ValueError as error:
        assert str(error).startswith("it is ")  # noqa: PT017


def test_another_version_is_told_from_damage() -> None:
    later = WHOLE.replace(b"ksmwatch-programs 1 ", b"ksmwatch-programs 2 ")
    with pytest.raises(ValueError, match="it is from another version of ksmwatch"):
        decode(later, "key")
    with pytest.raises(ValueError, match="damaged, or not a file of ksmwatch"):
        decode(b"#!/bin/sh\n", "key")


def test_programs_of_another_key_are_not_taken() -> None:
    renamed = WHOLE.replace(b" key ", b" yek ")
    with pytest.raises(ValueError, match="damaged"):
        decode(renamed, "yek")
