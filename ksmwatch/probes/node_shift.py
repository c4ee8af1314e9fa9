"""Learns where the flags of a page have the number of its node of memory.

The kernel puts that number above all other flags, but how many bits it has depends on the
kernel's configuration, which BTF does not describe. So while `learn_copy` (bpf/rmap.c) is
attached, this process makes the kernel copy a page of its own on each node.
"""

from __future__ import annotations

import ctypes as ct
import mmap
import threading
from collections.abc import Iterable, Mapping
from typing import Protocol

from ksmwatch.kernel import syscalls
from ksmwatch.log import logger
from ksmwatch.probes.map_records import CallSite, NodePlace
from ksmwatch.probes.own_page import ATTEMPTS, private_page


class Places(Protocol):
    """The maps shared with the program."""

    def put_call_site(self, site: CallSite) -> None:
        """Tell the program whose calls to look at."""

    def call_site(self) -> CallSite:
        """What the program has seen."""

    def node_place(self) -> NodePlace:
        """The flags that the program has seen."""

    def put_node_shift(self, shift: int) -> None:
        """Store the result."""


def shift_of(seen: Mapping[int, int]) -> int | None:
    """By how many bits flags must be shifted to give the node, for all nodes; None if by none.

    `seen`: the flags of a page on each node. Of one node nothing can be told.
    """
    if len(seen) < 2:
        return None
    shifts = (shift for shift in range(1, 64) if all(f >> shift == n for n, f in seen.items()))
    return next(shifts, None)


def _flags_on(maps: Places, node: int) -> int | None:
    """The flags of a page on this node; None if they were not seen. Raises OSError."""
    before = maps.call_site()
    try:
        with private_page() as page:
            address = ct.addressof(ct.c_char.from_buffer(page))
            syscalls.bind_memory(address, mmap.PAGESIZE, node)
            # Reading brings in the page of the file, which the write then replaces by a copy.
            lies_on = syscalls.node_of_memory(address) if page[0] == 0 else None
            maps.put_call_site(before._replace(learner=threading.get_native_id(), seen=0))
            page[0] = 1
            seen = maps.call_site().seen
    finally:
        maps.put_call_site(before)
    return maps.node_place().flags if seen == 1 and lies_on == node else None


def learn(maps: Places, nodes: Iterable[int]) -> bool:
    """Tell the programs the shift; False if it could not be learnt.

    A cpuset may keep us from some nodes. Those that are left must agree.
    """
    seen: dict[int, int] = {}
    for node in nodes:
        for _ in range(ATTEMPTS):
            try:
                flags = _flags_on(maps, node)
            except OSError as error:
                logger.info(
                    "no memory could be taken from a node",
                    extra={"node": node, "why": error.strerror},
                )
                break
            if flags is not None:
                seen[node] = flags
                break
    shift = shift_of(seen)
    if shift is None:
        logger.warning(
            "it is unknown on which nodes KSM pages lie: their flags do not tell",
            extra={"nodes": sorted(seen)},
        )
        return False
    maps.put_node_shift(shift)
    return True
