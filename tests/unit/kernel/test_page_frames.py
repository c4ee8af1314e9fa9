"""Which frames hold KSM pages, from struct page as /proc/kcore shows it."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from ksmwatch.errors import SourceError
from ksmwatch.kernel.page_frames import AnyFrame, KpageFlags, PageStructs

BASE, VARIABLE = 0xFFFFEA0000000000, 0xFFFFFFFF82000000
OFFSETS = {"page_mapping": 24, "page_compound_head": 8}
ANON, KSM, FILE = 0xFFFF888000001001, 0xFFFF888000002003, 0xFFFF888000003000
TAIL = 0x3


def write_kcore(proc: Path, mappings: list[int], *, split: int = 2, hole: int = 0) -> None:
    """An ELF with the variable and the array, which is in two segments with a hole between."""
    array = b"".join(struct.pack("<8Q", 7, m == TAIL, 7, m, 7, 7, 7, 7) for m in mappings)
    parts = {
        VARIABLE: struct.pack("<Q", BASE),
        BASE: array[: split * 64],
        BASE + (split + hole) * 64: array[(split + hole) * 64 :],
    }
    place = 64 + 56 * (len(parts) + 1)
    heads, bodies = [struct.pack("<IIQQQQQQ", 4, 0, 0, 0, 0, 0, 0, 0)], b""
    for address, body in parts.items():
        where = place + len(bodies)
        heads.append(struct.pack("<IIQQQQQQ", 1, 7, where, address, 0, len(body), len(body), 4096))
        bodies += body
    head = bytearray(64)
    struct.pack_into("<Q", head, 32, 64)
    struct.pack_into("<HH", head, 54, 56, len(heads))
    (proc / "kcore").write_bytes(bytes(head) + b"".join(heads) + bodies)
    (proc / "kallsyms").write_text(
        f"{1:016x} T nothing\n{VARIABLE:016x} D vmemmap_base\n{5:016x} t other\t[module]\n"
    )


def test_low_bits_of_mapping_tell(tmp_path: Path) -> None:
    write_kcore(tmp_path, [ANON, KSM, FILE, KSM, TAIL, ANON])
    found = PageStructs(tmp_path, OFFSETS)
    assert found.ksm({0, 1, 2, 3, 4, 5}) == {1, 3}
    assert found.ksm([]) == set()
    assert [found.private(frame) for frame in range(6)] == [True, False, False, False, False, True]


def test_a_frame_in_a_hole_is_an_error(tmp_path: Path) -> None:
    write_kcore(tmp_path, [KSM] * 6, split=2, hole=2)
    found = PageStructs(tmp_path, OFFSETS)
    assert found.ksm([0, 1, 4, 5]) == {0, 1, 4, 5}
    with pytest.raises(SourceError, match="kcore does not contain the address 0xffffea0000000080"):
        found.ksm([1, 2])


@pytest.mark.parametrize(
    ("offsets", "symbols", "message"),
    [
        ({}, f"{VARIABLE:x} D vmemmap_base\n", "BTF does not describe"),
        (OFFSETS, f"{0:x} D vmemmap_base\n", "kallsyms has no address of vmemmap_base"),
        (OFFSETS, "", "kallsyms has no address"),
    ],
)
def test_what_is_missing_is_said(
    tmp_path: Path, offsets: dict[str, int], symbols: str, message: str
) -> None:
    write_kcore(tmp_path, [ANON])
    (tmp_path / "kallsyms").write_text(symbols)
    with pytest.raises(SourceError, match=message):
        PageStructs(tmp_path, offsets)


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
