"""A page of this process that the kernel copies on demand, for what `learn_copy` is to see."""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterator
from contextlib import contextmanager

# This thread may make other calls in between, for memory that it frees.
ATTEMPTS = 5


@contextmanager
def private_page() -> Iterator[mmap.mmap]:
    """Map a page of a file privately: a read brings it in, and a write then copies it."""
    fd = os.memfd_create("ksmwatch-copy")
    try:
        os.truncate(fd, mmap.PAGESIZE)
        with mmap.mmap(fd, mmap.PAGESIZE, flags=mmap.MAP_PRIVATE) as page:
            yield page
    finally:
        os.close(fd)
