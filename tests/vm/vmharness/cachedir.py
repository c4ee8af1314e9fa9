"""Where downloads are kept, and how processes agree on which of them fills a cache entry."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path


def cache_root() -> Path:
    """The project's cache directory (created on demand by its users)."""
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base.absolute() / "ksmwatch"


@contextlib.contextmanager
def locked(entry: Path) -> Iterator[None]:
    """Hold the lock of one cache entry; the loser waits and then finds it filled."""
    entry.parent.mkdir(parents=True, exist_ok=True)
    with (entry.parent / f".{entry.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def filled_atomically(entry: Path) -> Iterator[Path]:
    """Give a scratch directory that becomes `entry` by one rename if the body succeeds.

    Call it with the entry's lock held: scratch directories that an earlier, killed process
    left behind are then known to be nobody's, and go.
    """
    for stale in entry.parent.glob(f".{entry.name}.part-*"):
        shutil.rmtree(stale, ignore_errors=True)
    scratch = Path(tempfile.mkdtemp(prefix=f".{entry.name}.part-", dir=entry.parent))
    try:
        scratch.chmod(0o755)  # mkdtemp is stricter
        yield scratch
        if entry.exists():
            shutil.rmtree(entry)
        scratch.rename(entry)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def say(text: str) -> None:
    """Progress for the user at the terminal; stdout belongs to the command."""
    print(f"vm: {text}", file=sys.stderr, flush=True)
