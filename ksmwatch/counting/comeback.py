"""Whether, and when, live accounting is tried again while counts are polled. Pure."""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass, field

from ksmwatch.backoff import Backoff

# What a host that is short of something says, and does not say for ever.
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
    # Too little memory in the words of glibc's loader, which gives no errno, of Python and of LLVM.
    "failed to map segment from shared object",
    "MemoryError",
    "out of memory",
    "bad_alloc",
)


def may_pass(why: OSError | str) -> bool:
    """Whether a refusal is for want of something that there may be later."""
    if isinstance(why, TimeoutError):
        return True
    if isinstance(why, OSError):
        return why.errno in PASSING
    return any(words in why for words in _WORDS)


@dataclass
class Comeback:
    """Attempts to count live after all. `waits`: the obstacle may pass."""

    waits: bool = False
    attempts: int = 0
    due: float = 0.0
    _backoff: Backoff = field(default_factory=Backoff)

    def failed(self, now: float, *, passing: bool) -> None:
        """Live accounting was refused. What cannot pass is not tried again."""
        self.waits = passing
        self.due = now + self._backoff.next()

    def is_due(self, now: float) -> bool:
        """Whether it is to be tried now."""
        return self.waits and now >= self.due

    def succeeded(self) -> None:
        """It counts live."""
        self.waits, self._backoff = False, Backoff()
