"""Which bytes of a page decide whether it is read whole.

Its beginning, and also its middle if that is zeros: very many pages that are no pages of zeros
begin with some.
"""

from __future__ import annotations

from binascii import crc32
from dataclasses import dataclass

from ksmwatch.kernel.page_content import ContentReading, Pages
from ksmwatch.units import PAGE_SIZE

PART = 64
_MIDDLE = PAGE_SIZE // 2
_ZERO_PART = bytes(PART)
ZERO_PRINT = crc32(2 * _ZERO_PART)


@dataclass(frozen=True)
class Looks:
    """Reads them."""

    reading: ContentReading

    def read(self, pages: Pages, size: int, first: int = 0) -> list[bytes]:
        """So many bytes of each page, and of its middle; empty for one that cannot be read."""
        parts = self.reading.read(pages, size, first)
        if _ZERO_PART not in parts:
            return parts
        zeros = [part == _ZERO_PART for part in parts]
        middles = iter(self.reading.read(pages.only(zeros), size, _MIDDLE))
        return [
            (part + middle if (middle := next(middles)) else b"") if is_zero else part
            for part, is_zero in zip(parts, zeros, strict=True)
        ]


def part_of(page: bytes) -> bytes:
    """The same of a page that was read whole."""
    begin = page[:PART]
    return begin + page[_MIDDLE : _MIDDLE + PART] if begin == _ZERO_PART else begin
