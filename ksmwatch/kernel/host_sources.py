"""Reads the kernel's own numbers about KSM, again and again."""

from __future__ import annotations

from pathlib import Path

from ksmwatch.kernel import procfs
from ksmwatch.kernel.kept_file import KeptFile
from ksmwatch.kernel.kernel_numbers import KernelNumbers
from ksmwatch.kernel.procfs import Ksmd

VMSTAT = ("cow_ksm", "ksm_swpin_copy")


class HostSources:
    """Every host source. Files stay open. Only one thread may use it."""

    def __init__(self, proc: Path, sys: Path, ksmd: Ksmd | None = None) -> None:
        """`ksmd`: whose CPU time is read, too."""
        self._sys = sys
        self._ksmd = ksmd
        # Those of /sys/kernel/mm/ksm by name; None until KSM is there.
        self._ksm: dict[str, KeptFile] | None = None
        self._meminfo = KeptFile(str(proc / "meminfo"))
        self._vmstat = KeptFile(str(proc / "vmstat"))

    def read(self) -> KernelNumbers:
        """Read every source once."""
        failures: list[str] = []
        ksm = self._read_ksm(failures)
        meminfo = procfs.parse_pairs(self._text(self._meminfo, failures))
        # It has two hundred lines.
        vmstat = procfs.find_pairs(self._text(self._vmstat, failures), VMSTAT)
        cpu = None if self._ksmd is None else self._ksmd.cpu_seconds()
        return KernelNumbers(ksm, meminfo, vmstat, tuple(failures), cpu)

    def _read_ksm(self, failures: list[str]) -> dict[str, int] | None:
        """Numbers of /sys/kernel/mm/ksm by file name; None on a kernel without KSM."""
        if self._ksm is None:
            # The kernel makes them all at once.
            self._ksm = procfs.ksm_files(self._sys)
        if self._ksm is None:
            return None
        numbers, unreadable = procfs.read_ksm_files(self._ksm)
        failures += unreadable
        return numbers

    @staticmethod
    def _text(file: KeptFile, failures: list[str]) -> str:
        try:
            return file.read().decode()
        except (OSError, UnicodeDecodeError):
            failures.append(file.path)
            return ""
