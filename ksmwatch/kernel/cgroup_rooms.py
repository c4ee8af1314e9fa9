"""How much memory cgroups may still take (v2)."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from ksmwatch.kernel.kept_file import KeptFile

# Files of at most this many cgroups stay open. A process has 1,024 descriptors by default.
_KEPT = 100


class CgroupRooms:
    """Bytes left in cgroups with a limit. Files stay open. Only one thread may use it."""

    def __init__(self, sys: Path) -> None:
        self._root = f"{sys}/fs/cgroup"
        self._files: dict[str, tuple[KeptFile, KeptFile]] = {}

    def read(self, paths: Iterable[str]) -> dict[str, int]:
        """memory.max minus memory.current; negative in a cgroup that is over its limit.

        Without those that have no limit (also: no memory controller), or cannot be read.
        """
        before, self._files = self._files, {}
        found = {}
        for path in paths:
            files = before.get(path) or self._of(path)
            if (room := _room(*files)) is not None:
                found[path] = room
            if len(self._files) < _KEPT:
                self._files[path] = files
        return found

    def _of(self, path: str) -> tuple[KeptFile, KeptFile]:
        directory = f"{self._root}/{path.lstrip('/')}"
        return KeptFile(f"{directory}/memory.max"), KeptFile(f"{directory}/memory.current")


def _room(limit: KeptFile, current: KeptFile) -> int | None:
    try:
        most = limit.read()
        return None if most.strip() == b"max" else int(most) - int(current.read())
    except (OSError, ValueError):
        return None
