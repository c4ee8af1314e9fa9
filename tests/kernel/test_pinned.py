"""`ksmwatch why` of memory that io_uring has pinned, as far as the kernel accounts for that."""

from __future__ import annotations

import os
import re
from pathlib import Path

from tests.kernel.test_why import PAGES, why
from tests.ksmctl import Ksm
from tests.workload import Workload


def test_pinned_memory_is_named_where_the_kernel_accounts_for_it(ksm: Ksm) -> None:
    with Workload() as load:
        pinned = load.spawn("pinned")
        pinned.map("heap", PAGES)
        pinned.fill("heap", 0, PAGES, seed=1)
        pinned.tell("pin", "heap", 0, PAGES)
        pinned.madvise("heap", 0, PAGES, "mergeable")
        status = Path(f"/proc/{pinned.pid}/status").read_text()
        (kilobytes,) = map(int, re.findall(r"^VmPin:\s+(\d+) kB$", status, re.MULTILINE))
        # Of root 7.3 counts nothing: there it looks like any memory that equals no other.
        accounted = int(os.uname().release.partition(".")[0]) < 7
        assert kilobytes == (PAGES * 4 if accounted else 0)
        ksm.merge_all(stop=False)
        assert why(pinned.pid)[0] == ("pinned" if accounted else "unique")
