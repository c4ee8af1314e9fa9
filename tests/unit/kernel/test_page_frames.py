"""Which frames hold KSM pages, from struct page as /proc/kcore shows it."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ksmwatch.errors import SourceError
from ksmwatch.kernel import page_frames
from ksmwatch.kernel.frame_places import NOWHERE, Segment
from ksmwatch.kernel.page_frames import AnyFrame, KpageFlags, PageStructs, page_structs
from ksmwatch.units import PAGE_SIZE
from tests.kcores import STRUCTS, write_structs

OFFSETS = {"page_mapping": 24, "page_compound_head": 8}
ANON, KSM, FILE = 0xFFFF888000001001, 0xFFFF888000002003, 0xFFFF888000003000
TAIL = 0x3
# As many struct pages are in a page of the array.
PER_PAGE = PAGE_SIZE // 64


def write_kcore(proc: Path, pieces: Mapping[int, list[int]]) -> None:
    """The same with pages of these mappings."""
    structs = {
        first: [struct.pack("<8Q", 7, m == TAIL, 7, m, 7, 7, 7, 7) for m in mappings]
        for first, mappings in pieces.items()
    }
    write_structs(proc, structs)


def test_low_bits_of_mapping_tell(tmp_path: Path) -> None:
    write_kcore(tmp_path, {0: [ANON, KSM, FILE, KSM, TAIL, ANON]})
    found = PageStructs(tmp_path, OFFSETS)
    assert found.ksm({0, 1, 2, 3, 4, 5}) == {1, 3}
    assert found.ksm([]) == set()
    assert [found.private(frame) for frame in range(6)] == [True, False, False, False, False, True]


def test_a_frame_in_a_hole_is_an_error(tmp_path: Path) -> None:
    write_kcore(tmp_path, {0: [KSM] * PER_PAGE, 2 * PER_PAGE: [KSM] * 2})
    found = PageStructs(tmp_path, OFFSETS)
    frames = [0, PER_PAGE - 1, 2 * PER_PAGE, 2 * PER_PAGE + 1]
    assert found.ksm(frames) == set(frames)
    address = f"{STRUCTS + PAGE_SIZE:#x}"
    with pytest.raises(SourceError, match=f"kcore does not contain the address {address}"):
        found.ksm([PER_PAGE - 1, PER_PAGE])


def test_what_is_missing_is_said(tmp_path: Path) -> None:
    write_kcore(tmp_path, {0: [ANON]})
    with pytest.raises(SourceError, match="BTF does not describe"):
        PageStructs(tmp_path, {})
    write_kcore(tmp_path, {})
    with pytest.raises(SourceError, match="kcore does not show where the array"):
        PageStructs(tmp_path, OFFSETS)


def kernels_segments(base: int, ram: list[tuple[int, int]], page_size: int) -> list[Segment]:
    """As fs/proc/kcore.c lists it: other areas first, then each (first frame, frames) of RAM."""
    made = [
        # The kernel's text has a physical address, and what follows it is no part of the array.
        Segment(0xFFFFFFFF81000000, 0x1000000, 0x3430000, 0),
        Segment(0xFFFFC90000000000, NOWHERE, 0x1FFFFFFFFFFF, 0),
    ]
    end_before = 0
    for first, count in ram:
        made.append(Segment(page_size * first, first * page_size, count * page_size, 0))
        start = (base + first * 64) // page_size * page_size
        end = -((base + (first + count) * 64) // -page_size) * page_size
        # Two pieces may share a page of the array. The kernel shortens the part that comes later
        # in the list, at its end.
        if start < end_before:
            continue
        made.append(Segment(start, NOWHERE, end - start, 0))
        end_before = end
    return made


@given(
    st.integers(1, 1 << 20).map(lambda n: 0xFFFF000000000000 + n * (1 << 16)),
    st.lists(st.tuples(st.integers(1, 1 << 20), st.integers(1, 1 << 22)), min_size=1, max_size=6),
    st.sampled_from((4096, 16384, 65536)),
)
def test_the_array_is_found_by_any_piece_of_ram(
    base: int, gaps: list[tuple[int, int]], page_size: int
) -> None:
    ram, at = [], 0
    for gap, count in gaps:
        ram.append((at + gap, count))
        at += gap + count
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(page_frames, "PAGE_SIZE", page_size)
        assert page_structs(kernels_segments(base, ram, page_size)) == base


# Of a guest with 5 GB, by 6.1 and 7.3.
X86 = [
    Segment(0xFFFFFFFF81000000, 0x1000000, 0x3430000, 0),
    Segment(0xFFFFC90000000000, NOWHERE, 0x1FFFFFFFFFFF, 0),
    Segment(0xFFFFFFFFC0000000, NOWHERE, 0x3F000000, 0),
    Segment(0xFFFF888000001000, 0x1000, 0x9E000, 0),
    Segment(0xFFFFEA0000000000, NOWHERE, 0x3000, 0),
    Segment(0xFFFF888000100000, 0x100000, 0xBFEE0000, 0),
    Segment(0xFFFFEA0000004000, NOWHERE, 0x2FFC000, 0),
    Segment(0xFFFF888100000000, 0x100000000, 0x80000000, 0),
    Segment(0xFFFFEA0004000000, NOWHERE, 0x2000000, 0),
]


def test_the_array_of_a_real_kernel_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page_frames, "PAGE_SIZE", 4096)
    assert page_structs(X86) == 0xFFFFEA0000000000
    # Two answers are none.
    moved = X86[-1]._replace(address=X86[-1].address + 4096)
    with pytest.raises(SourceError):
        page_structs([*X86[:-1], moved])


def test_kpageflags_must_know_the_page_to_call_it_private(tmp_path: Path) -> None:
    (tmp_path / "kpageflags").write_bytes(
        struct.pack("=4Q", 0, 1 << 12, 1 << 21, 1 << 12 | 1 << 21)
    )
    found = KpageFlags(tmp_path)
    assert [found.private(frame) for frame in range(4)] == [False, True, False, False]
    assert found.ksm(range(4)) == {2, 3}


def test_any_frame_is_honest_about_knowing_nothing() -> None:
    assert AnyFrame("").ksm([1, 5]) == {1, 5}
    assert not AnyFrame("").private(1)
