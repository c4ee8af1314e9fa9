"""ksmd's switches and numbers, and the truth from smaps: read here, independently of ksmwatch."""

from __future__ import annotations

import contextlib
import mmap
import os
import time
from collections.abc import Callable
from pathlib import Path

_ROOT = Path("/sys/kernel/mm/ksm")
_SAVED = ("pages_to_scan", "sleep_millisecs", "run")
_VISIBLE_PAGES = 40
_FAST_PAGES = 2000
_SLEEP_MILLISECONDS = 20
_FORGET_SECONDS = 10.0
_KIB_PER_PAGE = mmap.PAGESIZE // 1024


def number(name: str) -> int:
    """One file of /sys/kernel/mm/ksm."""
    return int((_ROOT / name).read_text())


def books() -> int:
    """The kernel's number of KSM mappings: pages_shared + pages_sharing."""
    return number("pages_shared") + number("pages_sharing")


def truth(pid: int) -> int | None:
    """PTEs of a process that map KSM pages, from the page tables; None where not readable."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            name, _, value = line.partition(":")
            if name == "KSM":
                return int(value.split()[0]) // _KIB_PER_PAGE
    return None


def truth_readable() -> bool:
    """Whether this kernel's smaps shows KSM pages, as it does since 6.6."""
    return truth(os.getpid()) is not None


def merging_pages(pid: int) -> int | None:
    """What ksmd's books say of a process; None when it is gone or has no memory any more."""
    try:
        return int(Path(f"/proc/{pid}/ksm_merging_pages").read_text())
    except (OSError, ValueError):
        return None


class Switches:
    """Starts and stops ksmd, and puts everything back as it was found.

    Never writes 2 to `run` of its own accord: that would unmerge other people's pages.
    """

    def __init__(self, *, alone: bool) -> None:
        self._alone = alone
        self._before = {name: (_ROOT / name).read_text() for name in _SAVED}
        self._books_before = books()

    def scan(self) -> None:
        """Let ksmd scan: where only tenants are scanned, slowly enough to be watched."""
        before = int(self._before["pages_to_scan"])
        pages = _VISIBLE_PAGES if self._alone else max(_FAST_PAGES, before)
        # While an advisor controls pages_to_scan, the kernel refuses; that is good enough too.
        with contextlib.suppress(OSError):
            (_ROOT / "pages_to_scan").write_text(str(pages))
        (_ROOT / "sleep_millisecs").write_text(str(_SLEEP_MILLISECONDS))
        (_ROOT / "run").write_text("1")

    @property
    def scanning(self) -> bool:
        """Whether ksmd is at work."""
        return number("run") == 1

    def stop(self) -> None:
        """Stop ksmd. Merged pages stay merged, and the kernel's numbers do not change."""
        (_ROOT / "run").write_text("0")

    def forget(self, pause: Callable[[float], None] = time.sleep) -> None:
        """Let ksmd strike ended tenants off its books, as far as it does within some seconds."""
        self.scan()
        deadline = time.monotonic() + _FORGET_SECONDS
        while books() > self._books_before and time.monotonic() < deadline:
            pause(0.1)

    def restore(self) -> None:
        """Put the settings back as they were."""
        for name in _SAVED:
            with contextlib.suppress(OSError):
                (_ROOT / name).write_text(self._before[name])
