"""A sample of pages, read twice: what has changed meanwhile."""

from __future__ import annotations

import struct
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from ksmwatch.diagnose import page_changes
from ksmwatch.diagnose.evidence import PageSample
from ksmwatch.units import PAGE_SIZE

# ---- a sample ----


def put_memory(directory: Path, pages: list[bytes], absent: set[int]) -> None:
    """Memory from address 0 on."""
    directory.mkdir(exist_ok=True)
    (directory / "mem").write_bytes(b"".join(page.ljust(PAGE_SIZE, b"\0") for page in pages))
    entries = [0 if at in absent else 1 << 63 for at in range(len(pages))]
    (directory / "pagemap").write_bytes(struct.pack(f"={len(pages)}Q", *entries))


def test_pages_that_differ_between_two_looks_have_changed(tmp_path: Path) -> None:
    one, other = tmp_path / "1", tmp_path / "2"
    put_memory(one, [b"a", b"b", b"c", b"d"], absent={3})
    put_memory(other, [b"e", b"f"], absent=set())

    def meanwhile(seconds: float) -> None:
        assert seconds == 1.5
        put_memory(one, [b"a", b"B", b"c", b"D"], absent={2})
        (other / "mem").write_bytes(b"")

    pages = 8 * PAGE_SIZE
    ranges = [(0, 2 * PAGE_SIZE), (2 * PAGE_SIZE, 4 * PAGE_SIZE)]
    nobody = tmp_path / "3"
    found = page_changes.take([(one, ranges), (nobody, [(0, pages)])], 9, 1.5, meanwhile)
    # Of four pages one was never there, and one is not there any more.
    assert found == PageSample(2, 1, 1.5)


def test_where_nothing_can_be_read_nothing_is_said(tmp_path: Path) -> None:
    put_memory(tmp_path / "1", [b"a"], absent={0})

    def no_wait(_: float) -> None:
        raise AssertionError("there is nothing to wait for")

    assert page_changes.take([(tmp_path / "1", [(0, PAGE_SIZE)])], 9, 1.0, no_wait) is None
    assert page_changes.take([(tmp_path / "2", [(0, PAGE_SIZE)])], 9, 1.0, no_wait) is None


def test_pages_that_stay_equal_to_others_are_counted(tmp_path: Path) -> None:
    """Also across processes, and only if they have not changed."""
    one, other = tmp_path / "1", tmp_path / "2"
    put_memory(one, [b"a", b"b", b"a", b"c"], absent=set())
    put_memory(other, [b"b", b"x"], absent=set())

    def meanwhile(_: float) -> None:
        put_memory(other, [b"b", b"c"], absent=set())

    areas = [(one, [(0, 4 * PAGE_SIZE)]), (other, [(0, 2 * PAGE_SIZE)])]
    assert page_changes.take(areas, 9, 1.0, meanwhile) == PageSample(6, 1, 1.0, equal=4)


@given(st.lists(st.tuples(st.integers(0, 99), st.integers(0, 9)), max_size=6), st.integers(0, 40))
def test_chosen_pages_are_different_ones_of_the_ranges(
    shapes: list[tuple[int, int]], count: int
) -> None:
    ranges = [
        ((at * 1000 + s) * PAGE_SIZE, (at * 1000 + s + n) * PAGE_SIZE)
        for at, (s, n) in enumerate(shapes)
    ]
    everything = {page for start, end in ranges for page in range(start, end, PAGE_SIZE)}
    chosen = page_changes.choose(ranges, count)
    assert len(chosen) == min(count, len(everything)) == len(set(chosen))
    assert set(chosen) <= everything
