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
_WORDS = PAGE_STRUCT // _WORD


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
        # In words. Bit 0 of the head's lower half marks a page that is not the first of its folio.
        self._references, self._mappings, self._pins, self._head = (
            (place or 0) // _WORD for place in places
        )
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
        pages = [self._with_next(frame, 1) for frame in frames]
        own = [page for page in pages if not self._is_large(page, 0)]
        return not self.pinned(frames) and all(
            page[self._mappings] + 1 == 1 <= page[self._references] for page in own
        )

    def _read(self, first: int, count: int) -> array[int]:
        data = self._kcore.read(self._base + first * PAGE_STRUCT, count * PAGE_STRUCT)
        return array("i", data)

    def _with_next(self, first: int, count: int) -> array[int]:
        """Also of the frame that follows, which says whether the last one begins a large folio."""
        try:
            return self._read(first, count + 1)
        except SourceError:
            # No memory follows.
            return self._read(first, count) + array("i", bytes(PAGE_STRUCT))

    def _is_tail(self, words: array[int], at: int) -> bool:
        return bool(words[at * _WORDS + self._head] & 1)

    def _is_large(self, words: array[int], at: int) -> bool:
        """Whether a page is part of a large folio: not its first, or followed by such a page."""
        head = at * _WORDS + self._head
        return bool((words[head] | words[head + _WORDS]) & 1)

    def _pinned(self, first: int, count: int) -> Iterator[int]:
        words = self._with_next(first, count)
        for at in range(count):
            if self._is_large(words, at):
                is_pinned = self._large_is_pinned(first + at)
            else:
                own = at * _WORDS
                references, mappings = (
                    words[own + self._references],
                    words[own + self._mappings] + 1,
                )
                is_pinned = references - mappings >= _PIN
            if is_pinned:
                yield first + at

    def _large_is_pinned(self, frame: int) -> bool:
        # It begins at a multiple of its size.
        starts = (frame >> order << order for order in range(_MOST_ORDER))
        head = next(start for start in starts if not self._is_tail(self._read(start, 1), 0))
        return self._read(head, 2)[self._pins] > 0
