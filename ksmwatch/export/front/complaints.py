"""What clients do wrong: each kind is counted, and logged once in a while."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from typing import Any

from ksmwatch.log import logger

# Who floods us shall not flood the log.
_QUIET_SECONDS = 600.0

# Kinds that exist from the start, so that a rate() has a first point; what each is, in the log.
KINDS = {
    "malformed": "a request was not HTTP",
    "too_large": "a request's headers were too large",
    "slow": "a connection was closed because it took too long",
    "connections": "a connection was closed because there were too many",
    "requests": "a request was refused because too many were being answered or authorized",
    "tls": "a connection failed in TLS",
    "certificate": "a client's certificate has no allowed name",
    "unauthorized": "a request had no user and password that are right",
    "method": "a request had another method than GET or HEAD",
    "failed": "an answer failed inside",
}


class Complaints:
    """Counts by kind; one line for the first of a kind, and then at most every ten minutes."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.counts: Counter[str] = Counter(dict.fromkeys(KINDS, 0))
        self._clock = clock
        self._quiet_until: dict[str, float] = {}
        self._unlogged: Counter[str] = Counter()

    def add(self, kind: str, **fields: Any) -> None:
        """One more of a kind; the fields say which, should it be logged."""
        self.counts[kind] += 1
        now = self._clock()
        if now < self._quiet_until.get(kind, 0.0):
            self._unlogged[kind] += 1
            return
        self._quiet_until[kind] = now + _QUIET_SECONDS
        before = self._unlogged.pop(kind, 0)
        extra = {"kind": kind, **fields, **({"unlogged_before": before} if before else {})}
        logger.warning(KINDS[kind], extra=extra)
