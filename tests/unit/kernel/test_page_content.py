"""Contents of pages, by frame and by address."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from ksmwatch.kernel import page_content
from ksmwatch.kernel.page_content import KcoreSource, MemSource, Pages
from ksmwatch.units import PAGE_SIZE
from tests.estimate_host import ALONE, PRESENT, content
from tests.kcores import write_ram

# ---- contents ----


def pages_at(addresses: Sequence[int], frames: Sequence[int]) -> Pages:
    """Pages at these addresses, in these frames."""
    entries = array("Q", [frame | PRESENT | ALONE for frame in frames])
    return Pages([(address, 1) for address in addresses], b"\1" * len(entries), entries)


def test_kcore_reads_frames_and_never_one_that_it_does_not_show(tmp_path: Path) -> None:
    pages = {7: content("seven"), 8: content("eight"), 40: content("forty")}
    write_ram(tmp_path, pages)
    with KcoreSource(tmp_path).open(tmp_path) as source:
        found = source.read(pages_at([0] * 5, [8, 40, 7, 9, 39]), PAGE_SIZE)
        middles = source.read(pages_at([0] * 3, [8, 9, 7]), 4, 2)
    assert found == [pages[8], pages[40], pages[7], b"", b""]
    assert middles == [pages[8][2:6], b"", pages[7][2:6]]


def test_mem_reads_addresses_and_what_cannot_be_read_is_empty(tmp_path: Path) -> None:
    (tmp_path / "mem").write_bytes(content("a") + content("b")[:100])
    with MemSource().open(tmp_path) as source:
        found = source.read(pages_at([0, PAGE_SIZE, 9 * PAGE_SIZE], [0] * 3), 200)
    assert found == [content("a")[:200], b"", b""]


@pytest.mark.parametrize("shown", [True, False])
def test_kcore_is_believed_only_if_it_shows_our_own_pages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, shown: bool
) -> None:
    write_ram(tmp_path, {7: (b"\1" if shown else b"\2").ljust(PAGE_SIZE, b"\0")})

    @contextmanager
    def own(proc: Path) -> Any:
        yield [7]

    monkeypatch.setattr(page_content, "own_frames", own)
    source, why = page_content.choose_source(tmp_path)
    assert (source.name, bool(why)) == (("kcore", False) if shown else ("mem", True))


def test_without_kcore_mem_is_read(tmp_path: Path) -> None:
    source, why = page_content.choose_source(tmp_path)
    assert source.name == "mem"
    assert why.startswith("kcore: No such file")
