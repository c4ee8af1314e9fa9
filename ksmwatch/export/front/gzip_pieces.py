"""gzip of a text in pieces. Pieces that have not changed are not compressed again.

A piece is compressed without reference to what is before it (Z_FULL_FLUSH), so that its
compressed bytes fit wherever the piece is. Together they are one gzip member, which every client
understands.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from itertools import takewhile
from typing import NamedTuple

# Level 1: level 6 would halve the size, but take five times the CPU time. With a smaller window and
# less memory than by default, less has to be cleared for each piece, which takes longer than to
# compress it; what comes out is no larger, because lines are like their neighbours.
_LEVEL, _WINDOW_BITS, _MEMORY = 1, 13, 5
# RFC 1952: deflate, no name, no time, the fastest level, an unknown system.
_HEADER = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x04\xff"
_TRAILER = struct.Struct("<II")
# The last block of deflate, without content.
_END = b"\x03\x00"


def _deflated(piece: bytes) -> bytes:
    # A negative number of bits: without a header, which only the whole has.
    squeeze = zlib.compressobj(_LEVEL, zlib.DEFLATED, -_WINDOW_BITS, _MEMORY)
    return squeeze.compress(piece) + squeeze.flush(zlib.Z_FULL_FLUSH)


class _Piece(NamedTuple):
    """A piece, compressed, and the checksum of the text up to its end."""

    text: bytes
    compressed: bytes
    checksum: int


def _is_kept(pair: tuple[_Piece, bytes]) -> bool:
    return pair[0].text == pair[1]


class GzipPieces:
    """Remembers the compressed pieces of the last text."""

    def __init__(self) -> None:
        self._kept: list[_Piece] = []

    def compress(self, pieces: Sequence[bytes]) -> bytes:
        """All pieces, one after the other."""
        known = {piece.text: piece.compressed for piece in self._kept}
        # Up to the first that has changed, the checksum is known as well.
        kept = [piece for piece, _ in takewhile(_is_kept, zip(self._kept, pieces, strict=False))]
        checksum = kept[-1].checksum if kept else 0
        for text in pieces[len(kept) :]:
            checksum = zlib.crc32(text, checksum)
            kept.append(_Piece(text, known.get(text) or _deflated(text), checksum))
        self._kept = kept
        size = sum(map(len, pieces))
        trailer = _TRAILER.pack(checksum, size & 0xFFFFFFFF)
        return b"".join([_HEADER, *(piece.compressed for piece in kept), _END, trailer])
