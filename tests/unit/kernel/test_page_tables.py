"""Exact reads of page tables that are files: smaps, pagemap and kpageflags."""

from __future__ import annotations

import os
import struct
import tempfile
from collections import Counter
from collections.abc import Collection, Iterable
from contextlib import nullcontext
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ksmwatch.errors import SourceError
from ksmwatch.kernel import page_tables
from ksmwatch.kernel.areas import Area, parse, stray
from ksmwatch.kernel.page_frames import KpageFlags, runs
from ksmwatch.kernel.page_tables import CarefulReader, PagemapReader, SmapsReader, choose_reader
from ksmwatch.kernel.read_areas import read_areas
from ksmwatch.units import PAGE_SIZE

KB = PAGE_SIZE // 1024
PRESENT, SWAPPED, SHARED = 1 << 63, 1 << 62, 1 << 61
KSM, ANON = 1 << 21, 1 << 12


def area(
    first: int, pages: int, *, ksm: int | None = None, anonymous: int = 1, flags: str = "rd mg"
) -> str:
    """An area of smaps that begins at a page number."""
    start, end = first * PAGE_SIZE, (first + pages) * PAGE_SIZE
    line = "" if ksm is None else f"KSM: {ksm * KB:14} kB\n"
    return (
        f"{start:08x}-{end:08x} rw-p 00000000 00:00 0                          [heap]\n"
        f"Rss:    4 kB\nAnonymous: {anonymous * KB:8} kB\n{line}"
        f"LazyFree:      0 kB\nVmFlags: {flags} \n"
    )


@pytest.fixture
def process(tmp_path: Path) -> Path:
    """A process whose /proc directory is empty."""
    path = tmp_path / "77"
    path.mkdir()
    return path


# ---- smaps ----


def read_smaps(process: Path, corrupted: int = 0) -> int | None:
    proc = process.parent
    (proc / "meminfo").write_text(f"MemTotal: 9 kB\nHardwareCorrupted: {corrupted:5} kB\n")
    with SmapsReader(proc).open(process) as opened:
        return opened.read()


@pytest.mark.parametrize("pages", [0, 13, 10**9])
def test_smaps_rollup_says_kilobytes(process: Path, pages: int) -> None:
    text = f"Rss: 8 kB\nAnonymous: 4 kB\nKSM: {pages * KB:14} kB\nLazyFree: 0 kB\n"
    (process / "smaps_rollup").write_text(text)
    assert read_smaps(process) == pages


def test_what_smaps_says_may_be_wrong_while_memory_is_poisoned(process: Path) -> None:
    rollup = process / "smaps_rollup"
    rollup.write_text(f"KSM: {3 * KB:14} kB\n")
    assert read_smaps(process, corrupted=0) == 3
    reader = SmapsReader(process.parent)
    assert reader.now(away=False) is reader
    assert read_smaps(process, corrupted=4) is None
    assert isinstance(reader.now(away=False), CarefulReader)
    rollup.write_text("KSM: 0 kB\n")
    assert read_smaps(process, corrupted=4) == 0


def test_a_kernel_that_cannot_poison_memory_has_none(process: Path) -> None:
    (process.parent / "meminfo").write_text("MemTotal: 9 kB\n")
    reader = SmapsReader(process.parent)
    assert reader.now(away=False) is reader


def test_an_empty_rollup_means_that_the_mm_has_gone(process: Path) -> None:
    (process / "smaps_rollup").write_text("")
    with pytest.raises(ProcessLookupError):
        read_smaps(process)


def test_a_rollup_without_the_line_is_no_zero(process: Path) -> None:
    (process / "smaps_rollup").write_text("Rss: 8 kB\nXKSM: 4 kB\n")
    with pytest.raises(SourceError, match="no KSM line"):
        read_smaps(process)


def test_every_read_begins_anew(process: Path) -> None:
    path = process / "smaps_rollup"
    path.write_text(f"KSM: {2 * KB:14} kB\n")
    with SmapsReader().open(process) as opened:
        assert opened.read() == 2
        path.write_text(f"KSM: {5 * KB:14} kB\n")
        assert opened.read() == 5


def test_who_observes_openings_is_called_once_per_file(process: Path) -> None:
    for name in ("smaps_rollup", "smaps", "pagemap"):
        (process / name).write_text("")
    (process.parent / "kpageflags").write_text("")
    calls: list[str] = []
    with SmapsReader().open(process, lambda: calls.append("rollup")):
        assert calls == ["rollup"]
    with PagemapReader(KpageFlags(process.parent)).open(process, lambda: calls.append("pagemap")):
        assert calls == ["rollup", "pagemap", "pagemap"]
    with SmapsReader().now(away=True).open(process, lambda: calls.append("careful")):
        assert calls[3:] == ["careful"] * 3


def test_descriptors_are_closed_also_when_a_file_is_missing(process: Path) -> None:
    (process / "smaps").write_text("")
    (process.parent / "kpageflags").write_text("")
    reader = PagemapReader(KpageFlags(process.parent))
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(FileNotFoundError), reader.open(process):
        pass
    (process / "smaps_rollup").write_text("")
    with pytest.raises(FileNotFoundError), SmapsReader().now(away=True).open(process):
        pass
    assert len(os.listdir("/proc/self/fd")) == before


# ---- pagemap and kpageflags ----


def write_words(path: Path, words: Iterable[int]) -> None:
    path.write_bytes(b"".join(struct.pack("=Q", word) for word in words))


def read_pagemap(process: Path) -> int:
    with PagemapReader(KpageFlags(process.parent)).open(process) as opened:
        return opened.read()


def test_only_present_private_pages_with_the_flag_count(process: Path) -> None:
    entries = {
        10: PRESENT | 1,  # KSM
        11: PRESENT | 1,  # the same page again: two mappings
        12: PRESENT | 2,  # anonymous, not KSM
        13: PRESENT | SHARED | 3,  # a page of a file whose frame has the flag
        14: SWAPPED | 3,  # its number is a place in swap, not a frame
        15: 0,
        16: PRESENT | 4,  # KSM, behind a gap in the frames
        17: PRESENT | 1,  # behind the area, as 9 is before it
        9: PRESENT | 1,
    }
    write_words(process / "pagemap", (entries.get(i, 0) for i in range(20)))
    write_words(process.parent / "kpageflags", [0, KSM | ANON, ANON, KSM | ANON, KSM, 0])
    (process / "smaps").write_text(area(10, 7))
    assert read_pagemap(process) == 3


class Freed(KpageFlags):
    """By the time kpageflags is asked, frame 1 has become another process's KSM page."""

    def __init__(self, process: Path) -> None:
        super().__init__(process.parent)
        self._pagemap = process / "pagemap"

    def ksm(self, frames: Collection[int]) -> set[int]:
        """As if the page had been freed after it was listed."""
        write_words(self._pagemap, [0, PRESENT | 2])
        return super().ksm(frames)


def test_a_frame_that_was_freed_before_it_was_asked_about_does_not_count(process: Path) -> None:
    write_words(process / "pagemap", [PRESENT | 1, PRESENT | 2])
    write_words(process.parent / "kpageflags", [0, KSM, KSM])
    (process / "smaps").write_text(area(0, 2))
    with PagemapReader(Freed(process)).open(process) as opened:
        assert opened.read() == 1


@pytest.mark.parametrize("bit", [55, 56, 57], ids=["soft-dirty", "exclusive", "uffd-wp"])
def test_bits_above_the_frame_number_do_not_belong_to_it(process: Path, bit: int) -> None:
    write_words(process / "pagemap", [PRESENT | 1 << bit | 1])
    write_words(process.parent / "kpageflags", [0, KSM])
    (process / "smaps").write_text(area(0, 1))
    assert read_pagemap(process) == 1


def test_areas_without_anonymous_pages_are_not_looked_at(process: Path) -> None:
    write_words(process / "pagemap", [PRESENT | 1] * 4)
    write_words(process.parent / "kpageflags", [0, KSM])
    (process / "smaps").write_text(area(0, 2, anonymous=0) + area(2, 2))
    assert read_pagemap(process) == 2


def test_an_empty_smaps_means_that_the_mm_has_gone(process: Path) -> None:
    for path in (process / "smaps", process / "pagemap", process.parent / "kpageflags"):
        path.write_text("")
    with pytest.raises(ProcessLookupError):
        read_pagemap(process)


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 9)), max_size=12))
def test_pagemap_agrees_with_counting_one_by_one(pages: list[tuple[bool, int]]) -> None:
    flags = [KSM if frame % 3 else ANON for frame in range(10)]
    entries = [(PRESENT if present else 0) | frame for present, frame in pages]
    expected = Counter(frame for present, frame in pages if present and flags[frame] == KSM)
    with tempfile.TemporaryDirectory() as name:
        proc = Path(name)
        (proc / "smaps").write_text("")
        write_words(proc / "pagemap", entries)
        write_words(proc / "kpageflags", flags)
        with PagemapReader(KpageFlags(proc)).open(proc) as opened:
            end = len(pages) * PAGE_SIZE
            assert opened.area(0, end) == expected.total()
            assert [Counter(found) for found in opened.frames(0, end) if found] == (
                [expected] if expected else []
            )


@given(st.sets(st.integers(0, 60)))
def test_runs_are_the_numbers_again(numbers: set[int]) -> None:
    found = list(runs(sorted(numbers)))
    assert [first + i for first, count in found for i in range(count)] == sorted(numbers)
    # A run that touches the next would be two reads for one.
    assert all(a + n < b for (a, n), (b, _) in pairwise(found))


# ---- the choice of a reader ----


class OwnPages:
    """Private pages of our own, all in frame 1, and what kpageflags says of it."""

    def __init__(self, proc: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.proc = proc
        self.frames = [1, 1]
        self.flags(ANON)
        monkeypatch.setattr(page_tables, "own_frames", lambda _: nullcontext(self.frames))

    def flags(self, flags: int) -> None:
        """What kpageflags says of frame 1."""
        write_words(self.proc / "kpageflags", [0, flags])


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> OwnPages:
    """A kernel without the KSM line whose pagemap and kpageflags are right."""
    return OwnPages(tmp_path, monkeypatch)


def test_the_line_in_smaps_is_preferred(own: OwnPages) -> None:
    assert isinstance(choose_reader(own.proc, smaps_ksm=True), SmapsReader)


def test_kpageflags_is_taken_when_it_tells_the_truth(own: OwnPages) -> None:
    assert isinstance(choose_reader(own.proc, smaps_ksm=False), PagemapReader)


def test_kpageflags_that_calls_a_private_page_ksm_is_refused(own: OwnPages) -> None:
    own.flags(ANON | KSM)
    with pytest.raises(SourceError, match="marks every anonymous page as KSM"):
        choose_reader(own.proc, smaps_ksm=False)


def test_hidden_frame_numbers_are_refused(own: OwnPages) -> None:
    own.frames = [1, 0]
    with pytest.raises(SourceError, match="hides frame numbers"):
        choose_reader(own.proc, smaps_ksm=False)


def test_flags_that_do_not_know_the_page_at_all_are_refused(own: OwnPages) -> None:
    own.flags(0)
    with pytest.raises(SourceError, match="marks every anonymous page as KSM"):
        choose_reader(own.proc, smaps_ksm=False)


def test_own_frames_are_those_of_pagemap() -> None:
    """Without privilege they are 0, with it they are not; nothing else is in them."""
    with page_tables.own_frames(Path("/proc")) as found:
        assert len(found) == 8
        assert all(frame < 1 << 55 for frame in found)


def test_what_cannot_be_opened_is_named(tmp_path: Path) -> None:
    with pytest.raises(SourceError) as caught:
        choose_reader(tmp_path, smaps_ksm=False)
    assert str(caught.value) == (
        "No exact read is possible: smaps has no KSM line and "
        f"{tmp_path}/kpageflags cannot be read (No such file or directory)."
    )


# ---- areas ----


def test_areas_with_mappings_are_found_and_named() -> None:
    text = area(10, 5, ksm=10**9) + area(20, 4, ksm=0) + area(30, 6, ksm=2, flags="rd wr ac")
    assert list(parse(text.encode())) == [
        Area(10 * PAGE_SIZE, 15 * PAGE_SIZE, 10**9, mergeable=True, name="[heap]"),
        Area(30 * PAGE_SIZE, 36 * PAGE_SIZE, 2, mergeable=False, name="[heap]"),
    ]


def test_stray_areas_are_those_that_are_not_mergeable() -> None:
    text = area(10, 5, ksm=3) + area(30, 6, ksm=2, flags="rd mgx")
    assert [found.start for found in stray(parse(text.encode()))] == [30 * PAGE_SIZE]


def test_an_area_without_flags_is_not_called_mergeable() -> None:
    text = area(10, 5, ksm=3).replace("VmFlags: rd mg", "Nothing:")
    (found,) = parse(text.encode())
    assert not found.mergeable


@pytest.mark.parametrize("name", ["", "/a file with spaces (deleted)", "[anon: a name]"])
def test_names_of_areas_may_be_anything(name: str) -> None:
    text = area(10, 5, ksm=3).replace("[heap]", name)
    (found,) = parse(text.encode())
    assert found.name == name


def test_without_the_line_anonymous_areas_are_probed() -> None:
    text = area(10, 5) + area(20, 4, anonymous=0) + area(30, 6)
    probed: list[tuple[int, int]] = []

    def probe(start: int, end: int) -> int:
        probed.append((start // PAGE_SIZE, end // PAGE_SIZE))
        return 4 if start == 30 * PAGE_SIZE else 0

    assert [found.mappings for found in parse(text.encode(), probe)] == [4]
    assert probed == [(10, 15), (30, 36)]


def test_areas_are_read_by_either_reader(process: Path) -> None:
    (process / "smaps").write_text(area(1, 2, ksm=2))
    (found,) = read_areas(process, SmapsReader())
    assert found.mappings == 2
    (process / "smaps").write_text(area(1, 2))
    write_words(process / "pagemap", [0, PRESENT | 1, PRESENT | 2])
    write_words(process.parent / "kpageflags", [0, KSM, ANON])
    (found,) = read_areas(process, PagemapReader(KpageFlags(process.parent)))
    assert found.mappings == 1
