"""What a user without better tools writes: the sum of smaps_rollup over all processes.

One round for each line on standard input; prints the pages and the CPU seconds that it took.
"""

from __future__ import annotations

import mmap
import re
import sys
import time
from pathlib import Path

_KSM = re.compile(rb"^KSM: +(\d+) kB$", re.MULTILINE)


def poll() -> int:
    """KSM PTEs of the host, in pages."""
    pages = 0
    for directory in Path("/proc").iterdir():
        if directory.name.isdigit():
            try:
                found = _KSM.search((directory / "smaps_rollup").read_bytes())
            except OSError:
                continue
            pages += int(found[1]) * 1024 // mmap.PAGESIZE if found else 0
    return pages


def main() -> None:
    """Until the end of input."""
    for _ in sys.stdin:
        began = time.process_time()
        pages = poll()
        print(pages, time.process_time() - began, flush=True)


if __name__ == "__main__":
    main()
