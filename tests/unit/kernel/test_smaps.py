"""The text of smaps: areas, amounts and flags, made up and of the kernel that the tests run on."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ksmwatch.kernel.smaps import any_mergeable, kilobytes, smaps_areas

TEXT = b"""\
00001000-00009000 rw-p 00000000 00:00 0                                  [heap]
Size:                 32 kB
KernelPageSize:        4 kB
Anonymous:            28 kB
KSM:                  12 kB
THPeligible:           0
VmFlags: rd wr mr mw me ac mg
7f0000000000-7f0000001000 r--p 00002000 fd:01 131                        /a b/KSM: 7 kB\\012x
Anonymous:             0 kB
VmFlags: rd mr
"""


def test_areas_have_addresses_names_amounts_and_flags() -> None:
    heap, file = smaps_areas(TEXT)
    assert (heap.start, heap.end, heap.name) == (0x1000, 0x9000, "[heap]")
    assert [heap.kilobytes(name) for name in ("Size", "Anonymous", "KSM")] == [32, 28, 12]
    assert heap.flags == {"rd", "wr", "mr", "mw", "me", "ac", "mg"}
    # The kernel writes a line feed in a name as \012, so a name is never a line of its own.
    assert file.name == r"/a b/KSM: 7 kB\012x"
    assert (file.kilobytes("KSM"), kilobytes(file.text, "KSM")) == (0, None)
    assert file.flags == {"rd", "mr"}


def test_an_amount_is_that_of_its_own_line() -> None:
    assert kilobytes(b"XKSM: 4 kB\nKSM: 8 kB\nKSM: 9 pages\n", "KSM") == 8
    assert kilobytes(b"Rss: 4 kB\nKSM:\t4 kB\n", "KSM") is None


@pytest.mark.parametrize("text", [b"", b"VmFlags: rd\n", b"Size: 4 kB\n"])
def test_where_no_area_begins_there_is_none(text: bytes) -> None:
    assert list(smaps_areas(text)) == []


def test_an_area_without_flags_has_none() -> None:
    (area,) = smaps_areas(b"1000-2000 rw-p 00000000 00:00 0\nSize: 4 kB\n")
    assert area.flags == frozenset()


FLAGS = st.lists(st.sampled_from(["rd", "wr", "mg", "mgx", "xmg", "ac"]), max_size=4)
AREAS = st.lists(st.tuples(st.integers(1, 1000), st.integers(0, 1 << 20), FLAGS), max_size=6)


@given(AREAS)
def test_what_was_written_is_read(areas: list[tuple[int, int, list[str]]]) -> None:
    text = "".join(
        f"{at:08x}-{at + pages:08x} rw-p 00000000 00:00 0 \nKSM: {ksm:12} kB\n"
        f"VmFlags: {' '.join(flags)} \n"
        for at, (pages, ksm, flags) in enumerate(areas)
    ).encode()
    found = [(a.end - a.start, a.kilobytes("KSM"), a.flags) for a in smaps_areas(text)]
    assert found == [(pages, ksm, frozenset(flags)) for pages, ksm, flags in areas]
    assert any_mergeable(text) is any("mg" in flags for _, _, flags in areas)


def test_our_own_smaps_adds_up() -> None:
    proc = Path("/proc/self")
    text, rollup = ((proc / name).read_bytes() for name in ("smaps", "smaps_rollup"))
    areas = list(smaps_areas(text))
    assert len(areas) == text.count(b"\nVmFlags:")
    assert all(area.end - area.start == area.kilobytes("Size") * 1024 for area in areas)
    assert any(area.name == "[stack]" for area in areas)
    anonymous = sum(area.kilobytes("Anonymous") for area in areas)
    # Reading is allocating: the two were not read at one moment.
    assert anonymous == pytest.approx(kilobytes(rollup, "Anonymous"), rel=0.5)
