"""The memory of array maps, which the programs and the daemon share (BPF_F_MMAPABLE)."""

from __future__ import annotations

import mmap
from pathlib import Path

from ksmwatch.probes.loader import LoadedMap


def fdinfo(fd: int, name: str) -> str:
    """One line of /proc/self/fdinfo of a map."""
    lines = Path(f"/proc/self/fdinfo/{fd}").read_text(encoding="ascii").splitlines()
    return next(line.split()[1] for line in lines if line.startswith(f"{name}:"))


class Mapped:
    """The memory of an array map, as words."""

    def __init__(self, loaded: LoadedMap, count: int = 1) -> None:
        self._memory = mmap.mmap(loaded.fd, count * loaded.value_size)
        self.words = memoryview(self._memory).cast("Q")

    @property
    def data(self) -> bytes:
        """All of it, as it is now."""
        return self._memory[:]

    @data.setter
    def data(self, beginning: bytes | bytearray) -> None:
        self._memory[: len(beginning)] = bytes(beginning)

    def close(self) -> None:
        """Let go of it."""
        self.words.release()
        self._memory.close()
