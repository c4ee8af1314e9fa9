"""A file of the kernel that is read again and again: kept open, and read by pread().

Such a file is made anew for each reading from its beginning. To open it costs more than to read it.
"""

from __future__ import annotations

import errno
import os

_PIECE = 1 << 14


class KeptFile:
    """One file. Closed with the last reference to it."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._fd = -1

    def read(self) -> bytes:
        """All of it, as it is now. Raises OSError."""
        if self._fd >= 0:
            try:
                return self._read()
            except OSError as error:
                self.close()
                # It was removed, and there may be another one at its path (ENODEV: a cgroup's).
                if error.errno not in (errno.ENODEV, errno.ESRCH):
                    raise
        self._fd = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        return self._read()

    def _read(self) -> bytes:
        data = os.pread(self._fd, _PIECE, 0)
        if len(data) < _PIECE:
            return data
        pieces = [data]
        while data:
            data = os.pread(self._fd, _PIECE, sum(map(len, pieces)))
            pieces.append(data)
        return b"".join(pieces)

    def close(self) -> None:
        """Close it until the next reading."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def __del__(self) -> None:
        self.close()
