"""Where page frames are in /proc/kcore, for many frames at once. Pure."""

from __future__ import annotations

import sys
from array import array
from collections.abc import Iterable
from functools import lru_cache
from typing import NamedTuple

from ksmwatch.units import PAGE_SIZE

# fs/proc/kcore.c: the physical address of what is not RAM.
NOWHERE = (1 << 64) - 1
# The place of a frame that is not shown: no file has it.
NO_PLACE = -1
# Frames whose numbers are equal but for the lower 16 bits are a block, and but for the lower 8 bits
# a part of it. Where the numbers of blocks and parts are, among pieces of 16 and of 8 bits; and,
# among pieces of 32 bits, what is 0, as hardly any machine has so many frames.
_BLOCK, _PART = 1 << 16, 1 << 8
_LITTLE = sys.byteorder == "little"
_IN_BLOCK, _IN_PART, _ABOVE = (1, 1, 1) if _LITTLE else (2, 6, 0)


class Segment(NamedTuple):
    """What is shown from `address` on, in the file at `place`."""

    address: int
    physical: int
    size: int
    place: int


class FramePlaces:
    """Places by the segments of kcore."""

    def __init__(self, segments: Iterable[Segment]) -> None:
        self._ram = [each for each in segments if each.physical != NOWHERE]
        self._shifts: dict[tuple[int, int], int | None] = {}

    def of(self, frames: array[int]) -> array[int]:
        """Where in the file page frames are; NO_PLACE for one that is not shown."""
        shift = self._shift_of(frames)
        return array("q", map(self._place, frames)) if shift is None else _places(frames, shift)

    def _place(self, frame: int) -> int:
        segment = self._segment(frame)
        return NO_PLACE if segment is None else frame * PAGE_SIZE + _shift(segment)

    def _shift_of(self, frames: array[int]) -> int | None:
        """From a physical address to its place, if that is the same for all of these frames.

        By blocks of frames: to compare each frame would take half as long as to read it.
        """
        raw = frames.tobytes()
        if array("I", raw)[_ABOVE::2].tobytes().strip(b"\0"):
            return None
        numbers = set(array("H", raw)[_IN_BLOCK::4])
        blocks = {at: self._shift_from(at * _BLOCK, _BLOCK) for at in numbers}
        shifts = set(blocks.values()) - {None}
        parts = set(raw[_IN_PART::8]) if None in blocks.values() else ()
        for at in (at for at, shift in blocks.items() if shift is None):
            shifts |= {self._shift_from(at * _BLOCK + part * _PART, _PART) for part in parts}
        return shifts.pop() if len(shifts) == 1 else None

    def _shift_from(self, first: int, count: int) -> int | None:
        """The same for neighbouring frames; None if one of them is not shown."""
        if (first, count) not in self._shifts:
            one, other = map(self._segment, (first, first + count - 1))
            self._shifts[first, count] = _shift(one) if one and one is other else None
        return self._shifts[first, count]

    def _segment(self, frame: int) -> Segment | None:
        physical = frame * PAGE_SIZE
        return next((s for s in self._ram if 0 <= physical - s.physical < s.size), None)


def _shift(segment: Segment) -> int:
    """From a physical address to its place in the file."""
    return segment.place - segment.physical


@lru_cache(maxsize=32)
def _ones(count: int) -> int:
    """A 1 in each of so many words."""
    return int.from_bytes((array("Q", [1]) * count).tobytes(), sys.byteorder)


def _places(frames: array[int], shift: int) -> array[int]:
    """The places of frames. All are computed at once, as one long number."""
    words = int.from_bytes(frames.tobytes(), sys.byteorder)
    places = words * PAGE_SIZE + shift * _ones(len(frames))
    return array("q", places.to_bytes(len(frames) * frames.itemsize, sys.byteorder))
