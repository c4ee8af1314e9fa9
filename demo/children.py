"""Children that end with us, and signals that end us in order."""

from __future__ import annotations

import ctypes
import signal
from types import FrameType

_PR_SET_PDEATHSIG = 1
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
# Looked up here: between fork and exec as little as possible should happen.
_libc = ctypes.CDLL(None, use_errno=True)


class DemoError(Exception):
    """Ends the demo with one sentence."""


class StoppedError(BaseException):
    """A signal asked us to stop. No handler of ordinary errors may swallow it."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.status = 128 + number


def end_with_parent() -> None:
    """For preexec_fn: SIGTERM comes when the parent is gone, even if it was killed."""
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)


class Signals:
    """A request to stop raises StoppedError, once, and never during clean-up."""

    def __init__(self) -> None:
        self._holding = True
        self._held: int | None = None
        for number in _SIGNALS:
            signal.signal(number, self._on_signal)

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        if self._holding:
            self._held = number
            return
        self._holding = True
        raise StoppedError(number)

    def hold(self) -> None:
        """Let nothing interrupt what follows."""
        self._holding = True

    def catch(self) -> None:
        """Raise at the next signal; at once if one came meanwhile."""
        self._holding = False
        if self._held is not None:
            self._on_signal(self._held, None)
