"""Host-wide totals, which the programs add up apart on each part of the CPUs."""

from __future__ import annotations

from collections.abc import Iterator

from ksmwatch.probes.map_records import TOTALS_ROOM, Movement, Total
from ksmwatch.probes.mapped_memory import Mapped

# In the order of their places.
_NAMES = tuple(which.name.lower() for which in (*Movement, *Total))


class Totals(Mapped):
    """The map of totals, read without a system call."""

    # As they were last added up, and the memory before that.
    _last: dict[str, int]
    _read = b""

    def of(self, which: Movement | Total) -> int:
        """One of them."""
        return sum(self.words[which::TOTALS_ROOM])

    def all(self) -> dict[str, int]:
        """All by name; the same object as before if none has changed."""
        # Copied first: what changes meanwhile is seen the next time.
        if (data := self.data) != self._read:
            self._read = data
            sums = map(sum, zip([0] * TOTALS_ROOM, *self._used_parts(data), strict=True))
            self._last = dict(zip(_NAMES, sums, strict=False))
        return self._last

    def _used_parts(self, data: bytes) -> Iterator[list[int]]:
        """The words of parts in which something was added; there may be more than CPUs."""
        size = 8 * TOTALS_ROOM
        for place in range(0, len(data), size):
            if data[place : place + size] != bytes(size):
                yield self.words[place // 8 : (place + size) // 8].tolist()
