"""Whether, and when, live accounting is tried again while counts are polled. Pure."""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass, field

from ksmwatch.backoff import Backoff

# Messages of a host that is short of something, which may pass.
PASSING = frozenset(
    {
        errno.ENOMEM,
        errno.EAGAIN,
        errno.EMFILE,
        errno.ENFILE,
        errno.EBUSY,
        errno.EINTR,
        errno.ETIMEDOUT,
        errno.ENOSPC,
        errno.ENOBUFS,
    }
)
_WORDS = (
    *(os.strerror(number) for number in PASSING),
    # Too little memory, in the words of glibc's loader (which gives no errno), of Python and of
    # LLVM.
    "failed to map segment from shared object",
    "MemoryError",
    "out of memory",
    "bad_alloc",
)


def may_pass(why: OSError | str) -> bool:
    """Whether a refusal is caused by a shortage that may pass."""
    if isinstance(why, TimeoutError):
        return True
    if isinstance(why, OSError):
        return why.errno in PASSING
    return any(words in why for words in _WORDS)


@dataclass
class Comeback:
    """Attempts to count live again. `waits`: the obstacle may pass."""

    waits: bool = False
    attempts: int = 0
    due: float = 0.0
    _backoff: Backoff = field(default_factory=Backoff)

    def begin(self) -> None:
        self.attempts += 1

    def failed(self, now: float, *, passing: bool) -> None:
        """Live accounting was refused. If the reason cannot pass, there is no further attempt."""
        self.waits = passing
        self.due = now + self._backoff.next()

    def is_due(self, now: float) -> bool:
        """Whether an attempt is due."""
        return self.waits and now >= self.due

    def succeeded(self) -> None:
        """Live accounting works."""
        self.waits, self._backoff = False, Backoff()
