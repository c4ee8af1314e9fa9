"""Which processes are in a cgroup (v2): one file for all of them, instead of one for each."""

from __future__ import annotations

from pathlib import Path

from ksmwatch.kernel import procfs

_NOBODY: frozenset[int] = frozenset()


class CgroupMembers:
    """Lists cgroups by the text of /proc/PID/cgroup.

    Only if the mounted hierarchy is the one that /proc speaks of: this process must be listed where
    /proc says that it is. In a container it may be another one.
    """

    def __init__(self, proc: Path) -> None:
        self._mount = proc.parent / "sys/fs/cgroup"
        self._usable = True
        try:
            own = int((proc / "self").readlink().name)
            self._usable = own in self.of(procfs.read_cgroup(proc / "self"))
        except (OSError, ValueError):
            self._usable = False

    def of(self, cgroup: bytes) -> frozenset[int]:
        """The processes that certainly are in it. Nobody if it cannot be listed."""
        path = procfs.unified_path(cgroup)
        # With other hierarchies beside it, a process may move in one of those.
        if not self._usable or path is None or not procfs.unified_alone(cgroup):
            return _NOBODY
        try:
            with (self._mount / path.lstrip("/") / "cgroup.procs").open("rb", buffering=0) as file:
                # The kernel gives it page by page.
                return frozenset(map(int, file.readall().split()))
        except (OSError, ValueError):
            return _NOBODY
