"""Moving chosen pages to another node of memory, and asking where they are, by move_pages(2)."""

from __future__ import annotations

import ctypes
import os
from collections import Counter
from collections.abc import Sequence

# libc does not offer the system call.
_MOVE_PAGES = {"x86_64": 279, "aarch64": 239}
# Pages that several processes map, too.
_MOVE_ALL = 1 << 2


def _call(pid: int, addresses: Sequence[int], node: int | None) -> list[int]:
    """The node of each page, or an error. `node`: where to; None: they stay."""
    number = len(addresses)
    found = (ctypes.c_int * number)()
    libc = ctypes.CDLL(None, use_errno=True)
    failed = libc.syscall(
        ctypes.c_long(_MOVE_PAGES[os.uname().machine]),
        ctypes.c_long(pid),
        ctypes.c_ulong(number),
        (ctypes.c_void_p * number)(*addresses),
        None if node is None else (ctypes.c_int * number)(*[node] * number),
        found,
        ctypes.c_long(0 if node is None else _MOVE_ALL),
    )
    if failed < 0:
        raise OSError(ctypes.get_errno(), f"move_pages of {pid} to node {node}")
    return [*found]


def move_pages(pid: int, addresses: Sequence[int], node: int) -> None:
    """Move the pages at these addresses, for all who map them. No other page moves."""
    found = _call(pid, addresses, node)
    if {*found} != {node}:
        raise OSError(f"not all pages of {pid} came to node {node}: {found}")


def pages_by_node(pid: int, addresses: Sequence[int]) -> dict[int, int]:
    """How many of the pages at these addresses each node has. All must be present."""
    found = Counter(_call(pid, addresses, None))
    assert min(found) >= 0, found
    return dict(found)
