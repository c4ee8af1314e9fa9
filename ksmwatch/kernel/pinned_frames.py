"""Which page frames are pinned, by struct page in /proc/kcore.

As folio_maybe_dma_pinned() in include/linux/mm.h. Pages that something else holds (a pipe) look as
any other page.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

from ksmwatch.errors import SourceError
from ksmwatch.kernel.kcore import Kcore
from ksmwatch.kernel.page_frames import PAGE_STRUCT, page_structs, runs

# Each pin adds so much to the references of a page (GUP_PIN_COUNTING_BIAS). Those of a large folio
# have a counter instead, in the second struct page.
_PIN = 1024
_MOST_ORDER = 20
_WORD = 4


class PinnedFrames:
    """Raises OSError where kcore is hidden, SourceError where struct page is not known well enough.

    `offset`: of a member of a struct, by their names, from BTF.
    """

    def __init__(self, proc: Path, offset: Callable[[str, str], int | None]) -> None:
        places = (
            offset("folio", "_refcount"),
            offset("folio", "_mapcount"),
            offset("folio", "_pincount"),
            offset("page", "compound_head") or offset("page", "compound_info"),
        )
        if None in places:
            raise SourceError("BTF does not describe how pages are pinned.")
        self._references, self._mappings, self._pins, self._head = (place or 0 for place in places)
        self._kcore = Kcore(proc)
        self._base = page_structs(self._kcore.segments)

    def pinned(self, frames: Collection[int]) -> set[int]:
        """Those of the frames that cannot merge. Raises OSError."""
        found: set[int] = set()
        for first, count in runs(sorted(frames)):
            found.update(self._pinned(first, count))
        return found

    def knows(self, frames: Collection[int]) -> bool:
        """Whether it is right about pages of our own: mapped by us, referred to, and not pinned."""
        data = [self._with_next(frame, 1) for frame in frames]
        own = [self._small(each)[0] for each in data if not any(self._tails(each))]
        return not self.pinned(frames) and all(m == 1 <= r for r, m in own)

    def _read(self, first: int, count: int) -> bytes:
        return self._kcore.read(self._base + first * PAGE_STRUCT, count * PAGE_STRUCT)

    def _with_next(self, first: int, count: int) -> bytes:
        """Also of the frame that follows, which says whether the last one begins a large folio."""
        try:
            return self._read(first, count + 1)
        except SourceError:
            # No memory follows.
            return self._read(first, count) + bytes(PAGE_STRUCT)

    def _tails(self, data: bytes) -> list[bool]:
        """Whether each page is part of a large folio, and not its first."""
        return [bool(word & 1) for word in data[self._head :: PAGE_STRUCT]]

    def _small(self, data: bytes) -> list[tuple[int, int]]:
        """References and mappings of each page, if it is no large folio."""
        words = array("i", data)
        step = PAGE_STRUCT // _WORD
        references = words[self._references // _WORD :: step]
        mappings = words[self._mappings // _WORD :: step]
        return [(r, m + 1) for r, m in zip(references, mappings, strict=True)]

    def _pinned(self, first: int, count: int) -> Iterator[int]:
        data = self._with_next(first, count)
        tails = self._tails(data)
        for at, (references, mappings) in enumerate(self._small(data)[:count]):
            if tails[at] or tails[at + 1]:
                is_pinned = self._large_is_pinned(first + at)
            else:
                is_pinned = references - mappings >= _PIN
            if is_pinned:
                yield first + at

    def _large_is_pinned(self, frame: int) -> bool:
        # It begins at a multiple of its size.
        starts = (frame >> order << order for order in range(_MOST_ORDER))
        head = next(start for start in starts if not any(self._tails(self._read(start, 1))))
        pins = self._read(head, 2)[self._pins : self._pins + _WORD]
        return any(pins)
