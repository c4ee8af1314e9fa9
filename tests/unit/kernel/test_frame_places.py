"""Places of page frames in kcore: those of many at once are those of each."""

from __future__ import annotations

from array import array
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ksmwatch.kernel.frame_places import NOWHERE, FramePlaces, Segment
from ksmwatch.units import PAGE_SIZE

# Pages of RAM: two segments that are as far apart in the file as in memory, with a hole between
# them; one that is not; and one so high up that no machine has it.
RAM = ((0, 159, 5), (256, 300_000, 5), (1 << 20, 1 << 21, 7), (1 << 32, (1 << 32) + 9, 5))


def segments(ram: Sequence[tuple[int, int, int]]) -> list[Segment]:
    """Those that show these frames: the first, the last, and by how many pages they are moved."""
    return [
        Segment(0, first * PAGE_SIZE, (last + 1 - first) * PAGE_SIZE, (first + moved) * PAGE_SIZE)
        for first, last, moved in ram
    ]


SEGMENTS = [Segment(0, NOWHERE, 1 << 40, 0), *segments(RAM)]
FRAMES = st.one_of(
    *(st.integers(max(0, first - 2), last + 2) for first, last, _ in RAM),
    st.integers(0, 600),
    st.sampled_from([65_535, 65_536, 262_143, 262_144, 300_000]),
)


@given(st.lists(FRAMES, max_size=20))
def test_the_places_of_many_frames_are_those_of_each(frames: list[int]) -> None:
    expected = [
        next(((f + moved) * PAGE_SIZE for first, last, moved in RAM if first <= f <= last), -1)
        for f in frames
    ]
    assert list(FramePlaces(SEGMENTS).of(array("Q", frames))) == expected


@pytest.mark.parametrize(
    ("frames", "places"),
    [
        ([300, 299_999, 70_000], [305, 300_004, 70_005]),
        # Both segments, and a hole that none of them is in.
        ([3, 300], [8, 305]),
        ([3, 200, 300], [8, -1, 305]),
        ([300, 1 << 20], [305, (1 << 20) + 7]),
        ([], []),
    ],
)
def test_places_across_segments(frames: list[int], places: list[int]) -> None:
    found = FramePlaces(SEGMENTS).of(array("Q", frames))
    assert list(found) == [place if place < 0 else place * PAGE_SIZE for place in places]
