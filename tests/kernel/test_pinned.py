"""`ksmwatch why` of memory that io_uring has pinned."""

from __future__ import annotations

import re
from pathlib import Path

from tests.kernel.asking import why
from tests.kernel.memory import PAGE_KB
from tests.ksmctl import Ksm
from tests.workload import Workload

PAGES = 3001
# Whom a limit holds is accounted for by every kernel; root is not any more by 7.3.
LIMITED = ("prlimit", f"--memlock={PAGES * 8192}", "setpriv", "--bounding-set=-ipc_lock")


def test_pinned_memory_is_named(ksm: Ksm) -> None:
    with Workload() as load:
        pinned = load.spawn("pinned", LIMITED)
        pinned.map("heap", PAGES)
        pinned.fill("heap", 0, PAGES, seed=1)
        pinned.tell("pin", "heap", 0, PAGES)
        pinned.madvise("heap", 0, PAGES, "mergeable")
        status = Path(f"/proc/{pinned.pid}/status").read_text()
        (kilobytes,) = map(int, re.findall(r"^VmPin:\s+(\d+) kB$", status, re.MULTILINE))
        assert kilobytes == PAGES * PAGE_KB
        ksm.merge_all(stop=False)
        assert why(pinned.pid)[0] == "pinned"
