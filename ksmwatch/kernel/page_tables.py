"""Exact reads: how many PTEs of one process map a KSM page, from the page tables.

Expensive (the kernel walks the page tables), so used for baselines, audits and polling, and
never for the running count.
"""

from __future__ import annotations

import ctypes as ct
import errno
import mmap
import os
from array import array
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from ksmwatch.errors import SourceError
from ksmwatch.kernel.page_frames import Frames, KpageFlags
from ksmwatch.kernel.smaps import kilobytes, smaps_areas
from ksmwatch.units import PAGE_SIZE

# Documentation/admin-guide/mm/pagemap.rst
_PRESENT = 1 << 63
_FILE_OR_SHARED = 1 << 61
_PFN = (1 << 55) - 1
_PIECE_PAGES = 1 << 17


def _slurp(fd: int) -> bytes:
    """A whole seq_file from its beginning, made anew by the kernel."""
    chunks = []
    offset = 0
    while chunk := os.pread(fd, 1 << 16, offset):
        chunks.append(chunk)
        offset += len(chunk)
    return b"".join(chunks)


class _Smaps:
    """smaps_rollup's `KSM:` line (since 6.6, commit 24cf14d8b3fd)."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def read(self) -> int:
        data = _slurp(self._fd)
        if not data:
            # The mm has no user any more: all its PTEs are gone or going.
            raise ProcessLookupError(errno.ESRCH, "the address space is gone")
        size = kilobytes(data, "KSM")
        if size is None:
            raise SourceError("smaps_rollup has no KSM line")
        return size * 1024 // PAGE_SIZE


# Called after each /proc file that a reader has opened.
WhenOpened = Callable[[], None]


def _unobserved() -> None:
    pass


class SmapsReader:
    """Reads smaps_rollup. Migration entries of KSM pages count, KSM zero pages do not."""

    name = "smaps_rollup"

    @contextmanager
    def open(self, directory: Path, opened: WhenOpened = _unobserved) -> Iterator[_Smaps]:
        """Open smaps_rollup; wants PTRACE_MODE_READ on the process (CAP_SYS_PTRACE)."""
        fd = os.open(directory / "smaps_rollup", os.O_RDONLY | os.O_CLOEXEC)
        try:
            opened()
            yield _Smaps(fd)
        finally:
            os.close(fd)


class _Pagemap:
    """pagemap, and what tells of each frame that it names whether it holds a KSM page."""

    def __init__(self, smaps: int, pagemap: int, frames: Frames) -> None:
        self._smaps, self._pagemap, self._frames = smaps, pagemap, frames

    def smaps(self) -> bytes:
        data = _slurp(self._smaps)
        if not data:
            raise ProcessLookupError(errno.ESRCH, "the address space is gone")
        return data

    def read(self) -> int:
        return sum(
            self.area(area.start, area.end)
            for area in smaps_areas(self.smaps())
            if area.kilobytes("Anonymous")
        )

    def area(self, start: int, end: int) -> int:
        """KSM mappings between two addresses."""
        return sum(count for piece in self.frames(start, end) for count in piece.values())

    def frames(self, start: int, end: int) -> Iterator[dict[int, int]]:
        """KSM frames between two addresses, and how often each is mapped.

        In pieces: an area can be terabytes.
        """
        for at in range(start, end, _PIECE_PAGES * PAGE_SIZE):
            piece = at, min(end, at + _PIECE_PAGES * PAGE_SIZE)
            ksm = set(self._frames.ksm(self._present(*piece)))
            if ksm:
                # A frame may have been freed before it was asked about, and be KSM elsewhere.
                again = self._present(*piece)
                yield {frame: again[frame] for frame in ksm & again.keys()}

    def _present(self, start: int, end: int) -> dict[int, int]:
        """Frames of private pages that are present, and how often each is mapped."""
        size = (end - start) // PAGE_SIZE * 8
        raw = os.pread(self._pagemap, size, start // PAGE_SIZE * 8)
        if len(raw) != size:
            # pagemap_read() gives nothing once mm_users is 0, although smaps still did.
            raise ProcessLookupError(errno.ESRCH, "the address space is gone")
        wanted = _PRESENT | _FILE_OR_SHARED
        frames: dict[int, int] = {}
        for entry in array("Q", raw):
            if entry & wanted == _PRESENT:
                frame = entry & _PFN
                frames[frame] = frames.get(frame, 0) + 1
        return frames


class PagemapReader:
    """Reads pagemap, and kpageflags or what else tells KSM frames; needs CAP_SYS_ADMIN."""

    name = "pagemap"

    def __init__(self, frames: Frames) -> None:
        self._frames = frames

    @contextmanager
    def open(self, directory: Path, opened: WhenOpened = _unobserved) -> Iterator[_Pagemap]:
        """Open smaps and pagemap of the process; `opened` sees two mms if it exec'ed between."""
        smaps = os.open(directory / "smaps", os.O_RDONLY | os.O_CLOEXEC)
        try:
            opened()
            pagemap = os.open(directory / "pagemap", os.O_RDONLY | os.O_CLOEXEC)
            try:
                opened()
                yield _Pagemap(smaps, pagemap, self._frames)
            finally:
                os.close(pagemap)
        finally:
            os.close(smaps)


_OWN_PAGES = 8


@contextmanager
def own_frames(proc: Path) -> Iterator[list[int]]:
    """Frames of some private pages of our own, while they are there; 0 where they are hidden."""
    with mmap.mmap(-1, _OWN_PAGES * PAGE_SIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as own:
        for page in range(_OWN_PAGES):
            own[page * PAGE_SIZE] = 1
        buffer = (ct.c_char * 1).from_buffer(own)
        first = ct.addressof(buffer) // PAGE_SIZE
        del buffer
        with (proc / "self/pagemap").open("rb", buffering=0) as pagemap:
            raw = os.pread(pagemap.fileno(), _OWN_PAGES * 8, first * 8)
        yield [entry & _PFN for entry in array("Q", raw)]


def honest(frames: Frames, proc: Path) -> bool:
    """Whether it says of private pages of our own that they are not KSM."""
    with own_frames(proc) as own:
        return all(own) and all(map(frames.private, own))


Reader = SmapsReader | PagemapReader


def smaps_has_ksm(proc: Path) -> bool:
    """Whether smaps_rollup has the `KSM:` line."""
    return kilobytes((proc / "self/smaps_rollup").read_bytes(), "KSM") is not None


def choose_reader(proc: Path, *, smaps_ksm: bool) -> Reader:
    """The cheapest reader that tells the truth here. Raises SourceError when there is none."""
    if smaps_ksm:
        return SmapsReader()
    try:
        frames = KpageFlags(proc)
        if honest(frames, proc):
            return PagemapReader(frames)
    except OSError as error:
        raise SourceError(
            f"No exact read is possible: smaps has no KSM line and {error.filename or 'pagemap'} "
            f"cannot be read ({error.strerror})."
        ) from error
    raise SourceError(
        "No exact read is possible: smaps has no KSM line, and kpageflags hides frame numbers "
        "or marks every anonymous page as KSM."
    )
