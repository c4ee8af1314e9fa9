"""All connections of clients: how many there may be, and which must go to make room."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from enum import IntEnum
from typing import Protocol

from ksmwatch.export.front.complaints import Complaints
from ksmwatch.export.front.limits import GRACE_SECONDS
from ksmwatch.kernel.syscalls import give_memory_back

# When so many connections have come and gone, their memory is given back: a flood of 500 leaves
# 18 MB behind.
_CROWD = 16


class ClientPhase(IntEnum):
    """What a connection is doing. A lower one has to make room sooner."""

    NEW = 0
    IDLE = 1
    READING = 2
    WRITING = 3
    ANSWERING = 4


class Client(Protocol):
    """A connection, what it does, and since when (CLOCK_MONOTONIC)."""

    @property
    def phase(self) -> ClientPhase: ...

    @property
    def since(self) -> float: ...

    def hang_up(self) -> None:
        """End it at once, whatever its thread does."""


class Clients:
    """The open connections. Each has a thread, which calls `closed`."""

    def __init__(
        self, limit: int, complaints: Complaints, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._limit = limit
        self._complaints = complaints
        self._clock = clock
        self._lock = threading.Lock()
        self._open: set[Client] = set()
        # At once since memory was given back.
        self._most = 0

    def __len__(self) -> int:
        return len(self._open)

    @property
    def full(self) -> bool:
        """Whether there is no room for another connection."""
        return len(self._open) >= self._limit

    def opened(self, client: Client) -> None:
        """There is another connection."""
        with self._lock:
            self._open.add(client)
            self._most = max(self._most, len(self._open))

    def closed(self, client: Client) -> None:
        """It ends. Only afterwards may its descriptor be closed, which can then be another's."""
        with self._lock:
            self._open.discard(client)
            is_over = len(self._open) <= 1 and self._most > _CROWD
            if is_over:
                self._most = 0
        if is_over:
            give_memory_back()

    def make_room(self) -> None:
        """If there is no room, end those without a whole request so far, or else the idlest.

        None has to go just because another one comes: in a flood, none would live to be answered.
        """
        with self._lock:
            going = self._dispensable() if self.full else []
            for client in going:
                self._open.discard(client)
                client.hang_up()
        for _ in going:
            self._complaints.add("connections")

    def _dispensable(self) -> list[Client]:
        before = self._clock() - GRACE_SECONDS
        old = [(each.phase, each.since, each) for each in self._open if each.since < before]
        new = [client for phase, _, client in old if phase is ClientPhase.NEW]
        if new:
            return new
        idle = [each for each in old if each[0] is not ClientPhase.ANSWERING]
        idle.sort(key=lambda each: each[:2])
        return [client for _, _, client in idle[: max(1, self._limit // 4)]]
