"""While nothing happens, most ticks of the live backend have nothing to do."""

from __future__ import annotations

from collections.abc import Callable

# Between two looks at everything. Each snapshot looks too.
_LOOK_SECONDS = 5.0
# Numbers that change with whatever a tick must follow at once.
Happened = tuple[int | None, ...]


class Calm:
    """Since a tick that left nothing to do: what had happened before it, and when to look again."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._before: Happened | None = None
        self._look_at = 0.0

    def lasts(self, happened: Happened) -> bool:
        """Whether nothing has happened since, and the last look is not long ago."""
        return happened == self._before and self._clock() < self._look_at

    def see(self, happened: Happened | None) -> None:
        """What had happened before a tick that left nothing to do; None: something may be left."""
        self._before = happened
        self._look_at = self._clock() + _LOOK_SECONDS
