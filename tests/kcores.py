"""A made-up /proc/kcore that shows page frames."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from pathlib import Path

from ksmwatch.units import PAGE_SIZE

DIRECT_MAP, NOWHERE = 0xFFFF888000000000, (1 << 64) - 1


def write_ram(proc: Path, pages: Mapping[int, bytes]) -> None:
    """An ELF with a segment for each page, and one that is no RAM."""
    segments = [(DIRECT_MAP + f * PAGE_SIZE, f * PAGE_SIZE, page) for f, page in pages.items()]
    segments.append((0xFFFFEA0000000000, NOWHERE, bytes(PAGE_SIZE)))
    place = 64 + 56 * len(segments)
    heads, bodies = b"", b""
    for address, physical, body in segments:
        where = place + len(bodies)
        size = len(body)
        heads += struct.pack("<IIQQQQQQ", 1, 7, where, address, physical, size, size, PAGE_SIZE)
        bodies += body
    head = bytearray(64)
    struct.pack_into("<Q", head, 32, 64)
    struct.pack_into("<HH", head, 54, 56, len(segments))
    (proc / "kcore").write_bytes(bytes(head) + heads + bodies)
