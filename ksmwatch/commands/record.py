"""``ksmwatch record``: a host's facts and source files in the format of the test fixtures.

It creates a new directory with ``facts.json`` and, below ``root/``, the files at their own paths.
Fixture tests read it with the code that reads a live host, so a bug report becomes a test.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

from ksmwatch.errors import SourceError
from ksmwatch.kernel import procfs
from ksmwatch.kernel.read_facts import read_facts

_FILES = ("proc/meminfo", "proc/vmstat", "proc/version", "proc/self/status")
_PROCESS_FILES = (
    "comm",
    "stat",
    "status",
    "cgroup",
    "cmdline",
    "ksm_stat",
    "ksm_merging_pages",
    "smaps_rollup",
)


def _copy(source: Path, target: Path) -> bool:
    """Copy one pseudo file; False if it is gone, denied or missing."""
    try:
        data = source.read_bytes()
    except OSError:
        return False
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(data)
    return True


def record(directory: Path, root: Path = Path("/")) -> int:
    """Record this host; returns the number of files. Raises SourceError if it cannot write.

    It records only processes that ksmd knows, because command lines can hold secrets.
    """
    try:
        # In another user's directory, links could lead us anywhere (CWE-59).
        directory.mkdir(mode=0o700, parents=True)
        # By its descriptor: a user who may write to its parent can rename it meanwhile.
        opened = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            return _record(Path(f"/proc/self/fd/{opened}"), root)
        finally:
            os.close(opened)
    except OSError as error:
        raise SourceError(f"{directory} cannot be written: {error.strerror}.") from error


def _record(directory: Path, root: Path) -> int:
    facts = json.dumps(read_facts(root).to_json(), indent=1, sort_keys=True)
    (directory / "facts.json").write_text(facts + "\n")
    target = directory / "root"
    copied = sum(_copy(root / name, target / name) for name in _FILES)
    for path in sorted((root / "sys/kernel/mm/ksm").glob("*")):
        copied += _copy(path, target / path.relative_to(root))
    for pid in procfs.pids(root / "proc"):
        copied += _record_process(root, target, pid)
    return copied + 1


def _record_process(root: Path, target: Path, pid: int) -> int:
    directory = root / "proc" / str(pid)
    try:
        user = procfs.read_ksm_stat(directory).user
    except (OSError, ValueError):
        return 0
    if not user:
        return 0
    names = [directory / name for name in _PROCESS_FILES]
    return sum(_copy(path, target / path.relative_to(root)) for path in names)
