"""Host-wide totals, which the programs add up apart on each part of the CPUs."""

from __future__ import annotations

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
            words = self.words.tolist()
            sums = [sum(words[place::TOTALS_ROOM]) for place in range(len(_NAMES))]
            self._last = dict(zip(_NAMES, sums, strict=True))
        return self._last
