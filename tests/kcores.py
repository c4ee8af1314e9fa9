"""A made-up /proc/kcore that shows page frames, or their struct pages."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from pathlib import Path

from ksmwatch.units import PAGE_SIZE

DIRECT_MAP, NOWHERE = 0xFFFF888000000000, (1 << 64) - 1
STRUCTS = 0xFFFFEA0000000000
_LOAD, _NOTE = 1, 4
_STRUCT = 64

# Kind, address, physical address, size, and what the file has of it.
_Part = tuple[int, int, int, int, bytes]


def write_ram(proc: Path, pages: Mapping[int, bytes]) -> None:
    """A segment for each page, and one that is no RAM."""
    parts = [
        (_LOAD, DIRECT_MAP + f * PAGE_SIZE, f * PAGE_SIZE, len(p), p) for f, p in pages.items()
    ]
    parts.append((_LOAD, STRUCTS, NOWHERE, PAGE_SIZE, bytes(PAGE_SIZE)))
    _write(proc, parts)


def write_structs(proc: Path, pieces: Mapping[int, Sequence[bytes]]) -> None:
    """Pieces of RAM, by first frame, and their parts of the array of struct page."""
    parts: list[_Part] = [(_NOTE, 0, 0, 0, b"")]
    for first, structs in pieces.items():
        size = len(structs) * PAGE_SIZE
        parts.append((_LOAD, DIRECT_MAP + first * PAGE_SIZE, first * PAGE_SIZE, size, b""))
        array = b"".join(structs)
        body = array.ljust(-(len(array) // -PAGE_SIZE) * PAGE_SIZE, b"\0")
        parts.append((_LOAD, STRUCTS + first * _STRUCT, NOWHERE, len(body), body))
    _write(proc, parts)


def _write(proc: Path, parts: Sequence[_Part]) -> None:
    place = 64 + 56 * len(parts)
    heads, bodies = b"", b""
    for kind, address, physical, size, body in parts:
        where = place + len(bodies)
        heads += struct.pack("<IIQQQQQQ", kind, 7, where, address, physical, size, size, PAGE_SIZE)
        bodies += body
    head = bytearray(64)
    struct.pack_into("<Q", head, 32, 64)
    struct.pack_into("<HH", head, 54, 56, len(parts))
    (proc / "kcore").write_bytes(bytes(head) + heads + bodies)
