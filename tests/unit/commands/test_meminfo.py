"""The line of 2011 in /proc/meminfo."""

from __future__ import annotations

import pytest

from ksmwatch.commands import meminfo
from ksmwatch.units import PAGE_SIZE

MEMINFO = """\
MemTotal:        2048000 kB
PageTables:         1234 kB
SecPageTables:         0 kB
Hugepagesize:       2048 kB
"""


@pytest.mark.parametrize("pages", [0, 1, 25_000, 1 << 31])
def test_meminfo_has_ksmsharing_right_after_pagetables(pages: int) -> None:
    lines = meminfo.with_ksm(MEMINFO, pages, PAGE_SIZE).splitlines()
    before = MEMINFO.splitlines()
    # The format of the patch: "KsmSharing:     %8lu kB\n"
    assert lines[2] == "KsmSharing:     %8lu kB" % (pages * PAGE_SIZE // 1024)  # noqa: UP031
    assert lines[:2] + lines[3:] == before


def test_meminfo_line_to_the_letter() -> None:
    assert "KsmSharing:         4096 kB" in meminfo.with_ksm(MEMINFO, 1024, 4096).splitlines()


def test_meminfo_without_pagetables_has_it_at_the_end() -> None:
    lines = meminfo.with_ksm("MemTotal: 1 kB\nMemFree: 1 kB\n", 1, 4096).splitlines()
    assert lines == ["MemTotal: 1 kB", "MemFree: 1 kB", "KsmSharing:            4 kB"]
