"""What is in private pages of other processes, read without disturbing them.

By page frame out of /proc/kcore, which brings nothing in and marks nothing as accessed. Where that
is hidden, out of /proc/PID/mem: that marks pages as used, and would bring back a page that went
since pagemap was read.
"""

from __future__ import annotations

import mmap
import os
import sys
from array import array
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain, compress, repeat
from pathlib import Path
from typing import Protocol

from ksmwatch.kernel.frame_places import NO_PLACE, FramePlaces
from ksmwatch.kernel.kcore import Kcore
from ksmwatch.kernel.page_tables import (
    FILE_OR_SHARED,
    PRESENT,
    frames_under,
    own_frames,
    pagemap_entries,
)
from ksmwatch.units import PAGE_SIZE

# Documentation/admin-guide/mm/pagemap.rst
_EXCLUSIVE = 1 << 56
# Of an entry in memory: the byte that says whether the page is there and private, which values of
# it say so, and the bytes that hold nothing but the frame.
_LITTLE = sys.byteorder == "little"
_TOP, _FRAME_BYTES = (7, slice(0, 6)) if _LITTLE else (0, slice(2, 8))
_OTHER_BYTES = (6, 7) if _LITTLE else (0, 1)
_PRIVATE, _DECIDING = PRESENT >> 56, (PRESENT | FILE_OR_SHARED) >> 56
_IS_PRIVATE = bytes((top & _DECIDING) == _PRIVATE for top in range(256))
_KPF_ZERO_PAGE = 1 << 24


# The address of the first of some neighbouring pages, and how many there are.
Run = tuple[int, int]


def frames_of(entries: array[int]) -> array[int]:
    """The page frames of entries in memory."""
    raw = bytearray(entries.tobytes())
    # No machine has memory that needs more bits.
    for rest in _OTHER_BYTES:
        raw[rest::8] = bytes(len(entries))
    return array("Q", bytes(raw))


def is_alone(entry: int) -> bool:
    """Whether no other page table maps the page of an entry."""
    return bool(entry & _EXCLUSIVE)


@dataclass(frozen=True)
class Pages:
    """Pages that are there, private and anonymous: those of some runs that `mask` has a 1 for.

    `entries`: what pagemap has of each. No object for each page: there are millions.
    """

    runs: Sequence[Run]
    mask: bytes
    entries: array[int]

    @property
    def frames(self) -> array[int]:
        """Of each page."""
        return frames_of(self.entries)

    def addresses(self) -> Iterator[int]:
        """Of each page."""
        every = chain.from_iterable(
            range(start, start + count * PAGE_SIZE, PAGE_SIZE) for start, count in self.runs
        )
        return compress(every, self.mask)

    def only(self, kept: Sequence[bool]) -> Pages:
        """Those of them that this is true for."""
        left = iter(kept)
        mask = bytes(is_there and next(left) for is_there in self.mask)
        return Pages(self.runs, mask, array("Q", compress(self.entries, kept)))


class ContentSource(Protocol):
    """Where contents come from. `name`: which file; `faults`: reading may bring a page in."""

    name: str
    faults: bool

    @contextmanager
    def open(self, directory: Path) -> Iterator[ContentReading]:
        """A reading of the process at /proc/PID. Raises OSError."""


class ContentReading(Protocol):
    """Reads one process."""

    def read(self, pages: Pages, size: int, first: int = 0) -> list[bytes]:
        """So many bytes of each page, from one on; empty for one that cannot be read."""


class KcoreSource:
    """Reads page frames. The caller reads pagemap again to see whose they were."""

    name = "kcore"
    faults = False

    def __init__(self, proc: Path) -> None:
        self._kcore = Kcore(proc)
        self._places = FramePlaces(self._kcore.segments)

    @contextmanager
    def open(self, directory: Path) -> Iterator[KcoreSource]:
        """Yield this source, which is the same for every process."""
        yield self

    def read(self, pages: Pages, size: int, first: int = 0) -> list[bytes]:
        """So many bytes of each page, from one on; empty for one that cannot be read."""
        return _read_all(self._kcore.fd, self._places.of(pages.frames), size, first)


@dataclass(frozen=True)
class _Memory:
    """An open /proc/PID/mem."""

    fd: int

    def read(self, pages: Pages, size: int, first: int = 0) -> list[bytes]:
        return _read_all(self.fd, list(pages.addresses()), size, first)


class MemSource:
    """Reads /proc/PID/mem."""

    name = "mem"
    faults = True

    @contextmanager
    def open(self, directory: Path) -> Iterator[_Memory]:
        """Opens the file, which stays with the address space that the process has now."""
        fd = os.open(directory / "mem", os.O_RDONLY | os.O_CLOEXEC)
        try:
            yield _Memory(fd)
        finally:
            os.close(fd)


def _read_all(fd: int, pages: Sequence[int], size: int, first: int) -> list[bytes]:
    """By where pages are. Empty where nothing can be read: poisoned, gone, not shown."""
    places = [page + first if page != NO_PLACE else page for page in pages] if first else pages
    try:
        found = list(map(os.pread, repeat(fd), repeat(size), places))
    except OSError:
        found = [_read(fd, size, place) for place in places]
    # To join them is quicker than to look at each.
    if len(b"".join(found)) == size * len(found):
        return found
    return [each if len(each) == size else b"" for each in found]


def _read(fd: int, size: int, place: int) -> bytes:
    try:
        return os.pread(fd, size, place)
    except OSError:
        return b""


class PageTable:
    """/proc/PID/pagemap of one process, which stays with the address space that it has now."""

    def __init__(self, fd: int, zero_frame: int) -> None:
        self._fd, self._zero_frame = fd, zero_frame

    def entries(self, runs: Sequence[Run]) -> bytes:
        """Of the pages of these runs, one after the other, as the file has them."""
        return b"".join([pagemap_entries(self._fd, start, count) for start, count in runs])

    def pages(self, runs: Sequence[Run], raw: bytes) -> Pages:
        """Private pages that are there, by entries; not the kernel's zero page."""
        mask = self._private(raw)
        entries = array("Q", raw) if 0 not in mask else array("Q", compress(array("Q", raw), mask))
        return Pages(runs, mask, entries)

    def _private(self, raw: bytes) -> bytes:
        """For each entry a 1 if it is that of a private page, or else a 0."""
        if raw == bytes(len(raw)):
            return bytes(len(raw) // 8)
        private = raw[_TOP::8].translate(_IS_PRIVATE)
        zero = self._zero_frame
        if zero.to_bytes(8, sys.byteorder)[_FRAME_BYTES] not in raw:
            return private
        frames = frames_of(array("Q", raw))
        return bytes(
            is_private and frame != zero for is_private, frame in zip(private, frames, strict=True)
        )


@contextmanager
def open_page_table(directory: Path, zero_frame: int) -> Iterator[PageTable]:
    """The page table of the process at /proc/PID. Raises OSError."""
    fd = os.open(directory / "pagemap", os.O_RDONLY | os.O_CLOEXEC)
    try:
        yield PageTable(fd, zero_frame)
    finally:
        os.close(fd)


def zero_frame(proc: Path) -> int:
    """The frame of the kernel's zero page, which a page that was only read maps."""
    with mmap.mmap(-1, PAGE_SIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as own:
        # To read it maps the zero page.
        assert own[0] == 0
        (frame,) = frames_under(own, proc)
    return frame


class ZeroPages:
    """Tells frames of the kernel's own zero pages, the huge one too, by /proc/kpageflags."""

    def __init__(self, proc: Path) -> None:
        try:
            self._fd: int | None = os.open(proc / "kpageflags", os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            self._fd = None

    def has(self, frame: int) -> bool:
        """Whether this frame takes no memory of a process."""
        if self._fd is None:
            return False
        flags = int.from_bytes(os.pread(self._fd, 8, frame * 8), "little")
        return bool(flags & _KPF_ZERO_PAGE)


def choose_source(proc: Path) -> tuple[ContentSource, str]:
    """Kcore if it shows pages of our own as they are, or else mem; and why it is not kcore."""
    try:
        source = KcoreSource(proc)
        with own_frames(proc) as own:
            pages = Pages([(0, len(own))], b"\1" * len(own), array("Q", own))
            found = source.read(pages, 2)
    except OSError as error:
        return MemSource(), f"kcore: {error.strerror}"
    # `own_frames` writes a 1 to each of its pages.
    if found and all(each == b"\x01\x00" for each in found):
        return source, ""
    return MemSource(), "kcore does not show ksmwatch's own pages"
