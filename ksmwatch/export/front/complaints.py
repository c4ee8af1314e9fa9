"""What clients do wrong. Each kind is counted, and logged once in a while."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

from ksmwatch.log import logger

# A client that floods us must not flood the log.
_QUIET_SECONDS = 600.0

# Kinds that exist from the start, so that a rate() has a first point; and their text in the log.
KINDS = {
    "malformed": "a request was not HTTP",
    "too_large": "a request's headers were too large",
    "slow": "closed a connection that took too long",
    "connections": "closed a connection because too many were open",
    "requests": "refused a request because too many were in progress",
    "tls": "a TLS handshake failed",
    "certificate": "a client's certificate has no allowed name",
    "unauthorized": "a request had no valid user and password",
    "method": "a request used a method other than GET or HEAD",
    "failed": "an internal error prevented an answer",
}


class Complaints:
    """Counts client errors. Logs the first of a kind, then at most one every ten minutes.

    Any thread may complain.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.counts: Counter[str] = Counter(dict.fromkeys(KINDS, 0))
        self._clock = clock
        self._lock = threading.Lock()
        self._quiet_until: dict[str, float] = {}
        self._unlogged: Counter[str] = Counter()

    def add(self, kind: str, **fields: Any) -> None:
        """Count one error of a kind. The fields describe it in the log."""
        with self._lock:
            before = self._count(kind)
        if before is None:
            return
        extra = {"kind": kind, **fields, **({"unlogged_before": before} if before else {})}
        logger.warning(KINDS[kind], extra=extra)

    def fail(self, error: Exception) -> None:
        """Count an error of ours, and say where it was."""
        trace = error.__traceback__
        while trace is not None and trace.tb_next is not None:
            trace = trace.tb_next
        place = "" if trace is None else f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}"
        self.add("failed", error=f"{type(error).__name__}: {error}", place=place)

    def _count(self, kind: str) -> int | None:
        """Count it; returns None if it is not to be logged, or how many have not been so far."""
        self.counts[kind] += 1
        now = self._clock()
        if now < self._quiet_until.get(kind, 0.0):
            self._unlogged[kind] += 1
            return None
        self._quiet_until[kind] = now + _QUIET_SECONDS
        return self._unlogged.pop(kind, 0)
