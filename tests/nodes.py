"""Moving chosen pages to another node of memory, by move_pages(2)."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Sequence

# libc does not offer the system call.
_MOVE_PAGES = {"x86_64": 279, "aarch64": 239}
# Pages that several processes map, too.
_MOVE_ALL = 1 << 2


def move_pages(pid: int, addresses: Sequence[int], node: int) -> None:
    """Move the pages at these addresses, for all who map them. No other page moves."""
    number = len(addresses)
    # The node of each page, or an error, is stored here.
    found = (ctypes.c_int * number)()
    libc = ctypes.CDLL(None, use_errno=True)
    failed = libc.syscall(
        ctypes.c_long(_MOVE_PAGES[os.uname().machine]),
        ctypes.c_long(pid),
        ctypes.c_ulong(number),
        (ctypes.c_void_p * number)(*addresses),
        (ctypes.c_int * number)(*[node] * number),
        found,
        ctypes.c_long(_MOVE_ALL),
    )
    if failed < 0:
        raise OSError(ctypes.get_errno(), f"move_pages of {pid} to node {node}")
    if {*found} != {node}:
        raise OSError(f"not all pages of {pid} came to node {node}: {[*found]}")
