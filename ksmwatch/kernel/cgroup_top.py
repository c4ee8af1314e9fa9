"""The place of our cgroup name space in the host's hierarchy (v2).

In a container the kernel shows cgroups relative to our own: ours is `/`, that of pid 1 on the host
`/../../../../init.scope`. This shows how many levels up the host's root is. Their names are visible
only through the host's own mount: by way of pid 1, with CAP_SYS_PTRACE, or if the mount is shared
with us.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

_CGROUP = "sys/fs/cgroup"
# The most directories to look at: a host has some thousand.
_MOST = 50_000


def read_top(proc: Path) -> str | None:
    """The path of our name space's root; None if it is the host's, or cannot be found."""
    own, first = (_unified(proc / name / "cgroup") for name in ("self", "1"))
    if own is None or first is None or not first.startswith("/.."):
        return None
    depth = first.split("/").count("..")
    for mount in (proc / "1/root" / _CGROUP, proc.parent / _CGROUP):
        try:
            found = _find(mount, depth, own.strip("/"))
        except OSError:
            continue
        if found is not None:
            return found
    return None


def _find(mount: Path, depth: int, below: str) -> str | None:
    """The directory this deep below a mount in which, or below which, this process is."""
    for seen, directory in enumerate(_at(mount, depth)):
        if seen > _MOST:
            return None
        try:
            members = (directory / below / "cgroup.procs").read_text().split()
        except OSError:
            continue
        if str(os.getpid()) in members:
            return f"/{directory.relative_to(mount)}"
    return None


def _at(directory: Path, depth: int) -> Iterator[Path]:
    """Directories this many levels down."""
    if not depth:
        yield directory
        return
    with os.scandir(directory) as entries:
        names = [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]
    for name in names:
        try:
            yield from _at(directory / name, depth - 1)
        except FileNotFoundError:
            # It was removed meanwhile.
            continue


def _unified(path: Path) -> str | None:
    """The path in the unified hierarchy from a file like /proc/PID/cgroup."""
    try:
        lines = path.read_text(errors="surrogateescape").splitlines()
    except OSError:
        return None
    return next((line[3:] for line in lines if line.startswith("0::/")), None)
