"""Where maps, programs and attachments outlive the daemon: kill -9, crash, restart.

Everything is kept by name (``map-accounts``, ``prog-on_fork``, ``link-on_fork``), as
descriptors that keep the kernel's objects alive. Here: pins below a BPF file system.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from typing import Protocol

from ksmwatch import libbpf


class Keep(Protocol):
    """A place for descriptors. `works` is False where nothing is kept."""

    works: bool

    def load(self) -> dict[str, int]:
        """Descriptors by name, as a daemon before us left them. The caller owns them."""

    def store(self, name: str, fd: int) -> None:
        """Keep one. Raises OSError."""

    def drop(self, name: str) -> None:
        """Forget one, if it is there."""

    def clear(self) -> None:
        """Forget all."""


class Nowhere:
    """Keeps nothing: everything is detached when the daemon ends, however it ends."""

    works = False

    def load(self) -> dict[str, int]:
        """Nothing."""
        return {}

    def store(self, name: str, fd: int) -> None:
        """Not kept."""

    def drop(self, name: str) -> None:
        """Not kept."""

    def clear(self) -> None:
        """Nothing is there."""


class Pins:
    """Pins in a directory of a BPF file system, used by one daemon at a time."""

    works = True

    def __init__(self, directory: Path) -> None:
        """Raises OSError: no BPF file system, not allowed, or (EWOULDBLOCK) in use."""
        directory.mkdir(mode=0o700, exist_ok=True)
        self._directory = directory
        self._lock = os.open(directory, os.O_RDONLY | os.O_CLOEXEC)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(self._lock)
            raise

    def load(self) -> dict[str, int]:
        """Open every pin."""
        return {path.name: libbpf.obj_get(str(path)) for path in sorted(self._directory.iterdir())}

    def store(self, name: str, fd: int) -> None:
        """Pin one, in place of an earlier one of this name."""
        self.drop(name)
        libbpf.obj_pin(fd, str(self._directory / name))

    def drop(self, name: str) -> None:
        """Remove a pin; the object goes with its last descriptor."""
        (self._directory / name).unlink(missing_ok=True)

    def clear(self) -> None:
        """Remove all pins, attachments first: so no program runs without its maps' owner."""
        for path in sorted(self._directory.iterdir(), key=lambda p: not p.name.startswith("link")):
            path.unlink()
