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
# Clears the rest of a terminal's line.
CLEAR = "\x1b[K"
_DRAW_SECONDS = 0.2


class StoppedError(Exception):
    """The user or the budget wants it to end; the message says which."""


def gauge(done: int, total: int) -> str:
    """A bar that is filled as far as this is done."""
    full = min(_BAR, _BAR * done // max(total, 1))
    return f"[{'#' * full}{'.' * (_BAR - full)}]"


class StatusLine:
    """A line on a terminal's standard error, drawn again now and then. Elsewhere nothing."""

    def __init__(self) -> None:
        self._terminal = sys.stderr.isatty()
        self._drawn = 0.0

    def due(self) -> bool:
        """Whether the line is to be drawn now. If so, it is for the caller to do that."""
        now = _now()
        if not self._terminal or now < self._drawn + _DRAW_SECONDS:
            return False
        self._drawn = now
        return True

    def draw(self, line: str) -> None:
        """Draw it in place of the last one."""
        print(f"\r{line}", end="", file=sys.stderr, flush=True)

    def end(self) -> None:
        """Take the line away."""
        if self._drawn:
            self.draw(CLEAR)


class Progress:
    """One stage after the other. `budget`: seconds of CPU."""

    def __init__(self, budget: float) -> None:
        self._line = StatusLine()
        self._began, self._cpu = _now(), time.process_time()
        self._budget = budget
        self._limit: float | None = None
        self._what, self._done, self._total = "", 0, 0
        self._stage, self._stage_cpu = self._began, self._cpu
        # Whether it is to end now, and whether that was ever requested.
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
    def stage_cpu_seconds(self) -> float:
        """Of this process, since the stage began."""
        return time.process_time() - self._stage_cpu

    @property
    def left(self) -> float:
        """The CPU seconds that are left of the budget."""
        return max(0.0, self._budget - self.cpu_seconds)

    def begin(self, what: str, total: int, part: float | None = None) -> None:
        """Begin a stage of `total` steps. `part`: of the budget that it may use; None: all."""
        self._what, self._done, self._total = what, 0, total
        self._limit = None if part is None else part * self._budget
        self._stage, self._stage_cpu = _now(), time.process_time()

    def tick(self, steps: int) -> None:
        """Count these steps as done. Raises StoppedError."""
        self._done += steps
        if self.interrupted:
            raise StoppedError("it was interrupted")
        if self._limit is not None and self.cpu_seconds > self._limit:
            raise StoppedError(f"the budget of {self._budget:g} s of CPU was too small")
        if self._line.due():
            self._line.draw(f"{CLEAR}{self._text()}")

    def _text(self) -> str:
        part = min(1.0, self._done / max(1, self._total))
        spent = _now() - self._stage
        left = f", {spent * (1 - part) / part:.0f} s left" if part > 0 else ""
        return f"{gauge(self._done, self._total)} {self._what}{left}"

    def end(self) -> None:
        """Take the bar away."""
        self._line.end()

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
