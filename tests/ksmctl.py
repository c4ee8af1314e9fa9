"""KSM's switches, for tests: fast scans, known states, everything restored at the end."""

from __future__ import annotations

from pathlib import Path
from typing import Self

from tests.children import Ending
from tests.waiting import wait_until

_DIRECTORY = Path("/sys/kernel/mm/ksm")
_SCAN_SECONDS = 480
_QUICK = {"pages_to_scan": 5000, "sleep_millisecs": 2}


class Ksm(Ending):
    """Quick, stopped and with nothing merged, inside and after the context."""

    def __init__(self, **settings: int) -> None:
        """Settings of ksmd that replace the fast ones."""
        self._settings = _QUICK | settings

    def __enter__(self) -> Self:
        self._saved = {name: self.read(name) for name in self._settings}
        # Some settings can only be changed while nothing is merged.
        self.unmerge()
        for name, value in self._settings.items():
            self.write(name, value)
        return self

    def end(self) -> None:
        self.unmerge()
        self.write("run", 0)
        for name, value in self._saved.items():
            self.write(name, value)

    @staticmethod
    def read(name: str) -> int:
        """A file of /sys/kernel/mm/ksm."""
        return int((_DIRECTORY / name).read_text())

    @staticmethod
    def write(name: str, value: int) -> None:
        """Set a file of /sys/kernel/mm/ksm."""
        (_DIRECTORY / name).write_text(str(value))

    @staticmethod
    def has(name: str) -> bool:
        """Whether this kernel has the file."""
        return (_DIRECTORY / name).exists()

    def start(self) -> None:
        """Let ksmd scan."""
        self.write("run", 1)

    def stop(self) -> None:
        """Stop ksmd; when the write returns its batch is over, as it holds the same mutex."""
        self.write("run", 0)

    def unmerge(self) -> None:
        """Unmerge everything; when the write returns it is done."""
        self.write("run", 2)

    def merge_all(self, *, stop: bool = True, scans: int = 4) -> None:
        """Let ksmd go round until all that can merge has merged.

        A page is merged when it has not changed since the round before, so three whole rounds
        after the current one do.
        """
        self.start()
        target = self.read("full_scans") + scans
        wait_until(
            lambda: self.read("full_scans") >= target,
            lambda: f"ksmd is at scan {self.read('full_scans')} of {target}",
            seconds=_SCAN_SECONDS,
            every=0.02,
        )
        if stop:
            self.stop()
