"""/proc/kcore: the kernel's memory as an ELF file, by address or by page frame.

Reading a page there needs no page table: it brings nothing in and leaves no accessed bit. It wants
CAP_SYS_RAWIO, and lockdown (confidentiality) hides it.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from pathlib import Path

from ksmwatch.errors import SourceError
from ksmwatch.kernel.frame_places import Segment

_HEAD = struct.Struct("<IIQQQQQQ")
_PT_LOAD = 1
# In the ELF header: where the program headers begin, the size of one, and their number.
_HEADER_BYTES, _PHOFF, _PHENTSIZE = 64, 32, 54


class Kcore:
    """Reads the kernel's memory. Raises OSError where there is no kcore, or it is hidden."""

    def __init__(self, proc: Path) -> None:
        self.fd = os.open(proc / "kcore", os.O_RDONLY | os.O_CLOEXEC)
        self.segments = list(self._read_segments())
        # That was read last, and mostly is again.
        self._near = self.segments[0] if self.segments else Segment(0, 0, 0, 0)

    def _read_segments(self) -> Iterator[Segment]:
        header = os.pread(self.fd, _HEADER_BYTES, 0)
        (place,) = struct.unpack_from("<Q", header, _PHOFF)
        size, count = struct.unpack_from("<HH", header, _PHENTSIZE)
        for at in range(count):
            found = _HEAD.unpack(os.pread(self.fd, _HEAD.size, place + at * size))
            kind, _, offset, address, physical, length, _, _ = found
            if kind == _PT_LOAD:
                yield Segment(address, physical, length, offset)

    def read(self, address: int, size: int) -> bytes:
        """What neighbouring segments show together. Raises SourceError for a gap."""
        near = self._near
        if 0 <= address - near.address <= near.size - size:
            return os.pread(self.fd, size, near.place + address - near.address)
        data = b""
        while len(data) < size:
            at = address + len(data)
            found = next((s for s in self.segments if 0 <= at - s.address < s.size), None)
            piece = b""
            if found is not None:
                self._near = found
                inside = at - found.address
                length = min(size - len(data), found.size - inside)
                piece = os.pread(self.fd, length, found.place + inside)
            if not piece:
                raise SourceError(f"/proc/kcore does not contain the address {at:#x}.")
            data += piece
        return data
