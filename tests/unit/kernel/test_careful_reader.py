"""Reads of smaps_rollup that count only if no page may be away, or is poisoned."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from ksmwatch.kernel import page_tables
from ksmwatch.kernel.page_tables import GUARD, PRESENT, SWAPPED, SmapsReader
from ksmwatch.units import PAGE_SIZE

KB = PAGE_SIZE // 1024


@pytest.fixture
def process(tmp_path: Path) -> Path:
    """Its /proc directory."""
    return tmp_path


def area(first: int, pages: int, *, ksm: int, swap: int = 0) -> str:
    """An area of smaps that begins at a page number."""
    start, end = first * PAGE_SIZE, (first + pages) * PAGE_SIZE
    amounts = f"KSM: {ksm * KB:14} kB\nSwap: {swap * KB:14} kB\n"
    return f"{start:08x}-{end:08x} rw-p 00000000 00:00 0 \n{amounts}"


def swap_entry(kind: int, place: int = 7) -> int:
    """An entry that is not present, as pagemap shows it with CAP_SYS_ADMIN."""
    return SWAPPED | place << 5 | kind


@pytest.mark.parametrize(
    ("entry", "away"),
    [
        (0, False),
        (PRESENT | 7 << 5 | 30, False),
        (swap_entry(0), False),
        (swap_entry(15), False),
        # More swap devices than are told apart from other kinds, and those on 6.12 and 7.3.
        (swap_entry(16), True),
        *((swap_entry(kind), True) for kind in range(23, 32)),
        # The kernel hides the kind.
        (SWAPPED, True),
        (SWAPPED | 1 << 55 | 1 << 57, True),
        (SWAPPED | GUARD, False),
    ],
)
def test_which_entries_may_be_those_of_a_page_that_is_away(entry: int, *, away: bool) -> None:
    others = [0, PRESENT | 30, swap_entry(1)]
    assert page_tables.may_be_away(struct.pack("<4Q", *others, entry)) is away


def read_carefully(process: Path) -> int | None:
    with SmapsReader().now(away=True).open(process) as opened:
        return opened.read()


def careful_process(process: Path, *entries: int, ksm: int = 1) -> None:
    """A process with these entries in its only area with KSM pages, and a swapped one before."""
    (process / "smaps_rollup").write_text(f"KSM: {ksm * KB:14} kB\n")
    (process / "pagemap").write_bytes(struct.pack(f"={1 + len(entries)}Q", SWAPPED, *entries))
    (process / "smaps").write_text(area(0, 1, ksm=0) + area(1, len(entries), ksm=ksm))


def test_a_careful_read_is_that_of_smaps_if_no_page_may_be_away(process: Path) -> None:
    careful_process(process, PRESENT, swap_entry(1), PRESENT, ksm=2)
    assert read_carefully(process) == 2


@pytest.mark.parametrize("pieces", [1, 2])
def test_a_careful_read_has_no_result_while_a_page_may_be_away(
    process: Path, monkeypatch: pytest.MonkeyPatch, pieces: int
) -> None:
    monkeypatch.setattr(page_tables, "_PIECE_PAGES", 3 - pieces)
    careful_process(process, PRESENT, swap_entry(25), ksm=2)
    assert read_carefully(process) is None


def test_a_process_without_ksm_pages_is_not_looked_at_any_further(process: Path) -> None:
    careful_process(process, SWAPPED, ksm=0)
    (process / "smaps").write_text("")
    assert read_carefully(process) == 0


def test_a_careful_read_counts_after_it_has_looked_for_pages_that_are_away(
    process: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    careful_process(process, PRESENT, PRESENT, ksm=2)
    plain = page_tables.pagemap_entries

    def unmap(fd: int, start: int, pages: int) -> bytes:
        (process / "smaps_rollup").write_text(f"KSM: {KB:14} kB\n")
        return plain(fd, start, pages)

    monkeypatch.setattr(page_tables, "pagemap_entries", unmap)
    assert read_carefully(process) == 1


HIDDEN = SWAPPED | 1 << 55


@pytest.mark.parametrize(
    ("entries", "swap", "found"),
    [
        ([PRESENT, PRESENT], 0, 2),
        ([PRESENT, swap_entry(0), HIDDEN], 2, 2),
        ([PRESENT, 0, SWAPPED | GUARD], 0, 2),
        # One of them is poisoned, and it does not matter whether the kernel hides which.
        ([PRESENT, HIDDEN, HIDDEN], 1, None),
        ([PRESENT, swap_entry(23)], 0, None),
        # A page has come back between the reads of the two files.
        ([PRESENT, PRESENT], 1, None),
    ],
)
def test_where_memory_is_poisoned_all_entries_that_are_away_must_be_in_swap(
    process: Path, entries: list[int], swap: int, found: int | None
) -> None:
    careful_process(process, *entries, ksm=2)
    (process / "smaps").write_text(area(0, 1, ksm=0) + area(1, len(entries), ksm=2, swap=swap))
    (process.parent / "meminfo").write_text("HardwareCorrupted:     4 kB\n")
    with SmapsReader(process.parent).now(away=False).open(process) as opened:
        assert opened.read() == found
