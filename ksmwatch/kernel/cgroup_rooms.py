"""How much memory cgroups may still take (v2)."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from ksmwatch.kernel.kept_file import KeptFile
from ksmwatch.kernel.limit_watch import LimitWatch
from ksmwatch.kernel.procfs import read_file, read_number

# memory.current of at most this many cgroups stays open. A process has 1,024 descriptors by
# default.
_KEPT = 100
# So many cgroups may be watched although nobody asks for them any more.
_SPARE = 1000


class CgroupRooms:
    """Bytes left in cgroups with a limit. Only one thread may use it.

    A limit is read again only if it may be another one. What is used changes without a sign.
    """

    def __init__(self, sys: Path) -> None:
        self._root = f"{sys}/fs/cgroup"
        self._watch = LimitWatch(self._root)
        # Of cgroups that are watched; None: there is no limit.
        self._limits: dict[str, int | None] = {}
        self._currents: dict[str, KeptFile] = {}

    def read(self, paths: Iterable[str]) -> dict[str, int]:
        """memory.max minus memory.current; negative in a cgroup that is over its limit.

        Without those that have no limit (also: no memory controller), or cannot be read.
        """
        self._forget(self._watch.changed())
        before, self._currents = self._currents, {}
        limits, found, wanted = self._limits, {}, 0
        for path in paths:
            wanted += 1
            limit = limits[path] if path in limits else self._read(path)
            if limit is None:
                continue
            current = before.get(path) or KeptFile(f"{self._root}{path}/memory.current")
            if (used := read_number(current.read)) is not None:
                found[path] = limit - used
            if len(self._currents) < _KEPT:
                self._currents[path] = current
        if len(self._watch) > 2 * wanted + _SPARE:
            self._forget(None)
        return found

    def _forget(self, paths: set[str] | None) -> None:
        """These may have other limits; None: all may, and they are watched anew."""
        if paths is None:
            self._watch.close()
            self._watch = LimitWatch(self._root)
            self._limits.clear()
            return
        for path in paths:
            self._limits.pop(path, None)

    def _read(self, path: str) -> int | None:
        # Before it is read: what changes meanwhile is told.
        watched = self._watch.begin(path)
        limit = read_number(lambda: read_file(f"{self._root}{path}/memory.max"))
        if watched:
            self._limits[path] = limit
        return limit
