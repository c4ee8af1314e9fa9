"""Which cgroups may have another memory.max than before (v2), by inotify(7).

Only a write of user space changes it. The kernel tells a write before it returns to the writer,
whatever mount of the hierarchy the writer uses. What removes the file tells of itself as well:
rmdir of the cgroup, or a write to cgroup.subtree_control of the cgroup above, with which the memory
controller comes and goes. So a cgroup and all above it are watched.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from contextlib import suppress

from ksmwatch.kernel import syscalls

# struct inotify_event: watch, mask, cookie, length of the name that follows.
_EVENT = struct.Struct("iIII")
_BUFFER_BYTES = 1 << 14
_TOLD = syscalls.IN_MODIFY | syscalls.IN_DELETE
_LIMIT, _CONTROLLERS = "memory.max", "cgroup.subtree_control"


def _events(data: bytes) -> Iterator[tuple[int, int, str]]:
    """Watch, mask, and name."""
    at = 0
    while at < len(data):
        watch, mask, _, size = _EVENT.unpack_from(data, at)
        at += _EVENT.size + size
        yield watch, mask, os.fsdecode(data[at - size : at].rstrip(b"\0"))


class LimitWatch:
    """Watches cgroups. Only one thread may use it."""

    def __init__(self, root: str) -> None:
        """`root`: where the hierarchy is mounted."""
        self._root = root
        # None if there are too many users of inotify (fs.inotify.max_user_instances).
        self._fd: int | None = None
        with suppress(OSError):
            self._fd = syscalls.open_inotify()
        self._watches: dict[str, int] = {}
        self._paths: dict[int, str] = {}

    def __len__(self) -> int:
        return len(self._watches)

    def begin(self, path: str) -> bool:
        """Watch a cgroup from now on; False if that is not possible."""
        if path in self._watches:
            return True
        # Above first: then it is told if the path becomes another cgroup's in between.
        if self._fd is None or (path and not self.begin(path.rpartition("/")[0])):
            return False
        try:
            watch = syscalls.add_watch(self._fd, f"{self._root}{path}", _TOLD)
        except OSError:
            return False
        self._watches[path], self._paths[watch] = watch, path
        return True

    def changed(self) -> set[str] | None:
        """Cgroups that are to be looked at again, or have gone; None: all are."""
        found: set[str] = set()
        while data := self._told():
            for watch, mask, name in _events(data):
                if mask & syscalls.IN_Q_OVERFLOW:
                    return None
                path = self._paths.get(watch)
                if path is None:
                    # It is no longer watched.
                    continue
                if mask & syscalls.IN_DELETE:
                    child = f"{path}/{name}"
                    # All above a cgroup are watched as well.
                    gone = self._at_or_below(child) if child in self._watches else set()
                    self._end(gone)
                    found |= gone
                elif name == _LIMIT:
                    found.add(path)
                elif name == _CONTROLLERS:
                    found |= self._at_or_below(path)
        return found

    def _told(self) -> bytes:
        try:
            return b"" if self._fd is None else os.read(self._fd, _BUFFER_BYTES)
        except BlockingIOError:
            return b""

    def _at_or_below(self, path: str) -> set[str]:
        return {each for each in self._watches if f"{each}/".startswith(f"{path}/")}

    def _end(self, paths: set[str]) -> None:
        assert self._fd is not None
        for path in paths:
            watch = self._watches.pop(path)
            del self._paths[watch]
            syscalls.remove_watch(self._fd, watch)

    def close(self) -> None:
        """Watch nothing any longer."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

    def __del__(self) -> None:
        self.close()
