"""How far a long reading is: a bar on a terminal's standard error, and Ctrl-C at a safe place."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_now = time.monotonic
_BAR = 30
_DRAW_SECONDS = 0.2


class StoppedError(Exception):
    """The user or the budget wants it to end; the message says which."""


class Progress:
    """One stage after the other. `budget`: seconds of CPU."""

    def __init__(self, budget: float) -> None:
        self._terminal = sys.stderr.isatty()
        self._began, self._cpu = _now(), time.process_time()
        self._budget = budget
        self._limit: float | None = None
        self._what, self._done, self._total = "", 0, 0
        self._stage = self._began
        self._drawn = 0.0
        # Whether it is to end; and whether anybody ever wanted that.
        self.interrupted = self.was_interrupted = False

    @property
    def seconds(self) -> float:
        """Since it began."""
        return _now() - self._began

    @property
    def cpu_seconds(self) -> float:
        """Of this process, since it began."""
        return time.process_time() - self._cpu

    @property
    def left(self) -> float:
        """Of the budget."""
        return max(0.0, self._budget - self.cpu_seconds)

    def begin(self, what: str, total: int, part: float | None = None) -> None:
        """A stage with so many steps, which may use so much of the budget; None: all it needs."""
        self._what, self._done, self._total = what, 0, total
        self._limit = None if part is None else part * self._budget
        self._stage = _now()

    def tick(self, steps: int) -> None:
        """So many steps more. Raises StoppedError."""
        self._done += steps
        if self.interrupted:
            raise StoppedError("it was interrupted")
        if self._limit is not None and self.cpu_seconds > self._limit:
            raise StoppedError(f"the budget of {self._budget:g} s of CPU was too small")
        now = _now()
        if self._terminal and now >= self._drawn + _DRAW_SECONDS:
            self._drawn = now
            print(f"\r\x1b[K{self._line(now)}", end="", file=sys.stderr, flush=True)

    def _line(self, now: float) -> str:
        part = min(1.0, self._done / max(1, self._total))
        full = int(_BAR * part)
        left = f", {(now - self._stage) * (1 - part) / part:.0f} s left" if part > 0 else ""
        return f"[{'#' * full}{'.' * (_BAR - full)}] {self._what}{left}"

    def end(self) -> None:
        """Take the bar away."""
        if self._drawn:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)

    @contextmanager
    def interruptible(self) -> Iterator[None]:
        """Ctrl-C ends the reading at the next step, and nothing else."""

        def stop(_number: int, _frame: FrameType | None) -> None:
            self.interrupted = self.was_interrupted = True

        before = signal.signal(signal.SIGINT, stop)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, before)
