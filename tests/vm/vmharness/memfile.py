"""Files that exist only as long as someone has them open, so nothing is ever left behind."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator


@contextlib.contextmanager
def memory_file(name: str, data: bytes) -> Iterator[tuple[int, str]]:
    """Data as (descriptor, path); the path is good for children that inherit the descriptor."""
    fd = os.memfd_create(name)
    try:
        view = memoryview(data)
        while view:
            view = view[os.write(fd, view) :]
        yield fd, f"/proc/self/fd/{fd}"
    finally:
        os.close(fd)
