"""Exact reads by node of memory: on which nodes the KSM pages lie that one process maps.

They take longer than other exact reads, since each page is looked at. So they are used only for
what was mapped before the hooks were on, or without an event.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from ksmwatch.kernel.page_frames import Frames
from ksmwatch.kernel.page_tables import Pagemap, PagemapReader, WhenOpened, unobserved
from ksmwatch.kernel.smaps import kilobytes, smaps_areas

# The node of a frame; None if it is not known.
NodeOf = Callable[[int], int | None]
# KSM mappings by node.
ByNode = Mapping[int, int]


class _Nodes:
    """The page tables of one process."""

    def __init__(self, pagemap: Pagemap, node_of: NodeOf) -> None:
        self._pagemap, self._node_of = pagemap, node_of

    def read(self) -> ByNode | None:
        """KSM mappings by node; None if the node of a page is not known. Raises OSError."""
        found: Counter[int | None] = Counter()
        for area in smaps_areas(self._pagemap.smaps()):
            # The line has been there since 6.6.
            ksm = kilobytes(area.text, "KSM")
            if ksm or (ksm is None and area.kilobytes("Anonymous")):
                for piece in self._pagemap.frames(area.start, area.end):
                    for frame, times in piece.items():
                        found[self._node_of(frame)] += times
        if None in found:
            return None
        return {node: number for node, number in found.items() if node is not None}


class NodeReader:
    """Reads pagemap, and a source of KSM frames; needs CAP_SYS_ADMIN."""

    def __init__(self, frames: Frames, node_of: NodeOf) -> None:
        self._reader = PagemapReader(frames)
        self._node_of = node_of

    @contextmanager
    def open(self, directory: Path, opened: WhenOpened = unobserved) -> Iterator[_Nodes]:
        """Open smaps and pagemap; `opened` sees two mms if the process exec'ed in between."""
        with self._reader.open(directory, opened) as pagemap:
            yield _Nodes(pagemap, self._node_of)
