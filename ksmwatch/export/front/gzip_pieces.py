"""gzip of a text in pieces. Pieces that have not changed are not compressed again.

A piece is compressed without reference to what is before it (Z_FULL_FLUSH), so that its
compressed bytes fit wherever the piece is. Together they are one gzip member, which every client
understands.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from typing import Any

# Level 1: level 6 would halve the size, but take five times the CPU time. With less memory than by
# default, less has to be cleared for each piece, and what comes out is no larger.
_LEVEL, _MEMORY = 1, 7
# RFC 1952: deflate, no name, no time, the fastest level, an unknown system.
_HEADER = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x04\xff"
_TRAILER = struct.Struct("<II")
# The last block of deflate, without content.
_END = b"\x03\x00"


def _deflated(squeeze: Any, piece: bytes) -> bytes:
    compressed: bytes = squeeze.compress(piece) + squeeze.flush(zlib.Z_FULL_FLUSH)
    return compressed


class GzipPieces:
    """Remembers the compressed pieces of the last text."""

    def __init__(self) -> None:
        self._kept: dict[bytes, bytes] = {}

    def compress(self, pieces: Sequence[bytes]) -> bytes:
        """All pieces, one after the other."""
        # A negative number of bits: without a header, which only the whole has.
        squeeze = zlib.compressobj(_LEVEL, zlib.DEFLATED, -zlib.MAX_WBITS, _MEMORY)
        known = self._kept
        self._kept = {piece: known.get(piece) or _deflated(squeeze, piece) for piece in pieces}
        whole = b"".join(pieces)
        trailer = _TRAILER.pack(zlib.crc32(whole), len(whole) & 0xFFFFFFFF)
        return b"".join([_HEADER, *(self._kept[piece] for piece in pieces), _END, trailer])
