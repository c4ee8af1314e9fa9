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
    """What ends the demo with one sentence."""


class StoppedError(BaseException):
    """A signal asked us to stop. No handler of ordinary errors may swallow it."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.status = 128 + number


def end_with_parent() -> None:
    """For preexec_fn: SIGTERM comes when the parent is gone, even if it was killed."""
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)


def _stop(number: int, _frame: FrameType | None) -> None:
    ignore_signals()
    raise StoppedError(number)


def catch_signals() -> None:
    """From now on the first signal raises StoppedError, and more do not disturb cleaning up."""
    for number in _SIGNALS:
        signal.signal(number, _stop)


def ignore_signals() -> None:
    """Let nothing interrupt what follows."""
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_IGN)
