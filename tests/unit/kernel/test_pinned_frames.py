"""Which frames are pinned, from struct page as /proc/kcore shows it."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from pathlib import Path

import pytest

from ksmwatch.errors import SourceError
from ksmwatch.kernel.pinned_frames import PinnedFrames
from tests.kcores import write_structs

OFFSETS = {
    ("folio", "_refcount"): 52,
    ("folio", "_mapcount"): 48,
    ("folio", "_pincount"): 88,
    ("page", "compound_info"): 8,
}


def page(references: int = 1, mappings: int = 1, *, tail: bool = False, pins: int = 0) -> bytes:
    """A struct page. `pins`: of the large folio whose second page this is."""
    made = bytearray(64)
    struct.pack_into("<Q", made, 8, 0xFFFFEA0000000041 if tail else 0xFFFFEA0000000040)
    struct.pack_into("<i", made, 24, pins)
    struct.pack_into("<ii", made, 48, mappings - 1, references)
    return bytes(made)


TAIL = page(0, 0, tail=True)


def pinned(proc: Path, pages: Sequence[bytes]) -> PinnedFrames:
    """What tells them."""
    write_structs(proc, {0: pages})
    return PinnedFrames(proc, lambda of, member: OFFSETS.get((of, member)))


def test_small_pages_by_their_references(tmp_path: Path) -> None:
    # In a list of pages that wait to be sorted; pinned; mapped very often; both.
    pages = [
        page(2),
        page(1025),
        page(1024),
        page(1500, 1500),
        page(2 * 1024 + 1500, 1500),
    ]
    found = pinned(tmp_path, pages)
    assert found.pinned(range(5)) == {1, 4}
    assert found.pinned([4, 1]) == {1, 4}
    assert found.pinned([0]) == set()


def test_a_large_folio_by_its_pins_whichever_page_is_asked(tmp_path: Path) -> None:
    large = [page(5000, 0), page(0, 0, tail=True), *[TAIL] * 6]
    held = [page(3, 0), page(0, 0, tail=True, pins=1), TAIL, TAIL]
    # Of four pages each, and one of eight between them.
    found = pinned(tmp_path, [*held, *[page()] * 4, *large, *held, page(1025)])
    assert found.pinned(range(21)) == {0, 1, 2, 3, 16, 17, 18, 19, 20}
    for frame, expected in ((0, True), (3, True), (4, False), (8, False), (13, False), (19, True)):
        assert (frame in found.pinned([frame])) == expected


def test_it_is_tried_on_pages_of_our_own(tmp_path: Path) -> None:
    right = [page(1), page(2), page(900, 0), page(0, 0, tail=True), page(1025), page(1, 0)]
    found = pinned(tmp_path, [*right, page(0)])
    assert found.knows([0, 1])
    # Of a large folio only the pins are looked at.
    assert found.knows([0, 2, 3])
    for wrong in (4, 5, 6):
        assert not found.knows([0, wrong])


def test_what_btf_does_not_describe_is_said(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="BTF does not describe"):
        PinnedFrames(tmp_path, lambda of, member: None if member == "_pincount" else 8)
