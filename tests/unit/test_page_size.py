"""With pages of any size, all numbers fit together: pages, kB and bytes."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ksmwatch.commands.meminfo import with_ksm
from ksmwatch.diagnose.anonymous_areas import anonymous_areas
from ksmwatch.diagnose.read_evidence import read_process
from ksmwatch.export.samples import Series
from ksmwatch.kernel.areas import parse as parse_areas
from ksmwatch.kernel.page_tables import SmapsReader
from ksmwatch.snapshot.document import to_document
from ksmwatch.snapshot.model import Snapshot
from ksmwatch.top import scrape
from tests.exposed import exposed
from tests.fakes import Proc
from tests.made_up import numbers, process, snapshot

# Those of x86-64 and arm64.
sizes = st.sampled_from((4096, 16384, 65536))
pages = st.integers(0, 1 << 34)
some = st.integers(1, 1 << 20)


@contextmanager
def pages_of(size: int) -> Iterator[None]:
    """Every module of ksmwatch believes that a page has this many bytes."""
    changed = {"PAGE_SIZE": size, "PAGE_KB": size // 1024}
    with pytest.MonkeyPatch.context() as patch:
        ours = [each for name, each in sys.modules.items() if name.startswith("ksmwatch.")]
        for module in ours:
            for constant in changed.keys() & vars(module).keys():
                patch.setattr(module, constant, changed[constant])
        yield


def host(mappings: int, shared: int) -> Snapshot:
    """With one process."""
    ksm = {**(numbers().ksm or {}), "pages_shared": shared}
    return snapshot(
        processes=(process(mappings=mappings, stray=(), zero_pages=0),), numbers=numbers(ksm=ksm)
    )


@settings(max_examples=30, deadline=None)
@given(sizes, pages, pages)
def test_bytes_of_the_document_are_pages(size: int, mappings: int, shared: int) -> None:
    with pages_of(size):
        document = to_document(host(mappings, shared))
    found, owner = document["host"], document["owners"][0]
    assert document["page_size"] == size
    assert found["bytes"] == owner["bytes"] == mappings * size
    for each in (found, owner):
        unmerge = each["unmerge"]
        for number in (each["saved_bytes"], each["saved_at_most_bytes"]):
            assert number % size == 0
        assert unmerge["at_most_bytes"] == mappings * size
        assert unmerge["at_least_bytes"] == max(0, mappings - shared) * size


@settings(max_examples=30, deadline=None)
@given(sizes, pages, pages)
def test_a_scrape_is_the_document(size: int, mappings: int, shared: int) -> None:
    with pages_of(size):
        made = host(mappings, shared)
        document = to_document(made)
        text = exposed(made, Series(50, processes=True))
    # Read on another machine, whose pages have another size.
    seen = scrape.parse(text, "http://host")
    assert seen["page_size"] == size
    for key in ("mappings", "bytes", "saved_bytes", "saved_at_most_bytes"):
        assert seen["host"][key] == document["host"][key]


@settings(max_examples=30, deadline=None)
@given(sizes, some, some)
def test_kilobytes_of_smaps_are_pages(
    tmp_path_factory: pytest.TempPathFactory, size: int, merged: int, private: int
) -> None:
    kilobyte = size // 1024
    proc = Proc(tmp_path_factory.mktemp("proc"))
    directory = proc.process(7, merging=merged)
    (directory / "smaps_rollup").write_text(f"Rss: 9 kB\nKSM: {merged * kilobyte:8} kB\n")
    smaps = (
        f"100000-200000 rw-p 0 00:00 0\nRss: {private * kilobyte} kB\n"
        f"Anonymous: {private * kilobyte} kB\nKSM: {merged * kilobyte} kB\n"
        f"Swap: {merged * kilobyte} kB\nVmFlags: rd mg\n"
    )
    (directory / "smaps").write_text(smaps)
    (directory / "status").write_text("")
    with pages_of(size):
        with SmapsReader().open(directory) as opened:
            assert opened.read() == merged
        (area,) = parse_areas(smaps.encode())
        assert area.mappings == merged
        left_out: Counter[str] = Counter()
        list(anonymous_areas(smaps.encode(), (6, 12), left_out))
        assert left_out["swapped"] == merged
        memory = read_process(proc.path, 7).memory
        assert (memory.offered, memory.merged) == (private * kilobyte, merged * kilobyte)


@settings(max_examples=30, deadline=None)
@given(sizes, some)
def test_the_line_of_meminfo_is_in_kilobytes(size: int, mappings: int) -> None:
    line = with_ksm("AnonPages: 1 kB\n", mappings, size).splitlines()[-1]
    assert line.split()[1:] == [str(mappings * size // 1024), "kB"]
