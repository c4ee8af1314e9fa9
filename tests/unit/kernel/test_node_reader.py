"""Exact reads by node of memory, of page tables that are files."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from pathlib import Path

import pytest

from ksmwatch.kernel.node_reader import ByNode, NodeReader
from ksmwatch.kernel.page_frames import KpageFlags
from ksmwatch.units import PAGE_SIZE

PRESENT, KSM, ANON = 1 << 63, 1 << 21, 1 << 12
# Frames 0 to 3 are on node 0, the others on node 1; nobody knows where 9 is.
NODES = {frame: frame // 4 for frame in range(9)}


def write_words(path: Path, words: Iterable[int]) -> None:
    words = list(words)
    path.write_bytes(struct.pack(f"={len(words)}Q", *words))


def area(first: int, pages: int, lines: str) -> str:
    start, end = first * PAGE_SIZE, (first + pages) * PAGE_SIZE
    return f"{start:08x}-{end:08x} rw-p 00000000 00:00 0\nRss: 4 kB\n{lines}VmFlags: rd mg\n"


@pytest.fixture
def process(tmp_path: Path) -> Path:
    """Two areas of four pages. Of the frames, 2, 5, 6 and 9 are KSM pages."""
    directory = tmp_path / "77"
    directory.mkdir()
    flags = [KSM if frame in (2, 5, 6, 9) else ANON for frame in range(10)]
    write_words(tmp_path / "kpageflags", flags)
    write_words(directory / "pagemap", (PRESENT | frame for frame in (1, 2, 2, 5, 6, 7, 0, 5)))
    return directory


def read(process: Path) -> ByNode | None:
    reader = NodeReader(KpageFlags(process.parent), NODES.get)
    with reader.open(process) as opened:
        return opened.read()


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        # Since 6.6: the second area has none.
        (("Anonymous: 16 kB\nKSM: 12 kB\n", "Anonymous: 16 kB\nKSM: 0 kB\n"), {0: 2, 1: 1}),
        (("Anonymous: 16 kB\nKSM: 12 kB\n", "Anonymous: 16 kB\nKSM: 8 kB\n"), {0: 2, 1: 3}),
        # Before.
        (("Anonymous: 16 kB\n", "Anonymous: 16 kB\n"), {0: 2, 1: 3}),
        (("Anonymous: 0 kB\n", "Anonymous: 16 kB\n"), {1: 2}),
    ],
)
def test_ksm_pages_are_counted_by_their_node(
    process: Path, lines: tuple[str, str], expected: dict[int, int]
) -> None:
    (process / "smaps").write_text(area(0, 4, lines[0]) + area(4, 4, lines[1]))
    assert read(process) == expected


def test_a_frame_of_which_the_node_is_unknown_makes_all_unknown(process: Path) -> None:
    write_words(process / "pagemap", (PRESENT | frame for frame in (2, 9)))
    (process / "smaps").write_text(area(0, 2, "Anonymous: 8 kB\n"))
    assert read(process) is None


def test_a_process_that_has_gone(process: Path) -> None:
    (process / "smaps").write_text("")
    with pytest.raises(ProcessLookupError):
        read(process)
