"""Where the root of our own cgroup name space is in the host's hierarchy (v2).

In a container the kernel shows cgroups as seen from our own: ours is `/`, that of pid 1 on the host
`/../../../../init.scope`. How many levels up the host's root is, is seen there. What these are
called is seen only where the host's own mount can be looked at: by way of pid 1, with
CAP_SYS_PTRACE, or because somebody has mounted it for us.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

_CGROUP = "sys/fs/cgroup"
# Directories that are looked at: a host has some thousand.
_MOST = 50_000


def read_top(proc: Path) -> str | None:
    """The path of our name space's root; None if it is the host's, or cannot be found out."""
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
    """The directory so deep below a mount in which, or below which, this process is."""
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
    """Directories that are so many levels down."""
    if not depth:
        yield directory
        return
    with os.scandir(directory) as entries:
        names = [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]
    for name in names:
        try:
            yield from _at(directory / name, depth - 1)
        except FileNotFoundError:
            # Removed meanwhile.
            continue


def _unified(path: Path) -> str | None:
    """The path in the unified hierarchy that is in a file like /proc/PID/cgroup."""
    try:
        lines = path.read_text(errors="surrogateescape").splitlines()
    except OSError:
        return None
    return next((line[3:] for line in lines if line.startswith("0::/")), None)
