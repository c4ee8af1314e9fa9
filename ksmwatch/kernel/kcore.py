"""/proc/kcore: the kernel's memory as an ELF file, by address or by page frame.

Reading a page there needs no page table: it brings nothing in and leaves no accessed bit. It wants
CAP_SYS_RAWIO, and lockdown (confidentiality) hides it.
"""

from __future__ import annotations

import os
import struct
import sys
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from ksmwatch.errors import SourceError
from ksmwatch.units import PAGE_SIZE

_HEAD = struct.Struct("<IIQQQQQQ")
_PT_LOAD = 1
# In the ELF header: where the program headers begin, the size of one, and their number.
_HEADER_BYTES, _PHOFF, _PHENTSIZE = 64, 32, 54
# fs/proc/kcore.c: the physical address of what is not RAM.
NOWHERE = (1 << 64) - 1
# The place of a frame that is not shown: no file has it.
NO_PLACE = -1
# A frame number has four pieces of 16 bits. Frames whose upper three are equal are a block.
_BLOCK = 1 << 16
_IN_BLOCK = 1 if sys.byteorder == "little" else 2
_ABOVE = (2, 3) if sys.byteorder == "little" else (0, 1)


@dataclass(frozen=True)
class Segment:
    """What is shown from `address` on, in the file at `place`."""

    address: int
    physical: int
    size: int
    place: int

    @property
    def shift(self) -> int:
        """From a physical address to its place in the file."""
        return self.place - self.physical


@lru_cache(maxsize=32)
def _ones(count: int) -> int:
    """A 1 in each of so many words."""
    return int.from_bytes((array("Q", [1]) * count).tobytes(), sys.byteorder)


def _places(frames: array[int], shift: int) -> array[int]:
    """The places of frames. All are computed at once, as one long number."""
    words = int.from_bytes(frames.tobytes(), sys.byteorder)
    places = words * PAGE_SIZE + shift * _ones(len(frames))
    return array("q", places.to_bytes(len(frames) * frames.itemsize, sys.byteorder))


class Kcore:
    """Reads the kernel's memory. Raises OSError where there is no kcore, or it is hidden."""

    def __init__(self, proc: Path) -> None:
        self.fd = os.open(proc / "kcore", os.O_RDONLY | os.O_CLOEXEC)
        self.segments = list(self._read_segments())
        self._ram = [each for each in self.segments if each.physical != NOWHERE]
        self._shifts: dict[int, int | None] = {}

    def _read_segments(self) -> Iterator[Segment]:
        header = os.pread(self.fd, _HEADER_BYTES, 0)
        (place,) = struct.unpack_from("<Q", header, _PHOFF)
        size, count = struct.unpack_from("<HH", header, _PHENTSIZE)
        for at in range(count):
            found = _HEAD.unpack(os.pread(self.fd, _HEAD.size, place + at * size))
            kind, _, offset, address, physical, length, _, _ = found
            if kind == _PT_LOAD:
                yield Segment(address, physical, length, offset)

    def read(self, address: int, size: int) -> bytes:
        """What neighbouring segments show together. Raises SourceError for a gap."""
        data = b""
        while len(data) < size:
            at = address + len(data)
            found = next((s for s in self.segments if 0 <= at - s.address < s.size), None)
            piece = b""
            if found is not None:
                inside = at - found.address
                length = min(size - len(data), found.size - inside)
                piece = os.pread(self.fd, length, found.place + inside)
            if not piece:
                raise SourceError(f"/proc/kcore does not contain the address {at:#x}.")
            data += piece
        return data

    def places_of(self, frames: array[int]) -> array[int]:
        """Where in the file page frames are; NO_PLACE for one that is not shown."""
        shift = self._shift_of(frames)
        if shift is not None:
            return _places(frames, shift)
        return array("q", map(self.place_of, frames))

    def place_of(self, frame: int) -> int:
        """Where in the file a page frame is; NO_PLACE if it is not shown."""
        segment = self._segment_of(frame)
        return NO_PLACE if segment is None else frame * PAGE_SIZE + segment.shift

    def _shift_of(self, frames: array[int]) -> int | None:
        """From a physical address to its place, if that is the same for all of these frames."""
        if not frames:
            return None
        # By blocks first: to compare millions of frames takes as long as it takes to read them.
        pieces = array("H", frames.tobytes())
        if not any(any(pieces[at::4]) for at in _ABOVE):
            shifts = {self._shift_of_block(block) for block in set(pieces[_IN_BLOCK::4])}
            if len(shifts) == 1 and None not in shifts:
                return shifts.pop()
        segment = self._segment_of(min(frames))
        if segment is not None and segment is self._segment_of(max(frames)):
            return segment.shift
        return None

    def _shift_of_block(self, block: int) -> int | None:
        """The same for a block; None if a part of it is not shown."""
        if block not in self._shifts:
            first, last = map(self._segment_of, (block * _BLOCK, (block + 1) * _BLOCK - 1))
            self._shifts[block] = first.shift if first is not None and first is last else None
        return self._shifts[block]

    def _segment_of(self, frame: int) -> Segment | None:
        physical = frame * PAGE_SIZE
        return next((s for s in self._ram if 0 <= physical - s.physical < s.size), None)
