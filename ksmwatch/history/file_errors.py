"""Why the history could not be written, and what is done with a damaged file."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from ksmwatch.history.store import FILE_NAME, BusyError, DamagedError
from ksmwatch.snapshot.history_state import Unwritten

# Where a damaged file goes. An earlier one is overwritten.
DAMAGED_NAME = f"{FILE_NAME}.damaged"
_BESIDE = ("-wal", "-shm", "-journal")
_ERRNOS = {
    errno.ENOSPC: Unwritten.FULL,
    errno.EDQUOT: Unwritten.FULL,
    errno.EROFS: Unwritten.READ_ONLY,
    errno.EACCES: Unwritten.DENIED,
    errno.EPERM: Unwritten.DENIED,
}
# SQLite's names of errors begin with these.
_CODES = {
    "SQLITE_FULL": Unwritten.FULL,
    "SQLITE_READONLY": Unwritten.READ_ONLY,
    "SQLITE_CORRUPT": Unwritten.DAMAGED,
    "SQLITE_NOTADB": Unwritten.DAMAGED,
    "SQLITE_BUSY": Unwritten.BUSY,
    "SQLITE_LOCKED": Unwritten.BUSY,
}


def state_directory(environment: Mapping[str, str]) -> Path | None:
    """The directory that systemd has made for the history, see deploy/systemd."""
    paths = environment.get("STATE_DIRECTORY", "").split(":")
    return next((p for p in map(Path, paths) if p.parts[-2:] == ("ksmwatch", "history")), None)


def reason_of(error: Exception, directory: Path) -> Unwritten:
    """Why something could not be written there."""
    if isinstance(error, DamagedError):
        return Unwritten.DAMAGED
    if isinstance(error, BusyError):
        return Unwritten.BUSY
    if isinstance(error, OSError):
        known = _ERRNOS.get(error.errno or 0)
    else:
        name = getattr(error, "sqlite_errorname", "")
        known = next((why for code, why in _CODES.items() if name.startswith(code)), None)
    return known or _state_of(directory)


def _state_of(directory: Path) -> Unwritten:
    """SQLite calls much an I/O error; the file system may tell more."""
    with suppress(OSError):
        found = os.statvfs(directory)
        if found.f_flag & os.ST_RDONLY:
            return Unwritten.READ_ONLY
        if not found.f_bavail:
            return Unwritten.FULL
    return Unwritten.OTHER


def prepare(directory: Path, group: int | None) -> None:
    """Make the directory, readable for those who may use the socket. Raises OSError."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = directory.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
        raise PermissionError(errno.EPERM, "It is not a directory of the daemon's user")
    if group is not None and found.st_gid != group:
        os.chown(directory, -1, group)
    mode = 0o700
    if group is not None:
        # Where the group is not ours anyway, new files get the directory's.
        mode = 0o750 if group == os.getegid() else 0o2750
    if stat.S_IMODE(found.st_mode) != mode or found.st_gid != group:
        directory.chmod(mode)


def prepare_file(path: Path, *, readable: bool) -> None:
    """Make the file, with the mode that SQLite gives the files beside it. Raises OSError."""
    path.touch()
    path.chmod(0o640 if readable else 0o600)


def move_aside(path: Path) -> None:
    """Make room for a new file."""
    with suppress(OSError):
        path.replace(path.with_name(DAMAGED_NAME))
    for suffix in _BESIDE:
        path.with_name(path.name + suffix).unlink(missing_ok=True)
