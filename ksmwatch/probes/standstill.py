"""Whether accounts can have changed since all were read: the programs tell so in passing.

A program changes an account first, and then adds to a total, or to the record of deletions. Both
only grow, and are read here without a system call. So as long as none of them has grown since
before all accounts were read, another reading would find the same.

What comes last in a program is told by nothing of its own: of the ages of an account, a number is
added after the total. And on arm64 others may see two additions in either order for a moment. So a
reading counts only if nothing was told for a second before it, which is far longer than either.
"""

from __future__ import annotations

from collections.abc import Callable

_STANDS_SECONDS = 1.0
# After this long they are read in any case: an error would end then.
_AGAIN_SECONDS = 60.0


class Standstill:
    """Decides whether all accounts must be read. Only one thread may use it.

    `told`: all that grows after a change of an account.
    """

    def __init__(self, told: Callable[[], bytes], clock: Callable[[], float]) -> None:
        self._told = told
        self._clock = clock
        self._last: bytes | None = None
        # When the last look began, since when the same was told, and when the last reading began.
        self._looked = self._since = 0.0
        self._read: float | None = None

    def look(self) -> None:
        """Note whether something was told. The sooner after it, the sooner a reading counts."""
        told, self._looked = self._told(), self._clock()
        if told != self._last:
            self._last, self._since = told, self._looked

    def lasts(self) -> bool:
        """Whether a reading would find what the last one has found. Ask just before reading."""
        self.look()
        if self._read is None:
            return False
        stood = self._read >= self._since + _STANDS_SECONDS
        return stood and self._looked < self._read + _AGAIN_SECONDS

    def see_reading(self) -> None:
        """All accounts have been read since the last look."""
        self._read = self._looked

    def end(self) -> None:
        """An account changes, or may, without being told."""
        self._last = None
